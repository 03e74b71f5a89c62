//! Why a provider has not done what it was asked, as far as the host has to know: whether something may have come of it.

use std::error::Error as _;

use crate::limits::Limit;
use crate::manifest::{PASSWORD, RemoteProvider};
use crate::outbound::DialError;
use crate::provider::ProviderError;
use crate::registry::Addon;

#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// It was not reached: nothing has begun.
    NotAsked(String),
    /// It says no, in a case of the WIT variant `error`.
    Said {
        code: &'static str,
        message: String,
    },
    /// It answers what breaks a rule.
    Bad(String),
    /// Nobody knows what it has done.
    Broken(String),
    Over(Limit),
}

pub(super) fn of(provider: &RemoteProvider, addon: &Addon, error: &ProviderError) -> Failure {
    match error {
        ProviderError::Status { status, told, .. } => by_status(provider, addon, *status, told),
        ProviderError::Url { .. }
        | ProviderError::NoAddress(_)
        | ProviderError::Credentials(_)
        | ProviderError::NotGranted { .. }
        | ProviderError::NotThisMachine { .. }
        | ProviderError::ClearText { .. }
        | ProviderError::Unreachable { .. }
        | ProviderError::Untrusted { .. } => not_asked(provider, error),
        ProviderError::Id { .. }
        | ProviderError::EmptyId
        | ProviderError::Json { .. }
        | ProviderError::NotEmpty(_)
        | ProviderError::Undeclared(_) => Failure::Bad(format!("{}: {error}", provider.base_url)),
        ProviderError::TooSlow { .. } | ProviderError::Broken { .. } | ProviderError::Listen(_) => {
            Failure::Broken(error.to_string())
        }
    }
}

pub(super) fn not_asked(provider: &RemoteProvider, error: &ProviderError) -> Failure {
    let mut why = error.to_string();
    let mut hint = error.hint();
    let mut cause = error.source();
    while let Some(source) = cause {
        why = format!("{why}: {source}");
        // The line of the policy, where it is that which is in the way.
        hint = source.downcast_ref::<DialError>().and_then(DialError::hint).or(hint);
        cause = source.source();
    }
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Failure::NotAsked(format!("{} cannot be asked: {why}{hint}", provider.base_url))
}

fn by_status(provider: &RemoteProvider, addon: &Addon, status: u16, told: &str) -> Failure {
    let base = &provider.base_url;
    let message =
        if told.is_empty() { format!("{base} answers {status}") } else { format!("{told} ({base} answers {status})") };
    let code = match status {
        401 => {
            let (username, addon) = (&provider.username, &addon.name);
            let message = format!(
                "{base} does not take the user name `{username}` with the setting {PASSWORD} (401); \
                 `lodger set {addon} {PASSWORD}=-` sets another"
            );
            return Failure::Said { code: "denied", message };
        }
        300..400 => {
            return Failure::Bad(format!("{base} answers {status}, that it is elsewhere, and no redirect is followed"));
        }
        402 | 403 => "denied",
        404 | 410 => "not-found",
        409 => "conflict",
        400 | 422 => "invalid",
        429 => "unavailable",
        // It has waited for us for too long, or failed.
        408 | 500..600 => return Failure::Broken(message),
        405..500 => "other",
        _ => return Failure::Bad(message),
    };
    Failure::Said { code, message }
}

//! Events: what they are called, what is noted of one, and which patterns name them.

use serde::Serialize;

use crate::bindings::Pair;
use crate::error::{Error, Result};
use crate::id::{AddonId, Id};
use crate::render::Instance;

/// What the host is about to do. Asked about: nothing that leads out of trouble is among them.
pub(crate) const APP_ADDING: &str = "app.adding";
pub(crate) const APP_PLAN_CHANGING: &str = "app.plan-changing";
pub(crate) const APP_SUSPENDING: &str = "app.suspending";
pub(crate) const APP_RESUMING: &str = "app.resuming";
pub(crate) const ADDON_ENABLING: &str = "addon.enabling";
pub(crate) const ADDON_UPGRADING: &str = "addon.upgrading";

/// What has happened.
pub(crate) const APP_ADDED: &str = "app.added";
pub(crate) const APP_REMOVED: &str = "app.removed";
pub(crate) const APP_DETACHED: &str = "app.detached";
pub(crate) const APP_ATTACHED: &str = "app.attached";
pub(crate) const APP_PLAN_CHANGED: &str = "app.plan-changed";
pub(crate) const APP_SUSPENDED: &str = "app.suspended";
pub(crate) const APP_RESUMED: &str = "app.resumed";
pub(crate) const ADDON_INSTALLED: &str = "addon.installed";
pub(crate) const ADDON_UNINSTALLED: &str = "addon.uninstalled";
pub(crate) const ADDON_ENABLED: &str = "addon.enabled";
pub(crate) const ADDON_DISABLED: &str = "addon.disabled";
pub(crate) const ADDON_DEGRADED: &str = "addon.degraded";
pub(crate) const ADDON_RECOVERED: &str = "addon.recovered";
pub(crate) const ADDON_QUARANTINED: &str = "addon.quarantined";
pub(crate) const ADDON_UPGRADED: &str = "addon.upgraded";
pub(crate) const ADDON_ROLLED_BACK: &str = "addon.rolled-back";
pub(crate) const SERVICE_CRASHED: &str = "service.crashed";
pub(crate) const SERVICE_FAILED: &str = "service.failed";

/// Who has done what nobody has asked for.
pub(crate) const NOBODY: &str = "host";

/// Where names of the host's own kinds begin.
const OURS: [&str; 4] = ["app", "addon", "service", "lodger"];

/// Before the name of an option among the details of an event.
pub(crate) const OPTION: &str = "option:";

/// Longest kind or pattern, in bytes.
const KIND_MAX: usize = 64;
/// What an event may say beside its subject, as the WIT package states it.
pub(crate) const DETAILS_MAX: usize = 64;
pub(crate) const DETAIL_NAME_MAX: usize = 160;
pub(crate) const DETAIL_VALUE_MAX: usize = 4096;

/// Something that happens in a program that embeds the host, for addons to hear of.
#[derive(Clone, Debug, Default)]
pub struct Raised {
    /// Such as `build.finished`: two words or more of `a-z`, `0-9` and dashes, with dots between. Not of the host's own, which
    /// begin with `app.`, `addon.`, `service.` and `lodger.`.
    pub kind: String,
    /// What it is about. An addon hears nothing about itself.
    pub addon: Option<AddonId>,
    pub app: Option<Id>,
    /// At most 64, names of up to 160 bytes, values of up to 4096.
    pub details: Vec<Pair>,
    /// The names of the details that a listener may change when it is asked.
    pub changeable: Vec<String>,
}

impl Raised {
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |message: &str| Err(Error::Event { kind: self.kind.clone(), message: message.to_owned() });
        if !is_kind(&self.kind) {
            return wrong("is no kind of event: two words or more of a-z, 0-9 and dashes, with dots between");
        }
        if self.kind.split('.').next().is_some_and(|first| OURS.contains(&first)) {
            return wrong("is a kind of the host's own");
        }
        if !are_details(&self.details) {
            return wrong("says too much: 64 details of up to 160 and 4096 bytes");
        }
        Ok(())
    }
}

/// What is noted of an event. Empty: not about one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    pub id: String,
    pub kind: String,
    /// Milliseconds since 1970.
    pub at: i64,
    pub actor: String,
    pub addon: Option<String>,
    pub app: Option<String>,
    pub alias: Option<String>,
    pub resource: Option<String>,
    pub service: Option<String>,
    pub details: Vec<Pair>,
}

impl Event {
    pub fn with(mut self, name: &str, value: impl ToString) -> Event {
        self.details.push(Pair { name: name.to_owned(), value: value.to_string() });
        self
    }

    pub fn of_service(mut self, instance: &Instance) -> Event {
        self.service = Some(instance.service.to_string());
        self.resource = Some(instance.resource.clone()).filter(|key| !key.is_empty());
        self
    }

    pub fn about(mut self, resource: &str) -> Event {
        self.resource = Some(resource.to_owned());
        self
    }
}

/// How far an event has come with one addon that is to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    Told,
    Waiting,
    /// It failed too often; the events after it were told.
    LeftOut,
}

fn is_word(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !word.is_empty() && !word.starts_with('-') && !word.ends_with('-') && word.bytes().all(inner)
}

fn is_kind(kind: &str) -> bool {
    kind.len() <= KIND_MAX && kind.contains('.') && kind.split('.').all(is_word)
}

/// A kind, or all that begin alike: `app.added`, `app.*`.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    let rest = pattern.strip_suffix(".*").unwrap_or(pattern);
    pattern.len() <= KIND_MAX && (is_kind(pattern) || (rest != pattern && rest.split('.').all(is_word)))
}

/// Whether all that `other` (a kind or a pattern) names is among what a pattern names.
pub(crate) fn covers(pattern: &str, other: &str) -> bool {
    pattern == other || pattern.strip_suffix('*').is_some_and(|start| other.starts_with(start))
}

pub(crate) fn are_details(details: &[Pair]) -> bool {
    let fits = |pair: &Pair| pair.name.len() <= DETAIL_NAME_MAX && pair.value.len() <= DETAIL_VALUE_MAX;
    details.len() <= DETAILS_MAX && details.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_kinds_and_all_that_begin_alike() {
        for pattern in ["app.added", "app.*", "addon.rolled-back", "build.step.*"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for pattern in ["", "*", "app", "app.", ".*", "app*", "app.**", "App.*", "a[b].*", "app.?", "app.*.x", "-a.b"] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
        assert!(covers("app.*", "app.added") && covers("app.*", "app.*") && covers("app.added", "app.added"));
        assert!(!covers("app.added", "app.*") && !covers("app.*", "apple.added") && !covers("app.x.*", "app.*"));
    }

    #[test]
    fn the_hosts_own_kinds_are_its_own() {
        let raise = |kind: &str| Raised { kind: kind.to_owned(), ..Raised::default() }.check().is_ok();
        assert!(raise("build.finished") && raise("application.added"));
        for kind in [APP_ADDED, ADDON_UPGRADED, "app.mine", "service.x", "lodger.x", "finished", "Build.x", "a..b"] {
            assert!(!raise(kind), "{kind}");
        }
    }
}

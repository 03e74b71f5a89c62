//! What can keep a provider from doing what a platform asks. The words are those of the platforms' own tools where they have
//! any; credentials are in none of them.

use hyper::StatusCode;

use crate::text::shown;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    #[error("{what} is no URL that requests can be sent to: {why}")]
    Url { what: String, why: &'static str },
    #[error("the manifest has no {0}")]
    NoAddress(&'static str),
    #[error("the {0} of the manifest is nothing that a request can carry")]
    Credentials(&'static str),
    #[error("`{}` cannot be an id: {why}", shown(.id, 60))]
    Id { id: String, why: &'static str },
    #[error("`{to}` is not among what is granted")]
    NotGranted { to: String },
    #[error("`{to}` is not on this machine")]
    NotThisMachine { to: String },
    #[error("`{to}` is not on this machine, and credentials must not go there in clear text")]
    ClearText { to: String },
    #[error("unable to connect to {to}")]
    Unreachable { to: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{to}` does not prove who it is")]
    Untrusted { to: String, source: std::io::Error },
    #[error("`{to}` has not answered within {seconds} seconds")]
    TooSlow { to: String, seconds: u64 },
    /// What is no HTTP, goes past its bounds, or breaks off.
    #[error("`{to}` {what}")]
    Broken { to: String, what: String },
    #[error("Addon returned bad status: {} expected {expected}{}", status_line(*.status), after_colon(.told))]
    Status {
        status: u16,
        expected: &'static str,
        /// What it says of it, escaped.
        told: String,
    },
    #[error("Addon returned bad JSON: {why}{}", after_dash(.body))]
    Json {
        why: String,
        /// How it begins, where that is not JSON; else it might hold values of variables.
        body: String,
    },
    #[error("Addon returned an empty ID")]
    EmptyId,
    #[error("{} is not part of the config_vars array of the manifest", shown(.0, 80))]
    Undeclared(String),
    #[error("Expected empty body, got '{0}'")]
    NotEmpty(String),
    #[error("no address of this machine can be listened on for what the provider calls back")]
    Listen(#[source] std::io::Error),
}

impl ProviderError {
    /// Stable.
    pub const fn code(&self) -> &'static str {
        match self {
            ProviderError::Url { .. } | ProviderError::NoAddress(_) => "provider-url",
            ProviderError::Credentials(_) => "provider-credentials",
            ProviderError::Id { .. } | ProviderError::EmptyId => "provider-id",
            ProviderError::NotGranted { .. } => "provider-not-granted",
            ProviderError::NotThisMachine { .. } => "provider-not-here",
            ProviderError::ClearText { .. } => "clear-text",
            ProviderError::Unreachable { .. } => "provider-unreachable",
            ProviderError::Untrusted { .. } => "provider-untrusted",
            ProviderError::TooSlow { .. } => "provider-too-slow",
            ProviderError::Broken { .. } => "provider-answer",
            ProviderError::Status { .. } => "provider-status",
            ProviderError::Json { .. } | ProviderError::NotEmpty(_) => "provider-answer",
            ProviderError::Undeclared(_) => "provider-undeclared",
            ProviderError::Listen(_) => "listen",
        }
    }

    /// Of a command that ends with it: 1 the provider is not as it should be, 2 asked for wrongly, 4 this machine is at fault.
    pub const fn exit_code(&self) -> u8 {
        match self {
            ProviderError::NotThisMachine { .. } | ProviderError::ClearText { .. } => 2,
            ProviderError::Listen(_) => 4,
            _ => 1,
        }
    }

    /// The status, where it is one that was not expected.
    pub const fn status(&self) -> Option<u16> {
        match self {
            ProviderError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether asking again may help, with the same uuid: the provider has not said no.
    pub const fn is_passing(&self) -> bool {
        match self {
            ProviderError::Unreachable { .. } | ProviderError::TooSlow { .. } | ProviderError::Broken { .. } => true,
            ProviderError::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ProviderError::Url { .. } => "such as \"http://localhost:3000/resources\"".to_owned(),
            ProviderError::NoAddress(_) => {
                "\"test\": { \"base_url\": \"http://localhost:3000/resources\", \"sso_url\": \"…\" }".to_owned()
            }
            ProviderError::NotThisMachine { .. } => "--allow-remote has it asked all the same".to_owned(),
            ProviderError::ClearText { .. } => "https:// with a proxy there that speaks TLS, or a tunnel".to_owned(),
            ProviderError::Untrusted { .. } => {
                "its certificate must be of an authority that this machine trusts (SSL_CERT_FILE names others)"
                    .to_owned()
            }
            ProviderError::NotGranted { to } => {
                format!("`\"network\": [\"{to}\"]` under capabilities of addon.json asks for it")
            }
            ProviderError::Undeclared(name) => {
                format!("\"config_vars\": [\"{}\"] in the manifest declares it", shown(name, 80))
            }
            ProviderError::Unreachable { .. } => "is the provider running?".to_owned(),
            ProviderError::Status { status: 401, .. } => {
                "it must know the user name and the password of the manifest".to_owned()
            }
            _ => return None,
        })
    }
}

/// `422 Unprocessable Entity`.
pub(super) fn status_line(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

fn after_dash(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" - {text}") }
}

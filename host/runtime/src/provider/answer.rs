//! What a provider answers, and what of it is taken over: nothing but what is within its limits.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ProviderError;
use crate::client::encoded;
use crate::manifest::Map;
use crate::text::{is_plain, redact, shown};

/// Longest id, in bytes.
const ID_MAX: usize = 255;
/// Longest text of an answer that is shown to people.
const TOLD_MAX: usize = 500;
/// Longest text of an answer that was none, as it is shown.
const BODY_MAX: usize = 120;
/// Longest message and address that are taken over.
const MESSAGE_MAX: usize = 4 << 10;
const URL_MAX: usize = 2 << 10;

/// What a provider calls a resource: 1 to 255 bytes that show themselves, and no part of a path that leads elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProviderId(String);

/// An answer as it came: its body is whole, and within its bounds.
#[derive(Clone, Debug)]
pub struct ProviderAnswer {
    pub status: u16,
    pub content_type: String,
    pub location: Option<String>,
    /// In how many seconds to ask again, where it says so.
    pub retry_after: Option<u64>,
    /// `NAME=VALUE` of each.
    pub cookies: Vec<String>,
    pub body: Bytes,
    /// What must not be shown of it.
    pub(super) secrets: Vec<String>,
}

/// What a provider has made, or is about to.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderResource {
    pub status: u16,
    pub id: ProviderId,
    pub config: BTreeMap<String, String>,
    pub message: Option<String>,
    pub log_drain_url: Option<String>,
}

/// What has become of a resource.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderChange {
    pub status: u16,
    pub config: BTreeMap<String, String>,
    pub message: Option<String>,
}

/// How a resource has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deprovisioned {
    Done,
    /// The provider knows no such resource any more.
    Before,
    /// The provider goes about it.
    Accepted,
}

#[derive(Deserialize)]
struct RawResource {
    id: Option<RawId>,
    config: Option<Map<String>>,
    message: Option<String>,
    log_drain_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "neither a string nor a number")]
enum RawId {
    Text(String),
    Number(serde_json::Number),
}

impl ProviderResource {
    /// Whether it is not usable yet: the provider has only taken the request.
    pub const fn is_pending(&self) -> bool {
        self.status == 202
    }
}

impl ProviderChange {
    pub const fn is_pending(&self) -> bool {
        self.status == 202
    }
}

impl ProviderId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As one segment of a path, whatever is in it.
    pub fn segment(&self) -> String {
        encoded(&self.0)
    }
}

impl FromStr for ProviderId {
    type Err = ProviderError;

    fn from_str(text: &str) -> Result<ProviderId, ProviderError> {
        let why = match text {
            "" => return Err(ProviderError::EmptyId),
            "." | ".." => "in a path it would lead elsewhere",
            text if text.len() > ID_MAX => "it is longer than 255 bytes",
            text if !is_plain(text) => "it has characters that do not show",
            text => return Ok(ProviderId(text.to_owned())),
        };
        Err(ProviderError::Id { id: text.to_owned(), why })
    }
}

impl TryFrom<String> for ProviderId {
    type Error = ProviderError;

    fn try_from(text: String) -> Result<ProviderId, ProviderError> {
        text.parse()
    }
}

impl From<ProviderId> for String {
    fn from(id: ProviderId) -> String {
        id.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ProviderAnswer {
    /// What has been provisioned.
    ///
    /// # Errors
    /// Another status than 200, 201 and 202; no JSON object; an id, a variable or a text that cannot be taken over.
    pub fn resource(&self) -> Result<ProviderResource, ProviderError> {
        self.must_be(&[200, 201, 202], "201, 202 (or exceptionnaly 200 for heroku compatibility)")?;
        let raw: RawResource = self.json()?;
        let id = match raw.id {
            Some(RawId::Text(id)) => id,
            Some(RawId::Number(id)) => id.to_string(),
            None => String::new(),
        };
        Ok(ProviderResource {
            status: self.status,
            id: id.parse()?,
            config: raw.config.unwrap_or_default().0,
            message: self.text(raw.message, MESSAGE_MAX),
            log_drain_url: self.log_drain(raw.log_drain_url)?,
        })
    }

    /// What it calls a resource that may have been made, whatever else there is in the answer.
    pub fn id(&self) -> Option<ProviderId> {
        let told: Value = serde_json::from_slice(&self.body).ok().filter(|_| (200..300).contains(&self.status))?;
        match told.get("id")? {
            Value::String(id) => id.parse().ok(),
            Value::Number(id) => id.to_string().parse().ok(),
            _ => None,
        }
    }

    /// What has been changed.
    ///
    /// # Errors
    /// Another status than 200 and 202; no JSON object.
    pub fn change(&self) -> Result<ProviderChange, ProviderError> {
        self.must_be(&[200, 202], "200 (or 202)")?;
        let raw: RawResource = self.json()?;
        Ok(ProviderChange {
            status: self.status,
            config: raw.config.unwrap_or_default().0,
            message: self.text(raw.message, MESSAGE_MAX),
        })
    }

    /// That it is gone: 204 without a body, or that there is no such thing. 202 where it takes its time.
    ///
    /// # Errors
    /// Another status, or a body with 204.
    pub fn gone(&self) -> Result<Deprovisioned, ProviderError> {
        match self.status {
            202 => return Ok(Deprovisioned::Accepted),
            404 | 410 => return Ok(Deprovisioned::Before),
            _ => {}
        }
        if !self.body.is_empty() && (200..300).contains(&self.status) {
            return Err(ProviderError::NotEmpty(self.body_shown()));
        }
        self.must_be(&[204], "204")?;
        Ok(Deprovisioned::Done)
    }

    /// That it did what there is no answer to but that: 200, 202 or 204.
    ///
    /// # Errors
    /// Another status.
    pub fn done(&self) -> Result<(), ProviderError> {
        self.must_be(&[200, 202, 204], "200, 202 or 204")
    }

    /// A JSON object.
    ///
    /// # Errors
    /// Another status than 200, or no object.
    pub fn object(&self) -> Result<Value, ProviderError> {
        self.must_be(&[200], "200")?;
        Ok(Value::Object(self.json()?))
    }

    /// One JSON value of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let is_json = self.body.trim_ascii_start().starts_with(b"{");
            let body = if is_json { String::new() } else { self.body_shown() };
            ProviderError::Json { why: self.plain(&error.to_string(), TOLD_MAX), body }
        })
    }

    /// How the body begins, fit to be shown.
    pub fn body_shown(&self) -> String {
        self.plain(&String::from_utf8_lossy(&self.body), BODY_MAX)
    }

    /// As people read it: `422 Unprocessable Entity`.
    pub fn status_line(&self) -> String {
        super::error::status_line(self.status)
    }

    fn must_be(&self, good: &[u16], expected: &'static str) -> Result<(), ProviderError> {
        if good.contains(&self.status) {
            return Ok(());
        }
        // Rails says `error`, Heroku's documents `message`.
        let told: Option<Value> = serde_json::from_slice(&self.body).ok();
        let text = |key: &str| told.as_ref()?.get(key)?.as_str();
        let told = match text("message").or_else(|| text("error")) {
            Some(text) => self.plain(text, TOLD_MAX),
            None if told.is_some() => String::new(),
            None => self.body_shown(),
        };
        Err(ProviderError::Status { status: self.status, expected, told })
    }

    fn log_drain(&self, url: Option<String>) -> Result<Option<String>, ProviderError> {
        let Some(url) = url.filter(|url| !url.is_empty()) else { return Ok(None) };
        let known = ["http://", "https://", "syslog://", "syslog+tls://"].iter().any(|scheme| url.starts_with(scheme));
        if !known || url.len() > URL_MAX || url.contains(char::is_whitespace) || !is_plain(&url) {
            let why = "log_drain_url is no http, https or syslog URL".to_owned();
            return Err(ProviderError::Json { why, body: String::new() });
        }
        Ok(Some(url))
    }

    fn text(&self, text: Option<String>, max: usize) -> Option<String> {
        text.filter(|text| !text.is_empty()).map(|text| self.plain(&text, max))
    }

    fn plain(&self, text: &str, max: usize) -> String {
        shown(&redact(text.trim(), &self.secrets), max)
    }
}

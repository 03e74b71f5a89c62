//! Platforms that order from addons here: how long they wait, and where they may be told what came later.

use std::time::Duration;

use serde::Deserialize;

use crate::client::ServerUrl;
use crate::outbound::Pattern;

/// How long a platform waits for an answer: Heroku gives up after 30 seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_WITHIN_MAX_MS: u64 = 25_000;

#[derive(Clone, Debug)]
pub struct PlatformPolicy {
    /// Where platforms reach this server, for the manifests they are handed.
    pub url: Option<ServerUrl>,
    /// Who may be told what has become of an order; nobody by default.
    pub callbacks: Vec<Pattern>,
    /// Scalingo's API, which takes what came later. Nobody else is told it with a URL of ours.
    pub scalingo_api: Option<ServerUrl>,
    /// After so long an order that can be told of later is answered with 202.
    pub answer_within: Duration,
}

impl Default for PlatformPolicy {
    fn default() -> Self {
        PlatformPolicy { url: None, callbacks: Vec::new(), scalingo_api: None, answer_within: ANSWER_WITHIN }
    }
}

impl PlatformPolicy {
    pub(crate) fn answer_within_ms(&self) -> i64 {
        i64::try_from(self.answer_within.as_millis()).unwrap_or(i64::MAX)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    url: Option<String>,
    callbacks: Vec<String>,
    scalingo_api: Option<String>,
    answer_within_ms: Option<u64>,
}

pub(super) fn read(raw: Raw, looser: &mut Vec<String>) -> Result<PlatformPolicy, String> {
    let url = |name: &str, text: Option<String>| {
        let parsed = text.map(|text| text.parse::<ServerUrl>()).transpose();
        parsed.map_err(|error| format!("platforms.{name}: {error}"))
    };
    let mut callbacks = Vec::new();
    for text in raw.callbacks {
        let pattern: Pattern = text.parse().map_err(|error| format!("platforms.callbacks: {error}"))?;
        looser.push(format!("platforms.callbacks: `{pattern}`"));
        callbacks.push(pattern);
    }
    let answer_within = match raw.answer_within_ms {
        None => ANSWER_WITHIN,
        Some(ms) if ms <= ANSWER_WITHIN_MAX_MS => Duration::from_millis(ms),
        Some(_) => return Err(format!("platforms.answer_within_ms: at most {ANSWER_WITHIN_MAX_MS}")),
    };
    let scalingo_api = url("scalingo_api", raw.scalingo_api)?;
    if let Some(api) = &scalingo_api {
        looser.push(format!("platforms.scalingo_api: `{api}`"));
    }
    Ok(PlatformPolicy { url: url("url", raw.url)?, callbacks, scalingo_api, answer_within })
}

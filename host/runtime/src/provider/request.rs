//! What a platform asks of a provider, in the words of either dialect.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Dialect;

/// A resource to be made.
#[derive(Clone, Debug)]
pub struct Provision {
    pub plan: String,
    pub options: BTreeMap<String, String>,
    pub app: String,
    /// The platform's own name for the resource: asked again with the same, a provider makes nothing anew.
    pub uuid: String,
    pub region: String,
    /// Where the provider tells that it has done what it took its time for. Heroku's dialect alone has it.
    pub callback_url: Option<String>,
    pub oauth_grant: Option<OauthGrant>,
    /// What the logs of the app would come with, to a provider that wants them. Heroku's dialect alone has it.
    pub log_drain_token: Option<String>,
}

/// A code that a provider exchanges for tokens at Heroku.
#[derive(Clone, Debug)]
pub struct OauthGrant {
    pub code: String,
    /// Seconds since 1970.
    pub expires_at: i64,
}

/// A resource to be of another plan.
#[derive(Clone, Debug)]
pub struct PlanChange {
    pub plan: String,
    pub options: BTreeMap<String, String>,
    pub app: String,
    pub uuid: String,
}

impl Provision {
    pub fn body(&self, dialect: Dialect) -> Value {
        let Provision { plan, app, uuid, region, callback_url, log_drain_token, .. } = self;
        match dialect {
            // As Scalingo's tester sends it, where there are no options they are null.
            Dialect::Scalingo => {
                json!({ "app_id": app, "options": self.scalingo_options(), "plan": plan, "uuid": uuid })
            }
            Dialect::Heroku => {
                let mut body = json!({
                    "heroku_id": app,
                    "plan": plan,
                    "callback_url": callback_url,
                    "logplex_token": null,
                    "region": region,
                    "options": self.options,
                    "uuid": uuid,
                    "name": format!("addon-{}", uuid.get(..8).unwrap_or(uuid)),
                });
                let grant = self.oauth_grant.as_ref().map(|grant| {
                    let expires_at = utc(grant.expires_at);
                    json!({ "code": grant.code, "expires_at": expires_at, "type": "authorization_code" })
                });
                let token = log_drain_token.as_ref().map(|token| json!(token));
                if let Some(fields) = body.as_object_mut() {
                    fields.extend(grant.map(|grant| ("oauth_grant".to_owned(), grant)));
                    fields.extend(token.map(|token| ("log_drain_token".to_owned(), token)));
                }
                body
            }
        }
    }

    fn scalingo_options(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.options).filter(|options| !options.is_empty())
    }
}

impl PlanChange {
    pub fn body(&self, dialect: Dialect) -> Value {
        let PlanChange { plan, options, app, uuid } = self;
        match dialect {
            Dialect::Scalingo => {
                json!({ "options": Some(options).filter(|options| !options.is_empty()), "plan": plan })
            }
            Dialect::Heroku => json!({ "plan": plan, "heroku_id": app, "uuid": uuid }),
        }
    }
}

/// A name for a resource that nobody has had.
pub fn fresh_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// `2026-11-22T00:32:26Z`; what is before 1970 as that.
pub fn utc(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_others_write_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_262_304_000, "2010-01-01T00:00:00Z"),
            (1_795_307_546, "2026-11-22T00:32:26Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}

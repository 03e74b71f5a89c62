//! Single sign-on: what proves to a provider that a platform has sent somebody to the dashboard of a resource.
//!
//! Pure functions. Whether a token is of now, and was not used before, is for whoever is signed on to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{At, Dialect, ProviderManifest};
use crate::client::encoded;
use crate::compiler::hex;

/// Whom a platform signs on, and to what.
#[derive(Clone, Debug)]
pub struct SignOn {
    /// What the provider has called the resource.
    pub id: String,
    /// What the platform has.
    pub uuid: String,
    /// Seconds since 1970.
    pub timestamp: i64,
    pub app: String,
    pub user_id: String,
    pub email: String,
}

/// How a browser is sent there: by a link, or by a form that it posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignOnAt {
    /// With the fields in its query where it is a link.
    pub url: String,
    pub post: bool,
    pub fields: Vec<(String, String)>,
}

/// Of a resource, by the provider's id or the platform's.
pub(crate) fn token(id: &str, salt: &str, timestamp: i64) -> String {
    hex(Sha1::digest(format!("{id}:{salt}:{timestamp}")).as_slice())
}

/// Of a resource and a user of it.
pub(crate) fn user_token(uuid: &str, salt: &str, timestamp: i64, user_id: &str, email: &str) -> String {
    hex(Sha256::digest(format!("{uuid}:{salt}:{timestamp}:{user_id}:{email}")).as_slice())
}

/// What a Heroku dashboard draws its header from, as kensa has it: the provider must give it back as it is.
pub(crate) fn nav_data(name: &str, app: &str) -> String {
    let data = json!({ "addon": name, "appname": app, "addons": [{ "slug": name, "name": name, "current": true }] });
    URL_SAFE_NO_PAD.encode(data.to_string())
}

impl SignOn {
    /// As the provider's manifest has it, with a token that is good.
    pub fn to(&self, manifest: &ProviderManifest, at: &At) -> SignOnAt {
        self.with_token(manifest, at, None)
    }

    /// With tokens that are not, where there are any.
    pub fn with_token(&self, manifest: &ProviderManifest, at: &At, bad: Option<&str>) -> SignOnAt {
        let salt = &manifest.sso_salt;
        let token = |id: &str| bad.map_or_else(|| token(id, salt, self.timestamp), str::to_owned);
        let mut fields = vec![("id", self.id.clone())];
        let heroku = manifest.dialect == Dialect::Heroku;
        if heroku && !at.post {
            fields.clear();
        }
        fields.extend([("token", token(&self.id)), ("timestamp", self.timestamp.to_string())]);
        if heroku {
            fields.push(("nav-data", nav_data(&manifest.name, &self.app)));
            fields.extend([("email", self.email.clone()), ("app", self.app.clone())]);
        }
        if heroku && at.post {
            let of_user = || user_token(&self.uuid, salt, self.timestamp, &self.user_id, &self.email);
            fields.extend([
                ("user_id", self.user_id.clone()),
                ("context_app", self.app.clone()),
                ("resource_id", self.uuid.clone()),
                ("resource_token", token(&self.uuid)),
                ("user_scoped_resource_token", bad.map_or_else(of_user, str::to_owned)),
            ]);
        }
        let fields: Vec<(String, String)> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let place = match heroku && !at.post {
            true => format!("{}/{}", at.sso_url.trim_end_matches('/'), encoded(&self.id)),
            false => at.sso_url.clone(),
        };
        let url = match (at.post, place.contains('?')) {
            (true, _) => place,
            (false, has_query) => format!("{place}{}{}", if has_query { '&' } else { '?' }, form(&fields)),
        };
        SignOnAt { url, post: at.post, fields }
    }
}

/// As a query, or the body of a form.
pub(crate) fn form(fields: &[(String, String)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_the_platforms_make() {
        // kensa's own vector.
        assert_eq!(token("1", "SSO_SALT", 1_262_304_000), "b6010f6fbb850887a396c2bc0ab23974003008f6");
        // `printf u:s:1:me:me@x.example | sha256sum`
        let of_user = "fd990be876c0a9d4a1fde24c0cbf077a867c8388bf27fd637468e7af3ef1ae00";
        assert_eq!(user_token("u", "s", 1, "me", "me@x.example"), of_user);
        assert!(nav_data("a", "b").bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}

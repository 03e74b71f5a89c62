//! The provider manifest, of either dialect: what a provider hands to a platform, credentials included.
//!
//! [`ProviderManifest::parse`] takes what platforms take: unknown keys are none of our business, what is missing is empty, and a
//! wrong type is refused with its path. What a good one should say is for [`ProviderManifest::review`].

mod go_url;
mod raw;
mod rules;

use std::collections::BTreeMap;
use std::fmt;

use super::{Dialect, ProviderError};
use crate::error::{Error, Result};

/// Where a platform asks a provider, and sends people whom it has signed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub base_url: String,
    pub sso_url: String,
    /// Whether people come by a form that is posted to `sso_url`, not by a link to it.
    pub post: bool,
}

/// A plan, as a provider manifest has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderPlan {
    pub name: String,
    pub display_name: String,
    /// Euro for 30 days.
    pub price: f64,
    pub description: String,
    pub options: BTreeMap<String, String>,
}

/// What a provider tells a platform of itself. What it does not tell is empty.
#[derive(Clone, PartialEq)]
pub struct ProviderManifest {
    pub dialect: Dialect,
    pub name: String,
    /// For Basic auth.
    pub username: String,
    pub password: String,
    pub sso_salt: String,
    pub logo_url: String,
    pub short_description: String,
    pub description: String,
    pub log_drain: bool,
    /// Whether an app may have it more than once.
    pub many_per_app: bool,
    /// Heroku's third version: resources are named by the `uuid` they are asked for with.
    pub by_uuid: bool,
    pub regions: Vec<String>,
    pub config_vars: Vec<String>,
    pub plans: Vec<ProviderPlan>,
    pub production: Option<At>,
    /// For the provider's author.
    pub test: Option<At>,
}

/// A manifest, and all that can be said against it, in the order of its fields.
pub struct ManifestReview {
    pub manifest: ProviderManifest,
    /// What the dialect's own tester refuses.
    pub errors: Vec<String>,
    /// What it does not look at, and will go wrong later.
    pub warnings: Vec<String>,
}

impl ProviderManifest {
    /// Reads the bytes of a provider manifest, of at most 1 MiB.
    ///
    /// # Errors
    /// [`Error::Manifest`]: too large, no JSON, or a value of another type than the key's.
    pub fn parse(bytes: &[u8]) -> Result<ProviderManifest> {
        Ok(raw::read(bytes).map_err(|problem| Error::Manifest { problems: vec![problem] })?.into())
    }

    /// Reads it, and says everything that is wrong with it.
    ///
    /// # Errors
    /// As for [`ProviderManifest::parse`].
    pub fn review(bytes: &[u8]) -> Result<ManifestReview> {
        let raw = raw::read(bytes).map_err(|problem| Error::Manifest { problems: vec![problem] })?;
        let (errors, warnings) = rules::check(&raw);
        Ok(ManifestReview { manifest: raw.into(), errors, warnings })
    }

    /// That it names every one of these variables.
    ///
    /// # Errors
    /// [`ProviderError::Undeclared`], of the first that it does not.
    pub fn declares<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Result<(), ProviderError> {
        match names.into_iter().find(|name| !self.config_vars.contains(name)) {
            Some(name) => Err(ProviderError::Undeclared(name.clone())),
            None => Ok(()),
        }
    }

    pub fn plan(&self, name: &str) -> Option<&ProviderPlan> {
        self.plans.iter().find(|plan| plan.name == name)
    }
}

impl fmt::Debug for ProviderManifest {
    /// Without what proves who asks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProviderManifest { dialect, name, username, .. } = self;
        write!(f, "ProviderManifest({dialect}, {name:?} of {username:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALINGO: &str = r##"{
        "name": "Example Addon", "username": "user", "password": "pass", "sso_salt": "salt",
        "logo_url": "//cdn.myaddon.com/logo.png", "short_description": "short", "description": "# long",
        "log_drain": true, "config_vars": ["EXAMPLE_VARIABLE_1"], "nobody knows": [1],
        "production": { "base_url": "https://myaddon.com/resources", "sso_url": "https://dashboard.myaddon.com/sso" },
        "test": { "base_url": "http://localhost:3000/resources", "sso_url": "https://localhost:3001/sso" },
        "plans": [
            { "name": "free", "display_name": "Free", "price": 0, "description": "d", "options": null },
            { "name": "premium", "price": 30.5, "options": { "size": "512" } }
        ] }"##;

    const HEROKU: &str = r#"{
        "id": "youraddon", "name": "Your Add-on", "$base": 1,
        "api": {
            "config_vars": ["YOURADDON_URL"], "requires": ["syslog_drain", "many_per_app"], "regions": ["us", "eu"],
            "password": "pass", "sso_salt": "salt", "version": "3",
            "production": { "base_url": "https://yours.example/heroku/resources", "sso_url": "https://yours.example/sso/login" },
            "test": "http://localhost:4567/"
        } }"#;

    #[test]
    fn either_dialect_is_told_by_its_shape() {
        let scalingo = ProviderManifest::parse(SCALINGO.as_bytes()).unwrap();
        assert_eq!((scalingo.dialect, scalingo.username.as_str()), (Dialect::Scalingo, "user"));
        assert!(scalingo.log_drain && scalingo.many_per_app && scalingo.regions.is_empty());
        assert_eq!(scalingo.plan("premium").unwrap().options["size"], "512");
        assert_eq!((scalingo.plan("free").unwrap().price, scalingo.plan("premium").unwrap().price), (0.0, 30.5));
        let test = scalingo.test.unwrap();
        assert_eq!((test.base_url.as_str(), test.post), ("http://localhost:3000/resources", false));

        let heroku = ProviderManifest::parse(HEROKU.as_bytes()).unwrap();
        assert_eq!((heroku.dialect, heroku.username.as_str()), (Dialect::Heroku, "youraddon"));
        assert_eq!((heroku.name.as_str(), heroku.password.as_str()), ("Your Add-on", "pass"));
        assert!(heroku.log_drain && heroku.many_per_app && heroku.by_uuid && !scalingo.by_uuid);
        let of = |at: &str, sso: &str, post| Some(At { base_url: at.to_owned(), sso_url: sso.to_owned(), post });
        assert_eq!(
            heroku.production,
            of("https://yours.example/heroku/resources", "https://yours.example/sso/login", true)
        );
        let local = "http://localhost:4567/heroku/resources";
        assert_eq!(heroku.test, of(local, local, false));
        assert!(!format!("{heroku:?}{scalingo:?}", scalingo = SCALINGO.len()).contains("pass"));
    }

    #[test]
    fn what_is_missing_is_empty_and_a_wrong_type_has_a_path() {
        let empty = ProviderManifest::parse(b"{}").unwrap();
        assert_eq!((empty.dialect, empty.plans.len(), empty.test), (Dialect::Scalingo, 0, None));
        for (text, path) in [
            (r#"{"plans":[{"name":"a"},{"name":"b","price":"1"}]}"#, "plans[1].price"),
            (r#"{"plans":[{"options":{"size":512}}]}"#, "plans[0].options.size"),
            (r#"{"config_vars":"X"}"#, "config_vars"),
            (r#"{"test":{"base_url":[]}}"#, "test.base_url"),
            (r#"{"id":7,"api":{}}"#, "id"),
            (r#"{"id":"x","api":{"regions":"us"}}"#, "api.regions"),
            (r#"{"id":"x","api":{"test":7}}"#, "api.test"),
            (r#"{"id":"x","api":[]}"#, "api"),
            (r#"{"plans":[{"options":{"a":"1","a":"2"}}]}"#, "plans[0].options"),
            ("null", "."),
            ("[]", "."),
            ("", "."),
            (r#"{} {}"#, "."),
        ] {
            let error = ProviderManifest::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.problems().first().map(|problem| problem.path.as_str()), Some(path), "{text}");
        }
        let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(1 << 20));
        assert!(ProviderManifest::parse(large.as_bytes()).is_err());
    }
}

//! The manifests that a platform is handed to know an addon by. They hold what it proves itself with: they are secrets.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::gateway::slug;
use crate::client::ServerUrl;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::AddonId;
use crate::manifest::Manifest;

/// Where the surfaces for platforms are, on a server.
pub(crate) const PREFIX: &str = "/providers";

impl Host {
    /// The manifest of an addon for platforms of a dialect, with what they prove themselves with, which is made where there is
    /// none yet. `url` is where they reach the server; else the policy says it. `test` is where their testers do; else the same.
    ///
    /// # Errors
    /// As for [`Host::provider_credentials`]; [`Error::NoPublicUrl`].
    pub async fn provider_manifest(
        &self,
        addon: &AddonId,
        dialect: Dialect,
        url: Option<ServerUrl>,
        test: Option<ServerUrl>,
    ) -> Result<Value> {
        let url = url.or_else(|| self.policy.platforms.url.clone()).ok_or(Error::NoPublicUrl)?;
        let known = self.provider_credentials(addon, dialect, false).await?;
        let (installed, _) = self.registry.get(self, addon).await?;
        let manifest = &installed.manifest;
        let at = |url: &ServerUrl| {
            let root = format!("{url}{PREFIX}/{}/{}/{dialect}", addon.namespace, addon.name);
            json!({ "base_url": format!("{root}/resources"), "sso_url": format!("{root}/sso") })
        };
        let (production, test) = (at(&url), at(test.as_ref().unwrap_or(&url)));
        Ok(match dialect {
            Dialect::Scalingo => json!({
                "name": manifest.display_name,
                "username": known.username,
                "password": known.password,
                "sso_salt": known.sso_salt,
                "logo_url": manifest.provider.logo_url,
                "short_description": short_description(manifest),
                "description": described(manifest),
                "log_drain": manifest.provider.log_drain,
                "config_vars": installed.grant.config_vars,
                "production": production,
                "test": test,
                "plans": plans(manifest),
            }),
            Dialect::Heroku => {
                let mut api = Map::new();
                api.insert("config_vars".to_owned(), json!(installed.grant.config_vars));
                api.insert("config_vars_prefix".to_owned(), json!(prefix(&installed.grant.config_vars, manifest)));
                let drains = manifest.provider.log_drain.then_some("syslog_drain");
                let requires: Vec<&str> = ["many_per_app"].into_iter().chain(drains).collect();
                api.insert("requires".to_owned(), json!(requires));
                api.insert("regions".to_owned(), json!(regions(manifest)));
                api.insert("password".to_owned(), json!(known.password));
                api.insert("sso_salt".to_owned(), json!(known.sso_salt));
                api.insert("production".to_owned(), production);
                api.insert("test".to_owned(), test);
                json!({ "id": slug(addon), "name": manifest.display_name, "api": api, "plans": plans(manifest) })
            }
        })
    }
}

/// Neither may be empty to Scalingo.
fn short_description(manifest: &Manifest) -> &str {
    let told =
        [manifest.provider.short_description.as_deref(), Some(&manifest.description), Some(&manifest.display_name)];
    told.into_iter().flatten().find(|text| !text.is_empty()).unwrap_or_default()
}

fn described(manifest: &Manifest) -> &str {
    if manifest.description.is_empty() { &manifest.display_name } else { &manifest.description }
}

/// Heroku's names of them, or everywhere, among which its tester wants to see the first.
fn regions(manifest: &Manifest) -> Vec<String> {
    let known = ["us", "eu", "frankfurt", "oregon", "tokyo", "virginia", "*"];
    let named: Vec<String> =
        manifest.provider.regions.iter().filter(|region| known.contains(&region.as_str())).cloned().collect();
    if named.is_empty() { vec!["us".to_owned(), "*".to_owned()] } else { named }
}

/// What all names of variables begin with, up to an underscore.
fn prefix(config_vars: &[String], manifest: &Manifest) -> String {
    let own = manifest.id.name.env_prefix();
    let own = own.trim_end_matches('_');
    let all_begin = |prefix: &str| config_vars.iter().all(|name| name.starts_with(&format!("{prefix}_")));
    let first = config_vars.first().and_then(|name| name.split_once('_'));
    match first {
        Some((first, _)) if !all_begin(own) && all_begin(first) => first.to_owned(),
        _ => own.to_owned(),
    }
}

/// A platform knows no addon without plans.
fn plans(manifest: &Manifest) -> Value {
    if manifest.plans.is_empty() {
        return json!([{ "name": NO_PLAN, "display_name": "Default", "price": 0.0, "description": "The only plan" }]);
    }
    let plan = |plan: &crate::manifest::Plan| {
        let mut written = json!({
            "name": plan.name,
            "display_name": plan.display_name,
            "price": plan.price,
            "description": plan.description,
        });
        if let Some(object) = written.as_object_mut().filter(|_| !plan.options.is_empty()) {
            object.insert("options".to_owned(), json!(plan.options));
        }
        written
    };
    manifest.plans.iter().map(plan).collect()
}

/// What the one plan of an addon without plans is called to platforms.
pub(super) const NO_PLAN: &str = "default";

//! From the manifest that a provider hands to platforms to the addon that it is here.

use serde_json::{Map, Value, json};

use crate::client::ServerUrl;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::manifest::{Manifest, Problem};
use crate::outbound::Destination;
use crate::provider::{At, Dialect, ProviderManifest};
use crate::text::cut_at;

/// Longest description that an addon has, in bytes.
const TEXT_MAX: usize = 10_000;
/// What platforms wait for an answer, and longer for what is made.
const DEADLINE_MS: u64 = 30_000;
const PROVISION_MS: u64 = 120_000;
/// The plan that every add-on of Heroku's begins with. Others stand in none of its manifests.
const FIRST_PLAN: &str = "test";

/// How a provider is taken in.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// What the addon is to be called; the nearest to what the provider is called where absent.
    pub name: Option<Id>,
    /// Whether it is the one for tests that is asked, not the one for production.
    pub test: bool,
    /// Plans beyond those that the manifest lists.
    pub plans: Vec<Id>,
}

impl Import {
    /// The `addon.json` of a provider. No secret is in it.
    ///
    /// # Errors
    /// [`Error::Manifest`], with paths of the provider's manifest.
    pub fn addon(&self, provider: &ProviderManifest) -> Result<Vec<u8>> {
        let section = if self.test { "test" } else { "production" };
        let problem = |path: String, message: String| Problem { path, message, hint: None };
        let at = if self.test { &provider.test } else { &provider.production };
        let Some(at) = at else {
            let hint = Some(if self.test { "leave out --test" } else { "--test takes the one for tests" }.to_owned());
            let message = "the manifest does not say where that provider is".to_owned();
            return Err(Error::Manifest { problems: vec![Problem { hint, ..problem(section.to_owned(), message) }] });
        };
        let of_heroku = provider.dialect == Dialect::Heroku;
        let (username, password) = if of_heroku { ("id", "api.password") } else { ("username", "password") };
        let section = if of_heroku { format!("api.{section}") } else { section.to_owned() };
        let written = json(self.describe(provider, at));
        let mut problems = match Manifest::parse(&written) {
            Ok(_) => Vec::new(),
            Err(Error::Manifest { problems }) => problems,
            Err(error) => return Err(error),
        };
        for problem in &mut problems {
            problem.path = match problem.path.as_str() {
                "remote.username" => username.to_owned(),
                path => match path.strip_prefix("remote") {
                    Some(rest) => format!("{section}{rest}"),
                    None => path.to_owned(),
                },
            };
        }
        // It follows from what is wrong with the address.
        problems.retain(|problem| problem.path != "capabilities.network");
        if provider.password.is_empty() {
            problems.push(problem(password.to_owned(), "is blank: the provider must know who asks".to_owned()));
        }
        if problems.is_empty() { Ok(written) } else { Err(Error::Manifest { problems }) }
    }

    fn describe(&self, provider: &ProviderManifest, at: &At) -> Value {
        let called = if provider.dialect == Dialect::Heroku { &provider.username } else { &provider.name };
        let name = self.name.as_ref().map_or_else(|| called.clone(), ToString::to_string);
        let url = at.base_url.parse::<ServerUrl>().ok();
        let to = url.and_then(|url| Destination::new(url.host(), url.port()).ok());
        let mut remote = Map::from_iter([
            ("dialect".to_owned(), json!(provider.dialect)),
            ("base_url".to_owned(), json!(at.base_url)),
            ("username".to_owned(), json!(provider.username)),
        ]);
        if !at.sso_url.is_empty() && !provider.sso_salt.is_empty() {
            remote.insert("sso_url".to_owned(), json!(at.sso_url));
            remote.insert("sso_post".to_owned(), json!(at.post));
        }
        if provider.by_uuid {
            remote.insert("by_uuid".to_owned(), json!(true));
        }
        let mut listed = Map::new();
        for (name, text) in [("logo_url", &provider.logo_url), ("short_description", &provider.short_description)] {
            if !text.is_empty() {
                listed.insert(name.to_owned(), json!(text));
            }
        }
        // `*` and the like are no regions to be asked for.
        let regions: Vec<&String> = provider.regions.iter().filter(|region| *region != "*").collect();
        listed.insert("regions".to_owned(), json!(regions));
        listed.insert("log_drain".to_owned(), json!(provider.log_drain));
        json!({
            "name": name,
            "display_name": provider.name,
            "description": cut_at(&provider.description, TEXT_MAX),
            "remote": remote,
            "config_vars": provider.config_vars,
            "plans": self.plans(provider),
            "capabilities": { "network": to.map(|to| vec![to]).unwrap_or_default() },
            "limits": { "deadlines_ms": { "default": DEADLINE_MS, "provision": PROVISION_MS } },
            "provider": listed,
        })
    }

    fn plans(&self, provider: &ProviderManifest) -> Vec<Value> {
        let listed = provider.plans.iter().map(|plan| {
            json!({
                "name": plan.name,
                "display_name": if plan.display_name.is_empty() { &plan.name } else { &plan.display_name },
                "price": plan.price,
                "description": cut_at(&plan.description, TEXT_MAX),
                "options": plan.options,
            })
        });
        let mut plans: Vec<Value> = listed.collect();
        let named = |plans: &[Value], name: &str| plans.iter().any(|plan| plan["name"] == *name);
        for name in &self.plans {
            if !named(&plans, name.as_str()) {
                plans.push(json!({ "name": name }));
            }
        }
        if plans.is_empty() && provider.dialect == Dialect::Heroku {
            plans.push(json!({ "name": FIRST_PLAN }));
        }
        plans
    }
}

fn json(value: Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

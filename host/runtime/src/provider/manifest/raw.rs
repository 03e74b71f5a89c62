//! The shapes of both dialects as they are written, and what becomes of them. As in the platforms' own readers `null` is as if
//! the key were not there.

use serde::de::IgnoredAny;

use super::{At, ProviderManifest, ProviderPlan};
use crate::manifest::{Map, Problem, document};
use crate::provider::Dialect;

pub(super) enum Raw {
    Scalingo(Box<Scalingo>),
    Heroku(Box<Heroku>),
}

/// What tells the dialects apart.
#[derive(serde::Deserialize)]
struct Shape {
    id: Option<IgnoredAny>,
    api: Option<IgnoredAny>,
    username: Option<IgnoredAny>,
}

#[derive(serde::Deserialize)]
pub(super) struct Scalingo {
    pub name: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub sso_salt: Option<String>,
    pub logo_url: Option<String>,
    pub short_description: Option<String>,
    pub description: Option<String>,
    pub log_drain: Option<bool>,
    pub config_vars: Option<Vec<String>>,
    pub production: Option<Urls>,
    pub test: Option<Urls>,
    pub plans: Option<Vec<Plan>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Urls {
    pub base_url: Option<String>,
    pub sso_url: Option<String>,
}

#[derive(serde::Deserialize)]
pub(super) struct Plan {
    pub name: Option<String>,
    pub display_name: Option<String>,
    pub price: Option<f64>,
    pub description: Option<String>,
    pub options: Option<Map<String>>,
}

#[derive(serde::Deserialize)]
pub(super) struct Heroku {
    pub id: Option<String>,
    pub name: Option<String>,
    pub api: Option<Api>,
    /// Only in manifests from before 2012, and only their names mean anything: prices were text.
    pub plans: Option<Vec<NamedPlan>>,
}

#[derive(serde::Deserialize)]
pub(super) struct NamedPlan {
    pub name: Option<String>,
}

#[derive(serde::Deserialize, Default)]
pub(super) struct Api {
    pub config_vars: Option<Vec<String>>,
    pub config_vars_prefix: Option<String>,
    pub requires: Option<Vec<String>>,
    pub regions: Option<Vec<String>>,
    pub password: Option<String>,
    pub sso_salt: Option<String>,
    pub production: Option<Place>,
    pub test: Option<Place>,
    pub username: Option<IgnoredAny>,
    pub version: Option<Version>,
}

/// Of the API. Heroku's own writes it as text.
#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "neither a text nor a number")]
pub(super) enum Version {
    Text(String),
    Number(u64),
}

#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "neither a URL nor an object of base_url and sso_url")]
pub(super) enum Place {
    Root(String),
    Urls(Urls),
}

pub(super) fn read(bytes: &[u8]) -> Result<Raw, Problem> {
    let shape: Shape = document(bytes)?;
    if shape.api.is_some() || shape.id.is_some() && shape.username.is_none() {
        Ok(Raw::Heroku(document(bytes)?))
    } else {
        Ok(Raw::Scalingo(document(bytes)?))
    }
}

impl From<Raw> for ProviderManifest {
    fn from(raw: Raw) -> ProviderManifest {
        match raw {
            Raw::Scalingo(raw) => (*raw).into(),
            Raw::Heroku(raw) => (*raw).into(),
        }
    }
}

impl From<Scalingo> for ProviderManifest {
    fn from(raw: Scalingo) -> ProviderManifest {
        let at = |urls: Urls| At {
            base_url: urls.base_url.unwrap_or_default(),
            sso_url: urls.sso_url.unwrap_or_default(),
            post: false,
        };
        let plan = |plan: Plan| ProviderPlan {
            name: plan.name.unwrap_or_default(),
            display_name: plan.display_name.unwrap_or_default(),
            price: plan.price.unwrap_or_default(),
            description: plan.description.unwrap_or_default(),
            options: plan.options.unwrap_or_default().0,
        };
        ProviderManifest {
            dialect: Dialect::Scalingo,
            name: raw.name.unwrap_or_default(),
            username: raw.username.unwrap_or_default(),
            password: raw.password.unwrap_or_default(),
            sso_salt: raw.sso_salt.unwrap_or_default(),
            logo_url: raw.logo_url.unwrap_or_default(),
            short_description: raw.short_description.unwrap_or_default(),
            description: raw.description.unwrap_or_default(),
            log_drain: raw.log_drain.unwrap_or_default(),
            many_per_app: true,
            by_uuid: false,
            regions: Vec::new(),
            config_vars: raw.config_vars.unwrap_or_default(),
            plans: raw.plans.unwrap_or_default().into_iter().map(plan).collect(),
            production: raw.production.map(at),
            test: raw.test.map(at),
        }
    }
}

impl From<Heroku> for ProviderManifest {
    fn from(raw: Heroku) -> ProviderManifest {
        let api = raw.api.unwrap_or_default();
        let requires = |what: &str| api.requires.iter().flatten().any(|required| required == what);
        let (log_drain, many_per_app) = (requires("syslog_drain"), requires("many_per_app"));
        let id = raw.id.unwrap_or_default();
        let plan = |plan: NamedPlan| {
            let name = plan.name.unwrap_or_default();
            ProviderPlan {
                display_name: name.clone(),
                name,
                price: 0.0,
                description: String::new(),
                options: Default::default(),
            }
        };
        ProviderManifest {
            dialect: Dialect::Heroku,
            name: raw.name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone()),
            username: id,
            password: api.password.unwrap_or_default(),
            sso_salt: api.sso_salt.unwrap_or_default(),
            logo_url: String::new(),
            short_description: String::new(),
            description: String::new(),
            log_drain,
            many_per_app,
            by_uuid: api.version.is_some_and(|version| match version {
                Version::Text(text) => text == "3",
                Version::Number(number) => number == 3,
            }),
            regions: api.regions.unwrap_or_default(),
            config_vars: api.config_vars.unwrap_or_default(),
            plans: raw.plans.unwrap_or_default().into_iter().map(plan).collect(),
            production: api.production.map(Place::into),
            test: api.test.map(Place::into),
        }
    }
}

impl From<Place> for At {
    fn from(place: Place) -> At {
        match place {
            Place::Root(root) => {
                let base_url = format!("{}/heroku/resources", root.trim_end_matches('/'));
                At { sso_url: base_url.clone(), base_url, post: false }
            }
            Place::Urls(urls) => At {
                base_url: urls.base_url.unwrap_or_default(),
                sso_url: urls.sso_url.unwrap_or_default(),
                post: true,
            },
        }
    }
}

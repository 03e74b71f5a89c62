//! The manifest, `addon.json`: what an addon is and what it asks for. Parsing admits nothing; [`grant`](crate::grant) does.
//!
//! Strict: unknown keys, wrong types, duplicate names and undeclared references are problems with a JSON path. An Oakestra
//! descriptor is a valid manifest. After [`Manifest::parse`] every name in it is an [`Id`] and every reference resolves.

mod raw;
mod remote;
mod rules;
mod services;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{AddonId, Id};
use crate::limits::Limit;
use crate::outbound::Destination;

pub(crate) use raw::{Map, document};
pub(crate) use remote::is_limit as is_limit_of_remote;
pub use remote::{PASSWORD, RemoteProvider, SSO_SALT};
pub use services::{Probe, SECRETS_DIR, Service, StartMode};
pub(crate) use services::{file_variable, is_mount_point, secret_file};

/// File name within a package.
pub const FILE: &str = "addon.json";
/// Largest manifest, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = WrongLine))]
pub struct Problem {
    /// Where, as `services[0].image`; `.` for the document as a whole.
    pub path: String,
    pub message: String,
    /// What to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Which addon a manifest is of, whatever else is wrong with it.
pub(crate) struct Named {
    pub id: AddonId,
    pub version: Option<semver::Version>,
    pub has_component: bool,
}

/// A manifest whose names and references are checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub id: AddonId,
    /// Absent in Oakestra descriptors: the host then counts `0.0.1`, `0.0.2`, …
    pub version: Option<semver::Version>,
    pub display_name: String,
    pub description: String,
    /// File name of the component within the package; absent for an addon of services only.
    pub component: Option<String>,
    /// The provider elsewhere that its hooks are asked of, in place of a component.
    pub remote: Option<RemoteProvider>,
    pub replaces: Option<Id>,
    /// All variables an app may receive. The first is what `url` fills.
    pub config_vars: Vec<String>,
    pub plans: Vec<Plan>,
    pub settings: BTreeMap<String, Setting>,
    /// What it wants to reach.
    pub network: Vec<Destination>,
    pub may_use_services: bool,
    pub events: Vec<String>,
    /// What the manifest asks for; a limit not in it has the default.
    pub limits: BTreeMap<Limit, u64>,
    pub deadlines_ms: BTreeMap<String, u64>,
    pub services: Vec<Service>,
    /// What the manifests add that platforms know it by.
    pub provider: Provider,
    /// What must be enabled before it.
    pub depends: Vec<Dependency>,
}

/// An addon that another needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub id: AddonId,
    /// Absent: any.
    pub version: Option<semver::VersionReq>,
}

impl Dependency {
    pub fn admits(&self, version: &semver::Version) -> bool {
        self.version.as_ref().is_none_or(|wanted| wanted.matches(version))
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{} {version}", self.id),
            None => self.id.fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub name: Id,
    pub display_name: String,
    /// Euro for 30 days.
    pub price: f64,
    pub description: String,
    pub options: BTreeMap<String, String>,
}

/// What the manifests of Scalingo and Heroku add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provider {
    pub regions: Vec<String>,
    /// Apps' logs may be sent to it.
    pub log_drain: bool,
    pub logo_url: Option<String>,
    pub short_description: Option<String>,
    /// Its own page for who has it, at another origin: an `https` URL.
    pub dashboard: Option<String>,
}

/// A value the operator supplies with `lodger set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub default: Option<String>,
    pub secret: bool,
}

impl Manifest {
    /// Reads the bytes of an `addon.json`.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every problem found. What keeps the document from being read at all (too large, not UTF-8,
    /// not JSON, a wrong type) is reported alone, since nothing after it can be trusted.
    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        let raw = raw::read(bytes).map_err(|problem| Error::Manifest { problems: vec![problem] })?;
        rules::check(raw).map_err(|problems| Error::Manifest { problems })
    }

    /// Reads the shape alone, and which addon it is of: its rules are for [`Manifest::parse`].
    ///
    /// # Errors
    /// As for [`Manifest::parse`], as far as it is about the shape and the names.
    pub(crate) fn named(bytes: &[u8]) -> Result<Named> {
        let raw = raw::read(bytes).map_err(|problem| Error::Manifest { problems: vec![problem] })?;
        rules::named(&raw).map_err(|problems| Error::Manifest { problems })
    }

    /// Its version, or that of the first of those that name none.
    pub fn version_or_first(&self) -> semver::Version {
        self.version.clone().unwrap_or(semver::Version::new(0, 0, 1))
    }

    pub fn plan(&self, name: &Id) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.name == *name)
    }
}

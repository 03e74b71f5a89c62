//! A marketplace elsewhere: what is found there, what is fetched of it, and publishing.
//!
//! What it says of a package is compared with the package: its digest, its name, its version. What a package may do, this
//! host's own policy decides.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use semver::{Version, VersionReq};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error::RemoteError;
use super::{Remote, Result, ServerUrl, encoded};
use crate::grant::human_bytes;
use crate::id::{AddonId, Id};
use crate::manifest::Dependency;
use crate::market::{Review, Status};
use crate::package::Package;
use crate::policy::PackageBounds;

const ADDONS: &str = "/api/v1/marketplace/addons";

/// Packages fetched for one command, those that others need among them; and how often the bytes that one may have.
const FETCHED_MAX: usize = 32;
const FETCHED_BYTES: u64 = 4;
/// Longest id of an entry.
const ID_MAX: usize = 64;

/// An addon of a marketplace: `NAME`, `NAMESPACE/NAME`, each with or without `@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub namespace: Option<Id>,
    pub name: Id,
    pub version: Versions,
}

/// Which versions will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Any that is no pre-release.
    Any,
    Exactly(Version),
    Within(VersionReq),
}

/// An entry of a marketplace, as it tells of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    #[serde(rename(deserialize = "_id"))]
    pub id: String,
    pub addon: AddonId,
    pub version: Version,
    pub digest: String,
    pub status: Status,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub description: String,
    /// Seconds since 1970.
    pub published_at: i64,
    /// Absent while it is under review.
    #[serde(rename(deserialize = "verification"))]
    pub review: Option<Review>,
}

/// A server, asked as a marketplace.
pub struct Marketplace {
    remote: Remote,
}

impl Marketplace {
    pub fn new(remote: Remote) -> Marketplace {
        Marketplace { remote }
    }

    pub fn url(&self) -> &ServerUrl {
        self.remote.url()
    }

    /// What is approved and has the text in its names or its description: by name, the latest version first.
    pub async fn search(&self, text: &str) -> Result<Vec<Listed>> {
        let mut found: Vec<Listed> = self.remote.get(&format!("{ADDONS}?search={}", encoded(text))).await?;
        found.retain(|entry| entry.status == Status::Approved);
        found.sort_by(|one, other| (&one.addon, &other.version).cmp(&(&other.addon, &one.version)));
        Ok(found)
    }

    /// Whatever its status.
    pub async fn entry(&self, id: &str) -> Result<Listed> {
        self.remote.get(&self.path_of(id)?).await
    }

    /// Publishes an archive that `lodger pack` made.
    pub async fn publish_package(&self, packed: Bytes) -> Result<Listed> {
        self.may_ask().await?;
        self.remote.post_package(ADDONS, packed).await
    }

    /// Publishes a descriptor: an `addon.json` of an addon without a component.
    pub async fn publish_descriptor(&self, manifest: Bytes) -> Result<Listed> {
        self.remote.post_text(ADDONS, manifest).await
    }

    /// Who may not is told so before a package is on its way: a server that refuses one half-way may not be heard.
    async fn may_ask(&self) -> Result<()> {
        let _: Vec<IgnoredAny> = self.remote.get(&format!("{ADDONS}?name=")).await?;
        Ok(())
    }

    /// The latest version that will do.
    ///
    /// # Errors
    /// [`RemoteError::UnknownName`], [`RemoteError::AmbiguousName`].
    pub async fn find(&self, wanted: &Wanted) -> Result<Listed> {
        self.find_for(wanted, None).await
    }

    async fn find_for(&self, wanted: &Wanted, by: Option<&AddonId>) -> Result<Listed> {
        let text = wanted.namespace.as_ref().map_or(wanted.name.to_string(), |of| format!("{of}/{}", wanted.name));
        let mut found = self.search(&text).await?;
        found.retain(|entry| wanted.names(&entry.addon));
        let addons: BTreeSet<AddonId> = found.iter().map(|entry| entry.addon.clone()).collect();
        if addons.len() > 1 {
            let candidates = addons.into_iter().collect();
            return Err(RemoteError::AmbiguousName { market: self.name(), name: wanted.name.clone(), candidates });
        }
        let versions: Vec<String> = found.iter().map(|entry| entry.version.to_string()).collect();
        let fit = found.into_iter().find(|entry| wanted.version.admit(&entry.version));
        fit.ok_or_else(|| RemoteError::UnknownName {
            market: self.name(),
            wanted: wanted.clone(),
            by: by.cloned(),
            versions,
        })
    }

    /// The package of an entry.
    ///
    /// # Errors
    /// [`RemoteError::OtherContent`] where it is not what the entry says; what any archive is refused for.
    pub async fn fetch(&self, entry: &Listed, bounds: &PackageBounds) -> Result<Package> {
        let path = format!("{}/package", self.path_of(&entry.id)?);
        let packed = self.remote.package(&path, bounds.bytes).await?;
        let package = Package::unpack(&entry.addon.to_string(), &packed, bounds)?;
        let (id, version) = (&package.manifest.id, package.manifest.version.as_ref());
        let given = version.map_or("no version".to_owned(), ToString::to_string);
        let what = if package.digest != entry.digest {
            format!("has the digest {}, not {}, which it was approved with", package.digest, entry.digest)
        } else if *id != entry.addon {
            format!("is `{id}`")
        } else if version != Some(&entry.version) {
            format!("has {given}, not {}", entry.version)
        } else {
            return Ok(package);
        };
        Err(RemoteError::OtherContent { market: self.name(), addon: entry.addon.clone(), what })
    }

    /// The packages that are wanted, and of what those need all that is neither among them nor among those `given`, nor there
    /// already, in the latest version that will do. Nothing is installed.
    ///
    /// # Errors
    /// As [`Marketplace::find`] and [`Marketplace::fetch`]; [`RemoteError::TooMuch`].
    pub async fn fetch_all(
        &self,
        wanted: &[Wanted],
        given: &[AddonId],
        is_there: impl Fn(&AddonId) -> bool,
        bounds: &PackageBounds,
    ) -> Result<Vec<Package>> {
        let mut fetched: Vec<Package> = Vec::new();
        let mut bytes = 0;
        let mut open: Vec<(Wanted, Option<AddonId>)> =
            wanted.iter().rev().map(|wanted| (wanted.clone(), None)).collect();
        while let Some((wanted, by)) = open.pop() {
            let mut known = fetched.iter().map(|package| &package.manifest.id).chain(given);
            if by.is_some() && known.any(|id| wanted.names(id)) {
                continue;
            }
            let entry = self.find_for(&wanted, by.as_ref()).await?;
            if fetched.len() == FETCHED_MAX {
                return Err(RemoteError::TooMuch { market: self.name(), most: format!("{FETCHED_MAX} packages") });
            }
            let package = self.fetch(&entry, bounds).await?;
            bytes += package.size();
            let most = bounds.bytes.saturating_mul(FETCHED_BYTES);
            if bytes > most {
                return Err(RemoteError::TooMuch { market: self.name(), most: human_bytes(most) });
            }
            let by = package.manifest.id.clone();
            let needs = package.manifest.depends.iter().filter(|need| !is_there(&need.id));
            open.extend(needs.map(|need| (Wanted::needed(need), Some(by.clone()))));
            fetched.push(package);
        }
        Ok(fetched)
    }

    fn name(&self) -> String {
        self.url().to_string()
    }

    fn path_of(&self, id: &str) -> Result<String> {
        if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.remote.answered("names an entry by what is no id"));
        }
        Ok(format!("{ADDONS}/{id}"))
    }
}

impl Wanted {
    fn names(&self, addon: &AddonId) -> bool {
        addon.name == self.name && self.namespace.as_ref().is_none_or(|of| addon.namespace == *of)
    }

    fn needed(need: &Dependency) -> Wanted {
        let version = need.version.clone().map_or(Versions::Any, Versions::Within);
        Wanted { namespace: Some(need.id.namespace.clone()), name: need.id.name.clone(), version }
    }
}

impl FromStr for Wanted {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Wanted> {
        let not = || RemoteError::NotWanted(text.to_owned());
        let (addon, version) = match text.split_once('@') {
            Some((addon, version)) => (addon, version.parse().map_err(|_| not())?),
            None => (text, Versions::Any),
        };
        let (namespace, name) = match addon.split_once('/') {
            Some((namespace, name)) => (Some(namespace.parse().map_err(|_| not())?), name),
            None => (None, addon),
        };
        Ok(Wanted { namespace, name: name.parse().map_err(|_| not())?, version })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}", self.name)?;
        match &self.version {
            Versions::Any => Ok(()),
            Versions::Exactly(version) => write!(f, "@{version}"),
            Versions::Within(versions) => write!(f, "@{versions}"),
        }
    }
}

impl Versions {
    fn admit(&self, version: &Version) -> bool {
        match self {
            Versions::Any => version.pre.is_empty(),
            Versions::Exactly(exactly) => exactly == version,
            Versions::Within(versions) => versions.matches(version),
        }
    }
}

/// A whole version is that very one; anything else is a requirement, as in `depends`.
impl FromStr for Versions {
    type Err = semver::Error;

    fn from_str(text: &str) -> Result<Versions, semver::Error> {
        match text.parse() {
            Ok(version) => Ok(Versions::Exactly(version)),
            Err(_) => text.parse().map(Versions::Within),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_namespace_and_a_version_where_they_say_so() {
        for text in ["redis", "lodger/redis", "redis@1.2.3", "lodger/redis@^1.2", "redis@>=1, <2", "redis@1.2.3-rc.1"] {
            let wanted: Wanted = text.parse().unwrap();
            assert_eq!(wanted.to_string(), text);
        }
        for text in ["", "@1", "a@", "a/b/c", "../x", "A", "a@y", "a@1@2", "/a", "a/", "./a", "a b", "*"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_whole_version_is_that_one_and_a_part_is_all_that_begin_so() {
        for (versions, fit, unfit) in [
            ("1.2.3", &["1.2.3"][..], &["1.2.4", "1.3.0"][..]),
            ("1.2", &["1.2.3", "1.9.0"], &["2.0.0", "1.1.0", "1.3.0-rc.1"]),
            (">=1, <3", &["1.0.0", "2.9.9"], &["3.0.0", "0.9.0"]),
            ("2.0.0-rc.1", &["2.0.0-rc.1"], &["2.0.0"]),
        ] {
            let versions: Versions = versions.parse().unwrap();
            assert!(fit.iter().all(|version| versions.admit(&version.parse().unwrap())), "{versions:?}");
            assert!(!unfit.iter().any(|version| versions.admit(&version.parse().unwrap())), "{versions:?}");
        }
        assert!(Versions::Any.admit(&Version::new(0, 0, 1)) && !Versions::Any.admit(&"1.0.0-a".parse().unwrap()));
    }
}

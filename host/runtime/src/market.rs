//! The marketplace: addons that were published, reviewed, and may be installed from here by others than who made them.
//!
//! ```text
//! publish ──→ under_review ──→ approved | verification_failed
//! ```
//!
//! A version is one digest for ever, also after its entry was deleted. A review looks at what [`Host::inspect`] looks at, and
//! whether images can be had, and ends once: with the reasons of every check. One that was cut off is begun anew; where an
//! engine does not answer it waits. *Approved* means that the addon is valid, here and under this policy. It does not mean that
//! it is trusted: whoever installs it still decides about its grant.

pub(crate) mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Cursor, Read};
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::addons::Incoming;
use crate::compiler::hex;
use crate::error::{Error, Result};
use crate::host::{Host, now_ms};
use crate::id::{AddonId, Id};
use crate::key::random;
use crate::lifecycle::UnknownState;
use crate::manifest::{Manifest, Problem};
use crate::package::{self, Package};
use crate::store::{EntryRow, Kept};
use crate::text::{cut_at, shown};

/// Entries that a namespace may have at a time.
const ENTRIES_MAX: u64 = 1000;
/// Hex digits of an id are twice as many.
const ID_BYTES: usize = 12;
/// Longest text that is searched for, in bytes.
const SEARCH_MAX: usize = 200;

/// Where an entry is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    UnderReview,
    Approved,
    VerificationFailed,
}

/// How a review has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Review {
    /// In their order; those after one that failed need not be there.
    pub checks: Vec<Check>,
    /// The digest of what it would be granted here.
    pub grant: Option<String>,
    /// The same in words.
    pub may: Vec<String>,
    /// What the image of each service was.
    pub images: BTreeMap<Id, String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Check {
    /// `manifest`, `component`, `grant` or `images`.
    pub check: String,
    pub passed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// What somebody gives to be published: read as far as it takes to know which addon it is.
#[derive(Debug)]
pub struct Submission {
    pub addon: AddonId,
    version: Option<Version>,
    manifest: Vec<u8>,
    /// Where there is more to it than its manifest.
    package: Option<Package>,
}

/// An addon in the marketplace.
#[derive(Clone, Debug)]
pub struct Entry {
    /// 24 hex digits.
    pub id: String,
    pub addon: AddonId,
    pub version: Version,
    pub digest: String,
    pub status: Status,
    /// Absent while it is under review.
    pub review: Option<Review>,
    /// Its `addon.json`, without values that look like secrets.
    pub manifest: Map<String, Value>,
    /// Seconds since 1970.
    pub published_at: i64,
}

/// The package of an approved entry, for whoever fetches it.
pub struct Published {
    /// As `lodger pack` writes it.
    pub archive: Box<dyn Read + Send>,
    /// Its manifest has values that are not shown, since they look like secrets.
    pub hides: bool,
}

impl Submission {
    /// A descriptor: an `addon.json` alone, of an addon without a component. One without a version gets the next of `0.0.N`.
    ///
    /// # Errors
    /// [`Error::Manifest`] where its shape or its names are wrong. Its rules are for the review.
    pub fn descriptor(manifest: &[u8]) -> Result<Submission> {
        let named = Manifest::named(manifest)?;
        if named.has_component {
            return Err(problem("component", "a descriptor brings no component: publish what `lodger pack` makes"));
        }
        // As it is kept: the same whatever stands between its words.
        let value: Value = serde_json::from_slice(manifest).map_err(|error| problem(".", &error.to_string()))?;
        Ok(Submission {
            addon: named.id,
            version: named.version,
            manifest: value.to_string().into_bytes(),
            package: None,
        })
    }
}

fn problem(path: &str, message: &str) -> Error {
    Error::Manifest { problems: vec![Problem { path: path.to_owned(), message: message.to_owned(), hint: None }] }
}

impl Host {
    /// The same for a package as an archive, which names its version.
    pub fn packed_submission(&self, packed: &[u8]) -> Result<Submission> {
        let package = Package::unpack("archive", packed, &self.policy.package)?;
        let Some(version) = package.manifest.version.clone() else {
            return Err(problem("version", "a package that is published names its version"));
        };
        let (addon, manifest) = (package.manifest.id.clone(), package.manifest_bytes.clone());
        Ok(Submission { addon, version: Some(version), manifest, package: Some(package) })
    }

    /// Publishes; `by` says who. The review begins at once where somebody runs [`Host::watch_market`]. What is there already
    /// and was not refused is answered as it is.
    ///
    /// # Errors
    /// [`Error::VersionPublished`] where the version has another digest, [`Error::MarketFull`].
    pub fn publish(&self, submission: Submission, by: &str) -> Result<Entry> {
        self.writable()?;
        let Submission { addon, version, manifest, package } = submission;
        let (version, manifest) = match version {
            Some(version) => (version, manifest),
            None => self.next_version(&addon, &manifest)?,
        };
        let text = String::from_utf8(manifest).map_err(|_| problem(".", "not UTF-8"))?;
        let row = EntryRow {
            id: hex(&random::<ID_BYTES>()?),
            digest: match &package {
                Some(package) => package.digest.clone(),
                None => Package::digest_of_manifest(text.as_bytes()),
            },
            addon,
            version,
            manifest: text,
            packed: package.is_some(),
            status: Status::UnderReview,
            review: None,
            published_by: by.to_owned(),
            published_at: now_ms() / 1000,
        };
        if let Some(package) = &package {
            self.home.put_published(&row.digest, &package::pack_fast(package)?)?;
        }
        let put = self.store.put_entry(&row, ENTRIES_MAX)?;
        if row.packed && matches!(put, Err(Kept::Taken | Kept::Full)) {
            // Nobody else has it: its digest is of this version, which has another, or of no entry.
            self.home.remove_published(&row.digest)?;
        }
        match put {
            Ok(()) => {
                self.market.notify_one();
                Ok(row.into())
            }
            Err(Kept::There(there)) => Ok((*there).into()),
            Err(Kept::Taken) => Err(Error::VersionPublished { addon: row.addon, version: row.version }),
            Err(Kept::Full) => Err(Error::MarketFull { namespace: row.addon.namespace, most: ENTRIES_MAX }),
        }
    }

    /// What a descriptor without a version is published as: the last `0.0.N` where nothing but that is new, else the next.
    /// Who publishes two at once gets an error for one, and asks again.
    fn next_version(&self, addon: &AddonId, manifest: &[u8]) -> Result<(Version, Vec<u8>)> {
        let counted = self.store.published_versions(addon)?.into_iter();
        let counted = counted.filter(|(version, _)| (version.major, version.minor) == (0, 0) && version.pre.is_empty());
        let last = counted.max_by_key(|(version, _)| version.patch);
        if let Some((version, digest)) = &last {
            let same = with_version(manifest, version)?;
            if Package::digest_of_manifest(&same) == *digest {
                return Ok((version.clone(), same));
            }
        }
        let next = Version::new(0, 0, last.map_or(0, |(version, _)| version.patch).saturating_add(1));
        let manifest = with_version(manifest, &next)?;
        Ok((next, manifest))
    }

    /// What is approved and has `text` in its names or its description; all that is where it is empty.
    pub fn published(&self, text: &str) -> Result<Vec<Entry>> {
        let wanted = cut_at(text, SEARCH_MAX).to_lowercase();
        let entries = self.store.entries(Status::Approved)?.into_iter().map(Entry::from);
        let has = |entry: &Entry| {
            let said = ["name", "display_name", "description"].map(|key| entry.manifest.get(key));
            let mut said = said.into_iter().flatten().filter_map(Value::as_str);
            entry.addon.to_string().contains(&wanted) || said.any(|said| said.to_lowercase().contains(&wanted))
        };
        Ok(entries.filter(has).collect())
    }

    /// Whatever its status.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`].
    pub fn entry(&self, id: &str) -> Result<Entry> {
        Ok(self.entry_row(id)?.into())
    }

    pub(crate) fn entry_row(&self, id: &str) -> Result<EntryRow> {
        // What is no id is none.
        self.store.entry(id)?.ok_or_else(|| Error::UnknownEntry(id.to_owned()))
    }

    /// What is to be fetched of an approved entry. Whoever fetches it compares its digest.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`], [`Error::NotApproved`].
    pub fn published_package(&self, id: &str) -> Result<Published> {
        let row = self.entry_row(id)?;
        if row.status != Status::Approved {
            return Err(Error::NotApproved { id: row.id, status: row.status.name() });
        }
        let archive: Box<dyn Read + Send> = if row.packed {
            Box::new(self.home.open_published(&row.digest)?)
        } else {
            Box::new(Cursor::new(package::pack_fast(&self.package_of(&row)?)?))
        };
        let whole: Map<String, Value> = serde_json::from_str(&row.manifest).unwrap_or_default();
        Ok(Published { archive, hides: told(&row.manifest) != whole })
    }

    /// Deletes an entry. What was installed of it stays.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`].
    pub fn unpublish(&self, id: &str) -> Result<()> {
        self.writable()?;
        if !self.store.delete_entry(id)? {
            return Err(Error::UnknownEntry(id.to_owned()));
        }
        // Its archive goes when the marketplace is looked after next.
        self.market.notify_one();
        Ok(())
    }

    /// The package of an entry: what has its digest, or an error.
    pub(crate) fn package_of(&self, row: &EntryRow) -> Result<Package> {
        let package = if row.packed {
            Package::unpack("archive", &self.home.read_published(&row.digest)?, &self.policy.package)?
        } else {
            Package::of_manifest(row.manifest.as_bytes())?
        };
        if package.digest != row.digest {
            let message = format!("is {}, not {}, which was published", package.digest, row.digest);
            return Err(Error::Package { package: row.id.clone(), message });
        }
        Ok(package)
    }

    /// What would be installed of an entry, as it was approved.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`], [`Error::NotApproved`]; and what [`Host::inspect`] refuses, since the policy may have changed.
    pub(crate) async fn approved(&self, id: &str) -> Result<(EntryRow, Review, Incoming)> {
        let row = self.entry_row(id)?;
        let review = row.review.clone().filter(|_| row.status == Status::Approved);
        let review = review.ok_or_else(|| Error::NotApproved { id: row.id.clone(), status: row.status.name() })?;
        let incoming = self.inspect_package(self.package_of(&row)?).await?;
        Ok((row, review, incoming))
    }

    /// Removes archives that no entry has.
    fn sweep_published(&self) -> Result<()> {
        let kept: BTreeSet<String> = self.store.packed_entries()?;
        self.home.keep_published(&kept)
    }
}

/// The manifest with a version in it.
fn with_version(manifest: &[u8], version: &Version) -> Result<Vec<u8>> {
    let mut value: Map<String, Value> =
        serde_json::from_slice(manifest).map_err(|error| problem(".", &shown(&error.to_string(), 200)))?;
    value.insert("version".to_owned(), Value::String(version.to_string()));
    Ok(Value::Object(value).to_string().into_bytes())
}

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Entry {
        let EntryRow { id, addon, version, digest, manifest, status, review, published_at, .. } = row;
        let manifest = told(&manifest);
        Entry { id, addon, version, digest, status, review, manifest, published_at }
    }
}

/// Words in the names of variables whose values are nobody's business.
const SECRET_WORDS: [&str; 7] = ["SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "CREDENTIAL", "KEY"];
/// What stands in their place.
const HIDDEN: &str = "(hidden)";

/// A manifest as it is shown: whoever puts a secret into a descriptor has told it to who reads this store, and to nobody else.
pub(crate) fn told(manifest: &str) -> Map<String, Value> {
    // It was parsed when it was published.
    let mut manifest: Map<String, Value> = serde_json::from_str(manifest).unwrap_or_default();
    let services = manifest.get_mut("services").and_then(Value::as_array_mut).into_iter().flatten();
    for service in services {
        let environment = service.get_mut("environment").and_then(Value::as_object_mut).into_iter().flatten();
        for (name, value) in environment {
            let name = name.to_ascii_uppercase();
            // `redis://user:secret@host`
            let signs_in = value.as_str().is_some_and(|text| text.contains("://") && text.contains('@'));
            let empty = value.as_str().is_none_or(str::is_empty);
            if !empty && (signs_in || SECRET_WORDS.iter().any(|word| name.contains(word))) {
                *value = Value::String(HIDDEN.to_owned());
            }
        }
    }
    manifest
}

impl Status {
    pub const ALL: [Status; 3] = [Status::UnderReview, Status::Approved, Status::VerificationFailed];

    /// Oakestra's word.
    pub const fn name(self) -> &'static str {
        match self {
            Status::UnderReview => "under_review",
            Status::Approved => "approved",
            Status::VerificationFailed => "verification_failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Status, UnknownState> {
        Status::ALL.into_iter().find(|status| status.name() == text).ok_or(UnknownState)
    }
}

//! The tables of the marketplace: what is published, and which digest every version that was ever published has.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use semver::Version;

use super::Store;
use super::rows::{collect, parsed, to_json};
use crate::error::Result;
use crate::id::{AddonId, Id};
use crate::market::{Review, Status};

// A version stays when its entry is deleted: it is one digest for ever.
pub(super) const TABLES: &str = "
CREATE TABLE published_version (
    addon TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (addon, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE market_entry (
    id TEXT PRIMARY KEY NOT NULL,
    addon TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    manifest TEXT NOT NULL,
    packed INTEGER NOT NULL,
    status TEXT NOT NULL,
    review TEXT,
    published_by TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    UNIQUE (addon, version),
    FOREIGN KEY (addon, version) REFERENCES published_version(addon, version)
) STRICT, WITHOUT ROWID;
";

/// An entry of the marketplace.
#[derive(Clone, Debug)]
pub(crate) struct EntryRow {
    pub id: String,
    pub addon: AddonId,
    pub version: Version,
    pub digest: String,
    /// Its `addon.json`.
    pub manifest: String,
    /// Whether there is more to it, in an archive.
    pub packed: bool,
    pub status: Status,
    /// How the review has ended.
    pub review: Option<Review>,
    pub published_by: String,
    /// Seconds since 1970.
    pub published_at: i64,
}

/// What keeps an entry from being made.
pub(crate) enum Kept {
    /// The version has another digest.
    Taken,
    /// The very entry is there, and not refused.
    There(Box<EntryRow>),
    /// The namespace has as many as it may.
    Full,
}

fn entry(row: &Row<'_>) -> rusqlite::Result<EntryRow> {
    let review: Option<String> = row.get("review")?;
    Ok(EntryRow {
        id: row.get("id")?,
        addon: parsed(row, "addon")?,
        version: parsed(row, "version")?,
        digest: row.get("digest")?,
        manifest: row.get("manifest")?,
        packed: row.get("packed")?,
        status: parsed(row, "status")?,
        review: review.map(|text| super::rows::parse_json(&text)).transpose()?,
        published_by: row.get("published_by")?,
        published_at: row.get("published_at")?,
    })
}

fn of_version(transaction: &Transaction<'_>, row: &EntryRow) -> rusqlite::Result<(Option<String>, Option<EntryRow>)> {
    let of = params![row.addon.to_string(), row.version.to_string()];
    let sql = "SELECT digest FROM published_version WHERE addon = ?1 AND version = ?2";
    let digest = transaction.query_row(sql, of, |row| row.get(0)).optional()?;
    let sql = "SELECT * FROM market_entry WHERE addon = ?1 AND version = ?2";
    Ok((digest, transaction.query_row(sql, of, entry).optional()?))
}

fn count(connection: &Connection, namespace: &Id) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM market_entry WHERE addon >= ?1 AND addon < ?2";
    // `/` is followed by `0`.
    connection.query_row(sql, params![format!("{namespace}/"), format!("{namespace}0")], |row| row.get(0))
}

impl Store {
    /// Makes an entry, in the place of one that was refused. The version has its digest from then on.
    pub fn put_entry(&self, row: &EntryRow, most: u64) -> Result<std::result::Result<(), Kept>> {
        self.write_if_ok("keep what is published", |transaction| {
            let (digest, there) = of_version(transaction, row)?;
            if digest.as_ref().is_some_and(|digest| *digest != row.digest) {
                return Ok(Err(Kept::Taken));
            }
            match there {
                Some(there) if there.status != Status::VerificationFailed => {
                    return Ok(Err(Kept::There(Box::new(there))));
                }
                Some(there) => {
                    transaction.execute("DELETE FROM market_entry WHERE id = ?1", [&there.id])?;
                }
                None if count(transaction, &row.addon.namespace)? >= most => return Ok(Err(Kept::Full)),
                None => {}
            }
            let (addon, version) = (row.addon.to_string(), row.version.to_string());
            if digest.is_none() {
                let sql = "INSERT INTO published_version (addon, version, digest) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![addon, version, row.digest])?;
            }
            transaction.execute(
                "INSERT INTO market_entry
                 (id, addon, version, digest, manifest, packed, status, published_by, published_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    row.id,
                    addon,
                    version,
                    row.digest,
                    row.manifest,
                    row.packed,
                    row.status.name(),
                    row.published_by,
                    row.published_at
                ],
            )?;
            Ok(Ok(()))
        })
    }

    /// Every version of an addon that was ever published, with its digest.
    pub fn published_versions(&self, addon: &AddonId) -> Result<Vec<(Version, String)>> {
        self.read("list published versions", |connection| {
            let sql = "SELECT * FROM published_version WHERE addon = ?1";
            collect(connection, sql, [addon.to_string()], |row| Ok((parsed(row, "version")?, row.get("digest")?)))
        })
    }

    pub fn entry(&self, id: &str) -> Result<Option<EntryRow>> {
        self.read("find what is published", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM market_entry WHERE id = ?1")?;
            statement.query_row([id], entry).optional()
        })
    }

    /// By name and version.
    pub fn entries(&self, status: Status) -> Result<Vec<EntryRow>> {
        self.read("list what is published", |connection| {
            let sql = "SELECT * FROM market_entry WHERE status = ?1 ORDER BY addon, published_at, id";
            collect(connection, sql, [status.name()], entry)
        })
    }

    /// The digests of packages that entries have.
    pub fn packed_entries(&self) -> Result<BTreeSet<String>> {
        self.read("list published packages", |connection| {
            let sql = "SELECT DISTINCT digest FROM market_entry WHERE packed";
            Ok(collect(connection, sql, [], |row| row.get(0))?.into_iter().collect())
        })
    }

    /// Notes how a review has ended. False where that is noted, or the entry is gone.
    pub fn end_review(&self, id: &str, status: Status, review: &Review) -> Result<bool> {
        self.write("note a review", |transaction| {
            let sql = "UPDATE market_entry SET status = ?2, review = ?3 WHERE id = ?1 AND status = ?4";
            let values = params![id, status.name(), to_json(review)?, Status::UnderReview.name()];
            Ok(transaction.execute(sql, values)? > 0)
        })
    }

    /// False where there is none.
    pub fn delete_entry(&self, id: &str) -> Result<bool> {
        self.write("delete what is published", |transaction| {
            Ok(transaction.execute("DELETE FROM market_entry WHERE id = ?1", [id])? > 0)
        })
    }
}

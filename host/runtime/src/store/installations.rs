//! The table of installations: entries of the marketplace that somebody wants to have here, and how far that has come. What
//! the addon itself is like, its own row says.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use semver::Version;

use super::Store;
use super::rows::{collect, parse_json, parsed, to_json};
use crate::error::Result;
use crate::id::AddonId;
use crate::manager::{Failure, Phase};

pub(super) const TABLES: &str = "
CREATE TABLE installation (
    id TEXT PRIMARY KEY NOT NULL,
    entry TEXT NOT NULL UNIQUE,
    addon TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    grant_digest TEXT NOT NULL,
    manifest TEXT NOT NULL,
    phase TEXT NOT NULL,
    failure TEXT,
    asked_by TEXT NOT NULL,
    asked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

#[derive(Clone, Debug)]
pub(crate) struct InstallationRow {
    pub id: String,
    /// In the marketplace; it may be deleted there.
    pub entry: String,
    pub addon: AddonId,
    pub version: Version,
    pub digest: String,
    /// What was accepted.
    pub grant_digest: String,
    pub manifest: String,
    pub phase: Phase,
    /// Why it came to a stop, or what it waits for.
    pub failure: Option<Failure>,
    pub asked_by: String,
    /// Seconds since 1970.
    pub asked_at: i64,
}

/// What keeps an installation from being noted: there is one of the entry, or of the addon.
pub(crate) enum InTheWay {
    Entry,
    Addon(Box<InstallationRow>),
}

fn installation(row: &Row<'_>) -> rusqlite::Result<InstallationRow> {
    let failure: Option<String> = row.get("failure")?;
    Ok(InstallationRow {
        id: row.get("id")?,
        entry: row.get("entry")?,
        addon: parsed(row, "addon")?,
        version: parsed(row, "version")?,
        digest: row.get("digest")?,
        grant_digest: row.get("grant_digest")?,
        manifest: row.get("manifest")?,
        phase: parsed(row, "phase")?,
        failure: failure.map(|text| parse_json(&text)).transpose()?,
        asked_by: row.get("asked_by")?,
        asked_at: row.get("asked_at")?,
    })
}

fn by(transaction: &Transaction<'_>, column: &str, value: &str) -> rusqlite::Result<Option<InstallationRow>> {
    let sql = format!("SELECT * FROM installation WHERE {column} = ?1");
    transaction.query_row(&sql, [value], installation).optional()
}

impl Store {
    pub fn put_installation(&self, row: &InstallationRow) -> Result<std::result::Result<(), InTheWay>> {
        self.write_if_ok("note an installation", |transaction| {
            if by(transaction, "entry", &row.entry)?.is_some() {
                return Ok(Err(InTheWay::Entry));
            }
            if let Some(other) = by(transaction, "addon", &row.addon.to_string())? {
                return Ok(Err(InTheWay::Addon(Box::new(other))));
            }
            transaction.execute(
                "INSERT INTO installation
                 (id, entry, addon, version, digest, grant_digest, manifest, phase, asked_by, asked_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    row.id,
                    row.entry,
                    row.addon.to_string(),
                    row.version.to_string(),
                    row.digest,
                    row.grant_digest,
                    row.manifest,
                    row.phase.name(),
                    row.asked_by,
                    row.asked_at,
                ],
            )?;
            Ok(Ok(()))
        })
    }

    pub fn installation(&self, id: &str) -> Result<Option<InstallationRow>> {
        self.read("find an installation", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM installation WHERE id = ?1")?;
            statement.query_row([id], installation).optional()
        })
    }

    /// Of an entry of the marketplace.
    pub fn installation_of(&self, entry: &str) -> Result<Option<InstallationRow>> {
        self.read("find an installation", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM installation WHERE entry = ?1")?;
            statement.query_row([entry], installation).optional()
        })
    }

    /// The oldest first.
    pub fn installations(&self) -> Result<Vec<InstallationRow>> {
        self.read("list installations", |connection| {
            collect(connection, "SELECT * FROM installation ORDER BY asked_at, id", [], installation)
        })
    }

    /// Moves on from a phase. False where somebody has moved it meanwhile.
    pub fn move_installation(&self, id: &str, from: Phase, to: Phase, failure: Option<&Failure>) -> Result<bool> {
        self.write("move an installation", |transaction| {
            let failure = failure.map(to_json).transpose()?;
            let sql = "UPDATE installation SET phase = ?3, failure = ?4 WHERE id = ?1 AND phase = ?2";
            Ok(transaction.execute(sql, params![id, from.name(), to.name(), failure])? > 0)
        })
    }

    /// False where it is not in this phase.
    pub fn delete_installation(&self, id: &str, phase: Phase) -> Result<bool> {
        self.write("forget an installation", |transaction| {
            let sql = "DELETE FROM installation WHERE id = ?1 AND phase = ?2";
            Ok(transaction.execute(sql, params![id, phase.name()])? > 0)
        })
    }
}

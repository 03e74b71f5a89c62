//! The table of volumes: which were made, so that one that is gone is missed, and not made anew without a word.
//!
//! A volume stays here for as long as it should exist, which may be longer than its addon is installed.

use std::collections::BTreeSet;

use rusqlite::{Row, params};

use super::Store;
use super::rows::collect;
use super::services::InstanceRow;
use crate::error::Result;
use crate::id::AddonId;
use crate::render::Instance;

pub(super) const TABLES: &str = "
CREATE TABLE volume (
    engine TEXT NOT NULL,
    name TEXT NOT NULL,
    addon TEXT NOT NULL,
    resource TEXT NOT NULL,
    lost INTEGER NOT NULL,
    PRIMARY KEY (engine, name)
) STRICT, WITHOUT ROWID;
";

/// A volume that was there, was gone, and was made anew, empty.
pub(crate) struct Lost {
    pub name: String,
    pub resource: String,
}

impl Store {
    /// The volumes an addon was ever given on an engine, and that were not taken away since.
    pub fn volumes(&self, addon: &AddonId, engine: &str) -> Result<BTreeSet<String>> {
        self.read("list volumes", |connection| {
            let sql = "SELECT name FROM volume WHERE addon = ?1 AND engine = ?2";
            Ok(collect(connection, sql, params![addon.to_string(), engine], |row| row.get(0))?.into_iter().collect())
        })
    }

    /// Commits that an instance has these volumes now, and that those among them that are `lost` were gone.
    pub fn note_volumes<'a>(
        &self,
        of: &InstanceRow,
        names: impl Iterator<Item = &'a String>,
        lost: &BTreeSet<String>,
    ) -> Result<()> {
        self.write("note volumes", |transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO volume (engine, name, addon, resource, lost) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET lost = lost OR ?5",
            )?;
            for name in names {
                let Instance { addon, resource, .. } = &of.instance;
                statement.execute(params![of.engine, name, addon.to_string(), resource, lost.contains(name)])?;
            }
            Ok(())
        })
    }

    /// What an addon has lost, by name.
    pub fn lost_volumes(&self, addon: &AddonId) -> Result<Vec<Lost>> {
        self.read("list volumes", |connection| {
            let sql = "SELECT name, resource FROM volume WHERE addon = ?1 AND lost ORDER BY name";
            let lost = |row: &Row<'_>| Ok(Lost { name: row.get(0)?, resource: row.get(1)? });
            collect(connection, sql, [addon.to_string()], lost)
        })
    }

    /// Commits that somebody has started anew what had lost these volumes: it need not be told any longer.
    pub fn forgive_losses(&self, engine: &str, names: &[&String]) -> Result<()> {
        self.write("note volumes", |transaction| {
            let sql = "UPDATE volume SET lost = FALSE WHERE engine = ?1 AND name = ?2";
            names.iter().try_for_each(|name| transaction.execute(sql, params![engine, name]).map(drop))
        })
    }

    /// Forgets one volume: it is gone as it should be.
    pub fn forget_volume(&self, engine: &str, name: &str) -> Result<()> {
        self.write("forget a volume", |transaction| {
            transaction.execute("DELETE FROM volume WHERE engine = ?1 AND name = ?2", params![engine, name])?;
            Ok(())
        })
    }

    /// Forgets the volumes of a resource, or of the addon itself: they are gone as they should be.
    pub fn forget_volumes(&self, addon: &AddonId, resource: &str, engine: &str) -> Result<()> {
        self.write("forget volumes", |transaction| {
            let sql = "DELETE FROM volume WHERE addon = ?1 AND resource = ?2 AND engine = ?3";
            transaction.execute(sql, params![addon.to_string(), resource, engine])?;
            Ok(())
        })
    }
}

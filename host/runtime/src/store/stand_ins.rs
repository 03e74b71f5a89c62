//! The table of stand-ins: core containers of the operator that were stopped for a service of an addon. A row is there from
//! before the container is stopped until after it was started again; that neither is forgotten hangs on it.

use rusqlite::{OptionalExtension as _, Row, params};

use super::Store;
use super::rows::{collect, from_json, parsed, to_json};
use crate::error::Result;
use crate::grant::Grant;
use crate::id::{AddonId, Id};
use crate::render::{Instance, Places};

pub(super) const TABLES: &str = "
CREATE TABLE stand_in (
    addon TEXT PRIMARY KEY NOT NULL REFERENCES addon(id),
    service TEXT NOT NULL,
    engine TEXT NOT NULL,
    container TEXT NOT NULL,
    places TEXT NOT NULL,
    standing INTEGER NOT NULL,
    UNIQUE (engine, container)
) STRICT, WITHOUT ROWID;
";

/// A core container and the service in its place.
#[derive(Clone, Debug)]
pub(crate) struct StandInRow {
    pub addon: AddonId,
    pub service: Id,
    pub engine: String,
    pub container: String,
    /// Where the container was found.
    pub places: Places,
    /// False once the container is to be started again, and the service to be gone before it.
    pub standing: bool,
}

impl StandInRow {
    /// Whether it is what the addon is granted now.
    pub fn is_as_granted(&self, grant: &Grant) -> bool {
        grant.stands_in.as_ref().is_some_and(|part| {
            (&part.service, part.engine.as_str(), &part.container) == (&self.service, &self.engine, &self.container)
        })
    }

    /// The instance in its place.
    pub fn instance(&self) -> Instance {
        Instance { addon: self.addon.clone(), service: self.service.clone(), resource: String::new() }
    }
}

fn stand_in(row: &Row<'_>) -> rusqlite::Result<StandInRow> {
    Ok(StandInRow {
        addon: parsed(row, "addon")?,
        service: parsed(row, "service")?,
        engine: row.get("engine")?,
        container: row.get("container")?,
        places: from_json(row, "places")?,
        standing: row.get("standing")?,
    })
}

impl Store {
    pub fn stand_in(&self, addon: &AddonId) -> Result<Option<StandInRow>> {
        self.read("find a stand-in", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM stand_in WHERE addon = ?1")?;
            statement.query_row([addon.to_string()], stand_in).optional()
        })
    }

    pub fn stand_ins(&self) -> Result<Vec<StandInRow>> {
        self.read("list stand-ins", |connection| {
            collect(connection, "SELECT * FROM stand_in ORDER BY addon", [], stand_in)
        })
    }

    /// Commits that a container is about to be stopped for a service. `Err` within is the addon that has it.
    pub fn put_stand_in(&self, row: &StandInRow) -> Result<std::result::Result<(), AddonId>> {
        self.write_if_ok("note a stand-in", |transaction| {
            let sql = "SELECT addon FROM stand_in WHERE engine = ?1 AND container = ?2";
            let values = params![row.engine, row.container];
            let holder = transaction.prepare_cached(sql)?.query_row(values, |row| parsed(row, "addon")).optional()?;
            if let Some(holder) = holder.filter(|holder| *holder != row.addon) {
                return Ok(Err(holder));
            }
            transaction.execute(
                "INSERT OR REPLACE INTO stand_in (addon, service, engine, container, places, standing)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    row.addon.to_string(),
                    row.service.as_str(),
                    row.engine,
                    row.container,
                    to_json(&row.places)?,
                    row.standing
                ],
            )?;
            Ok(Ok(()))
        })
    }

    /// Commits that the container an addon stands in for is to be started again. With `stop` its service is not wanted any
    /// more either; without, it shows as failed until somebody has it tried again.
    pub fn end_stand_in(&self, addon: &AddonId, stop: bool) -> Result<()> {
        self.write("note that a stand-in ends", |transaction| {
            let id = addon.to_string();
            if stop {
                transaction.execute(
                    "UPDATE instance SET wanted = 'stopped', disk_bytes = NULL
                     WHERE addon = ?1 AND resource = '' AND wanted = 'running'
                        AND service = (SELECT service FROM stand_in WHERE addon = ?1)",
                    [&id],
                )?;
            }
            transaction.execute("UPDATE stand_in SET standing = 0 WHERE addon = ?1", [&id])?;
            Ok(())
        })
    }

    /// Forgets a stand-in whose container was started again.
    pub fn forget_stand_in(&self, addon: &AddonId) -> Result<()> {
        self.write("forget a stand-in", |transaction| {
            transaction.execute("DELETE FROM stand_in WHERE addon = ?1", [addon.to_string()])?;
            Ok(())
        })
    }
}

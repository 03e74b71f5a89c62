//! The table of slots: which addon has claimed which. Whether the claim holds, the addon's state says.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::Store;
use super::rows::parsed;
use super::statements::set_state;
use crate::error::Result;
use crate::id::{AddonId, Id};
use crate::lifecycle::AddonState;

pub(super) const TABLES: &str = "
CREATE TABLE slot (
    name TEXT PRIMARY KEY NOT NULL,
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
";

/// Who has claimed a slot last.
pub(crate) struct Holder {
    pub addon: AddonId,
    pub state: AddonState,
    /// It has something to be asked. Without, its services alone stand in for a container.
    pub has_component: bool,
}

fn holder(connection: &Connection, slot: &str) -> rusqlite::Result<Option<Holder>> {
    let sql = "SELECT addon.id, addon.state, addon.component_digest IS NOT NULL AS has_component
               FROM slot JOIN addon ON addon.id = slot.addon WHERE slot.name = ?1";
    let read = |row: &Row<'_>| {
        Ok(Holder { addon: parsed(row, "id")?, state: parsed(row, "state")?, has_component: row.get("has_component")? })
    };
    connection.prepare_cached(sql)?.query_row([slot], read).optional()
}

impl Store {
    /// Who has claimed a slot last.
    pub fn slot(&self, name: &str) -> Result<Option<Holder>> {
        self.read("find out who fills a slot", |connection| holder(connection, name))
    }

    /// Commits that an addon is being enabled, and has the slot from now on. `Err` within is the one that has it.
    pub fn claim_slot(&self, name: &str, addon: &AddonId) -> Result<std::result::Result<(), AddonId>> {
        self.write_if_ok("note who fills a slot", |transaction| {
            match holder(transaction, name)? {
                Some(holder) if holder.addon != *addon && holder.state.holds_slots() => {
                    return Ok(Err(holder.addon));
                }
                _ => {}
            }
            let id = addon.to_string();
            transaction.execute("INSERT OR REPLACE INTO slot (name, addon) VALUES (?1, ?2)", params![name, id])?;
            set_state(transaction, &id, &AddonState::Enabling)?;
            Ok(Ok(()))
        })
    }
}

/// Drops the claims of an addon to any slot but the one that its manifest names now.
pub(super) fn keep_slot(transaction: &Transaction<'_>, addon: &str, slot: Option<&Id>) -> rusqlite::Result<()> {
    let sql = "DELETE FROM slot WHERE addon = ?1 AND name IS NOT ?2";
    transaction.execute(sql, params![addon, slot.map(Id::as_str)])?;
    Ok(())
}

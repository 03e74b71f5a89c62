//! Faults in a row, from the record of calls, and the quarantine they lead to.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::Store;
use super::rows::parsed;
use super::statements::{INTERRUPTED, set_state};
use crate::error::Result;
use crate::event::Event;
use crate::hook::HookName;
use crate::id::AddonId;
use crate::lifecycle::{self, AddonState};
use crate::outcome::FAULTS;

/// The newest call of an addon: faults up to it are not counted any more.
const FORGIVEN: &str = "(SELECT coalesce(max(id), '') FROM call WHERE addon = ?1)";

/// How many of the newest calls of a hook have ended in a fault, up to `most`. One that was cut off tells nothing.
fn faults_in_a_row(connection: &Connection, addon: &str, hook: HookName, most: u32) -> rusqlite::Result<u32> {
    let sql = "SELECT outcome FROM call WHERE addon = ?1 AND hook = ?2 AND outcome <> ?3
                   AND id > (SELECT forgiven FROM addon WHERE id = ?1) ORDER BY id DESC LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let outcomes = statement.query_map(params![addon, hook.name(), INTERRUPTED, most], |row| row.get(0))?;
    let outcomes: Vec<String> = outcomes.collect::<rusqlite::Result<_>>()?;
    let faults = outcomes.iter().take_while(|outcome| FAULTS.contains(&outcome.as_str()));
    Ok(u32::try_from(faults.count()).unwrap_or(most))
}

impl Store {
    /// Commits that an addon is quarantined, where the newest calls of a hook were so many faults. True when it is. They are
    /// not counted a second time, so that an addon that is let try again may fail as often again.
    pub fn quarantine(&self, id: &AddonId, hook: HookName, most: u32, event: Option<&Event>) -> Result<bool> {
        // Calls of read hooks wait to be written.
        self.shared.write_waiting();
        let id = id.to_string();
        let done = self.write_if_ok("note a quarantine", |transaction| {
            let state = "SELECT state FROM addon WHERE id = ?1";
            let read = |row: &Row<'_>| parsed::<AddonState>(row, "state");
            let state = transaction.query_row(state, [&id], read).optional()?;
            let Some(state) = state.and_then(|state| lifecycle::quarantined(&state, hook)) else { return Ok(Err(())) };
            if faults_in_a_row(transaction, &id, hook, most)? < most {
                return Ok(Err(()));
            }
            set_state(transaction, &id, &state)?;
            let sql = format!("UPDATE addon SET quarantined_after = ?2, forgiven = {FORGIVEN} WHERE id = ?1");
            transaction.execute(&sql, params![id, most])?;
            self.tell(transaction, event)?;
            Ok(Ok(()))
        })?;
        Ok(done.is_ok())
    }

    /// After how many faults in a row an addon was last quarantined.
    pub fn quarantined_after(&self, id: &AddonId) -> Result<u32> {
        self.read("find out why an addon is quarantined", |connection| {
            let sql = "SELECT quarantined_after FROM addon WHERE id = ?1";
            connection.query_row(sql, [id.to_string()], |row| row.get(0))
        })
    }
}

/// What a version that serves no more has done does not count against the one that does.
pub(super) fn forgive(transaction: &Transaction<'_>, addon: &str) -> rusqlite::Result<()> {
    transaction.execute(&format!("UPDATE addon SET forgiven = {FORGIVEN} WHERE id = ?1"), [addon])?;
    Ok(())
}

//! The table of operations: requests that are on record, from before their work begins.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::Store;
use super::rows::{collect, parsed};
use crate::error::Result;
use crate::host::now_ms;
use crate::operations::OperationState;
use crate::policy::Retention;

// Ids are ordered by time.
pub(super) const TABLES: &str = "
CREATE TABLE operation (
    id TEXT PRIMARY KEY NOT NULL,
    verb TEXT NOT NULL,
    subject TEXT,
    actor TEXT NOT NULL,
    key TEXT,
    fingerprint BLOB NOT NULL,
    state TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    status INTEGER,
    answer TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_of ON operation (actor);
CREATE INDEX operation_key ON operation (actor, key) WHERE key IS NOT NULL;
CREATE INDEX operation_running ON operation (state) WHERE state = 'running';
";

#[derive(Clone, Debug)]
pub(crate) struct OperationRow {
    pub id: String,
    pub verb: String,
    pub subject: Option<String>,
    pub actor: String,
    pub key: Option<String>,
    pub fingerprint: [u8; 32],
    pub state: OperationState,
    pub started_at: i64,
    pub ended_at: Option<i64>,
    pub status: Option<u16>,
    pub answer: Option<String>,
}

/// What keeps an operation from being begun: there was one under its key.
#[derive(Debug)]
pub(crate) enum Found {
    Running(OperationRow),
    /// It was asked something else.
    Other(OperationRow),
    Ended(OperationRow),
}

fn operation(row: &Row<'_>) -> rusqlite::Result<OperationRow> {
    Ok(OperationRow {
        id: row.get("id")?,
        verb: row.get("verb")?,
        subject: row.get("subject")?,
        actor: row.get("actor")?,
        key: row.get("key")?,
        fingerprint: row.get("fingerprint")?,
        state: parsed(row, "state")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        status: row.get("status")?,
        answer: row.get("answer")?,
    })
}

impl Store {
    /// Commits that an operation is about to begin.
    pub fn begin_operation(&self, new: &OperationRow) -> Result<std::result::Result<(), Found>> {
        let keep = self.shared.retention;
        self.write_if_ok("note an operation", |transaction| {
            if let Some(found) = under_key(transaction, new)? {
                return Ok(Err(found));
            }
            transaction.execute(
                "INSERT INTO operation (id, verb, subject, actor, key, fingerprint, state, started_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    new.id,
                    new.verb,
                    new.subject,
                    new.actor,
                    new.key,
                    new.fingerprint,
                    new.state.name(),
                    new.started_at
                ],
            )?;
            prune(transaction, &new.actor, keep).map(Ok)
        })
    }

    /// Commits how an operation has ended.
    pub fn end_operation(&self, end: &OperationRow) -> Result<()> {
        self.write("note the end of an operation", |transaction| {
            let sql = "UPDATE operation SET state = ?2, ended_at = ?3, status = ?4, answer = ?5 WHERE id = ?1";
            transaction.execute(sql, params![end.id, end.state.name(), end.ended_at, end.status, end.answer])?;
            Ok(())
        })
    }

    /// Commits that an operation was cut off, if it has not ended.
    pub fn interrupt_operation(&self, id: &str) -> Result<()> {
        self.write("note that an operation was cut off", |transaction| {
            let sql = "UPDATE operation SET state = 'interrupted' WHERE id = ?1 AND state = 'running'";
            transaction.execute(sql, [id])?;
            Ok(())
        })
    }

    pub fn operation(&self, id: &str) -> Result<Option<OperationRow>> {
        self.read("find an operation", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM operation WHERE id = ?1")?;
            statement.query_row([id], operation).optional()
        })
    }

    /// The newest first, without their answers, from before the one with the id `before`; of one who asked, or of all.
    pub fn operations(&self, actor: Option<&str>, before: Option<&str>, most: u32) -> Result<Vec<OperationRow>> {
        self.read("list operations", |connection| {
            let of = if actor.is_some() { "actor = ?1" } else { "?1 IS NULL" };
            let sql = format!(
                "SELECT id, verb, subject, actor, key, fingerprint, state, started_at, ended_at, status, NULL AS answer
                 FROM operation WHERE {of} AND id < ?2 ORDER BY id DESC LIMIT ?3"
            );
            // No id is as great: they are of hexadecimal digits.
            collect(connection, &sql, params![actor, before.unwrap_or("g"), most], operation)
        })
    }

    /// The ids of those that are under way, or were cut off unnoticed.
    pub fn operations_running(&self) -> Result<Vec<String>> {
        self.read("list operations", |connection| {
            collect(connection, "SELECT id FROM operation WHERE state = 'running'", [], |row| row.get(0))
        })
    }
}

/// The newest operation under the key of a new one, where that keeps it from being begun.
fn under_key(connection: &Connection, new: &OperationRow) -> rusqlite::Result<Option<Found>> {
    let sql = "SELECT * FROM operation WHERE actor = ?1 AND key = ?2 ORDER BY id DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row(params![new.actor, new.key], operation).optional()?;
    Ok(found.and_then(|found| match found.state {
        _ if found.fingerprint != new.fingerprint => Some(Found::Other(found)),
        OperationState::Running => Some(Found::Running(found)),
        OperationState::Interrupted => None,
        OperationState::Done | OperationState::Failed if found.may_be_asked_again() => None,
        OperationState::Done | OperationState::Failed => Some(Found::Ended(found)),
    }))
}

/// Drops operations that have ended and are too many of one who asks, or too old.
fn prune(transaction: &Transaction<'_>, actor: &str, keep: Retention) -> rusqlite::Result<()> {
    // Ids begin with the time: milliseconds since 1970, in 12 hex digits.
    let too_old = format!("{:012x}", (now_ms() - i64::from(keep.operation_days) * 86_400_000).max(0));
    transaction.execute("DELETE FROM operation WHERE id < ?1 AND state <> 'running'", [too_old])?;
    transaction.execute(
        "DELETE FROM operation WHERE actor = ?1 AND state <> 'running'
         AND id <= (SELECT id FROM operation WHERE actor = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        params![actor, keep.operations],
    )?;
    Ok(())
}

//! The tables of events: what has happened and somebody is to hear of, and how far each listener has come.
//!
//! An event is written in the transaction of the change it tells of, or not at all; where nobody listens and nobody has asked
//! for the log of all, nothing is. A listener's cursor moves in the transaction that notes the end of the call that told it: what was told and not noted is told
//! again, and nothing is left out but what has failed too often, or what `[retention]` drops.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension as _, Params, Row, Transaction, params};

use super::Store;
use super::rows::{collect, from_json, parsed, to_json};
use super::statements::AS_IT_SERVES;
use crate::bindings::{EventRecord, Pair};
use crate::error::Result;
use crate::event::{APP_ADDED, APP_PLAN_CHANGED, APP_REMOVED, Delivery, Event};
use crate::host::{new_call_id, now_ms};
use crate::id::AddonId;
use crate::lifecycle::AddonState;
use crate::policy::Retention;

/// `since` is what had happened when it began to listen; `lost` counts events that went before they could be told.
pub(super) const TABLES: &str = "
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    addon TEXT,
    app TEXT,
    alias TEXT,
    resource TEXT,
    service TEXT,
    details TEXT NOT NULL
) STRICT;
CREATE TABLE listener (
    addon TEXT PRIMARY KEY NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    since INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    retry_at INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE left_out (
    addon TEXT NOT NULL REFERENCES listener(addon) ON DELETE CASCADE,
    sequence INTEGER NOT NULL REFERENCES event(sequence) ON DELETE CASCADE,
    PRIMARY KEY (addon, sequence)
) STRICT, WITHOUT ROWID;
";

/// Whether an addon listens to an event, which is none about itself.
const HEARS: &str = "addon.id IS NOT event.addon
    AND EXISTS (SELECT 1 FROM json_each(addon.events) AS pattern WHERE event.kind GLOB pattern.value)";

/// How often a listener is told the same before it is left out, and how long until the second time; four times as long
/// until each further one.
const TIMES: u32 = 5;
const FIRST_PAUSE_MS: i64 = 1_000;
/// Events between two looks for those that need not be kept.
const PRUNE_EACH: i64 = 64;

/// What the end of a call of `after` changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub sequence: u64,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Told,
    /// It is told again.
    Failed,
    /// It is not told again.
    LeftOut,
}

/// Somebody who is asked and told.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub addon: AddonId,
    pub patterns: Vec<String>,
    /// Of the version that serves.
    pub state: AddonState,
    pub failures: u32,
    pub lost: u32,
    pub left_out: u32,
}

/// An event as it was noted, and how far it has come with whom.
pub(crate) struct Noted {
    pub event: EventRecord,
    pub listeners: BTreeMap<AddonId, Delivery>,
}

impl Store {
    /// An event to be noted with a change, where anybody is to hear of it.
    pub fn event(&self, kind: &str, addon: Option<&str>, actor: &str) -> Event {
        if self.tells {
            self.raised.store(true, Ordering::Relaxed);
            self.news.notify_one();
        }
        let (id, kind, actor) = (new_call_id(), kind.to_owned(), actor.to_owned());
        Event { id, kind, actor, at: now_ms(), addon: addon.map(str::to_owned), ..Event::default() }
    }

    /// Has all events noted from now on, by every process of the home. Returns since when they are, in milliseconds since 1970.
    pub fn keep_events(&self) -> Result<i64> {
        if let Some(since) = self.read("look for the log of events", begun)? {
            return Ok(since);
        }
        let now = now_ms();
        self.write("begin the log of events", |transaction| {
            let sql = "INSERT OR IGNORE INTO meta (name, value) VALUES (?1, ?2)";
            transaction.execute(sql, params![LOG, now.to_string()])?;
            Ok(begun(transaction)?.unwrap_or(now))
        })
    }

    /// The oldest events first after the one with this number, with how far each has come.
    pub fn events_after(&self, after: i64, most: u32) -> Result<Vec<Noted>> {
        self.read("list events", |connection| {
            noted(
                connection,
                "SELECT * FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
                params![after, most],
            )
        })
    }

    /// Whether an event was raised since this was asked last.
    pub fn has_raised(&self) -> bool {
        self.raised.swap(false, Ordering::Relaxed)
    }

    /// Waits until one is about to be noted.
    pub async fn next_raised(&self) {
        self.news.notified().await;
    }

    /// Commits an event that comes with no change of ours.
    pub fn raise(&self, event: &Event) -> Result<()> {
        // An embedder may raise many, where nobody is ever told.
        let is_heard = self.tells || self.read("look for the log of events", begun)?.is_some();
        if !is_heard {
            return Ok(());
        }
        self.write("note an event", |transaction| tell(transaction, event, self.shared.retention))
    }

    /// All who listen, in the order of their names.
    pub fn listeners(&self) -> Result<Vec<Listener>> {
        self.read("list who listens to events", |connection| {
            let sql = format!(
                "SELECT addon.id, addon.events, {AS_IT_SERVES} AS serves, failures, lost,
                        (SELECT count(*) FROM left_out WHERE left_out.addon = addon.id) AS left_out
                 FROM listener JOIN addon ON addon.id = listener.addon ORDER BY addon.id"
            );
            collect(connection, &sql, [], |row| {
                Ok(Listener {
                    addon: parsed(row, "id")?,
                    patterns: from_json(row, "events")?,
                    state: parsed(row, "serves")?,
                    failures: row.get("failures")?,
                    lost: row.get("lost")?,
                    left_out: row.get("left_out")?,
                })
            })
        })
    }

    /// The number of the newest event.
    pub fn last_event(&self) -> Result<i64> {
        self.read("find the newest event", |connection| connection.query_row(LAST, [], |row| row.get(0)))
    }

    /// What a listener is to be told next, up to an event; `None` where there is nothing, or not yet.
    pub fn next_event(&self, listener: &AddonId, last: i64) -> Result<Option<EventRecord>> {
        self.read_to_change("find an event", |connection| {
            let sql = format!(
                "SELECT event.* FROM listener JOIN addon ON addon.id = listener.addon
                 JOIN event ON event.sequence > listener.cursor AND event.sequence <= ?2
                 WHERE listener.addon = ?1 AND listener.retry_at <= ?3 AND {HEARS} ORDER BY event.sequence LIMIT 1"
            );
            connection.prepare_cached(&sql)?.query_row(params![listener.to_string(), last, now_ms()], event).optional()
        })
    }

    /// Commits that a listener is not told of an event any more.
    pub fn leave_out(&self, listener: &AddonId, sequence: u64) -> Result<()> {
        let id = listener.to_string();
        let told = Told { sequence, end: End::LeftOut };
        self.write("note that an event is left out", |transaction| end_of_telling(transaction, &id, told))
    }

    /// The newest events first, with how far each has come.
    pub fn events(&self, most: u32) -> Result<Vec<Noted>> {
        self.read("list events", |connection| {
            noted(connection, "SELECT * FROM event ORDER BY sequence DESC LIMIT ?1", [most])
        })
    }
}

/// In the table `meta`: since when all events are noted, once somebody has asked for them.
const LOG: &str = "event-log";

fn begun(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([LOG], |row| parsed(row, "value")).optional()
}

/// The newest there was, whether or not it is kept.
const LAST: &str = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'";

/// The events that a query finds, with how far each has come.
fn noted(connection: &Connection, query: &str, params: impl Params) -> rusqlite::Result<Vec<Noted>> {
    let sql = format!(
        "SELECT addon.id AS listener, event.sequence <= listener.cursor AS told,
                EXISTS (SELECT 1 FROM left_out WHERE left_out.addon = listener.addon
                        AND left_out.sequence = event.sequence) AS left_out
         FROM event JOIN listener ON event.sequence > listener.since
         JOIN addon ON addon.id = listener.addon WHERE event.sequence = ?1 AND {HEARS}"
    );
    let mut noted = Vec::new();
    for event in collect(connection, query, params, event)? {
        let listeners = collect(connection, &sql, [event.sequence.cast_signed()], delivery)?;
        noted.push(Noted { event, listeners: listeners.into_iter().collect() });
    }
    Ok(noted)
}

fn event(row: &Row<'_>) -> rusqlite::Result<EventRecord> {
    let details: Vec<(String, String)> = from_json(row, "details")?;
    Ok(EventRecord {
        id: row.get("id")?,
        sequence: row.get::<_, i64>("sequence")?.cast_unsigned(),
        kind: row.get("kind")?,
        at_ms: row.get::<_, i64>("at")?.cast_unsigned(),
        actor: row.get("actor")?,
        addon: row.get("addon")?,
        app: row.get("app")?,
        alias: row.get("alias")?,
        key: row.get("resource")?,
        service: row.get("service")?,
        details: details.into_iter().map(|(name, value)| Pair { name, value }).collect(),
    })
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<(AddonId, Delivery)> {
    let delivery = match (row.get("told")?, row.get("left_out")?) {
        (_, true) => Delivery::LeftOut,
        (true, false) => Delivery::Told,
        (false, false) => Delivery::Waiting,
    };
    Ok((parsed(row, "listener")?, delivery))
}

/// Notes an event where somebody is to hear of it, or the log of all is kept: one look, in a transaction that is synced. What it says of its resource is read here, before that changes.
pub(super) fn tell(transaction: &Transaction<'_>, event: &Event, keep: Retention) -> rusqlite::Result<()> {
    let heard = "SELECT 1 FROM meta WHERE name = ?3 UNION ALL
                 SELECT 1 FROM listener JOIN addon ON addon.id = listener.addon
                 JOIN json_each(addon.events) AS pattern ON ?1 GLOB pattern.value WHERE addon.id IS NOT ?2";
    if !transaction.prepare_cached(heard)?.exists(params![event.kind, event.addon, LOG])? {
        return Ok(());
    }
    let mut event = event.clone();
    if let Some(key) = &event.resource {
        let sql = "SELECT app, alias, plan, guest_id IS NOT NULL FROM resource WHERE key = ?1";
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let found: Option<(String, String, Option<String>, bool)> =
            transaction.prepare_cached(sql)?.query_row([key], read).optional()?;
        let Some((app, alias, plan, was_made)) = found else { return Ok(()) };
        // What was never added is not removed.
        if event.kind == APP_REMOVED && !was_made {
            return Ok(());
        }
        (event.app, event.alias) = (Some(app), Some(alias).filter(|alias| !alias.is_empty()));
        event = match (event.kind.as_str(), plan) {
            (APP_ADDED, Some(plan)) => event.with("plan", plan),
            (APP_PLAN_CHANGED, Some(plan)) => event.with("from", plan),
            _ => event,
        };
    }
    let details: Vec<(&str, &str)> = event.details.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
    transaction
        .prepare_cached(
            "INSERT INTO event (id, kind, at, actor, addon, app, alias, resource, service, details)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            event.id,
            event.kind,
            event.at,
            event.actor,
            event.addon,
            event.app,
            event.alias,
            event.resource,
            event.service,
            to_json(&details)?
        ])?;
    if transaction.last_insert_rowid() % PRUNE_EACH == 0 { prune(transaction, keep) } else { Ok(()) }
}

/// Drops events that are too many or too old, told or not: whoever has missed one is found to have.
fn prune(transaction: &Transaction<'_>, keep: Retention) -> rusqlite::Result<()> {
    let too_old = now_ms() - i64::from(keep.event_days) * 86_400_000;
    let gone: i64 = transaction.query_row(
        "SELECT max(coalesce((SELECT max(sequence) FROM event) - ?1, 0),
                    coalesce((SELECT max(sequence) FROM event WHERE at < ?2), 0))",
        params![keep.events, too_old],
        |row| row.get(0),
    )?;
    transaction.execute(
        &format!(
            "UPDATE listener SET lost = lost + (SELECT count(*) FROM event JOIN addon ON addon.id = listener.addon
                 WHERE event.sequence > listener.cursor AND event.sequence <= ?1 AND {HEARS}),
             cursor = max(cursor, ?1), failures = 0, retry_at = 0 WHERE cursor < ?1"
        ),
        [gone],
    )?;
    transaction.execute("DELETE FROM event WHERE sequence <= ?1", [gone])?;
    Ok(())
}

/// After an addon has come to another state or another version: whether it listens, from now on where it did not.
pub(super) fn listen(transaction: &Transaction<'_>, addon: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM listener WHERE addon IN
                 (SELECT id FROM addon WHERE id = ?1 AND (events = '[]' OR state = 'installed'))",
        )?
        .execute([addon])?;
    transaction
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO listener (addon, since, cursor)
             SELECT id, ({LAST}), ({LAST}) FROM addon
             WHERE id = ?1 AND events <> '[]' AND state IN ('enabled', 'degraded')"
        ))?
        .execute([addon])?;
    Ok(())
}

/// How a call of `after` has ended.
pub(super) fn end_of_telling(transaction: &Transaction<'_>, addon: &str, told: Told) -> rusqlite::Result<()> {
    let sequence = told.sequence.cast_signed();
    let sql = "SELECT failures FROM listener WHERE addon = ?1 AND cursor < ?2";
    let failures: Option<u32> =
        transaction.prepare_cached(sql)?.query_row(params![addon, sequence], |row| row.get(0)).optional()?;
    let Some(failures) = failures else { return Ok(()) };
    if told.end == End::Failed && failures + 1 < TIMES {
        let retry_at = now_ms() + (FIRST_PAUSE_MS << (2 * failures));
        let sql = "UPDATE listener SET failures = ?2, retry_at = ?3 WHERE addon = ?1";
        transaction.execute(sql, params![addon, failures + 1, retry_at])?;
        return Ok(());
    }
    let sql = "UPDATE listener SET cursor = ?2, failures = 0, retry_at = 0 WHERE addon = ?1";
    transaction.prepare_cached(sql)?.execute(params![addon, sequence])?;
    if told.end != End::Told && is_there(transaction, sequence)? {
        transaction.execute("INSERT OR IGNORE INTO left_out VALUES (?1, ?2)", params![addon, sequence])?;
    }
    Ok(())
}

fn is_there(connection: &Connection, sequence: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM event WHERE sequence = ?1")?.exists([sequence])
}

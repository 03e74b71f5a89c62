//! The statements: what is read from and written to the tables.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::Store;
use super::events::{end_of_telling, listen, tell};
use super::rows::{
    AddonRow, CallRow, Finish, RESOURCES, ResourceEnd, ResourceRow, Revision, addon, call, collect, from_json, parsed,
    resource, size, to_json,
};
use super::slots::keep_slot;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::{AddonId, Id};
use crate::lifecycle::{AddonState, ResourceState};
use crate::policy::Retention;

/// The outcome of a call that was cut off with its host.
pub(super) const INTERRUPTED: &str = "interrupted";

/// The state of an addon in the version that serves, while another is tried.
pub(super) const AS_IT_SERVES: &str = "coalesce((SELECT earlier.state FROM earlier WHERE earlier.addon = addon.id
    AND earlier.phase IN ('saving', 'trying') LIMIT 1), addon.state)";

pub(super) fn insert_call(transaction: &Transaction<'_>, call: &CallRow) -> rusqlite::Result<()> {
    let report = call.report.as_ref().map(to_json).transpose()?;
    transaction
        .prepare_cached(
            "INSERT INTO call (addon, id, hook, key, actor, started_at, outcome, detail, report, log)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            call.addon,
            call.id,
            call.hook,
            call.key,
            call.actor,
            call.started_at,
            call.outcome,
            call.detail,
            report,
            call.log
        ])?;
    Ok(())
}

pub(super) fn set_state(transaction: &Transaction<'_>, addon: &str, state: &AddonState) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE addon SET state = ?2 WHERE id = ?1")?
        .execute(params![addon, state.to_string()])?;
    if settles(state) { listen(transaction, addon) } else { Ok(()) }
}

/// Whether an addon begins or ends to listen in this state.
const fn settles(state: &AddonState) -> bool {
    matches!(state, AddonState::Enabled | AddonState::Installed)
}

/// Drops the calls of an addon that are too many or too old, some at a time, so that nobody waits for long.
pub(super) fn prune_calls(connection: &Connection, addon: &str, keep: Retention, now_ms: i64) -> rusqlite::Result<()> {
    const AT_A_TIME: usize = 1000;
    // Ids are ordered by time, and begin with it: milliseconds since 1970, in 12 hex digits.
    let too_old = format!("{:012x}", (now_ms - i64::from(keep.call_days) * 86_400_000).max(0));
    let last = "SELECT id FROM call WHERE addon = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2";
    let one_too_many: Option<String> =
        connection.prepare_cached(last)?.query_row(params![addon, keep.calls], |row| row.get(0)).optional()?;
    let last = one_too_many.unwrap_or_default().max(too_old);
    let sql = "DELETE FROM call WHERE addon = ?1 AND id IN
                   (SELECT id FROM call WHERE addon = ?1 AND id <= ?2 ORDER BY id LIMIT ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    while statement.execute(params![addon, last, AT_A_TIME])? == AT_A_TIME {}
    Ok(())
}

impl Store {
    pub fn meta(&self, name: &'static str) -> Result<Option<String>> {
        self.read("read its description", |connection| {
            connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
        })
    }

    pub fn set_meta(&self, name: &'static str, value: &str) -> Result<()> {
        self.write("note its description", |transaction| {
            transaction.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
            Ok(())
        })
    }

    pub fn addons(&self) -> Result<Vec<AddonRow>> {
        self.read("list addons", |connection| collect(connection, "SELECT * FROM addon ORDER BY id", [], addon))
    }

    pub fn addon(&self, id: &AddonId) -> Result<Option<AddonRow>> {
        self.read("find an addon", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM addon WHERE id = ?1")?;
            statement.query_row([id.to_string()], addon).optional()
        })
    }

    /// One short query.
    pub fn revision(&self, id: &str) -> Result<Option<Revision>> {
        self.read("find an addon", |connection| revision(connection, id))
    }

    /// The same, for whoever is about to change the addon: by the connection that has made the last change and will make
    /// the next, and so has the pages at hand.
    pub fn revision_to_change(&self, id: &str) -> Result<Option<Revision>> {
        self.read_to_change("find an addon", |connection| revision(connection, id))
    }

    /// Notes an addon, which may have claimed `slot` and no other.
    pub fn put_addon(&self, row: &AddonRow, slot: Option<&Id>, event: Option<&Event>) -> Result<()> {
        self.write("note an addon", |transaction| {
            put_addon_row(transaction, row)?;
            self.tell(transaction, event)?;
            keep_slot(transaction, &row.id.to_string(), slot)
        })
    }

    /// Notes whether an addon is well, as long as it is enabled.
    pub fn note_health(&self, id: &AddonId, well: bool, event: Option<&Event>) -> Result<()> {
        let (from, to) = if well { ("degraded", "enabled") } else { ("enabled", "degraded") };
        let id = id.to_string();
        self.write("note a state", |transaction| {
            let sql = "UPDATE addon SET state = ?3 WHERE id = ?1 AND state = ?2";
            match transaction.execute(sql, params![id, from, to])? {
                0 => Ok(()),
                _ => self.tell(transaction, event),
            }
        })
    }

    /// Sets the state outside a call.
    pub fn set_addon_state(&self, id: &AddonId, state: &AddonState) -> Result<()> {
        let id = id.to_string();
        self.write("note a state", |transaction| set_state(transaction, &id, state))
    }

    /// The same for an addon that is enabled without a call.
    pub fn enabled(&self, id: &AddonId, event: Option<&Event>) -> Result<()> {
        let id = id.to_string();
        self.write("note a state", |transaction| {
            self.tell(transaction, event)?;
            set_state(transaction, &id, &AddonState::Enabled)
        })
    }

    /// The same for an addon that is disabled without a call, with what becomes of its services.
    pub fn disabled(&self, id: &AddonId, event: Option<&Event>) -> Result<()> {
        let id = id.to_string();
        self.write("note a state", |transaction| {
            stop_services(transaction, &id)?;
            self.tell(transaction, event)?;
            set_state(transaction, &id, &AddonState::Installed)
        })
    }

    /// Forgets an addon and its calls. It must have no resources.
    pub fn delete_addon(&self, id: &AddonId, event: Option<&Event>) -> Result<()> {
        let id = id.to_string();
        self.write("forget an addon", |transaction| {
            transaction.execute("DELETE FROM call WHERE addon = ?1", [&id])?;
            transaction.execute("DELETE FROM addon WHERE id = ?1", [&id])?;
            self.tell(transaction, event)
        })
    }

    /// Notes an event with the change it tells of.
    pub(super) fn tell(&self, transaction: &Transaction<'_>, event: Option<&Event>) -> rusqlite::Result<()> {
        event.map_or(Ok(()), |event| tell(transaction, event, self.shared.retention))
    }

    /// Sealed values by name.
    pub fn settings(&self, id: &AddonId) -> Result<BTreeMap<String, Vec<u8>>> {
        self.read("read settings", |connection| {
            let mut statement = connection.prepare_cached("SELECT name, value FROM setting WHERE addon = ?1")?;
            statement.query_map([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Sets a sealed value, or removes it.
    pub fn set_setting(&self, id: &AddonId, name: &str, value: Option<&[u8]>) -> Result<()> {
        let id = id.to_string();
        self.write("note a setting", |transaction| {
            match value {
                Some(value) => transaction.execute(
                    "INSERT OR REPLACE INTO setting (addon, name, value) VALUES (?1, ?2, ?3)",
                    params![id, name, value],
                )?,
                None => transaction.execute("DELETE FROM setting WHERE addon = ?1 AND name = ?2", params![id, name])?,
            };
            transaction.execute("UPDATE addon SET revision = revision + 1 WHERE id = ?1", [&id])?;
            Ok(())
        })
    }

    pub fn resources_of_app(&self, app: &Id) -> Result<Vec<ResourceRow>> {
        self.read("list resources", |connection| oldest_first(connection, "app", app.as_str()))
    }

    pub fn resources_of_addon(&self, id: &AddonId) -> Result<Vec<ResourceRow>> {
        self.read("list resources", |connection| oldest_first(connection, "addon", &id.to_string()))
    }

    pub fn resources(&self) -> Result<Vec<ResourceRow>> {
        self.read("list resources", |connection| {
            collect(connection, &format!("{RESOURCES} ORDER BY app, created_at, key"), [], resource)
        })
    }

    pub fn resource(&self, id: &AddonId, key: &str) -> Result<Option<ResourceRow>> {
        self.read("find a resource", |connection| {
            let mut statement = connection.prepare_cached(&format!("{RESOURCES} WHERE addon = ?1 AND key = ?2"))?;
            statement.query_row(params![id.to_string(), key], resource).optional()
        })
    }

    /// Sets the state outside a call.
    pub fn set_resource_state(&self, key: &str, state: &ResourceState, event: Option<&Event>) -> Result<()> {
        self.write("note a resource's state", |transaction| {
            self.tell(transaction, event)?;
            set_resource_state(transaction, key, state)
        })
    }

    pub fn guest_id_is_taken(&self, id: &AddonId, guest_id: &str, key: &str) -> Result<bool> {
        self.read("look for an id", |connection| {
            connection
                .prepare_cached("SELECT 1 FROM resource WHERE addon = ?1 AND guest_id = ?2 AND key <> ?3")?
                .exists(params![id.to_string(), guest_id, key])
        })
    }

    /// Law 3: whoever holds the lock and finds a call under way knows that it was cut off.
    pub fn settle(&self, id: &AddonId) -> Result<()> {
        let id = id.to_string();
        self.write("note that a call was cut off", |transaction| {
            let sql = "SELECT running, state FROM addon WHERE id = ?1 AND running IS NOT NULL";
            let read = |row: &Row<'_>| Ok((from_json::<CallRow>(row, "running")?, parsed::<AddonState>(row, "state")?));
            let Some((call, state)) = transaction.query_row(sql, [&id], read).optional()? else { return Ok(()) };
            let key = call.key.clone();
            insert_call(transaction, &CallRow { outcome: Some(INTERRUPTED.to_owned()), ..call })?;
            transaction.execute("UPDATE addon SET running = NULL WHERE id = ?1", [&id])?;
            set_state(transaction, &id, &state.settled())?;
            for under_way in ResourceState::UNDER_WAY {
                transaction.execute(
                    "UPDATE resource SET state = ?3 WHERE key = ?1 AND state = ?2",
                    params![key, under_way.to_string(), under_way.clone().settled().to_string()],
                )?;
            }
            Ok(())
        })
    }

    /// Addons of which something was cut off, or is under way.
    pub fn cut_off(&self) -> Result<BTreeSet<AddonId>> {
        self.read("look for what was cut off", |connection| {
            let sql = "SELECT id AS addon FROM addon WHERE running IS NOT NULL
                          OR state IN ('enabling', 'disabling', 'upgrading') OR state LIKE 'interrupted%'
                       UNION SELECT addon FROM resource WHERE state NOT IN ('active', 'detached', 'suspended')
                          AND state NOT LIKE 'failed%'
                       UNION SELECT addon FROM earlier WHERE phase <> 'kept'
                       UNION SELECT instance.addon FROM instance JOIN addon ON addon.id = instance.addon
                          WHERE wanted = 'running' AND state = 'installed'
                       UNION SELECT instance.addon FROM instance JOIN resource ON key = resource
                          WHERE wanted = 'running' AND state = 'detached'";
            connection.prepare_cached(sql)?.query_map([], |row| parsed(row, "addon"))?.collect()
        })
    }

    /// How often in a row a hook was cut off, up to `most`: for one resource, or for the addon as a whole.
    pub fn cut_off_in_a_row(&self, addon: &AddonId, hook: &str, key: Option<&str>, most: u32) -> Result<u32> {
        self.read("count calls that were cut off", |connection| {
            let sql = "SELECT outcome FROM call WHERE addon = ?1 AND hook = ?2 AND key IS ?3 ORDER BY id DESC LIMIT ?4";
            let mut statement = connection.prepare_cached(sql)?;
            let outcomes = statement.query_map(params![addon.to_string(), hook, key, most], |row| row.get(0))?;
            let outcomes: Vec<Option<String>> = outcomes.collect::<rusqlite::Result<_>>()?;
            let cut_off = outcomes.iter().take_while(|outcome| outcome.as_deref() == Some(INTERRUPTED));
            Ok(u32::try_from(cut_off.count()).unwrap_or(most))
        })
    }

    /// Stops what was to stop with the addon or with a resource, where the host died in between.
    pub fn square(&self, id: &AddonId) -> Result<()> {
        let id = id.to_string();
        self.write("note what should become of services", |transaction| {
            transaction.execute(
                "UPDATE instance SET wanted = 'stopped', disk_bytes = NULL WHERE addon = ?1 AND wanted = 'running'
                 AND ((SELECT state FROM addon WHERE id = ?1) = 'installed'
                      OR resource IN (SELECT key FROM resource WHERE addon = ?1 AND state = 'detached'))",
                [&id],
            )?;
            Ok(())
        })
    }

    /// Commits that a mutating call is about to enter the guest, with the states it begins with.
    ///
    /// # Errors
    /// [`Error::VariableTaken`], by another addon since it was looked at.
    pub fn started(
        &self,
        call: &CallRow,
        state: Option<AddonState>,
        resource: Option<ResourceState>,
        new: Option<&ResourceRow>,
    ) -> Result<()> {
        self.write_if_ok("note the start of a call", |transaction| {
            transaction
                .prepare_cached("UPDATE addon SET running = ?2, state = coalesce(?3, state) WHERE id = ?1")?
                .execute(params![call.addon, to_json(call)?, state.map(|state| state.to_string())])?;
            if let Some(new) = new {
                put_resource(transaction, new)?;
                return Ok(taken(transaction, "key", &new.key)?.map_or(Ok(()), Err));
            }
            if let (Some(state), Some(key)) = (resource, &call.key) {
                set_resource_state(transaction, key, &state)?;
            }
            Ok(Ok(()))
        })?
    }

    /// Commits how a mutating call ended, with everything that follows from it.
    pub fn finished(&self, call: &CallRow, finish: &Finish) -> Result<()> {
        self.noted(&call.addon);
        self.write("note the end of a call", |transaction| {
            insert_call(transaction, call)?;
            transaction
                .prepare_cached(
                    "UPDATE addon SET running = NULL, state = coalesce(?2, state), data_bytes = coalesce(?3, data_bytes),
                                      data_files = coalesce(?4, data_files) WHERE id = ?1",
                )?
                .execute(params![
                    call.addon,
                    finish.state.as_ref().map(ToString::to_string),
                    finish.data.map(|data| data.bytes),
                    finish.data.map(|data| data.files)
                ])?;
            if finish.state == Some(AddonState::Installed) {
                stop_services(transaction, &call.addon)?;
            }
            if finish.state.as_ref().is_some_and(settles) {
                listen(transaction, &call.addon)?;
            }
            self.tell(transaction, finish.event.as_ref())?;
            if let Some(told) = finish.told {
                end_of_telling(transaction, &call.addon, told)?;
            }
            match (&finish.resource, &call.key) {
                (Some(end), Some(key)) => end_resource(transaction, key, end),
                _ => Ok(()),
            }
        })
    }

    /// The newest calls first, one that runs included, from before the one with the id `before`; of one addon, or of all.
    pub fn calls(&self, addon: Option<&AddonId>, before: Option<&str>, most: u32) -> Result<Vec<CallRow>> {
        let addons = match addon {
            Some(addon) => vec![addon.clone()],
            None => self.addons()?.into_iter().map(|row| row.id).collect(),
        };
        let mut calls = Vec::new();
        for addon in addons {
            calls.extend(self.read("list calls", |connection| {
                let running = "SELECT running FROM addon WHERE id = ?1 AND running IS NOT NULL";
                let mut running = collect(connection, running, [addon.to_string()], |row| from_json(row, "running"))?;
                // No id is as great: they are of hexadecimal digits.
                let before = before.unwrap_or("g");
                let sql = "SELECT * FROM call WHERE addon = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
                let mut found: Vec<CallRow> = collect(connection, sql, params![addon.to_string(), before, most], call)?;
                // It may have ended between the two looks.
                running.retain(|running: &CallRow| {
                    running.id.as_str() < before && found.iter().all(|ended| ended.id != running.id)
                });
                found.append(&mut running);
                Ok(found)
            })?);
        }
        calls.sort_by(|one, other| other.id.cmp(&one.id));
        calls.truncate(most as usize);
        Ok(calls)
    }

    /// The newest call of one hook that has ended.
    pub fn last_call(&self, addon: &AddonId, hook: &str) -> Result<Option<CallRow>> {
        self.read("find a call", |connection| {
            let sql = "SELECT * FROM call WHERE addon = ?1 AND hook = ?2 ORDER BY id DESC LIMIT 1";
            connection.prepare_cached(sql)?.query_row(params![addon.to_string(), hook], call).optional()
        })
    }

    /// Calls after `after` that have said something, the oldest first.
    pub fn logs(&self, addon: &AddonId, after: &str, most: u32) -> Result<Vec<CallRow>> {
        self.read("read logs", |connection| {
            let sql = "SELECT * FROM call WHERE addon = ?1 AND id > ?2 AND log IS NOT NULL ORDER BY id LIMIT ?3";
            collect(connection, sql, params![addon.to_string(), after, most], call)
        })
    }
}

/// Sorted here: of a few rows, which is nearly all there ever are, SQLite's own way to sort costs more than to find them.
fn oldest_first(connection: &Connection, column: &'static str, is: &str) -> rusqlite::Result<Vec<ResourceRow>> {
    let mut rows = collect(connection, &format!("{RESOURCES} WHERE {column} = ?1"), [is], resource)?;
    rows.sort_by(|one, other| (one.created_at, &one.key).cmp(&(other.created_at, &other.key)));
    Ok(rows)
}

fn revision(connection: &Connection, id: &str) -> rusqlite::Result<Option<Revision>> {
    let sql = "SELECT state, running IS NOT NULL AS running, revision, data_bytes, data_files FROM addon WHERE id = ?1";
    let read = |row: &Row<'_>| {
        Ok(Revision {
            state: parsed(row, "state")?,
            running: row.get("running")?,
            revision: row.get("revision")?,
            data: size(row)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([id], read).optional()
}

pub(super) fn put_addon_row(transaction: &Transaction<'_>, row: &AddonRow) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO addon (id, version, digest, component_digest, dev, grant_digest, state, revision,
                            data_bytes, data_files, installed_at, events)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (id) DO UPDATE SET version = ?2, digest = ?3, component_digest = ?4, dev = ?5,
            grant_digest = ?6, revision = revision + 1, installed_at = ?11, events = ?12",
        params![
            row.id.to_string(),
            row.version.to_string(),
            row.digest,
            row.component_digest,
            row.dev,
            row.grant_digest,
            row.state.to_string(),
            row.revision,
            row.data.bytes,
            row.data.files,
            row.installed_at,
            to_json(&row.events)?
        ],
    )?;
    listen(transaction, &row.id.to_string())
}

fn put_resource(transaction: &Transaction<'_>, row: &ResourceRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO resource (key, addon, app, alias, plan, options, variables, state, created_at, region)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (key) DO UPDATE SET state = ?8",
        )?
        .execute(params![
            row.key,
            row.addon.to_string(),
            row.app.as_str(),
            row.alias.as_ref().map_or("", Id::as_str),
            row.plan.as_ref().map(Id::as_str),
            to_json(&row.options)?,
            to_json(&row.variables)?,
            row.state.to_string(),
            row.created_at,
            row.region
        ])?;
    Ok(())
}

/// The first variable that a resource has whose `column` is `value`, and another of its app has, too. Resources of different
/// addons are under different locks: only a transaction can tell.
pub(super) fn taken(transaction: &Transaction<'_>, column: &str, value: &str) -> rusqlite::Result<Option<Error>> {
    let sql = format!(
        "SELECT mine.app, name.value AS variable, other.addon
         FROM resource AS mine JOIN json_each(mine.variables) AS name
         JOIN resource AS other ON other.app = mine.app AND other.key <> mine.key
         JOIN json_each(other.variables) AS theirs ON theirs.value = name.value
         WHERE mine.{column} = ?1 LIMIT 1"
    );
    let read = |row: &Row<'_>| {
        let (app, variable, holder) = (parsed(row, "app")?, row.get("variable")?, parsed(row, "addon")?);
        Ok(Error::VariableTaken { app, variable, holder })
    };
    transaction.prepare_cached(&sql)?.query_row([value], read).optional()
}

fn set_resource_state(transaction: &Transaction<'_>, key: &str, state: &ResourceState) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE resource SET state = ?2 WHERE key = ?1")?
        .execute(params![key, state.to_string()])?;
    Ok(())
}

/// They go with what they run for, whether or not this host lives to see to it.
fn stop_services(transaction: &Transaction<'_>, addon: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE instance SET wanted = 'stopped', disk_bytes = NULL WHERE addon = ?1 AND wanted = 'running'",
        )?
        .execute([addon])?;
    Ok(())
}

fn end_resource(transaction: &Transaction<'_>, key: &str, end: &ResourceEnd) -> rusqlite::Result<()> {
    match end {
        ResourceEnd::State(state) => set_resource_state(transaction, key, state),
        ResourceEnd::Gone => {
            transaction.prepare_cached("DELETE FROM resource WHERE key = ?1")?.execute([key])?;
            // What it had on an engine goes with it, whether or not this host lives to see to it.
            transaction.prepare_cached("UPDATE instance SET wanted = 'gone' WHERE resource = ?1")?.execute([key])?;
            Ok(())
        }
        ResourceEnd::Changed { state, plan, private, message } => {
            transaction
                .prepare_cached(
                    "UPDATE resource SET state = ?2, plan = coalesce(?3, plan), message = ?4,
                                         private = coalesce(?5, private) WHERE key = ?1",
                )?
                .execute(params![key, state.to_string(), plan, message, private])?;
            Ok(())
        }
        ResourceEnd::Active { id, private, message, log_drain_url } => {
            transaction
                .prepare_cached(
                    "UPDATE resource SET state = ?2, guest_id = ?3, private = ?4, message = ?5, log_drain_url = ?6
                     WHERE key = ?1",
                )?
                .execute(params![key, ResourceState::Active.to_string(), id, private, message, log_drain_url])?;
            Ok(())
        }
    }
}

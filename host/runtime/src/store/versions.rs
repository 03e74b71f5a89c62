//! The tables of earlier versions: what an addon can go back to, whole. A version is left and come back to in one
//! transaction each; what of it is in files is in place before the store says so.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row, params};
use semver::Version;

use super::Store;
use super::events::listen;
use super::failures::forgive;
use super::rows::{AddonRow, addon, collect, from_json, parsed, to_json};
use super::slots::keep_slot;
use super::statements::{set_state, taken};
use crate::error::Result;
use crate::event::Event;
use crate::id::{AddonId, Id};
use crate::lifecycle::AddonState;

/// `earlier` has the columns of `addon` that go with a version. Services are kept as they were recorded, since a new version
/// may start, change and forget them.
pub(super) const TABLES: &str = "
CREATE TABLE earlier (
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    component_digest TEXT,
    dev INTEGER NOT NULL,
    grant_digest TEXT NOT NULL,
    events TEXT NOT NULL,
    state TEXT NOT NULL,
    data_bytes INTEGER NOT NULL,
    data_files INTEGER NOT NULL,
    phase TEXT NOT NULL,
    data_inode INTEGER NOT NULL,
    resources TEXT NOT NULL,
    left_for TEXT NOT NULL,
    left_at INTEGER NOT NULL,
    PRIMARY KEY (addon, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE earlier_instance (
    addon TEXT NOT NULL,
    version TEXT NOT NULL,
    service TEXT NOT NULL,
    resource TEXT NOT NULL,
    engine TEXT NOT NULL,
    wanted TEXT NOT NULL,
    memory_bytes INTEGER NOT NULL,
    millicpus INTEGER NOT NULL,
    environment BLOB,
    PRIMARY KEY (addon, version, service, resource),
    FOREIGN KEY (addon, version) REFERENCES earlier(addon, version) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TABLE earlier_port (
    addon TEXT NOT NULL,
    version TEXT NOT NULL,
    engine TEXT NOT NULL,
    host_port INTEGER NOT NULL,
    service TEXT NOT NULL,
    resource TEXT NOT NULL,
    container_port INTEGER NOT NULL,
    PRIMARY KEY (addon, version, engine, host_port),
    FOREIGN KEY (addon, version) REFERENCES earlier(addon, version) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TABLE earlier_stand_in (
    addon TEXT NOT NULL,
    version TEXT NOT NULL,
    service TEXT NOT NULL,
    engine TEXT NOT NULL,
    container TEXT NOT NULL,
    places TEXT NOT NULL,
    standing INTEGER NOT NULL,
    PRIMARY KEY (addon, version),
    FOREIGN KEY (addon, version) REFERENCES earlier(addon, version) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
";

/// How far the way from an earlier version has come, or the way back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What it has is being copied. Nothing of it has changed.
    Saving,
    /// Its snapshot is complete. What is there now is another version's, and is given up when it is cut off.
    Trying,
    /// Another version has taken over.
    Kept,
    /// It cannot be gone back to any more; its snapshot is to be removed.
    Gone,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Phase::Saving => "saving",
            Phase::Trying => "trying",
            Phase::Kept => "kept",
            Phase::Gone => "gone",
        }
    }
}

impl std::str::FromStr for Phase {
    type Err = crate::lifecycle::UnknownState;

    fn from_str(text: &str) -> Result<Phase, Self::Err> {
        [Phase::Saving, Phase::Trying, Phase::Kept, Phase::Gone]
            .into_iter()
            .find(|phase| phase.name() == text)
            .ok_or(crate::lifecycle::UnknownState)
    }
}

/// Names of a resource's variables, by our key.
pub(crate) type Variables = BTreeMap<String, Vec<String>>;

/// A version that takes over, with what it declares.
pub(crate) struct Successor<'a> {
    pub row: &'a AddonRow,
    pub variables: &'a Variables,
    pub services: &'a [Id],
    pub slot: Option<&'a Id>,
}

/// A version that was left, or is being left.
#[derive(Clone, Debug)]
pub(crate) struct EarlierRow {
    pub addon: AddonId,
    pub version: Version,
    /// Where the addon was, and is again after coming back.
    pub state: AddonState,
    pub phase: Phase,
    /// Of its data directory.
    pub data_inode: u64,
    /// What apps had of the addon, with the names of their variables.
    pub resources: Variables,
    pub left_for: Version,
    /// Milliseconds since 1970.
    pub left_at: i64,
}

fn earlier(row: &Row<'_>) -> rusqlite::Result<EarlierRow> {
    Ok(EarlierRow {
        addon: parsed(row, "addon")?,
        version: parsed(row, "version")?,
        state: parsed(row, "state")?,
        phase: parsed(row, "phase")?,
        data_inode: row.get::<_, i64>("data_inode")?.cast_unsigned(),
        resources: from_json(row, "resources")?,
        left_for: parsed(row, "left_for")?,
        left_at: row.get("left_at")?,
    })
}

const INSTANCE: &str = "service, resource, engine, wanted, memory_bytes, millicpus, environment";
const PORT: &str = "engine, host_port, service, resource, container_port";
const STAND_IN: &str = "service, engine, container, places, standing";
/// What a version stood in for that serves again: whoever finds it goes on with that. Not where the container is another
/// addon's by now, or where the version that is left has to give back another one first.
const STAND_IN_AGAIN: &str = "
INSERT INTO stand_in (addon, service, engine, container, places, standing)
SELECT was.addon, was.service, was.engine, was.container, was.places, 1
    FROM earlier_stand_in AS was JOIN addon ON addon.id = was.addon
    WHERE was.addon = ?1 AND was.version = ?2 AND was.standing AND addon.state IN ('enabled', 'degraded')
        AND NOT EXISTS (SELECT 1 FROM stand_in AS now
            WHERE (now.addon = was.addon) <> ((now.engine, now.container) = (was.engine, was.container)))
    ON CONFLICT (addon) DO UPDATE SET service = excluded.service, places = excluded.places, standing = 1";

impl Store {
    /// The versions an addon can go back to, the one left last first.
    pub fn earlier(&self, addon: &AddonId) -> Result<Vec<EarlierRow>> {
        self.read("list earlier versions", |connection| {
            let sql = "SELECT * FROM earlier WHERE addon = ?1 ORDER BY left_at DESC, version";
            collect(connection, sql, [addon.to_string()], earlier)
        })
    }

    /// The addon as it was in an earlier version.
    pub fn addon_in(&self, earlier: &EarlierRow) -> Result<Option<AddonRow>> {
        self.read("find an earlier version", |connection| {
            let sql = "SELECT addon.id, earlier.version, earlier.digest, earlier.component_digest, earlier.dev,
                              earlier.grant_digest, earlier.events, earlier.state, addon.revision, earlier.data_bytes,
                              earlier.data_files, addon.installed_at
                       FROM earlier JOIN addon ON addon.id = earlier.addon
                       WHERE earlier.addon = ?1 AND earlier.version = ?2";
            let values = params![earlier.addon.to_string(), earlier.version.to_string()];
            connection.prepare_cached(sql)?.query_row(values, addon).optional()
        })
    }

    /// Commits that an addon is about to leave its version, with all that the store has of it.
    pub fn leave(&self, row: &EarlierRow) -> Result<()> {
        let (id, version) = (row.addon.to_string(), row.version.to_string());
        self.write("note that a version is left", |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO earlier
                 SELECT id, version, digest, component_digest, dev, grant_digest, events, state, data_bytes, data_files,
                        ?2, ?3, ?4, ?5, ?6 FROM addon WHERE id = ?1",
                params![
                    id,
                    Phase::Saving.name(),
                    row.data_inode.cast_signed(),
                    to_json(&row.resources)?,
                    row.left_for.to_string(),
                    row.left_at
                ],
            )?;
            for (table, columns) in [("instance", INSTANCE), ("port", PORT), ("stand_in", STAND_IN)] {
                transaction.execute(
                    &format!(
                        "INSERT INTO earlier_{table} (addon, version, {columns})
                         SELECT addon, ?2, {columns} FROM {table} WHERE addon = ?1"
                    ),
                    params![id, version],
                )?;
            }
            set_state(transaction, &id, &AddonState::Upgrading)
        })
    }

    /// Commits that the snapshot is complete: from now on the way is back to it.
    pub fn saved(&self, row: &EarlierRow) -> Result<()> {
        self.write("note that a version is saved", |transaction| {
            transaction.execute(
                "UPDATE earlier SET phase = ?3 WHERE addon = ?1 AND version = ?2",
                params![row.addon.to_string(), row.version.to_string(), Phase::Trying.name()],
            )?;
            Ok(())
        })
    }

    /// Commits that the addon goes back to an earlier version, to be in `state` there.
    ///
    /// # Errors
    /// [`Error::VariableTaken`]: what a variable was called then, another addon's is now.
    pub fn begin_to_return(&self, row: &EarlierRow, state: &AddonState) -> Result<()> {
        let id = row.addon.to_string();
        self.write_if_ok("note that a version is come back to", |transaction| {
            transaction.execute(
                "UPDATE earlier SET phase = ?3, state = ?4 WHERE addon = ?1 AND version = ?2",
                params![id, row.version.to_string(), Phase::Trying.name(), state.to_string()],
            )?;
            set_state(transaction, &id, &AddonState::Upgrading)?;
            set_variables(transaction, &row.resources)?;
            Ok(taken(transaction, "addon", &id)?.map_or(Ok(()), Err))
        })?
    }

    /// Commits that another version has taken over: from `from`, with the services and the slot it declares and no others.
    /// Of earlier versions only the last `keep` can be gone back to from now on.
    ///
    /// # Errors
    /// [`Error::VariableTaken`], by another addon since it was looked at.
    pub fn take_over(
        &self,
        successor: &Successor<'_>,
        from: &EarlierRow,
        keep: usize,
        event: Option<&Event>,
    ) -> Result<()> {
        let Successor { row: new, variables, services, slot } = *successor;
        let id = new.id.to_string();
        self.write_if_ok("note another version", |transaction| {
            transaction.execute(
                "UPDATE addon SET version = ?2, digest = ?3, component_digest = ?4, dev = ?5, grant_digest = ?6,
                        state = ?7, revision = revision + 1, installed_at = ?8, events = ?9 WHERE id = ?1",
                params![
                    id,
                    new.version.to_string(),
                    new.digest,
                    new.component_digest,
                    new.dev,
                    new.grant_digest,
                    new.state.to_string(),
                    new.installed_at,
                    to_json(&new.events)?
                ],
            )?;
            transaction.execute(
                "UPDATE earlier SET phase = ?3 WHERE addon = ?1 AND version = ?2",
                params![id, from.version.to_string(), Phase::Kept.name()],
            )?;
            transaction.execute(
                "UPDATE earlier SET phase = ?2 WHERE addon = ?1 AND version IN
                    (SELECT version FROM earlier WHERE addon = ?1 ORDER BY left_at DESC LIMIT -1 OFFSET ?3)",
                params![id, Phase::Gone.name(), i64::try_from(keep).unwrap_or(i64::MAX)],
            )?;
            transaction.execute(
                "UPDATE instance SET wanted = 'gone'
                 WHERE addon = ?1 AND service NOT IN (SELECT value FROM json_each(?2))",
                params![id, to_json(&services)?],
            )?;
            keep_slot(transaction, &id, slot)?;
            listen(transaction, &id)?;
            self.tell(transaction, event)?;
            forgive(transaction, &id)?;
            set_variables(transaction, variables)?;
            Ok(taken(transaction, "addon", &id)?.map_or(Ok(()), Err))
        })?
    }

    /// Commits that the addon is back in an earlier version, as it was, and that this can be gone back to no more. `event` is
    /// told where another version had served meanwhile.
    pub fn return_to(&self, row: &EarlierRow, event: Option<&Event>) -> Result<()> {
        let (id, version) = (row.addon.to_string(), row.version.to_string());
        self.write("note that a version is back", |transaction| {
            let sql = "SELECT version FROM addon WHERE id = ?1";
            let left: String = transaction.query_row(sql, [&id], |row| row.get(0))?;
            if left != version {
                let event = event.cloned().map(|event| event.with("from", &left).with("version", &version));
                self.tell(transaction, event.as_ref())?;
            }
            transaction.execute(
                "UPDATE addon SET
                    (version, digest, component_digest, dev, grant_digest, events, state, data_bytes, data_files) =
                    (SELECT version, digest, component_digest, dev, grant_digest, events, state, data_bytes, data_files
                     FROM earlier WHERE addon = ?1 AND version = ?2),
                    running = NULL, revision = revision + 1 WHERE id = ?1",
                params![id, version],
            )?;
            listen(transaction, &id)?;
            transaction.execute("DELETE FROM instance WHERE addon = ?1", [&id])?;
            for (table, columns) in [("instance", INSTANCE), ("port", PORT)] {
                // A port that somebody else was given meanwhile is theirs: another one is assigned.
                transaction.execute(
                    &format!(
                        "INSERT OR IGNORE INTO {table} (addon, {columns})
                         SELECT addon, {columns} FROM earlier_{table} WHERE addon = ?1 AND version = ?2"
                    ),
                    params![id, version],
                )?;
            }
            transaction.execute(STAND_IN_AGAIN, params![id, version])?;
            set_variables(transaction, &row.resources)?;
            forgive(transaction, &id)?;
            transaction.execute(
                "UPDATE earlier SET phase = ?3 WHERE addon = ?1 AND version = ?2",
                params![id, version, Phase::Gone.name()],
            )?;
            Ok(())
        })
    }

    /// Forgets the earlier versions whose snapshots are gone, with the images of versions that are no more.
    pub fn forget_gone(&self, id: &AddonId) -> Result<()> {
        let id = id.to_string();
        self.write("forget earlier versions", |transaction| {
            let sql = "DELETE FROM earlier WHERE addon = ?1 AND phase = ?2";
            transaction.execute(sql, params![id, Phase::Gone.name()])?;
            transaction.execute(
                "DELETE FROM image WHERE addon = ?1
                 AND version NOT IN (SELECT version FROM addon WHERE id = ?1
                                     UNION SELECT version FROM earlier WHERE addon = ?1)",
                [&id],
            )?;
            Ok(())
        })
    }
}

fn set_variables(transaction: &rusqlite::Transaction<'_>, variables: &Variables) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("UPDATE resource SET variables = ?2 WHERE key = ?1")?;
    for (key, names) in variables {
        statement.execute(params![key, to_json(names)?])?;
    }
    Ok(())
}

//! The tables of services: what should exist on engines. What does exist is asked of them, never noted here (law 7).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use semver::Version;

use super::Store;
use super::rows::{collect, from_json, parsed, to_json};
use crate::error::Result;
use crate::event::Event;
use crate::id::{AddonId, Id};
use crate::render::{Instance, Pin};

pub(super) const TABLES: &str = "
CREATE TABLE image (
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    service TEXT NOT NULL,
    reference TEXT NOT NULL,
    id TEXT NOT NULL,
    digest TEXT,
    volumes TEXT NOT NULL,
    PRIMARY KEY (addon, version, service)
) STRICT, WITHOUT ROWID;
CREATE TABLE instance (
    addon TEXT NOT NULL REFERENCES addon(id),
    service TEXT NOT NULL,
    resource TEXT NOT NULL,
    engine TEXT NOT NULL,
    wanted TEXT NOT NULL,
    memory_bytes INTEGER NOT NULL,
    millicpus INTEGER NOT NULL,
    environment BLOB,
    failures INTEGER NOT NULL DEFAULT 0,
    failed_at INTEGER,
    log TEXT,
    disk_bytes INTEGER,
    spared_at INTEGER,
    PRIMARY KEY (addon, service, resource)
) STRICT, WITHOUT ROWID;
CREATE INDEX instance_resource ON instance (resource);
CREATE TABLE port (
    engine TEXT NOT NULL,
    host_port INTEGER NOT NULL,
    addon TEXT NOT NULL,
    service TEXT NOT NULL,
    resource TEXT NOT NULL,
    container_port INTEGER NOT NULL,
    PRIMARY KEY (engine, host_port),
    FOREIGN KEY (addon, service, resource) REFERENCES instance(addon, service, resource) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX port_instance ON port (addon, service, resource);
";

/// What should become of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Running,
    /// No container; its volumes, ports and environment stay.
    Stopped,
    /// Nothing of it.
    Gone,
}

impl Wanted {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Wanted::Running => "running",
            Wanted::Stopped => "stopped",
            Wanted::Gone => "gone",
        }
    }
}

impl std::str::FromStr for Wanted {
    type Err = crate::lifecycle::UnknownState;

    fn from_str(text: &str) -> Result<Wanted, Self::Err> {
        [Wanted::Running, Wanted::Stopped, Wanted::Gone]
            .into_iter()
            .find(|wanted| wanted.name() == text)
            .ok_or(crate::lifecycle::UnknownState)
    }
}

/// What an instance that should run is recorded with.
pub(crate) struct Want<'a> {
    pub engine: &'a str,
    /// The engines on the same machine, itself among them: a port of it is given only once.
    pub machine: &'a [String],
    pub memory_bytes: u64,
    pub millicpus: u64,
    /// Sealed.
    pub environment: Option<&'a [u8]>,
    /// Container ports to the host port the manifest fixes, if any.
    pub ports: &'a BTreeMap<u16, Option<u16>>,
    /// The host ports that others are taken from.
    pub range: std::ops::RangeInclusive<u16>,
}

/// What is recorded on an engine: how many instances, and what they may use together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub instances: u32,
    pub memory_bytes: u64,
    pub millicpus: u64,
}

/// An instance as it should be.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRow {
    pub instance: Instance,
    /// As the policy names it.
    pub engine: String,
    pub wanted: Wanted,
    /// Sealed JSON: the values a guest has set.
    pub environment: Option<Vec<u8>>,
    /// Container port to host port.
    pub ports: BTreeMap<u16, u16>,
    /// Crashes in a row, and when the last was, in seconds since 1970.
    pub failures: u32,
    pub failed_at: Option<i64>,
    /// The end of what it wrote before it failed last.
    pub log: Option<String>,
    /// What it took of the disk when that was found to be too much: it does not run until this is taken back.
    pub disk_bytes: Option<u64>,
    /// When somebody last had it started all the same, in seconds since 1970.
    pub spared_at: Option<i64>,
}

fn instance(row: &Row<'_>) -> rusqlite::Result<InstanceRow> {
    Ok(InstanceRow {
        instance: Instance {
            addon: parsed(row, "addon")?,
            service: parsed(row, "service")?,
            resource: row.get("resource")?,
        },
        engine: row.get("engine")?,
        wanted: parsed(row, "wanted")?,
        environment: row.get("environment")?,
        ports: BTreeMap::new(),
        failures: row.get("failures")?,
        failed_at: row.get("failed_at")?,
        log: row.get("log")?,
        disk_bytes: row.get("disk_bytes")?,
        spared_at: row.get("spared_at")?,
    })
}

fn pin(row: &Row<'_>) -> rusqlite::Result<Pin> {
    Ok(Pin { id: row.get("id")?, digest: row.get("digest")?, volumes: from_json(row, "volumes")? })
}

/// Gives every row its ports.
fn with_ports(connection: &Connection, mut rows: Vec<InstanceRow>) -> rusqlite::Result<Vec<InstanceRow>> {
    let sql = "SELECT container_port, host_port FROM port WHERE addon = ?1 AND service = ?2 AND resource = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    for row in &mut rows {
        let Instance { addon, service, resource } = &row.instance;
        let found = statement
            .query_map(params![addon.to_string(), service.as_str(), resource], |row| Ok((row.get(0)?, row.get(1)?)))?;
        row.ports = found.collect::<rusqlite::Result<_>>()?;
    }
    Ok(rows)
}

impl Store {
    pub fn instances(&self, addon: &AddonId) -> Result<Vec<InstanceRow>> {
        self.read("list services", |connection| {
            let sql = "SELECT * FROM instance WHERE addon = ?1 ORDER BY service, resource";
            with_ports(connection, collect(connection, sql, [addon.to_string()], instance)?)
        })
    }

    pub fn instance(&self, of: &Instance) -> Result<Option<InstanceRow>> {
        self.read("find a service", |connection| {
            let sql = "SELECT * FROM instance WHERE addon = ?1 AND service = ?2 AND resource = ?3";
            let values = params![of.addon.to_string(), of.service.as_str(), of.resource];
            Ok(with_ports(connection, collect(connection, sql, values, instance)?)?.pop())
        })
    }

    /// Addons that have anything on an engine, or owe something to one, in the order of their ids.
    pub fn addons_with_instances(&self) -> Result<Vec<AddonId>> {
        self.read("list services", |connection| {
            let sql = "SELECT addon FROM instance UNION SELECT addon FROM stand_in ORDER BY addon";
            collect(connection, sql, [], |row| parsed(row, "addon"))
        })
    }

    /// Engines that have anything of an addon, or to which it owes something.
    pub fn engines_of(&self, addon: &AddonId) -> Result<Vec<String>> {
        self.read("list engines", |connection| {
            let sql = "SELECT engine FROM instance WHERE addon = ?1 UNION SELECT engine FROM stand_in WHERE addon = ?1
                       ORDER BY engine";
            collect(connection, sql, [addon.to_string()], |row| row.get(0))
        })
    }

    /// Engines that have anything.
    pub fn engines(&self) -> Result<Vec<String>> {
        self.read("list engines", |connection| {
            collect(connection, "SELECT DISTINCT engine FROM instance ORDER BY engine", [], |row| row.get(0))
        })
    }

    /// What every engine has recorded, by its name.
    pub fn loads(&self) -> Result<BTreeMap<String, Load>> {
        self.read("count services", |connection| {
            let sql = "SELECT engine, count(*), sum(memory_bytes), sum(millicpus) FROM instance
                       WHERE wanted <> 'gone' GROUP BY engine";
            let load = |row: &Row<'_>| {
                let load = Load { instances: row.get(1)?, memory_bytes: row.get(2)?, millicpus: row.get(3)? };
                Ok((row.get(0)?, load))
            };
            connection.prepare_cached(sql)?.query_map([], load)?.collect()
        })
    }

    /// Commits that an instance should run: with its ports, those it has kept and new ones that are `usable`. Its failures
    /// are forgiven, and its engine stays that which it was first recorded with.
    ///
    /// `Err` within is the port that is taken, or 0 when none of the range is left.
    pub fn want(
        &self,
        of: &Instance,
        want: &Want<'_>,
        usable: impl Fn(u16) -> bool,
    ) -> Result<std::result::Result<(), u16>> {
        self.write_if_ok("note a service", |transaction| {
            let values = params![
                of.addon.to_string(),
                of.service.as_str(),
                of.resource,
                want.engine,
                Wanted::Running.name(),
                want.environment,
                want.memory_bytes,
                want.millicpus
            ];
            transaction.execute(
                "INSERT INTO instance (addon, service, resource, engine, wanted, environment, memory_bytes, millicpus)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET wanted = ?5, environment = ?6, memory_bytes = ?7, millicpus = ?8,
                    failures = 0, failed_at = NULL, log = NULL, disk_bytes = NULL",
                values,
            )?;
            assign_ports(transaction, of, want, usable)
        })
    }

    /// What kept it from running is no longer of interest then.
    pub fn set_wanted(&self, of: &Instance, wanted: Wanted) -> Result<()> {
        self.write("note what should become of a service", |transaction| {
            transaction.execute(
                "UPDATE instance SET wanted = ?4, disk_bytes = NULL WHERE addon = ?1 AND service = ?2 AND resource = ?3",
                params![of.addon.to_string(), of.service.as_str(), of.resource, wanted.name()],
            )?;
            Ok(())
        })
    }

    pub fn note_failure(
        &self,
        of: &Instance,
        failures: u32,
        failed_at: Option<i64>,
        log: Option<&str>,
        event: Option<&Event>,
    ) -> Result<()> {
        self.write("note the failure of a service", |transaction| {
            transaction.execute(
                "UPDATE instance SET failures = ?4, failed_at = ?5, log = coalesce(?6, log)
                 WHERE addon = ?1 AND service = ?2 AND resource = ?3",
                params![of.addon.to_string(), of.service.as_str(), of.resource, failures, failed_at, log],
            )?;
            self.tell(transaction, event)
        })
    }

    pub fn note_disk(&self, of: &Instance, bytes: Option<u64>) -> Result<()> {
        self.write("note what a service takes of the disk", |transaction| {
            transaction.execute(
                "UPDATE instance SET disk_bytes = ?4 WHERE addon = ?1 AND service = ?2 AND resource = ?3",
                params![of.addon.to_string(), of.service.as_str(), of.resource, bytes],
            )?;
            Ok(())
        })
    }

    /// Its failures are forgiven, and what it takes of the disk for a while.
    pub fn spare(&self, of: &Instance, at: i64) -> Result<()> {
        self.write("note that a service is tried again", |transaction| {
            transaction.execute(
                "UPDATE instance SET failures = 0, failed_at = NULL, spared_at = ?4
                 WHERE addon = ?1 AND service = ?2 AND resource = ?3",
                params![of.addon.to_string(), of.service.as_str(), of.resource, at],
            )?;
            Ok(())
        })
    }

    /// Forgets an instance of which nothing is left, with its ports.
    pub fn forget_instance(&self, of: &Instance) -> Result<()> {
        self.write("forget a service", |transaction| {
            transaction.execute(
                "DELETE FROM instance WHERE addon = ?1 AND service = ?2 AND resource = ?3",
                params![of.addon.to_string(), of.service.as_str(), of.resource],
            )?;
            Ok(())
        })
    }

    /// The image that is pinned for a service of a version; `None` where the manifest names another by now.
    pub fn pin(&self, addon: &AddonId, version: &Version, service: &Id, reference: &str) -> Result<Option<Pin>> {
        self.read("find an image", |connection| {
            let sql = "SELECT * FROM image WHERE addon = ?1 AND version = ?2 AND service = ?3 AND reference = ?4";
            let values = params![addon.to_string(), version.to_string(), service.as_str(), reference];
            connection.prepare_cached(sql)?.query_row(values, pin).optional()
        })
    }

    /// Whether an image was ever pinned for the addon: without one it has nothing on any engine.
    pub fn has_images(&self, addon: &AddonId) -> Result<bool> {
        self.read("look for images", |connection| {
            connection.prepare_cached("SELECT 1 FROM image WHERE addon = ?1")?.exists([addon.to_string()])
        })
    }

    /// The images of an addon, in whatever version.
    pub fn pins(&self, addon: &AddonId) -> Result<Vec<Pin>> {
        self.read("list images", |connection| {
            let sql = "SELECT * FROM image WHERE addon = ?1 ORDER BY version, service";
            collect(connection, sql, [addon.to_string()], pin)
        })
    }

    pub fn put_pin(&self, addon: &AddonId, version: &Version, service: &Id, reference: &str, pin: &Pin) -> Result<()> {
        self.write("note an image", |transaction| put_pin(transaction, addon, version, service, reference, pin))
    }
}

pub(super) fn put_pin(
    transaction: &Transaction<'_>,
    addon: &AddonId,
    version: &Version,
    service: &Id,
    reference: &str,
    pin: &Pin,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO image (addon, version, service, reference, id, digest, volumes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            addon.to_string(),
            version.to_string(),
            service.as_str(),
            reference,
            pin.id,
            pin.digest,
            to_json(&pin.volumes)?
        ],
    )?;
    Ok(())
}

/// Within the transaction that needs them, so that no two instances are given one port.
pub(super) fn assign_ports(
    transaction: &Transaction<'_>,
    of: &Instance,
    want: &Want<'_>,
    usable: impl Fn(u16) -> bool,
) -> rusqlite::Result<std::result::Result<(), u16>> {
    let mut statement = transaction.prepare_cached("SELECT host_port FROM port WHERE engine = ?1")?;
    let mut taken: Vec<u16> = Vec::new();
    for engine in want.machine {
        for port in statement.query_map([engine], |row| row.get(0))? {
            taken.push(port?);
        }
    }
    taken.sort_unstable();
    let addon = of.addon.to_string();
    // What an earlier version of the manifest had is free for others.
    let declared = serde_json::to_string(&want.ports.keys().collect::<Vec<_>>()).unwrap_or_default();
    transaction.execute(
        "DELETE FROM port WHERE addon = ?1 AND service = ?2 AND resource = ?3
         AND container_port NOT IN (SELECT value FROM json_each(?4))",
        params![addon, of.service.as_str(), of.resource, declared],
    )?;
    for (&container, &fixed) in want.ports {
        let kept: Option<u16> = transaction
            .prepare_cached(
                "SELECT host_port FROM port WHERE addon = ?1 AND service = ?2 AND resource = ?3 AND container_port = ?4",
            )?
            .query_row(params![addon, of.service.as_str(), of.resource, container], |row| row.get(0))
            .optional()?;
        let free = |taken: &[u16]| want.range.clone().find(|port| taken.binary_search(port).is_err() && usable(*port));
        let port = match (kept, fixed) {
            (Some(kept), None) => kept,
            (Some(kept), Some(fixed)) if kept == fixed => kept,
            (_, Some(fixed)) if taken.binary_search(&fixed).is_ok() => return Ok(Err(fixed)),
            (_, Some(fixed)) => fixed,
            (None, None) => match free(&taken) {
                Some(port) => port,
                None => return Ok(Err(0)),
            },
        };
        if kept == Some(port) {
            continue;
        }
        transaction.execute(
            "DELETE FROM port WHERE addon = ?1 AND service = ?2 AND resource = ?3 AND container_port = ?4",
            params![addon, of.service.as_str(), of.resource, container],
        )?;
        transaction.execute(
            "INSERT INTO port (engine, host_port, addon, service, resource, container_port)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![want.engine, port, addon, of.service.as_str(), of.resource, container],
        )?;
        let at = taken.partition_point(|other| *other < port);
        taken.insert(at, port);
    }
    Ok(Ok(()))
}

//! A whole home's rows, put into an empty store in one transaction; and the note that this is under way.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rusqlite::{Transaction, params};

use super::Store;
use super::platforms::{OrderRow, insert_order};
use super::rows::{parse_json, to_json};
use super::services::{assign_ports, put_pin};
use super::statements::put_addon_row;
use super::{AddonRow, ResourceRow, Want, Wanted};
use crate::error::{Error, Result};
use crate::id::{AddonId, Id};
use crate::provider::Dialect;
use crate::render::{Instance, Pin};

/// In `meta`, while a restore is under way or cut off: the engines it may have made volumes on.
const RESTORING: &str = "restoring";

/// An addon with all it has.
pub(crate) struct NewAddon {
    pub row: AddonRow,
    /// The slot it fills.
    pub slot: Option<Id>,
    /// Sealed.
    pub settings: BTreeMap<String, Vec<u8>>,
    /// With their log drains.
    pub resources: Vec<(ResourceRow, Option<String>)>,
    /// What platforms prove themselves with, sealed, and what they have ordered.
    pub platforms: BTreeMap<Dialect, Vec<u8>>,
    pub orders: Vec<OrderRow>,
    /// Services with the names of their images.
    pub pins: Vec<(Id, String, Pin)>,
    pub instances: Vec<NewInstance>,
}

/// An instance of a service that is to be.
pub(crate) struct NewInstance {
    pub instance: Instance,
    pub engine: String,
    pub wanted: Wanted,
    /// Sealed.
    pub environment: Option<Vec<u8>>,
    pub memory_bytes: u64,
    pub millicpus: u64,
    /// Container ports to the host ports they had: kept where they are free.
    pub kept: BTreeMap<u16, u16>,
    /// Container ports to the host port the manifest fixes, if any.
    pub ports: BTreeMap<u16, Option<u16>>,
}

/// Which host ports a machine has to give.
pub(crate) struct Ports<'a> {
    pub range: RangeInclusive<u16>,
    /// The engines on the machine of an engine, itself among them.
    pub machine_of: &'a dyn Fn(&str) -> Vec<String>,
    /// Whether nobody has the port of an engine's machine just now.
    pub usable: &'a dyn Fn(&str, u16) -> bool,
}

impl Store {
    /// The engines of a restore that is under way, or was cut off.
    pub fn restoring(&self) -> Result<Option<Vec<String>>> {
        let noted = self.meta(RESTORING)?;
        self.read("read what a restore has begun", |_| noted.as_deref().map(parse_json).transpose())
    }

    /// Commits that a restore is about to make files, and volumes on these engines.
    pub fn begin_restore(&self, engines: &[String]) -> Result<()> {
        self.write("note a restore", |transaction| {
            transaction.execute("INSERT INTO meta (name, value) VALUES (?1, ?2)", [RESTORING, &to_json(&engines)?])?;
            Ok(())
        })
    }

    /// Commits that nothing of a restore is left.
    pub fn end_restore(&self) -> Result<()> {
        self.write("note the end of a restore", |transaction| transaction.execute(FORGET, [RESTORING]).map(drop))
    }

    /// Commits a whole home, into a store that has no addon.
    pub fn restore(&self, addons: &[NewAddon], ports: &Ports<'_>) -> Result<()> {
        self.write_if_ok("note a restored home", |transaction| {
            if transaction.prepare("SELECT 1 FROM addon")?.exists([])? {
                return Ok(Err(Error::HomeNotEmpty { what: "addons".to_owned() }));
            }
            for addon in addons {
                put(transaction, addon)?;
                for instance in &addon.instances {
                    if let Err(port) = put_instance(transaction, instance, ports)? {
                        let (addon, service) = (addon.row.id.clone(), instance.instance.service.clone());
                        let range = (*ports.range.start(), *ports.range.end());
                        return Ok(Err(Error::PortTaken { addon, service, port, range }));
                    }
                }
            }
            transaction.execute(FORGET, [RESTORING])?;
            Ok(Ok(()))
        })?
    }

    /// Where the logs of resources go, by our key.
    pub fn log_drains(&self, addon: &AddonId) -> Result<BTreeMap<String, String>> {
        self.read("list log drains", |connection| {
            let sql = "SELECT key, log_drain_url FROM resource WHERE addon = ?1 AND log_drain_url IS NOT NULL";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            connection.prepare_cached(sql)?.query_map([addon.to_string()], read)?.collect()
        })
    }
}

const FORGET: &str = "DELETE FROM meta WHERE name = ?1";

fn put(transaction: &Transaction<'_>, addon: &NewAddon) -> rusqlite::Result<()> {
    let id = addon.row.id.to_string();
    put_addon_row(transaction, &addon.row)?;
    if let Some(slot) = &addon.slot {
        transaction.execute("INSERT INTO slot (name, addon) VALUES (?1, ?2)", params![slot.as_str(), id])?;
    }
    for (name, value) in &addon.settings {
        let sql = "INSERT INTO setting (addon, name, value) VALUES (?1, ?2, ?3)";
        transaction.execute(sql, params![id, name, value])?;
    }
    for (row, drain) in &addon.resources {
        transaction.execute(
            "INSERT INTO resource (key, addon, app, alias, plan, options, variables, state, guest_id, private, message,
                                   log_drain_url, created_at, region)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
                row.key,
                id,
                row.app.as_str(),
                row.alias.as_ref().map_or("", Id::as_str),
                row.plan.as_ref().map(Id::as_str),
                to_json(&row.options)?,
                to_json(&row.variables)?,
                row.state.to_string(),
                row.guest_id,
                row.private,
                row.message,
                drain,
                row.created_at,
                row.region
            ],
        )?;
    }
    for (dialect, sealed) in &addon.platforms {
        let sql = "INSERT INTO platform (addon, dialect, secrets) VALUES (?1, ?2, ?3)";
        transaction.execute(sql, params![id, dialect.as_str(), sealed])?;
    }
    for order in &addon.orders {
        insert_order(transaction, order)?;
    }
    for (service, reference, pin) in &addon.pins {
        put_pin(transaction, &addon.row.id, &addon.row.version, service, reference, pin)?;
    }
    Ok(())
}

/// `Err` within as for [`Store::want`].
fn put_instance(
    transaction: &Transaction<'_>,
    new: &NewInstance,
    ports: &Ports<'_>,
) -> rusqlite::Result<std::result::Result<(), u16>> {
    let Instance { addon, service, resource } = &new.instance;
    transaction.execute(
        "INSERT INTO instance (addon, service, resource, engine, wanted, environment, memory_bytes, millicpus)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            addon.to_string(),
            service.as_str(),
            resource,
            new.engine,
            new.wanted.name(),
            new.environment,
            new.memory_bytes,
            new.millicpus
        ],
    )?;
    let machine = (ports.machine_of)(&new.engine);
    for (container, host) in &new.kept {
        let taken = transaction
            .prepare_cached("SELECT 1 FROM port WHERE host_port = ?1 AND engine IN (SELECT value FROM json_each(?2))")?
            .exists(params![host, to_json(&machine)?])?;
        let usable = !taken && ports.range.contains(host) && (ports.usable)(&new.engine, *host);
        if usable && new.ports.contains_key(container) {
            transaction.execute(
                "INSERT INTO port (engine, host_port, addon, service, resource, container_port)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![new.engine, host, addon.to_string(), service.as_str(), resource, container],
            )?;
        }
    }
    let want = Want {
        engine: &new.engine,
        machine: &machine,
        memory_bytes: new.memory_bytes,
        millicpus: new.millicpus,
        environment: None,
        ports: &new.ports,
        range: ports.range.clone(),
    };
    assign_ports(transaction, &new.instance, &want, |port| (ports.usable)(&new.engine, port))
}

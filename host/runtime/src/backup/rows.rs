//! What the store has of an addon, as it stands in a backup; and what is taken of that on another machine.
//!
//! Law 6: it is held to what this host would itself have written, by the rules it came under when it was made. What follows
//! from the package, the grant or the machine (names of variables, limits, container and volume names) is not in it: it is
//! found anew.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::unexpected;
use crate::addons::{Incoming, SETTING_MAX};
use crate::bindings::Provisioned;
use crate::compiler;
use crate::error::{Error, Result};
use crate::hook::{HookName, MESSAGE_MAX, accept_provisioned};
use crate::host::{Host, resource_place};
use crate::id::{AddonId, Id};
use crate::key::random;
use crate::lifecycle::{AddonState, ResourceState};
use crate::manifest::Manifest;
use crate::provider::{Dialect, Order, ProviderCredentials, is_named, is_order_id, order_row};
use crate::registry::setting_place;
use crate::render::Instance;
use crate::resources::{check_options, variables};
use crate::store::{AddonRow, NewInstance, OrderRow, ResourceRow, Wanted};
use crate::text::shown;
use crate::tree::Size;

/// Longest value a guest sets for a service.
const VALUE_MAX: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedAddon {
    pub id: String,
    pub version: semver::Version,
    pub digest: String,
    pub dev: bool,
    pub state: String,
    pub installed_at: i64,
    pub settings: BTreeMap<String, String>,
    pub resources: Vec<SavedResource>,
    /// What platforms prove themselves with, and what they have ordered.
    pub platforms: BTreeMap<Dialect, ProviderCredentials>,
    pub orders: Vec<SavedOrder>,
    pub images: Vec<SavedImage>,
    pub instances: Vec<SavedInstance>,
    pub volumes: Vec<VolumeAt>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedResource {
    pub key: String,
    pub app: Id,
    pub alias: Option<Id>,
    pub plan: Option<Id>,
    pub options: BTreeMap<String, String>,
    pub region: Option<String>,
    pub state: String,
    pub id: Option<String>,
    pub private: Option<String>,
    pub message: Option<String>,
    pub log_drain_url: Option<String>,
    pub created_at: i64,
}

/// What a platform has ordered, for one of the resources.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedOrder {
    pub id: String,
    pub dialect: Dialect,
    pub asked: Order,
    pub made_at: i64,
    pub gone_at: Option<i64>,
    /// The platform is yet to be told of it.
    pub waits: bool,
}

/// What the image of a service was pinned to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedImage {
    pub service: Id,
    pub id: String,
    pub digest: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedInstance {
    pub service: Id,
    /// Empty: the addon's.
    pub resource: String,
    pub engine: String,
    pub running: bool,
    /// What a guest has set.
    pub environment: Option<BTreeMap<String, String>>,
    /// Container port to host port.
    pub ports: BTreeMap<u16, u16>,
}

/// A volume, by one place where it is mounted: its name is another in every home.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeAt {
    pub service: Id,
    pub resource: String,
    pub path: String,
}

impl Host {
    /// What the store has of an addon, secrets opened. Its lock is held, and nothing is under way.
    pub(super) fn saved(&self, row: &AddonRow, manifest: &Manifest, volumes: Vec<VolumeAt>) -> Result<SavedAddon> {
        let key = &self.home.key;
        let mut settings = BTreeMap::new();
        for (name, sealed) in self.store.settings(&row.id)? {
            // What an earlier version had declared means nothing to this one.
            if manifest.settings.contains_key(&name) {
                let value = key.open(&setting_place(&row.id, &name), &sealed)?;
                settings.insert(name, value);
            }
        }
        let mut drains = self.store.log_drains(&row.id)?;
        let mut resources = Vec::new();
        for row in self.store.resources_of_addon(&row.id)? {
            let open = |sealed: &Vec<u8>| key.open(&resource_place(&row.key), sealed);
            resources.push(SavedResource {
                private: row.private.as_ref().map(open).transpose()?,
                log_drain_url: drains.remove(&row.key),
                state: row.state.settled().to_string(),
                key: row.key,
                app: row.app,
                alias: row.alias,
                plan: row.plan,
                options: row.options,
                region: row.region,
                id: row.guest_id,
                message: row.message,
                created_at: row.created_at,
            });
        }
        let mut platforms = BTreeMap::new();
        for dialect in Dialect::ALL {
            platforms.extend(self.made_credentials(&row.id, dialect)?.map(|made| (dialect, made)));
        }
        let orders = self.store.orders_of(&row.id)?.into_iter().map(|row| {
            let OrderRow { id, dialect, asked, made_at, gone_at, tell_at, .. } = row;
            SavedOrder { id, dialect, asked, made_at, gone_at, waits: tell_at.is_some() }
        });
        let orders = orders.collect();
        let mut images = Vec::new();
        for service in &manifest.services {
            let pin = self.store.pin(&row.id, &row.version, &service.name, &service.image.to_string())?;
            images.extend(pin.map(|pin| SavedImage { service: service.name.clone(), id: pin.id, digest: pin.digest }));
        }
        let mut instances = Vec::new();
        for row in self.store.instances(&row.id)? {
            let declared = manifest.services.iter().any(|service| service.name == row.instance.service);
            if row.wanted == Wanted::Gone || !declared {
                continue;
            }
            let values = row.environment.as_ref().map(|sealed| self.services.opened(&row.instance, sealed));
            instances.push(SavedInstance {
                environment: values.transpose()?,
                running: row.wanted == Wanted::Running,
                service: row.instance.service,
                resource: row.instance.resource,
                engine: row.engine,
                ports: row.ports,
            });
        }
        Ok(SavedAddon {
            id: row.id.to_string(),
            version: row.version.clone(),
            digest: row.digest.clone(),
            dev: row.dev,
            state: row.state.clone().settled().to_string(),
            installed_at: row.installed_at,
            settings,
            resources,
            platforms,
            orders,
            images,
            instances,
            volumes,
        })
    }

    /// The addon as it will be in this home, in which `known` resources are already.
    pub(super) fn taken(&self, saved: &SavedAddon, incoming: &Incoming, known: &mut Vec<ResourceRow>) -> Result<Taken> {
        let package = &incoming.package;
        let manifest = &package.manifest;
        let wrong = |what: &str, why: &str| unexpected(&format!("{what} of {}", shown(&saved.id, 100)), why);
        if saved.id != manifest.id.to_string() || saved.digest != package.digest {
            return Err(wrong("the package", "is not the one that was installed"));
        }
        if manifest.version.as_ref().is_some_and(|version| *version != saved.version) {
            return Err(wrong("the version", "is not that of its package"));
        }
        let state = saved.state.parse().ok().filter(rests).ok_or_else(|| wrong("the state", "is none it can be in"))?;
        let row = AddonRow {
            id: manifest.id.clone(),
            version: saved.version.clone(),
            digest: package.digest.clone(),
            component_digest: package.component.as_deref().map(compiler::digest),
            dev: saved.dev,
            grant_digest: incoming.grant.digest.clone(),
            events: incoming.grant.events.clone(),
            state,
            revision: i64::from_ne_bytes(random()?) >> 1,
            data: Size::default(),
            installed_at: saved.installed_at,
        };
        let mut settings = BTreeMap::new();
        for (name, value) in &saved.settings {
            if !manifest.settings.contains_key(name) || value.len() > SETTING_MAX {
                return Err(wrong(&format!("the setting {}", shown(name, 60)), "is not declared, or too long"));
            }
            settings.insert(name.clone(), self.home.key.seal(&setting_place(&row.id, name), value.as_bytes())?);
        }
        let mut resources = Vec::new();
        for resource in &saved.resources {
            let taken = self.taken_resource(resource, incoming, known)?;
            known.push(taken.0.clone());
            resources.push(taken);
        }
        let mut platforms = BTreeMap::new();
        for (dialect, made) in &saved.platforms {
            platforms.insert(*dialect, self.sealed_credentials(&row.id, *dialect, made)?);
        }
        let mut orders: Vec<OrderRow> = Vec::new();
        for order in &saved.orders {
            let order =
                taken_order(&row.id, order).ok_or_else(|| wrong("an order of a platform", "is not one of ours"))?;
            let same = |other: &OrderRow| {
                let uuid = order.asked.uuid.is_some() && other.asked.uuid == order.asked.uuid;
                other.id == order.id || (uuid && other.dialect == order.dialect)
            };
            if orders.iter().any(same) {
                return Err(wrong("an order of a platform", "is there twice"));
            }
            orders.push(order);
        }
        let instances = self.taken_instances(saved, incoming)?;
        Ok(Taken { row, settings, resources, platforms, orders, instances })
    }

    fn taken_resource(
        &self,
        saved: &SavedResource,
        incoming: &Incoming,
        known: &[ResourceRow],
    ) -> Result<(ResourceRow, Option<String>)> {
        let manifest = &incoming.package.manifest;
        let of = format!("what app {} has of {}", saved.app, manifest.id);
        let wrong = |why: &str| unexpected(&of, why);
        if saved.key.len() != 32 || !saved.key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("has no key of ours"));
        }
        let state: Option<ResourceState> = saved.state.parse().ok();
        let state = state.filter(|state| *state == state.clone().settled()).ok_or_else(|| wrong("is in no state"))?;
        if saved.plan.as_ref().is_some_and(|plan| manifest.plan(plan).is_none()) {
            return Err(wrong("has a plan its package does not have"));
        }
        check_options(&saved.options)?;
        match (&saved.id, &saved.private) {
            (Some(id), Some(private)) => {
                let made = Provisioned {
                    id: id.clone(),
                    private: private.clone(),
                    message: None,
                    log_drain_url: saved.log_drain_url.clone(),
                };
                accept_provisioned(&made).map_err(|why| wrong(&why))?;
            }
            (None, None) if state != ResourceState::Active && saved.log_drain_url.is_none() => {}
            _ => return Err(wrong("has no id, or no private value")),
        }
        let same = |other: &ResourceRow| {
            let of_addon = other.addon == manifest.id;
            other.key == saved.key
                || (of_addon && other.app == saved.app && other.alias == saved.alias)
                || (of_addon && saved.id.is_some() && other.guest_id == saved.id)
        };
        if known.iter().any(same) {
            return Err(wrong("is there twice"));
        }
        let others: Vec<ResourceRow> = known.iter().filter(|other| other.app == saved.app).cloned().collect();
        let seal = |private: &String| self.home.key.seal(&resource_place(&saved.key), private.as_bytes());
        let row = ResourceRow {
            key: saved.key.clone(),
            addon: manifest.id.clone(),
            app: saved.app.clone(),
            alias: saved.alias.clone(),
            plan: saved.plan.clone(),
            options: saved.options.clone(),
            region: saved.region.as_deref().map(|region| shown(region, VALUE_MAX)),
            variables: variables(&incoming.grant, &saved.app, saved.alias.as_ref(), &others)?,
            state,
            guest_id: saved.id.clone(),
            private: saved.private.as_ref().map(seal).transpose()?,
            message: saved.message.as_deref().map(|text| shown(text, MESSAGE_MAX)),
            created_at: saved.created_at,
        };
        Ok((row, saved.log_drain_url.clone()))
    }

    fn taken_instances(&self, saved: &SavedAddon, incoming: &Incoming) -> Result<Vec<NewInstance>> {
        let manifest = &incoming.package.manifest;
        let keys: BTreeSet<&str> = saved.resources.iter().map(|resource| resource.key.as_str()).collect();
        let mut seen = BTreeSet::new();
        let mut instances = Vec::new();
        for instance in &saved.instances {
            let of = format!("the service {} of {}", instance.service, manifest.id);
            let wrong = |why: &str| unexpected(&of, why);
            let mut declared = manifest.services.iter().zip(&incoming.grant.services);
            let (service, grant) = declared
                .find(|(service, _)| service.name == instance.service)
                .ok_or_else(|| wrong("is not declared by its package"))?;
            let of_resource = keys.contains(instance.resource.as_str());
            if !(instance.resource.is_empty() || of_resource) || !seen.insert((&instance.service, &instance.resource)) {
                return Err(wrong("is there twice, or belongs to nobody"));
            }
            let fits = |(name, value): (&String, &String)| {
                service.environment.contains_key(name) && value.len() <= VALUE_MAX && !value.contains('\0')
            };
            if !instance.environment.iter().flatten().all(fits) {
                return Err(wrong("was given a variable it does not declare, or too long a value"));
            }
            self.services.engines.get(&instance.engine)?;
            let of = Instance {
                addon: manifest.id.clone(),
                service: instance.service.clone(),
                resource: instance.resource.clone(),
            };
            let seal = |values| self.services.sealed(&of, values);
            instances.push(NewInstance {
                engine: instance.engine.clone(),
                wanted: if instance.running { Wanted::Running } else { Wanted::Stopped },
                environment: instance.environment.as_ref().map(seal).transpose()?,
                memory_bytes: grant.memory_bytes,
                millicpus: grant.millicpus,
                kept: instance.ports.clone(),
                ports: service.ports.clone(),
                instance: of,
            });
        }
        Ok(instances)
    }
}

/// An addon as it will be.
pub(super) struct Taken {
    pub row: AddonRow,
    /// Sealed for this home.
    pub settings: BTreeMap<String, Vec<u8>>,
    /// With their log drains.
    pub resources: Vec<(ResourceRow, Option<String>)>,
    /// Sealed for this home.
    pub platforms: BTreeMap<Dialect, Vec<u8>>,
    pub orders: Vec<OrderRow>,
    pub instances: Vec<NewInstance>,
}

impl Taken {
    pub fn id(&self) -> &AddonId {
        &self.row.id
    }
}

fn taken_order(addon: &AddonId, saved: &SavedOrder) -> Option<OrderRow> {
    let SavedOrder { id, dialect, asked, made_at, gone_at, waits } = saved;
    let row = order_row(addon, *dialect, id.clone(), asked.clone(), *made_at).ok()?;
    let fits = is_order_id(id) && is_named(asked);
    // It is told anew: at least once.
    fits.then_some(OrderRow { gone_at: *gone_at, tell_at: waits.then_some(*made_at), ..row })
}

/// Whether an addon can be in this state while nothing is under way, and nothing is to be taken back.
fn rests(state: &AddonState) -> bool {
    match state {
        AddonState::Installed | AddonState::Enabled | AddonState::Degraded => true,
        AddonState::Failed(hook) | AddonState::Interrupted(hook) => {
            matches!(hook, HookName::Enable | HookName::Disable)
        }
        AddonState::Enabling | AddonState::Disabling | AddonState::Upgrading => false,
    }
}

/// Names and versions of addons are parsed before anything else is believed.
pub(super) fn addon_id(text: &str) -> Result<AddonId> {
    text.parse().map_err(|_| Error::InvalidId(text.to_owned()))
}

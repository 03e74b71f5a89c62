//! Services: what makes the containers of addons be as the store says they should.
//!
//! The store says which instances should exist; engines say which do (law 7). Every change commits what is wanted before an
//! engine is asked, so that a host that dies in between leaves something that [`Services::reconcile`] finishes: it looks at
//! what is there in one list per engine, and starts, makes anew or removes what differs. An engine that does not answer
//! ends it with nothing deleted. What does not carry this home's mark is foreign and never touched.
//!
//! Callers hold the addon's lock.

mod commands;
mod connect;
mod converge;
mod disk;
mod image;
mod lost;
mod ready;
mod reconcile;
mod secrets;
mod stand_in;
mod states;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::engine::{About, Container, Engine};
use crate::error::{Error, Result};
use crate::grant::ServiceGrant;
use crate::home::Home;
use crate::host::{now_ms, told_of_progress};
use crate::id::{AddonId, Id};
use crate::key::Key;
use crate::manifest::{Service, StartMode};
use crate::outbound::Outbound;
use crate::policy::{Reach, ServicePolicy};
use crate::registry::Addon;
use crate::render::{Instance, Marks, Places, Plan, Rendered};
use crate::sandbox::{ProgressEvent, ProgressSink};
use crate::store::{InstanceRow, Store, Want, Wanted};
use crate::text::{redact, shown};

use commands::Commands;

pub(crate) use commands::AtWork;
pub(crate) use connect::Engines;
pub(crate) use disk::TooLarge;
pub(crate) use lost::told_lost;
pub use reconcile::Repair;
pub(crate) use reconcile::Seen;
pub(crate) use volumes::{OnDisk, SavedVolume};

/// How long a service may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// What is kept of the output of a service that failed.
const LOG_KEPT: usize = 16 << 10;

pub(crate) struct Services {
    pub engines: Engines,
    pub store: Arc<Store>,
    pub key: Key,
    /// The home's identity.
    pub home: String,
    pub policy: ServicePolicy,
    pub progress: Option<ProgressSink>,
    pub outbound: Arc<Outbound>,
    pub commands: Commands,
    /// Of instances that guests run commands in just now; those with streams apart, which are as slow as their readers.
    pub execs: Turns,
    pub pipes: Turns,
}

pub(crate) type Turns = Mutex<BTreeMap<Instance, Weak<Semaphore>>>;

/// A service of an addon, as declared and as granted.
fn declared<'a>(addon: &'a Addon, name: &Id) -> Result<(&'a Service, &'a ServiceGrant)> {
    let mut pairs = addon.manifest.services.iter().zip(&addon.grant.services);
    pairs
        .find(|(service, _)| service.name == *name)
        .ok_or_else(|| Error::UnknownService { addon: addon.id.clone(), service: name.to_string() })
}

impl Services {
    pub fn new(
        home: &Home,
        policy: &ServicePolicy,
        store: Arc<Store>,
        outbound: Arc<Outbound>,
        progress: Option<ProgressSink>,
    ) -> Services {
        Services {
            engines: Engines::new(policy.engines.clone()),
            store,
            key: home.key.clone(),
            home: home.identity.clone(),
            policy: policy.clone(),
            outbound,
            progress,
            commands: Commands::new(home.commands()),
            execs: Turns::default(),
            pipes: Turns::default(),
        }
    }

    pub fn marks(&self) -> Marks<'_> {
        Marks { home: &self.home, key: &self.key }
    }

    /// The names of services that start with the addon.
    pub fn of_addon(addon: &Addon) -> Vec<Id> {
        let services = addon.manifest.services.iter();
        services.filter(|service| service.start == StartMode::Enable).map(|service| service.name.clone()).collect()
    }

    /// Makes an instance run, and waits until it is ready. `environment` holds the values a guest has set; `chosen` is the
    /// engine for it where it has no place yet.
    pub async fn run(
        &self,
        addon: &Addon,
        instance: &Instance,
        environment: Option<&BTreeMap<String, String>>,
        chosen: Option<&str>,
    ) -> Result<()> {
        let (service, grant) = declared(addon, &instance.service)?;
        let known = self.store.instance(instance)?;
        if let Some(TooLarge { why, way_on }) = known.as_ref().and_then(|row| TooLarge::of(addon, row)) {
            let (addon, service) = (addon.id.clone(), instance.service.clone());
            return Err(Error::Service { addon, service, message: why, hint: way_on });
        }
        let engine = match &known {
            Some(row) => row.engine.clone(),
            None => self.place(&addon.id, &instance.resource, chosen).await?,
        };
        self.pin(addon, service, &engine).await?;
        let sealed = environment.map(|values| self.sealed(instance, values)).transpose()?;
        let usable = |port| self.engines.is_remote(&engine) || is_free(self.policy.address, port);
        let want = Want {
            engine: &engine,
            machine: &self.engines.on_machine_of(&engine),
            memory_bytes: grant.memory_bytes,
            millicpus: grant.millicpus,
            environment: sealed.as_deref(),
            ports: &service.ports,
            range: self.policy.host_ports.clone(),
        };
        let wanted = self.store.want(instance, &want, usable)?;
        wanted.map_err(|port| Error::PortTaken {
            addon: addon.id.clone(),
            service: instance.service.clone(),
            port,
            range: (*self.policy.host_ports.start(), *self.policy.host_ports.end()),
        })?;
        let Some(row) = self.store.instance(instance)? else { return Err(Error::TaskLost) };
        self.tell(format!("starting {}", instance.service));
        let engine = self.engines.get(&row.engine)?;
        let rendered = self.rendered(addon, &row)?;
        self.forgive_losses(&row, &rendered)?;
        let there = engine.container(&rendered.container.name).await?;
        self.end_commands(&*engine, &row, there.as_ref()).await?;
        let done = self.converge(&*engine, &row, &rendered, there.as_ref()).await?;
        if let Err(error) = self.wait_ready(&*engine, addon, service, &row).await {
            if let Error::ServiceNotReady { log, .. } = &error {
                self.store.note_failure(instance, 0, None, Some(log), None)?;
            }
            // What was started for this and is not ready serves nobody. What ran before may serve others, and stays.
            if done.is_some() {
                self.store.set_wanted(instance, Wanted::Stopped)?;
                engine.stop(&rendered.container.name, GRACE).await?;
                engine.remove(&rendered.container.name).await?;
                if rendered.secrets.is_some() {
                    self.remove_secrets(&*engine, &row).await?;
                }
            }
            return Err(error);
        }
        self.tell(format!("{} is ready", instance.service));
        Ok(())
    }

    /// Makes the networks of an addon before the first of its services needs them.
    pub async fn prepare(&self, addon: &Addon, engine: &str) -> Result<()> {
        let address = self.policy.address_on(engine);
        let engine = self.engines.get(engine)?;
        for (service, grant) in addon.manifest.services.iter().zip(&addon.grant.services) {
            let Some(pin) = self.store.pin(&addon.id, &addon.version, &service.name, &grant.image)? else { continue };
            // Which networks it joins depends on whether it has ports, not on which.
            let ports = service.ports.keys().map(|&port| (port, port)).collect();
            let alone = addon.manifest.services.len() == 1;
            // Others' networks are not made, whichever they are.
            let none = Places::new();
            let places = addon.grant.stands_in_by(&service.name).map(|_| &none);
            let environment = BTreeMap::new();
            let plan = Plan { service, grant, alone, pin: &pin, ports: &ports, address, places, environment };
            let instance = Instance { addon: addon.id.clone(), service: service.name.clone(), resource: String::new() };
            for network in &self.marks().render(&instance, &plan, &self.policy).networks {
                engine.create_network(network).await?;
            }
        }
        Ok(())
    }

    /// What the instance should be on its engine.
    fn rendered(&self, addon: &Addon, row: &InstanceRow) -> Result<Rendered> {
        let instance = &row.instance;
        let (service, grant) = declared(addon, &instance.service)?;
        let pin = self.store.pin(&addon.id, &addon.version, &service.name, &grant.image)?;
        let pin = pin.ok_or_else(|| Error::Service {
            addon: addon.id.clone(),
            service: instance.service.clone(),
            message: "its image is not pinned".to_owned(),
            hint: format!("`lodger enable {}` again", addon.id),
        })?;
        let mut environment = BTreeMap::new();
        for name in service.environment.keys() {
            if let Some(value) = addon.settings.value(name) {
                environment.insert(name.clone(), value);
            }
        }
        if let Some(sealed) = &row.environment {
            environment.extend(self.opened(instance, sealed)?);
        }
        let alone = addon.manifest.services.len() == 1;
        let address = self.policy.address_on(&row.engine);
        let places = match addon.grant.stands_in_by(&service.name) {
            Some(_) => Some(self.store.stand_in(&addon.id)?.map(|row| row.places).unwrap_or_default()),
            None => None,
        };
        let places = places.as_ref();
        let plan = Plan { service, grant, alone, pin: &pin, ports: &row.ports, address, places, environment };
        Ok(self.marks().render(instance, &plan, &self.policy))
    }

    /// The values a guest has set, as they are kept.
    pub fn sealed(&self, instance: &Instance, values: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(values).unwrap_or_default();
        self.key.seal(&place(instance), &json)
    }

    pub fn opened(&self, instance: &Instance, sealed: &[u8]) -> Result<BTreeMap<String, String>> {
        let json = self.key.open(&place(instance), sealed)?;
        serde_json::from_str(&json).map_err(|_| Error::SealBroken)
    }

    /// Commits what should become of all instances of an addon, or of one resource, and does it. What a service of it stands
    /// in for runs again before the rest has ended. Networks stay for as long as the addon is enabled, since making them takes
    /// as long as starting a container.
    ///
    /// # Errors
    /// With nothing changed, when an engine does not answer.
    pub async fn end(&self, id: &AddonId, resource: Option<&str>, wanted: Wanted) -> Result<Vec<Repair>> {
        self.answer(id).await?;
        let rows = self.store.instances(id)?;
        let engines: BTreeSet<String> = rows.iter().map(|row| row.engine.clone()).collect();
        // An addon ends what it stands in for with itself.
        if resource.is_none() && self.store.stand_in(id)?.is_some() {
            self.store.end_stand_in(id, true)?;
        }
        for row in rows {
            let meant = resource.is_none_or(|key| row.instance.resource == key);
            if meant && row.wanted != wanted && row.wanted != Wanted::Gone {
                self.store.set_wanted(&row.instance, wanted)?;
            }
        }
        // What keeps the one from starting must not keep the others running.
        let gave = self.go_on_giving_back(id).await;
        let repairs = self.reconcile_instances(id, None).await?;
        gave?;
        if resource.is_none() && self.store.has_images(id)? {
            for name in self.engines.names() {
                match self.remove_networks(&*self.engines.get(&name)?, id).await {
                    // Nothing of the addon is there, as far as anybody knows.
                    Err(error) if error.is_unreachable() && !engines.contains(&name) => {}
                    done => done?,
                }
            }
        }
        Ok(repairs)
    }

    /// Whether the engines that have anything of an addon answer.
    ///
    /// # Errors
    /// When one does not.
    pub async fn answer(&self, id: &AddonId) -> Result<()> {
        for engine in self.store.engines_of(id)? {
            self.engines.get(&engine)?.about().await?;
        }
        Ok(())
    }

    /// Makes what a resource had run again, as it was, and waits until it is ready.
    pub async fn resume(&self, addon: &Addon, resource: &str) -> Result<()> {
        for row in self.store.instances(&addon.id)?.into_iter().filter(|row| row.instance.resource == resource) {
            let values = row.environment.as_ref().map(|sealed| self.opened(&row.instance, sealed)).transpose()?;
            self.run(addon, &row.instance, values.as_ref(), None).await?;
        }
        Ok(())
    }

    /// Ends all of an addon that goes without its data: nothing is left but the volumes. What could not be ended stays
    /// recorded.
    pub async fn leave(&self, id: &AddonId) -> Result<Vec<Repair>> {
        let repairs = self.end(id, None, Wanted::Stopped).await?;
        if !repairs.iter().any(Repair::is_problem) {
            for row in self.store.instances(id)? {
                self.store.forget_instance(&row.instance)?;
            }
        }
        Ok(repairs)
    }

    /// What the engines that have any instance say of themselves.
    pub async fn about(&self) -> Result<Vec<(String, Result<About>)>> {
        let mut engines = Vec::new();
        for name in self.store.engines()? {
            let about = match self.engines.get(&name) {
                Ok(engine) => engine.about().await.map_err(Error::from),
                Err(error) => Err(error),
            };
            engines.push((name, about));
        }
        Ok(engines)
    }

    /// Where apps reach a port of an instance.
    pub fn address(&self, row: &InstanceRow, port: u16) -> Option<(String, u16)> {
        let host = *row.ports.get(&port)?;
        Some(match &self.policy.reach {
            Reach::Host => (self.policy.address_on(&row.engine).to_string(), host),
            Reach::Network(_) => (row.instance.container_name(&self.marks()), port),
        })
    }

    /// Where this machine reaches a port of an instance's container. What is on another machine is reached where the policy
    /// says: the address of a loopback or of a network of containers leads to something of this one (threat 24).
    pub fn reached_at(&self, row: &InstanceRow, container: &Container, port: u16) -> Option<SocketAddr> {
        container.reached_at(port).filter(|address| self.policy.reaches(&row.engine, address.ip()))
    }

    /// The end of what an instance has written: from its container, or as it was kept when it failed.
    pub async fn logs(&self, addon: &Addon, row: &InstanceRow, most: usize) -> Result<String> {
        let engine = self.engines.get(&row.engine)?;
        Ok(match self.own_container(&*engine, &row.instance).await? {
            Some(there) => self.readable(&engine.logs(&there.id, most).await?, addon, row)?,
            None => row.log.clone().unwrap_or_default(),
        })
    }

    /// The container of an instance, if one is there and this home has made it.
    pub async fn own_container(&self, engine: &dyn Engine, instance: &Instance) -> Result<Option<Container>> {
        let name = instance.container_name(&self.marks());
        let there = engine.container(&name).await?;
        Ok(there.filter(|there| self.marks().vouches_for(&name, &there.labels)))
    }

    /// Output of a container, made fit to be shown, line by line, without what it was handed in confidence.
    fn readable(&self, log: &[u8], addon: &Addon, row: &InstanceRow) -> Result<String> {
        let mut secrets = addon.settings.secrets().to_vec();
        if let Some(sealed) = &row.environment {
            secrets.extend(self.opened(&row.instance, sealed)?.into_values());
        }
        let text = String::from_utf8_lossy(log);
        let text = redact(&text, &secrets);
        Ok(text.lines().map(|line| shown(line, 1024)).collect::<Vec<_>>().join("\n"))
    }

    fn tell(&self, step: String) {
        if let Some(sink) = told_of_progress(self.progress.as_ref()) {
            sink(ProgressEvent::Step(step));
        }
    }
}

/// What a sealed environment is bound to.
fn place(instance: &Instance) -> String {
    format!("environment:{}:{}:{}", instance.addon, instance.service, instance.resource)
}

/// Whether nobody on this machine has the port. What takes it a moment later is noticed when the container starts.
#[expect(clippy::disallowed_methods, reason = "bound to see whether it can be, and let go at once")]
pub(crate) fn is_free(address: IpAddr, port: u16) -> bool {
    std::net::TcpListener::bind((address, port)).is_ok()
}

fn now_s() -> i64 {
    now_ms() / 1000
}

/// The error with the one behind it.
pub(crate) fn with_source(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

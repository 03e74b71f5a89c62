//! Services: what makes the containers of addons be as the store says they should.
//!
//! The store says which instances should exist; engines say which do (law 7). Every change commits what is wanted before an
//! engine is asked, so that a host that dies in between leaves something that [`Services::reconcile`] finishes: it looks at
//! what is there in one list per engine, and starts, makes anew or removes what differs. An engine that does not answer
//! ends it with nothing deleted. What does not carry this home's mark is foreign and never touched.
//!
//! Callers hold the addon's lock.

mod connect;
mod image;
mod ready;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::engine::{Container, Engine, Failure, Fault, Status};
use crate::error::{Error, Result};
use crate::grant::ServiceGrant;
use crate::home::Home;
use crate::host::now_ms;
use crate::id::{AddonId, Id};
use crate::key::Key;
use crate::manifest::{Service, StartMode};
use crate::policy::{Reach, ServicePolicy};
use crate::registry::Addon;
use crate::render::{Instance, LABEL_ADDON, LABEL_HOME, LABEL_RESOURCE, Marks, Plan, Rendered};
use crate::sandbox::{ProgressEvent, ProgressSink};
use crate::store::{InstanceRow, Store, Wanted};
use crate::text::shown;

pub(crate) use connect::Engines;

/// How long a service may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// What is kept of the output of a service that failed.
const LOG_KEPT: usize = 16 << 10;
/// Crashes in a row before a service is left alone, and how long it must have run for them to be forgiven.
const FAILURES_MAX: u32 = 5;
const FORGIVEN_S: i64 = 600;

pub(crate) struct Services {
    pub engines: Engines,
    pub store: Arc<Store>,
    pub key: Key,
    /// The home's identity.
    pub home: String,
    pub policy: ServicePolicy,
    pub progress: Option<ProgressSink>,
    /// Of instances that guests run commands in just now.
    pub execs: Mutex<BTreeMap<Instance, Weak<Semaphore>>>,
}

/// What reconciling has done, or could not do.
#[derive(Clone, Debug, Serialize)]
pub struct Repair {
    pub addon: AddonId,
    pub service: Id,
    /// Our key of the resource it belongs to; absent where it serves all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// `started`, `made`, `made anew`, `removed`; or `waiting`, `failed`, `foreign` where it is not as it should be.
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Repair {
    fn of(instance: &Instance, what: &'static str, why: Option<String>) -> Repair {
        let resource = Some(instance.resource.clone()).filter(|key| !key.is_empty());
        Repair { addon: instance.addon.clone(), service: instance.service.clone(), resource, what, why }
    }

    /// Whether the service is not as it should be.
    pub fn is_problem(&self) -> bool {
        matches!(self.what, "waiting" | "failed" | "foreign")
    }
}

/// A service of an addon, as declared and as granted.
fn declared<'a>(addon: &'a Addon, name: &Id) -> Result<(&'a Service, &'a ServiceGrant)> {
    let mut pairs = addon.manifest.services.iter().zip(&addon.grant.services);
    pairs
        .find(|(service, _)| service.name == *name)
        .ok_or_else(|| Error::UnknownService { addon: addon.id.clone(), service: name.to_string() })
}

impl Services {
    pub fn new(home: &Home, policy: &ServicePolicy, store: Arc<Store>, progress: Option<ProgressSink>) -> Services {
        Services {
            engines: Engines::new(policy.engines.clone()),
            store,
            key: home.key.clone(),
            home: home.identity.clone(),
            policy: policy.clone(),
            progress,
            execs: Mutex::default(),
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

    /// Makes an instance run, and waits until it is ready. `environment` holds the values a guest has set.
    pub async fn run(
        &self,
        addon: &Addon,
        instance: &Instance,
        environment: Option<&BTreeMap<String, String>>,
    ) -> Result<()> {
        let (service, _) = declared(addon, &instance.service)?;
        let known = self.store.instance(instance)?;
        let engine = match &known {
            Some(row) => row.engine.clone(),
            None => self.engines.choose()?,
        };
        self.pin(&addon.id, service, &engine).await?;
        let sealed = match environment {
            Some(values) => {
                let json = serde_json::to_vec(values).unwrap_or_default();
                Some(self.key.seal(&place(instance), &json)?)
            }
            None => None,
        };
        let range = self.policy.host_ports.clone();
        let usable = |port| self.engines.is_remote(&engine) || is_free(self.policy.address, port);
        let wanted = self.store.want(instance, &engine, sealed.as_deref(), &service.ports, usable, range)?;
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
        let there = engine.container(&rendered.container.name).await?;
        self.converge(&*engine, &row, &rendered, there.as_ref()).await?;
        if let Err(error) = self.wait_ready(&*engine, addon, service, &rendered).await {
            // What is not ready serves nobody; asking again makes it anew.
            self.store.set_wanted(instance, Wanted::Stopped)?;
            if let Error::ServiceNotReady { log, .. } = &error {
                self.store.note_failure(instance, 0, None, Some(log))?;
            }
            engine.stop(&rendered.container.name, GRACE).await?;
            engine.remove(&rendered.container.name).await?;
            return Err(error);
        }
        Ok(())
    }

    /// What the instance should be on its engine.
    fn rendered(&self, addon: &Addon, row: &InstanceRow) -> Result<Rendered> {
        let instance = &row.instance;
        let (service, grant) = declared(addon, &instance.service)?;
        let pin = self.store.pin(&addon.id, &service.name, &grant.image)?;
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
        let plan = Plan { service, grant, pin: &pin, ports: &row.ports, environment };
        Ok(self.marks().render(instance, &plan, &self.policy))
    }

    fn opened(&self, instance: &Instance, sealed: &[u8]) -> Result<BTreeMap<String, String>> {
        let json = self.key.open(&place(instance), sealed)?;
        serde_json::from_str(&json).map_err(|_| Error::SealBroken)
    }

    /// Makes the container that is there, or is not, the one that should be, and starts it. Says what was done; `None` when
    /// nothing was to do.
    async fn converge(
        &self,
        engine: &dyn Engine,
        row: &InstanceRow,
        rendered: &Rendered,
        there: Option<&Container>,
    ) -> Result<Option<&'static str>> {
        let name = &rendered.container.name;
        let what = match there {
            Some(there) if !self.marks().vouches_for(name, &there.labels) => {
                return Err(Error::ForeignContainer { name: name.clone(), engine: row.engine.clone() });
            }
            Some(there) if rendered.is(there) && there.status == Status::Running => return Ok(None),
            Some(there) if rendered.is(there) => {
                // A network it has lost its address in, or a port that was taken meanwhile, shows here.
                engine.start(&there.id).await?;
                return Ok(Some("started"));
            }
            Some(there) => {
                engine.stop(&there.id, GRACE).await?;
                engine.remove(&there.id).await?;
                "made anew"
            }
            None => "made",
        };
        for network in &rendered.networks {
            engine.create_network(network).await?;
        }
        for (volume, labels) in &rendered.volumes {
            engine.create_volume(volume, labels).await?;
        }
        let created = match engine.create(&rendered.container).await {
            Err(failure) if failure.fault == Fault::NotFound => {
                self.fetch_again(engine, row, &rendered.container.image).await?;
                engine.create(&rendered.container).await?
            }
            created => created?,
        };
        if let Err(failure) = engine.start(&created).await {
            engine.remove(&created).await?;
            return Err(failure.into());
        }
        Ok(Some(what))
    }

    /// Makes everything of an addon be as the store says. `addon` is needed where something of it should run.
    ///
    /// # Errors
    /// When an engine does not answer: nothing is known then. What a single service cannot do is among the repairs.
    pub async fn reconcile(&self, id: &AddonId, addon: Option<&Addon>) -> Result<Vec<Repair>> {
        let rows = self.store.instances(id)?;
        let engines: BTreeSet<String> = rows.iter().map(|row| row.engine.clone()).collect();
        let mut repairs = Vec::new();
        for name in engines {
            let engine = self.engines.get(&name)?;
            let mut there = self.containers_of(&*engine, id).await?;
            let rows: Vec<&InstanceRow> = rows.iter().filter(|row| row.engine == name).collect();
            for row in &rows {
                let container = there.remove(&row.instance.container_name(&self.marks()));
                match self.repair(&*engine, addon, row, container.as_ref()).await {
                    Ok(repair) => repairs.extend(repair),
                    Err(error) if error.is_unreachable() => return Err(error),
                    Err(Error::ForeignContainer { name, .. }) => {
                        let why = format!("a container named {name} is there that lodger has not made");
                        repairs.push(Repair::of(&row.instance, "foreign", Some(why)));
                    }
                    Err(error) => repairs.push(Repair::of(&row.instance, "failed", Some(with_source(&error)))),
                }
            }
            // What a run that was killed has left: ours, and no row wants it.
            for (name, container) in there {
                if self.marks().vouches_for(&name, &container.labels) {
                    engine.remove(&container.id).await?;
                }
            }
            if rows.iter().all(|row| row.wanted != Wanted::Running) {
                self.remove_networks(&*engine, id).await?;
            }
        }
        Ok(repairs)
    }

    /// One instance. `None` when it is as it should be.
    async fn repair(
        &self,
        engine: &dyn Engine,
        addon: Option<&Addon>,
        row: &InstanceRow,
        there: Option<&Container>,
    ) -> Result<Option<Repair>> {
        let instance = &row.instance;
        if row.wanted == Wanted::Running {
            let Some(addon) = addon else { return Ok(None) };
            let rendered = self.rendered(addon, row)?;
            if let Some(there) = there
                && matches!(there.status, Status::Exited(_))
                && rendered.is(there)
                && let Some(repair) = self.crashed(engine, row, there).await?
            {
                return Ok(Some(repair));
            }
            if row.failures > 0 && row.failed_at.is_some_and(|at| now_s() - at > FORGIVEN_S) {
                self.store.note_failure(instance, 0, None, None)?;
            }
            let done = self.converge(engine, row, &rendered, there).await?;
            return Ok(done.map(|what| Repair::of(instance, what, None)));
        }
        let name = instance.container_name(&self.marks());
        let mut removed = false;
        if let Some(there) = there {
            if !self.marks().vouches_for(&name, &there.labels) {
                return Err(Error::ForeignContainer { name, engine: row.engine.clone() });
            }
            engine.stop(&there.id, GRACE).await?;
            engine.remove(&there.id).await?;
            removed = true;
        }
        if row.wanted == Wanted::Gone {
            self.remove_volumes(engine, instance).await?;
            self.store.forget_instance(instance)?;
        }
        Ok(removed.then(|| Repair::of(instance, "removed", None)))
    }

    /// A container that has ended by itself is started again after a while, longer each time, and at last left alone with
    /// the end of its log. `None` when it is to be started now.
    async fn crashed(&self, engine: &dyn Engine, row: &InstanceRow, there: &Container) -> Result<Option<Repair>> {
        let instance = &row.instance;
        let given_up = || {
            let why = format!(
                "it has ended {FAILURES_MAX} times in a row; `lodger logs {}` has what it said last",
                instance.addon
            );
            Some(Repair::of(instance, "failed", Some(why)))
        };
        if row.failures >= FAILURES_MAX {
            return Ok(given_up());
        }
        let wait = 1 << row.failures;
        if let Some(at) = row.failed_at.filter(|at| now_s() - at < wait) {
            let why = format!("it has ended; it is started again in {} s", wait - (now_s() - at));
            return Ok(Some(Repair::of(instance, "waiting", Some(why))));
        }
        let log = engine.logs(&there.id, LOG_KEPT).await?;
        let failures = row.failures + 1;
        self.store.note_failure(instance, failures, Some(now_s()), Some(&self.readable(&log)))?;
        Ok(if failures >= FAILURES_MAX { given_up() } else { None })
    }

    /// The addon's containers by name, those of this home only.
    async fn containers_of(&self, engine: &dyn Engine, id: &AddonId) -> Result<BTreeMap<String, Container>> {
        let found = engine.containers(LABEL_ADDON, &id.to_string()).await?;
        let home = self.marks().home_label();
        let ours = found.into_iter().filter(|container| container.labels.get(LABEL_HOME) == Some(&home));
        Ok(ours.map(|container| (container.name.clone(), container)).collect())
    }

    async fn remove_networks(&self, engine: &dyn Engine, id: &AddonId) -> Result<()> {
        for network in engine.networks(LABEL_ADDON, &id.to_string()).await? {
            if self.marks().vouches_for(&network.name, &network.labels) {
                match engine.remove_network(&network.name).await {
                    // Somebody else's container is in it: theirs to take out.
                    Err(Failure { fault: Fault::Conflict, .. }) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// The volumes of one resource; those of the whole addon go with its last instance.
    async fn remove_volumes(&self, engine: &dyn Engine, instance: &Instance) -> Result<()> {
        let rows = self.store.instances(&instance.addon)?;
        if rows.iter().any(|row| row.instance != *instance && row.instance.resource == instance.resource) {
            return Ok(());
        }
        for volume in engine.volumes(LABEL_ADDON, &instance.addon.to_string()).await? {
            let of_it = volume.labels.get(LABEL_RESOURCE) == Some(&instance.resource);
            if of_it && self.marks().vouches_for(&volume.name, &volume.labels) {
                engine.remove_volume(&volume.name).await?;
            }
        }
        Ok(())
    }

    /// Commits what should become of all instances of an addon, or of one resource, and does it.
    ///
    /// # Errors
    /// With nothing changed, when an engine does not answer.
    pub async fn end(&self, id: &AddonId, resource: Option<&str>, wanted: Wanted) -> Result<Vec<Repair>> {
        let rows = self.store.instances(id)?;
        for engine in rows.iter().map(|row| row.engine.as_str()).collect::<BTreeSet<_>>() {
            self.engines.get(engine)?.about().await?;
        }
        for row in rows {
            let meant = resource.is_none_or(|key| row.instance.resource == key);
            if meant && row.wanted != wanted && row.wanted != Wanted::Gone {
                self.store.set_wanted(&row.instance, wanted)?;
            }
        }
        self.reconcile(id, None).await
    }

    /// Makes what a resource had run again, as it was, and waits until it is ready.
    pub async fn resume(&self, addon: &Addon, resource: &str) -> Result<()> {
        for row in self.store.instances(&addon.id)?.into_iter().filter(|row| row.instance.resource == resource) {
            let values = row.environment.as_ref().map(|sealed| self.opened(&row.instance, sealed)).transpose()?;
            self.run(addon, &row.instance, values.as_ref()).await?;
        }
        Ok(())
    }

    /// The same for an addon that goes without its data: nothing is left but the volumes.
    pub async fn leave(&self, id: &AddonId) -> Result<()> {
        self.end(id, None, Wanted::Stopped).await?;
        for row in self.store.instances(id)? {
            self.store.forget_instance(&row.instance)?;
        }
        Ok(())
    }

    /// Listens to the engines, from when this returns; what it returns ends when one tells that a container of this home has
    /// ended or gone. Never, where none listens.
    pub async fn news(&self) -> impl Future<Output = ()> + use<> {
        let mut listening = Vec::new();
        for engine in self.engines.connected() {
            // One that does not answer now is looked at by the timer.
            listening.extend(engine.events(LABEL_HOME, &self.marks().home_label()).await);
        }
        async move {
            let mut all = futures_util::stream::select_all(listening);
            while let Some(event) = all.next().await {
                match event {
                    Ok(event) if !matches!(event.action.as_str(), "die" | "destroy" | "oom" | "kill") => {}
                    _ => return,
                }
            }
            std::future::pending().await
        }
    }

    /// Where apps reach a port of an instance.
    pub fn address(&self, row: &InstanceRow, port: u16) -> Option<(String, u16)> {
        let host = *row.ports.get(&port)?;
        Some(match &self.policy.reach {
            Reach::Host => (self.policy.address.to_string(), host),
            Reach::Network(_) => (row.instance.container_name(&self.marks()), port),
        })
    }

    /// The end of what an instance has written: from its container, or as it was kept when it failed.
    pub async fn logs(&self, row: &InstanceRow, most: usize) -> Result<String> {
        let engine = self.engines.get(&row.engine)?;
        let name = row.instance.container_name(&self.marks());
        Ok(match engine.container(&name).await? {
            Some(there) if self.marks().vouches_for(&name, &there.labels) => {
                self.readable(&engine.logs(&there.id, most).await?)
            }
            _ => row.log.clone().unwrap_or_default(),
        })
    }

    /// Output of a container, made fit to be shown, line by line.
    pub fn readable(&self, log: &[u8]) -> String {
        let text = String::from_utf8_lossy(log);
        text.lines().map(|line| shown(line, 1024)).collect::<Vec<_>>().join("\n")
    }

    fn tell(&self, step: String) {
        if let Some(sink) = &self.progress {
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
fn is_free(address: IpAddr, port: u16) -> bool {
    std::net::TcpListener::bind((address, port)).is_ok()
}

fn now_s() -> i64 {
    now_ms() / 1000
}

/// The error with the one behind it.
fn with_source(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

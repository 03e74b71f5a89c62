//! The host: everything opened once, and the main path of a call, whole.
//!
//! ```text
//! Host::call ── 1 registry.get(addon)          manifest, grant, pre-linked component
//!            ── 2 addon lock                   mutating hooks only; else `busy` after a bounded wait
//!            ── 3 lifecycle::permits(state, hook)
//!            ── 4 open the room                data directory, quota counters, budget
//!            ── 5 store.started(call)          mutating hooks only; durable
//!            ─────────────── from here on never Err ───────────────
//!            ── 6 sandbox.run(...)             → guest → Outcome
//!            ── 7 store.finished(call, outcome, effects)
//! ```

mod record;
mod services;

pub use services::ServiceLog;

use std::any::Any;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Store as WasmStore;
use wasmtime::component::InstancePre;

use self::record::{accept, close, new_call_id};
use crate::compiler::{self, Compiler};
use crate::error::{Error, Result};
use crate::home::Home;
use crate::hook::{Answer, HookName, HookRequest};
use crate::id::AddonId;
use crate::key::random;
use crate::lifecycle::{self, AddonState};
use crate::limits::Limit;
use crate::lock::{HOLDER_BYTES, Held};
use crate::network::{Endpoints, Reach};
use crate::outbound::Outbound;
use crate::outcome::{Outcome, Refused, Report};
use crate::policy::Policy;
use crate::quota::{Quota, SharedQuota};
use crate::registry::{Addon, Registry};
use crate::sandbox::{Allocation, Ended, Extension, Guest, OwnServices, ProgressSink, Room, Sandbox};
use crate::services::Services;
use crate::slot::{self, Slot};
use crate::store::{ResourceEnd, ResourceRow, Store};
use crate::text::shown;
use crate::tree::{self, Size};
use crate::wasi_fs::Mounts;

/// How a host is opened.
pub struct Config {
    pub home: PathBuf,
    /// The program started as the compiler of components: one that calls
    /// [`compiler::serve_if_asked`](crate::compiler::serve_if_asked) first in `main`. `None`: this program itself.
    pub compiler: Option<PathBuf>,
    /// Calls in flight at most, where fewer than the policy allows are wanted.
    pub concurrent_calls: Option<u32>,
    /// Who asks, for the record of calls.
    pub actor: String,
    /// Receives the progress of every call.
    pub progress: Option<ProgressSink>,
    /// Imports and exports beyond Lodger's own.
    pub extension: Option<Extension>,
    /// The embedder's own slots, for addons that stand in for parts of its program.
    pub slots: Vec<Slot>,
}

impl Config {
    pub fn new(home: impl Into<PathBuf>) -> Config {
        Config {
            home: home.into(),
            compiler: None,
            concurrent_calls: None,
            actor: "embedder".to_owned(),
            progress: None,
            extension: None,
            slots: Vec::new(),
        }
    }
}

/// One home, opened. Cheap to share behind an `Arc`; any number of processes may open the same home.
pub struct Host {
    pub(crate) home: Home,
    pub(crate) policy: Policy,
    pub(crate) store: Arc<Store>,
    pub(crate) services: Arc<Services>,
    pub(crate) sandbox: Sandbox,
    pub(crate) compiler: Compiler,
    pub(crate) extension: Option<Extension>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) registry: Registry,
    pub(crate) outbound: Arc<Outbound>,
    in_flight: Semaphore,
    calls_max: u32,
    /// This host's name in the locks it takes.
    holder: [u8; HOLDER_BYTES],
    actor: String,
    progress: Option<ProgressSink>,
    copied: bool,
}

/// One invocation of one hook that entered the guest.
#[derive(Debug)]
pub struct Call<T> {
    pub id: String,
    pub outcome: Outcome<T>,
    pub report: Report,
    /// What the guest wrote to stdout and stderr, escaped and redacted.
    pub log: Vec<String>,
}

/// What a call may do to the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    /// Holds the addon's lock, and counts against its quota.
    ReadWrite,
}

/// The lock of an addon, held across the steps of a verb.
pub(crate) struct Locked {
    held: Held,
    pub addon: Arc<Addon>,
    pub state: AddonState,
}

impl Host {
    /// Opens the home, making it where there is none.
    ///
    /// # Errors
    /// A home, policy, store or machine that cannot be used, with what mends it; nothing is changed then.
    pub async fn open(config: Config) -> Result<Host> {
        if compiler::is_child() {
            return Err(Error::CompilerNotServed);
        }
        let home = Home::open(&config.home)?;
        let policy = home.policy()?;
        let store = Arc::new(Store::open(&home.store_path())?);
        let copied = is_copied(&store, &home)?;
        let calls_max = config.concurrent_calls.unwrap_or(policy.concurrent_calls).clamp(1, policy.concurrent_calls);
        let sandbox = Sandbox::new(calls_max, &policy.ceilings, config.extension.as_ref())?;
        let program = match config.compiler {
            Some(program) => program,
            None => std::env::current_exe().map_err(Error::io("find", "the program itself"))?,
        };
        let compiler = Compiler {
            program,
            bounds: policy.compile,
            stack_bytes: policy.ceilings[Limit::StackBytes],
            cache: home.cache(),
        };
        let outbound = Arc::new(Outbound::new(policy.network_addresses.clone()));
        let (theirs, dial, progress) = (store.clone(), outbound.clone(), config.progress.clone());
        let services = Arc::new(Services::new(&home, &policy.services, theirs, dial, progress));
        Ok(Host {
            home,
            policy,
            store,
            services,
            sandbox,
            compiler,
            extension: config.extension,
            slots: slot::all(config.slots),
            registry: Registry::default(),
            outbound,
            in_flight: Semaphore::new(calls_max as usize),
            calls_max,
            holder: random()?,
            actor: config.actor,
            progress: config.progress,
            copied,
        })
    }

    /// Calls one hook: the main path.
    ///
    /// # Errors
    /// Law 2: `Err` means the guest was never entered; asking again is safe. How the guest ended is in the outcome.
    pub async fn call(&self, addon: &AddonId, request: HookRequest) -> Result<Call<Answer>> {
        if request.hook().is_mutating() {
            let locked = self.lock(addon).await?;
            self.knows(addon, &request)?;
            return self.call_locked(&locked, request, None).await;
        }
        self.call_reading(addon, request).await
    }

    /// A read hook.
    pub(crate) async fn call_reading(&self, addon: &AddonId, request: HookRequest) -> Result<Call<Answer>> {
        let (addon, now) = self.registry.get(self, addon).await?;
        permit(&addon, &now.state, request.hook())?;
        let _slot = self.slot().await?;
        let room = self.room(&addon, request.hook().name(), None).about(&request);
        let call = self.record(&addon, request.hook().name(), request.key());

        let mut ended = self.enter(&addon, room, &request).await;
        accept(&addon, &request, &mut ended);
        (ended.report.data_bytes, ended.report.data_files) = (now.data.bytes, now.data.files);
        let (row, call) = close(call, ended, &addon);
        self.store.log(row);
        Ok(call)
    }

    /// Only a resource of the store is provisioned: what the guest makes must be found again. Unprovisioning what is not
    /// there is fine with the guest, and leaves nothing.
    fn knows(&self, addon: &AddonId, request: &HookRequest) -> Result<()> {
        match request {
            HookRequest::Provision(asked) if !self.store.has_resource(addon, &asked.key)? => {
                Err(Error::UnknownKey(shown(&asked.key, 60)))
            }
            _ => Ok(()),
        }
    }

    /// A mutating hook, with the addon's lock already held. `new` is the resource it makes.
    pub(crate) async fn call_locked(
        &self,
        locked: &Locked,
        request: HookRequest,
        new: Option<ResourceRow>,
    ) -> Result<Call<Answer>> {
        let (addon, hook) = (&locked.addon, request.hook());
        permit(addon, &locked.state, hook)?;
        let chosen = self.chosen_for(addon, &request).await;
        let _slot = self.slot().await?;
        self.repair_services(locked, hook).await?;
        let room = self.room(addon, hook.name(), Some(self.quota(locked)?)).about(&request).with_place(chosen);
        let row = self.record(addon, hook.name(), request.key());
        self.store.started(&row, lifecycle::during(hook), new.as_ref())?;

        let mut ended = self.enter(addon, room, &request).await;
        accept(addon, &request, &mut ended);
        let finish = self.finish(addon, &request, &mut ended);
        addon.count(Size { bytes: ended.report.data_bytes, files: ended.report.data_files });
        let (row, call) = close(row, ended, addon);
        // The record stays `started` when this fails, and is repaired like that of a host that died here.
        if let Err(error) = self.store.finished(&row, &finish) {
            tracing::error!(call = call.id, error = &error as &dyn std::error::Error, "cannot note the end of a call");
        }
        if matches!(finish.resource, Some(ResourceEnd::Gone)) {
            self.clear_services(locked).await;
        }
        Ok(call)
    }

    /// Runs an addon in the same sandbox (its grant, limits, data directory) for an embedder's own WIT world.
    ///
    /// `enter` gets the store and the pre-linked component: wrap it in your own `…Pre` and call your exports. `extension` is
    /// your state for the functions you linked, found again by [`Guest::extension_mut`]. With [`Access::ReadWrite`] the
    /// addon's lock is held meanwhile. `name` picks the deadline, as a hook's name does.
    ///
    /// # Errors
    /// As for [`Host::call`].
    pub async fn call_world<T>(
        &self,
        addon: &AddonId,
        name: &str,
        access: Access,
        extension: Box<dyn Any + Send>,
        enter: impl AsyncFnOnce(&mut WasmStore<Guest>, &InstancePre<Guest>) -> wasmtime::Result<T>,
    ) -> Result<Call<T>> {
        let locked = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => Some(self.lock(addon).await?),
        };
        let (addon, now) = self.registry.get(self, addon).await?;
        if !now.state.is_enabled() {
            return Err(not_permitted(&addon, &now.state, "call", "enabled"));
        }
        let component =
            addon.component.as_ref().ok_or(Error::HookMissing { addon: addon.id.clone(), hook: "component" })?;
        let _slot = self.slot().await?;
        let quota = locked.as_ref().map(|locked| self.quota(locked)).transpose()?;
        let mut room = self.room(&addon, name, quota);
        room.extension = extension;
        let id = new_call_id();
        let ended = self.sandbox.run(room, async |store| enter(store, &component.pre).await).await;
        if locked.is_some() {
            addon.count(Size { bytes: ended.report.data_bytes, files: ended.report.data_files });
        }
        let log = ended.log.lines(addon.settings.secrets());
        Ok(Call { id, outcome: ended.outcome, report: ended.report, log })
    }

    /// Takes the addon's lock, notes what was cut off under it before, and looks at the addon as it is now.
    pub(crate) async fn lock(&self, id: &AddonId) -> Result<Locked> {
        let held = self.hold(id).await?;
        let (addon, now) = self.registry.get_under_lock(self, id).await?;
        if now.running {
            self.store.settle(id)?;
        }
        Ok(Locked { held, addon, state: now.state.settled() })
    }

    /// Takes the lock alone, where the addon may not be there or not be loadable.
    pub(crate) async fn hold(&self, id: &AddonId) -> Result<Held> {
        self.writable()?;
        self.registry.lock_of(self, id).hold(id, &self.holder, self.policy.lock_wait).await
    }

    /// # Errors
    /// [`Error::HomeCopied`]: a copy must not act on what belongs to the original.
    pub(crate) fn writable(&self) -> Result<()> {
        if self.copied { Err(Error::HomeCopied { home: self.home.root().to_owned() }) } else { Ok(()) }
    }

    async fn slot(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(slot) = self.in_flight.try_acquire() {
            return Ok(slot);
        }
        let slot = tokio::time::timeout(self.policy.lock_wait, self.in_flight.acquire()).await;
        slot.ok().and_then(Result::ok).ok_or(Error::TooManyCalls { calls: self.calls_max })
    }

    /// The counters of the data directory: as remembered while nobody else has held the lock, else counted anew.
    fn quota(&self, locked: &Locked) -> Result<SharedQuota> {
        let addon = &locked.addon;
        let limits = &addon.grant.limits;
        let max = Size { bytes: limits[Limit::DataBytes], files: limits[Limit::DataFiles] };
        let used = match addon.counted().filter(|_| !locked.held.taken_over) {
            Some(counted) => counted,
            None => tree::size(addon.data_writable.dir.as_fd())
                .map_err(Error::io("count the data directory of", &addon.name))?,
        };
        Ok(SharedQuota::new(Quota::new(max, used)))
    }

    /// What one call is given. `/data` is writable exactly when a quota comes with it.
    fn room(&self, addon: &Arc<Addon>, hook: &str, quota: Option<SharedQuota>) -> Room {
        let data = if quota.is_some() { &addon.data_writable } else { &addon.data_readable };
        let deadline = addon.grant.deadlines_ms.of(hook);
        let endpoints = addon.manifest.may_use_services.then(Endpoints::default);
        let services = endpoints.clone().map(|endpoints| OwnServices {
            endpoints,
            services: self.services.clone(),
            addon: addon.clone(),
            resource: None,
            chosen: None,
            mutating: quota.is_some(),
            deadline: Instant::now() + deadline,
            at_work: None,
        });
        Room {
            addon: addon.id.name.to_string(),
            limits: addon.grant.limits,
            deadline,
            mounts: Mounts { dirs: [(data.clone(), "/data"), (addon.files.clone(), "/addon")], quota },
            settings: addon.settings.clone(),
            services,
            reach: Reach { outbound: self.outbound.clone(), destinations: addon.grant.network.clone(), endpoints },
            private: None,
            progress: self.progress.clone(),
            extension: Box::new(()),
        }
    }

    /// From here on never `Err`: whatever happens is an outcome.
    async fn enter(&self, addon: &Addon, room: Room, request: &HookRequest) -> Ended<Answer> {
        let ended = self
            .sandbox
            .run(room, async |store| match &addon.component {
                Some(component) => component.hooks.call(store, request).await,
                None => Err(wasmtime::format_err!("no component")),
            })
            .await;
        let outcome = ended.outcome.and_then(|answer| match answer {
            Ok(answer) => Outcome::Completed(answer),
            Err(error) => {
                Outcome::Refused(Refused::by_guest(error, &addon.settings.secrets_and(ended.private.as_ref())))
            }
        });
        Ended { outcome, report: ended.report, log: ended.log, private: ended.private }
    }

    /// Where instances come from, in words: the pool, or why it could not be had.
    pub fn allocation(&self) -> String {
        match &self.sandbox.allocation {
            Allocation::Pooling => format!("a pool for {} calls in flight", self.calls_max),
            Allocation::OnDemand { why } => format!("on demand, since a pool does not fit: {why}"),
        }
    }

    /// wasmtime's engine, for an embedder that compiles or measures components of its own.
    pub fn engine(&self) -> &wasmtime::Engine {
        &self.sandbox.engine
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn home(&self) -> &Path {
        self.home.root()
    }

    /// Makes a copied home a home of its own. False when it is no copy.
    pub fn adopt(&mut self) -> Result<bool> {
        if !std::mem::take(&mut self.copied) {
            return Ok(false);
        }
        self.store.set_meta("identity", &self.home.identity)?;
        Ok(true)
    }
}

pub(crate) fn permit(addon: &Addon, state: &AddonState, hook: HookName) -> Result<()> {
    if !lifecycle::permits(state, hook) {
        let needs = if hook == HookName::Enable { "installed" } else { "enabled" };
        return Err(not_permitted(addon, state, hook.name(), needs));
    }
    if !addon.grant.hooks.contains(&hook) {
        return Err(Error::HookMissing { addon: addon.id.clone(), hook: hook.name() });
    }
    Ok(())
}

pub(crate) fn not_permitted(addon: &Addon, state: &AddonState, verb: &'static str, needs: &'static str) -> Error {
    let hint = state.way_on(&addon.id);
    Error::NotPermitted { addon: addon.id.clone(), state: state.to_string(), verb, needs, hint }
}

/// What a sealed private value is bound to.
pub(crate) fn resource_place(key: &str) -> String {
    format!("resource:{key}")
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Finds out whether this home's store was made in another home, and claims a new one.
fn is_copied(store: &Store, home: &Home) -> Result<bool> {
    match store.meta("identity")? {
        Some(identity) => Ok(identity != home.identity),
        None => {
            store.set_meta("identity", &home.identity)?;
            Ok(false)
        }
    }
}

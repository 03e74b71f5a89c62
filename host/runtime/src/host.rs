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
//!
//! From 5 on it goes round again where the hook's failure policy says so.

mod record;
mod section;
mod services;
mod status;

pub use record::{CallSink, acting_for, telling};
pub(crate) use record::{new_call_id, told_of_progress};
pub use services::ServiceLog;
pub use status::{DataUse, Readiness};

use std::any::Any;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use wasmtime::Store as WasmStore;
use wasmtime::component::InstancePre;

use self::record::{Keeper, accept, close};
use self::section::{Finished, Section, enter};
use crate::access::LookedUp;
use crate::compiler::{self, Compiler};
use crate::error::{Error, Result};
use crate::event::ADDON_QUARANTINED;
use crate::failure::{Next, Tries};
use crate::home::Home;
use crate::hook::{Answer, HookName, HookRequest};
use crate::id::AddonId;
use crate::key::random;
use crate::lifecycle::{self, AddonState, ResourceState};
use crate::limits::Limit;
use crate::lock::{HOLDER_BYTES, Held};
use crate::market;
use crate::network::{Endpoints, Reach};
use crate::outbound::Outbound;
use crate::outcome::{Outcome, Report};
use crate::policy::Policy;
use crate::quota::{Quota, SharedQuota};
use crate::registry::{Addon, GuestKind, Registry};
use crate::remote::Known;
use crate::resources::in_state;
use crate::sandbox::{Allocation, Extension, Guest, OwnServices, ProgressEvent, ProgressSink, Room, Sandbox};
use crate::services::Services;
use crate::slot::{self, Slot};
use crate::store::{ResourceRow, Store};
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
    /// Receives the progress of every verb and call.
    pub progress: Option<ProgressSink>,
    /// Receives the record of every call of a hook that has ended, once it is noted.
    pub ended: Option<CallSink>,
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
            ended: None,
            extension: None,
            slots: Vec::new(),
        }
    }
}

/// One home, opened. Cheap to share behind an `Arc`; any number of processes may open the same home.
pub struct Host {
    pub(crate) home: Arc<Home>,
    pub(crate) policy: Policy,
    pub(crate) store: Arc<Store>,
    pub(crate) services: Arc<Services>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) compiler: Compiler,
    pub(crate) extension: Option<Extension>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) registry: Registry,
    pub(crate) outbound: Arc<Outbound>,
    in_flight: Arc<Semaphore>,
    calls_max: u32,
    /// This host's name in the locks it takes.
    holder: [u8; HOLDER_BYTES],
    actor: String,
    progress: Option<ProgressSink>,
    ended: Option<CallSink>,
    copied: bool,
    /// A restore into this home is under way, or was cut off.
    pub(crate) restoring: AtomicBool,
    pub(crate) tokens: LookedUp,
    /// Something was published, or is no more.
    pub(crate) market: Notify,
    pub(crate) reviews: Semaphore,
    /// Something was asked to be installed, or disabled.
    pub(crate) installing: Notify,
}

/// One invocation of one hook that entered the guest.
#[derive(Debug)]
pub struct Call<T> {
    pub id: String,
    pub outcome: Outcome<T>,
    pub report: Report,
    /// What the guest wrote to stdout and stderr, escaped and redacted.
    pub log: Vec<String>,
    /// The outcome is a fault, and the host goes on as if the hook had completed: its failure policy says so.
    pub failed_open: bool,
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
    pub held: Arc<Held>,
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
        let home = Arc::new(Home::open(&config.home)?);
        let policy = home.policy()?;
        let store = Arc::new(Store::open(&home.store_path(), policy.retention, !policy.events.is_empty())?);
        let copied = is_copied(&store, &home)?;
        let restoring = AtomicBool::new(store.restoring()?.is_some());
        let calls_max = config.concurrent_calls.unwrap_or(policy.concurrent_calls).clamp(1, policy.concurrent_calls);
        let sandbox = Arc::new(Sandbox::new(calls_max, &policy.ceilings, config.extension.as_ref())?);
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
            in_flight: Arc::new(Semaphore::new(calls_max as usize)),
            calls_max,
            holder: random()?,
            actor: config.actor,
            progress: config.progress,
            ended: config.ended,
            copied,
            restoring,
            tokens: LookedUp::default(),
            market: Notify::new(),
            reviews: Semaphore::new(market::review::AT_A_TIME),
            installing: Notify::new(),
        })
    }

    /// Calls one hook: the main path.
    ///
    /// A mutating hook that was begun comes to its end, and that is on record, whether or not its caller still waits: where
    /// the future returned is dropped, the runtime it was polled on finishes the call, which holds the addon's lock until
    /// then. So it is with the hooks of every verb; the steps of a verb that come after are left out then, as where a host dies.
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
        let call = self.call_reading_in(&addon, &now.state, now.data, request).await?;
        if addon.grant.stands_in.is_some() && call.outcome.is_fault() {
            // The guest was entered: this can be no error of the call.
            if let Err(error) = self.give_back_if_quarantined(&addon.id).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(addon = addon.name, error, "what a quarantined addon stands in for waits");
            }
        }
        Ok(call)
    }

    /// Ends what an addon stands in for that was quarantined without its lock.
    async fn give_back_if_quarantined(&self, id: &AddonId) -> Result<()> {
        if self.store.addon(id)?.is_some_and(|row| row.state.is_quarantined()) {
            let locked = self.lock(id).await?;
            if !locked.state.is_enabled() {
                self.services.give_back(id, true).await?;
            }
        }
        Ok(())
    }

    /// The same in a version that need not be the one that serves.
    pub(crate) async fn call_reading_in(
        &self,
        addon: &Arc<Addon>,
        state: &AddonState,
        data: Size,
        request: HookRequest,
    ) -> Result<Call<Answer>> {
        self.permit(addon, state, request.hook())?;
        let mut tries = Tries::default();
        loop {
            let once = self.call_reading_once(addon, data, &request, tries.before).await;
            match tries.after(once) {
                ControlFlow::Break(call) => return call,
                ControlFlow::Continue(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn call_reading_once(
        &self,
        addon: &Arc<Addon>,
        data: Size,
        request: &HookRequest,
        before: u32,
    ) -> Result<(Call<Answer>, Next)> {
        let hook = request.hook();
        let _slot = self.slot().await?;
        let room = self.room(addon, hook.name(), None).about(request);
        let call = self.record(addon, hook.name(), request.key());

        let mut ended = enter(&self.sandbox, addon, room, request).await;
        accept(addon, request, &mut ended);
        let next = self.policy.failure.of(hook).next(&ended.outcome, before);
        (ended.report.data_bytes, ended.report.data_files) = (data.bytes, data.files);
        let (row, call) = close(call, ended, addon, next);
        self.keeper().tell(&row);
        self.store.log(row);
        self.count(addon, hook, next);
        Ok((call, next))
    }

    /// Only a resource of the store is provisioned: what the guest makes must be found again. Unprovisioning what is not
    /// there is fine with the guest, and leaves nothing.
    fn knows(&self, addon: &AddonId, request: &HookRequest) -> Result<()> {
        let HookRequest::Provision(asked) = request else {
            // What was told is noted with the call: only what has happened is told.
            return match request.hook() {
                HookName::After => Err(Error::HookMissing { addon: addon.clone(), hook: HookName::After.name() }),
                _ => Ok(()),
            };
        };
        match self.store.resource(addon, &asked.key)? {
            None => Err(Error::UnknownKey(shown(&asked.key, 60))),
            Some(row) if lifecycle::permits_on(&row.state, HookName::Provision) => Ok(()),
            Some(row) => Err(in_state(row)),
        }
    }

    /// A mutating hook, with the addon's lock already held. `new` is the resource it makes.
    pub(crate) async fn call_locked(
        &self,
        locked: &Locked,
        request: HookRequest,
        new: Option<ResourceRow>,
    ) -> Result<Call<Answer>> {
        self.permit(&locked.addon, &locked.state, request.hook())?;
        let found = self.state_before(&locked.addon, &request)?;
        let mut tries = Tries::default();
        loop {
            let once = self.call_locked_once(locked, &request, found.clone(), new.as_ref(), &tries).await;
            match tries.after(once) {
                ControlFlow::Break(call) => return call,
                ControlFlow::Continue(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    async fn call_locked_once(
        &self,
        locked: &Locked,
        request: &HookRequest,
        found: Option<ResourceState>,
        new: Option<&ResourceRow>,
        tries: &Tries,
    ) -> Result<(Call<Answer>, Next)> {
        let (addon, hook) = (&locked.addon, request.hook());
        let chosen = self.chosen_for(addon, request).await;
        let slot = self.slot().await?;
        self.repair_services(locked, hook).await?;
        let mut room = self.room(addon, hook.name(), Some(self.quota(locked)?)).about(request).with_place(chosen);
        room.known = self.known(addon, request, new, tries.in_doubt)?;
        let row = self.record(addon, hook.name(), request.key());
        self.store.started(&row, lifecycle::during(hook), lifecycle::resource_during(hook), new)?;
        self.tell(|| ProgressEvent::Step(format!("calling {} of {}", hook.name(), addon.name)));

        let section = Section {
            sandbox: self.sandbox.clone(),
            keeper: self.keeper(),
            addon: addon.clone(),
            room,
            request: request.clone(),
            found,
            row,
            policy: self.policy.failure.of(hook),
            before: tries.before,
            held: (locked.held.clone(), slot),
        };
        let Finished { call, next, gone } = section.run().await;
        if gone {
            self.clear_services(locked).await;
        }
        if self.count(addon, hook, next) {
            self.services.give_back_or_tell(&addon.id, true).await;
        }
        Ok((call, next))
    }

    /// Quarantines an addon where a call was the last of too many faults in a row: true then. Nothing is to be told where
    /// that cannot be noted: the next fault counts as well.
    fn count(&self, addon: &Addon, hook: HookName, next: Next) -> bool {
        let Next::Counts(most) = next else { return false };
        let event = self.store.event(ADDON_QUARANTINED, Some(&addon.name), &self.actor());
        match self.store.quarantine(&addon.id, hook, most, Some(&event)) {
            Ok(quarantined) => {
                if quarantined {
                    tracing::warn!(addon = addon.name, hook = hook.name(), most, "an addon is quarantined");
                }
                quarantined
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(addon = addon.name, error, "cannot note a quarantine");
                false
            }
        }
    }

    /// Runs an addon in the same sandbox (its grant, limits, data directory) for an embedder's own WIT world.
    ///
    /// `enter` gets the store and the pre-linked component: wrap it in your own `…Pre` and call your exports. `extension` is
    /// your state for the functions you linked, found again by [`Guest::extension_mut`]. With [`Access::ReadWrite`] the
    /// addon's lock is held meanwhile. `name` picks the deadline, as a hook's name does. Where the future is dropped, the call
    /// ends there. The failure policies of hooks are not for such calls: what becomes of a fault is yours to decide.
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
            return Err(self.not_permitted(&addon, &now.state, "call", "enabled"));
        }
        let component = addon.component().ok_or(Error::HookMissing { addon: addon.id.clone(), hook: "component" })?;
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
        Ok(Call { id, outcome: ended.outcome, report: ended.report, log, failed_open: false })
    }

    /// Takes the addon's lock, notes what was cut off under it before, takes back an upgrade that was, and looks at the addon
    /// as it is now.
    pub(crate) async fn lock(&self, id: &AddonId) -> Result<Locked> {
        self.lock_within(id, self.policy.lock_wait).await
    }

    /// The same, for whoever has less time.
    pub(crate) async fn lock_within(&self, id: &AddonId, wait: Duration) -> Result<Locked> {
        let held = Arc::new(self.hold_within(id, wait).await?);
        let (mut addon, mut now) = self.registry.get_under_lock(self, id).await?;
        if now.running {
            self.store.settle(id)?;
        }
        if matches!(now.state, AddonState::Upgrading | AddonState::Interrupted(HookName::Upgrade)) {
            self.take_back(id).await?;
            (addon, now) = self.registry.get_under_lock(self, id).await?;
        }
        Ok(Locked { held, addon, state: now.state.settled() })
    }

    /// Takes the lock alone, where the addon may not be there or not be loadable.
    pub(crate) async fn hold(&self, id: &AddonId) -> Result<Held> {
        self.hold_within(id, self.policy.lock_wait).await
    }

    async fn hold_within(&self, id: &AddonId, wait: Duration) -> Result<Held> {
        self.writable()?;
        self.registry.lock_of(self, id).hold(id, &self.holder, wait.min(self.policy.lock_wait)).await
    }

    /// # Errors
    /// [`Error::HomeCopied`]: a copy must not act on what belongs to the original. [`Error::Restoring`].
    pub(crate) fn writable(&self) -> Result<()> {
        if self.restoring.load(Ordering::Relaxed) {
            return Err(Error::Restoring { home: self.home.root().to_owned() });
        }
        self.own()
    }

    /// # Errors
    /// [`Error::HomeCopied`].
    pub(crate) fn own(&self) -> Result<()> {
        if self.copied { Err(Error::HomeCopied { home: self.home.root().to_owned() }) } else { Ok(()) }
    }

    /// This host's name in the locks it takes.
    pub(crate) fn holder(&self) -> &[u8; HOLDER_BYTES] {
        &self.holder
    }

    /// Tells whoever listens how far a verb has come.
    pub(crate) fn tell(&self, event: impl FnOnce() -> ProgressEvent) {
        if let Some(sink) = told_of_progress(self.progress.as_ref()) {
            sink(event());
        }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(slot) = self.in_flight.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let slot = tokio::time::timeout(self.policy.lock_wait, self.in_flight.clone().acquire_owned()).await;
        slot.ok().and_then(Result::ok).ok_or(Error::TooManyCalls { calls: self.calls_max })
    }

    /// What notes how calls end.
    fn keeper(&self) -> Keeper {
        Keeper { store: self.store.clone(), home: self.home.clone(), ended: self.ended.clone() }
    }

    /// The counters of the data directory: as remembered while nobody else has held the lock, else counted anew. They are
    /// remembered again when the call has ended, so that none that was cut off is trusted.
    fn quota(&self, locked: &Locked) -> Result<SharedQuota> {
        let addon = &locked.addon;
        let limits = &addon.grant.limits;
        let max = Size { bytes: limits[Limit::DataBytes], files: limits[Limit::DataFiles] };
        let used = match addon.take_count().filter(|_| !locked.held.taken_over) {
            Some(counted) => counted,
            None => tree::size(addon.data_writable.dir.as_fd())
                .map_err(Error::io("count the data directory of", &addon.name))?,
        };
        Ok(SharedQuota::new(Quota::new(max, used)))
    }

    /// What a provider elsewhere is told beyond the request; a component finds it in its own data.
    fn known(
        &self,
        addon: &Addon,
        request: &HookRequest,
        new: Option<&ResourceRow>,
        in_doubt: bool,
    ) -> Result<Option<Known>> {
        let (Some(GuestKind::Remote(_)), Some(key)) = (&addon.guest, request.key()) else { return Ok(None) };
        let row = match new {
            Some(new) => Some(new.clone()),
            None => self.store.resource(&addon.id, key)?,
        };
        let known = |row: ResourceRow| {
            let in_doubt = in_doubt || row.state != ResourceState::Provisioning;
            Known { row, in_doubt, store: self.store.clone() }
        };
        Ok(row.map(known))
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
            known: None,
            progress: told_of_progress(self.progress.as_ref()),
            extension: Box::new(()),
        }
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

    pub(crate) fn permit(&self, addon: &Addon, state: &AddonState, hook: HookName) -> Result<()> {
        if !lifecycle::permits(state, hook) {
            let needs = if hook == HookName::Enable { "installed" } else { "enabled" };
            return Err(self.not_permitted(addon, state, hook.name(), needs));
        }
        if !addon.grant.hooks.contains(&hook) {
            return Err(Error::HookMissing { addon: addon.id.clone(), hook: hook.name() });
        }
        Ok(())
    }

    pub(crate) fn not_permitted(
        &self,
        addon: &Addon,
        state: &AddonState,
        verb: &'static str,
        needs: &'static str,
    ) -> Error {
        if let Some(quarantined) = self.quarantined(&addon.id, state).transpose() {
            return quarantined.unwrap_or_else(|error| error);
        }
        let hint = state.way_on(&addon.id);
        Error::NotPermitted { addon: addon.id.clone(), state: state.to_string(), verb, needs, hint }
    }

    /// What an addon that is quarantined in this state answers to nearly everything.
    pub(crate) fn quarantined(&self, id: &AddonId, state: &AddonState) -> Result<Option<Error>> {
        Ok(match state {
            AddonState::Failed(hook) if state.is_quarantined() => {
                let times = self.store.quarantined_after(id)?;
                Some(Error::Quarantined { addon: id.clone(), hook: hook.name(), times })
            }
            _ => None,
        })
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

//! The sandbox: wasmtime set up once, and one fresh store per call.
//!
//! Law 1: nothing of a guest survives its call but its files. Law 8: every bound is wired here, and what was used is
//! reported. Guests run on the caller's worker; a spinning guest yields at every epoch tick, so that its deadline, which
//! covers host calls too, always fires.

mod command;
mod engine;
mod imports;
mod pipe;
mod services;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::{Component, InstancePre, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime::{Store, Trap};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{I32Exit, WasiCtx};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::error::{Error, Result};
use crate::grant::Settings;
use crate::guest_log::GuestLog;
use crate::hook::HookRequest;
use crate::limits::{Limit, Limits};
use crate::meter::Meter;
use crate::network::{Dialable, Network, Reach};
use crate::outcome::{Outcome, Report};
use crate::remote::Known;
use crate::stream::{Inlet, Outlet};
use crate::text::{redact, shown};
use crate::wasi_fs::Mounts;
use crate::wasi_http::FIELDS_MAX;

pub(crate) use engine::{Allocation, MEMORIES_MAX, TABLES_MAX, compile_config};
pub use imports::Extension;
pub(crate) use imports::{Import, classify_import};
pub(crate) use services::OwnServices;

/// Longest reason of a trap kept, in bytes.
const REASON_MAX: usize = 1024;

/// How long after the call's deadline its connections would end by themselves: it is the deadline that ends both.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);

/// The engine and the linker, once per host.
pub(crate) struct Sandbox {
    pub engine: wasmtime::Engine,
    pub allocation: Allocation,
    linker: Linker<Guest>,
    ticker: engine::Ticker,
}

/// What a store holds: the state of one call.
pub struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    mounts: Mounts,
    meter: Meter,
    network: Network,
    http: WasiHttpCtx,
    settings: Arc<Settings>,
    services: Option<OwnServices>,
    progress: Progress,
    /// The embedder's own state, for its own imports.
    extension: Box<dyn Any + Send>,
}

impl Guest {
    /// The state an embedder gave to [`Host::call_world`](crate::Host::call_world), for the functions it has linked.
    ///
    /// # Panics
    /// When the call was given state of another type: the embedder's functions and calls do not belong together.
    #[expect(clippy::expect_used, reason = "a mistake of the embedding program, in code it has just compiled")]
    pub fn extension_mut<T: 'static>(&mut self) -> &mut T {
        self.extension.downcast_mut().expect("call_world was given other state than its imports expect")
    }

    /// A stream for the guest to write to.
    pub(crate) fn hold_output(&mut self, output: Outlet) -> wasmtime::Result<Resource<DynOutputStream>> {
        let output: DynOutputStream = Box::new(output);
        Ok(self.table.push(output)?)
    }

    /// A stream for the guest to read from.
    pub(crate) fn hold_input(&mut self, input: Inlet) -> wasmtime::Result<Resource<DynInputStream>> {
        let input: DynInputStream = Box::new(input);
        Ok(self.table.push(input)?)
    }
}

/// What a call is given: made by the grant, consumed by the call.
pub(crate) struct Room {
    pub addon: String,
    pub limits: Limits,
    pub deadline: Duration,
    pub mounts: Mounts,
    pub settings: Arc<Settings>,
    /// Absent where the manifest does not ask to use them.
    pub services: Option<OwnServices>,
    pub reach: Reach,
    /// The private value the guest is handed, to redact it.
    pub private: Option<String>,
    /// What the store knows of the resource, for a provider elsewhere.
    pub known: Option<Known>,
    pub progress: Option<ProgressSink>,
    pub extension: Box<dyn Any + Send>,
}

impl Room {
    /// What follows from which resource the hook is about.
    pub fn about(mut self, request: &HookRequest) -> Room {
        if let Some(services) = &mut self.services {
            services.resource = request.key().map(str::to_owned);
        }
        self.private = request.private().map(str::to_owned);
        self
    }

    /// The engine for services that the call starts.
    pub fn with_place(mut self, chosen: Option<String>) -> Room {
        if let Some(services) = &mut self.services {
            services.chosen = chosen;
        }
        self
    }
}

/// Receives what a guest tells about its progress, escaped and redacted.
pub type ProgressSink = Arc<dyn Fn(ProgressEvent) + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressEvent {
    Step(String),
    Percent(u8),
}

struct Progress {
    sink: Option<ProgressSink>,
    left: u32,
}

/// How a call ended, with what it used and said.
pub(crate) struct Ended<T> {
    pub outcome: Outcome<T>,
    pub report: Report,
    pub log: GuestLog,
    /// What is to be redacted from text of this call, beside the addon's secret settings.
    pub secrets: Vec<String>,
}

impl Sandbox {
    /// # Errors
    /// When wasmtime cannot be set up at all; a pool that does not fit the machine only changes [`Allocation`].
    pub fn new(calls: u32, limits: &Limits, extension: Option<&Extension>) -> Result<Sandbox> {
        let (engine, allocation) = engine::new(calls, limits)?;
        let linker = imports::linker(&engine, extension)
            .map_err(|source| Error::Sandbox { action: "link its imports", source })?;
        let ticker = engine::Ticker::start(&engine)?;
        Ok(Sandbox { engine, allocation, linker, ticker })
    }

    /// Links a component whose imports were all admitted.
    pub fn link(&self, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
        self.linker.instantiate_pre(component)
    }

    /// Makes a store, lets `enter` run the guest in it, and throws it away.
    pub async fn run<T>(
        &self,
        room: Room,
        enter: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<T>,
    ) -> Ended<T> {
        let began = Instant::now();
        let (deadline, limits) = (room.deadline, room.limits);
        let secrets: Vec<String> = room.private.iter().cloned().collect();
        let log = GuestLog::new(limits[Limit::LogBytes]);
        let quota = room.mounts.quota.clone();
        let mut store = self.store(room, &log);
        let ticking = self.ticker.keep_going();
        let ended = tokio::time::timeout(deadline, enter(&mut store)).await;
        drop(ticking);
        if let Some(services) = store.data_mut().services.take() {
            services.end().await;
        }

        let guest = store.data();
        let mut report = Report {
            limits,
            memory_bytes: guest.meter.memory_peak(),
            table_elements: guest.meter.tables_peak(),
            host_memory_bytes: guest.meter.host_memory_peak(),
            random_bytes: guest.meter.random_bytes,
            network_bytes: guest.network.traffic.used(),
            ..Report::default()
        };
        (report.log_bytes, report.log_dropped_bytes) = log.counts();
        let outcome = match ended {
            Ok(Ok(answer)) => Outcome::Completed(answer),
            Ok(Err(error)) => failure(&error, guest, &log, &secrets),
            Err(_) => Outcome::DeadlineExceeded { deadline },
        };
        // Closes what the guest left open, so that what it removed meanwhile is given back.
        let dialled = guest.network.dialable().is_some();
        drop(store);
        if dialled {
            // The tasks that moved its bytes are told to stop by that, and stop when they are next looked at: now.
            tokio::task::yield_now().await;
        }
        if let Some(quota) = quota {
            let mut quota = quota.lock();
            quota.sweep();
            (report.data_bytes, report.data_files) = (quota.used().bytes, quota.used().files);
        }
        report.wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ended { outcome, report, log, secrets }
    }

    fn store(&self, room: Room, log: &GuestLog) -> Store<Guest> {
        let limits = room.limits;
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.clone())
            .stderr(log.clone())
            .env("ADDON", &room.addon)
            .env("ADDON_DATA", "/data")
            .env("ADDON_ROOT", "/addon")
            .max_random_size(limits[Limit::RandomBytes])
            .allow_blocking_current_thread(true);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_MAX);
        let until = tokio::time::Instant::now() + room.deadline + AFTER_DEADLINE;
        let network = Network::new(room.reach, &limits, until, log.clone());
        if let Some(dialable) = network.dialable() {
            wasi.allow_tcp(true).socket_addr_check(move |address, to| Box::pin(may_use(dialable.clone(), address, to)));
        }
        let count = |limit| usize::try_from(limits[limit]).unwrap_or(usize::MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(count(Limit::Resources));
        let guest = Guest {
            wasi: wasi.build(),
            table,
            mounts: room.mounts,
            meter: Meter::new(limits),
            network,
            http,
            settings: room.settings,
            services: room.services,
            progress: Progress { sink: room.progress, left: imports::PROGRESS_MAX },
            extension: room.extension,
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.meter);
        store.set_hostcall_fuel(count(Limit::CopyBytes));
        store.set_max_component_handles(count(Limit::Handles));
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }
}

/// A socket connects to what may be dialled. The one binding is that which the kernel does for it.
async fn may_use(dialable: Dialable, address: SocketAddr, to: SocketAddrUse) -> bool {
    match to {
        // An engine may have to be asked: a task of its own, which ends with the socket.
        SocketAddrUse::TcpConnect => spawn(async move { dialable.may(address).await }).await,
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    }
}

/// Tells a broken limit from other traps. Where wasmtime has no type for it, its words are what there is; the tests that
/// break each limit notice when they change.
fn failure<T>(error: &wasmtime::Error, guest: &Guest, log: &GuestLog, secrets: &[String]) -> Outcome<T> {
    let text = format!("{error:#}");
    let limit = if matches!(error.downcast_ref::<Trap>(), Some(Trap::StackOverflow)) {
        Some(Limit::StackBytes)
    } else if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
        Some(Limit::Resources)
    } else if text.contains("fuel allocated for hostcalls") {
        Some(Limit::CopyBytes)
    } else if text.contains("handle limit exceeded") {
        Some(Limit::Handles)
    } else if text.contains("resource limit exceeded") {
        Some(Limit::Instances)
    } else {
        guest.meter.hit.or(guest.network.traffic.hit())
    };
    if let Some(limit) = limit {
        return Outcome::LimitExceeded { limit, value: guest.meter.limits()[limit] };
    }
    let mut reason = match error.downcast_ref::<I32Exit>() {
        Some(exit) => format!("the guest exited with code {} instead of returning", exit.0),
        None => error.root_cause().to_string(),
    };
    let secrets = guest.settings.secrets_and(secrets);
    let lines = log.lines(&secrets);
    // Where a panic says what it is about depends on the language: Rust does in the line after the one that says where it
    // was. The last line is the best guess otherwise.
    let said = match lines.iter().rposition(|line| line.contains("panicked")) {
        Some(at) => lines.iter().skip(at).take(2).map(String::as_str).collect::<Vec<_>>().join(" "),
        None => lines.last().cloned().unwrap_or_default(),
    };
    if !said.is_empty() {
        reason = format!("{reason}; it last said: {said}");
    }
    Outcome::Trapped { reason: shown(&redact(&reason, &secrets), REASON_MAX) }
}

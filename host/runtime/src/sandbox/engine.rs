//! wasmtime's engine: what code is compiled to, where instances come from, and the one epoch ticker.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::error::{Error, Result};
use crate::limits::{Limit, Limits};

/// What a component may have of each; the pool holds as many for every call in flight, so that no addon can use up another's.
pub(crate) const MEMORIES_MAX: u32 = 4;
pub(crate) const TABLES_MAX: u32 = 8;
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;

/// A spinning guest yields this often; a deadline is overshot by at most this much.
const TICK: Duration = Duration::from_millis(10);
/// Ticks without a call in flight before the ticker goes to sleep.
const IDLE_TICKS: u32 = 100;

/// Where instances come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    Pooling,
    /// The pool did not fit this machine.
    OnDemand {
        why: String,
    },
}

/// Everything that decides what code is compiled to; the compiler child and the host must agree on it.
pub(crate) fn compile_config(stack_bytes: u64) -> Config {
    let stack = usize::try_from(stack_bytes).unwrap_or(usize::MAX);
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_component_model(true)
        .max_wasm_stack(stack)
        // Host functions run on the same stack, above the guest.
        .async_stack_size(stack + (1 << 20))
        .async_stack_zeroing(true)
        // Tables for debuggers and for offsets in backtraces: a third of the code's size in memory and cache.
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        .parallel_compilation(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false);
    config
}

pub(super) fn new(calls: u32, limits: &Limits) -> Result<(wasmtime::Engine, Allocation)> {
    let mut config = compile_config(limits[Limit::StackBytes]);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(calls, limits)));
    // Making the engine reserves the pool's address space: this is the probe.
    let why = match wasmtime::Engine::new(&config) {
        Ok(engine) => return Ok((engine, Allocation::Pooling)),
        Err(error) => format!("{error:#}"),
    };
    tracing::info!(why, "the instance pool does not fit this machine; instances are allocated on demand");
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let engine =
        wasmtime::Engine::new(&config).map_err(|source| Error::Sandbox { action: "set wasmtime up", source })?;
    Ok((engine, Allocation::OnDemand { why }))
}

fn pool(calls: u32, limits: &Limits) -> PoolingAllocationConfig {
    let size = |limit| usize::try_from(limits[limit]).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(calls)
        .total_stacks(calls)
        .total_core_instances(calls * CORE_INSTANCES_MAX)
        .total_memories(calls * MEMORIES_MAX)
        .total_tables(calls * TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memory_size(size(Limit::MemoryBytes))
        .table_elements(size(Limit::TableElements))
        // Fewer, larger rounds of giving memory back to the system. A slot is not used again before it was cleared.
        .decommit_batch_size(16)
        // Enough for the bookkeeping of large components, such as language runtimes.
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        // A small guest's pages are cleared instead of unmapped, which saves it the page faults of the next call.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(16 << 10);
    pool
}

/// Advances the engine's epoch while calls are in flight. One thread per host; asleep when idle.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    in_flight: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// While it lives, the ticker ticks.
pub(super) struct Ticking<'a>(&'a Shared);

impl Ticker {
    #[expect(clippy::disallowed_methods, reason = "the one thread that must tick while every worker may be busy")]
    pub fn start(engine: &wasmtime::Engine) -> Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let (ours, engine) = (shared.clone(), engine.weak());
        let thread = std::thread::Builder::new()
            .name("lodger-ticker".to_owned())
            .spawn(move || tick(&ours, &engine))
            .map_err(Error::io("start the thread", "lodger-ticker"))?;
        Ok(Ticker { shared, thread: thread.thread().clone() })
    }

    pub fn keep_going(&self) -> Ticking<'_> {
        self.shared.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(&self.shared)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn tick(shared: &Shared, engine: &wasmtime::EngineWeak) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        std::thread::park_timeout(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        idle = if shared.in_flight.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle < IDLE_TICKS {
            continue;
        }
        idle = 0;
        shared.asleep.store(true, Ordering::SeqCst);
        // A call that came in between has seen `asleep` or is seen here; either way the thread does not stay asleep.
        while shared.asleep.load(Ordering::SeqCst)
            && shared.in_flight.load(Ordering::SeqCst) == 0
            && !shared.stop.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        shared.asleep.store(false, Ordering::SeqCst);
    }
}

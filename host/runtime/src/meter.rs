//! Counts what one call uses, refuses what would pass its limits, and remembers which limit it was.

use std::collections::HashMap;

use wasmtime::ResourceLimiter;

use crate::limits::{Limit, Limits};

/// The counters of one call. Sums over all memories and all tables, where wasmtime's own limits are per memory.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    /// The first limit that refused something.
    pub hit: Option<Limit>,
    memory: Gauge,
    tables: Gauge,
    host_memory: Gauge,
    pub random_bytes: u64,
    /// What each directory listing still open holds, by its handle.
    listings: HashMap<u32, u64>,
}

/// A quantity now, and the most it has been.
#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    now: u64,
    peak: u64,
    /// What the last growth added, to take it back when the growth itself fails.
    last: u64,
}

impl Gauge {
    fn grow(&mut self, more: u64, max: u64) -> bool {
        let Some(sum) = self.now.checked_add(more).filter(|sum| *sum <= max) else { return false };
        self.now = sum;
        self.peak = self.peak.max(sum);
        self.last = more;
        true
    }

    fn shrink(&mut self, less: u64) {
        self.now = self.now.saturating_sub(less);
    }

    fn last_growth_failed(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.shrink(last);
    }
}

impl Meter {
    pub fn new(limits: Limits) -> Meter {
        Meter {
            limits,
            hit: None,
            memory: Gauge::default(),
            tables: Gauge::default(),
            host_memory: Gauge::default(),
            random_bytes: 0,
            listings: HashMap::new(),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn memory_peak(&self) -> u64 {
        self.memory.peak
    }

    pub fn tables_peak(&self) -> u64 {
        self.tables.peak
    }

    pub fn host_memory_peak(&self) -> u64 {
        self.host_memory.peak
    }

    fn refuse(&mut self, limit: Limit) -> bool {
        self.hit.get_or_insert(limit);
        false
    }

    /// Takes host memory on the guest's behalf, or says no.
    pub fn hold_host_memory(&mut self, bytes: u64) -> bool {
        self.host_memory.grow(bytes, self.limits[Limit::HostMemoryBytes]) || self.refuse(Limit::HostMemoryBytes)
    }

    pub fn release_host_memory(&mut self, bytes: u64) {
        self.host_memory.shrink(bytes);
    }

    pub fn listing_opened(&mut self, handle: u32, bytes: u64) {
        self.listings.insert(handle, bytes);
    }

    pub fn listing_closed(&mut self, handle: u32) {
        let bytes = self.listings.remove(&handle).unwrap_or(0);
        self.release_host_memory(bytes);
    }

    /// Draws random bytes from the call's budget.
    ///
    /// # Errors
    /// Traps the guest: `wasi:random` has no way to say no.
    pub fn draw_random(&mut self, bytes: u64) -> wasmtime::Result<()> {
        match self.random_bytes.checked_add(bytes).filter(|sum| *sum <= self.limits[Limit::RandomBytes]) {
            Some(sum) => {
                self.random_bytes = sum;
                Ok(())
            }
            None => {
                self.refuse(Limit::RandomBytes);
                Err(wasmtime::format_err!("more than {} random bytes", self.limits[Limit::RandomBytes]))
            }
        }
    }

    fn count_max(&self) -> usize {
        usize::try_from(self.limits[Limit::Instances]).unwrap_or(usize::MAX)
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        Ok(self.memory.grow(more, self.limits[Limit::MemoryBytes]) || self.refuse(Limit::MemoryBytes))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.last_growth_failed();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        Ok(self.tables.grow(more, self.limits[Limit::TableElements]) || self.refuse(Limit::TableElements))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.last_growth_failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        self.count_max()
    }

    fn tables(&self) -> usize {
        self.count_max()
    }

    fn memories(&self) -> usize {
        self.count_max()
    }
}

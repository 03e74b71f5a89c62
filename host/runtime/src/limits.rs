//! Every bound of a call: its name, unit, default and highest built-in ceiling, in one table.
//!
//! A manifest may ask for more or less than the default; the policy's ceiling (or the built-in one) decides. What a call
//! used of each is in its [`Report`](crate::outcome::Report), under the same names.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One bound of a call. Units are in the names; the others are counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Linear memory, summed over all memories of the call.
    MemoryBytes,
    /// Table elements, summed over all tables.
    TableElements,
    /// Core instances, memories and tables, each.
    Instances,
    /// The wasm stack. One value for the host: the policy sets it, a manifest cannot ask.
    StackBytes,
    /// What one crossing from guest to host may copy: strings, lists, records.
    CopyBytes,
    /// Host memory held on the guest's behalf: directory listings and the like.
    HostMemoryBytes,
    /// Handles in the component's own tables.
    Handles,
    /// Host objects the guest holds: descriptors, streams, pollables.
    Resources,
    /// Random bytes drawn.
    RandomBytes,
    /// Bytes of stdout and stderr kept. More is counted and dropped, never an error.
    LogBytes,
    /// Bytes of all files in the data directory.
    DataBytes,
    /// Files and directories in the data directory.
    DataFiles,
    /// Bytes of HTTP requests and responses and of TCP streams.
    NetworkBytes,
    /// Connections, sockets and name lookups at one time.
    Connections,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Limit {
    pub const ALL: [Limit; 14] = [
        Limit::MemoryBytes,
        Limit::TableElements,
        Limit::Instances,
        Limit::StackBytes,
        Limit::CopyBytes,
        Limit::HostMemoryBytes,
        Limit::Handles,
        Limit::Resources,
        Limit::RandomBytes,
        Limit::LogBytes,
        Limit::DataBytes,
        Limit::DataFiles,
        Limit::NetworkBytes,
        Limit::Connections,
    ];

    /// As written in manifest, policy and reports, with the default and the ceiling of a host without a policy file.
    const fn row(self) -> (&'static str, u64, u64) {
        match self {
            Limit::MemoryBytes => ("memory_bytes", 64 * MIB, 512 * MIB),
            Limit::TableElements => ("table_elements", 20_000, 200_000),
            Limit::Instances => ("instances", 32, 128),
            Limit::StackBytes => ("stack_bytes", 512 * KIB, 512 * KIB),
            Limit::CopyBytes => ("copy_bytes", 4 * MIB, 64 * MIB),
            Limit::HostMemoryBytes => ("host_memory_bytes", 8 * MIB, 64 * MIB),
            Limit::Handles => ("handles", 1_000, 10_000),
            Limit::Resources => ("resources", 1_000, 10_000),
            Limit::RandomBytes => ("random_bytes", 64 * KIB, 16 * MIB),
            Limit::LogBytes => ("log_bytes", 64 * KIB, MIB),
            Limit::DataBytes => ("data_bytes", 64 * MIB, 1024 * MIB),
            Limit::DataFiles => ("data_files", 1_000, 100_000),
            Limit::NetworkBytes => ("network_bytes", 16 * MIB, 1024 * MIB),
            Limit::Connections => ("connections", 8, 64),
        }
    }

    pub const fn name(self) -> &'static str {
        self.row().0
    }

    pub const fn default_value(self) -> u64 {
        self.row().1
    }

    pub const fn built_in_ceiling(self) -> u64 {
        self.row().2
    }

    pub fn from_name(name: &str) -> Option<Limit> {
        Limit::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Where a manifest asks for it; `None` where it cannot.
    pub fn manifest_path(self) -> Option<&'static str> {
        match self {
            Limit::StackBytes => None,
            Limit::DataBytes => Some("capabilities.data.max_bytes"),
            Limit::DataFiles => Some("capabilities.data.max_files"),
            Limit::MemoryBytes => Some("limits.memory_bytes"),
            Limit::TableElements => Some("limits.table_elements"),
            Limit::Instances => Some("limits.instances"),
            Limit::CopyBytes => Some("limits.copy_bytes"),
            Limit::HostMemoryBytes => Some("limits.host_memory_bytes"),
            Limit::Handles => Some("limits.handles"),
            Limit::Resources => Some("limits.resources"),
            Limit::RandomBytes => Some("limits.random_bytes"),
            Limit::LogBytes => Some("limits.log_bytes"),
            Limit::NetworkBytes => Some("limits.network_bytes"),
            Limit::Connections => Some("limits.connections"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value for every [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([u64; Limit::ALL.len()]);

impl Limits {
    /// A table filled by `value`.
    pub fn from_fn(value: impl Fn(Limit) -> u64) -> Limits {
        Limits(Limit::ALL.map(value))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::from_fn(Limit::default_value)
    }
}

impl Index<Limit> for Limits {
    type Output = u64;

    #[expect(clippy::indexing_slicing, reason = "the table has one place per variant, in the order of the enum")]
    fn index(&self, limit: Limit) -> &u64 {
        &self.0[limit as usize]
    }
}

impl IndexMut<Limit> for Limits {
    #[expect(clippy::indexing_slicing, reason = "the table has one place per variant, in the order of the enum")]
    fn index_mut(&mut self, limit: Limit) -> &mut u64 {
        &mut self.0[limit as usize]
    }
}

impl Serialize for Limits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Limit::ALL.map(|limit| (limit.name(), self[limit])))
    }
}

impl<'de> Deserialize<'de> for Limits {
    /// What is not named has the default.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Limits, D::Error> {
        let given = BTreeMap::<Limit, u64>::deserialize(from)?;
        Ok(Limits::from_fn(|limit| given.get(&limit).copied().unwrap_or(limit.default_value())))
    }
}

/// Wall time of a call when neither manifest nor policy says otherwise.
pub const DEFAULT_DEADLINE_MS: u64 = 5_000;
/// The same of the hook `schedule`, at most.
pub const SCHEDULE_DEADLINE_MS: u64 = 1_000;
/// The same of `before`, for which somebody waits, and of `after`, which comes with verbs of others.
pub const EVENT_DEADLINE_MS: u64 = 1_000;
/// The same of `dump` and `restore`, which take as long as there is something to move.
pub const BACKUP_DEADLINE_MS: u64 = 600_000;
/// Longest deadline a manifest may ask for when the policy does not say otherwise: one hour.
pub const DEADLINE_CEILING_MS: u64 = 3_600_000;

/// How long each hook may take, host calls included; `default` serves the hooks not named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Deadlines(pub BTreeMap<String, u64>);

impl Deadlines {
    pub fn of(&self, hook: &str) -> Duration {
        let ms = self.0.get(hook).or_else(|| self.0.get("default"));
        Duration::from_millis(ms.copied().unwrap_or(DEFAULT_DEADLINE_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_defaults_stay_below_ceilings() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place);
            assert!(limit.default_value() <= limit.built_in_ceiling(), "{limit}");
            assert_eq!(Limit::from_name(limit.name()), Some(limit));
        }
    }
}

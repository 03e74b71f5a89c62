//! Disks: what instances take of them, and which take too much.
//!
//! No engine holds a volume to a size, so that the limit is a soft one: it is looked at now and then. What is found to take
//! too much is recorded, and reconciling keeps it from running, with all its data, until it takes less, may take more, or
//! somebody has it started all the same to clear it up.

use std::collections::{BTreeMap, BTreeSet};

use super::{Services, now_s};
use crate::engine::DiskUsage;
use crate::error::{Error, Result};
use crate::grant::human_bytes;
use crate::registry::Addon;
use crate::render::Instance;
use crate::store::{InstanceRow, Wanted};

/// How long what was started all the same may take too much, to be cleared up.
const SPARED_S: i64 = 15 * 60;

/// What every engine that has told has, by its name.
pub(crate) type Usages = BTreeMap<String, DiskUsage>;

impl Services {
    /// Asks engines what they have. Those that do not tell are left out, with why the first of them did not.
    pub async fn disk_usages(&self, engines: BTreeSet<String>) -> (Usages, Option<Error>) {
        let (mut usages, mut failed) = (Usages::new(), None);
        for name in engines {
            self.tell(format!("measuring what engine {name} keeps"));
            let usage = match self.engines.get(&name) {
                Ok(engine) => engine.disk_usage().await.map_err(Error::from),
                Err(error) => Err(error),
            };
            match usage {
                Ok(usage) => drop(usages.insert(name, usage)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        (usages, failed)
    }

    /// What has to be recorded of an addon's instances: what each takes that takes too much, or did when that was last
    /// recorded. A volume counts in full for every instance that has it.
    pub fn to_note(&self, addon: &Addon, usages: &Usages) -> Result<Vec<(Instance, u64)>> {
        let mut to_note = Vec::new();
        for row in self.store.instances(&addon.id)? {
            let Some(usage) = usages.get(&row.engine).filter(|_| row.wanted == Wanted::Running) else { continue };
            // Reconciling tells what is wrong with one that cannot be rendered.
            let Ok(rendered) = self.rendered(addon, &row) else { continue };
            let volumes = rendered.volumes.keys().filter_map(|volume| usage.volumes.get(volume));
            let bytes = volumes.chain(usage.containers.get(&rendered.container.name)).sum();
            let too_much = limit(addon, &row).is_some_and(|(limit, _)| bytes > limit) && !is_spared(&row);
            if row.disk_bytes != Some(bytes) && (too_much || row.disk_bytes.is_some()) {
                to_note.push((row.instance, bytes));
            }
        }
        Ok(to_note)
    }
}

/// An instance takes too much of the disk, and must not run.
pub(crate) struct TooLarge {
    pub why: String,
    pub way_on: String,
}

impl TooLarge {
    pub fn of(addon: &Addon, row: &InstanceRow) -> Option<TooLarge> {
        let (limit, place) = limit(addon, row)?;
        let bytes = row.disk_bytes.filter(|&bytes| bytes > limit && !is_spared(row))?;
        let (bytes, limit) = (human_bytes(bytes), human_bytes(limit));
        let (id, minutes) = (&addon.id, SPARED_S / 60);
        Some(TooLarge {
            why: format!("it takes {bytes} of disk, its limit is {limit} (services[{place}].limits.disk_bytes)"),
            way_on: format!("raise it or free some: `lodger reconcile {id} --retry` starts it for {minutes} minutes"),
        })
    }
}

/// What an instance may take, and the place of its service in the manifest.
fn limit(addon: &Addon, row: &InstanceRow) -> Option<(u64, usize)> {
    let place = addon.manifest.services.iter().position(|service| service.name == row.instance.service)?;
    Some((addon.grant.services.get(place)?.disk_bytes, place))
}

fn is_spared(row: &InstanceRow) -> bool {
    row.spared_at.is_some_and(|at| (0..SPARED_S).contains(&(now_s() - at)))
}

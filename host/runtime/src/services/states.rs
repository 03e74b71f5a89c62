//! How services are just now, in numbers, as the engines tell.

use std::collections::BTreeMap;

use super::Services;
use crate::engine::Status;
use crate::error::Result;
use crate::render::LABEL_HOME;
use crate::store::Wanted;

impl Services {
    /// How many instances are in which state: those that should run are `running`, `down`, or `unknown` where their engine
    /// does not answer; the others are `stopped`, or `leaving` until the last of them is gone.
    pub async fn states(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut there: BTreeMap<String, Option<Vec<String>>> = BTreeMap::new();
        for name in self.store.engines()? {
            let containers = self.engines.get(&name)?.containers(LABEL_HOME, &self.marks().home_label()).await;
            let running = |list: Vec<crate::engine::Container>| {
                let running = list.into_iter().filter(|container| container.status == Status::Running);
                running.map(|container| container.name).collect()
            };
            there.insert(name, containers.ok().map(running));
        }
        let mut states = BTreeMap::from(["running", "down", "unknown", "stopped", "leaving"].map(|state| (state, 0)));
        for id in self.store.addons_with_instances()? {
            for row in self.store.instances(&id)? {
                let state = match (row.wanted, there.get(&row.engine)) {
                    (Wanted::Stopped, _) => "stopped",
                    (Wanted::Gone, _) => "leaving",
                    (Wanted::Running, Some(Some(running))) => {
                        let name = row.instance.container_name(&self.marks());
                        if running.contains(&name) { "running" } else { "down" }
                    }
                    (Wanted::Running, _) => "unknown",
                };
                *states.entry(state).or_default() += 1;
            }
        }
        Ok(states)
    }
}

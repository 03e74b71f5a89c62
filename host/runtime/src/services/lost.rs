//! Volumes of services: made before the container that needs them, missed when they are gone, and removed with what they
//! belong to.

use std::collections::BTreeSet;

use super::Services;
use crate::engine::{Engine, Failure, Fault};
use crate::error::Result;
use crate::id::AddonId;
use crate::render::{Instance, LABEL_ADDON, LABEL_HELPER, LABEL_RESOURCE, Rendered};
use crate::store::InstanceRow;

impl Services {
    /// Makes the volumes of an instance that are not there. Says which had been made before: what they held is gone.
    ///
    /// They are noted as made when they are there and before anything can write to them, so that only those are missed that
    /// may have held something.
    pub(super) async fn make_volumes(
        &self,
        engine: &dyn Engine,
        row: &InstanceRow,
        rendered: &Rendered,
    ) -> Result<Option<String>> {
        let addon = &row.instance.addon;
        let had = self.store.volumes(addon, &row.engine)?;
        let mut lost: BTreeSet<String> = rendered.volumes.keys().filter(|name| had.contains(*name)).cloned().collect();
        if !lost.is_empty() {
            for there in engine.volumes(LABEL_ADDON, &addon.to_string()).await? {
                lost.remove(&there.name);
            }
        }
        for (name, labels) in &rendered.volumes {
            engine.create_volume(name, labels).await?;
        }
        if !lost.is_empty() || !rendered.volumes.keys().all(|name| had.contains(name)) {
            self.store.note_volumes(row, rendered.volumes.keys(), &lost)?;
        }
        if lost.is_empty() {
            return Ok(None);
        }
        let said: Vec<String> = lost.iter().map(|name| told_lost(name)).collect();
        let said = said.join("; ");
        tracing::warn!(%addon, service = %row.instance.service, "{said}");
        Ok(Some(said))
    }

    /// Somebody starts an instance anew: what it has lost before is told no longer.
    pub(super) fn forgive_losses(&self, row: &InstanceRow, rendered: &Rendered) -> Result<()> {
        let lost = self.store.lost_volumes(&row.instance.addon)?;
        let names: Vec<&String> =
            lost.iter().map(|lost| &lost.name).filter(|name| rendered.volumes.contains_key(*name)).collect();
        if names.is_empty() { Ok(()) } else { self.store.forgive_losses(&row.engine, &names) }
    }

    /// Removes a volume, with what a host that died has left of an export or import of it: nobody else can be at that, since
    /// whoever is holds the addon's lock.
    pub(super) async fn remove_unused(&self, engine: &dyn Engine, id: &AddonId, volume: &str) -> Result<()> {
        match engine.remove_volume(volume).await {
            Err(Failure { fault: Fault::Conflict, .. }) => {
                for (name, there) in self.containers_of(engine, id).await? {
                    let helps = there.labels.get(LABEL_HELPER).is_some_and(|of| of == volume);
                    if helps && self.marks().vouches_for(&name, &there.labels) {
                        engine.remove(&there.id).await?;
                    }
                }
                Ok(engine.remove_volume(volume).await?)
            }
            removed => Ok(removed?),
        }
    }

    /// The volumes of one resource; those of the whole addon go with its last instance.
    pub(super) async fn remove_volumes(&self, engine: &dyn Engine, row: &InstanceRow) -> Result<()> {
        let Instance { addon, resource, .. } = &row.instance;
        let rows = self.store.instances(addon)?;
        if rows.iter().any(|other| other.instance != row.instance && other.instance.resource == *resource) {
            return Ok(());
        }
        for volume in engine.volumes(LABEL_ADDON, &addon.to_string()).await? {
            let of_it = volume.labels.get(LABEL_RESOURCE) == Some(resource);
            if of_it && self.marks().vouches_for(&volume.name, &volume.labels) {
                self.remove_unused(engine, addon, &volume.name).await?;
            }
        }
        self.store.forget_volumes(addon, resource, &row.engine)
    }
}

/// What is said of a volume that had been made and was not there.
pub(crate) fn told_lost(name: &str) -> String {
    format!("its volume {name} was gone with all it held, and was made anew, empty")
}

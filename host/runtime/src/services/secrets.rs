//! Secrets that reach a service as files: a volume of the instance's own, which is there for as long as its container is.
//!
//! It is made and filled anew with every container, so that it holds what the container's mark vouches for, whatever became
//! of an older one. What keeps it from being removed with the container is made up for by reconciling.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor};

use super::Services;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id::AddonId;
use crate::render::{Instance, LABEL_ADDON, Rendered};
use crate::store::{InstanceRow, Wanted};

/// For whichever user the image runs as; the volume is mounted read-only, into one container.
const FILE_MODE: u32 = 0o444;

impl Services {
    /// Makes the container, not started, with its secrets in place.
    pub(super) async fn create_with_secrets(
        &self,
        engine: &dyn Engine,
        row: &InstanceRow,
        rendered: &Rendered,
    ) -> Result<String> {
        if let Some(secrets) = &rendered.secrets {
            self.remove_secrets(engine, row).await?;
            engine.create_volume(&secrets.volume, &secrets.labels).await?;
            let archive = archive(&secrets.files).map_err(Error::io("pack the secrets for", &secrets.volume))?;
            let helper = self.marks().helper(&row.instance.addon, &secrets.volume, &rendered.container.image);
            engine.import_volume(&secrets.volume, &helper, Box::new(Cursor::new(archive))).await?;
        }
        Ok(engine.create(&rendered.container).await?)
    }

    /// Removes the secrets of an instance that has no container.
    ///
    /// # Errors
    /// [`Error::ForeignVolume`] where something is in their place.
    pub(super) async fn remove_secrets(&self, engine: &dyn Engine, row: &InstanceRow) -> Result<()> {
        let name = row.instance.secrets_volume(&self.marks());
        let Some(there) = engine.volume(&name).await? else { return Ok(()) };
        if !self.marks().vouches_for(&name, &there.labels) {
            return Err(Error::ForeignVolume { name, engine: row.engine.clone() });
        }
        self.remove_unused(engine, &row.instance.addon, &name).await
    }

    /// The instances that should not run, and have secrets all the same. Asks nothing where all should run.
    pub(super) async fn with_secrets_left(
        &self,
        engine: &dyn Engine,
        id: &AddonId,
        rows: &[&InstanceRow],
    ) -> Result<BTreeSet<Instance>> {
        let mut idle = BTreeMap::new();
        for row in rows {
            if row.wanted != Wanted::Running {
                idle.insert(row.instance.secrets_volume(&self.marks()), &row.instance);
            }
        }
        let mut left = BTreeSet::new();
        if idle.is_empty() {
            return Ok(left);
        }
        for volume in engine.volumes(LABEL_ADDON, &id.to_string()).await? {
            if self.marks().vouches_for(&volume.name, &volume.labels) {
                left.extend(idle.get(&volume.name).map(|&instance| instance.clone()));
            }
        }
        Ok(left)
    }
}

fn archive(files: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, value) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(FILE_MODE);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(value.len() as u64);
        archive.append_data(&mut header, name, value.as_bytes())?;
    }
    archive.into_inner()
}

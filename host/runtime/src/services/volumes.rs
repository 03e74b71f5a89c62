//! What an addon's services have in volumes, copied out and back: while another version is tried, and for backups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{GRACE, Services, declared};
use crate::engine::{Container, Engine, Status};
use crate::error::{Error, Result};
use crate::id::AddonId;
use crate::registry::Addon;
use crate::render::{LABEL_ADDON, LABEL_HOME, LABEL_RESOURCE};
use crate::store::Wanted;

/// A volume as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedVolume {
    pub engine: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

impl SavedVolume {
    /// Our key of the resource it belongs to; empty where it is the addon's.
    pub fn resource(&self) -> &str {
        self.labels.get(LABEL_RESOURCE).map_or("", String::as_str)
    }
}

impl Services {
    /// Stops all containers of an addon, and with `remove` takes them away. What should run stays recorded.
    pub async fn halt(&self, id: &AddonId, remove: bool) -> Result<()> {
        for name in self.store.engines_of(id)? {
            let engine = self.engines.get(&name)?;
            for (name, container) in self.containers_of(&*engine, id).await? {
                if self.marks().vouches_for(&name, &container.labels) {
                    engine.stop(&container.id, GRACE).await?;
                    if remove {
                        engine.remove(&container.id).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes everything that should run of an addon run, as its version has it, and waits until it is ready. Containers of
    /// services that this version does not declare are taken away; what is recorded of them stays.
    pub async fn bring_up(&self, addon: &Addon) -> Result<()> {
        for row in self.store.instances(&addon.id)? {
            if declared(addon, &row.instance.service).is_err() {
                let engine = self.engines.get(&row.engine)?;
                if let Some(there) = self.own_container(&*engine, &row.instance).await? {
                    engine.stop(&there.id, GRACE).await?;
                    engine.remove(&there.id).await?;
                }
                self.remove_secrets(&*engine, &row).await?;
            } else if row.wanted == Wanted::Running && !self.has_given_back(addon, &row.instance)? {
                let values = row.environment.as_ref().map(|sealed| self.opened(&row.instance, sealed)).transpose()?;
                self.stand_in_by(addon, &row.instance).await?;
                let ran = self.run(addon, &row.instance, values.as_ref(), None).await;
                if ran.is_err() && addon.grant.stands_in_by(&row.instance.service).is_some() {
                    self.give_back_or_tell(&addon.id, false).await;
                }
                ran?;
            }
        }
        Ok(())
    }

    /// The volumes of an addon that this home has made.
    pub async fn volumes(&self, id: &AddonId) -> Result<Vec<SavedVolume>> {
        let mut volumes = Vec::new();
        for name in self.store.engines_of(id)? {
            for volume in self.engines.get(&name)?.volumes(LABEL_ADDON, &id.to_string()).await? {
                if self.marks().vouches_for(&volume.name, &volume.labels) {
                    volumes.push(SavedVolume { engine: name.clone(), name: volume.name, labels: volume.labels });
                }
            }
        }
        Ok(volumes)
    }

    /// Those that outlive their containers: secrets do not.
    pub async fn data_volumes(&self, id: &AddonId) -> Result<Vec<SavedVolume>> {
        let rows = self.store.instances(id)?;
        let secrets: BTreeSet<String> = rows.iter().map(|row| row.instance.secrets_volume(&self.marks())).collect();
        let mut volumes = self.volumes(id).await?;
        volumes.retain(|volume| !secrets.contains(&volume.name));
        Ok(volumes)
    }

    /// The containers of an addon that run, to be started again after they were halted.
    pub async fn that_run(&self, id: &AddonId) -> Result<Vec<(String, Container)>> {
        let mut running = Vec::new();
        for engine in self.store.engines_of(id)? {
            for (name, container) in self.containers_of(&*self.engines.get(&engine)?, id).await? {
                if container.status == Status::Running && self.marks().vouches_for(&name, &container.labels) {
                    running.push((engine.clone(), container));
                }
            }
        }
        Ok(running)
    }

    /// Starts what was halted, as it was, and waits until it is ready where the addon is known. What did not run before does
    /// not run after.
    pub async fn run_again(&self, ran: &[(String, Container)], addon: Option<&Addon>) -> Result<()> {
        for (engine, container) in ran {
            self.engines.get(engine)?.start(&container.id).await?;
        }
        let ran = |name: &String| ran.iter().any(|(_, container)| container.name == *name);
        match addon {
            Some(addon) => self.all_ready(addon, ran).await,
            None => Ok(()),
        }
    }

    /// Waits until everything of an addon that should run is ready, of those containers that are meant.
    pub async fn all_ready(&self, addon: &Addon, meant: impl Fn(&String) -> bool) -> Result<()> {
        for row in self.store.instances(&addon.id)? {
            let Ok((service, _)) = declared(addon, &row.instance.service) else { continue };
            if row.wanted == Wanted::Running && meant(&row.instance.container_name(&self.marks())) {
                self.wait_ready(&*self.engines.get(&row.engine)?, addon, service, &row).await?;
            }
        }
        Ok(())
    }

    /// Writes what a volume holds, as a tar archive. Nothing may write to it meanwhile.
    pub async fn export(&self, id: &AddonId, volume: &SavedVolume, to: File) -> Result<u64> {
        let mut to = OnDisk(to);
        let bytes = self.export_to(id, volume, &mut to).await?;
        to.0.sync_all().map_err(Error::io("write what is in the volume", &volume.name))?;
        Ok(bytes)
    }

    pub async fn export_to(
        &self,
        id: &AddonId,
        volume: &SavedVolume,
        to: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        self.tell(format!("saving the volume {}", volume.name));
        let engine = self.engines.get(&volume.engine)?;
        let image = self.any_image(&*engine, id).await?;
        let helper = self.marks().helper(id, &volume.name, &image);
        Ok(engine.export_volume(&volume.name, &helper, to).await?)
    }

    /// Makes a volume with what `from` holds, by way of an image the engine has.
    pub async fn import_from(
        &self,
        id: &AddonId,
        volume: &SavedVolume,
        image: &str,
        from: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        self.tell(format!("restoring the volume {}", volume.name));
        self.fill(id, volume, image, from).await
    }

    /// Makes a volume with what `from` holds. No volume of its name is there.
    async fn fill(
        &self,
        id: &AddonId,
        volume: &SavedVolume,
        image: &str,
        from: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        let engine = self.engines.get(&volume.engine)?;
        engine.create_volume(&volume.name, &volume.labels).await?;
        let helper = self.marks().helper(id, &volume.name, image);
        Ok(engine.import_volume(&volume.name, &helper, from).await?)
    }

    /// Removes what this home has on an engine of addons that are not `known`.
    pub async fn remove_unknown(&self, engine: &str, known: &BTreeSet<AddonId>) -> Result<()> {
        let engine = self.engines.get(engine)?;
        let stays = |name: &str, labels: &BTreeMap<String, String>| {
            let of = labels.get(LABEL_ADDON).and_then(|addon| addon.parse().ok());
            !self.marks().vouches_for(name, labels) || of.is_some_and(|addon| known.contains(&addon))
        };
        for container in engine.containers(LABEL_HOME, &self.marks().home_label()).await? {
            if !stays(&container.name, &container.labels) {
                engine.remove(&container.id).await?;
            }
        }
        for volume in engine.volumes(LABEL_HOME, &self.marks().home_label()).await? {
            if !stays(&volume.name, &volume.labels) {
                engine.remove_volume(&volume.name).await?;
            }
        }
        Ok(())
    }

    /// Makes a volume anew with what was saved of it, and nothing else. No container may have it.
    pub async fn put_back(&self, id: &AddonId, volume: &SavedVolume, from: File) -> Result<()> {
        self.tell(format!("putting back the volume {}", volume.name));
        let engine = self.engines.get(&volume.engine)?;
        let image = self.any_image(&*engine, id).await?;
        self.remove_unused(&*engine, id, &volume.name).await?;
        self.fill(id, volume, &image, Box::new(OnDisk(from))).await
    }

    /// Removes the volumes of an addon that nothing recorded of it has: those of services its version does not declare.
    pub async fn remove_strays(&self, addon: &Addon) -> Result<()> {
        let mut owned = BTreeSet::new();
        for row in self.store.instances(&addon.id)? {
            owned.extend(self.rendered(addon, &row)?.volumes.into_keys());
        }
        for volume in self.data_volumes(&addon.id).await?.iter().filter(|volume| !owned.contains(&volume.name)) {
            self.remove_volume(&addon.id, volume).await?;
        }
        Ok(())
    }

    pub async fn remove_volume(&self, id: &AddonId, volume: &SavedVolume) -> Result<()> {
        self.remove_unused(&*self.engines.get(&volume.engine)?, id, &volume.name).await?;
        self.store.forget_volume(&volume.engine, &volume.name)
    }

    /// An image of the addon that an engine has: a way to a volume needs one, and never starts it.
    async fn any_image(&self, engine: &dyn Engine, id: &AddonId) -> Result<String> {
        for pin in self.store.pins(id)? {
            if engine.image(&pin.id).await?.is_some() {
                return Ok(pin.id);
            }
        }
        Err(Error::NoImage { addon: id.clone() })
    }
}

/// A local file, or what is made of one, as a stream. Reading and writing one does not wait for anybody, so the caller's worker does it.
pub(crate) struct OnDisk<T>(pub T);

impl<T: io::Read + Unpin> AsyncRead for OnDisk<T> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.0.read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: io::Write + Unpin> AsyncWrite for OnDisk<T> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

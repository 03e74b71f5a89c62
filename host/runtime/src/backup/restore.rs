//! Making a home of a backup.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::archive::{self, Reader};
use super::read::{IncomingAddon, IncomingHome};
use super::rows::VolumeAt;
use super::{NotUp, Restored, io_error, unexpected};
use crate::crash;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::AddonId;
use crate::limits::Limit;
use crate::lock::Held;
use crate::manifest::Service;
use crate::render::Pin;
use crate::sandbox::ProgressEvent;
use crate::services::{OnDisk, SavedVolume, is_free, with_source};
use crate::store::{NewAddon, Ports};
use crate::tree::{Growing, Size};

/// The archive, which an engine reads parts of, too.
#[derive(Clone)]
struct Shared(Arc<Mutex<Reader>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The volume that the archive has come to.
struct Volume(Shared);

impl Read for Volume {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.lock().read_volume(into)
    }
}

impl Host {
    /// Makes this home, which has no addon, be what was saved: the caller has accepted its grants. Addons are in the states
    /// they were in, no hook is called; services run again with what their volumes held.
    ///
    /// # Errors
    /// The home is as empty as before then, unless clearing it failed, too: the next restore tries that again.
    pub async fn restore_home(&self, home: IncomingHome) -> Result<Restored> {
        let lock = self.home.restore_lock()?;
        if lock.try_lock().is_err() {
            return Err(Error::Restoring { home: self.home().to_owned() });
        }
        self.check_empty()?;
        if let Some(engines) = self.store.restoring()? {
            self.clear_restore(&engines).await?;
        }
        let engines: Vec<String> = home.engines().into_iter().collect();
        let order = home.order.clone();
        self.restoring.store(true, Ordering::Relaxed);
        self.store.begin_restore(&engines)?;
        let (held, restored) = match self.make_all(home).await {
            Ok(made) => made,
            Err(error) => {
                if let Err(error) = self.clear_restore(&engines).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot clear what a failed restore has made");
                }
                return Err(error);
            }
        };
        self.restoring.store(false, Ordering::Relaxed);
        let not_up = self.bring_all_up(&order).await;
        drop(held);
        Ok(Restored { not_up, ..restored })
    }

    /// Removes whatever a restore has made. What a host has installed that was there before it began is not it.
    async fn clear_restore(&self, engines: &[String]) -> Result<()> {
        let known: BTreeSet<AddonId> = self.store.addons()?.into_iter().map(|row| row.id).collect();
        for engine in engines {
            self.services.remove_unknown(engine, &known).await?;
        }
        self.home.clear(&known)?;
        self.store.end_restore()?;
        self.restoring.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Makes files and volumes, then commits all. Nobody else takes the addons' locks before that.
    async fn make_all(&self, home: IncomingHome) -> Result<(Vec<Held>, Restored)> {
        let mut reader = home.reader.again()?;
        reader.member(archive::BACKUP, u64::MAX)?;
        let reader = Shared(Arc::new(Mutex::new(reader)));
        let mut held = Vec::new();
        let mut restored = Restored { addons: home.addons.len(), resources: 0, volumes: 0, not_up: Vec::new() };
        let mut rows = Vec::new();
        for (number, addon) in home.addons.into_iter().enumerate() {
            let id = addon.taken.id().clone();
            self.tell(|| ProgressEvent::Step(format!("restoring {id}")));
            let lock = self.registry.lock_of(self, &id);
            held.push(lock.hold(&id, self.holder(), self.policy.lock_wait).await?);
            restored.resources += addon.taken.resources.len();
            restored.volumes += addon.volumes.len();
            rows.push(self.make(&reader, number, addon).await?);
        }
        reader.lock().finish()?;
        let services = &self.services;
        let ports = Ports {
            range: services.policy.host_ports.clone(),
            machine_of: &|engine| services.engines.on_machine_of(engine),
            usable: &|engine, port| services.engines.is_remote(engine) || is_free(services.policy.address, port),
        };
        self.store.restore(&rows, &ports)?;
        Ok((held, restored))
    }

    async fn make(&self, reader: &Shared, number: usize, addon: IncomingAddon) -> Result<NewAddon> {
        let id = addon.taken.id().clone();
        let data = self.make_files(&mut reader.lock(), number, &addon)?;
        let pins = self.pin_all(&addon).await?;
        for (place, at) in addon.volumes.iter().enumerate() {
            let (volume, image) = self.volume_at(&addon, at, &pins)?;
            reader.lock().begin_volume(number, place)?;
            let mut content = Volume(reader.clone());
            self.services.import_from(&id, &volume, &image, Box::new(OnDisk(Volume(reader.clone())))).await?;
            // An engine may stop at the end of what it unpacks.
            io::copy(&mut content, &mut io::sink()).map_err(io_error)?;
        }
        let slot = addon.slot().cloned();
        let pins = pins.into_iter().map(|(service, pin)| (service.name, service.image.to_string(), pin));
        let mut row = addon.taken.row;
        row.data = data;
        crash::point("file", "addon restored");
        tracing::debug!(addon = %id, "restored");
        Ok(NewAddon {
            slot,
            settings: addon.taken.settings,
            resources: addon.taken.resources,
            platforms: addon.taken.platforms,
            orders: addon.taken.orders,
            pins: pins.collect(),
            instances: addon.taken.instances,
            row,
        })
    }

    /// The package, once more through the one reader, and the data directory.
    fn make_files(&self, reader: &mut Reader, number: usize, addon: &IncomingAddon) -> Result<Size> {
        let row = &addon.taken.row;
        let id = &row.id;
        reader.member(&archive::rows(number), u64::MAX)?;
        let package = self.unpack(reader, number, id)?;
        if package.digest != row.digest {
            return Err(unexpected(&archive::package(number), "is another than was accepted"));
        }
        self.home.put_version(id, &row.version, &package)?;
        let data = self.home.open_data(id)?;
        let failed = |error: io::Error| match io_error(error) {
            Error::Io { source, .. } => unexpected(&format!("the data directory of {id}"), source.to_string()),
            ours => ours,
        };
        let limits = &addon.incoming.grant.limits;
        let mut tree = Growing::new(data.as_fd()).map_err(failed)?;
        while let Some(entry) = reader.data(number)? {
            if entry.is_dir {
                tree.directory(entry.of, &entry.name).map_err(failed)?;
            } else {
                tree.file(entry.of, &entry.name, &mut *reader, entry.modified).map_err(failed)?;
            }
            let Size { bytes, files } = tree.size;
            if bytes > limits[Limit::DataBytes] || files > limits[Limit::DataFiles] {
                return Err(unexpected(
                    &format!("the data directory of {id}"),
                    "is larger than when it was read first",
                ));
            }
        }
        tree.finish().map_err(failed)
    }

    /// The images of an addon's services, as they were pinned: on every engine it will have anything on.
    async fn pin_all(&self, addon: &IncomingAddon) -> Result<Vec<(Service, Pin)>> {
        let mut pins = Vec::new();
        for saved in &addon.images {
            let mut services = addon.incoming.package.manifest.services.iter();
            let service = services
                .find(|service| service.name == saved.service)
                .ok_or_else(|| unexpected(&format!("the image of {}", saved.service), "is of no service"))?;
            let instances = &addon.taken.instances;
            let mut engines: Vec<&str> = instances.iter().map(|instance| instance.engine.as_str()).collect();
            engines.sort_unstable();
            engines.dedup();
            let mut pinned = None;
            for engine in engines {
                let pin = self.services.pin_again(&service.image, engine, &saved.id, saved.digest.as_deref());
                pinned = Some(pin.await?);
            }
            // One that has nothing on any engine is pinned when it is enabled.
            pins.extend(pinned.map(|pin| (service.clone(), pin)));
        }
        Ok(pins)
    }

    /// The volume of this home that takes the place of one that was saved, and the image it is reached by.
    fn volume_at(
        &self,
        addon: &IncomingAddon,
        at: &VolumeAt,
        pins: &[(Service, Pin)],
    ) -> Result<(SavedVolume, String)> {
        let wrong = || {
            unexpected(
                &format!("the volume at {} of {}", crate::text::shown(&at.path, 100), at.service),
                "is nowhere mounted",
            )
        };
        let mut instances = addon.taken.instances.iter();
        let instance = instances
            .find(|new| new.instance.service == at.service && new.instance.resource == at.resource)
            .ok_or_else(wrong)?;
        let (service, pin) = pins.iter().find(|(service, _)| service.name == at.service).ok_or_else(wrong)?;
        let (mounted, labels) = self.services.marks().volumes(&instance.instance, service, pin);
        let name = mounted.into_iter().find(|(_, path)| *path == at.path).map(|(name, _)| name).ok_or_else(wrong)?;
        let labels = labels.get(&name).cloned().unwrap_or_default();
        Ok((SavedVolume { engine: instance.engine.clone(), name, labels }, pin.id.clone()))
    }

    /// Makes services run, those that others need first.
    async fn bring_all_up(&self, ids: &[AddonId]) -> Vec<NotUp> {
        let mut not_up = Vec::new();
        for id in ids {
            if let Err(why) = self.bring_services_up(id).await {
                not_up.push(NotUp { addon: id.clone(), why });
            }
        }
        not_up
    }

    async fn bring_services_up(&self, id: &AddonId) -> std::result::Result<(), String> {
        let told = |error: Error| with_source(&error);
        let (addon, now) = self.registry.get_under_lock(self, id).await.map_err(told)?;
        if addon.manifest.services.is_empty() {
            return Ok(());
        }
        let serves = now.state.is_enabled();
        // No backup knows of the containers that stand beside the home.
        let mut stood_in = Ok(());
        if let Some(part) = addon.grant.stands_in.as_ref().filter(|_| serves) {
            stood_in = self.services.stand_in(&addon, part).await;
        }
        let repairs = self.reconcile_locked(&addon, &now.state, serves).await.map_err(told)?;
        stood_in.map_err(told)?;
        if let Some(problem) = repairs.into_iter().find(crate::Repair::is_problem) {
            return Err(problem.why.unwrap_or_default());
        }
        self.services.all_ready(&addon, |_| true).await.map_err(told)
    }
}

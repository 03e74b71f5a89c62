//! Saving a home.

use std::io::Write;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::archive::{self, Parts, Writer};
use super::rows::VolumeAt;
use super::stream::{Passphrase, Sealer};
use super::{About, BackedUp, FORMAT, io_error};
use crate::crash;
use crate::error::{Error, Result};
use crate::hook::HookName;
use crate::host::{Host, now_ms};
use crate::id::AddonId;
use crate::lifecycle::AddonState;
use crate::lock::Held;
use crate::manifest::Manifest;
use crate::package::pack_fast;
use crate::registry::Addon;
use crate::sandbox::ProgressEvent;
use crate::services::{OnDisk, SavedVolume};
use crate::store::{AddonRow, Wanted};
use crate::tree::{self, Found};

impl Host {
    /// Saves the whole home to a file that is there whole, or as it was before.
    ///
    /// # Errors
    /// As for [`Host::backup`].
    pub async fn backup_to(&self, path: &Path, passphrase: &Passphrase) -> Result<BackedUp> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = || Error::io("write", path);
        let private = std::fs::Permissions::from_mode(0o600);
        let file = tempfile::Builder::new().prefix(".lodger-backup-").permissions(private).tempfile_in(dir);
        let mut file = file.map_err(failed())?;
        let done = self.backup(&mut file, passphrase).await?;
        file.as_file().sync_all().map_err(failed())?;
        crash::point("file", "backup to be put in place");
        file.persist(path).map_err(|error| failed()(error.error))?;
        crash::point("file", "backup put in place");
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed())?;
        Ok(done)
    }

    /// Saves the whole home: every addon that is installed, one after the other, each as it is at one moment.
    ///
    /// # Errors
    /// [`Error::Busy`] when an addon is at work for too long: none is left out. What was written is no backup then.
    pub async fn backup(&self, to: &mut (dyn Write + Send), passphrase: &Passphrase) -> Result<BackedUp> {
        self.writable()?;
        let ids: Vec<AddonId> = self.store.addons()?.into_iter().map(|row| row.id).collect();
        let mut archive = Writer::new(Sealer::begin(to, passphrase)?);
        let about = About {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created: now_ms(),
            addons: ids.iter().map(ToString::to_string).collect(),
        };
        archive.document(archive::BACKUP, &about)?;
        let mut done = BackedUp { addons: ids.len(), ..BackedUp::default() };
        for (number, id) in ids.iter().enumerate() {
            self.tell(|| ProgressEvent::Step(format!("saving {id}")));
            self.save_addon(&mut archive, number, id, &mut done).await?;
        }
        done.bytes = archive.finish()?;
        Ok(done)
    }

    async fn save_addon(
        &self,
        archive: &mut Writer<'_>,
        number: usize,
        id: &AddonId,
        done: &mut BackedUp,
    ) -> Result<()> {
        let (_held, addon) = self.hold_still(id).await?;
        let row = self.store.addon(id)?.ok_or_else(|| Error::UnknownAddon(id.to_string()))?;
        let package = self.home.read_package(id, &row.version)?;
        if package.digest != row.digest {
            let message = "it is not as it was installed; install it again".to_owned();
            return Err(Error::Package { package: id.to_string(), message });
        }
        let volumes = self.volumes_in_use(&row, &package.manifest).await?;
        let places = volumes.iter().map(|(place, _)| place.clone()).collect();
        let saved = self.saved(&row, &package.manifest, places)?;
        done.resources += saved.resources.len();
        done.volumes += volumes.len();
        archive.document(&archive::rows(number), &saved)?;
        archive.member(&archive::package(number), &pack_fast(&package)?).map_err(io_error)?;
        self.save_data(archive, number, &row)?;
        if volumes.is_empty() {
            return Ok(());
        }
        let ran = self.services.that_run(id).await?;
        let saved = match self.services.halt(id, false).await {
            Ok(()) => self.save_volumes(archive, number, id, &volumes).await,
            Err(error) => Err(error),
        };
        // Whatever came of it.
        let again = self.services.run_again(&ran, addon.as_deref()).await;
        saved.and(again)
    }

    /// Takes the lock of an addon, of which nothing is under way then. An addon that the policy does not admit any more is
    /// saved all the same; it cannot be loaded.
    async fn hold_still(&self, id: &AddonId) -> Result<(Arc<Held>, Option<Arc<Addon>>)> {
        let revoked = match self.lock(id).await {
            Ok(locked) => return Ok((locked.held, Some(locked.addon))),
            Err(error @ Error::GrantRevoked { .. }) => error,
            Err(error) => return Err(error),
        };
        let held = Arc::new(self.hold(id).await?);
        self.store.settle(id)?;
        let state = self.store.addon(id)?.map(|row| row.state.settled());
        // Only what is loaded can be taken back to the version it was about to leave.
        if state == Some(AddonState::Interrupted(HookName::Upgrade)) { Err(revoked) } else { Ok((held, None)) }
    }

    /// The volumes of an addon that are there, each with one place where it is mounted.
    async fn volumes_in_use(&self, row: &AddonRow, manifest: &Manifest) -> Result<Vec<(VolumeAt, SavedVolume)>> {
        let mut there = self.services.data_volumes(&row.id).await?;
        let mut volumes = Vec::new();
        for instance in self.store.instances(&row.id)? {
            let of = instance.instance;
            let declared = manifest.services.iter().find(|service| service.name == of.service);
            let Some(service) = declared.filter(|_| instance.wanted != Wanted::Gone) else { continue };
            let image = service.image.to_string();
            let Some(pin) = self.store.pin(&row.id, &row.version, &service.name, &image)? else { continue };
            for (name, path) in self.services.marks().volumes(&of, service, &pin).0 {
                // One that several services share is saved once.
                let found = there.iter().position(|it| it.name == name && it.engine == instance.engine);
                if let Some(found) = found {
                    let place = VolumeAt { service: of.service.clone(), resource: of.resource.clone(), path };
                    volumes.push((place, there.swap_remove(found)));
                }
            }
        }
        Ok(volumes)
    }

    fn save_data(&self, archive: &mut Writer<'_>, number: usize, row: &AddonRow) -> Result<()> {
        let data = self.home.open_data(&row.id)?;
        let all = row.data.bytes.max(1);
        let mut bytes = 0_u64;
        let mut save = |found: Found<'_>| {
            bytes += archive.data(number, &found)?;
            let percent = (bytes.saturating_mul(100) / all).min(100);
            self.tell(|| ProgressEvent::Percent(u8::try_from(percent).unwrap_or(100)));
            Ok(())
        };
        tree::each(data.as_fd(), &mut save).map_err(io_error)
    }

    async fn save_volumes(
        &self,
        archive: &mut Writer<'_>,
        number: usize,
        id: &AddonId,
        volumes: &[(VolumeAt, SavedVolume)],
    ) -> Result<()> {
        for (place, (_, volume)) in volumes.iter().enumerate() {
            let mut to = OnDisk(Parts::new(archive, number, place));
            self.services.export_to(id, volume, &mut to).await?;
            to.0.finish().map_err(io_error)?;
        }
        Ok(())
    }
}

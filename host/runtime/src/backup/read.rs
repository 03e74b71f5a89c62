//! Reading a backup, before anything is made of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use super::archive::{self, Reader};
use super::rows::{SavedAddon, SavedImage, Taken, VolumeAt, addon_id};
use super::stream::{Opener, Passphrase};
use super::{About, FORMAT, io_error, unexpected};
use crate::addons::Incoming;
use crate::error::{Error, Result};
use crate::grant::Grant;
use crate::host::Host;
use crate::id::AddonId;
use crate::limits::Limit;
use crate::package::Package;
use crate::sandbox::ProgressEvent;
use crate::store::ResourceRow;
use crate::text::shown;

/// A backup that could be restored here: authentic, complete, and granted. Shown to people before it is.
pub struct IncomingHome {
    /// The version of the program that made it.
    pub program: String,
    /// When, in milliseconds since 1970.
    pub created: i64,
    pub(super) reader: Reader,
    pub(super) addons: Vec<IncomingAddon>,
    /// Whatever is needed first.
    pub(super) order: Vec<AddonId>,
}

pub(super) struct IncomingAddon {
    /// Without what its package holds but the manifest: that is read again.
    pub incoming: Incoming,
    pub taken: Taken,
    pub images: Vec<SavedImage>,
    pub volumes: Vec<VolumeAt>,
}

impl IncomingHome {
    /// What each addon will be allowed to do, as this home's policy has it.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.addons.iter().map(|addon| &addon.incoming.grant)
    }
}

impl Host {
    /// Reads a whole backup, and decides what its addons may do here. Nothing is made of it.
    ///
    /// # Errors
    /// Everything that can be wrong with a backup, and with the packages in it; [`Error::GrantRefused`] for what this policy
    /// does not admit; [`Error::HomeNotEmpty`].
    pub async fn inspect_backup(&self, file: File, passphrase: &Passphrase) -> Result<IncomingHome> {
        self.check_empty()?;
        let mut reader = Reader::new(Opener::open(file, passphrase)?)?;
        let about: About = reader.document(archive::BACKUP)?;
        if about.format != FORMAT {
            return Err(unexpected(archive::BACKUP, "has another format than its header says"));
        }
        let ids: Vec<AddonId> = about.addons.iter().map(|id| addon_id(id)).collect::<Result<_>>()?;
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err(unexpected(archive::BACKUP, "names an addon twice"));
        }
        let (mut addons, mut known) = (Vec::new(), Vec::new());
        for (number, id) in ids.iter().enumerate() {
            self.tell(|| ProgressEvent::Step(format!("reading {id}")));
            addons.push(self.inspect_saved(&mut reader, number, id, &mut known).await?);
        }
        reader.finish()?;
        let (incoming, rest): (Vec<_>, Vec<_>) =
            addons.into_iter().map(|addon| (addon.incoming, (addon.taken, addon.images, addon.volumes))).unzip();
        let order = self.order_of(&incoming)?;
        let addons = incoming.into_iter().zip(rest);
        let addons =
            addons.map(|(incoming, (taken, images, volumes))| IncomingAddon { incoming, taken, images, volumes });
        let home = IncomingHome {
            program: shown(&about.program, 40),
            created: about.created,
            reader,
            addons: addons.collect(),
            order,
        };
        home.slots_are_filled_once()?;
        for engine in home.engines() {
            self.services.engines.get(&engine)?.about().await?;
        }
        Ok(home)
    }

    async fn inspect_saved(
        &self,
        reader: &mut Reader,
        number: usize,
        id: &AddonId,
        known: &mut Vec<ResourceRow>,
    ) -> Result<IncomingAddon> {
        let rows: SavedAddon = reader.document(&archive::rows(number))?;
        let package = self.unpack(reader, number, id)?;
        let mut incoming = self.inspect_package(package).await?;
        let taken = self.taken(&rows, &incoming, known)?;
        if taken.id() != id {
            return Err(unexpected(&archive::rows(number), "is of another addon"));
        }
        let package = &mut incoming.package;
        (package.component, package.files, package.manifest_bytes) = (None, Default::default(), Vec::new());
        let limits = incoming.grant.limits;
        let (mut files, mut bytes) = (0, 0_u64);
        while let Some(entry) = reader.data(number)? {
            (files, bytes) = (files + 1, bytes.saturating_add(entry.bytes));
            fits(id, files, limits[Limit::DataFiles], "files", "max_files")?;
            fits(id, bytes, limits[Limit::DataBytes], "bytes", "max_bytes")?;
            io::copy(reader, &mut io::sink()).map_err(io_error)?;
        }
        for volume in 0..rows.volumes.len() {
            reader.begin_volume(number, volume)?;
            let mut part = [0; 8 << 10];
            while reader.read_volume(&mut part).map_err(io_error)? > 0 {}
        }
        Ok(IncomingAddon { incoming, taken, images: rows.images, volumes: rows.volumes })
    }

    /// The package of an addon, through the one reader.
    pub(super) fn unpack(&self, reader: &mut Reader, number: usize, id: &AddonId) -> Result<Package> {
        let bounds = &self.policy.package;
        let packed = reader.member(&archive::package(number), bounds.bytes)?;
        Package::unpack(&id.to_string(), &packed, bounds)
    }

    /// # Errors
    /// [`Error::HomeNotEmpty`] when the home has anything that is not left of a restore that was cut off.
    pub(super) fn check_empty(&self) -> Result<()> {
        self.own()?;
        let not_empty = |what: String| Err(Error::HomeNotEmpty { what });
        if let Some(addon) = self.store.addons()?.first() {
            return not_empty(format!("addon `{}`", addon.id));
        }
        match self.home.addons_with_data()?.first() {
            Some(addon) if self.store.restoring()?.is_none() => not_empty(format!("data of addon `{addon}`")),
            _ => Ok(()),
        }
    }
}

impl IncomingHome {
    /// The engines that anything will be on.
    pub(super) fn engines(&self) -> BTreeSet<String> {
        self.addons.iter().flat_map(|addon| &addon.taken.instances).map(|instance| instance.engine.clone()).collect()
    }

    fn slots_are_filled_once(&self) -> Result<()> {
        let mut filled = BTreeSet::new();
        for slot in self.addons.iter().filter_map(IncomingAddon::slot) {
            if !filled.insert(slot) {
                return Err(unexpected("an addon", format!("fills the slot {slot}, which another fills")));
            }
        }
        Ok(())
    }
}

impl IncomingAddon {
    /// The slot it has.
    pub fn slot(&self) -> Option<&crate::Id> {
        self.incoming.grant.replaces.as_ref().filter(|_| self.taken.row.state.holds_slots())
    }
}

fn fits(id: &AddonId, number: u64, most: u64, what: &str, key: &str) -> Result<()> {
    if number <= most {
        return Ok(());
    }
    let of = format!("the data directory of {}", shown(&id.to_string(), 100));
    let message = format!("goes beyond the {most} {what} it may have (capabilities.data.{key} of its addon.json)");
    Err(unexpected(&of, message))
}

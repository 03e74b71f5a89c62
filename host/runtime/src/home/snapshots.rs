//! What is kept of earlier versions, to go back to: `snapshots/<ns>/<name>/<version>/`, with `data/` and `volumes/`.
//!
//! An upgrade works on a copy of the data directory, made as the snapshot's `data/`. When the new version takes over, the
//! two directories change places in one step, so that what the earlier version had is untouched in the snapshot, and open
//! handles of calls in flight still lead there. Which of the two is whose is told by the inode of the earlier one, which
//! the store has noted: every step can be taken again after a crash.
//!
//! Power-loss order: a copy is synced before the store says that it is there; a change of places is synced before the store
//! names the version it belongs to; the store offers a snapshot no more before it is removed, and forgets it after.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use semver::Version;

use super::{Home, names, open_dir, private_dirs, remove_package_dir};
use crate::crash;
use crate::error::{Error, Result};
use crate::id::AddonId;
use crate::tree;

/// The copies of volumes within a snapshot.
const VOLUMES: &str = "volumes";
const DATA: &str = "data";

impl Home {
    pub(super) fn snapshots_of(&self, addon: &AddonId) -> PathBuf {
        self.root.join("snapshots").join(addon.namespace.as_str()).join(addon.name.as_str())
    }

    fn snapshot_dir(&self, addon: &AddonId, version: &Version) -> PathBuf {
        self.snapshots_of(addon).join(version.to_string())
    }

    /// Begins a snapshot with nothing in it, whatever a crash has left there.
    pub fn begin_snapshot(&self, addon: &AddonId, version: &Version) -> Result<()> {
        self.remove_snapshot(addon, version)?;
        let path = self.snapshot_dir(addon, version);
        let make = || private_dirs(&path.join(DATA)).and_then(|()| private_dirs(&path.join(VOLUMES)));
        make().map_err(Error::io("make the snapshot", &path))?;
        crash::point("file", "snapshot begun");
        Ok(())
    }

    /// Copies the data directory into the snapshot. `copied` is told the bytes of each file.
    pub fn copy_data(&self, addon: &AddonId, version: &Version, copied: &mut dyn FnMut(u64)) -> Result<()> {
        let path = self.snapshot_dir(addon, version).join(DATA);
        let live = self.open_data(addon)?;
        let mut copy = || tree::copy(live.as_fd(), open_dir(&path)?.as_fd(), copied);
        copy().map_err(Error::io("copy the data directory to", &path))?;
        crash::point("file", "data copied");
        Ok(())
    }

    /// Opens the data directory that is in a snapshot.
    pub fn open_snapshot_data(&self, addon: &AddonId, version: &Version) -> Result<File> {
        let path = self.snapshot_dir(addon, version).join(DATA);
        open_dir(&path).map_err(Error::io("open", path))
    }

    /// Tells the data directory from others, for as long as it exists.
    pub fn data_inode(&self, addon: &AddonId) -> Result<u64> {
        let meta = self.open_data(addon)?.metadata();
        Ok(meta.map_err(Error::io("look at", self.data_path(addon)))?.ino())
    }

    /// Makes the guest's `/data` be the directory `inode`, or with `mine` false the other one, in one step. Which is where
    /// it should be stays there.
    pub fn place_data(&self, addon: &AddonId, version: &Version, inode: u64, mine: bool) -> Result<()> {
        if (self.data_inode(addon)? == inode) == mine {
            return Ok(());
        }
        let (live, kept) = (self.data_path(addon), self.snapshot_dir(addon, version).join(DATA));
        let change = || -> std::io::Result<()> {
            crash::point("file", "data to change places");
            renameat_with(CWD, &live, CWD, &kept, RenameFlags::EXCHANGE)?;
            crash::point("file", "data changed places");
            for path in [&live, &kept] {
                if let Some(parent) = path.parent() {
                    File::open(parent)?.sync_all()?;
                }
            }
            Ok(())
        };
        change().map_err(Error::io("put the data directory in its place at", &live))
    }

    /// A file among the volumes of a snapshot, to be written: empty, and only its owner's.
    pub fn create_saved(&self, addon: &AddonId, version: &Version, name: &str) -> Result<File> {
        let path = self.snapshot_dir(addon, version).join(VOLUMES).join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map_err(Error::io("write", path))
    }

    pub fn open_saved(&self, addon: &AddonId, version: &Version, name: &str) -> Result<File> {
        let path = self.snapshot_dir(addon, version).join(VOLUMES).join(name);
        File::open(&path).map_err(Error::io("read", path))
    }

    pub fn remove_snapshot(&self, addon: &AddonId, version: &Version) -> Result<()> {
        let path = self.snapshot_dir(addon, version);
        let remove = || -> std::io::Result<()> {
            match open_dir(&path.join(DATA)) {
                // As deep as a guest has nested it.
                Ok(dir) => tree::clear(dir.as_fd())?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            crash::point("file", "snapshot cleared");
            remove_package_dir(&path)
        };
        remove().map_err(Error::io("remove the snapshot", &path))
    }

    /// Removes what no version in `kept` has: installed files, and snapshots other than those in `snapshots`. What a crash
    /// has left goes with them.
    pub fn sweep(&self, addon: &AddonId, kept: &[Version], snapshots: &[Version]) -> Result<()> {
        for name in names(&self.addon_dir(addon))? {
            if !kept.iter().any(|version| version.to_string() == name) {
                let path = self.addon_dir(addon).join(name);
                remove_package_dir(&path).map_err(Error::io("remove", path))?;
            }
        }
        for name in names(&self.snapshots_of(addon))? {
            if snapshots.iter().any(|version| version.to_string() == name) {
                continue;
            }
            // Only versions are ever written there.
            if let Ok(version) = name.parse() {
                self.remove_snapshot(addon, &version)?;
            }
        }
        Ok(())
    }
}

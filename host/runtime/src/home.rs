//! The home: one directory that holds everything the host keeps, owned by the user that runs it, closed to everybody else.
//!
//! ```text
//! lodger.toml                 policy, the operator's
//! lodger.db                   store
//! key                         32 random bytes
//! addons/<ns>/<name>/<version>/   addon.json, component.wasm, files/ (the guest's /addon)
//! data/<ns>/<name>/           the guest's /data
//! cache/                      compiled code
//! locks/                      one file per addon, and one for restoring a whole home; commands/ has one per command at work
//!                             in a service, operations/ one per operation under way
//! snapshots/<ns>/<name>/<version>/   what an earlier version had
//! market/                     archives of what is published, by digest
//! ```
//!
//! Law 5: this is the one module that opens paths for guests, and it does so by handle, from ids and versions only.

mod snapshots;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::fs::Dir;
use sha2::{Digest as _, Sha256};

use crate::compiler::hex;
use crate::crash;
use crate::error::{Error, Result};
use crate::id::AddonId;
use crate::key::{KEY_BYTES, Key, random};
use crate::package::{FILES, Package};
use crate::policy::{self, Policy};
use crate::tree;

/// File names the component and the manifest have in an installed version, whatever the package calls them.
const COMPONENT: &str = "component.wasm";

/// Between a published package and its entry.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(3600);

/// Magic numbers of file systems whose locks other machines may not see, or see too late.
const NETWORK_FILE_SYSTEMS: &[(u32, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
];

pub(crate) struct Home {
    root: PathBuf,
    pub key: Key,
    /// Tells this home from a copy of it: a digest of the machine and of the key file's inode.
    pub identity: String,
}

impl Home {
    /// Opens the home, making it where there is none.
    ///
    /// # Errors
    /// [`Error::Home`] when it belongs to somebody else, is open to others, cannot be written, or lies on a network file
    /// system, with the command that mends it.
    pub fn open(root: &Path) -> Result<Home> {
        let refused = |message: String, hint: String| Error::Home { home: root.to_owned(), message, hint };
        match private_dir(root) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.map_err(Error::io("make the home", root))?,
        }
        let root = &root.canonicalize().map_err(Error::io("open the home", root))?;
        let meta = std::fs::metadata(root).map_err(Error::io("open the home", root))?;
        if !meta.is_dir() {
            return Err(refused("not a directory".to_owned(), "choose another --home".to_owned()));
        }
        let user = rustix::process::geteuid().as_raw();
        if meta.uid() != user {
            let message = format!("belongs to user {}, this is user {user}", meta.uid());
            return Err(refused(message, "run lodger as its owner, or choose another --home".to_owned()));
        }
        if meta.mode() & 0o077 != 0 && is_empty(root).map_err(Error::io("open the home", root))? {
            // Nothing in it yet that others could have read or put there.
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(root, private).map_err(Error::io("close to others", root))?;
        } else if meta.mode() & 0o077 != 0 {
            let message = format!("mode {:o} lets others in", meta.mode() & 0o777);
            return Err(refused(message, format!("chmod 700 {}", root.display())));
        }
        let dir = File::open(root).map_err(Error::io("open the home", root))?;
        let kind = rustix::fs::fstatfs(&dir).map_err(|error| Error::io("look at the home", root)(error.into()))?.f_type;
        let network = NETWORK_FILE_SYSTEMS.iter().find(|(magic, _)| i64::from(*magic) == kind);
        if let Some((_, name)) = network {
            let message = format!("lies on {name}, where locks do not hold");
            return Err(refused(message, "choose a --home on a local disk".to_owned()));
        }
        let read_only = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied)
        };
        for name in ["addons", "data", "cache", "locks", "locks/commands", "locks/operations", "snapshots", "market"] {
            match private_dir(&root.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) if read_only(&error) => {
                    return Err(refused("cannot be written".to_owned(), "mount it writable".to_owned()));
                }
                other => other.map_err(Error::io("make", root.join(name)))?,
            }
        }
        let (key, identity) = open_key(root)?;
        Ok(Home { root: root.clone(), key, identity })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn store_path(&self) -> PathBuf {
        self.root.join("lodger.db")
    }

    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub fn lock_path(&self, addon: &AddonId) -> PathBuf {
        // Ids hold no dots: the name is unambiguous.
        self.root.join("locks").join(format!("{}.{}", addon.namespace, addon.name))
    }

    pub fn commands(&self) -> PathBuf {
        // No addon's lock has this name: theirs have a dot.
        self.root.join("locks/commands")
    }

    pub fn operations(&self) -> PathBuf {
        self.root.join("locks/operations")
    }

    pub fn policy(&self) -> Result<Policy> {
        let path = self.root.join(policy::FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| Error::Policy { message: "not UTF-8".to_owned() })?;
                Policy::parse(&text)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Policy::default()),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The directory of one installed version, which need not be there.
    fn version_dir(&self, addon: &AddonId, version: &semver::Version) -> PathBuf {
        self.addon_dir(addon).join(version.to_string())
    }

    fn addon_dir(&self, addon: &AddonId) -> PathBuf {
        self.root.join("addons").join(addon.namespace.as_str()).join(addon.name.as_str())
    }

    fn data_path(&self, addon: &AddonId) -> PathBuf {
        self.root.join("data").join(addon.namespace.as_str()).join(addon.name.as_str())
    }

    /// Writes a package where its version lives. Power-loss order: a complete directory is moved into place, and the store
    /// names it only after that; what a crash leaves is not named, and written over by the next install.
    pub fn put_version(&self, addon: &AddonId, version: &semver::Version, package: &Package) -> Result<()> {
        let target = self.version_dir(addon, version);
        let parent = self.addon_dir(addon);
        let put = || -> std::io::Result<()> {
            private_dirs(&parent)?;
            let incoming = tempfile::Builder::new().prefix(".incoming-").tempdir_in(&parent)?;
            let root = Dir::from_std_file(open_dir(incoming.path())?);
            root.create_dir(FILES)?;
            write_synced(&root, crate::manifest::FILE, &package.manifest_bytes)?;
            if let Some(component) = &package.component {
                write_synced(&root, COMPONENT, component)?;
            }
            for (path, bytes) in &package.files {
                let path = Path::new(FILES).join(path);
                root.create_dir_all(path.parent().unwrap_or(Path::new(FILES)))?;
                write_synced(&root, &path, bytes)?;
            }
            crash::point("file", "package written");
            if target.exists() {
                std::fs::remove_dir_all(&target)?;
            }
            crash::point("file", "package to be put in place");
            std::fs::rename(incoming.keep(), &target)?;
            crash::point("file", "package put in place");
            File::open(&parent)?.sync_all()
        };
        put().map_err(Error::io("write the addon to", &target))
    }

    /// Addons that have any version or snapshot on the disk.
    pub fn addons_on_disk(&self) -> Result<Vec<AddonId>> {
        self.addons_in(&["addons", "snapshots"])
    }

    fn addons_in(&self, parts: &[&str]) -> Result<Vec<AddonId>> {
        let mut found = Vec::new();
        for part in parts {
            let part = self.root.join(part);
            for namespace in names(&part)? {
                for name in names(&part.join(&namespace))? {
                    found.extend(format!("{namespace}/{name}").parse::<AddonId>());
                }
            }
        }
        Ok(found)
    }

    pub fn read_manifest(&self, addon: &AddonId, version: &semver::Version) -> Result<Vec<u8>> {
        let path = self.version_dir(addon, version).join(crate::manifest::FILE);
        std::fs::read(&path).map_err(Error::io("read", path))
    }

    pub fn read_component(&self, addon: &AddonId, version: &semver::Version) -> Result<Vec<u8>> {
        let path = self.version_dir(addon, version).join(COMPONENT);
        std::fs::read(&path).map_err(Error::io("read", path))
    }

    /// The package of an installed version, as it was installed.
    pub fn read_package(&self, addon: &AddonId, version: &semver::Version) -> Result<Package> {
        Package::read_installed(&self.version_dir(addon, version), COMPONENT)
    }

    /// Opens what the guest sees as `/addon`.
    pub fn open_files(&self, addon: &AddonId, version: &semver::Version) -> Result<File> {
        let path = self.version_dir(addon, version).join(FILES);
        open_dir(&path).map_err(Error::io("open", path))
    }

    /// Opens what the guest sees as `/data`, making it the first time.
    pub fn open_data(&self, addon: &AddonId) -> Result<File> {
        let path = self.data_path(addon);
        private_dirs(&path).and_then(|()| open_dir(&path)).map_err(Error::io("open the data directory", path))
    }

    /// Removes all versions of an addon from the disk, and what was kept of them.
    pub fn remove_versions(&self, addon: &AddonId) -> Result<()> {
        self.sweep(addon, &[], &[])?;
        for path in [self.addon_dir(addon), self.snapshots_of(addon)] {
            crash::point("file", "versions to be removed");
            remove_package_dir(&path).map_err(Error::io("remove", path))?;
        }
        Ok(())
    }

    /// Destroys the data of an addon, however deep a guest has nested it.
    pub fn remove_data(&self, addon: &AddonId) -> Result<()> {
        let path = self.data_path(addon);
        let remove = || match open_dir(&path) {
            Ok(dir) => {
                crash::point("file", "data to be removed");
                tree::clear(dir.as_fd())?;
                crash::point("file", "data removed");
                std::fs::remove_dir(&path)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        remove().map_err(Error::io("remove the data directory", &path))
    }
}

impl Home {
    /// A lock that a restore of the whole home holds. No addon has a lock of this name.
    pub fn restore_lock(&self) -> Result<File> {
        let path = self.root.join("locks").join("restore");
        private_file(&path).map_err(Error::io("open the lock", path))
    }

    /// Addons that have data on the disk, installed or not.
    pub fn addons_with_data(&self) -> Result<Vec<AddonId>> {
        self.addons_in(&["data"])
    }

    /// Removes everything that addons have on the disk that are not `known`.
    pub fn clear(&self, known: &BTreeSet<AddonId>) -> Result<()> {
        for id in self.addons_in(&["addons", "data", "snapshots"])?.into_iter().filter(|id| !known.contains(id)) {
            self.remove_versions(&id)?;
            self.remove_data(&id)?;
            for part in ["addons", "data", "snapshots"] {
                // Where another addon of the namespace is left, this is not the last.
                let _ = std::fs::remove_dir(self.root.join(part).join(id.namespace.as_str()));
            }
        }
        Ok(())
    }
}

impl Home {
    /// Where the archive of a published package is, by its digest, which is ours.
    fn published_path(&self, digest: &str) -> PathBuf {
        let name = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.root.join("market").join(format!("{name}.tar.gz"))
    }

    /// Keeps what is published, before the store names it. What a crash leaves is removed by [`Home::keep_published`].
    pub fn put_published(&self, digest: &str, packed: &[u8]) -> Result<()> {
        let path = self.published_path(digest);
        let put = || -> std::io::Result<()> {
            let dir = self.root.join("market");
            let mut incoming = tempfile::Builder::new().prefix(".incoming-").tempfile_in(&dir)?;
            incoming.write_all(packed)?;
            incoming.as_file().sync_all()?;
            crash::point("file", "published package to be put in place");
            incoming.persist(&path)?;
            File::open(&dir)?.sync_all()
        };
        put().map_err(Error::io("keep a published package in", &path))
    }

    /// Removes one that came to no entry.
    pub fn remove_published(&self, digest: &str) -> Result<()> {
        let path = self.published_path(digest);
        std::fs::remove_file(&path).map_err(Error::io("remove", path))
    }

    pub fn open_published(&self, digest: &str) -> Result<File> {
        let path = self.published_path(digest);
        File::open(&path).map_err(Error::io("open", path))
    }

    pub fn read_published(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.published_path(digest);
        std::fs::read(&path).map_err(Error::io("read", path))
    }

    /// Removes every published package but those with these digests, and those that are so new that their entry may be about
    /// to be made.
    pub fn keep_published(&self, digests: &BTreeSet<String>) -> Result<()> {
        let dir = self.root.join("market");
        let kept: BTreeSet<PathBuf> = digests.iter().map(|digest| self.published_path(digest)).collect();
        for path in names(&dir)?.into_iter().map(|name| dir.join(name)).filter(|path| !kept.contains(path)) {
            let remove = || -> std::io::Result<()> {
                let age = path.metadata()?.modified()?.elapsed().unwrap_or_default();
                if age > PUBLISHED_WITHIN { std::fs::remove_file(&path) } else { Ok(()) }
            };
            match remove() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("remove", path))?,
            }
        }
        Ok(())
    }
}

fn is_empty(dir: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(dir)?.next().is_none())
}

/// The names in a directory that need not be there.
fn names(dir: &Path) -> Result<Vec<String>> {
    let list = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(Error::io("list", dir)),
    }
}

/// Package directories are ours and bounded in depth.
fn remove_package_dir(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_dir(path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    Ok(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn private_dir(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn private_dirs(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

fn write_synced(dir: &Dir, path: impl AsRef<Path>, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = dir.create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Opens a file only its owner may touch, making it where there is none.
pub(crate) fn private_file(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(std::io::Error::other(format!("mode {:o} lets others read it; chmod 600 it", mode & 0o777)));
    }
    Ok(file)
}

fn open_key(root: &Path) -> Result<(Key, String)> {
    let path = root.join("key");
    let open = || -> std::io::Result<(Vec<u8>, u64)> {
        let mut file = private_file(&path)?;
        let mut bytes = Vec::new();
        (&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            if root.join("lodger.db").exists() {
                return Err(std::io::Error::other("the key is gone, but the store is there; restore the key"));
            }
            // Complete under another name first: two processes that open a new home together must agree on one key.
            let mut fresh = tempfile::NamedTempFile::new_in(root)?;
            fresh.write_all(&random::<KEY_BYTES>().map_err(std::io::Error::other)?)?;
            fresh.as_file().sync_all()?;
            file.lock()?;
            if file.metadata()?.len() == 0 && std::fs::metadata(&path)?.len() == 0 {
                fresh.persist(&path)?;
            }
            file.unlock()?;
            file = private_file(&path)?;
            file.read_to_end(&mut bytes)?;
        }
        Ok((bytes, file.metadata()?.ino()))
    };
    let (bytes, inode) = open().map_err(Error::io("open", &path))?;
    let Ok(bytes) = <[u8; KEY_BYTES]>::try_from(bytes) else {
        let source = std::io::Error::other(format!("not {KEY_BYTES} bytes"));
        return Err(Error::Io { action: "use the key", path, source });
    };
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let identity = hex(&Sha256::digest(format!("{}:{inode}", machine.trim())));
    Ok((Key::new(&bytes), identity))
}

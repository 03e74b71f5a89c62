//! What was provisioned from here, by the provider it was asked of: in one file of the user's, nobody else's to read, replaced
//! as a whole, and locked for as long as a command works with it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lodger::provider::{ProviderId, ProviderUrl};
use serde::{Deserialize, Serialize};

use crate::output::Refused;

/// Largest file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// A resource that a provider has made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub id: ProviderId,
    pub plan: String,
    /// What we have called it.
    pub uuid: String,
}

pub struct Cache {
    path: PathBuf,
    /// Of the provider that is asked.
    key: String,
    all: BTreeMap<String, Vec<Entry>>,
    _lock: File,
}

impl Cache {
    /// For the provider at this URL.
    pub fn open(base: &ProviderUrl) -> anyhow::Result<Cache> {
        let dir = directory()?;
        let path = dir.join("provider.json");
        let failed = |what: &str, path: &Path| format!("cannot {what} `{}`", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).with_context(|| failed("make", &dir))?;
        let lock_path = dir.join("provider.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock)).with_context(|| failed("lock", &lock_path))?;
        let all = read(&path)?;
        Ok(Cache { path, key: base.to_string(), all, _lock: lock })
    }

    pub fn entries(&self) -> &[Entry] {
        self.all.get(&self.key).map(Vec::as_slice).unwrap_or_default()
    }

    /// In the place of what has its id, else at the end.
    pub fn put(&mut self, entry: Entry) -> anyhow::Result<()> {
        let entries = self.all.entry(self.key.clone()).or_default();
        match entries.iter_mut().find(|known| known.id == entry.id) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
        self.write()
    }

    pub fn remove(&mut self, id: &ProviderId) -> anyhow::Result<()> {
        if let Some(entries) = self.all.get_mut(&self.key) {
            entries.retain(|entry| entry.id != *id);
        }
        self.write()
    }

    /// How many it has forgotten.
    pub fn purge(&mut self) -> anyhow::Result<usize> {
        let forgotten = self.all.remove(&self.key).map_or(0, |entries| entries.len());
        self.write()?;
        Ok(forgotten)
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.all.retain(|_, entries| !entries.is_empty());
        let text = serde_json::to_vec_pretty(&self.all)?;
        let put = || -> std::io::Result<()> {
            let dir = self.path.parent().unwrap_or(Path::new("."));
            // Only its owner may read a temporary file.
            let mut file = tempfile::Builder::new().prefix(".provider-").tempfile_in(dir)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        put().with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}

fn directory() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("lodger"))
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<Entry>>> {
    let foreign = |why: &str| Refused {
        code: "provider-cache",
        message: format!("the list of what was provisioned, `{}`, {why}", path.display()),
        hint: format!("`rm '{}'` begins a new one; what it lists stays at its provider", path.display()),
        problems: Vec::new(),
    };
    // Nobody else's link is followed, and nothing is waited for that is no file.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or(0)).open(path);
    let file = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(foreign("is a link").into());
        }
        file => file.with_context(|| format!("cannot open `{}`", path.display()))?,
    };
    let known = file.metadata().with_context(|| format!("cannot look at `{}`", path.display()))?;
    if !known.is_file() {
        return Err(foreign("is no file").into());
    }
    if known.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign("is somebody else's").into());
    }
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text).with_context(|| format!("cannot read `{}`", path.display()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(foreign("is too large to be one").into());
    }
    serde_json::from_slice(&text).map_err(|_| foreign("is cut off, or of another program").into())
}

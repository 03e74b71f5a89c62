//! The lock of an addon: a file lock that the kernel frees when its holder dies. No expiry, no heartbeat.
//!
//! The file holds the name of whoever took it last. A holder that finds its own name there knows that nobody else has
//! written the addon's data since, and may trust what it remembers of it.
//!
//! In the same way a [`Note`] says that something is under way, for as long as whoever made it lives.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::error::{Error, Result};
use crate::home::private_file;
use crate::id::AddonId;

/// How long to wait before a lock another process holds is tried again; doubled up to the longer one.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// Bytes of a holder's name.
pub(crate) const HOLDER_BYTES: usize = 16;

/// One addon's lock, shared by the tasks of this process.
pub(crate) struct AddonLock {
    path: PathBuf,
    turn: Arc<Mutex<Option<File>>>,
}

/// Held until dropped.
pub(crate) struct Held {
    file: OwnedMutexGuard<Option<File>>,
    /// Whether another process has held the lock since this holder last did.
    pub taken_over: bool,
}

impl AddonLock {
    pub fn new(path: PathBuf) -> AddonLock {
        AddonLock { path, turn: Arc::default() }
    }

    /// Waits for the lock at most `wait`.
    pub async fn hold(&self, addon: &AddonId, holder: &[u8; HOLDER_BYTES], wait: Duration) -> Result<Held> {
        let until = Instant::now() + wait;
        let busy = || Error::Busy { addon: addon.clone() };
        let turn = tokio::time::timeout(wait, self.turn.clone().lock_owned());
        let mut file = turn.await.map_err(|_| busy())?;
        let handle = match &mut *file {
            Some(handle) => handle,
            empty => empty.insert(private_file(&self.path).map_err(Error::io("open the lock", &self.path))?),
        };
        let mut pause = RETRY.0;
        while !try_lock(handle, &self.path)? {
            if Instant::now() + pause >= until {
                return Err(busy());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
        let failed = Error::io("write the lock", &self.path);
        let taken_over = claim(handle, holder).map_err(failed)?;
        Ok(Held { file, taken_over })
    }

    /// Whether somebody holds it right now.
    pub fn is_held(&self) -> Result<bool> {
        let file = private_file(&self.path).map_err(Error::io("open the lock", &self.path))?;
        Ok(!try_lock(&file, &self.path)?)
    }
}

/// A file that is there, and locked, while something is under way. Dropped, it stays, locked by nobody: a note that was left.
pub(crate) struct Note {
    path: PathBuf,
    _held: File,
}

impl Note {
    pub fn new(dir: &Path, name: &str) -> Result<Note> {
        let path = dir.join(name);
        let make = || -> std::io::Result<File> {
            // Locked before it has its name: nobody takes it for one that was left.
            let file = tempfile::NamedTempFile::new_in(dir)?;
            file.as_file().lock()?;
            Ok(file.persist_noclobber(&path)?)
        };
        let held = make().map_err(Error::io("make the note", &path))?;
        Ok(Note { path, _held: held })
    }

    /// A note that was left; `None` where whoever made it lives, or has just taken it away.
    pub fn left(path: &Path) -> Result<Option<Note>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::io("open the note", path))?,
        };
        let is_left = try_lock(&file, path)? && path.exists();
        Ok(is_left.then(|| Note { path: path.to_owned(), _held: file }))
    }

    /// What it says is under way no more.
    pub fn take_away(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(source)) => Err(Error::io("take the lock", path)(source)),
    }
}

fn claim(file: &File, holder: &[u8; HOLDER_BYTES]) -> std::io::Result<bool> {
    let mut last = [0; HOLDER_BYTES];
    let read = file.read_at(&mut last, 0)?;
    if read == HOLDER_BYTES && last == *holder {
        return Ok(false);
    }
    file.write_all_at(holder, 0)?;
    Ok(true)
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(file) = &*self.file {
            // The kernel frees it in any case when the file is closed.
            if let Err(error) = file.unlock() {
                tracing::warn!(%error, "cannot free an addon's lock");
            }
        }
    }
}

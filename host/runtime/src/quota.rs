//! `wasi:filesystem` for guests: `/data` within its quota, `/addon` read-only, no links, by handle.
//!
//! The implementation of wasmtime-wasi stays in charge of paths and permissions; this wrapper charges for what grows:
//! - bytes: growth past the end of a file, in full where it is sparse; rewriting in place costs nothing;
//! - files: every file and directory;
//!
//! and gives back what truncation, removal and renaming over free. A file removed while it is open is given back when its
//! last descriptor or stream is closed. Writes happen on the caller's thread, so that no two are ever under way at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::tree::Size;

/// What an entry of the host's directory listing costs beside its name, in bytes.
pub(crate) const LISTING_ENTRY_BYTES: u64 = 64;

/// What a data directory holds and may hold. One per addon, shared by the streams of the one call that may write.
#[derive(Debug)]
pub(crate) struct Quota {
    max: Size,
    used: Size,
    /// Files opened in this call, to find descriptors of a file that is removed.
    open: Vec<Weak<File>>,
    /// When `open` reaches this length, handles closed since are dropped from it.
    open_prune_at: usize,
    /// Removed while open. The handles are ours too; when only ours are left, the space is free.
    unlinked: Vec<Vec<Arc<File>>>,
}

const PRUNE_AT_LEAST: usize = 64;

impl Quota {
    pub(crate) fn new(max: Size, used: Size) -> Quota {
        Quota { max, used, open: Vec::new(), open_prune_at: PRUNE_AT_LEAST, unlinked: Vec::new() }
    }

    pub(crate) fn used(&self) -> Size {
        self.used
    }

    /// Takes `bytes` and `files`, or nothing: [`io::ErrorKind::QuotaExceeded`].
    fn charge(&mut self, bytes: u64, files: u64) -> io::Result<()> {
        if !self.fits(bytes, files) {
            self.sweep();
        }
        if !self.fits(bytes, files) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.used.bytes += bytes;
        self.used.files += files;
        Ok(())
    }

    fn fits(&self, bytes: u64, files: u64) -> bool {
        let within = |used: u64, more: u64, max: u64| more == 0 || used.checked_add(more).is_some_and(|sum| sum <= max);
        within(self.used.bytes, bytes, self.max.bytes) && within(self.used.files, files, self.max.files)
    }

    fn give_back(&mut self, bytes: u64, files: u64) {
        self.used.bytes = self.used.bytes.saturating_sub(bytes);
        self.used.files = self.used.files.saturating_sub(files);
    }

    /// Writes at `offset`, charging what reaches past the end.
    pub(crate) fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let before = file.metadata()?.len();
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let growth = end.saturating_sub(before);
        self.charge(growth, 0)?;
        let written = file.write_at(bytes, offset);
        let reached = written.as_ref().map_or(before, |&n| offset + n as u64).max(before);
        self.give_back(growth - (reached - before), 0);
        written
    }

    pub(crate) fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<usize> {
        let end = file.metadata()?.len();
        self.write(file, end, bytes)
    }

    pub(crate) fn set_len(&mut self, file: &File, len: u64) -> io::Result<()> {
        let before = file.metadata()?.len();
        self.charge(len.saturating_sub(before), 0)?;
        let done = file.set_len(len);
        match done {
            Ok(()) => self.give_back(before.saturating_sub(len), 0),
            Err(_) => self.give_back(len.saturating_sub(before), 0),
        }
        done
    }

    /// Takes the place for one new file or directory.
    pub(crate) fn create(&mut self) -> io::Result<()> {
        self.charge(0, 1)
    }

    pub(crate) fn not_created(&mut self) {
        self.give_back(0, 1);
    }

    pub(crate) fn truncated(&mut self, bytes: u64) {
        self.give_back(bytes, 0);
    }

    pub(crate) fn opened(&mut self, file: &Arc<File>) {
        if self.open.len() >= self.open_prune_at {
            self.open.retain(|handle| handle.strong_count() > 0);
            self.open_prune_at = (self.open.len() * 2).max(PRUNE_AT_LEAST);
        }
        self.open.push(Arc::downgrade(file));
    }

    /// A name went away. Its space is free now, or when the last handle of it is closed.
    pub(crate) fn removed(&mut self, gone: &Entry) {
        let same = |file: &Arc<File>| file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == gone.identity);
        let handles: Vec<Arc<File>> = self.open.iter().filter_map(Weak::upgrade).filter(same).collect();
        if handles.is_empty() {
            self.give_back(gone.bytes, 1);
        } else {
            self.unlinked.push(handles);
        }
    }

    /// Gives back what was removed while open and has been closed since.
    pub(crate) fn sweep(&mut self) {
        for handles in std::mem::take(&mut self.unlinked) {
            if handles.iter().any(|handle| Arc::strong_count(handle) > 1) {
                self.unlinked.push(handles);
            } else {
                let meta = handles.first().and_then(|file| file.metadata().ok()).filter(std::fs::Metadata::is_file);
                self.give_back(meta.map_or(0, |meta| meta.len()), 1);
            }
        }
    }
}

/// A name in `/data` before it is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Length of a regular file, 0 of anything else.
    pub bytes: u64,
}

/// The quota as the file system view and its streams share it.
#[derive(Clone, Debug)]
pub(crate) struct SharedQuota(Arc<Mutex<Quota>>);

impl SharedQuota {
    pub(crate) fn new(quota: Quota) -> SharedQuota {
        SharedQuota(Arc::new(Mutex::new(quota)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Quota> {
        // A panic in between can only leave counters too high, which a new call's walk corrects.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What is sealed in a backup: a tar stream of regular files and directories, in one order.
//!
//! ```text
//! backup.json                    which program made it, when, of which addons
//! addons/N/rows.json             what the store has of the N-th addon, secrets opened
//! addons/N/package               its package, as `lodger pack` makes it
//! addons/N/data/D/NAME           what is in its data directory's D-th directory; the root is 0, each directory that comes
//!                                has the next number
//! addons/N/volumes/V/P           the P-th part of what the V-th volume of rows.json holds, a tar stream itself
//! ```
//!
//! A reader of its own, since one for all that tar can say would take links and devices, and names of any length. This one
//! knows what [`Writer`] writes, and everything else is an error. Directories have numbers, so that no path is ever made of
//! a guest's names, and a tree that is nested deeply costs no more than a flat one.

mod reader;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tar::{EntryType, Header};

use super::io_error;
use super::stream::Sealer;
use crate::error::Result;
use crate::tree::Found;

pub(super) use reader::Reader;

/// Largest document about one addon, or about all, in bytes.
const DOCUMENT_MAX: u64 = 256 << 20;
/// What a part of a volume holds at most.
const PART: usize = 1 << 20;

pub(super) const BACKUP: &str = "backup.json";

pub(super) fn rows(addon: usize) -> String {
    format!("addons/{addon}/rows.json")
}

pub(super) fn package(addon: usize) -> String {
    format!("addons/{addon}/package")
}

/// Writes members in the order above.
pub(super) struct Writer<'a>(tar::Builder<Sealer<'a>>);

impl<'a> Writer<'a> {
    pub fn new(to: Sealer<'a>) -> Writer<'a> {
        Writer(tar::Builder::new(to))
    }

    pub fn document(&mut self, path: &str, document: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(document).map_err(|error| io_error(error.into()))?;
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(io_error(io::Error::other(format!("{path} is over {DOCUMENT_MAX} bytes"))));
        }
        self.member(path, &bytes).map_err(io_error)
    }

    pub fn member(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.append(OsStr::new(path), EntryType::Regular, bytes.len() as u64, SystemTime::UNIX_EPOCH, bytes)
    }

    pub fn data(&mut self, addon: usize, found: &Found<'_>) -> io::Result<u64> {
        let (Found::Directory { of, name } | Found::File { of, name, .. }) = found;
        let mut path = format!("addons/{addon}/data/{of}/").into_bytes();
        path.extend(name.to_bytes());
        let path = std::ffi::OsString::from_vec(path);
        match found {
            Found::Directory { .. } => {
                self.append(&path, EntryType::Directory, 0, SystemTime::UNIX_EPOCH, io::empty()).map(|()| 0)
            }
            Found::File { file, .. } => {
                let meta = file.metadata()?;
                let content = Exactly { from: *file, left: meta.len() };
                self.append(&path, EntryType::Regular, meta.len(), meta.modified()?, content)?;
                Ok(meta.len())
            }
        }
    }

    fn append(
        &mut self,
        path: &OsStr,
        kind: EntryType,
        bytes: u64,
        modified: SystemTime,
        content: impl Read,
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o700 } else { 0o600 });
        header.set_mtime(modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        header.set_size(bytes);
        self.0.append_data(&mut header, path, content)
    }

    /// Ends the archive. Returns the bytes of the whole backup.
    pub fn finish(self) -> Result<u64> {
        self.0.into_inner().and_then(Sealer::finish).map_err(io_error)
    }
}

/// As much as was promised: a file that became shorter must not shift what follows it.
struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        self.left -= read as u64;
        if read == 0 && most > 0 {
            return Err(io::Error::other("a file of the data directory became shorter while it was read"));
        }
        Ok(read)
    }
}

/// What an engine tells of a volume, cut into parts, since nobody knows how long it will be.
pub(super) struct Parts<'w, 'a> {
    pub archive: &'w mut Writer<'a>,
    pub addon: usize,
    pub volume: usize,
    part: usize,
    held: Vec<u8>,
}

impl<'w, 'a> Parts<'w, 'a> {
    pub fn new(archive: &'w mut Writer<'a>, addon: usize, volume: usize) -> Parts<'w, 'a> {
        Parts { archive, addon, volume, part: 0, held: Vec::with_capacity(PART) }
    }

    /// Writes the last part.
    pub fn finish(mut self) -> io::Result<()> {
        self.put()
    }

    fn put(&mut self) -> io::Result<()> {
        self.archive.member(&part_path(self.addon, self.volume, self.part), &self.held)?;
        self.part += 1;
        self.held.clear();
        Ok(())
    }
}

impl Write for Parts<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() == PART {
            self.put()?;
        }
        let taken = bytes.get(..bytes.len().min(PART - self.held.len())).unwrap_or_default();
        self.held.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn part_path(addon: usize, volume: usize, part: usize) -> String {
    format!("addons/{addon}/volumes/{volume}/{part}")
}

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

use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tar::{EntryType, Header};

use super::stream::{Opener, Sealer};
use super::{io_error, unexpected};
use crate::error::Result;
use crate::text::shown;
use crate::tree::Found;

/// Largest document about one addon, or about all, in bytes.
const DOCUMENT_MAX: u64 = 256 << 20;
/// What a part of a volume holds at most.
const PART: usize = 1 << 20;
const BLOCK: usize = 512;
/// Longest path of a member; names of files have at most 255 bytes.
const PATH_MAX: u64 = 512;

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

/// An entry of a data directory.
pub(super) struct DataEntry {
    pub of: u32,
    pub name: CString,
    pub is_dir: bool,
    pub bytes: u64,
    pub modified: SystemTime,
}

struct Head {
    path: Vec<u8>,
    is_dir: bool,
    bytes: u64,
    modified: u64,
}

/// Reads members in the order above. [`Read`] gives the content of the member that was taken last.
pub(super) struct Reader {
    from: Opener,
    head: Option<Head>,
    /// What is left of the member's content, and what fills its last block.
    left: u64,
    fill: u64,
    /// The volume that is read, and its next part.
    volume: Option<(usize, usize, usize)>,
}

impl Reader {
    pub fn new(from: Opener) -> Result<Reader> {
        let mut reader = Reader { from, head: None, left: 0, fill: 0, volume: None };
        reader.head = reader.next_head()?;
        Ok(reader)
    }

    /// Reads on from the start.
    pub fn again(self) -> Result<Reader> {
        Reader::new(self.from.again()?)
    }

    pub fn document<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let bytes = self.member(path, DOCUMENT_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| unexpected(path, shown(&error.to_string(), 300)))
    }

    /// The member that must come now, whole.
    pub fn member(&mut self, path: &str, most: u64) -> Result<Vec<u8>> {
        let next = self.head.as_ref().filter(|head| head.path == path.as_bytes() && !head.is_dir);
        let Some(bytes) = next.map(|head| head.bytes) else {
            return Err(unexpected(path, format!("is not there; there is {}", self.shown_head())));
        };
        if bytes > most {
            return Err(unexpected(path, format!("is {bytes} bytes; at most {most} are taken")));
        }
        self.take()?;
        let mut content = Vec::new();
        self.read_to_end(&mut content).map_err(io_error)?;
        Ok(content)
    }

    /// The next entry of an addon's data directory; `None` after the last.
    pub fn data(&mut self, addon: usize) -> Result<Option<DataEntry>> {
        let above = format!("addons/{addon}/data/");
        let Some(head) = &self.head else { return Ok(None) };
        let Some(rest) = head.path.strip_prefix(above.as_bytes()) else { return Ok(None) };
        let split = rest.iter().position(|byte| *byte == b'/').map(|at| rest.split_at(at));
        let place = split.and_then(|(of, name)| {
            let of = std::str::from_utf8(of).ok().filter(|of| of.bytes().all(|byte| byte.is_ascii_digit()))?;
            Some((of.parse().ok()?, CString::new(name.get(1..)?).ok()?))
        });
        let Some((of, name)) = place else {
            return Err(unexpected(&self.shown_head(), "is no entry of a data directory"));
        };
        let modified = UNIX_EPOCH.checked_add(Duration::from_secs(head.modified)).unwrap_or(UNIX_EPOCH);
        let entry = DataEntry { of, name, is_dir: head.is_dir, bytes: head.bytes, modified };
        self.take()?;
        Ok(Some(entry))
    }

    /// Goes to the first part of a volume, which every volume has.
    pub fn begin_volume(&mut self, addon: usize, volume: usize) -> Result<()> {
        self.volume = Some((addon, volume, 0));
        if self.next_part()? {
            return Ok(());
        }
        Err(unexpected(&part_path(addon, volume, 0), format!("is not there; there is {}", self.shown_head())))
    }

    /// Reads on in a volume, part after part.
    pub fn read_volume(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.read(into)?;
            if read > 0 || into.is_empty() || !self.next_part().map_err(io::Error::other)? {
                return Ok(read);
            }
        }
    }

    fn next_part(&mut self) -> Result<bool> {
        let Some((addon, volume, part)) = self.volume.take() else { return Ok(false) };
        let path = part_path(addon, volume, part);
        let is_next = self.head.as_ref().is_some_and(|head| head.path == path.as_bytes() && !head.is_dir);
        if is_next {
            self.take()?;
            self.volume = Some((addon, volume, part + 1));
        }
        Ok(is_next)
    }

    /// Nothing may follow, and what ends the backup must be authentic.
    pub fn finish(&mut self) -> Result<()> {
        if self.head.is_some() {
            return Err(unexpected(&self.shown_head(), "is not expected there"));
        }
        Ok(())
    }

    fn shown_head(&self) -> String {
        match &self.head {
            Some(head) => shown(&String::from_utf8_lossy(&head.path), 200),
            None => "nothing more".to_owned(),
        }
    }

    /// Makes the member that comes the one that is read.
    fn take(&mut self) -> Result<()> {
        let bytes = self.head.take().map_or(0, |head| head.bytes);
        self.left = bytes;
        self.fill = bytes.next_multiple_of(BLOCK as u64) - bytes;
        if bytes == 0 {
            self.head = self.next_head()?;
        }
        Ok(())
    }

    /// The member after the one that was read; `None` at the end.
    fn next_head(&mut self) -> Result<Option<Head>> {
        let mut long = None;
        loop {
            let mut block = [0; BLOCK];
            self.from.read_exact(&mut block).map_err(cut_short)?;
            if block == [0; BLOCK] {
                return self.only_zeros().map(|()| None);
            }
            let header = Header::from_byte_slice(&block);
            let said = header.cksum().map_err(io_error)?;
            let sum = |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
            if said != block.iter().enumerate().map(sum).sum::<u32>() {
                return Err(unexpected("a header", "has another checksum"));
            }
            let bytes = header.entry_size().map_err(io_error)?;
            let path = long.take().unwrap_or_else(|| header.path_bytes().into_owned());
            let kind = header.entry_type();
            let too_large = bytes > u64::MAX - BLOCK as u64 || (kind.is_dir() && bytes > 0);
            match kind {
                _ if too_large => return Err(unexpected(&shown_path(&path), "is larger than it can be")),
                EntryType::Regular | EntryType::Directory => {
                    let modified = header.mtime().map_err(io_error)?;
                    return Ok(Some(Head { path, is_dir: kind.is_dir(), bytes, modified }));
                }
                EntryType::GNULongName if bytes <= PATH_MAX => {
                    let mut path = vec![0; usize::try_from(bytes.next_multiple_of(BLOCK as u64)).unwrap_or(0)];
                    self.from.read_exact(&mut path).map_err(cut_short)?;
                    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
                    path.truncate(end);
                    long = Some(path);
                }
                _ => return Err(unexpected(&shown_path(&path), "is neither a file nor a directory")),
            }
        }
    }

    fn only_zeros(&mut self) -> Result<()> {
        let mut rest = [0; BLOCK];
        loop {
            match self.from.read(&mut rest).map_err(io_error)? {
                0 => return Ok(()),
                read if rest.iter().take(read).all(|byte| *byte == 0) => {}
                _ => return Err(unexpected("something", "follows the end of the archive")),
            }
        }
    }
}

fn shown_path(path: &[u8]) -> String {
    shown(&String::from_utf8_lossy(path), 200)
}

fn cut_short(error: io::Error) -> crate::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => unexpected("the archive", "ends within a member"),
        _ => io_error(error),
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.from.read(into.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(io::Error::other(unexpected("the archive", "ends within a member")));
        }
        self.left -= read as u64;
        if self.left == 0 {
            io::copy(&mut self.from.by_ref().take(std::mem::take(&mut self.fill)), &mut io::sink())?;
            self.head = self.next_head().map_err(io::Error::other)?;
        }
        Ok(read)
    }
}

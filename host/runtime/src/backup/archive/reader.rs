//! Reading an archive, held to what [`Writer`](super::Writer) writes.

use std::ffi::CString;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use tar::{EntryType, Header};

use super::{DOCUMENT_MAX, part_path};
use crate::backup::stream::Opener;
use crate::backup::{io_error, unexpected};
use crate::error::{Error, Result};
use crate::text::shown;

const BLOCK: usize = 512;
/// Longest path of a member; names of files have at most 255 bytes.
const PATH_MAX: u64 = 512;

/// An entry of a data directory.
pub(in crate::backup) struct DataEntry {
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
pub(in crate::backup) struct Reader {
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

fn cut_short(error: io::Error) -> Error {
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

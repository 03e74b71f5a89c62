//! The file of a backup: a header in the clear, then sealed chunks.
//!
//! ```text
//! "lodger backup\n"                    14 bytes
//! format                               u16; all numbers are big-endian
//! Argon2id: KiB of memory, passes, lanes   3 × u32
//! salt                                 16 bytes
//! nonce                                19 bytes
//! BLAKE3 MAC of all of the above       32 bytes
//! chunks: 64 KiB each, the last one shorter, each with 16 bytes of authentication
//! ```
//!
//! Argon2id makes a master key of the passphrase and the salt; the keys of the MAC and of the chunks are derived from that.
//! The chunks are the STREAM construction with XChaCha20-Poly1305: each is bound to its place, and the last to being the
//! last, so that nothing can be changed, moved, left out or cut off unnoticed. Nothing is held in memory whole.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use argon2::{Config, ThreadMode, Variant, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit as _;
use chacha20poly1305::aead::generic_array::GenericArray;
use chacha20poly1305::aead::stream::{NewStream as _, StreamBE32, StreamPrimitive as _};

use super::FORMAT;
use crate::error::{Error, Result};
use crate::key::random;

const MAGIC: &[u8; 14] = b"lodger backup\n";
const SALT: usize = 16;
const NONCE: usize = 19;
const MAC: usize = 32;
/// What the MAC is of.
const SIGNED: usize = MAGIC.len() + 2 + 12 + SALT + NONCE;
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

/// The second recommendation of RFC 9106. A backup names its own, within these bounds.
const COST: Cost = Cost { memory_kib: 64 << 10, passes: 3, lanes: 4 };
const COST_MAX: Cost = Cost { memory_kib: 1 << 20, passes: 16, lanes: 16 };

/// Shortest passphrase that a backup is made with, in bytes. What guards everything must not be guessed.
const PASSPHRASE_MIN: usize = 12;

/// What a backup is sealed with.
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    /// # Errors
    /// [`Error::Passphrase`] for one that is too short.
    pub fn new(bytes: Vec<u8>) -> Result<Passphrase> {
        if bytes.len() < PASSPHRASE_MIN {
            return Err(Error::Passphrase { least: PASSPHRASE_MIN });
        }
        Ok(Passphrase(bytes))
    }
}

/// What making a key costs.
#[derive(Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// What is made of the passphrase.
pub(super) struct Keys {
    header: [u8; 32],
    chunks: [u8; 32],
}

impl Keys {
    fn derive(passphrase: &Passphrase, salt: &[u8], cost: Cost) -> Result<Keys> {
        let config = Config {
            ad: &[],
            hash_length: 32,
            lanes: cost.lanes,
            mem_cost: cost.memory_kib,
            secret: &[],
            thread_mode: ThreadMode::Sequential,
            time_cost: cost.passes,
            variant: Variant::Argon2id,
            version: Version::Version13,
        };
        let master = argon2::hash_raw(&passphrase.0, salt, &config);
        let master = master.map_err(|error| damaged(format!("no key can be made by its header: {error}")))?;
        Ok(Keys {
            header: blake3::derive_key("lodger 2026 header of a backup", &master),
            chunks: blake3::derive_key("lodger 2026 chunks of a backup", &master),
        })
    }

    fn stream(&self, nonce: &[u8]) -> StreamBE32<XChaCha20Poly1305> {
        StreamBE32::from_aead(XChaCha20Poly1305::new(&self.chunks.into()), GenericArray::from_slice(nonce))
    }
}

fn damaged(message: impl Into<String>) -> Error {
    Error::BackupDamaged { message: message.into() }
}

/// Seals what is written to it.
pub(super) struct Sealer<'a> {
    to: &'a mut (dyn Write + Send),
    stream: StreamBE32<XChaCha20Poly1305>,
    place: u32,
    chunk: Vec<u8>,
    /// Written so far.
    bytes: u64,
}

impl<'a> Sealer<'a> {
    pub fn begin(to: &'a mut (dyn Write + Send), passphrase: &Passphrase) -> Result<Sealer<'a>> {
        let (salt, nonce): ([u8; SALT], [u8; NONCE]) = (random()?, random()?);
        let keys = Keys::derive(passphrase, &salt, COST)?;
        let mut header = MAGIC.to_vec();
        header.extend(FORMAT.to_be_bytes());
        for number in [COST.memory_kib, COST.passes, COST.lanes] {
            header.extend(number.to_be_bytes());
        }
        header.extend(salt);
        header.extend(nonce);
        let mac = blake3::keyed_hash(&keys.header, &header);
        header.extend(mac.as_bytes());
        to.write_all(&header).map_err(super::io_error)?;
        let (stream, chunk) = (keys.stream(&nonce), Vec::with_capacity(CHUNK + TAG));
        Ok(Sealer { to, stream, place: 0, chunk, bytes: header.len() as u64 })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let broken = |_| io::Error::other("a chunk cannot be sealed");
        self.stream.encrypt_in_place(self.place, last, &[], &mut self.chunk).map_err(broken)?;
        self.to.write_all(&self.chunk)?;
        self.bytes += self.chunk.len() as u64;
        self.chunk.clear();
        self.place = self.place.checked_add(1).ok_or_else(|| io::Error::other("larger than a backup can be"))?;
        Ok(())
    }

    /// Seals the last chunk: without it the backup is no backup. Returns the bytes of the whole.
    pub fn finish(mut self) -> io::Result<u64> {
        self.seal(true)?;
        self.to.flush()?;
        Ok(self.bytes)
    }
}

impl Write for Sealer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only what is followed by more is not the last.
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.get(..bytes.len().min(CHUNK - self.chunk.len())).unwrap_or_default();
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a backup, and hands out what is in it as far as it is authentic.
pub(super) struct Opener {
    from: File,
    keys: Keys,
    nonce: [u8; NONCE],
    stream: StreamBE32<XChaCha20Poly1305>,
    place: u32,
    /// What was opened, and how far it was read.
    chunk: Vec<u8>,
    read: usize,
    /// The sealed chunk that follows; empty when there is none.
    ahead: Vec<u8>,
}

impl Opener {
    /// # Errors
    /// [`Error::NotABackup`], [`Error::BackupNewer`], [`Error::BackupPassphrase`], [`Error::BackupDamaged`].
    pub fn open(mut from: File, passphrase: &Passphrase) -> Result<Opener> {
        let header = up_to(&mut from, SIGNED + MAC).map_err(super::io_error)?;
        if !header.starts_with(MAGIC) {
            return Err(Error::NotABackup);
        }
        let mut fields = Fields(header.get(MAGIC.len()..).unwrap_or_default());
        let found = u16::from_be_bytes(fields.take()?);
        if found != FORMAT {
            return Err(Error::BackupNewer { found, known: FORMAT });
        }
        let cost = Cost {
            memory_kib: u32::from_be_bytes(fields.take()?),
            passes: u32::from_be_bytes(fields.take()?),
            lanes: u32::from_be_bytes(fields.take()?),
        };
        if cost.memory_kib > COST_MAX.memory_kib || cost.passes > COST_MAX.passes || cost.lanes > COST_MAX.lanes {
            return Err(damaged("making its key would cost more than it may"));
        }
        let (salt, nonce): ([u8; SALT], [u8; NONCE]) = (fields.take()?, fields.take()?);
        let keys = Keys::derive(passphrase, &salt, cost)?;
        let mac = blake3::Hash::from_bytes(fields.take::<MAC>()?);
        if blake3::keyed_hash(&keys.header, header.get(..SIGNED).unwrap_or_default()) != mac {
            return Err(Error::BackupPassphrase);
        }
        let stream = keys.stream(&nonce);
        let mut opener = Opener { from, keys, nonce, stream, place: 0, chunk: Vec::new(), read: 0, ahead: Vec::new() };
        opener.ahead = up_to(&mut opener.from, CHUNK + TAG).map_err(super::io_error)?;
        Ok(opener)
    }

    /// From the start again.
    pub fn again(mut self) -> Result<Opener> {
        self.from.seek(SeekFrom::Start((SIGNED + MAC) as u64)).map_err(super::io_error)?;
        self.stream = self.keys.stream(&self.nonce);
        self.ahead = up_to(&mut self.from, CHUNK + TAG).map_err(super::io_error)?;
        Ok(Opener { place: 0, chunk: Vec::new(), read: 0, ..self })
    }

    /// Opens the next chunk. False at the end.
    fn next(&mut self) -> io::Result<bool> {
        if self.ahead.is_empty() {
            return if self.place > 0 { Ok(false) } else { Err(io::Error::other(Error::BackupTruncated)) };
        }
        let sealed = std::mem::take(&mut self.ahead);
        self.ahead = up_to(&mut self.from, CHUNK + TAG)?;
        let last = self.ahead.is_empty();
        let mut chunk = sealed;
        if self.stream.decrypt_in_place(self.place, last, &[], &mut chunk).is_err() {
            let error = if last { Error::BackupTruncated } else { damaged("it was changed after it was made") };
            return Err(io::Error::other(error));
        }
        let beyond = || io::Error::other(damaged("it goes on beyond the largest a backup can be"));
        self.place = self.place.checked_add(1).ok_or_else(beyond)?;
        (self.chunk, self.read) = (chunk, 0);
        Ok(true)
    }
}

impl Read for Opener {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            if !self.next()? {
                return Ok(0);
            }
        }
        let mut rest = self.chunk.get(self.read..).unwrap_or_default();
        let read = rest.read(into)?;
        self.read += read;
        Ok(read)
    }
}

/// As many bytes as there are, and no more than `most`.
fn up_to(from: &mut File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The fields of a header, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Error::BackupTruncated)?;
        self.0 = rest;
        Ok(*field)
    }
}

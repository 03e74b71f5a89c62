//! The format of backups, written a second time: from its description, not from the library's code. Tests open backups with
//! it, change what is in them, and seal that again with the right passphrase.

use argon2::{Config, ThreadMode, Variant, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit as _;
use chacha20poly1305::aead::stream::{DecryptorBE32, EncryptorBE32};
use tar::{Archive, Builder, EntryType, Header};

pub const HEADER: usize = 14 + 2 + 12 + 16 + 19 + 32;
pub const SEALED_CHUNK: usize = (64 << 10) + 16;

/// The keys of the header's MAC and of the chunks.
fn keys(header: &[u8], passphrase: &str) -> ([u8; 32], XChaCha20Poly1305) {
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let config = Config {
        ad: &[],
        hash_length: 32,
        mem_cost: number(16),
        time_cost: number(20),
        lanes: number(24),
        secret: &[],
        thread_mode: ThreadMode::Sequential,
        variant: Variant::Argon2id,
        version: Version::Version13,
    };
    let master = argon2::hash_raw(passphrase.as_bytes(), &header[28..44], &config).unwrap();
    let chunks = blake3::derive_key("lodger 2026 chunks of a backup", &master);
    (blake3::derive_key("lodger 2026 header of a backup", &master), XChaCha20Poly1305::new(&chunks.into()))
}

/// What is in a backup: a tar stream.
pub fn open(backup: &[u8], passphrase: &str) -> Vec<u8> {
    let (header, chunks) = backup.split_at(HEADER);
    assert_eq!((&header[..14], &header[14..16]), (&b"lodger backup\n"[..], &1_u16.to_be_bytes()[..]));
    let (mac, key) = keys(header, passphrase);
    assert_eq!(blake3::keyed_hash(&mac, &header[..63]).as_bytes(), &header[63..]);
    let mut stream = DecryptorBE32::from_aead(key, header[44..63].into());
    let mut chunks: Vec<&[u8]> = chunks.chunks(SEALED_CHUNK).collect();
    let last = chunks.pop().unwrap();
    let mut opened = Vec::new();
    for chunk in chunks {
        opened.extend(stream.decrypt_next(chunk).unwrap());
    }
    opened.extend(stream.decrypt_last(last).unwrap());
    opened
}

/// A backup of whatever this is.
pub fn seal(content: &[u8], passphrase: &str) -> Vec<u8> {
    let mut backup = b"lodger backup\n\x00\x01".to_vec();
    // What the key costs is the backup's to say: here nothing is to be guarded.
    for number in [64_u32, 1, 1] {
        backup.extend(number.to_be_bytes());
    }
    backup.extend([7; 16 + 19]);
    let (mac, key) = keys(&backup, passphrase);
    let mut stream = EncryptorBE32::from_aead(key, backup[44..63].into());
    backup.extend(blake3::keyed_hash(&mac, &backup).as_bytes());
    let mut chunks: Vec<&[u8]> = content.chunks(64 << 10).collect();
    let last = chunks.pop().unwrap_or_default();
    for chunk in chunks {
        backup.extend(stream.encrypt_next(chunk).unwrap());
    }
    backup.extend(stream.encrypt_last(last).unwrap());
    backup
}

/// A member of the archive, as it may be written.
#[derive(Clone)]
pub struct Member {
    pub path: Vec<u8>,
    pub kind: EntryType,
    pub content: Vec<u8>,
}

impl Member {
    pub fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
        Member { path: path.as_ref().to_vec(), kind: EntryType::Regular, content: content.as_ref().to_vec() }
    }
}

pub fn members(archive: &[u8]) -> Vec<Member> {
    let mut archive = Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        Member { path: entry.path_bytes().into_owned(), kind: entry.header().entry_type(), content }
    });
    entries.collect()
}

/// As they are, whatever their names.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for member in members {
        let mut header = Header::new_gnu();
        let short = member.path.len() <= 100;
        if short {
            header.as_old_mut().name[..member.path.len()].copy_from_slice(&member.path);
        } else {
            let mut long = Header::new_gnu();
            long.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
            long.set_entry_type(EntryType::GNULongName);
            long.set_size(member.path.len() as u64 + 1);
            long.set_cksum();
            archive.append(&long, [&member.path[..], b"\0"].concat().as_slice()).unwrap();
        }
        header.set_entry_type(member.kind);
        header.set_size(member.content.len() as u64);
        header.set_mode(0o600);
        if matches!(member.kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("../../../../key").unwrap();
        }
        header.set_cksum();
        archive.append(&header, member.content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

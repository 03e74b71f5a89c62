//! Packages as archives: tar in gzip, nothing but regular files and directories, the same bytes for the same content.

use std::fs::File;
use std::io::{Read as _, Take, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::{FILES, Package, Reader};
use crate::error::{Error, Result};
use crate::manifest;
use crate::text::shown;

pub(super) fn read(path: &Path, reader: &mut Reader<'_>) -> Result<()> {
    let file = File::open(path).map_err(|source| reader.unreadable(source))?;
    let mut packed = Vec::new();
    let most = reader.bounds.bytes;
    file.take(most + 1).read_to_end(&mut packed).map_err(|source| reader.unreadable(source))?;
    unpack(&packed, reader)
}

pub(super) fn unpack(packed: &[u8], reader: &mut Reader<'_>) -> Result<()> {
    let most = reader.bounds.bytes;
    if packed.len() as u64 > most {
        return Err(reader.refused(format!("over {most} bytes (limits.package_bytes)")));
    }
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Err(reader.refused("not an archive made by `lodger pack`"));
    }
    // Headers and padding count too: an archive of a million empty files ends here.
    let unpacked = GzDecoder::new(packed).take(most.saturating_add(1024 * (reader.bounds.files + 2)));
    let mut archive = tar::Archive::new(unpacked);
    let package = reader.package.clone();
    let broken = |error: std::io::Error| Error::Package {
        package: package.clone(),
        message: format!("damaged or not an archive: {}", shown(&error.to_string(), 200)),
    };
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let raw = entry.path_bytes();
        let name = std::str::from_utf8(&raw).map_err(|_| reader.refused("a name in it is not UTF-8"))?.to_owned();
        let kind = entry.header().entry_type();
        if entry.header().mode().map_err(broken)? & 0o7000 != 0 {
            return Err(reader.refused(format!("`{}` has setuid, setgid or sticky mode", shown(&name, 200))));
        }
        match kind {
            EntryType::Regular => {
                reader.note(&name)?;
                reader.add(&name, entry).map_err(|error| match error {
                    Error::PackageRead { source, .. } => broken(source),
                    other => other,
                })?;
            }
            EntryType::Directory => reader.note(name.strip_suffix('/').unwrap_or(&name))?,
            _ => return Err(reader.refused(format!("`{}` is neither a file nor a directory", shown(&name, 200)))),
        }
    }
    nothing_more(reader, archive.into_inner()).map_err(broken)?
}

/// Other readers go on after the end: past the closing zeros, or with another stream of gzip. What they would find there was
/// not reviewed as it is installed.
fn nothing_more(reader: &Reader<'_>, mut unpacked: Take<GzDecoder<&[u8]>>) -> std::io::Result<Result<()>> {
    let mut rest = Vec::new();
    unpacked.read_to_end(&mut rest)?;
    let all_read = unpacked.limit() > 0 && unpacked.into_inner().into_inner().is_empty();
    let over = all_read && rest.iter().all(|byte| *byte == 0);
    Ok(if over { Ok(()) } else { Err(reader.refused("there is something after its end")) })
}

/// The package as an archive. The same package gives the same bytes: names in order, no times, owners or modes of its own.
pub fn write(package: &Package) -> Result<Vec<u8>> {
    write_with(package, Compression::best())
}

/// The same where it is read once, and nobody carries it about.
pub(crate) fn write_fast(package: &Package) -> Result<Vec<u8>> {
    write_with(package, Compression::fast())
}

fn write_with(package: &Package, compression: Compression) -> Result<Vec<u8>> {
    let component = package.manifest.component.as_deref().zip(package.component.as_deref());
    let files = package.files.iter().map(|(path, bytes)| (format!("{FILES}/{path}"), bytes.as_slice()));
    let entries = std::iter::once((manifest::FILE.to_owned(), package.manifest_bytes.as_slice()))
        .chain(component.map(|(name, bytes)| (name.to_owned(), bytes)))
        .chain(files);
    let pack = || -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), compression));
        for (path, bytes) in entries {
            let mut header = Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, bytes)?;
        }
        let mut packed = archive.into_inner()?.finish()?;
        packed.flush()?;
        Ok(packed)
    };
    pack().map_err(Error::io("pack", manifest::FILE))
}

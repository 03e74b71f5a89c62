//! A package from an author's directory: of what is there, `addon.json`, the component and `files/` are taken.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::{FILES, Reader};
use crate::error::Result;
use crate::manifest;
use crate::text::shown;

/// `component_at` is the name the component has there, where that is not the one the manifest gives it.
pub(super) fn read(path: &Path, component_at: Option<&str>, reader: &mut Reader<'_>) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty()).map_err(|error| reader.unreadable(error.into()))?;
    match file(reader, root.as_fd(), manifest::FILE, manifest::FILE) {
        Err(error) if is_missing(&error) => return Err(reader.refused("there is no `addon.json` in it")),
        other => other?,
    }
    if let Some(component) = reader.manifest.as_ref().and_then(|manifest| manifest.component.clone()) {
        match file(reader, root.as_fd(), component_at.unwrap_or(&component), &component) {
            Err(error) if is_missing(&error) => {
                let component = shown(&component, 200);
                return Err(reader.refused(format!("the component `{component}` is not in it; build the addon first")));
            }
            other => other?,
        }
    }
    match open(reader, root.as_fd(), FILES, FILES)? {
        None => Ok(()),
        Some((below, FileType::Directory)) => directory(reader, below, FILES),
        Some(_) => Err(reader.refused(format!("`{FILES}` is not a directory"))),
    }
}

fn is_missing(error: &crate::Error) -> bool {
    matches!(error, crate::Error::PackageRead { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// Opens a name without following a link and without waiting for the other end of a pipe.
fn open(reader: &Reader<'_>, dir: BorrowedFd<'_>, name: &str, path: &str) -> Result<Option<(OwnedFd, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(reader.refused(format!("`{}` is a symbolic link", shown(path, 200)))),
        Err(error) => return Err(reader.unreadable(error.into())),
    };
    let stat = fstat(&fd).map_err(|error| reader.unreadable(error.into()))?;
    Ok(Some((fd, FileType::from_raw_mode(stat.st_mode))))
}

fn file(reader: &mut Reader<'_>, dir: BorrowedFd<'_>, name: &str, path: &str) -> Result<()> {
    match open(reader, dir, name, path)? {
        None => Err(reader.unreadable(std::io::ErrorKind::NotFound.into())),
        Some((fd, FileType::RegularFile)) => {
            reader.note(path)?;
            reader.add(path, File::from(fd))
        }
        Some(_) => Err(reader.refused(format!("`{}` is not a regular file", shown(path, 200)))),
    }
}

/// Recursion is bounded by the depth a path may have.
fn directory(reader: &mut Reader<'_>, dir: OwnedFd, path: &str) -> Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir).map_err(|error| reader.unreadable(error.into()))? {
        let entry = entry.map_err(|error| reader.unreadable(error.into()))?;
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        match entry.file_name().to_str() {
            Ok(name) => names.push(name.to_owned()),
            Err(_) => return Err(reader.refused(format!("a name in `{}` is not UTF-8", shown(path, 200)))),
        }
    }
    names.sort();
    for name in names {
        let below = format!("{path}/{name}");
        match open(reader, dir.as_fd(), &name, &below)? {
            Some((fd, FileType::Directory)) => {
                reader.note(&below)?;
                directory(reader, fd, &below)?;
            }
            _ => file(reader, dir.as_fd(), &name, &below)?,
        }
    }
    Ok(())
}

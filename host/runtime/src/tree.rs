//! Walks over directory trees a guest may have shaped.
//!
//! Law 5: no link is followed, no file system is left, and one descriptor serves any depth: a tree nested a hundred
//! thousand levels deep must not exhaust the host's descriptors or stack. Only for trees nobody changes meanwhile; a
//! parent that is not the one that was left is an error.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, syncfs, unlinkat};
use rustix::io::Errno;

/// Bytes and files of a tree, the root not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    pub files: u64,
}

/// How large the tree is: regular files with their full length, sparse or not, everything else as one file.
pub fn size(root: BorrowedFd<'_>) -> io::Result<Size> {
    let mut size = Size::default();
    walk(root, &mut |step| {
        if let Step::Entry { stat, .. } = step {
            size.files += 1;
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                size.bytes = size.bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok(())
    })?;
    Ok(size)
}

/// Removes everything below the root, which stays.
pub fn clear(root: BorrowedFd<'_>) -> io::Result<()> {
    walk(root, &mut |step| match step {
        Step::Entry { parent, name, stat } if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            Ok(unlinkat(parent, name, AtFlags::empty())?)
        }
        Step::Entry { .. } | Step::Entered { .. } => Ok(()),
        Step::Left { parent, name } => Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?),
    })
}

/// Copies everything below `from` into the empty directory `to`, and syncs it: blocks are shared where the file system can,
/// `copied` is told the bytes of each file. Guests make regular files and directories; anything else is an error.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    let mut here = open_dir(to, c".")?;
    walk(from, &mut |step| {
        match step {
            Step::Entry { parent, name, stat } => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => mkdirat(&here, name, Mode::RWXU)?,
                FileType::RegularFile => copied(copy_file(parent, here.as_fd(), name)?),
                _ => return Err(io::Error::other(format!("{} is neither file nor directory", name.to_string_lossy()))),
            },
            Step::Entered { name } => here = open_dir(here.as_fd(), name)?,
            Step::Left { .. } => here = open_dir(here.as_fd(), c"..")?,
        }
        Ok(())
    })?;
    Ok(syncfs(to)?)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<u64> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, flags | OFlags::RDONLY, Mode::empty())?);
    let private = Mode::RUSR | Mode::WUSR;
    let mut target = File::from(openat(to, name, flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, private)?);
    // By `copy_file_range`, which shares blocks where it can.
    let bytes = io::copy(&mut source, &mut target)?;
    target.set_modified(source.metadata()?.modified()?)?;
    Ok(bytes)
}

enum Step<'a> {
    /// An entry is met, before what is below it.
    Entry { parent: BorrowedFd<'a>, name: &'a CStr, stat: &'a Stat },
    /// A directory among them is entered.
    Entered { name: &'a CStr },
    /// Its entries are all done.
    Left { parent: BorrowedFd<'a>, name: &'a CStr },
}

/// A directory on the way down: which it is, its name in its parent, and its subdirectories still to enter.
struct Level {
    identity: (u64, u64),
    name: CString,
    pending: Vec<CString>,
}

fn walk(root: BorrowedFd<'_>, visit: &mut dyn FnMut(Step<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut here = open_dir(root, c".")?;
    let mut levels = vec![enter(&here, CString::default(), visit)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pending.pop() {
            let device = level.identity.0;
            let below = open_dir(here.as_fd(), &name)?;
            visit(Step::Entered { name: &name })?;
            let level = enter(&below, name, visit)?;
            if level.identity.0 != device {
                return Err(io::Error::other("another file system is mounted in the tree"));
            }
            here = below;
            levels.push(level);
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let Some(parent) = levels.last() else { break };
        here = open_dir(here.as_fd(), c"..")?;
        if identity(&fstat(&here)?) != parent.identity {
            return Err(io::Error::other("the tree changed while it was walked"));
        }
        visit(Step::Left { parent: here.as_fd(), name: &done.name })?;
    }
    Ok(())
}

/// Visits the entries of one directory and notes its subdirectories.
fn enter(dir: &OwnedFd, name: CString, visit: &mut dyn FnMut(Step<'_>) -> io::Result<()>) -> io::Result<Level> {
    let mut level = Level { identity: identity(&fstat(dir)?), name, pending: Vec::new() };
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        visit(Step::Entry { parent: dir.as_fd(), name: &name, stat: &stat })?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            level.pending.push(name);
        }
    }
    Ok(level)
}

fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

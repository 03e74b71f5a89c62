//! Walks over directory trees a guest may have shaped.
//!
//! Law 5: no link is followed, no file system is left, and one descriptor serves any depth: a tree nested a hundred
//! thousand levels deep must not exhaust the host's descriptors or stack. Only for trees nobody changes meanwhile; a
//! parent that is not the one that was left is an error.

mod grow;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, syncfs, unlinkat};
use rustix::io::Errno;

use crate::text::shown;

pub use grow::Growing;

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
                _ => return Err(neither(name)),
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

/// What [`each`] tells. Directories are numbered as they are told of, the root is 0, so that no path is ever made of names.
pub enum Found<'a> {
    Directory { of: u32, name: &'a CStr },
    File { of: u32, name: &'a CStr, file: &'a File },
}

/// Tells everything below the root: what is in a directory, together; then what is in one of its directories. [`Growing`]
/// makes the same tree of it. Anything but a regular file or a directory is an error.
pub fn each(root: BorrowedFd<'_>, tell: &mut dyn FnMut(Found<'_>) -> io::Result<()>) -> io::Result<()> {
    // Of each directory on the way down: its number, and those of the directories in it that are still to be entered.
    let mut levels: Vec<(u32, Vec<u32>)> = vec![(0, Vec::new())];
    let mut last = 0;
    walk(root, &mut |step| {
        match step {
            Step::Entry { parent, name, stat } => {
                let Some((of, pending)) = levels.last_mut() else { return Ok(()) };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => {
                        last += 1;
                        pending.push(last);
                        tell(Found::Directory { of: *of, name })?;
                    }
                    FileType::RegularFile => {
                        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let file = File::from(openat(parent, name, flags, Mode::empty())?);
                        tell(Found::File { of: *of, name, file: &file })?;
                    }
                    _ => return Err(neither(name)),
                }
            }
            Step::Entered { .. } => {
                let entered = levels.last_mut().and_then(|(_, pending)| pending.pop()).unwrap_or_default();
                levels.push((entered, Vec::new()));
            }
            Step::Left { .. } => drop(levels.pop()),
        }
        Ok(())
    })
}

fn neither(name: &CStr) -> io::Error {
    io::Error::other(format!("{} is neither file nor directory", shown(&name.to_string_lossy(), 200)))
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

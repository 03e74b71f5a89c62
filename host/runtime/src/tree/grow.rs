//! A tree made entry by entry, as [`each`](super::each) tells of another.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, mkdirat, openat, syncfs};

use super::{Size, open_dir};

/// The tree as far as it is made. Whoever tells what is to be in it may be hostile: a name that is there already, is no
/// plain name, or stands in a directory whose turn it is not, is an error.
pub struct Growing {
    here: OwnedFd,
    /// The numbers of the directories from the root to `here`.
    levels: Vec<u32>,
    /// By their number: where each directory is, until it is entered.
    pending: Vec<Option<(u32, CString)>>,
    pub size: Size,
}

impl Growing {
    /// `root` is empty, and nobody else's.
    pub fn new(root: BorrowedFd<'_>) -> io::Result<Growing> {
        Ok(Growing { here: open_dir(root, c".")?, levels: vec![0], pending: vec![None], size: Size::default() })
    }

    pub fn directory(&mut self, of: u32, name: &CStr) -> io::Result<()> {
        self.enter(of)?;
        mkdirat(&self.here, plain(name)?, Mode::RWXU)?;
        self.pending.push(Some((of, name.to_owned())));
        self.size.files += 1;
        Ok(())
    }

    pub fn file(&mut self, of: u32, name: &CStr, mut content: impl Read, modified: SystemTime) -> io::Result<()> {
        self.enter(of)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.here, plain(name)?, flags, Mode::RUSR | Mode::WUSR)?);
        self.size.bytes += io::copy(&mut content, &mut file)?;
        self.size.files += 1;
        file.set_modified(modified)
    }

    /// Syncs everything that was made.
    pub fn finish(self) -> io::Result<Size> {
        syncfs(&self.here)?;
        Ok(self.size)
    }

    fn enter(&mut self, number: u32) -> io::Result<()> {
        if self.levels.last() == Some(&number) {
            return Ok(());
        }
        let out_of_turn = || io::Error::other(format!("directory {number} is told of out of turn"));
        let place = self.pending.get_mut(number as usize).and_then(Option::take);
        let (parent, name) = place.ok_or_else(out_of_turn)?;
        let depth = self.levels.iter().rposition(|level| *level == parent).ok_or_else(out_of_turn)?;
        for _ in depth + 1..self.levels.len() {
            // Nobody else moves anything here.
            self.here = open_dir(self.here.as_fd(), c"..")?;
        }
        self.levels.truncate(depth + 1);
        self.here = open_dir(self.here.as_fd(), &name)?;
        self.levels.push(number);
        Ok(())
    }
}

fn plain(name: &CStr) -> io::Result<&CStr> {
    let bytes = name.to_bytes();
    let plain = !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/');
    plain.then_some(name).ok_or_else(|| io::Error::other("a name in it is no plain name"))
}

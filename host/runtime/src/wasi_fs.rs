//! The host side of `wasi:filesystem`: delegates to wasmtime-wasi, and asks [`quota`](crate::quota) before anything grows.

use std::fs::File;
use std::io;
use std::sync::Arc;

use cap_std::fs::{Dir as CapDir, MetadataExt as _};
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::meter::Meter;
use crate::quota::{Entry, LISTING_ENTRY_BYTES, SharedQuota};

/// Most bytes a guest may write before it asks again.
const WRITE_CHUNK: usize = 64 << 10;

/// What the directories of one call are, and what they may cost.
pub(crate) struct Mounts {
    pub dirs: [(wasmtime_wasi::filesystem::Dir, &'static str); 2],
    /// Present when `/data` may be written.
    pub quota: Option<SharedQuota>,
}

pub(crate) struct Fs<'a> {
    pub wasi: WasiFilesystemCtxView<'a>,
    pub mounts: &'a mut Mounts,
    pub meter: &'a mut Meter,
}

pub(crate) struct HasFs;

impl HasData for HasFs {
    type Data<'a> = Fs<'a>;
}

impl Fs<'_> {
    /// The descriptor's file and the quota it counts against, when it is one that may be written.
    fn writable_file(&self, fd: &Resource<Descriptor>) -> FsResult<(Arc<File>, SharedQuota)> {
        match self.wasi.table.get(fd)? {
            Descriptor::File(file) => match &self.mounts.quota {
                Some(quota) if !file.perms.write_not_permitted() => Ok((file.file.clone(), quota.clone())),
                _ => Err(ErrorCode::NotPermitted.into()),
            },
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    /// The quota a change below this directory counts against; `None` where nothing may change.
    fn quota_of(&self, fd: &Resource<Descriptor>) -> FsResult<Option<SharedQuota>> {
        match self.wasi.table.get(fd)? {
            Descriptor::Dir(dir) if !dir.perms.write_not_permitted() => Ok(self.mounts.quota.clone()),
            _ => Ok(None),
        }
    }

    /// What a name stands for now, links not followed.
    fn look(&self, fd: &Resource<Descriptor>, path: &str) -> FsResult<Option<Entry>> {
        let Descriptor::Dir(dir) = self.wasi.table.get(fd)? else { return Ok(None) };
        let dir = CapDir::from_std_file(dir.dir.try_clone()?);
        Ok(dir.symlink_metadata(path).ok().map(|meta| Entry {
            identity: (meta.dev(), meta.ino()),
            bytes: if meta.is_file() { meta.len() } else { 0 },
        }))
    }

    fn push_stream(&mut self, fd: &Resource<Descriptor>, at: At) -> FsResult<Resource<DynOutputStream>> {
        let (file, quota) = self.writable_file(fd)?;
        let stream: DynOutputStream = Box::new(QuotaStream { file, quota, at, closed: false });
        Ok(self.wasi.table.push(stream)?)
    }
}

fn quota_code(error: io::Error) -> FsError {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => ErrorCode::Quota.into(),
        io::ErrorKind::FileTooLarge => ErrorCode::FileTooLarge.into(),
        _ => error.into(),
    }
}

impl preopens::Host for Fs<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut found = Vec::with_capacity(self.mounts.dirs.len());
        for (dir, name) in &self.mounts.dirs {
            found.push((self.wasi.table.push(Descriptor::Dir(dir.clone()))?, (*name).to_owned()));
        }
        Ok(found)
    }
}

impl Host for Fs<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let over_quota = self.wasi.table.get(&error)?.downcast_ref::<io::Error>();
        if over_quota.is_some_and(|error| error.kind() == io::ErrorKind::QuotaExceeded) {
            return Ok(Some(ErrorCode::Quota));
        }
        self.wasi.filesystem_error_code(error)
    }
}

impl HostDescriptor for Fs<'_> {
    async fn write(&mut self, fd: Resource<Descriptor>, buf: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let (file, quota) = self.writable_file(&fd)?;
        let written = quota.lock().write(&file, offset, &buf).map_err(quota_code)?;
        Ok(written as u64)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.push_stream(&fd, At::Offset(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.push_stream(&fd, At::End)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let (file, quota) = self.writable_file(&fd)?;
        quota.lock().set_len(&file, size).map_err(quota_code)
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let dir = Resource::<Descriptor>::new_borrow(fd.rep());
        let Some(quota) = self.quota_of(&dir)? else {
            return self.wasi.open_at(fd, path_flags, path, open_flags, flags).await;
        };
        let changes = open_flags.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE);
        let before = if changes { self.look(&dir, &path)? } else { None };
        let creates = before.is_none() && open_flags.contains(OpenFlags::CREATE);
        if creates {
            quota.lock().create().map_err(quota_code)?;
        }
        let opened = self.wasi.open_at(fd, path_flags, path, open_flags, flags).await;
        let mut quota = quota.lock();
        match &opened {
            Ok(opened) => {
                match self.wasi.table.get(opened)? {
                    Descriptor::File(file) => quota.opened(&file.file),
                    Descriptor::Dir(dir) => quota.opened(&dir.dir),
                }
                if let Some(before) = before.filter(|_| open_flags.contains(OpenFlags::TRUNCATE)) {
                    quota.truncated(before.bytes);
                }
            }
            Err(_) if creates => quota.not_created(),
            Err(_) => {}
        }
        opened
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let Some(quota) = self.quota_of(&fd)? else { return Err(ErrorCode::NotPermitted.into()) };
        quota.lock().create().map_err(quota_code)?;
        let made = self.wasi.create_directory_at(fd, path).await;
        if made.is_err() {
            quota.lock().not_created();
        }
        made
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let Some(quota) = self.quota_of(&fd)? else { return Err(ErrorCode::NotPermitted.into()) };
        let gone = self.look(&fd, &path)?;
        self.wasi.unlink_file_at(fd, path).await?;
        gone.iter().for_each(|gone| quota.lock().removed(gone));
        Ok(())
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let Some(quota) = self.quota_of(&fd)? else { return Err(ErrorCode::NotPermitted.into()) };
        let gone = self.look(&fd, &path)?;
        self.wasi.remove_directory_at(fd, path).await?;
        gone.iter().for_each(|gone| quota.lock().removed(gone));
        Ok(())
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (Some(quota), Some(_)) = (self.quota_of(&fd)?, self.quota_of(&new_fd)?) else {
            return Err(ErrorCode::NotPermitted.into());
        };
        let moved = self.look(&fd, &old_path)?;
        let replaced = self.look(&new_fd, &new_path)?;
        self.wasi.rename_at(fd, old_path, new_fd, new_path).await?;
        // Renaming a file onto itself frees nothing.
        let replaced = replaced.filter(|replaced| moved.is_none_or(|moved| moved.identity != replaced.identity));
        replaced.iter().for_each(|gone| quota.lock().removed(gone));
        Ok(())
    }

    async fn link_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        _: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let bytes = match self.wasi.table.get(&fd)? {
            Descriptor::Dir(dir) => listing_bytes(&dir.dir)?,
            Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
        };
        if !self.meter.hold_host_memory(bytes) {
            return Err(ErrorCode::InsufficientMemory.into());
        }
        let listed = self.wasi.read_directory(fd).await;
        match &listed {
            Ok(stream) => self.meter.listing_opened(stream.rep(), bytes),
            Err(_) => self.meter.release_host_memory(bytes),
        }
        listed
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi, fd)
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.wasi.read_via_stream(fd, offset)
    }

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.wasi.advise(fd, offset, len, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync_data(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.wasi.get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.wasi.get_type(fd).await
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, atime: NewTimestamp, mtime: NewTimestamp) -> FsResult<()> {
        self.wasi.set_times(fd, atime, mtime).await
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.wasi.read(fd, len, offset).await
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi.sync(fd).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.wasi.stat(fd).await
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.wasi.stat_at(fd, flags, path).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        atime: NewTimestamp,
        mtime: NewTimestamp,
    ) -> FsResult<()> {
        self.wasi.set_times_at(fd, flags, path, atime, mtime).await
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.wasi.readlink_at(fd, path).await
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        self.wasi.is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash(fd).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.wasi.metadata_hash_at(fd, flags, path).await
    }
}

impl HostDirectoryEntryStream for Fs<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.wasi.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.meter.listing_closed(stream.rep());
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}

/// What the host will hold for a listing: wasmtime-wasi collects all of it at once.
fn listing_bytes(dir: &File) -> io::Result<u64> {
    let mut bytes = 0u64;
    for entry in rustix::fs::Dir::read_from(dir)? {
        bytes += LISTING_ENTRY_BYTES + entry?.file_name().count_bytes() as u64;
    }
    Ok(bytes)
}

enum At {
    Offset(u64),
    End,
}

/// A stream that writes at once, so that what it reserves and what it has written are never apart.
struct QuotaStream {
    file: Arc<File>,
    quota: SharedQuota,
    at: At,
    closed: bool,
}

impl OutputStream for QuotaStream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let mut quota = self.quota.lock();
            let written = match self.at {
                At::Offset(offset) => quota.write(&self.file, offset, rest),
                At::End => quota.append(&self.file, rest),
            };
            let written = match written {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match written {
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    if let At::Offset(offset) = &mut self.at {
                        *offset += written as u64;
                    }
                }
                Err(error) => {
                    self.closed = true;
                    return Err(StreamError::LastOperationFailed(error.into()));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.closed { Err(StreamError::Closed) } else { Ok(WRITE_CHUNK) }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for QuotaStream {
    async fn ready(&mut self) {}
}

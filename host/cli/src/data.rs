//! Data in and out of the program: files and pipes, read and written by a thread that may wait for them.
//!
//! Whoever is at the other end may take as long as they like; the deadline of a call must not wait with them.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much is read or written at once.
const CHUNK: usize = 64 << 10;

/// A file or pipe, and who is told how many bytes went through it.
pub struct Data<T> {
    state: State,
    /// Read, and not asked for yet.
    here: Vec<u8>,
    moved: u64,
    tell: T,
}

enum State {
    Idle(File),
    Busy(JoinHandle<(File, io::Result<Vec<u8>>)>),
    Gone,
}

impl<T: Fn(u64)> Data<T> {
    pub fn new(file: &impl AsFd, tell: T) -> io::Result<Data<T>> {
        let file = File::from(file.as_fd().try_clone_to_owned()?);
        Ok(Data { state: State::Idle(file), here: Vec::new(), moved: 0, tell })
    }

    /// Waits for the thread, and takes what it has read.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<File>> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Idle(file) => Poll::Ready(Ok(file)),
            State::Busy(mut thread) => match Pin::new(&mut thread).poll(context) {
                Poll::Pending => {
                    self.state = State::Busy(thread);
                    Poll::Pending
                }
                Poll::Ready(ended) => {
                    let (file, done) = ended.map_err(io::Error::other)?;
                    self.here = done?;
                    Poll::Ready(Ok(file))
                }
            },
            State::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn count(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        (self.tell)(self.moved);
    }
}

impl<T: Fn(u64) + Unpin> AsyncRead for Data<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.here.is_empty() {
            if let State::Idle(_) = self.state {
                let mut file = ready!(self.poll_idle(context))?;
                self.state = State::Busy(spawn_blocking(move || {
                    let mut bytes = vec![0; CHUNK];
                    let read = file.read(&mut bytes);
                    let read = read.map(|length| {
                        bytes.truncate(length);
                        bytes
                    });
                    (file, read)
                }));
            }
            let file = ready!(self.poll_idle(context))?;
            self.state = State::Idle(file);
        }
        let length = self.here.len().min(to.remaining());
        to.put_slice(self.here.get(..length).unwrap_or_default());
        self.here.drain(..length);
        self.count(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: Fn(u64) + Unpin> AsyncWrite for Data<T> {
    /// Takes the bytes. That they could not be written shows at the next call.
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut file = ready!(self.poll_idle(context))?;
        let taken: Vec<u8> = bytes.iter().take(CHUNK).copied().collect();
        let length = taken.len();
        self.state = State::Busy(spawn_blocking(move || {
            let written = file.write_all(&taken).map(|()| Vec::new());
            (file, written)
        }));
        self.count(length);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let file = ready!(self.poll_idle(context))?;
        self.state = State::Idle(file);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

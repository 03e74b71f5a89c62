//! Where a dump goes and a restore comes from: the caller's own reader or writer, as a stream of the guest's.
//!
//! Between the two is one buffer of a fixed size and no task, so that nothing moves when nobody asks for it, and nothing
//! outlives the call. Clones share the stream: the guest has one, and the host counts what went through, looks whether the
//! caller's side failed, and passes on what was written last.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// What is held between guest and caller.
const BUFFER: usize = 64 << 10;

/// Where a dump goes.
#[derive(Clone)]
pub struct Outlet(Arc<Mutex<Outgoing>>);

struct Outgoing {
    to: Box<dyn AsyncWrite + Send + Unpin>,
    waiting: BytesMut,
    /// The guest wants to know that all has arrived.
    flushing: bool,
    written: u64,
    failed: Option<Failed>,
}

/// Where a restore comes from.
#[derive(Clone)]
pub struct Inlet(Arc<Mutex<Incoming>>);

struct Incoming {
    from: Box<dyn AsyncRead + Send + Unpin>,
    here: BytesMut,
    ended: bool,
    taken: u64,
    failed: Option<Failed>,
}

/// The caller's side does not work any more.
struct Failed {
    why: String,
    /// The guest was told; from then on the stream is closed to it.
    told: bool,
}

impl Failed {
    fn new(error: &io::Error) -> Failed {
        Failed { why: error.to_string(), told: false }
    }

    fn tell(&mut self) -> StreamError {
        if std::mem::replace(&mut self.told, true) {
            StreamError::Closed
        } else {
            StreamError::LastOperationFailed(wasmtime::format_err!("{}", self.why))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outlet {
    pub fn new(to: impl AsyncWrite + Send + Unpin + 'static) -> Outlet {
        Outlet(Arc::new(Mutex::new(Outgoing {
            to: Box::new(to),
            waiting: BytesMut::new(),
            flushing: false,
            written: 0,
            failed: None,
        })))
    }

    /// Bytes that the caller's writer has taken.
    pub fn written(&self) -> u64 {
        lock(&self.0).written
    }

    /// Why the caller's writer takes no more.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.0).failed.as_ref().map(|failed| failed.why.clone())
    }

    /// Passes on what the guest has written last.
    pub(crate) async fn finish(&self) {
        lock(&self.0).flushing = true;
        std::future::poll_fn(|context| lock(&self.0).poll_room(context)).await;
    }
}

impl Outgoing {
    /// Ready when the guest may write, or when that has failed.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.failed.is_none()
            && let Err(error) = ready!(self.poll_out(context))
        {
            self.failed = Some(Failed::new(&error));
            self.waiting.clear();
        }
        Poll::Ready(())
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let to_empty = self.flushing || self.waiting.len() >= BUFFER;
        while to_empty && !self.waiting.is_empty() {
            let written = match Pin::new(&mut self.to).poll_write(context, &self.waiting) {
                Poll::Pending if !self.flushing && self.waiting.len() < BUFFER => break,
                written => ready!(written)?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
            self.written = self.written.saturating_add(written as u64);
        }
        if self.flushing {
            ready!(Pin::new(&mut self.to).poll_flush(context))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    fn permit(&mut self) -> StreamResult<usize> {
        match &mut self.failed {
            Some(failed) => Err(failed.tell()),
            None if self.flushing => Ok(0),
            None => Ok(BUFFER.saturating_sub(self.waiting.len())),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Outlet {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| lock(&self.0).poll_room(context)).await;
    }
}

impl OutputStream for Outlet {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut outgoing = lock(&self.0);
        if bytes.len() > outgoing.permit()? {
            return Err(StreamError::trap("wrote more than check-write permits"));
        }
        outgoing.waiting.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        let mut outgoing = lock(&self.0);
        outgoing.permit()?;
        outgoing.flushing = true;
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        lock(&self.0).permit()
    }
}

impl Inlet {
    pub fn new(from: impl AsyncRead + Send + Unpin + 'static) -> Inlet {
        Inlet(Arc::new(Mutex::new(Incoming {
            from: Box::new(from),
            here: BytesMut::new(),
            ended: false,
            taken: 0,
            failed: None,
        })))
    }

    /// Bytes that the guest, or a command of it, has taken.
    pub fn taken(&self) -> u64 {
        lock(&self.0).taken
    }

    /// Why the caller's reader gives no more.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.0).failed.as_ref().map(|failed| failed.why.clone())
    }
}

impl Incoming {
    fn poll_in(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.here.is_empty() || self.ended || self.failed.is_some() {
            return Poll::Ready(());
        }
        self.here.resize(BUFFER, 0);
        let mut buffer = ReadBuf::new(&mut self.here);
        let read = Pin::new(&mut self.from).poll_read(context, &mut buffer);
        let length = buffer.filled().len();
        self.here.truncate(if matches!(read, Poll::Ready(Ok(()))) { length } else { 0 });
        match ready!(read) {
            Ok(()) => self.ended = length == 0,
            Err(error) => self.failed = Some(Failed::new(&error)),
        }
        Poll::Ready(())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Inlet {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| lock(&self.0).poll_in(context)).await;
    }
}

impl InputStream for Inlet {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut incoming = lock(&self.0);
        let ended = incoming.ended;
        if incoming.here.is_empty() {
            return match &mut incoming.failed {
                Some(failed) => Err(failed.tell()),
                None if ended => Err(StreamError::Closed),
                None => Ok(Bytes::new()),
            };
        }
        let length = size.min(incoming.here.len());
        incoming.taken = incoming.taken.saturating_add(length as u64);
        Ok(incoming.here.split_to(length).freeze())
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("written", &self.written()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").field("taken", &self.taken()).finish_non_exhaustive()
    }
}

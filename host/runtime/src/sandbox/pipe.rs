//! `pipe` of `lodger:addon/services`: the streams of a guest as an engine reads and writes them.
//!
//! The two worlds wait in different ways. A reader or writer here owns a step that is under way, and the guest's stream with
//! it, until the engine asks again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError, StreamResult};

/// How much is moved at once.
const CHUNK: usize = 64 << 10;

type Step<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A guest's stream to read from.
pub(super) struct Reader<'a> {
    step: Option<Step<'a, (&'a mut DynInputStream, StreamResult<Bytes>)>>,
    here: Bytes,
}

async fn read(from: &mut DynInputStream) -> (&mut DynInputStream, StreamResult<Bytes>) {
    let read = from.blocking_read(CHUNK).await;
    (from, read)
}

impl<'a> Reader<'a> {
    pub fn new(from: &'a mut DynInputStream) -> Reader<'a> {
        Reader { step: Some(Box::pin(read(from))), here: Bytes::new() }
    }
}

impl AsyncRead for Reader<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.here.is_empty() {
            let Some(step) = &mut self.step else { return Poll::Ready(Ok(())) };
            let (from, read) = ready!(step.as_mut().poll(context));
            match read {
                Ok(bytes) => {
                    self.here = bytes;
                    self.step = Some(Box::pin(self::read(from)));
                }
                Err(StreamError::Closed) => self.step = None,
                Err(failed) => {
                    self.step = None;
                    return Poll::Ready(Err(broken(&failed)));
                }
            }
        }
        let length = to.remaining().min(self.here.len());
        to.put_slice(&self.here.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// A guest's stream to write to.
pub(super) struct Writer<'a> {
    state: State<'a>,
    /// Since it was flushed.
    written: bool,
}

enum State<'a> {
    Idle(&'a mut DynOutputStream),
    Busy(Step<'a, (&'a mut DynOutputStream, StreamResult<()>)>),
    Failed,
}

async fn write(to: &mut DynOutputStream, mut bytes: Bytes) -> (&mut DynOutputStream, StreamResult<()>) {
    while bytes.has_remaining() {
        let written = match to.write_ready().await {
            Ok(permit) => to.write(bytes.split_to(permit.min(bytes.len()))),
            Err(failed) => Err(failed),
        };
        if written.is_err() {
            return (to, written);
        }
    }
    (to, Ok(()))
}

async fn flush(to: &mut DynOutputStream) -> (&mut DynOutputStream, StreamResult<()>) {
    let flushed = match to.flush() {
        Ok(()) => to.write_ready().await.map(drop),
        Err(failed) => Err(failed),
    };
    (to, flushed)
}

impl<'a> Writer<'a> {
    pub fn new(to: &'a mut DynOutputStream) -> Writer<'a> {
        Writer { state: State::Idle(to), written: false }
    }

    /// Takes the stream, once nothing is under way; whoever does puts it back, or the next step.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&'a mut DynOutputStream>> {
        if let State::Busy(step) = &mut self.state {
            let (to, done) = ready!(step.as_mut().poll(context));
            self.state = State::Idle(to);
            if let Err(failed) = done {
                self.state = State::Failed;
                return Poll::Ready(Err(broken(&failed)));
            }
        }
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(to) => Poll::Ready(Ok(to)),
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Writer<'_> {
    /// Takes the bytes, and writes them while the engine fetches the next. That they could not be written shows then.
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let to = ready!(self.poll_idle(context))?;
        let length = bytes.len().min(CHUNK);
        let taken = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
        self.state = State::Busy(Box::pin(write(to, taken)));
        self.written = true;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written {
            let to = ready!(self.poll_idle(context))?;
            self.state = State::Busy(Box::pin(flush(to)));
            self.written = false;
        }
        let to = ready!(self.poll_idle(context))?;
        self.state = State::Idle(to);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

fn broken(failed: &StreamError) -> io::Error {
    match failed {
        StreamError::Closed => io::Error::new(io::ErrorKind::BrokenPipe, "it is closed"),
        StreamError::LastOperationFailed(error) | StreamError::Trap(error) => io::Error::other(format!("{error:#}")),
    }
}

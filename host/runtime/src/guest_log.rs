//! What a guest writes to stdout and stderr: kept up to the limit, counted and dropped past it, never an error to the guest.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::text::{REDACTED, SECRET_MIN, redact, shown};

/// Most bytes a guest may write before it asks again.
const WRITE_CHUNK: usize = 64 << 10;
/// Longest line kept whole when shown.
const LINE_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped: u64,
}

/// One call's log. Clones share it; so do stdout and stderr.
#[derive(Clone, Debug)]
pub(crate) struct GuestLog {
    kept: Arc<Mutex<Kept>>,
    max: usize,
}

impl GuestLog {
    pub fn new(max: u64) -> GuestLog {
        GuestLog { kept: Arc::default(), max: usize::try_from(max).unwrap_or(usize::MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        let room = self.max.saturating_sub(kept.bytes.len());
        let (now, over) = bytes.split_at(room.min(bytes.len()));
        kept.bytes.extend_from_slice(now);
        kept.dropped += over.len() as u64;
    }

    /// A line of the host's own, about what it has refused.
    pub fn note(&self, line: &str) {
        let begins = matches!(self.lock().bytes.last(), None | Some(b'\n'));
        self.take_in(format!("{}lodger: {}\n", if begins { "" } else { "\n" }, shown(line, LINE_MAX)).as_bytes());
    }

    /// Bytes kept and dropped.
    pub fn counts(&self) -> (u64, u64) {
        let kept = self.lock();
        (kept.bytes.len() as u64, kept.dropped)
    }

    /// The lines, each escaped and with the known secrets redacted; empty ones left out.
    pub fn lines(&self, secrets: &[String]) -> Vec<String> {
        let kept = self.lock();
        if kept.bytes.is_empty() {
            return Vec::new();
        }
        // Redacted before it is split, so that a secret of several lines is found; and where the limit has cut one in two.
        let cut = if kept.dropped > 0 { begun_at_the_end(&kept.bytes, secrets) } else { 0 };
        let whole = kept.bytes.len() - cut;
        let text = String::from_utf8_lossy(kept.bytes.get(..whole).unwrap_or_default());
        let mut text = redact(&text, secrets);
        if cut > 0 {
            text.to_mut().push_str(REDACTED);
        }
        text.lines().filter(|line| !line.is_empty()).map(|line| shown(line, LINE_MAX)).collect()
    }
}

/// How many of the last bytes are the beginning of a secret.
fn begun_at_the_end(bytes: &[u8], secrets: &[String]) -> usize {
    let begun = |secret: &String| {
        let beginnings = (SECRET_MIN..secret.len()).rev().filter_map(|length| secret.as_bytes().get(..length));
        beginnings.into_iter().find(|beginning| bytes.ends_with(beginning)).map_or(0, <[u8]>::len)
    };
    secrets.iter().map(begun).max().unwrap_or(0)
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestLog {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take_in(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_CHUNK)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestLog {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take_in(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cut_in_two_by_the_limit_is_redacted_too() {
        let secrets = ["hunter22-and-more".to_owned()];
        for (said, lines) in [
            ("pw=hunter22-and-more!", vec!["pw=[redacted]"]),
            ("password hunter22-and-more", vec!["password [redacted]"]),
            ("the long password is hunter22-and-more", vec!["the long password is"]),
        ] {
            let log = GuestLog::new(20);
            log.take_in(said.as_bytes());
            assert_eq!(log.lines(&secrets), lines, "{said}");
        }
    }
}

//! What a server answers, read within its bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{JSON, Remote, Result, error};
use crate::outbound::Driver;
use crate::text::shown;

/// An answer that is no refusal: its body is still to come.
pub(super) struct Answer {
    pub response: Response<Incoming>,
    /// Moves the body's bytes.
    pub _driver: Driver,
}

impl Remote {
    pub(super) fn must_be(&self, answer: &Answer, kind: &str) -> Result<()> {
        let given = answer.response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let given = given.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if given.eq_ignore_ascii_case(kind.as_bytes()) {
            return Ok(());
        }
        let given = shown(&String::from_utf8_lossy(given), 60);
        Err(self
            .answered(&format!("answers `{given}` where it should answer {kind}: it is no lodger, or of another time")))
    }

    pub(super) async fn json<T: DeserializeOwned>(&self, mut answer: Answer, plain: bool) -> Result<T> {
        self.must_be(&answer, JSON)?;
        let bytes = self.read(answer.response.body_mut(), self.bounds.json).await?;
        let unfit = |error: serde_json::Error| {
            self.answered(&format!("answers what is not understood: {}", shown(&error.to_string(), 200)))
        };
        if !plain {
            return serde_json::from_slice(&bytes).map_err(unfit);
        }
        let mut value: Value = serde_json::from_slice(&bytes).map_err(unfit)?;
        error::make_plain(&mut value);
        serde_json::from_value(value).map_err(unfit)
    }

    /// All of a body.
    pub(super) async fn read(&self, body: &mut Incoming, most: u64) -> Result<Bytes> {
        let read = async {
            let mut read = BytesMut::new();
            while let Some(chunk) = self.next(body, self.bounds.next).await? {
                if (read.len() + chunk.len()) as u64 > most {
                    return Err(self.answered(&format!("answers with more than {most} bytes")));
                }
                read.extend_from_slice(&chunk);
            }
            Ok(read.freeze())
        };
        self.within(self.bounds.answer, read).await?
    }

    /// The next part of a body; `None` at its end.
    pub(super) async fn next(&self, body: &mut Incoming, within: Duration) -> Result<Option<Bytes>> {
        let until = Instant::now() + within;
        loop {
            let Some(frame) = timeout_at(until, body.frame()).await.map_err(|_| self.too_slow())? else {
                return Ok(None);
            };
            // Trailers say nothing that is asked for.
            if let Ok(chunk) = frame.map_err(|error| self.broken(&error))?.into_data() {
                return Ok(Some(chunk));
            }
        }
    }
}

//! A Lodger server elsewhere, asked over HTTP: what `lodger --server` and the marketplace's verbs are made of.
//!
//! The operator names it, so it may be anywhere; what it answers is hostile all the same. Head, size and time of an answer are
//! bounded, no redirect is followed, all text is escaped but what is asked for as it is, and what it says of itself proves
//! nothing: packages are held to their digests. A token goes over TLS, or nowhere but to this machine.

mod answer;
mod error;
mod market;
mod url;

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use self::answer::Answer;
use crate::outbound::{self, Driver, Outbound};
use crate::text::shown;

pub use error::{RemoteError, RemoteRefusal};
pub use market::{Listed, Marketplace, Versions, Wanted};
pub use url::{BearerToken, ServerUrl};

pub type Result<T, E = RemoteError> = std::result::Result<T, E>;

/// What `lodger pack` writes, as a server takes it.
const PACKAGE: &str = "application/vnd.lodger.package+gzip";
const JSON: &str = "application/json";
const STREAM: &str = "application/octet-stream";

/// Largest answer that refuses something, in bytes.
const REFUSAL_MAX: u64 = 1 << 20;
/// What is held of a stream on its way.
const CHUNK: usize = 64 << 10;

/// What a server may take.
#[derive(Clone, Copy)]
struct Bounds {
    /// Largest answer of JSON, in bytes.
    json: u64,
    /// Time to be connected with.
    connect: Duration,
    /// To begin an answer, where it only looks.
    look: Duration,
    /// The same where it does something, which may fetch images and run hooks.
    work: Duration,
    /// For all of an answer that is held in memory.
    answer: Duration,
    /// For the next part of any.
    next: Duration,
}

const BOUNDS: Bounds = Bounds {
    json: 32 << 20,
    connect: Duration::from_secs(10),
    look: Duration::from_secs(120),
    work: Duration::from_secs(6 * 3600),
    answer: Duration::from_secs(300),
    next: Duration::from_secs(30),
};

/// A server, and the token it is asked with. Each request has a connection of its own.
pub struct Remote {
    url: ServerUrl,
    token: Option<BearerToken>,
    outbound: Outbound,
    bounds: Bounds,
}

/// What goes with a request.
type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

impl Remote {
    pub fn new(url: ServerUrl, token: Option<BearerToken>) -> Remote {
        // Names are the operator's to choose: only TLS is asked of it.
        Remote { url, token, outbound: Outbound::new(Vec::new()), bounds: BOUNDS }
    }

    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// What is at a path, with every text in it made fit to be shown.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.ask(Method::GET, path, None, self.bounds.look).await?;
        self.json(answer, true).await
    }

    /// The same with texts as they are: values of variables, or lines that whoever shows them must escape.
    pub async fn get_exact<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.ask(Method::GET, path, None, self.bounds.look).await?;
        self.json(answer, false).await
    }

    /// Asks for something to be done.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.change(Method::POST, path, body, true).await
    }

    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.change(Method::PUT, path, body, true).await
    }

    /// As [`Remote::get_exact`].
    pub async fn put_exact<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.change(Method::PUT, path, body, false).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.change(Method::DELETE, path, body, true).await
    }

    /// Gives it a package, as an archive.
    pub async fn post_package<T: DeserializeOwned>(&self, path: &str, packed: Bytes) -> Result<T> {
        let answer = self.ask(Method::POST, path, Some((PACKAGE, full(packed))), self.bounds.work).await?;
        self.json(answer, true).await
    }

    /// Gives it JSON that is already text.
    pub async fn post_text<T: DeserializeOwned>(&self, path: &str, json: Bytes) -> Result<T> {
        let answer = self.ask(Method::POST, path, Some((JSON, full(json))), self.bounds.work).await?;
        self.json(answer, true).await
    }

    /// Gives it a stream of any length, as fast as it takes it in. One that cannot be read to its end is broken off, which the
    /// server takes for no end.
    pub async fn put_stream<T: DeserializeOwned>(
        &self,
        path: &str,
        from: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<T> {
        let chunks = try_unfold(from, async |mut from| {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            let read = from.read_buf(&mut chunk).await?;
            Ok::<_, std::io::Error>((read > 0).then(|| (Frame::data(chunk.freeze()), from)))
        });
        let body = StreamBody::new(chunks).boxed_unsync();
        let answer = self.ask(Method::PUT, path, Some((STREAM, body)), self.bounds.work).await?;
        self.json(answer, true).await
    }

    /// A package at a path, of at most so many bytes.
    pub async fn package(&self, path: &str, most: u64) -> Result<Bytes> {
        let mut answer = self.ask(Method::GET, path, None, self.bounds.look).await?;
        self.must_be(&answer, PACKAGE)?;
        self.read(answer.response.body_mut(), most).await
    }

    /// A stream of any length at a path, written as it comes. How many bytes it was; an error where it has no end.
    pub async fn stream(&self, path: &str, mut to: impl AsyncWrite + Unpin) -> Result<u64> {
        let mut answer = self.ask(Method::GET, path, None, self.bounds.work).await?;
        self.must_be(&answer, STREAM)?;
        let mut written = 0;
        // What it reads is the guest's to say, within its deadline, and only then the server's.
        while let Some(chunk) = self.next(answer.response.body_mut(), self.bounds.work).await? {
            to.write_all(&chunk).await.map_err(RemoteError::Write)?;
            written += chunk.len() as u64;
        }
        to.shutdown().await.map_err(RemoteError::Write)?;
        Ok(written)
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        plain: bool,
    ) -> Result<T> {
        let bytes = serde_json::to_vec(body).map_err(|error| RemoteError::Write(error.into()))?;
        let answer = self.ask(method, path, Some((JSON, full(bytes.into()))), self.bounds.work).await?;
        self.json(answer, plain).await
    }

    /// Sends a request, and waits for the head of an answer that is no refusal.
    async fn ask(&self, method: Method, path: &str, body: Option<(&str, Sent)>, within: Duration) -> Result<Answer> {
        let unsendable = |_| self.answered("is asked for what no request can say");
        let (kind, body) = body.map_or((None, full(Bytes::new())), |(kind, body)| (Some(kind), body));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.path()))
            .header(HOST, self.url.authority())
            .header(ACCEPT, "*/*")
            .header(USER_AGENT, concat!("lodger/", env!("CARGO_PKG_VERSION")));
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let request = request.body(body).map_err(unsendable)?;
        let asked = timeout(within, self.exchange(request)).await.map_err(|_| self.too_slow())?;
        let (mut response, driver) = asked?;
        match response.status().as_u16() {
            200..=299 => Ok(Answer { response, _driver: driver }),
            300..=399 => Err(self.answered("answers that it is elsewhere, and no redirect is followed")),
            status => {
                let told = self.read(response.body_mut(), REFUSAL_MAX).await?;
                let refusal = RemoteRefusal::read(status, &told);
                Err(refusal.map_or_else(
                    || self.answered(&format!("answers {status}, and is no lodger")),
                    |refusal| RemoteError::Refused(Box::new(refusal)),
                ))
            }
        }
    }

    async fn exchange(&self, request: Request<Sent>) -> Result<(Response<Incoming>, Driver)> {
        let stream = self.connect().await?;
        let asked = if self.url.is_secure() {
            let until = Instant::now() + self.bounds.connect;
            let secured = self.outbound.secure(self.url.host(), stream, until).await;
            outbound::exchange(secured.map_err(|error| self.undialled(error))?, request).await
        } else {
            outbound::exchange(stream, request).await
        };
        asked.map_err(|error| self.broken(&error))
    }

    async fn connect(&self) -> Result<TcpStream> {
        let unreachable =
            |source: std::io::Error| RemoteError::Unreachable { server: self.url.to_string(), source: source.into() };
        let dialled = outbound::dial_for_operator(self.url.host(), self.url.port());
        let stream = self.within(self.bounds.connect, dialled).await?.map_err(unreachable)?;
        // Whoever answers for a name might be elsewhere after all.
        let peer = stream.peer_addr().map_err(unreachable)?;
        if !self.url.is_secure() && !peer.ip().to_canonical().is_loopback() {
            return Err(RemoteError::ClearText { server: self.url.to_string() });
        }
        Ok(stream)
    }

    async fn within<T>(&self, within: Duration, work: impl Future<Output = T>) -> Result<T> {
        timeout(within, work).await.map_err(|_| self.too_slow())
    }

    fn answered(&self, what: &str) -> RemoteError {
        RemoteError::Answer { server: self.url.to_string(), what: what.to_owned() }
    }

    fn too_slow(&self) -> RemoteError {
        RemoteError::TooSlow { server: self.url.to_string() }
    }

    fn undialled(&self, error: outbound::DialError) -> RemoteError {
        let server = self.url.to_string();
        match error {
            outbound::DialError::Certificate { source, .. } => RemoteError::Untrusted { server, source },
            outbound::DialError::Timeout { .. } => RemoteError::TooSlow { server },
            error => RemoteError::Unreachable { server, source: Box::new(error) },
        }
    }

    /// What is no HTTP, goes past its bounds, or breaks off.
    fn broken(&self, error: &hyper::Error) -> RemoteError {
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            why = format!("{why}: {source}");
            cause = source.source();
        }
        self.answered(&format!("broke off, or answers what is no HTTP: {}", shown(&why, 200)))
    }
}

fn full(bytes: Bytes) -> Sent {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A text as a part of a path or of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;

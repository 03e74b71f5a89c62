//! What a request brings: names in its path, questions after it, and its body, all within bounds.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream as _, StreamExt as _};
use lodger::{AddonId, Error, Id};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::problem::{Problem, Refusal};
use crate::shared::App;

pub const JSON: &str = "application/json";
/// What `lodger pack` writes.
pub const PACKAGE: &str = "application/vnd.lodger.package+gzip";
pub const STREAM: &str = "application/octet-stream";

/// Largest body of JSON, in bytes, and how long it may take to arrive.
const JSON_MAX: u64 = 1 << 20;
const JSON_WITHIN: Duration = Duration::from_secs(10);
/// How long a package may take to arrive, and how long nothing of it may.
const PACKAGE_WITHIN: Duration = Duration::from_secs(300);
const STALLED: Duration = Duration::from_secs(30);
/// Characters of an operation's id.
const OPERATION_ID: usize = 32;
/// How long a package may wait until others were taken in.
const UPLOAD_TURN: Duration = Duration::from_secs(30);

/// The addon that a path names.
pub struct OfAddon(pub AddonId);

/// The app that a path names.
pub struct OfApp(pub Id);

/// The service that a path names.
pub struct OfService(pub Id);

/// The id of an operation that a path names.
pub struct OfOperation(pub String);

/// What the query asks; keys that are not known are refused.
pub struct Asked<T>(pub T);

/// A JSON object; none is an empty one.
pub struct Json<T>(pub T);

/// A package, whole.
pub struct Archive(pub Bytes);

/// A body of any length, read as fast as it is used.
pub struct Streamed(pub BodyReader);

async fn names<S: Send + Sync>(parts: &mut Parts, state: &S, wanted: &[&str]) -> Result<Vec<Id>, Problem> {
    let bad = |text: &str| Problem::from(Error::InvalidId(text.to_owned()));
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| bad("not UTF-8"))?;
    let mut ids = Vec::new();
    for wanted in wanted {
        let text = params.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
        ids.push(text.parse().map_err(|_| bad(text))?);
    }
    Ok(ids)
}

async fn name<S: Send + Sync>(parts: &mut Parts, state: &S, wanted: &str) -> Result<Id, Problem> {
    let mut ids = names(parts, state, &[wanted]).await?;
    ids.pop().ok_or_else(|| Refusal::NoSuchRoute.into())
}

impl<S: Send + Sync> FromRequestParts<S> for OfAddon {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfAddon, Problem> {
        match <[Id; 2]>::try_from(names(parts, state, &["namespace", "name"]).await?) {
            Ok([namespace, name]) => Ok(OfAddon(AddonId { namespace, name })),
            Err(_) => Err(Refusal::NoSuchRoute.into()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfApp {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfApp, Problem> {
        name(parts, state, "app").await.map(OfApp)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfService {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfService, Problem> {
        name(parts, state, "service").await.map(OfService)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfOperation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfOperation, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let id = params.as_ref().and_then(|params| params.iter().find(|(name, _)| *name == "operation"));
        let id = id.map(|(_, id)| id.to_owned()).unwrap_or_default();
        let is_one = id.len() == OPERATION_ID && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_one { Ok(OfOperation(id)) } else { Err(Error::UnknownOperation(id).into()) }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked<T>, Problem> {
        let asked = Query::try_from_uri(&parts.uri);
        asked.map(|Query(asked)| Asked(asked)).map_err(|error| {
            let detail = lodger::text::shown(&error.to_string(), 300);
            Problem::new("invalid-query", 422, detail, None)
        })
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Json<T>, Problem> {
        is_of(request.headers(), JSON)?;
        let body = read(request, JSON_MAX, JSON_WITHIN).await?;
        let body = if body.iter().all(u8::is_ascii_whitespace) { Bytes::from_static(b"{}") } else { body };
        // Of an array serde would make an object, too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            serde_json::from_slice::<IgnoredAny>(&body).map_err(|error| Problem::of_body(&error))?;
            return Err(Problem::new("invalid-body", 422, "the body is no JSON object".to_owned(), None));
        }
        serde_json::from_slice(&body).map(Json).map_err(|error| Problem::of_body(&error))
    }
}

impl FromRequest<App> for Archive {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Archive, Problem> {
        is_of(request.headers(), PACKAGE)?;
        let turn = timeout(UPLOAD_TURN, app.uploads.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(Refusal::UploadsBusy)?;
        let most = app.host.policy().package.bytes;
        Ok(Archive(read(request, most, PACKAGE_WITHIN).await?))
    }
}

impl FromRequest<App> for Streamed {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Streamed, Problem> {
        is_of(request.headers(), STREAM)?;
        Ok(Streamed(BodyReader { body: request.into_body().into_data_stream(), here: Bytes::new() }))
    }
}

/// A body that was read already.
#[derive(Clone)]
struct Whole(Bytes);

/// Reads the body of a request that is to be looked at before its handler takes it, which finds it as it was.
pub async fn whole(app: &App, request: Request) -> Result<(Request, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let body = Request::from_parts(parts.clone(), body);
    let bytes = match given(&parts.headers) {
        Given::Package => Archive::from_request(body, app).await?.0,
        Given::Json => read_json(body).await?,
        Given::Other => Bytes::new(),
    };
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(Whole(bytes.clone()));
    Ok((request, bytes))
}

/// No form can send any of these types without asking first, which is refused.
fn is_of(headers: &HeaderMap, wanted: &'static str) -> Result<(), Refusal> {
    let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(Refusal::MediaType(wanted)) }
}

/// What a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Json,
    Package,
    Other,
}

pub fn given(headers: &HeaderMap) -> Given {
    match (is_of(headers, JSON), is_of(headers, PACKAGE)) {
        (Ok(()), _) => Given::Json,
        (_, Ok(())) => Given::Package,
        _ => Given::Other,
    }
}

pub async fn read_json(request: Request) -> Result<Bytes, Refusal> {
    read(request, JSON_MAX, JSON_WITHIN).await
}

async fn read(request: Request, most: u64, within: Duration) -> Result<Bytes, Refusal> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(Refusal::TooLarge);
    }
    if let Some(Whole(bytes)) = request.extensions().get() {
        return Ok(bytes.clone());
    }
    let until = Instant::now() + within;
    let mut body = request.into_body().into_data_stream();
    let mut read = BytesMut::new();
    loop {
        let stalled = (Instant::now() + STALLED).min(until);
        match timeout_at(stalled, body.next()).await {
            Err(_) => return Err(Refusal::TooSlow),
            Ok(Some(Err(_))) => return Err(Refusal::BrokenBody),
            Ok(None) => return Ok(read.freeze()),
            Ok(Some(Ok(chunk))) => {
                if (read.len() + chunk.len()) as u64 > most {
                    return Err(Refusal::TooLarge);
                }
                read.extend_from_slice(&chunk);
            }
        }
    }
}

/// Reads a body. One that breaks off is an error, never an end.
pub struct BodyReader {
    body: BodyDataStream,
    here: Bytes,
}

impl AsyncRead for BodyReader {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.here.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(_)) => {
                    let broken = io::Error::new(io::ErrorKind::UnexpectedEof, "the request's body broke off");
                    return Poll::Ready(Err(broken));
                }
                Some(Ok(chunk)) => self.here = chunk,
            }
        }
        let length = self.here.len().min(to.remaining());
        to.put_slice(self.here.get(..length).unwrap_or_default());
        self.here.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Nothing but a body.
pub fn plain(kind: &'static str, body: impl Into<Body>) -> axum::response::Response {
    axum::response::IntoResponse::into_response(([(CONTENT_TYPE, kind)], body.into()))
}

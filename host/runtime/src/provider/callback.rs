//! Where a provider under test calls back when it has done what it took its time for: on this machine, for one test.
//!
//! Taken are kensa's one `PUT` with the answer, and Heroku's `PATCH …/config` followed by `POST …/actions/provision`. Whoever
//! finds the port must know the path, too.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::ProviderError;

/// Most variables that one resource is told of.
const CONFIG_MAX: usize = 1024;
/// Largest request, in bytes; most connections at a time; and how long one may take.
const BODY_MAX: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 8;
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// What a provider has told so far.
#[derive(Clone, Debug, Default)]
pub struct CalledBack {
    pub config: BTreeMap<String, Value>,
    /// That it is done, and whether it has worked out.
    pub ended: Option<bool>,
    /// What was not understood.
    pub wrong: Option<String>,
}

/// Listens until it is dropped.
pub struct Callbacks {
    root: String,
    tell: Told,
    told: watch::Receiver<BTreeMap<String, CalledBack>>,
    _listening: JoinSet<()>,
}

type Told = Arc<Mutex<watch::Sender<BTreeMap<String, CalledBack>>>>;

impl Callbacks {
    /// Listens on a port of the loopback that is free.
    pub async fn listen() -> Result<Callbacks, ProviderError> {
        #[expect(clippy::disallowed_methods, reason = "the owner of listening for a provider under test")]
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ProviderError::Listen)?;
        let port = listener.local_addr().map_err(ProviderError::Listen)?.port();
        let (tell, told) = watch::channel(BTreeMap::new());
        let tell = Arc::new(Mutex::new(tell));
        let mut listening = JoinSet::new();
        let theirs = tell.clone();
        listening.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                while clients.len() >= CONNECTIONS_MAX {
                    clients.join_next().await;
                }
                let Ok((stream, _)) = listener.accept().await else { continue };
                let tell = theirs.clone();
                clients.spawn(async move {
                    let service = service_fn(move |request| take(tell.clone(), request));
                    let mut server = http1::Builder::new();
                    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
                    // Who breaks off has told nothing.
                    let _ = timeout(2 * HEAD_WITHIN, server.serve_connection(TokioIo::new(stream), service)).await;
                });
            }
        });
        Ok(Callbacks { root: format!("http://127.0.0.1:{port}/callback"), tell, told, _listening: listening })
    }

    /// The URL for a resource with this uuid: from now on it is listened for.
    pub fn url(&self, uuid: &str) -> String {
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        tell.send_modify(|told| {
            told.entry(uuid.to_owned()).or_default();
        });
        format!("{}/{uuid}", self.root)
    }

    /// What was told of a resource once it is done, or by the end of this time.
    pub async fn wait(&mut self, uuid: &str, within: Duration) -> CalledBack {
        let of = |told: &BTreeMap<String, CalledBack>| told.get(uuid).cloned().unwrap_or_default();
        let ended = self.told.wait_for(|told| of(told).ended.is_some());
        let _ = timeout(within, ended).await.map(|_| ());
        of(&self.told.borrow())
    }
}

async fn take(tell: Told, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let Some((uuid, what)) = path.strip_prefix("/callback/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        return Ok(answer(StatusCode::NOT_FOUND));
    };
    let is_put = request.method() == "PUT";
    let Ok(body) = Limited::new(request.into_body(), BODY_MAX).collect().await else {
        return Ok(answer(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let body = body.to_bytes();
    let tell = tell.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = tell.send_if_modified(|told| {
        let Some(told) = told.get_mut(uuid) else { return false };
        told.take(what, is_put, &body);
        true
    });
    Ok(answer(if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND }))
}

impl CalledBack {
    /// That the resource is there now, after it was waited for so long.
    ///
    /// # Errors
    /// What came instead, in words.
    pub fn done(&self, within: Duration) -> Result<(), String> {
        match (self.ended, &self.wrong) {
            (_, Some(wrong)) => Err(format!("it called back with what is not understood: {wrong}")),
            (Some(true), None) => Ok(()),
            (Some(false), None) => Err("it called back that it has given up".to_owned()),
            (None, None) => Err(format!("nobody has called back within {} seconds", within.as_secs())),
        }
    }

    fn take(&mut self, what: &str, is_put: bool, body: &[u8]) {
        match (what, config(body)) {
            ("actions/provision", _) => self.ended = Some(true),
            ("actions/deprovision", _) => self.ended = Some(false),
            (_, Ok(config)) if self.config.len() + config.len() <= CONFIG_MAX => {
                self.config.extend(config);
                if is_put {
                    self.ended = Some(true);
                }
            }
            (_, told) => {
                self.wrong = Some(told.err().unwrap_or("there are too many variables").to_owned());
                self.ended = Some(false);
            }
        }
    }
}

/// An object as a provision answers it, or Heroku's list of names and values.
fn config(body: &[u8]) -> Result<BTreeMap<String, Value>, &'static str> {
    let value: Value = serde_json::from_slice(body).map_err(|_| "it is no JSON")?;
    match value.get("config") {
        None | Some(Value::Null) if value.is_object() => Ok(BTreeMap::new()),
        Some(Value::Object(config)) => Ok(config.clone().into_iter().collect()),
        Some(Value::Array(config)) => {
            let pair = |pair: &Value| Some((pair.get("name")?.as_str()?.to_owned(), pair.get("value")?.clone()));
            config.iter().map(pair).collect::<Option<_>>().ok_or("its config is no list of names and values")
        }
        _ => Err("its config is neither an object nor a list"),
    }
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

//! The connection to an engine: where it is, the version of its API, how long a request may take.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion};
use bytes::Bytes;
use futures_util::Stream;
use hyper::Uri;
use hyper::header::HeaderValue;
use tokio::time::timeout;

use super::tls::Tls;
use super::{SUBJECT_MAX, answer, spec};
use crate::crash;
use crate::engine::{Failure, Fault, Result};
pub use crate::policy::Address;
use crate::text::shown;

/// For an answer to a question: after that an engine counts as away.
const QUERY: Duration = Duration::from_secs(30);
/// Bollard's own bound, on the first word of an answer: past all of ours.
const BOLLARD_SECONDS: u64 = 24 * 60 * 60;

/// A Docker engine.
pub struct Docker {
    name: String,
    at: Address,
    /// Set once a version was agreed on, and forgotten when the engine goes away: it may come back as another.
    agreed: Arc<Mutex<Option<bollard::Docker>>>,
}

impl Docker {
    /// `name` is what the policy calls the engine. It is not asked anything yet; the files for TLS are read.
    pub fn connect(name: &str, at: &Address) -> Result<Docker> {
        let docker = Docker { name: name.to_owned(), at: at.clone(), agreed: Arc::default() };
        if let Address::Tls { address, .. } = at {
            docker.open("connect to", &shown(address, SUBJECT_MAX))?;
        }
        Ok(docker)
    }

    pub(super) fn address(&self) -> String {
        match &self.at {
            Address::Socket(path) => path.display().to_string(),
            Address::Tls { address, .. } => address.clone(),
        }
    }

    /// Asks nothing. The files for TLS are read anew each time, since certificates are replaced.
    fn open(&self, action: &'static str, subject: &str) -> Result<bollard::Docker> {
        let unproven = |why: String| self.failure(action, subject, Fault::Untrusted, shown(&why, answer::MESSAGE_MAX));
        let opened = match &self.at {
            Address::Socket(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), BOLLARD_SECONDS, API_DEFAULT_VERSION)
            }
            Address::Tls { address, key, certificate, authority } => {
                let tls = Arc::new(Tls::read(address, key, certificate, authority).map_err(unproven)?);
                let url = tls.url();
                let send = move |request| {
                    let tls = Arc::clone(&tls);
                    async move { tls.send(request).await }
                };
                bollard::Docker::connect_with_custom_transport(send, Some(url), BOLLARD_SECONDS, API_DEFAULT_VERSION)
            }
        };
        opened.map_err(|error| {
            let (fault, message) = answer::fault(&error, &self.address());
            self.failure(action, subject, fault, message)
        })
    }

    /// A request about something with a name.
    pub(super) async fn named(&self, action: &'static str, subject: &str) -> Result<Asking> {
        if !spec::is_name(subject) {
            return Err(self.failure(action, subject, Fault::Refused, "that is not a name or id".to_owned()));
        }
        self.asking(action, subject).await
    }

    /// A request about an image.
    pub(super) async fn about_image(&self, action: &'static str, image: &str) -> Result<Asking> {
        if !spec::is_image(image) {
            return Err(self.failure(action, image, Fault::Refused, "that is not an image".to_owned()));
        }
        self.asking(action, image).await
    }

    fn failure(&self, action: &'static str, subject: &str, fault: Fault, message: String) -> Failure {
        Failure { engine: self.name.clone(), action, subject: shown(subject, SUBJECT_MAX), fault, message }
    }

    /// Agrees on a version with the engine, unless that was done: bollard's newest, or the engine's if that is older.
    ///
    /// Bollard makes every request without a version, whatever it negotiates. `/version` is answered that way by every
    /// engine; all other requests are put into the version agreed on, so that an engine that was updated goes on to
    /// understand them as they were meant.
    pub(super) async fn asking(&self, action: &'static str, subject: &str) -> Result<Asking> {
        let known = self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fail = |error: Error| {
            let (fault, message) = answer::fault(&error, &self.address());
            self.failure(action, subject, fault, message)
        };
        let client = match known {
            Some(client) => client,
            None => {
                let client = self.open(action, subject)?;
                let agreed = match timeout(QUERY, client.negotiate_version()).await {
                    Ok(client) => client.map_err(fail)?,
                    Err(_) => {
                        let message = format!("{} did not answer in {} s", self.address(), QUERY.as_secs());
                        return Err(self.failure(action, subject, Fault::Unreachable, message));
                    }
                };
                let version = agreed.client_version();
                let client = agreed
                    .with_request_modifier(move |request| with_version(with_readable_credentials(request), &version));
                *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
                client
            }
        };
        Ok(Asking {
            client,
            agreed: Arc::clone(&self.agreed),
            engine: self.name.clone(),
            at: self.address(),
            action,
            subject: shown(subject, SUBJECT_MAX),
        })
    }
}

/// Docker reads the header in the alphabet for URLs, and bollard writes it in the other.
fn with_readable_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let readable = value.to_str().ok().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(readable) = readable.and_then(|text| HeaderValue::from_str(&text).ok()) {
            *value = readable;
            value.set_sensitive(true);
        }
    }
    request
}

fn with_version(request: BollardRequest, version: &ClientVersion) -> BollardRequest {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let versioned = format!("/v{version}{path}");
    with_path(request, &versioned)
}

fn with_path(mut request: BollardRequest, path: &str) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    if let Ok(path) = path.parse() {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// What is done, about what, and the engine to ask.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) client: bollard::Docker,
    agreed: Arc<Mutex<Option<bollard::Docker>>>,
    engine: String,
    at: String,
    action: &'static str,
    subject: String,
}

impl Asking {
    /// A question.
    pub(super) async fn ask<T>(&self, request: impl Future<Output = std::result::Result<T, Error>>) -> Result<T> {
        let answer = timeout(QUERY, request).await;
        crash::point("engine", self.action);
        match answer {
            Ok(answer) => answer.map_err(|error| self.failed(&error)),
            Err(_) => {
                self.forget();
                Err(self.failure(Fault::Unreachable, format!("{} did not answer in {} s", self.at, QUERY.as_secs())))
            }
        }
    }

    /// Something to do.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = std::result::Result<T, Error>>,
    ) -> Result<T> {
        crash::point("engine", self.action);
        let done = timeout(limit, request).await;
        crash::point("engine", self.action);
        match done {
            Ok(done) => done.map_err(|error| self.failed(&error)),
            Err(_) => Err(self.failure(Fault::TimedOut, format!("it took longer than {} s", limit.as_secs()))),
        }
    }

    /// A question that bollard has no reader for: put in the place of one whose answer it hands over as it comes.
    pub(super) fn raw(&self, path: &str) -> impl Stream<Item = std::result::Result<Bytes, Error>> + use<> {
        let path = format!("/v{}{path}", self.client.client_version());
        let client = self.client.clone().with_request_modifier(move |request| with_path(request, &path));
        client.export_container("")
    }

    pub(super) fn failed(&self, error: &Error) -> Failure {
        let (fault, message) = answer::fault(error, &self.at);
        if fault.is_silence() {
            self.forget();
        }
        self.failure(fault, message)
    }

    pub(super) fn failure(&self, fault: Fault, message: String) -> Failure {
        Failure { engine: self.engine.clone(), action: self.action, subject: self.subject.clone(), fault, message }
    }

    pub(super) fn refused(&self, message: String) -> Failure {
        self.failure(Fault::Refused, message)
    }

    /// What comes back may speak another version.
    fn forget(&self) {
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

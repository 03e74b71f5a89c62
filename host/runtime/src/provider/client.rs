//! Speaks to a provider as a platform does. What it answers is hostile: its head, size and time are bounded, no redirect is
//! followed, and credentials go nowhere but to this machine or over TLS.

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE,
    USER_AGENT,
};
use hyper::{Method, Request, Response};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::answer::{Deprovisioned, ProviderAnswer, ProviderChange, ProviderId, ProviderResource};
use super::ask::{Ask, Credentials, Sent};
use super::error::ProviderError;
use super::request::{PlanChange, Provision};
use super::url::ProviderUrl;
use super::{At, Dialect, ProviderManifest, sso};
use crate::client::ServerUrl;
use crate::outbound::{self, Destination, DialError, Outbound};
use crate::text::shown;

/// Largest answer, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// Most cookies that are taken from an answer.
const COOKIES_MAX: usize = 32;
/// What Heroku says that it understands.
const HEROKU_V3: &str = "application/vnd.heroku-addons+json; version=3";
const JSON: &str = "application/json";

/// Longest that a platform waits for a whole answer: Heroku's own limit.
pub const PROVIDER_DEADLINE: Duration = Duration::from_secs(25);

type Result<T, E = ProviderError> = std::result::Result<T, E>;

/// How a provider is reached.
enum Reach {
    /// The one who tests it names it: on this machine, unless they say that it may be elsewhere.
    Operator { may_be_elsewhere: bool },
    /// An addon's, within its grant.
    Granted { outbound: Arc<Outbound>, network: Vec<Destination> },
}

/// A provider, and what proves to it that a platform asks. Each request has a connection of its own.
pub struct ProviderClient {
    dialect: Dialect,
    base: ProviderUrl,
    own: HeaderValue,
    reach: Reach,
    /// Of TLS, for what is not granted.
    outbound: Outbound,
    within: Duration,
    /// What is never shown.
    secrets: Vec<String>,
}

impl ProviderClient {
    /// For whoever tests the provider.
    ///
    /// # Errors
    /// An address that no request can be sent to, or credentials that none can carry.
    pub fn new(
        manifest: &ProviderManifest,
        at: &At,
        may_be_elsewhere: bool,
        within: Duration,
    ) -> Result<ProviderClient> {
        ProviderClient::reaching(manifest, at, Reach::Operator { may_be_elsewhere }, within)
    }

    /// For an addon, which reaches what it is granted.
    ///
    /// # Errors
    /// As for [`ProviderClient::new`].
    pub(crate) fn granted(
        manifest: &ProviderManifest,
        at: &At,
        outbound: Arc<Outbound>,
        network: Vec<Destination>,
        within: Duration,
    ) -> Result<ProviderClient> {
        ProviderClient::reaching(manifest, at, Reach::Granted { outbound, network }, within)
    }

    fn reaching(manifest: &ProviderManifest, at: &At, reach: Reach, within: Duration) -> Result<ProviderClient> {
        Ok(ProviderClient {
            dialect: manifest.dialect,
            base: ProviderUrl::parse("base_url", &at.base_url)?,
            own: basic(&manifest.username, &manifest.password)?,
            reach,
            outbound: Outbound::new(Vec::new()),
            within,
            secrets: vec![manifest.password.clone(), manifest.sso_salt.clone()],
        })
    }

    /// Where resources are made.
    pub fn base(&self) -> &ProviderUrl {
        &self.base
    }

    /// Where a resource is, or something of it.
    pub fn at(&self, id: &ProviderId, what: &str) -> ProviderUrl {
        let slash = if what.is_empty() { "" } else { "/" };
        self.base.below(&format!("/{}{slash}{what}", id.segment()))
    }

    pub async fn provision(&self, wanted: &Provision) -> Result<ProviderResource> {
        self.ask(Ask::new("POST", self.base.clone()).json(wanted.body(self.dialect))).await?.resource()
    }

    pub async fn change_plan(&self, id: &ProviderId, wanted: &PlanChange) -> Result<ProviderChange> {
        self.ask(Ask::new("PUT", self.at(id, "")).json(wanted.body(self.dialect))).await?.change()
    }

    pub async fn deprovision(&self, id: &ProviderId) -> Result<Deprovisioned> {
        let answer = self.ask(Ask::new("DELETE", self.at(id, ""))).await?;
        // kensa has always taken any of them, and so there are such providers.
        if self.dialect == Dialect::Heroku && matches!(answer.status, 200 | 201) {
            return Ok(Deprovisioned::Done);
        }
        answer.gone()
    }

    /// Only Scalingo asks for it, as for [`ProviderClient::resume`] and [`ProviderClient::usage`]; a provider that has none
    /// answers 404.
    pub async fn suspend(&self, id: &ProviderId) -> Result<()> {
        self.ask(Ask::new("POST", self.at(id, "suspend")).json(serde_json::json!({}))).await?.done()
    }

    pub async fn resume(&self, id: &ProviderId) -> Result<()> {
        self.ask(Ask::new("POST", self.at(id, "resume")).json(serde_json::json!({}))).await?.done()
    }

    /// What was used between two times, as a JSON object of the provider's own making.
    pub async fn usage(&self, id: &ProviderId, from: i64, to: i64) -> Result<Value> {
        self.ask(Ask::new("GET", self.usage_at(id, from, to))).await?.object()
    }

    /// Where that is; both are seconds since 1970.
    pub fn usage_at(&self, id: &ProviderId, from: i64, to: i64) -> ProviderUrl {
        let (from, to) = (super::request::utc(from), super::request::utc(to));
        let query = sso::form(&[("from".to_owned(), from), ("to".to_owned(), to)]);
        self.at(id, "usage").asking(query)
    }

    /// Any request, whatever is answered.
    ///
    /// # Errors
    /// There is no whole answer within the bounds and the time.
    pub async fn ask(&self, ask: Ask) -> Result<ProviderAnswer> {
        let url = ask.url.clone();
        let until = Instant::now() + self.within;
        self.timely(&url, until, self.answered(ask, until)).await?
    }

    async fn answered(&self, ask: Ask, until: Instant) -> Result<ProviderAnswer> {
        let url = ask.url.clone();
        let request = self.request(ask)?;
        let stream = self.connect(url.server(), until).await?;
        if !url.server().is_secure() {
            return self.exchange(&url, stream, request).await;
        }
        let outbound = match &self.reach {
            Reach::Operator { .. } => &self.outbound,
            Reach::Granted { outbound, .. } => outbound,
        };
        let secured = outbound.secure(url.server().host(), stream, until).await;
        self.exchange(&url, secured.map_err(|error| self.undialled(url.server(), error))?, request).await
    }

    fn request(&self, ask: Ask) -> Result<Request<Full<Bytes>>> {
        let unsendable = |what: &str| ProviderError::Broken { to: ask.url.to_string(), what: what.to_owned() };
        let method = Method::from_str(ask.method).map_err(|_| unsendable("is asked by no method"))?;
        let accept = match self.dialect {
            _ if ask.page => "text/html, */*",
            Dialect::Scalingo => JSON,
            Dialect::Heroku => HEROKU_V3,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(ask.url.path_and_query())
            .header(HOST, ask.url.server().authority())
            .header(ACCEPT, accept)
            .header(USER_AGENT, concat!("lodger/", env!("CARGO_PKG_VERSION")));
        request = match &ask.credentials {
            Credentials::Own => request.header(AUTHORIZATION, self.own.clone()),
            Credentials::Of { username, password } => request.header(AUTHORIZATION, basic(username, password)?),
            Credentials::Nobody => request,
        };
        if !ask.cookies.is_empty() {
            request = request.header(COOKIE, ask.cookies.join("; "));
        }
        let (kind, body) = match &ask.sent {
            Sent::Nothing => (None, Bytes::new()),
            Sent::Null => (None, Bytes::from_static(b"null")),
            Sent::Json(value) => (Some(JSON), value.to_string().into()),
            Sent::Form(fields) => (Some("application/x-www-form-urlencoded"), sso::form(fields).into()),
        };
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        request.body(Full::new(body)).map_err(|_| unsendable("is asked for what no request can say"))
    }

    async fn connect(&self, to: &ServerUrl, until: Instant) -> Result<TcpStream> {
        let undialled = |error| self.undialled(to, error);
        match &self.reach {
            Reach::Operator { may_be_elsewhere } if !may_be_elsewhere || !to.is_secure() => {
                match outbound::dial_this_machine(to.host(), to.port(), until).await {
                    Err(DialError::NotThisMachine { .. }) if *may_be_elsewhere => {
                        Err(ProviderError::ClearText { to: to.to_string() })
                    }
                    dialled => dialled.map_err(undialled),
                }
            }
            Reach::Operator { .. } => {
                let unreachable =
                    |source: std::io::Error| ProviderError::Unreachable { to: to.to_string(), source: source.into() };
                outbound::dial_for_operator(to.host(), to.port()).await.map_err(unreachable)
            }
            Reach::Granted { outbound, network } => {
                let wanted = Destination::new(to.host(), to.port()).ok();
                let not_granted = || ProviderError::NotGranted { to: format!("{}:{}", to.host(), to.port()) };
                let wanted = wanted.filter(|wanted| network.contains(wanted)).ok_or_else(not_granted)?;
                let stream = outbound.connect(&wanted, until, ()).await.map_err(undialled)?;
                let is_here = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
                if !to.is_secure() && !is_here {
                    return Err(ProviderError::ClearText { to: to.to_string() });
                }
                Ok(stream)
            }
        }
    }

    async fn exchange<S>(&self, url: &ProviderUrl, stream: S, request: Request<Full<Bytes>>) -> Result<ProviderAnswer>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut response, _driver) = outbound::exchange(stream, request).await.map_err(|error| broken(url, &error))?;
        let text = |name: HeaderName| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let cookie = |value: &HeaderValue| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            value.split(';').next().unwrap_or_default().trim().to_owned()
        };
        let mut answer = ProviderAnswer {
            status: response.status().as_u16(),
            content_type: text(CONTENT_TYPE).unwrap_or_default(),
            location: text(LOCATION),
            retry_after: text(RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok()),
            cookies: response.headers().get_all(SET_COOKIE).iter().take(COOKIES_MAX).map(cookie).collect(),
            body: Bytes::new(),
            secrets: self.secrets.clone(),
        };
        answer.body = read(url, &mut response).await?;
        Ok(answer)
    }

    async fn timely<T>(&self, url: &ProviderUrl, until: Instant, work: impl Future<Output = T>) -> Result<T> {
        let seconds = self.within.as_secs();
        timeout_at(until, work).await.map_err(|_| ProviderError::TooSlow { to: url.server().to_string(), seconds })
    }

    fn undialled(&self, to: &ServerUrl, error: DialError) -> ProviderError {
        let to = to.to_string();
        match error {
            DialError::NotThisMachine { .. } => ProviderError::NotThisMachine { to },
            DialError::Certificate { source, .. } => ProviderError::Untrusted { to, source },
            // One that is not connected to in time included: nothing was asked of it.
            error => ProviderError::Unreachable { to, source: Box::new(error) },
        }
    }
}

async fn read(url: &ProviderUrl, response: &mut Response<Incoming>) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| broken(url, &error))?;
        // Trailers say nothing that is asked for.
        let Ok(part) = frame.into_data() else { continue };
        if whole.len() + part.len() > ANSWER_MAX {
            let what = format!("answers with more than {ANSWER_MAX} bytes");
            return Err(ProviderError::Broken { to: url.to_string(), what });
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

fn broken(url: &ProviderUrl, error: &hyper::Error) -> ProviderError {
    let mut why = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        why = format!("{why}: {source}");
        cause = source.source();
    }
    let what = format!("broke off, or answers what is no HTTP: {}", shown(&why, 200));
    ProviderError::Broken { to: url.to_string(), what }
}

/// The header of Basic auth, which is never shown.
pub(super) fn basic(username: &str, password: &str) -> Result<HeaderValue> {
    if username.contains(':') || username.chars().any(char::is_control) {
        return Err(ProviderError::Credentials("username"));
    }
    if password.chars().any(char::is_control) {
        return Err(ProviderError::Credentials("password"));
    }
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))));
    let mut value = value.map_err(|_| ProviderError::Credentials("password"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;

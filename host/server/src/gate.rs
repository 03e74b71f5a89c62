//! Who may ask: where a request comes from, whose token it has, and what that token is for.
//!
//! A page in a browser is kept out three times over (threat 26): the name it uses for this server must be one of its own,
//! pages of other origins are refused, and what changes something needs a content type that no form can send. Tokens come in
//! the `Authorization` header and from nowhere else.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::RequestExt as _;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use ipnet::IpNet;
use lodger::{Id, ProgressSink, Scope, Token};

use crate::clients::Counted;
use crate::problem::{Problem, Refusal};
use crate::shared::App;
use crate::{Config, oakestra, providers};

/// Requests that one client may have under way.
const REQUESTS_OF_CLIENT: usize = 32;
/// Those among them that may go on after the head of their answer: streams of events, and what is answered at once.
const LASTING_OF_CLIENT: usize = 24;
/// Longest token looked at.
const TOKEN_MAX: usize = 200;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which names and peers a server has.
pub struct Gate {
    names: Vec<String>,
    proxies: Vec<IpNet>,
    origins: Vec<Origin>,
    /// Oakestra's clients need no token.
    is_open: bool,
}

/// Where a page is from, as browsers tell it: scheme, host, and the port where it is not the scheme's own.
#[derive(Clone, Debug)]
pub struct Origin(pub(crate) HeaderValue);

#[derive(Debug, thiserror::Error)]
#[error("no origin: a scheme and a host in lower case, as in https://board.example or http://localhost:8080")]
pub struct NoOrigin;

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Origin, NoOrigin> {
        let uri: Uri = text.parse().map_err(|_| NoOrigin)?;
        // Compared letter by letter with what a browser sends.
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or(NoOrigin)?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(NoOrigin)?;
        let port = uri.port_u16();
        let is_default = port.is_some_and(|port| port == if scheme == "https" { 443 } else { 80 });
        let is_same = format!("{scheme}://{authority}") == text && text.to_ascii_lowercase() == text;
        if !is_same || is_default || authority.as_str().ends_with(':') {
            return Err(NoOrigin);
        }
        HeaderValue::from_str(text).map(Origin).map_err(|_| NoOrigin)
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Who asks, with a token that was proved.
#[derive(Clone)]
pub struct Caller {
    pub token: Arc<Token>,
    /// No token was asked for.
    pub is_anybody: bool,
    /// Told how far it has come what is asked, where that is an operation.
    pub progress: Option<ProgressSink>,
}

/// One of the requests that its client may have under way, for as long as it is held.
#[derive(Clone)]
pub struct Place {
    /// Who the request is of: the peer, or whom a proxy asks for.
    client: IpAddr,
    _counted: Arc<Counted<IpAddr>>,
}

/// One of those that last beyond the head of their answer.
pub struct Lasting {
    _place: Place,
    _counted: Counted<IpAddr>,
}

impl Place {
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Holds it for as long as an operation or a stream takes. Some are left for requests that do not last.
    pub fn lasting(&self, app: &App) -> Result<Lasting, Refusal> {
        let counted = app.clients.lasting(self.client, LASTING_OF_CLIENT).ok_or(Refusal::TooManyRequests)?;
        Ok(Lasting { _place: self.clone(), _counted: counted })
    }
}

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Place, Refusal> {
        parts.extensions.get::<Place>().cloned().ok_or(Refusal::Lost)
    }
}

impl Caller {
    /// On a listener that is open for Oakestra's clients.
    fn anybody() -> Caller {
        let token = Token { id: "none".to_owned(), name: None, scopes: Vec::new(), created_at: 0, expires: None };
        let token = Arc::new(token);
        Caller { token, is_anybody: true, progress: None }
    }

    /// For the record of calls.
    pub fn actor(&self) -> String {
        format!("token {}", self.token.id)
    }

    /// Whether it may publish addons of this namespace.
    pub fn publishes(&self, namespace: &Id) -> bool {
        self.is_anybody || self.manages() || self.has(&Scope::Publish(namespace.clone()))
    }

    /// Whether it may see what is shown to nobody else.
    pub fn manages(&self) -> bool {
        self.has(&Scope::Manage)
    }

    /// Whose operations it sees: its own. `None`: everybody's.
    pub fn sees_only(&self) -> Option<String> {
        let all = self.has(&Scope::Read) || self.manages();
        (!all).then(|| self.actor())
    }

    fn is_of_an_app(&self) -> bool {
        self.token.scopes.iter().any(|scope| matches!(scope, Scope::App(_)))
    }

    fn has(&self, scope: &Scope) -> bool {
        self.token.scopes.contains(scope)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Refusal> {
        parts.extensions.get::<Caller>().cloned().ok_or(Refusal::NoToken)
    }
}

impl Gate {
    pub fn new(address: SocketAddr, config: &Config) -> Gate {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        names.push(match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        names.extend(config.hosts.iter().map(|name| name.to_ascii_lowercase()));
        let Config { behind_proxy, origins, open_oakestra, .. } = config;
        Gate { names, proxies: behind_proxy.clone(), origins: origins.clone(), is_open: *open_oakestra }
    }

    /// Whose pages may ask, besides its own.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Whether it is a proxy that tokens may pass through.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Whoever is neither on this machine nor such a proxy would send a token in clear text.
    pub fn admits(&self, peer: IpAddr) -> bool {
        peer.to_canonical().is_loopback() || self.is_proxy(peer)
    }

    /// Only a proxy says for whom it asks: the last that is not a proxy itself.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy(peer) {
            return peer;
        }
        let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
        let named: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut client = peer;
        for address in named.iter().rev() {
            let Ok(address) = address.parse::<IpAddr>() else { break };
            client = address;
            if !self.is_proxy(address) {
                break;
            }
        }
        client
    }

    fn is_name(&self, authority: &Authority) -> bool {
        let host = authority.host().to_ascii_lowercase();
        self.names.contains(&host) && !authority.as_str().contains('@')
    }

    /// By every name that the request has for this server.
    fn is_for_us(&self, request: &Request) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts.next().and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let one = hosts.next().is_none() && host.as_ref().is_some_and(|host| self.is_name(host));
        one && request.uri().authority().is_none_or(|authority| self.is_name(authority))
    }

    /// Without an `Origin`, with that of the name the request itself is for, or with one that was named.
    fn admits_page(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        if origins.next().is_some() {
            return false;
        }
        let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        let schemes = [&b"https://"[..], b"http://"];
        let of = schemes.into_iter().find_map(|scheme| origin.as_bytes().strip_prefix(scheme));
        let is_own = of.is_some_and(|origin| !host.is_empty() && origin.eq_ignore_ascii_case(host));
        is_own || self.origins.iter().any(|named| named.0 == origin)
    }
}

/// Before anything else, for whoever asks.
pub fn local(app: &App, request: &Request) -> Result<Place, Refusal> {
    let Peer(peer) = request.extensions().get::<Peer>().copied().ok_or(Refusal::Lost)?;
    let client = app.gate.client(peer, request.headers());
    if !app.gate.is_for_us(request) {
        return Err(Refusal::OtherHost);
    }
    // Whoever is sent by a platform comes from its page, and proves that.
    let signs_on = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == providers::SIGN_ON);
    if !signs_on && !app.gate.admits_page(request.headers()) {
        return Err(Refusal::OtherOrigin);
    }
    let counted = app.clients.request(client, REQUESTS_OF_CLIENT).ok_or(Refusal::TooManyRequests)?;
    Ok(Place { client, _counted: Arc::new(counted) })
}

/// Only with a token whose scopes include what is asked.
pub async fn admit(app: &App, request: &mut Request) -> Result<Caller, Problem> {
    let client = request.extensions().get::<Place>().ok_or(Refusal::Lost)?.client;
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map(MatchedPath::as_str);
    let is_open = app.gate.is_open && route.is_some_and(|route| route.starts_with(oakestra::PREFIX));
    if is_open && !request.headers().contains_key(AUTHORIZATION) {
        return Ok(Caller::anybody());
    }
    let needed = needed(request.method(), route);
    let caller = proved(app, client, request.headers())?;
    let of_app = if caller.is_of_an_app() { named_app(request).await } else { None };
    if needed.is_met(&caller, of_app.as_ref()) { Ok(caller) } else { Err(Refusal::OtherScope.into()) }
}

fn proved(app: &App, client: IpAddr, headers: &HeaderMap) -> Result<Caller, Problem> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let first = given.next().and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    let (None, Some((scheme, presented))) = (given.next(), first) else { return Err(Refusal::NoToken.into()) };
    if !scheme.eq_ignore_ascii_case("bearer") || presented.len() > TOKEN_MAX {
        return Err(Refusal::NoToken.into());
    }
    let claim = app.host.claimed_token(presented.trim())?;
    let id = claim.as_ref().map(|claim| claim.token.id.clone());
    // Failures with one token keep nobody from using another.
    if !app.clients.may_try(client, id.as_deref()) {
        return Err(Refusal::TooManyTries.into());
    }
    let Some(claim) = claim.filter(lodger::Claim::is_proved) else {
        app.clients.has_failed(client, id.as_deref());
        return Err(Refusal::BadToken.into());
    };
    if claim.token.is_expired() {
        return Err(Refusal::TokenExpired.into());
    }
    Ok(Caller { token: claim.token, is_anybody: false, progress: None })
}

/// The app that the path names.
async fn named_app(request: &mut Request) -> Option<Scope> {
    let params = request.extract_parts::<RawPathParams>().await.ok()?;
    let name = params.iter().find(|(name, _)| *name == "app")?.1;
    name.parse().ok().map(Scope::App)
}

/// What a route needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// To see what is no secret.
    Read,
    /// The same of an app, which its own token may as well.
    ReadOfApp,
    /// To change an app, or see what it keeps in confidence.
    App,
    /// To publish, in some namespace: in which, only what is published tells.
    Publish,
    /// To see what is published.
    ReadMarket,
    /// To see what became of requests: everybody of their own, who sees what is no secret of all.
    Operations,
    Manage,
}

/// The one table of what is whose to do. What is not in it is for those who may do everything.
fn needed(method: &Method, path: Option<&str>) -> Needed {
    let looks = method == Method::GET || method == Method::HEAD;
    let is_market = |path: &str| {
        [oakestra::MARKET, oakestra::MARKET_TOO].iter().any(|base| {
            let below = path.strip_prefix(base).map(|below| below.trim_end_matches('/'));
            below.is_some_and(|below| matches!(below, "" | "/{entry}" | "/{entry}/package"))
        })
    };
    match path {
        Some(path) if is_market(path) => {
            if looks {
                Needed::ReadMarket
            } else {
                Needed::Publish
            }
        }
        Some("/v1/apps/{app}") if looks => Needed::ReadOfApp,
        Some("/v1/apps/{app}/env" | "/v1/apps/{app}/addons/{namespace}/{name}/url") if looks => Needed::App,
        Some("/v1/apps/{app}/addons/{namespace}/{name}") if method == Method::PUT || method == Method::DELETE => {
            Needed::App
        }
        Some("/v1/apps/{app}/addons/{namespace}/{name}/plan") if method == Method::POST => Needed::App,
        Some("/v1/operations" | "/v1/operations/{operation}" | "/v1/operations/{operation}/events") if looks => {
            Needed::Operations
        }
        // All that the app keeps in confidence, and more.
        Some("/v1/apps/{app}/addons/{namespace}/{name}/dump") => Needed::Manage,
        _ if looks => Needed::Read,
        _ => Needed::Manage,
    }
}

/// What a token may be for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Read,
    /// The app that the path names.
    App,
    /// Of any app.
    AnyApp,
    Publish,
    Manage,
}

impl Holder {
    fn is(self, caller: &Caller, of_app: Option<&Scope>) -> bool {
        match self {
            Holder::Read => caller.has(&Scope::Read),
            Holder::App => of_app.is_some_and(|app| caller.has(app)),
            Holder::AnyApp => caller.is_of_an_app(),
            Holder::Publish => caller.token.scopes.iter().any(|scope| matches!(scope, Scope::Publish(_))),
            Holder::Manage => caller.has(&Scope::Manage),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Holder::Read => "read",
            Holder::App | Holder::AnyApp => "app:NAME",
            Holder::Publish => "publish:NAMESPACE",
            Holder::Manage => "manage",
        }
    }
}

impl Needed {
    /// Any of these.
    const fn holders(self) -> &'static [Holder] {
        match self {
            Needed::Read => &[Holder::Read, Holder::Manage],
            Needed::ReadOfApp => &[Holder::Read, Holder::App, Holder::Manage],
            Needed::App => &[Holder::App, Holder::Manage],
            Needed::Publish => &[Holder::Publish, Holder::Manage],
            Needed::ReadMarket => &[Holder::Read, Holder::Publish, Holder::Manage],
            Needed::Operations => &[Holder::Read, Holder::AnyApp, Holder::Manage],
            Needed::Manage => &[Holder::Manage],
        }
    }

    fn is_met(self, caller: &Caller, of_app: Option<&Scope>) -> bool {
        self.holders().iter().any(|holder| holder.is(caller, of_app))
    }
}

/// Any of which a token needs for a route.
pub fn scopes(method: &Method, path: &str) -> Vec<&'static str> {
    needed(method, Some(path)).holders().iter().map(|holder| holder.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(proxies: &[&str]) -> Gate {
        let behind_proxy = proxies.iter().map(|net| net.parse().unwrap()).collect();
        let listen: SocketAddr = "[::]:7420".parse().unwrap();
        Gate::new(
            listen,
            &Config { listen, behind_proxy, hosts: Vec::new(), origins: Vec::new(), open_oakestra: false },
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_this_machine_and_proxies_are_let_in() {
        let (alone, behind) = (gate(&[]), gate(&["10.1.0.0/16"]));
        for (peer, without, with) in [
            ("127.0.0.1", true, true),
            ("127.9.9.9", true, true),
            ("::1", true, true),
            ("::ffff:127.0.0.1", true, true),
            ("10.1.2.3", false, true),
            ("::ffff:10.1.2.3", false, true),
            ("10.2.0.1", false, false),
            ("2001:db8::1", false, false),
        ] {
            assert_eq!((alone.admits(ip(peer)), behind.admits(ip(peer))), (without, with), "{peer}");
        }
    }

    #[test]
    fn only_a_proxy_is_believed_whom_it_asks_for() {
        let gate = gate(&["10.1.0.0/16"]);
        for (peer, named, client) in [
            ("127.0.0.1", &["192.0.2.1"][..], "127.0.0.1"),
            ("10.1.0.1", &[], "10.1.0.1"),
            ("10.1.0.1", &["192.0.2.1"], "192.0.2.1"),
            // The last is what the proxy itself has seen; what is before it, anybody may have written.
            ("10.1.0.1", &["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            ("10.1.0.1", &["203.0.113.9", "192.0.2.1, 10.1.0.2"], "192.0.2.1"),
            ("10.1.0.1", &["192.0.2.1, nonsense"], "10.1.0.1"),
            ("10.1.0.1", &["10.1.0.3, 10.1.0.2"], "10.1.0.3"),
        ] {
            let mut headers = HeaderMap::new();
            for line in named {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            assert_eq!(gate.client(ip(peer), &headers), ip(client), "{peer} {named:?}");
        }
    }
}

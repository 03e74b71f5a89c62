//! The one module that dials out: for guests, and for the operator to engines and other servers.
//!
//! Whoever asks has compared the name with what is granted, so that no name is looked up that was not. Here it is resolved,
//! every address it leads to is checked, and the checked address itself is dialled: a name that changes its answer meanwhile
//! changes nothing. Everything has a deadline. No proxy is taken from the environment, no redirect followed.

mod addresses;
mod destination;
mod http;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

pub use destination::{Destination, NotADestination, Pattern};
pub(crate) use http::{Driver, HEAD_MAX, exchange};

/// Longest that a lookup, a connection and a handshake may take, each, whatever the caller's deadline.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Most names looked up at one time; each takes a thread.
const LOOKUPS_MAX: usize = 32;
/// Most addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 16;

/// Dials, within what the policy allows. One per host.
pub(crate) struct Outbound {
    /// May be dialled although they are not for the public.
    allowed: Vec<IpNet>,
    lookups: Arc<Semaphore>,
    tls: OnceCell<TlsConnector>,
}

/// Why something could not be dialled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the name `{host}` cannot be looked up")]
    Lookup { host: String, source: io::Error },
    #[error("the name `{host}` leads to {address}, which is {what}")]
    NotPublic { host: String, address: IpAddr, what: &'static str },
    #[error("the name `{host}` leads to {address}, which is not this machine")]
    NotThisMachine { host: String, address: IpAddr },
    #[error("`{to}` cannot be connected to")]
    Connect { to: String, source: io::Error },
    #[error("`{to}` does not prove who it is")]
    Certificate { to: String, source: io::Error },
    #[error("no secure connection can be made to `{to}`")]
    Tls { to: String, source: io::Error },
    #[error("`{to}` has not answered in time")]
    Timeout { to: String },
}

impl DialError {
    /// The line that would allow it.
    pub fn hint(&self) -> Option<String> {
        match self {
            DialError::NotPublic { address, .. } => {
                let net = IpNet::from(*address);
                Some(format!("`network_addresses = [\"{net}\"]` under [grant] in lodger.toml allows it"))
            }
            _ => None,
        }
    }
}

impl Outbound {
    pub fn new(allowed: Vec<IpNet>) -> Outbound {
        Outbound { allowed, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)), tls: OnceCell::new() }
    }

    /// The addresses a name leads to that may be dialled, at least one.
    ///
    /// A query that is out cannot be called back, whoever stops waiting for it: `held` is kept until it has ended, so that
    /// it counts for as long.
    pub async fn resolve(
        &self,
        host: &str,
        until: Instant,
        held: impl Send + 'static,
    ) -> Result<Vec<IpAddr>, DialError> {
        let place = within(until, host, self.lookups.clone().acquire_owned()).await?;
        let name = host.to_owned();
        #[expect(clippy::disallowed_methods, reason = "the owner of looking up names")]
        let query = tokio::task::spawn_blocking(move || {
            let _held = (place, held);
            let found = (name.as_str(), 0).to_socket_addrs()?;
            io::Result::Ok(found.map(|found| found.ip()).take(ADDRESSES_MAX).collect::<Vec<_>>())
        });
        let lost = |source| DialError::Lookup { host: host.to_owned(), source };
        let found = within(until, host, query).await?.map_err(io::Error::other).flatten().map_err(lost)?;
        let (mut good, mut refused) = (Vec::new(), None);
        for address in found {
            match addresses::check(address, &self.allowed) {
                Ok(()) if good.contains(&address) => {}
                Ok(()) => good.push(address),
                Err(what) => refused = refused.or(Some((address, what))),
            }
        }
        match refused {
            Some((address, what)) if good.is_empty() => {
                Err(DialError::NotPublic { host: host.to_owned(), address, what })
            }
            None if good.is_empty() => Err(lost(io::ErrorKind::NotFound.into())),
            _ => Ok(good),
        }
    }

    /// A connection to the first address that answers; each gets its share of the time.
    pub async fn connect(
        &self,
        to: &Destination,
        until: Instant,
        held: impl Send + 'static,
    ) -> Result<TcpStream, DialError> {
        let addresses = self.resolve(to.host(), until, held).await?;
        let until = until.min(Instant::now() + STEP_MAX);
        let mut last = DialError::Timeout { to: to.to_string() };
        let mut tries = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            let share = until.saturating_duration_since(Instant::now()) / tries.max(1);
            match self.connect_exactly((address, to.port()).into(), Instant::now() + share).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
            tries -= 1;
        }
        Err(last)
    }

    /// A connection to an address that its caller has verified by other means.
    pub async fn connect_exactly(&self, to: SocketAddr, until: Instant) -> Result<TcpStream, DialError> {
        #[expect(clippy::disallowed_methods, reason = "the owner of dialling")]
        let connected = within(until, &to.to_string(), TcpStream::connect(to)).await?;
        connected.map_err(|source| DialError::Connect { to: to.to_string(), source })
    }

    /// TLS over a connection, with the operator's own authorities.
    pub async fn secure(&self, host: &str, over: TcpStream, until: Instant) -> Result<TlsStream<TcpStream>, DialError> {
        let failed = |source| DialError::Tls { to: host.to_owned(), source };
        let connector = self.tls.get_or_try_init(load_authorities).await.map_err(failed)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
        within(until, host, connector.connect(name, over)).await?.map_err(|source| {
            let why = source.get_ref().and_then(|why| why.downcast_ref());
            let to = host.to_owned();
            match why {
                Some(rustls::Error::InvalidCertificate(_)) => DialError::Certificate { to, source },
                _ => DialError::Tls { to, source },
            }
        })
    }
}

/// A connection for the operator, to an engine or a server that the operator names: it may be anywhere. Whoever calls bounds
/// the time.
#[expect(clippy::disallowed_methods, reason = "the owner of dialling")]
pub(crate) async fn dial_for_operator(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host.trim_start_matches('[').trim_end_matches(']'), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection to this machine, under any name the operator has for it: every address the name leads to must be of the
/// loopback, and what was looked at is what is dialled.
pub(crate) async fn dial_this_machine(host: &str, port: u16, until: Instant) -> Result<TcpStream, DialError> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let lost = |source| DialError::Lookup { host: host.to_owned(), source };
    #[expect(clippy::disallowed_methods, reason = "the owner of looking up names")]
    let found = within(until, host, tokio::net::lookup_host((name, port))).await?.map_err(lost)?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    let elsewhere = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    if let Some(address) = addresses.iter().find(elsewhere) {
        return Err(DialError::NotThisMachine { host: host.to_owned(), address: address.ip() });
    }
    let mut last = lost(io::ErrorKind::NotFound.into());
    for address in addresses {
        #[expect(clippy::disallowed_methods, reason = "the owner of dialling")]
        match within(until, host, TcpStream::connect(address)).await? {
            Ok(stream) => return Ok(stream),
            Err(source) => last = DialError::Connect { to: address.to_string(), source },
        }
    }
    Err(last)
}

async fn within<T>(until: Instant, to: &str, step: impl Future<Output = T>) -> Result<T, DialError> {
    let until = until.min(Instant::now() + STEP_MAX);
    timeout_at(until, step).await.map_err(|_| DialError::Timeout { to: to.to_owned() })
}

async fn load_authorities() -> io::Result<TlsConnector> {
    // Reads many files.
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let first = loaded.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(io::Error::other(format!("this machine has no certificate authorities. {first}")));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

//! The network of one call: what it may dial, what it has used, and what it is told when it may not.
//!
//! Every host function that dials asks [`Network::route`] first, and counts what it moves in [`Traffic`]. All that is in
//! flight is held by the call's store, so that nothing of it outlives the call.

mod endpoints;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub(crate) use endpoints::{Endpoint, Endpoints, Runs};

use crate::guest_log::GuestLog;
use crate::limits::{Limit, Limits};
use crate::outbound::{Destination, DialError, Outbound};
use crate::text::shown;

/// What a call may dial: made by the host, consumed by the call.
#[derive(Clone)]
pub(crate) struct Reach {
    pub outbound: Arc<Outbound>,
    /// From the grant.
    pub destinations: Vec<Destination>,
    /// `None` for an addon without services.
    pub endpoints: Option<Endpoints>,
}

/// How something that may be dialled is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Granted(Destination),
    /// Once [`Dialable::may`] has said so.
    Endpoint(SocketAddr),
}

/// Bytes moved over the network in one call, both ways, and the limit that has refused any.
pub(crate) struct Traffic {
    max: u64,
    used: AtomicU64,
    hit: OnceLock<Limit>,
}

impl Traffic {
    /// Counts bytes, or says that there is no room for them.
    pub fn take(&self, bytes: usize) -> bool {
        let sum = |used: u64| used.checked_add(bytes as u64).filter(|sum| *sum <= self.max);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
        taken || self.refuse(Limit::NetworkBytes)
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The first limit that refused something.
    pub fn hit(&self) -> Option<Limit> {
        self.hit.get().copied()
    }

    fn refuse(&self, limit: Limit) -> bool {
        self.hit.get_or_init(|| limit);
        false
    }
}

/// The addresses, with their ports, that this call may dial by number.
#[derive(Clone)]
pub(crate) struct Dialable {
    found: Arc<Mutex<BTreeSet<SocketAddr>>>,
    endpoints: Option<Endpoints>,
    log: GuestLog,
}

impl Dialable {
    /// Whether an address may be connected to now. That a service of its own runs there no more is told in the call's log.
    pub async fn may(&self, address: SocketAddr) -> bool {
        if self.found.lock().unwrap_or_else(PoisonError::into_inner).contains(&address) {
            return true;
        }
        let Some(endpoints) = self.endpoints.as_ref().filter(|endpoints| endpoints.has(address)) else { return false };
        let runs = endpoints.runs_at(address).await;
        if !runs {
            self.log.note(&format!(
                "`{address}` is not connected to: its engine does not say that the service still runs there"
            ));
        }
        runs
    }

    fn add(&self, address: SocketAddr) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
    }
}

/// A place among a call's connections, given back when the last clone is dropped.
pub(crate) type Slot = Arc<OwnedSemaphorePermit>;

/// The network as one call has it.
pub(crate) struct Network {
    pub outbound: Arc<Outbound>,
    /// When there is nobody left to wait for it.
    pub until: Instant,
    pub traffic: Arc<Traffic>,
    destinations: Vec<Destination>,
    dialable: Dialable,
    slots: Arc<Semaphore>,
    /// The slots of the sockets that the guest holds, by their handle.
    sockets: HashMap<u32, Slot>,
    log: GuestLog,
}

impl Network {
    pub fn new(reach: Reach, limits: &Limits, until: Instant, log: GuestLog) -> Network {
        let slots = usize::try_from(limits[Limit::Connections]).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Network {
            outbound: reach.outbound,
            until,
            traffic: Arc::new(Traffic {
                max: limits[Limit::NetworkBytes],
                used: AtomicU64::new(0),
                hit: OnceLock::new(),
            }),
            destinations: reach.destinations,
            dialable: Dialable { found: Arc::default(), endpoints: reach.endpoints, log: log.clone() },
            slots: Arc::new(Semaphore::new(slots)),
            sockets: HashMap::new(),
            log,
        }
    }

    /// What may be dialled by number; `None` where nothing may be dialled at all.
    pub fn dialable(&self) -> Option<Dialable> {
        let may = !self.destinations.is_empty() || self.dialable.endpoints.is_some();
        may.then(|| self.dialable.clone())
    }

    /// How a host and port that the guest named are dialled. A refusal is told in the call's log, with the line to add.
    pub fn route(&self, host: &str, port: u16) -> Option<Route> {
        if let Some(endpoints) = &self.dialable.endpoints {
            let exact = format!("{host}:{port}").parse().ok().filter(|address| endpoints.has(*address));
            let named = || endpoints.named(host).into_iter().find(|address| address.port() == port);
            if let Some(address) = exact.or_else(named) {
                return Some(Route::Endpoint(address));
            }
        }
        let to = Destination::new(host, port);
        if let Ok(to) = &to
            && self.destinations.contains(to)
        {
            return Some(Route::Granted(to.clone()));
        }
        match to {
            Ok(to) => self.tell(&format!(
                "`{to}` is not granted: ask for it in capabilities.network of addon.json, and have it admitted by network \
                 under [grant] in lodger.toml"
            )),
            Err(error) => self.tell(&format!("not granted: {error}")),
        }
        None
    }

    /// The ports granted on a host, for a lookup of its name; empty, and told, where there are none.
    pub fn ports_of(&self, host: &str) -> Vec<u16> {
        let host = host.to_ascii_lowercase();
        let granted = self.destinations.iter().filter(|to| to.host() == host);
        let ports: Vec<u16> = granted.map(Destination::port).collect();
        if ports.is_empty() {
            self.tell(&format!(
                "the name `{}` is not looked up: capabilities.network of addon.json has no granted entry for it",
                shown(&host, 80)
            ));
        }
        ports
    }

    /// The addresses of the own services of this name.
    pub fn endpoints_of(&self, host: &str) -> Vec<IpAddr> {
        let named = self.dialable.endpoints.as_ref().map(|endpoints| endpoints.named(host)).unwrap_or_default();
        named.iter().map(SocketAddr::ip).collect()
    }

    /// A place among the connections in flight.
    pub fn slot(&self) -> Option<Slot> {
        let slot = self.slots.clone().try_acquire_owned().ok().map(Arc::new);
        if slot.is_none() {
            self.traffic.refuse(Limit::Connections);
        }
        slot
    }

    pub fn socket_opened(&mut self, handle: u32, slot: Slot) {
        self.sockets.insert(handle, slot);
    }

    pub fn socket_closed(&mut self, handle: u32) {
        self.sockets.remove(&handle);
    }

    /// Looks up a granted name while the guest goes on. What it leads to may be dialled from then on, at these ports.
    pub fn lookup(
        &self,
        host: String,
        ports: Vec<u16>,
        slot: Slot,
    ) -> impl Future<Output = Result<Vec<IpAddr>, DialError>> + use<> {
        let (outbound, dialable, until, log) =
            (self.outbound.clone(), self.dialable.clone(), self.until, self.log.clone());
        async move {
            let found = outbound.resolve(&host, until, slot).await.inspect_err(|error| note(&log, error))?;
            for (address, port) in found.iter().flat_map(|ip| ports.iter().map(move |port| (*ip, *port))) {
                dialable.add((address, port).into());
            }
            Ok(found)
        }
    }

    pub fn log(&self) -> GuestLog {
        self.log.clone()
    }

    fn tell(&self, what: &str) {
        self.log.note(what);
    }
}

/// Tells in the call's log what the guest's error code cannot: which name, which address, which line.
pub(crate) fn note(log: &GuestLog, error: &DialError) {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    log.note(&format!("{error}{cause}{hint}"));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn network(destinations: &[&str], endpoints: Option<Endpoints>) -> Network {
        let destinations = destinations.iter().map(|to| to.parse().unwrap()).collect();
        let reach = Reach { outbound: Arc::new(Outbound::new(Vec::new())), destinations, endpoints };
        Network::new(reach, &Limits::default(), Instant::now(), GuestLog::new(1 << 16))
    }

    #[test]
    fn only_what_is_granted_has_a_route() {
        let network = network(&["api.example.com:443"], None);
        assert!(matches!(network.route("API.example.com", 443), Some(Route::Granted(_))));
        for (host, port) in [
            ("api.example.com", 80),
            ("api.example.com.", 443),
            ("example.com", 443),
            ("user@api.example.com", 443),
            ("127.0.0.1", 443),
            ("[::1]", 443),
        ] {
            assert_eq!(network.route(host, port), None, "{host}:{port}");
        }
        assert_eq!(network.ports_of("api.EXAMPLE.com"), [443]);
        assert!(network.ports_of("stolen-data.example.com").is_empty());
    }

    #[tokio::test]
    async fn an_endpoint_is_one_address_and_port_while_its_service_runs() {
        let endpoints = Endpoints::default();
        let network = network(&[], Some(endpoints.clone()));
        let dialable = network.dialable().unwrap();
        let address: SocketAddr = "127.0.0.1:16001".parse().unwrap();
        assert_eq!(network.route("redis", 16001), None);
        let up = Arc::new(AtomicBool::new(true));
        let asked = up.clone();
        let runs: Runs = Arc::new(move || Box::pin(std::future::ready(asked.load(Ordering::Relaxed))));
        endpoints.add(Endpoint { name: Some("redis".to_owned()), address, runs });
        for host in ["redis", "127.0.0.1"] {
            assert_eq!(network.route(host, 16001), Some(Route::Endpoint(address)), "{host}");
            assert_eq!(network.route(host, 16002), None, "{host}");
        }
        assert_eq!(network.endpoints_of("redis"), [address.ip()]);
        assert!(dialable.may(address).await && !dialable.may("127.0.0.1:16002".parse().unwrap()).await);
        up.store(false, Ordering::Relaxed);
        assert!(!dialable.may(address).await);
        up.store(true, Ordering::Relaxed);
        assert!(dialable.may(address).await);
    }

    #[test]
    fn traffic_stops_at_its_limit_and_connections_at_theirs() {
        let network = network(&["api.example.com:443"], None);
        let max = usize::try_from(network.traffic.max()).unwrap();
        assert!(network.traffic.take(max) && !network.traffic.take(1));
        assert_eq!((network.traffic.used(), network.traffic.hit()), (max as u64, Some(Limit::NetworkBytes)));
        let held: Vec<_> = std::iter::from_fn(|| network.slot()).collect();
        assert_eq!(held.len() as u64, Limit::Connections.default_value());
    }
}

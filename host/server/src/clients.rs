//! What is remembered of clients, in bounded memory: how much each has under way, and how often it has failed to prove a
//! token.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Failures in a row before a client must wait, and for how long each counts, in seconds. Of a platform's credentials more:
/// testers of providers try them on purpose.
const TRIES: f64 = 10.0;
const TRIES_OF_PLATFORM: f64 = 100.0;
const TRY_SECONDS: f64 = 6.0;
/// Clients whose failures are remembered. Who has failed least lately is forgotten first.
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub struct Clients {
    requests: Arc<Counts<IpAddr>>,
    lasting: Arc<Counts<IpAddr>>,
    connections: Arc<Counts<IpAddr>>,
    failures: Mutex<HashMap<(IpAddr, Option<String>), Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    tries: f64,
    at: Instant,
}

impl Failures {
    /// What is left of them by now.
    fn now(self) -> f64 {
        (self.tries - self.at.elapsed().as_secs_f64() / TRY_SECONDS).max(0.0)
    }
}

/// Whoever has a network of their own has all addresses in it.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    /// Room for one more request, until it is dropped. `None`: the client has `most` under way.
    pub fn request(&self, client: IpAddr, most: usize) -> Option<Counted<IpAddr>> {
        Counts::enter(&self.requests, network(client), most)
    }

    /// The same for one that lasts.
    pub fn lasting(&self, client: IpAddr, most: usize) -> Option<Counted<IpAddr>> {
        Counts::enter(&self.lasting, network(client), most)
    }

    pub fn connection(&self, peer: IpAddr, most: usize) -> Option<Counted<IpAddr>> {
        Counts::enter(&self.connections, network(peer), most)
    }

    /// Whether the client may try once more: with a token that is there, of the id, or with any other.
    pub fn may_try(&self, client: IpAddr, id: Option<&str>) -> bool {
        self.has_failed_less(client, id, TRIES)
    }

    /// The same of a platform's credentials.
    pub fn may_try_as_platform(&self, client: IpAddr, of: &str) -> bool {
        self.has_failed_less(client, Some(of), TRIES_OF_PLATFORM)
    }

    fn has_failed_less(&self, client: IpAddr, id: Option<&str>, tries: f64) -> bool {
        let failures = lock(&self.failures);
        // Nearly always: what it would be found by need not be made then.
        if failures.is_empty() {
            return true;
        }
        let of = (network(client), id.map(str::to_owned));
        failures.get(&of).is_none_or(|failures| failures.now() + 1.0 <= tries)
    }

    pub fn has_failed(&self, client: IpAddr, id: Option<&str>) {
        let mut failures = lock(&self.failures);
        if failures.len() >= REMEMBERED {
            failures.retain(|_, failures| failures.now() > 0.0);
        }
        if failures.len() >= REMEMBERED {
            let least = failures.iter().min_by(|one, other| one.1.now().total_cmp(&other.1.now()));
            if let Some(least) = least.map(|(of, _)| of.clone()) {
                failures.remove(&least);
            }
        }
        let of = (network(client), id.map(str::to_owned));
        let now = Failures { tries: 0.0, at: Instant::now() };
        let known = failures.entry(of).or_insert(now);
        *known = Failures { tries: known.now() + 1.0, at: Instant::now() };
    }
}

/// How many of each there are just now; nothing is kept of what there is none of.
pub struct Counts<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Counts(Mutex::default())
    }
}

/// One of them, until it is dropped.
pub struct Counted<K: Eq + Hash> {
    counts: Arc<Counts<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    fn enter(counts: &Arc<Counts<K>>, key: K, most: usize) -> Option<Counted<K>> {
        let mut inner = lock(&counts.0);
        let count = inner.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { counts: counts.clone(), key })
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut inner = lock(&self.counts.0);
        if let Some(count) = inner.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inner.remove(&self.key);
            }
        }
    }
}

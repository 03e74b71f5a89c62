//! Where a guest reaches its addon's own services, whatever the addresses are (threat 24).

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the addon's own services are reached, beside what is granted. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Endpoints(Arc<Mutex<Vec<Endpoint>>>);

/// Exactly this address and port may be dialled, whatever kind of address it is, for as long as the instance runs there: when
/// its container is gone, another program may take the port (threat 24).
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// A host that stands for the address, at the same port.
    pub name: Option<String>,
    pub address: SocketAddr,
    /// Asks whether the instance runs there now.
    pub runs: Runs,
}

pub(crate) type Runs = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

impl Endpoints {
    pub fn add(&self, endpoint: Endpoint) {
        let mut all = self.lock();
        all.retain(|known| known.address != endpoint.address);
        all.push(endpoint);
    }

    /// Whether an instance runs at this address now. Asked before every connection; what an engine does not confirm is denied.
    pub async fn runs_at(&self, address: SocketAddr) -> bool {
        let endpoint = self.lock().iter().find(|endpoint| endpoint.address == address).cloned();
        match endpoint {
            Some(endpoint) => (endpoint.runs)().await,
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Endpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, address: SocketAddr) -> bool {
        self.lock().iter().any(|endpoint| endpoint.address == address)
    }

    pub fn named(&self, host: &str) -> Vec<SocketAddr> {
        let is_named =
            |endpoint: &&Endpoint| endpoint.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(host));
        self.lock().iter().filter(is_named).map(|endpoint| endpoint.address).collect()
    }
}

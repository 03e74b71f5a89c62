//! What all requests share, and how the host is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lodger::{Host, Readiness, acting_for};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, RwLock, Semaphore};
use tokio::task::JoinHandle;

use crate::clients::Clients;
use crate::gate::{Caller, Gate};
use crate::metrics::Metrics;
use crate::problem::{Problem, Refusal};

pub type App = Arc<Shared>;

/// Packages that are taken in at a time: each is held in memory.
const UPLOADS: usize = 2;
/// For how long a look at the engines serves all who ask.
const READY_AGAIN: Duration = Duration::from_secs(1);

pub struct Shared {
    pub host: Arc<Host>,
    pub metrics: Arc<Metrics>,
    pub gate: Gate,
    pub clients: Clients,
    pub uploads: Semaphore,
    guests: Handle,
    readiness: Mutex<Option<(Instant, Readiness)>>,
    /// Read by whoever changes something, until it is done.
    working: Arc<RwLock<()>>,
}

impl Shared {
    pub fn new(host: Arc<Host>, guests: Handle, metrics: Arc<Metrics>, gate: Gate) -> Shared {
        Shared {
            host,
            metrics,
            gate,
            clients: Clients::default(),
            uploads: Semaphore::new(UPLOADS),
            guests,
            readiness: Mutex::default(),
            working: Arc::default(),
        }
    }

    /// Starts work on the guests' runtime, in the name of who asks. Once started it goes on to its end.
    pub async fn start<T: Send + 'static, W>(
        &self,
        caller: &Caller,
        work: impl FnOnce(Arc<Host>) -> W,
    ) -> JoinHandle<Result<T, Problem>>
    where
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let working = self.working.clone().read_owned().await;
        let work = acting_for(caller.actor(), work(self.host.clone()));
        self.guests.spawn(async move {
            let done = work.await;
            drop(working);
            done
        })
    }

    /// What changes something: it is done as a whole, also where the client goes away meanwhile.
    pub async fn change<T: Send + 'static, W>(
        &self,
        caller: &Caller,
        work: impl FnOnce(Arc<Host>) -> W,
    ) -> Result<T, Problem>
    where
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        ended(self.start(caller, work).await.await)
    }

    /// What only looks: it ends with its client.
    pub async fn look<T: Send + 'static, W>(
        &self,
        caller: &Caller,
        work: impl FnOnce(Arc<Host>) -> W,
    ) -> Result<T, Problem>
    where
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let work = acting_for(caller.actor(), work(self.host.clone()));
        let mut task = GoneWith(self.guests.spawn(work));
        ended((&mut task.0).await)
    }

    /// Asked for by anybody: it costs the same however often it is.
    pub async fn readiness(&self) -> Readiness {
        let mut known = self.readiness.lock().await;
        if let Some((at, readiness)) = known.as_ref()
            && at.elapsed() < READY_AGAIN
        {
            return readiness.clone();
        }
        let host = self.host.clone();
        let asked = self.guests.spawn(async move { host.readiness().await }).await;
        let nothing = Readiness { ready: false, store: false, home: false, engines: Default::default() };
        let readiness = asked.unwrap_or(nothing);
        *known = Some((Instant::now(), readiness.clone()));
        readiness
    }

    /// Waits until all that was started has come to its end.
    pub async fn all_done(&self) {
        drop(self.working.write().await);
    }
}

pub fn ended<T>(joined: Result<Result<T, Problem>, tokio::task::JoinError>) -> Result<T, Problem> {
    joined.unwrap_or_else(|error| {
        // It has panicked, which its own message tells of; or the runtime is going down.
        tracing::error!(%error, "a request was not carried out");
        Err(Refusal::Lost.into())
    })
}

struct GoneWith<T>(JoinHandle<T>);

impl<T> Drop for GoneWith<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! What all requests share, and how the host is asked.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lodger::{Host, Readiness, acting_for, telling};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::clients::Clients;
use crate::gate::{Caller, Gate};
use crate::metrics::Metrics;
use crate::problem::{Problem, Refusal};
use crate::progress::Operations;

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
    pub operations: Operations,
    /// Whether the server is to end.
    pub stopped: watch::Receiver<bool>,
    guests: Handle,
    readiness: Mutex<Option<(Instant, Readiness)>>,
    /// How much is under way that comes to its end before the server does.
    working: Arc<watch::Sender<usize>>,
}

/// Something under way that comes to its end before the server does.
pub struct Working(Arc<watch::Sender<usize>>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Shared {
    pub fn new(
        host: Arc<Host>,
        guests: Handle,
        metrics: Arc<Metrics>,
        gate: Gate,
        stopped: watch::Receiver<bool>,
    ) -> Shared {
        Shared {
            host,
            metrics,
            gate,
            clients: Clients::default(),
            uploads: Semaphore::new(UPLOADS),
            operations: Operations::default(),
            stopped,
            guests,
            readiness: Mutex::default(),
            working: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Keeps the server from ending until it is dropped.
    pub fn begin(&self) -> Working {
        self.working.send_modify(|count| *count += 1);
        Working(self.working.clone())
    }

    /// Starts work on the guests' runtime, in the name of who asks. Once started it goes on to its end.
    pub fn start<T: Send + 'static, W>(
        &self,
        caller: &Caller,
        work: impl FnOnce(Arc<Host>) -> W,
    ) -> JoinHandle<Result<T, Problem>>
    where
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        self.until_done(in_name_of(caller, Box::pin(work(self.host.clone()))))
    }

    /// The same for somebody who has no token.
    pub fn start_for<T: Send + 'static, W>(
        &self,
        actor: String,
        work: impl FnOnce(Arc<Host>) -> W,
    ) -> JoinHandle<Result<T, Problem>>
    where
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        self.until_done(acting_for(actor, Box::pin(work(self.host.clone()))))
    }

    fn until_done<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let working = self.begin();
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
        ended(self.start(caller, work).await)
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
        let work = in_name_of(caller, Box::pin(work(self.host.clone())));
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
        // Whoever counts is here.
        let _ = self.working.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Work for who asks, whose operation is told how far it comes, where it is one. Boxed, as what the host does is ten kilobytes
/// and more, which each step to the runtime would copy.
fn in_name_of<W: Future>(caller: &Caller, work: Pin<Box<W>>) -> impl Future<Output = W::Output> + use<W> {
    telling(caller.progress.clone(), acting_for(caller.actor(), work))
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

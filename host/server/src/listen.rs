//! Connections: how many there are, how long their headers may take, and how they end.

use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::gate::Peer;
use crate::shared::App;
use crate::stall::Stalling;

/// Connections at a time, and those of one peer that is no proxy.
const CONNECTIONS: usize = 512;
const CONNECTIONS_OF_PEER: usize = 128;
/// How long the head of a request may take, the wait for it included.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// How large it may be, in bytes and in headers.
const HEAD_BYTES: usize = 32 << 10;
const HEADERS: usize = 64;
/// How long a client may take nothing of an answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(300);
/// How long to wait where there is no descriptor for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop, and then until the last request has its answer.
pub async fn serve(listener: TcpListener, router: Router, app: App, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = told(&mut stopped) => break,
        };
        match (place, accepted) {
            (Ok(place), Ok((stream, peer))) => {
                connections.spawn(connection(stream, peer.ip(), place, router.clone(), app.clone(), stopped.clone()));
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Also where whoever would tell is gone.
pub async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    place: OwnedSemaphorePermit,
    router: Router,
    app: App,
    mut stopped: watch::Receiver<bool>,
) {
    if !app.gate.admits(peer) {
        // Once: whoever is kept out is not to fill the log.
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(%peer, "connections that come through no proxy are refused: tokens would be in clear text");
        });
        return;
    }
    let most = if app.gate.is_proxy(peer) { CONNECTIONS } else { CONNECTIONS_OF_PEER };
    let Some(counted) = app.clients.connection(peer, most) else { return };
    // Answers are written whole: waiting for more of them gains nothing.
    let _ = stream.set_nodelay(true);
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        inner.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(Stalling::new(stream, TAKEN_WITHIN)), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = told(&mut stopped) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection broke");
    }
    drop((counted, place));
}

//! The HTTP surfaces over the library: decode, ask the host, encode. Nothing is decided here but who may ask.
//!
//! Every request goes the same way, which `passage.rs` leads: `listen.rs` bounds its connection, `gate.rs` looks where it comes
//! from and what its token is for, `v1/` asks the host on the guests' own runtime, and `problem.rs` says what went wrong.

mod body;
mod clients;
mod document;
mod gate;
mod health;
mod listen;
mod metrics;
mod oakestra;
mod passage;
mod problem;
mod progress;
mod providers;
mod shared;
mod sse;
mod stall;
mod v1;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::middleware::from_fn_with_state;
use ipnet::IpNet;
use lodger::Host;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::cors::CorsLayer;

use crate::document::Routes;
use crate::gate::Gate;
pub use crate::gate::{NoOrigin, Origin};
use crate::metrics::Metrics;
use crate::passage::{Behind, Door};
use crate::problem::Refusal;
use crate::shared::{App, Shared};

/// For how long a browser need not ask again whether it may.
const PREFLIGHT_KEPT: Duration = Duration::from_secs(600);

/// Where and for whom a server listens.
pub struct Config {
    pub listen: SocketAddr,
    /// Proxies that speak TLS for it: the only peers it then has, and the only ones that may say whom they ask for.
    pub behind_proxy: Vec<IpNet>,
    /// Names it is reached by, beside those of the loopback and its address.
    pub hosts: Vec<String>,
    /// Origins, besides its own, whose pages a browser lets ask it: `https://board.example`.
    pub origins: Vec<Origin>,
    /// Oakestra's clients need no token, which they cannot send: only on the loopback, and only for grants that the policy
    /// preapproves.
    pub open_oakestra: bool,
}

/// What keeps a server from serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "tokens would go over the network in clear text: {0} is no address of the loopback, and there is no TLS here"
    )]
    ClearText(IpAddr),
    #[error(
        "whoever reaches {0} could install addons: without tokens Oakestra's clients are answered on the loopback alone"
    )]
    Open(SocketAddr),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start the runtime that guests run on")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Host(#[from] lodger::Error),
}

impl Error {
    pub const fn code(&self) -> &'static str {
        match self {
            Error::ClearText(_) => "clear-text",
            Error::Open(_) => "open-oakestra",
            Error::Listen { .. } => "listen",
            Error::Runtime(_) => "runtime",
            Error::Host(error) => error.code(),
        }
    }

    pub const fn exit_code(&self) -> u8 {
        match self {
            Error::ClearText(_) | Error::Open(_) => 2,
            Error::Listen { .. } => 1,
            Error::Runtime(_) => 4,
            Error::Host(error) => error.exit_code(),
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Error::ClearText(_) => Some(
                "--listen 127.0.0.1:7420, or behind a proxy that speaks TLS: --behind-proxy CIDR with its address"
                    .to_owned(),
            ),
            Error::Open(_) => {
                Some("leave --open-oakestra out, or listen on 127.0.0.1 without --behind-proxy".to_owned())
            }
            Error::Listen { .. } => Some("--listen ADDR:PORT with another port; 0 finds a free one".to_owned()),
            Error::Runtime(_) => None,
            Error::Host(error) => error.hint(),
        }
    }
}

/// A server that listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

impl Server {
    /// Listens. Needs a runtime, which connections are then served on.
    ///
    /// # Errors
    /// [`Error::ClearText`] where tokens could be read on their way, [`Error::Open`], [`Error::Listen`].
    #[expect(clippy::disallowed_methods, reason = "the server owns listening")]
    pub fn bind(config: Config) -> Result<Server, Error> {
        if !config.listen.ip().is_loopback() && config.behind_proxy.is_empty() {
            return Err(Error::ClearText(config.listen.ip()));
        }
        if config.open_oakestra && !(config.listen.ip().is_loopback() && config.behind_proxy.is_empty()) {
            return Err(Error::Open(config.listen));
        }
        let bind = || -> std::io::Result<(TcpListener, SocketAddr)> {
            let listener = std::net::TcpListener::bind(config.listen)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((TcpListener::from_std(listener)?, address))
        };
        let (listener, address) = bind().map_err(|source| Error::Listen { address: config.listen, source })?;
        Ok(Server { listener, address, config })
    }

    /// With the port that was found where none was asked for.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens the home and answers, until `stop` resolves and every call has come to its end, or until it resolves again.
    /// `ready` is told when it begins. Meanwhile services are looked after and what was cut off is finished.
    pub async fn serve(
        self,
        mut home: lodger::Config,
        ready: impl FnOnce(&Host) -> Result<(), lodger::Error>,
        mut stop: impl AsyncFnMut(),
    ) -> Result<(), Error> {
        // Guests that keep their workers busy keep nobody from being answered.
        let guests = tokio::runtime::Builder::new_multi_thread();
        let guests = { guests }.thread_name("lodger-guests").enable_all().build().map_err(Error::Runtime)?;
        let metrics = Arc::new(Metrics::default());
        let counted = metrics.clone();
        home.ended = Some(Arc::new(move |call| counted.call(call)));
        let opened = guests.spawn(Host::open(home)).await.unwrap_or(Err(lodger::Error::TaskLost));
        let host = match opened.and_then(|host| ready(&host).map(|()| host)) {
            Ok(host) => Arc::new(host),
            Err(error) => {
                guests.shutdown_background();
                return Err(error.into());
            }
        };
        let gate = Gate::new(self.address, &self.config);
        let (stopping, stopped) = watch::channel(false);
        let app = Arc::new(Shared::new(host, guests.handle().clone(), metrics, gate, stopped.clone()));
        let theirs = app.host.clone();
        let mending = guests.spawn(async move {
            tokio::join!(
                theirs.watch_services(None, tell_repairs),
                theirs.watch_market(),
                theirs.watch_installations(),
                theirs.watch_orders(),
            );
        });

        let serving = tokio::spawn(listen::serve(self.listener, router(app.clone()), app.clone(), stopped));
        stop().await;
        tracing::info!("stopping: calls in flight come to their end");
        let _ = stopping.send(true);
        let all_ended = async {
            let _ = serving.await;
            app.all_done().await;
            mending.abort();
            // It was at rest between two rounds, or leaves what it was at to the next.
            let _ = mending.await;
            app.host.at_rest().await;
        };
        tokio::select! {
            () = all_ended => {}
            () = stop() => tracing::warn!("stopped before all calls have ended: they are interrupted"),
        }
        // Where the last of the host goes, its store writes what it still has.
        guests.shutdown_background();
        Ok(())
    }
}

/// What is answered without a token, platforms among it, and all else.
fn routes() -> [Routes; 2] {
    let closed = v1::routes().and(metrics::routes()).and(oakestra::routes());
    [health::routes().and(document::routes()).and(providers::routes()), closed]
}

fn router(app: App) -> Router {
    let [open, closed] = routes();
    let no_method = async || Refusal::MethodNotAllowed;
    let open = open.router().method_not_allowed_fallback(no_method);
    let closed = closed
        .router()
        .fallback(Behind(Door::Closed, async || Refusal::NoSuchRoute))
        .method_not_allowed_fallback(Behind(Door::Closed, no_method));
    let all = open.merge(closed);
    let all = if app.gate.origins().is_empty() { all } else { all.layer(cors(app.gate.origins())) };
    all.layer(from_fn_with_state(app.clone(), passage::around)).with_state(app)
}

/// What a browser asks before it lets a page of another origin ask. Whether it is one of those named, the gate has looked.
fn cors(origins: &[Origin]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.iter().map(|origin| origin.0.clone()).collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, v1::KEY, v1::PREFER, sse::LAST_EVENT_ID])
        .expose_headers([LOCATION, RETRY_AFTER, v1::APPLIED])
        .max_age(PREFLIGHT_KEPT)
}

fn tell_repairs(round: Result<Vec<lodger::Repair>, lodger::Error>) {
    match round {
        Ok(repairs) => {
            for repair in repairs {
                let service = repair.service.as_ref().map(ToString::to_string);
                let hook = repair.hook.map(|hook| hook.to_string());
                let (addon, resource, why) = (&repair.addon, repair.resource.as_deref(), repair.why.as_deref());
                tracing::info!(%addon, service, hook, resource, why, "reconciled: {}", repair.what);
            }
        }
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "reconciling waits"),
    }
}

//! `lodger serve`: the host as a service, over HTTP.

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use ipnet::IpNet;
use lodger::Host;
use lodger_server::{Config, Origin, Server};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::output;

/// Answer over HTTP until ended by SIGTERM or SIGINT; services are looked after meanwhile, as by `reconcile --watch`
///
/// Everything but /healthz and /readyz needs a token, which `lodger token create` makes. There is no TLS here: only
/// programs of this machine are answered, or with --behind-proxy a proxy that speaks TLS.
///
/// The API is at /v1. Under /api are a marketplace and an addons manager as Oakestra's clients know them.
///
/// When told to end, it takes no more connections and waits until calls in flight have come to their end; told a second
/// time, it ends at once, and what was cut off is finished when it is started again.
#[derive(clap::Args)]
pub struct Serve {
    /// Where to listen; port 0 finds a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    /// Addresses of proxies that speak TLS for it: nobody else is answered then but this machine, and only they are believed
    /// in X-Forwarded-For
    #[arg(long, value_name = "CIDR")]
    behind_proxy: Vec<IpNet>,
    /// A name that requests may be for, beside localhost and the address it listens on
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// An origin whose pages a browser lets ask, as in https://board.example; without it only pages that came from this server
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    origins: Vec<Origin>,
    /// Ask for no token under /api, since Oakestra's own clients have none to send: only on the loopback, and only for addons
    /// whose grants the policy preapproves
    #[arg(long)]
    open_oakestra: bool,
}

impl Serve {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        log.with_max_level(tracing::Level::INFO).with_target(false).init();
        let Serve { listen, behind_proxy, hosts, origins, open_oakestra } = self;
        let server = Server::bind(Config { listen, behind_proxy, hosts, origins, open_oakestra })?;
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let url = server.url();
        let mut home = lodger::Config::new(context.home()?);
        home.actor = "server".to_owned();
        let mut told = Ok(());
        let announce = |host: &Host| {
            if host.tokens()?.is_empty() {
                output::warn("there are no tokens; `lodger token create --scope manage` makes one");
            }
            output::say(context, format!("listening on {url}"));
            if context.json {
                told = output::json_line(&json!({ "listening": url }));
            }
            Ok(())
        };
        let stop = async || {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        server.serve(home, announce, stop).await?;
        told?;
        Ok(0)
    }
}

//! The outbox: platforms are told what could not be told at once, for as long as they wait.
//!
//! It is the orders themselves: one that is to be told of says when, from before it is carried out. Whoever finds it due
//! carries it out again, which changes nothing where it was carried out, and tells the platform, at least once. A host that
//! died goes on where it was. Only platforms that the policy names are told anything, through `outbound`.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::client::basic;
use super::error::ProviderError;
use super::gateway::{Begun, Ordered};
use super::{Dialect, Order};
use crate::client::ServerUrl;
use crate::error::{Error, Kind, Result};
use crate::host::{Host, acting_for, now_ms};
use crate::outbound::{self, Destination, DialError};
use crate::policy::PlatformPolicy;
use crate::store::OrderRow;

/// How often is looked for what is due, by this process or another.
const LOOK: Duration = Duration::from_secs(1);
/// Platforms that are told at a time.
const AT_A_TIME: usize = 16;
/// How long one may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait between two tries.
const PAUSE_MAX_MS: i64 = 600_000;
/// Heroku takes what has not come by then for failed.
const GIVEN_UP_MS: i64 = 12 * 3_600_000;

/// Why a platform was not told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("it broke off")]
    Broken(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(u16),
    #[error("it does not answer in time")]
    TooSlow,
    #[error(transparent)]
    Credentials(#[from] ProviderError),
    #[error("its address is none")]
    Address,
    #[error("`callbacks` under [platforms] in lodger.toml does not name it any more")]
    NotNamed,
}

/// Where a platform is told what has become of an order; `None` where the policy does not name it.
pub(super) fn callback(policy: &PlatformPolicy, dialect: Dialect, order: &Order) -> Option<String> {
    let url = match (dialect, &order.callback, &policy.scalingo_api) {
        // Named by the operator itself.
        (Dialect::Scalingo, _, Some(api)) => {
            let app = crate::client::encoded(&order.app);
            return Some(format!("{api}/v1/provider/apps/{app}"));
        }
        (_, Some(url), _) => url.parse::<ServerUrl>().ok()?,
        _ => return None,
    };
    let to = Destination::new(url.host(), url.port()).ok()?;
    policy.callbacks.iter().any(|named| named.admits(&to)).then(|| url.to_string())
}

/// Whether an error may pass by itself.
pub(super) fn may_pass(error: &Error) -> bool {
    error.is_unreachable() || error.kind() == Kind::Busy
}

impl Host {
    /// Tells platforms what they wait for, for ever: each order by itself, so that none keeps another waiting.
    pub async fn watch_orders(&self) {
        let mut at_work = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        loop {
            match self.store.orders_to_tell() {
                Ok(due) => {
                    for row in due {
                        if at_work.len() < AT_A_TIME && busy.insert(row.id.clone()) {
                            at_work.push(acting_for(format!("platform {}", row.dialect), self.tell_or_put_off(row)));
                        }
                    }
                }
                Err(error) => tell(&error, "platforms wait to be told of their orders"),
            }
            tokio::select! {
                Some(id) = at_work.next(), if !at_work.is_empty() => {
                    busy.remove(&id);
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Returns its id when it was told, or may be tried again.
    async fn tell_or_put_off(&self, row: OrderRow) -> String {
        if let Err(error) = self.tell_of(&row).await {
            tell(&error, "a platform waits to be told of its order");
            sleep(LOOK).await;
        }
        row.id
    }

    async fn tell_of(&self, row: &OrderRow) -> Result<()> {
        self.writable()?;
        let begun = Begun { id: row.id.clone(), again: true, tells_later: true };
        let told = match self.carry_out_order(&begun, &row.addon, row.dialect).await {
            Ok(Ok(ordered)) => self.tell_platform(row, &ordered).await.map_err(|why| why.to_string()),
            Ok(Err(declined)) if declined.for_now => Err(declined.message),
            Ok(Err(declined)) => {
                // There is no word for it: the platform gives up by itself.
                tracing::warn!(addon = %row.addon, order = row.id, why = declined.message, "an order was declined");
                return self.store.tell_order(&row.id, None, row.tries);
            }
            // It was given back meanwhile, or declined.
            Err(Error::OrderGone { .. } | Error::UnknownOrder { .. }) => return Ok(()),
            Err(error) => {
                tell(&error, "an order waits to be carried out");
                Err(error.to_string())
            }
        };
        let Err(why) = told else { return self.store.tell_order(&row.id, None, row.tries) };
        let given_up = now_ms() > row.made_at + GIVEN_UP_MS;
        let pause = (1000 << row.tries.min(20)).min(PAUSE_MAX_MS);
        let next = (!given_up).then(|| now_ms() + pause);
        tracing::warn!(addon = %row.addon, order = row.id, why, given_up, "a platform was not told of its order");
        self.store.tell_order(&row.id, next, row.tries.saturating_add(1))?;
        if given_up && row.dialect == Dialect::Heroku {
            // It has given up as well, and will not give it back.
            let _ = self.end_order(&row.addon, row.dialect, &row.id).await?;
        }
        Ok(())
    }

    async fn tell_platform(&self, row: &OrderRow, ordered: &Ordered) -> Result<(), Untold> {
        // As the policy is now.
        let named = callback(&self.policy.platforms, row.dialect, &row.asked).ok_or(Untold::NotNamed)?;
        let url: ServerUrl = named.parse().map_err(|_| Untold::Address)?;
        let (method, body) = match row.dialect {
            Dialect::Scalingo => (Method::PATCH, json!({ "config": ordered.config })),
            Dialect::Heroku => {
                let body = json!({ "id": ordered.id, "config": ordered.config, "message": ordered.message });
                (Method::PUT, body)
            }
        };
        let known = self.known_credentials(&row.addon, row.dialect).ok().flatten().ok_or(Untold::Address)?;
        let proof = basic(&known.username, &known.password)?;
        let request = Request::builder()
            .method(method)
            .uri(if url.path().is_empty() { "/" } else { url.path() })
            .header(HOST, url.authority())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("lodger/", env!("CARGO_PKG_VERSION")))
            .header(AUTHORIZATION, proof)
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| Untold::Address)?;
        match timeout(ANSWERED_WITHIN, self.put_to(&url, request)).await.map_err(|_| Untold::TooSlow)?? {
            200..=299 => Ok(()),
            // It does not wait any more, and gives back what it knows of.
            404 | 410 => {
                tracing::warn!(addon = %row.addon, order = row.id, "a platform does not know an order it was told of");
                Ok(())
            }
            status => Err(Untold::Status(status)),
        }
    }

    /// The status of the answer, whose body says nothing.
    async fn put_to(&self, url: &ServerUrl, request: Request<Full<Bytes>>) -> Result<u16, Untold> {
        let to = Destination::new(url.host(), url.port()).map_err(|_| Untold::Address)?;
        let until = Instant::now() + ANSWERED_WITHIN;
        let stream = self.outbound.connect(&to, until, ()).await?;
        let (answer, _driver) = if url.is_secure() {
            let secured = self.outbound.secure(url.host(), stream, until).await?;
            outbound::exchange(secured, request).await?
        } else {
            outbound::exchange(stream, request).await?
        };
        Ok(answer.status().as_u16())
    }
}

fn tell(error: &Error, what: &str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}

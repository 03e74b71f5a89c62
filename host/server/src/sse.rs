//! Server-sent events: how one is written, where a client goes on, and a stream of them that is kept alive and ended.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use tokio::time::timeout;

use crate::body::plain;
use crate::gate::Lasting;
use crate::listen::told;
use crate::problem::Refusal;
use crate::shared::App;

pub const KIND: &str = "text/event-stream";
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that gather answers are not to gather these.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");
/// What nobody shows, after this time without anything else.
const ALIVE: &str = ":\n\n";
const ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// The number of the event that a client has seen last.
pub fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let given = headers.get(LAST_EVENT_ID).filter(|given| !given.is_empty());
    let parse = |given: &HeaderValue| given.to_str().ok()?.parse().ok();
    given.map(|given| parse(given).ok_or(Refusal::BadEventId)).transpose()
}

/// One event, with its number where it has one.
pub fn event(number: Option<u64>, name: Option<&str>, data: &impl Serialize) -> String {
    let number = number.map(|number| format!("id: {number}\n")).unwrap_or_default();
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    // All of it are our own types, whose keys are strings; JSON has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("{number}{name}data: {data}\n\n")
}

/// Events as they come, until there are no more or the server is to end.
pub fn stream(app: &App, lasting: Lasting, events: impl Stream<Item = String> + Send + 'static) -> Response {
    let state = (Box::pin(events), app.stopped.clone(), lasting);
    let body = unfold(state, async |(mut events, mut stopped, lasting)| {
        let next = tokio::select! {
            next = timeout(ALIVE_WITHIN, events.next()) => next,
            () = told(&mut stopped) => return None,
        };
        let text = next.unwrap_or_else(|_| Some(ALIVE.to_owned()))?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), (events, stopped, lasting)))
    });
    let mut response = plain(KIND, Body::from_stream(body));
    response.headers_mut().insert(UNBUFFERED, HeaderValue::from_static("no"));
    response
}

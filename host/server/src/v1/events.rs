//! The log of what has happened: page by page, or as it happens. It is kept from the first time that anybody asks for it.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use futures_util::stream::unfold;
use lodger::{EventInfo, EventsAfter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Answer, PAGE, PAGE_MAX, ok};
use crate::body::{Asked, JSON};
use crate::gate::{Caller, Place};
use crate::problem::Problem;
use crate::shared::App;
use crate::sse;

/// How often is looked whether anything has happened, by whichever process: 96 bytes are read for that.
const LOOK: Duration = Duration::from_millis(250);
/// Events that are read at a time.
const AT_A_TIME: u32 = 100;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichEvents {
    /// The number of the event after which to begin; as a cursor, what `next` of the page before was.
    #[serde(default, alias = "cursor")]
    after: Option<u64>,
    #[serde(default)]
    #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
    limit: Option<u32>,
}

/// A part of the log, the oldest first. `next` is there as long as anything came, so that what is new can be asked for.
#[derive(Serialize, ToSchema)]
pub struct EventPage {
    items: Vec<EventInfo>,
    next: Option<String>,
    /// Since when all events are kept, in milliseconds since 1970.
    since: i64,
    /// Events came between the cursor and these, and went by `[retention]`.
    lost: bool,
}

pub async fn log(
    State(app): State<App>,
    caller: Caller,
    place: Place,
    headers: HeaderMap,
    Asked(which): Asked<WhichEvents>,
) -> Answer {
    let since = app.look(&caller, async |host| Ok(host.keep_events()?)).await?;
    if wants_a_page(&headers) {
        let limit = which.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let EventsAfter { items, last, lost } =
            app.look(&caller, async move |host| Ok(host.events_after(which.after, limit)?)).await?;
        let next = (!items.is_empty()).then(|| last.to_string());
        return ok(&EventPage { items, next, since, lost });
    }
    let lasting = place.lasting(&app)?;
    let mut following = Following { app: app.clone(), caller, after: 0, mark: None, first: None };
    following.after = match sse::last_seen(&headers)?.or(which.after) {
        Some(after) => after,
        None => app.look(&following.caller, async |host| Ok(host.last_event()?)).await?,
    };
    // Whoever is cut off before the first event knows where to go on, too.
    let begins = json!({ "since": since, "after": following.after });
    following.first = Some(sse::event(Some(following.after), Some("log"), &begins));
    let events = unfold(following, async |mut following| match following.next().await {
        Ok(text) => Some((text, following)),
        Err(problem) => {
            // The client comes again, and is told why.
            tracing::warn!(code = problem.code, detail = problem.detail, "events are not told");
            None
        }
    });
    Ok(sse::stream(&app, lasting, events))
}

/// Events are told as they happen but to whom asks for JSON and for nothing else that there is.
fn wants_a_page(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut kinds = accepted.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let first = kinds.find(|kind| [JSON, sse::KIND].iter().any(|known| kind.eq_ignore_ascii_case(known)));
    first.is_some_and(|first| first.eq_ignore_ascii_case(JSON))
}

/// A client that is told what happens.
struct Following {
    app: App,
    caller: Caller,
    after: u64,
    /// Of the home, when it was looked at last.
    mark: Option<[u8; 48]>,
    first: Option<String>,
}

impl Following {
    /// Waits for what comes next.
    async fn next(&mut self) -> Result<String, Problem> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            // Before the look, so that what happens meanwhile is noticed the next time.
            let mark = self.app.host.mark();
            if mark.is_none() || mark != self.mark {
                let after = Some(self.after);
                let look = self.app.look(&self.caller, async move |host| Ok(host.events_after(after, AT_A_TIME)?));
                let EventsAfter { items, last, lost } = look.await?;
                self.mark = mark.filter(|_| items.len() < AT_A_TIME as usize);
                let mut text = String::new();
                if lost {
                    let next = items.first().map_or(last + 1, |first| first.sequence);
                    text = sse::event(Some(next - 1), Some("lost"), &json!({ "after": self.after, "before": next }));
                }
                text.extend(items.iter().map(|event| sse::event(Some(event.sequence), None, event)));
                self.after = last;
                if !text.is_empty() {
                    return Ok(text);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

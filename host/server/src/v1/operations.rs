//! Operations: requests that are on record because they asked for it, to be answered at once (`Prefer: respond-async`,
//! RFC 7240), or to be safe to ask again (`Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header); and how far they
//! have come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use lodger::{AddonId, Answered, Begun, Error, Id, Operation, OperationState, UnderWay};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, Page, WhichPage, json, ok};
use crate::body::{self, Asked, Given, OfAddon, OfApp, OfOperation, given, plain};
use crate::gate::{Caller, Lasting, Place};
use crate::problem::{PROBLEM, Problem, Refusal};
use crate::progress::{self, Progress};
use crate::shared::{App, Working, ended};
use crate::sse;

pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
pub const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const ASYNC: &str = "respond-async";
/// Longest key, in characters.
const KEY_MAX: usize = 255;
/// How often is looked whether an operation has ended that is another server's.
const LOOK: Duration = Duration::from_secs(1);

/// What is kept of an answer that holds something in confidence, in its place.
#[derive(Clone)]
pub struct Kept(pub Value);

/// The newest first.
pub async fn list(State(app): State<App>, caller: Caller, Asked(which): Asked<WhichPage>) -> Answer {
    let (limit, only) = (which.limit(), caller.sees_only());
    let items =
        app.look(&caller, async move |host| Ok(host.operations(only.as_deref(), which.cursor.as_deref(), limit)?));
    let items = items.await?;
    let next = (items.len() == limit as usize).then(|| items.last().map(|operation| operation.id.clone())).flatten();
    ok(&Page { items, next })
}

pub async fn one(State(app): State<App>, caller: Caller, OfOperation(id): OfOperation) -> Answer {
    ok(&seen(&app, &caller, id).await?)
}

/// An operation, as far as it is the caller's to see.
async fn seen(app: &App, caller: &Caller, id: String) -> Result<Operation, Problem> {
    let only = caller.sees_only();
    app.look(caller, async move |host| {
        let operation = host.operation(&id)?;
        if only.is_some_and(|only| only != operation.actor) {
            return Err(Error::UnknownOperation(id).into());
        }
        Ok(operation)
    })
    .await
}

/// How far an operation comes, as it does, and last how it has ended.
pub async fn progress(
    State(app): State<App>,
    caller: Caller,
    place: Place,
    headers: HeaderMap,
    OfOperation(id): OfOperation,
) -> Answer {
    let after = sse::last_seen(&headers)?.unwrap_or_default();
    let operation = seen(&app, &caller, id).await?;
    let lasting = place.lasting(&app)?;
    let progress = app.operations.get(&operation.id);
    let listening = Listening { app: app.clone(), caller, operation, progress, after };
    let events = unfold(Some(listening), async |listening| {
        let mut listening = listening?;
        match listening.next().await {
            Ok((text, is_end)) => Some((text, (!is_end).then_some(listening))),
            Err(problem) => {
                tracing::warn!(code = problem.code, detail = problem.detail, "progress is not told");
                None
            }
        }
    });
    Ok(sse::stream(&app, lasting, events))
}

/// A client that is told how far an operation has come.
struct Listening {
    app: App,
    caller: Caller,
    operation: Operation,
    /// Absent where another server carries it out, or it has ended long ago.
    progress: Option<Arc<Progress>>,
    after: u64,
}

impl Listening {
    /// Waits for what comes next, and says whether that is the end.
    async fn next(&mut self) -> Result<(String, bool), Problem> {
        if let Some(progress) = &self.progress {
            let mut changes = progress.changes();
            loop {
                let (text, last, is_end) = progress.after(self.after);
                self.after = last;
                if !text.is_empty() {
                    return Ok((text, is_end));
                }
                // Whoever tells is held here.
                let _ = changes.changed().await;
            }
        }
        while self.operation.state == OperationState::Running {
            tokio::time::sleep(LOOK).await;
            self.operation = seen(&self.app, &self.caller, self.operation.id.clone()).await?;
        }
        Ok((progress::end(&self.operation), true))
    }
}

/// Before the handler of every request: puts it on record, where it asks for that.
pub async fn record<T: 'static>(app: App, request: Request, handler: impl Handler<T, App>) -> Answer {
    let key = key(request.headers())?;
    let at_once = prefers_async(request.headers());
    // Nearly all.
    if key.is_none() && !at_once {
        return Ok(handler.call(request, app).await);
    }
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let verb = route.as_ref().and_then(|route| verb(&parts.method, route.as_str())).map(str::to_owned);
    let caller = Caller::from_request_parts(&mut parts, &app).await?;
    let place = Place::from_request_parts(&mut parts, &app).await?;
    let request = Request::from_parts(parts, body);
    let Some(verb) = verb else {
        return if key.is_some() { Err(Refusal::KeyNotTaken.into()) } else { Ok(handler.call(request, app).await) };
    };
    // What no verb takes is refused by its handler.
    if given(request.headers()) == Given::Other {
        return Ok(handler.call(request, app).await);
    }
    let lasting = at_once.then(|| place.lasting(&app)).transpose()?;
    let working = app.begin();
    let (mut request, body) = body::whole(&app, request).await?;
    let (mut parts, nothing) = request.into_parts();
    let subject = subject(&mut parts, &app).await?;
    let asked = [parts.method.as_str().to_owned(), parts.uri.path().to_owned(), query(&parts)];
    request = Request::from_parts(parts, nothing);
    let carried_out = async move {
        let begun = app.look(&caller, async move |host| {
            let [method, path, query] = asked.each_ref().map(String::as_bytes);
            Ok(host.begin_operation(&verb, subject.as_deref(), key.as_deref(), &[method, path, query, &body])?)
        });
        let under_way = match begun.await? {
            Begun::Now(under_way) => *under_way,
            Begun::Before(answered) => return again(&app, &caller, answered).await,
        };
        let accepted = accepted(&under_way.operation)?;
        let progress = app.operations.begin(&under_way.operation.id);
        request.extensions_mut().insert(Caller { progress: Some(progress.sink()), ..caller.clone() });
        let work = handler.call(request, app.clone());
        let end = carry_out(app, caller, under_way, progress, work, (working, place, lasting));
        if at_once {
            tokio::spawn(end);
            return Ok(accepted);
        }
        Ok(end.await)
    };
    // As a whole, also where the client goes away meanwhile.
    ended(tokio::spawn(carried_out).await)
}

/// Waits for the answer of an operation, and notes it. Meanwhile `held` is.
async fn carry_out(
    app: App,
    caller: Caller,
    under_way: UnderWay,
    progress: Arc<Progress>,
    work: impl Future<Output = Response> + Send + 'static,
    held: (Working, Place, Option<Lasting>),
) -> Response {
    let operation = under_way.operation.clone();
    let answered = ended(tokio::spawn(async move { Ok(work.await) }).await);
    let (mut parts, body) = answered.unwrap_or_else(Problem::into_response).into_parts();
    // What a verb answers is in memory.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let kept = match parts.extensions.remove::<Kept>() {
        Some(Kept(kept)) => kept.to_string().into(),
        None => body.clone(),
    };
    let status = parts.status.as_u16();
    let noted = app.look(&caller, async move |host| Ok(host.end_operation(under_way, status, &kept)?));
    let end = noted.await.unwrap_or_else(|problem| {
        tracing::error!(code = problem.code, detail = problem.detail, "cannot note the end of an operation");
        // As it is found by whoever looks.
        Operation { state: OperationState::Interrupted, ..operation }
    });
    tracing::info!(operation = end.id, verb = end.verb, subject = end.subject, status, "operation ended");
    progress.end(end);
    drop(held);
    Response::from_parts(parts, body.into())
}

fn accepted(operation: &Operation) -> Answer {
    let mut response = json(StatusCode::ACCEPTED, operation)?;
    let location = HeaderValue::try_from(format!("/v1/operations/{}", operation.id)).map_err(|_| Refusal::Lost)?;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(APPLIED, HeaderValue::from_static(ASYNC));
    Ok(response)
}

/// What was answered before. The values that were left out of the record are asked for afresh.
async fn again(app: &App, caller: &Caller, before: Answered) -> Answer {
    let Answered { verb, status, mut answer } = before;
    if verb == "add" && status < 400 {
        answer = with_values(app, caller, &answer).await?;
    }
    let kind = if status < 400 { body::JSON } else { PROBLEM };
    let status = StatusCode::from_u16(status).map_err(|_| Refusal::Lost)?;
    Ok((status, plain(kind, answer)).into_response())
}

async fn with_values(app: &App, caller: &Caller, answer: &str) -> Result<String, Problem> {
    #[derive(Deserialize)]
    struct Added {
        app: Id,
        addon: String,
        alias: Option<Id>,
        id: Option<String>,
    }
    let added: Added = serde_json::from_str(answer).map_err(|_| Refusal::Lost)?;
    let mut whole: Map<String, Value> = serde_json::from_str(answer).map_err(|_| Refusal::Lost)?;
    let addon: AddonId = added.addon.parse().map_err(|_| Refusal::Lost)?;
    let values = app.look(caller, async move |host| {
        let alias = added.alias.as_ref();
        match host.resource(&added.app, &addon, alias) {
            Ok(there) if (&there.alias, &there.id) == (&added.alias, &added.id) => {
                Ok(host.config(&added.app, &addon, alias).await?.variables)
            }
            // It was removed since, and something else may be in its place.
            Ok(_) | Err(Error::UnknownResource { .. } | Error::AmbiguousResource { .. }) => Ok(BTreeMap::new()),
            Err(error) => Err(error.into()),
        }
    });
    whole.insert("config".to_owned(), json!(values.await?));
    Ok(Value::Object(whole).to_string())
}

/// Whether requests of a route may be put on record.
pub fn is_verb(method: &Method, route: &str) -> bool {
    route.starts_with("/v1/") && verb(method, route).is_some()
}

/// What a request is on the command line. `None`: it changes nothing, or streams.
fn verb<'a>(method: &Method, route: &'a str) -> Option<&'a str> {
    let end = route.rsplit('/').next().unwrap_or_default();
    match (method.as_str(), end) {
        ("POST", "addons") => Some("install"),
        ("POST", verb) => Some(verb),
        ("PUT", "settings") => Some("set"),
        ("PUT", "{name}") => Some("add"),
        ("DELETE", "{name}") if route.contains("{app}") => Some("remove"),
        ("DELETE", "{name}") => Some("uninstall"),
        _ => None,
    }
}

/// The app and the addon that the path names, as the command line does.
async fn subject(parts: &mut Parts, app: &App) -> Result<Option<String>, Problem> {
    let params = RawPathParams::from_request_parts(parts, app).await.ok();
    let has = |wanted| params.as_ref().is_some_and(|params| params.iter().any(|(name, _)| name == wanted));
    let (of_app, of_addon) = (has("app"), has("name"));
    let mut subject = Vec::new();
    if of_app {
        subject.push(OfApp::from_request_parts(parts, app).await?.0.to_string());
    }
    if of_addon {
        subject.push(OfAddon::from_request_parts(parts, app).await?.0.to_string());
    }
    Ok((!subject.is_empty()).then(|| subject.join(" ")))
}

fn query(parts: &Parts) -> String {
    parts.uri.query().unwrap_or_default().to_owned()
}

/// Whether the client would rather have an answer at once. What else it prefers it does without.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok()).any(|line| {
        let mut quoted = false;
        let mut preferences = line.split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        preferences.any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(ASYNC))
    })
}

/// The key that a request may be asked again under: a string of RFC 9651, or its characters alone.
fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(KEY).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().ok().filter(|_| given.next().is_none()).ok_or(Refusal::BadKey)?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest).ok_or(Refusal::BadKey)?,
        None if text.contains(['"', ',', ';', '\\']) => return Err(Refusal::BadKey),
        None => text.to_owned(),
    };
    let is_key = (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key { Ok(Some(key)) } else { Err(Refusal::BadKey) }
}

/// What comes after the first quote, up to the last, which nothing follows.
fn unquoted(rest: &str) -> Option<String> {
    let mut key = String::new();
    let mut rest = rest.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(key),
            '\\' => key.push(rest.next().filter(|next| ['"', '\\'].contains(next))?),
            other => key.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_one_of_visible_characters() {
        let long = "k".repeat(255);
        for (text, key_is) in [
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("\"8e03978e\"", "8e03978e"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("base64/+=", "base64/+="),
            (&long, &long),
        ] {
            assert_eq!(key(&headers(&KEY, &[text])), Ok(Some(key_is.to_owned())), "{text}");
        }
        assert_eq!(key(&headers(&KEY, &[])), Ok(None));
        let longer = "k".repeat(256);
        for bad in ["", "\"\"", "a b", "\"a b\"", "\"a", "a\"", "\"a\"; b=1", "a, b", r#""a\b""#, "\"a\"b", &longer] {
            assert_eq!(key(&headers(&KEY, &[bad])), Err(Refusal::BadKey), "{bad}");
        }
        assert_eq!(key(&headers(&KEY, &["a", "a"])), Err(Refusal::BadKey));
    }

    #[test]
    fn a_preference_is_found_among_others() {
        for (lines, prefers) in [
            (&["respond-async"][..], true),
            (&["wait=10, Respond-Async"], true),
            (&["return=minimal", "respond-async; x=y"], true),
            (&["respond-async-not"], false),
            (&["x=\"a, respond-async, b\""], false),
            (&["respond-async=no"], false),
            (&[], false),
        ] {
            assert_eq!(prefers_async(&headers(&PREFER, lines)), prefers, "{lines:?}");
        }
    }
}

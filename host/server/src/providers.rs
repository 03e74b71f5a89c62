//! What Scalingo and Heroku, and whoever speaks as they do, ask of add-on providers: every addon that platforms were given
//! credentials for answers at `/providers/NAMESPACE/NAME/DIALECT/…`.
//!
//! Both dialects are one surface: what one platform does not ask the other does not mind. Ways to say it are in the documents
//! of their add-on partner APIs (<https://developers.scalingo.com/addon-provider-api>,
//! <https://devcenter.heroku.com/articles/add-on-partner-api-reference>). Who asks is looked at before anything else, so that
//! nobody learns what there is. Refusals are told in words that the platform's customer may read.

mod sso;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{FromRequest as _, FromRequestParts, RawPathParams, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodger::{AddonId, Declined, Dialect, Error, Host, Order, Ordered, Period, Used};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::body::{Asked, JSON, Json};
use crate::document::{Routes, Schemas, Told, map_of, one, told};
use crate::gate::Place;
use crate::problem::{Problem, Refusal};
use crate::shared::App;

pub const PREFIX: &str = "/providers/";
/// What signs somebody on: a page of the platform sends it, so that it comes from another origin.
pub const SIGN_ON: &str = "/providers/{namespace}/{name}/{dialect}/sso";

/// Longest credentials looked at, in bytes.
const PROOF_MAX: usize = 1024;

pub fn routes() -> Routes {
    const RESOURCES: &str = "/providers/{namespace}/{name}/{dialect}/resources";
    const ONE: &str = "/providers/{namespace}/{name}/{dialect}/resources/{resource}";
    const SUSPEND: &str = "/providers/{namespace}/{name}/{dialect}/resources/{resource}/suspend";
    const USAGE: &str = "/providers/{namespace}/{name}/{dialect}/resources/{resource}/usage";
    const RESUME: &str = "/providers/{namespace}/{name}/{dialect}/resources/{resource}/resume";
    let changes = |id, says| told(id, says).takes(one::<ToChange>).answers(200, one::<Provided>);
    let ordering = told("order", "Provision a resource")
        .takes(one::<ToOrder>)
        .answers(200, one::<Provided>)
        .answers(201, one::<Provided>)
        .answers(202, one::<Provided>);
    let page = |id, says| told(id, says).answers_plain(sso::HTML).answers_plain_with(403, sso::HTML);
    let signs_on = |id| page(id, "Let a customer in whom the platform sends");
    let by_query = |told: Told| told.asks(one::<sso::Sent>);
    let signed_on = Routes::open("providers")
        .get(ONE, sso::by_path, by_query(signs_on("sign_on_by_path")))
        .get(SIGN_ON, sso::by_query, by_query(signs_on("sign_on")))
        .post(SIGN_ON, sso::by_form, signs_on("sign_on_by_form").takes_plain(sso::FORM))
        .get(sso::DASHBOARD, sso::dashboard, page("dashboard", "What a customer sees"));
    Routes::of_platforms("providers")
        .post(RESOURCES, order, ordering)
        .put(ONE, change, changes("change_order", "Move a resource to another plan"))
        .patch(ONE, change, changes("change_order_too", "Move a resource to another plan"))
        .delete(ONE, end, told("end_order", "Deprovision a resource").answers_nothing())
        .post(SUSPEND, suspend, told("suspend_order", "Suspend a resource").answers(200, one::<Provided>))
        .post(RESUME, resume, told("resume_order", "Resume a resource").answers(200, one::<Provided>))
        .get(
            USAGE,
            usage,
            told("usage_of_order", "How much of a resource was used")
                .asks(one::<Asking>)
                .answers(200, amounts)
                .reaches_out(),
        )
        .and(signed_on)
}

/// An order, in either dialect. Keys that are not known are the platform's business.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default)]
struct ToOrder {
    plan: Option<String>,
    /// Scalingo's name of the app
    app_id: Option<String>,
    /// Heroku's, in its first interface
    heroku_id: Option<String>,
    /// The platform's name of the resource: the same order comes with the same
    uuid: Option<String>,
    #[schema(value_type = Option<Object>)]
    options: Option<Map<String, Value>>,
    region: Option<String>,
    /// Where it is told what came later
    callback_url: Option<String>,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(default)]
struct ToChange {
    plan: Option<String>,
}

/// Which period is asked for
#[derive(Deserialize, Default, ToSchema)]
#[serde(default)]
struct Asking {
    /// As in 2026-11-22T10:00:00Z; 30 days before the end where it is left out
    from: Option<String>,
    /// Now where it is left out
    to: Option<String>,
}

const MONTH_SECONDS: u64 = 30 * 86_400;

impl Asking {
    fn read(self) -> Result<Period, NotProvided> {
        let time = |text: Option<String>| match text {
            Some(text) => {
                let wrong = || NotProvided::said(422, "from and to are times as in 2026-11-22T10:00:00Z");
                let since = humantime::parse_rfc3339(&text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                since.map(|since| Some(since.as_secs())).ok_or_else(wrong)
            }
            None => Ok(None),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let end = time(self.to)?.unwrap_or(now);
        Ok(Period { begin: time(self.from)?.unwrap_or(end.saturating_sub(MONTH_SECONDS)), end })
    }
}

/// By part, by what was used.
fn amounts(_: &mut Schemas) -> Value {
    map_of(&map_of(&json!({ "type": "number" })))
}

/// What became of an order
#[derive(Serialize, ToSchema)]
struct Provided {
    id: String,
    /// Absent where it is told later
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_drain_url: Option<String>,
}

impl From<Ordered> for Provided {
    fn from(ordered: Ordered) -> Provided {
        let Ordered { id, config, message, log_drain_url, .. } = ordered;
        Provided { id, config: Some(config), message, log_drain_url }
    }
}

/// A platform that has proved itself.
#[derive(Clone)]
struct Platform {
    addon: AddonId,
    dialect: Dialect,
}

impl Platform {
    /// For the record of calls.
    fn actor(&self) -> String {
        format!("platform {}", self.dialect)
    }
}

type Answer = Result<Response, NotProvided>;

async fn order(State(app): State<App>, platform: Platform, request: Request) -> Answer {
    let Json(asked) = Json::<ToOrder>::from_request(request, &app).await?;
    let Platform { addon, dialect } = &platform;
    let order = asked.read(*dialect)?;
    let begun = app.host.begin_order(addon, *dialect, order).await?;
    let (addon, dialect, carried_out) = (addon.clone(), *dialect, begun.clone());
    let work = app
        .start_for(platform.actor(), async move |host| Ok(host.carry_out_order(&carried_out, &addon, dialect).await));
    let within = app.host.policy().platforms.answer_within;
    let ended = if begun.tells_later { timeout(within, work).await.ok() } else { Some(work.await) };
    let later = |id: String| {
        let message = Some("The resource is being made.".to_owned());
        answered(StatusCode::ACCEPTED, &Provided { id, config: None, message, log_drain_url: None })
    };
    let Some(ended) = ended else { return Ok(later(begun.id)) };
    let ordered = match provided(crate::shared::ended(ended)?) {
        Ok(ordered) => ordered,
        Err(_) if begun.tells_later && app.host.is_put_off(&begun, &platform.addon, platform.dialect)? => {
            return Ok(later(begun.id));
        }
        Err(refused) => return Err(refused),
    };
    if let Err(error) = app.host.told_at_once(&begun) {
        // It is told once more, then.
        tracing::warn!(error = &error as &dyn std::error::Error, "that a platform has its answer is not noted");
    }
    let status = if ordered.changed && !begun.again { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answered(status, &Provided::from(ordered)))
}

async fn change(State(app): State<App>, platform: Platform, of: OfOrder, request: Request) -> Answer {
    let Json(asked) = Json::<ToChange>::from_request(request, &app).await?;
    let Some(plan) = asked.plan else { return Err(NotProvided::said(422, "update resource need a plan")) };
    let Platform { addon, dialect } = platform.clone();
    let work = async move |host: Arc<Host>| host.change_order(&addon, dialect, &of.0, &plan).await;
    Ok(answered(StatusCode::OK, &Provided::from(done(&app, &platform, work).await?)))
}

async fn suspend(State(app): State<App>, platform: Platform, of: OfOrder) -> Answer {
    let Platform { addon, dialect } = platform.clone();
    let work = async move |host: Arc<Host>| host.suspend_order(&addon, dialect, &of.0).await;
    Ok(answered(StatusCode::OK, &Provided::from(done(&app, &platform, work).await?)))
}

async fn resume(State(app): State<App>, platform: Platform, of: OfOrder) -> Answer {
    let Platform { addon, dialect } = platform.clone();
    let work = async move |host: Arc<Host>| host.resume_order(&addon, dialect, &of.0).await;
    Ok(answered(StatusCode::OK, &Provided::from(done(&app, &platform, work).await?)))
}

async fn usage(State(app): State<App>, platform: Platform, of: OfOrder, Asked(asked): Asked<Asking>) -> Answer {
    let during = asked.read()?;
    let Platform { addon, dialect } = platform.clone();
    let work = async move |host: Arc<Host>| host.usage_of_order(&addon, dialect, &of.0, during).await;
    let used: Used = done(&app, &platform, work).await?;
    Ok(answered(StatusCode::OK, &used))
}

/// Any body is none: there is a client that sends `null`.
async fn end(State(app): State<App>, platform: Platform, of: OfOrder) -> Answer {
    let Platform { addon, dialect } = platform.clone();
    let work = async move |host: Arc<Host>| host.end_order(&addon, dialect, &of.0).await;
    done(&app, &platform, work).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Work in the name of the platform, which goes on to its end once it has begun.
async fn done<T: Send + 'static, W>(
    app: &App,
    platform: &Platform,
    work: impl FnOnce(Arc<Host>) -> W,
) -> Result<T, NotProvided>
where
    W: Future<Output = lodger::Result<Result<T, Declined>>> + Send + 'static,
{
    let work = app.start_for(platform.actor(), |host| {
        let work = work(host);
        async { Ok(work.await) }
    });
    provided(crate::shared::ended(work.await)?)
}

fn provided<T>(done: lodger::Result<Result<T, Declined>>) -> Result<T, NotProvided> {
    done?.map_err(NotProvided::from)
}

impl ToOrder {
    fn read(self, dialect: Dialect) -> Result<Order, NotProvided> {
        let ToOrder { plan, app_id, heroku_id, uuid, options, region, callback_url } = self;
        let is_of_the_first = heroku_id.is_some();
        let missing = |what: &str| NotProvided::said(422, &format!("{what} is missing"));
        let app = match dialect {
            Dialect::Scalingo => app_id.ok_or_else(|| missing("app_id"))?,
            // The third interface names no app.
            Dialect::Heroku => heroku_id.or_else(|| uuid.clone()).ok_or_else(|| missing("uuid"))?,
        };
        // The third interface is told with OAuth, which is not spoken here: its orders are waited for.
        let callback = callback_url.filter(|_| is_of_the_first);
        let plan = Some(plan.ok_or_else(|| missing("plan"))?);
        let mut written = BTreeMap::new();
        for (name, value) in options.unwrap_or_default() {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    let name = lodger::text::shown(&name, 60);
                    return Err(NotProvided::said(422, &format!("the option {name} is neither text nor a number")));
                }
            };
            written.insert(name, text);
        }
        Ok(Order { uuid, app, plan, options: written, region, callback })
    }
}

impl FromRequestParts<App> for Platform {
    type Rejection = NotProvided;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Platform, NotProvided> {
        let client = parts.extensions.get::<Place>().ok_or(Refusal::Lost)?.client();
        let named = named(parts).await;
        let Some((username, password)) = proof(&parts.headers) else { return Err(NotProvided::unproved()) };
        // Whether or not there is one.
        let of = named.as_ref().map_or_else(String::new, |(addon, dialect)| format!("{dialect} of {addon}"));
        if !app.clients.may_try_as_platform(client, &of) {
            return Err(Refusal::TooManyTries.into());
        }
        match named {
            Some((addon, dialect)) if app.host.is_platform(&addon, dialect, &username, &password)? => {
                Ok(Platform { addon, dialect })
            }
            _ => {
                app.clients.has_failed(client, Some(&of));
                Err(NotProvided::unproved())
            }
        }
    }
}

/// What the path names, whether or not there is any.
async fn named(parts: &mut Parts) -> Option<(AddonId, Dialect)> {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let param = |wanted: &str| params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let addon = AddonId { namespace: param("namespace")?.parse().ok()?, name: param("name")?.parse().ok()? };
    Some((addon, param("dialect")?.parse().ok()?))
}

fn proof(headers: &HeaderMap) -> Option<(String, String)> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (scheme, encoded) = given.next()?.to_str().ok()?.split_once(' ')?;
    if given.next().is_some() || !scheme.eq_ignore_ascii_case("basic") || encoded.len() > PROOF_MAX {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(username, password)| (username.to_owned(), password.to_owned()))
}

/// The id that a path names, whatever stands there.
struct OfOrder(String);

impl<S: Send + Sync> FromRequestParts<S> for OfOrder {
    type Rejection = NotProvided;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfOrder, NotProvided> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let id = params.as_ref().and_then(|params| params.iter().find(|(name, _)| *name == "resource"));
        // What is not UTF-8 is no id either.
        Ok(OfOrder(id.map(|(_, id)| id.to_owned()).unwrap_or_default()))
    }
}

/// Why a platform does not get what it asks for: Scalingo reads `error`, Heroku `message`.
#[derive(Serialize, ToSchema)]
pub struct NotProvided {
    id: String,
    message: String,
    error: String,
    #[serde(skip)]
    status: u16,
}

impl NotProvided {
    fn new(status: u16, code: &str, message: String) -> NotProvided {
        NotProvided { id: code.to_owned(), error: message.clone(), message, status }
    }

    fn said(status: u16, message: &str) -> NotProvided {
        NotProvided::new(status, "invalid-order", message.to_owned())
    }

    fn unproved() -> NotProvided {
        NotProvided::new(401, "bad-credentials", "These are no credentials of this add-on.".to_owned())
    }

    /// Whatever it is, it is none of the customer's business.
    fn at_fault(status: u16, code: &str, why: &dyn std::fmt::Display) -> NotProvided {
        tracing::warn!(code, %why, "an order was not carried out");
        NotProvided::new(status, code, "The add-on is not available just now. Please try again later.".to_owned())
    }
}

impl From<Declined> for NotProvided {
    fn from(declined: Declined) -> NotProvided {
        let Declined { message, refused, for_now } = declined;
        match (refused, for_now) {
            (true, false) => NotProvided::new(422, "refused", message),
            (true, true) => NotProvided::new(503, "unavailable", message),
            _ => NotProvided::new(502, "failed", message),
        }
    }
}

impl From<Error> for NotProvided {
    fn from(error: Error) -> NotProvided {
        let code = error.code();
        let told = |status| NotProvided::new(status, code, error.to_string());
        match &error {
            Error::OrderGone { .. } => told(410),
            Error::UnknownOrder { .. } => told(404),
            Error::ResourceState { state, .. } => NotProvided::new(422, code, format!("The resource is {state}.")),
            // To whoever asks, what the addon cannot do is not there.
            Error::HookMissing { hook: "suspend" | "resume" | "usage", .. } => told(404),
            // The operator's to mend.
            Error::NotPermitted { .. } | Error::Quarantined { .. } | Error::GrantRevoked { .. } => {
                NotProvided::at_fault(503, code, &error)
            }
            _ => match error.http_status() {
                404 | 409 | 422 => told(422),
                status => NotProvided::at_fault(status, code, &error),
            },
        }
    }
}

impl From<Problem> for NotProvided {
    fn from(problem: Problem) -> NotProvided {
        NotProvided::new(problem.status, &problem.code, problem.detail)
    }
}

impl From<Refusal> for NotProvided {
    fn from(refusal: Refusal) -> NotProvided {
        Problem::from(refusal).into()
    }
}

impl IntoResponse for NotProvided {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = answered(status, &self);
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"add-on provider\""));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

fn answered(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    (status, [(CONTENT_TYPE, JSON)], Body::from(body)).into_response()
}

//! Single sign-on, and the one page there is.
//!
//! The page is answered at once, so that a token stands in no address that is gone on from; a cookie lets its customer load
//! it again. It shows one resource, and what it shows is text: names that guests and platforms chose are escaped, nothing of
//! an addon is served from this origin, and no script runs (threat 28).

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::{Query, Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue, REFERRER_POLICY, SET_COOKIE,
};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodger::{AddonId, Dashboard, Dialect, SignOnClaim};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::{NotProvided, OfOrder, named};
use crate::body::read_json as read_small;
use crate::shared::App;

pub const HTML: &str = "text/html";
pub const FORM: &str = "application/x-www-form-urlencoded";
pub const DASHBOARD: &str = "/providers/{namespace}/{name}/{dialect}/dashboard";

/// What the browser is asked to show again, and what Heroku's own script reads.
const SESSION: &str = "lodger-session";
const NAVIGATION: &str = "heroku-nav-data";
const SESSION_SECONDS: u32 = 3600;
/// Largest navigation data that is kept, in bytes: browsers keep no more in a cookie.
const NAVIGATION_MAX: usize = 3500;

const STYLE: &str = "body{font:1rem/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}\
                     table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0}";

/// What a platform sends its customer with, as a query or as a form.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct Sent {
    id: Option<String>,
    /// Heroku's name of the resource
    resource_id: Option<String>,
    timestamp: String,
    token: Option<String>,
    resource_token: Option<String>,
    user_scoped_resource_token: Option<String>,
    user_id: String,
    email: String,
    #[serde(rename = "nav-data")]
    navigation: Option<String>,
}

pub async fn by_query(State(app): State<App>, request: Request) -> Response {
    let sent = Query::try_from_uri(request.uri()).map(|Query(sent)| sent).unwrap_or_default();
    sign_on(&app, request, sent).await
}

/// As Heroku's first interface has it, with the id in the path.
pub async fn by_path(State(app): State<App>, OfOrder(id): OfOrder, request: Request) -> Response {
    let sent: Sent = Query::try_from_uri(request.uri()).map(|Query(sent)| sent).unwrap_or_default();
    sign_on(&app, request, Sent { id: Some(id), ..sent }).await
}

pub async fn by_form(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let head = Request::from_parts(parts.clone(), axum::body::Body::empty());
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(FORM) {
        return NotProvided::from(crate::problem::Refusal::MediaType(FORM)).into_response();
    }
    let form = match read_small(Request::from_parts(parts, body)).await {
        Ok(form) => form,
        Err(refusal) => return NotProvided::from(refusal).into_response(),
    };
    // A form is written as a query is.
    let query = [b"/?", form.as_ref()].concat();
    let sent = Uri::try_from(query).ok().and_then(|uri| Query::try_from_uri(&uri).ok());
    sign_on(&app, head, sent.map(|Query(sent)| sent).unwrap_or_default()).await
}

async fn sign_on(app: &App, request: Request, sent: Sent) -> Response {
    let (mut parts, _) = request.into_parts();
    let Some((addon, dialect)) = named(&mut parts).await else { return denied() };
    let asked = SignOnClaim {
        // Heroku sends both, and its token is of the first.
        id: sent.id.or_else(|| sent.resource_id.clone()).unwrap_or_default(),
        resource: sent.resource_id,
        timestamp: sent.timestamp,
        token: sent.token,
        resource_token: sent.resource_token,
        user_token: sent.user_scoped_resource_token,
        user: sent.user_id,
        email: sent.email,
    };
    let session = match app.host.sign_on(&addon, dialect, &asked) {
        Ok(Some(session)) => session,
        Ok(None) => return denied(),
        Err(error) => return NotProvided::from(error).into_response(),
    };
    let mut response = page(app, &addon, dialect, &session.secret).await;
    let path = format!("/providers/{}/{}/{dialect}", addon.namespace, addon.name);
    let attributes = format!("Path={path}; Max-Age={SESSION_SECONDS}; SameSite=Lax");
    let mut cookies = vec![format!("{SESSION}={}; {attributes}; Secure; HttpOnly", session.secret)];
    let is_encoded = |text: &String| {
        text.len() <= NAVIGATION_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'+' | b'/'))
    };
    // Heroku's script reads it; it is no secret, and a tester without TLS looks for it.
    cookies.extend(sent.navigation.filter(is_encoded).map(|data| format!("{NAVIGATION}={data}; {attributes}")));
    for cookie in cookies {
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

/// For whoever has signed on before.
pub async fn dashboard(State(app): State<App>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match (named(&mut parts).await, session(&parts.headers)) {
        (Some((addon, dialect)), Some(secret)) => page(&app, &addon, dialect, &secret).await,
        _ => denied(),
    }
}

fn session(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION).map(|(_, secret)| secret.to_owned())
}

async fn page(app: &App, addon: &AddonId, dialect: Dialect, secret: &str) -> Response {
    match app.host.dashboard(addon, dialect, secret).await {
        Ok(Some(dashboard)) => html(StatusCode::OK, written(&dashboard, dialect)),
        Ok(None) => denied(),
        Err(error) => NotProvided::from(error).into_response(),
    }
}

/// The same whatever was wrong.
fn denied() -> Response {
    let body = "<h1>You are not signed on</h1>\n<p>Open this page from your platform's dashboard, once more.</p>\n";
    html(StatusCode::FORBIDDEN, document("Not signed on", body))
}

fn html(status: StatusCode, text: String) -> Response {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let style = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY.clone()),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (status, headers, text).into_response()
}

fn written(of: &Dashboard, dialect: Dialect) -> String {
    let mut body = String::new();
    let plan = of.plan.as_ref().map_or("default", |plan| plan.as_str());
    // Kensa looks for where Heroku puts its header.
    let _ = write!(
        body,
        "<div id=\"heroku-header\"></div>\n<h1>{}</h1>\n<table>\n{}{}{}</table>\n",
        escaped(&of.name),
        row("App", &of.app),
        row("Plan", plan),
        row("State", &of.state.to_string()),
    );
    if let Some(message) = &of.message {
        let _ = writeln!(body, "<p>{}</p>", escaped(message));
    }
    if let Some(link) = &of.link {
        let _ = writeln!(body, "<p><a href=\"{}\" rel=\"noopener noreferrer\">Dashboard</a></p>", escaped(link));
    }
    body.push_str("<h2>Variables</h2>\n<ul>\n");
    for name in &of.variables {
        let _ = writeln!(body, "<li><code>{}</code></li>", escaped(name));
    }
    body.push_str("</ul>\n<h2>Recent calls</h2>\n<table>\n");
    for call in &of.calls {
        body.push_str(&row(&call.hook, call.outcome.as_deref().unwrap_or("under way")));
    }
    body.push_str("</table>\n");
    document(&format!("{} on {dialect}", of.name), &body)
}

fn row(name: &str, value: &str) -> String {
    format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), escaped(value))
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n{body}</html>\n",
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

//! What went wrong, as RFC 9457 problem details.
//!
//! Codes, hints and status of what the host refuses are the library's (`lodger::Error`), those of hooks that did not complete
//! are its outcomes'. What a server itself refuses is in the one table here.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lodger::{Error, Grant, HookFailed};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

pub const PROBLEM: &str = "application/problem+json";

/// What the server refuses before the host is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoToken,
    BadToken,
    TokenExpired,
    TooManyTries,
    OtherScope,
    OtherHost,
    OtherOrigin,
    TooManyRequests,
    NoSuchRoute,
    MethodNotAllowed,
    MediaType(&'static str),
    TooLarge,
    TooSlow,
    BrokenBody,
    UploadsBusy,
    BadKey,
    KeyNotTaken,
    BadEventId,
    Lost,
}

impl Refusal {
    /// The one table: code, status, and what is said of it.
    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Refusal::NoToken => ("no-token", 401, "a token is needed: `Authorization: Bearer lodger_…`"),
            Refusal::BadToken => ("bad-token", 401, "this is no token of this server, or it was revoked"),
            Refusal::TokenExpired => ("token-expired", 401, "the token has expired"),
            Refusal::TooManyTries => ("too-many-tries", 429, "too many tries with a token that is none"),
            Refusal::OtherScope => ("other-scope", 403, "the token's scopes do not include this"),
            Refusal::OtherHost => ("other-host", 421, "this server is not reached by that name"),
            Refusal::OtherOrigin => ("other-origin", 403, "pages of other origins may not ask this server"),
            Refusal::TooManyRequests => ("too-many-requests", 429, "too many requests of this client are in flight"),
            Refusal::NoSuchRoute => ("no-such-route", 404, "there is nothing at this path"),
            Refusal::MethodNotAllowed => ("method-not-allowed", 405, "this path has no such method"),
            Refusal::MediaType(_) => ("media-type", 415, "the body is of another type than this path takes"),
            Refusal::TooLarge => ("body-too-large", 413, "the body is larger than this path takes"),
            Refusal::TooSlow => ("body-too-slow", 408, "the body took too long to arrive"),
            Refusal::BrokenBody => ("broken-body", 400, "the body did not arrive whole"),
            Refusal::UploadsBusy => ("uploads-busy", 503, "other packages are being taken in"),
            Refusal::BadKey => (
                "invalid-idempotency-key",
                400,
                "Idempotency-Key is one, of 1 to 255 visible characters, in quotes or not",
            ),
            Refusal::KeyNotTaken => {
                ("idempotency-key-not-taken", 400, "this changes nothing, or streams: it takes no Idempotency-Key")
            }
            Refusal::BadEventId => ("invalid-event-id", 400, "Last-Event-ID is the number of an event"),
            Refusal::Lost => ("task-lost", 500, "the host did not come to an answer"),
        }
    }

    fn hint(self) -> Option<String> {
        Some(match self {
            Refusal::NoToken | Refusal::BadToken | Refusal::TokenExpired => {
                "`lodger token create --scope read` on the server's machine makes one".to_owned()
            }
            Refusal::OtherScope => "`lodger token create --scope …` makes one for it".to_owned(),
            Refusal::OtherHost => "`lodger serve --host NAME` lets it be reached by NAME".to_owned(),
            Refusal::MediaType(wanted) => format!("Content-Type: {wanted}"),
            Refusal::KeyNotTaken => "leave the header out".to_owned(),
            Refusal::TooManyTries | Refusal::TooManyRequests | Refusal::UploadsBusy => "ask again later".to_owned(),
            _ => return None,
        })
    }
}

/// Why something was refused
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    r#type: String,
    title: String,
    pub status: u16,
    pub detail: String,
    pub code: String,
    /// What a command ends with that is refused so.
    pub exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Each line that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<lodger::Problem>,
    /// What would have to be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Grant>)]
    pub grant: Option<Value>,
    /// What is wrong, in the shape of Oakestra's errors.
    #[serde(skip)]
    pub errors: Option<Value>,
}

impl Problem {
    pub fn new(code: &str, status: u16, detail: String, hint: Option<String>) -> Problem {
        Problem {
            r#type: format!("urn:lodger:problem:{code}"),
            title: code.replace('-', " "),
            status,
            detail,
            code: code.to_owned(),
            exit_code: if status == 500 { 4 } else { 1 },
            hint,
            problems: Vec::new(),
            grant: None,
            errors: None,
        }
    }

    /// The body says something else than this path takes.
    pub fn of_body(error: &serde_json::Error) -> Problem {
        let at = format!("line {}, column {}", error.line(), error.column());
        if !error.is_data() {
            return Problem::new("malformed-json", 400, format!("the body is not JSON: {at}"), None);
        }
        let said = error.to_string();
        // Where a value is of another type, what it was is left out: it may be a secret.
        let wrong = said.starts_with("invalid type: ") || said.starts_with("invalid value: ");
        let said = match said.split_once(", expected ").filter(|_| wrong) {
            Some((_, expected)) => format!("expected {expected}"),
            None => said,
        };
        Problem::new("invalid-body", 422, lodger::text::shown(&said, 300), None)
    }

    /// To Oakestra's clients: the body is none.
    pub fn no_json() -> Problem {
        let errors = Some(json!({ "json": ["Invalid JSON body."] }));
        Problem { errors, ..Problem::new("malformed-json", 400, "the body is not JSON".to_owned(), None) }
    }

    /// To Oakestra's clients: these fields are wrong.
    pub fn of_fields(errors: Value) -> Problem {
        let errors = Some(json!({ "json": errors }));
        Problem { errors, ..Problem::new("invalid-body", 422, "some fields are wrong".to_owned(), None) }
    }

    /// A grant that somebody has to accept first (threat 6).
    pub fn not_accepted(error: &Error, grant: &Grant) -> Problem {
        let hint = format!("?accept_grant={} accepts what `grant` shows", grant.digest);
        Problem { grant: Some(json!(grant)), hint: Some(hint), ..Problem::of(error) }
    }

    /// The same where the body accepts it.
    pub fn not_accepted_here(error: &Error, grant: &Grant) -> Problem {
        let hint = format!("\"grant\": \"{}\" in the body accepts what `grant` shows", grant.digest);
        Problem { hint: Some(hint), ..Problem::not_accepted(error, grant) }
    }

    fn of(error: &Error) -> Problem {
        let mut detail = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            detail = format!("{detail}: {source}");
            cause = source.source();
        }
        Problem {
            problems: error.problems().to_vec(),
            exit_code: error.exit_code(),
            ..Problem::new(error.code(), error.http_status(), detail, error.hint())
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        if let Error::UnknownEntry(_) | Error::UnknownInstallation(_) = error {
            // Oakestra's words.
            return Problem::new(error.code(), 404, "Addon not found".to_owned(), None);
        }
        if let Error::InstalledAlready { .. } = error {
            // As Oakestra has it.
            return Problem { status: 400, ..Problem::of(&error) };
        }
        Problem::of(&error)
    }
}

impl From<HookFailed> for Problem {
    fn from(failed: HookFailed) -> Problem {
        let exit_code = failed.exit_code;
        Problem { exit_code, ..Problem::new(failed.code, failed.http_status, failed.message, failed.hint) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (code, status, detail) = refusal.row();
        Problem::new(code, status, detail.to_owned(), refusal.hint())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = self.code, detail = self.detail, "the host is at fault");
        }
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, Body::from(body)).into_response();
        // For who gives it another shape.
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

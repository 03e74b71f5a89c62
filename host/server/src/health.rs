//! Whether the server lives, and whether it can work. No token is asked for; nothing is told but that.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use crate::shared::App;
use crate::v1::json;

/// The process answers.
pub async fn alive() -> Response {
    json(StatusCode::OK, &json!({ "status": "ok" })).into_response()
}

/// 200 where everything that work needs is there, else 503 with what is not.
pub async fn ready(State(app): State<App>) -> Response {
    let readiness = app.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness).into_response()
}

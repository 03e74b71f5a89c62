//! Whether the server lives, and whether it can work. No token is asked for; nothing is told but that.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use lodger::Readiness;
use serde::Serialize;
use utoipa::ToSchema;

use crate::document::{Routes, one, told};
use crate::shared::App;
use crate::v1::json;

pub fn routes() -> Routes {
    let can_work = told("is_ready", "Whether its store, home and engines can be worked with");
    Routes::open("server")
        .get("/healthz", alive, told("is_alive", "That the server lives").answers(200, one::<Alive>))
        .get("/readyz", ready, can_work.answers(200, one::<Readiness>).answers(503, one::<Readiness>))
}

#[derive(Serialize, ToSchema)]
struct Alive {
    /// `ok`
    status: &'static str,
}

/// The process answers.
async fn alive() -> Response {
    json(StatusCode::OK, &Alive { status: "ok" }).into_response()
}

/// 200 where everything that work needs is there, else 503 with what is not.
async fn ready(State(app): State<App>) -> Response {
    let readiness = app.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness).into_response()
}

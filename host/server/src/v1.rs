//! The native API: what the command line does, in the shapes of its `--json`.

mod addons;
mod apps;
mod events;
mod operations;
mod streams;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::{Deserialize, Serialize};

pub use self::operations::{APPLIED, KEY, PREFER};
use crate::body;
use crate::problem::{Problem, Refusal};
use crate::shared::App;

/// Items on a page: at most, and where the request does not say.
const PAGE_MAX: u32 = 1000;
const PAGE: u32 = 100;

pub type Answer = Result<Response, Problem>;

pub fn routes(app: &App) -> Router<App> {
    const ADDON: &str = "/v1/addons/{namespace}/{name}";
    const OF_APP: &str = "/v1/apps/{app}/addons/{namespace}/{name}";
    let of_addon = |path: &str| format!("{ADDON}{path}");
    let of_app = |path: &str| format!("{OF_APP}{path}");
    Router::new()
        .route("/v1/addons", get(addons::list).post(addons::install))
        .route(ADDON, get(addons::details).delete(addons::uninstall))
        .route(&of_addon("/grant"), get(addons::grant))
        .route(&of_addon("/calls"), get(addons::calls))
        .route(&of_addon("/logs"), get(addons::logs))
        .route(&of_addon("/services/{service}/logs"), get(addons::service_logs))
        .route(&of_addon("/enable"), post(addons::enable))
        .route(&of_addon("/disable"), post(addons::disable))
        .route(&of_addon("/upgrade"), post(addons::upgrade))
        .route(&of_addon("/rollback"), post(addons::rollback))
        .route(&of_addon("/reconcile"), post(addons::reconcile))
        .route(&of_addon("/settings"), put(addons::set))
        .route("/v1/calls", get(addons::all_calls))
        .route("/v1/doctor", get(addons::doctor))
        .route("/v1/reconcile", post(addons::reconcile_all))
        .route("/v1/events", get(events::log))
        .route("/v1/operations", get(operations::list))
        .route("/v1/operations/{operation}", get(operations::one))
        .route("/v1/operations/{operation}/events", get(operations::progress))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{app}", get(apps::resources))
        .route("/v1/apps/{app}/env", get(apps::env))
        .route(OF_APP, put(apps::add).merge(delete(apps::remove)))
        .route(&of_app("/url"), get(apps::url))
        .route(&of_app("/plan"), post(apps::plan))
        .route(&of_app("/suspend"), post(apps::suspend))
        .route(&of_app("/resume"), post(apps::resume))
        .route(&of_app("/dump"), get(streams::dump))
        .route(&of_app("/restore"), put(streams::restore))
        .route_layer(from_fn_with_state(app.clone(), operations::record))
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    // All of it are our own types, whose keys are strings.
    let bytes = serde_json::to_vec(value).map_err(|_| Refusal::Lost)?;
    Ok((status, body::plain(body::JSON, bytes)).into_response())
}

fn ok(value: &impl Serialize) -> Answer {
    json(StatusCode::OK, value)
}

/// 201 where something is there that was not.
fn made(is_new: bool, value: &impl Serialize) -> Answer {
    json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, value)
}

/// A part of something long, and where the next begins; `None` at its end.
#[derive(Serialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichPage {
    /// What `next` of the page before was.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
}

impl WhichPage {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
}

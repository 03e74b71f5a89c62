//! Oakestra's two APIs, as its dashboards and scripts know them, without their faults: the marketplace under
//! `/api/v1/marketplace/addons` and the addons manager under `/api/v1/addons`; its documentation's `/api/addons` answers too.
//!
//! Refusals have the shape of its error bodies: `{"code": 404, "message": "Addon not found", "status": "Not Found"}`, and
//! `errors` by the path of what is wrong.

mod addons;
mod marketplace;
mod schema;
pub mod shapes;

use std::collections::HashMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::body::{Given, JSON, PACKAGE, read_json};
use crate::document::{Routes, told};
use crate::problem::Problem;

pub const PREFIX: &str = "/api/";
pub const MARKET: &str = "/api/v1/marketplace/addons";
/// In the documentation.
pub const MARKET_TOO: &str = "/api/addons";
const MANAGER: &str = "/api/v1/addons";
/// In the documentation.
const INSTALL_TOO: &str = "/api/addons/install";

pub fn routes() -> Routes {
    let names = ["list_published", "publish", "published", "unpublish", "published_package"];
    let too = ["list_published_too", "publish_too", "published_too", "unpublish_too", "published_package_too"];
    market(MARKET, names).and(market(MARKET_TOO, too)).and(manager())
}

/// The operations of the second base have names of their own.
fn market(base: &str, names: [&'static str; 5]) -> Routes {
    let of_one = format!("{base}/{{entry}}");
    let [list, publish, one, delete, package] = names;
    Routes::with_slash("marketplace")
        .get(base, marketplace::list, told(list, "What is approved").asks(shapes::search).answers(200, shapes::entries))
        .post(
            base,
            marketplace::publish,
            told(publish, "Publish a descriptor, or a package")
                .takes(shapes::descriptor)
                .takes_plain(PACKAGE)
                .answers(201, shapes::entry),
        )
        .get(
            &of_one,
            marketplace::one,
            told(one, "What was published, whatever its status").answers(200, shapes::entry),
        )
        .delete(&of_one, marketplace::delete, told(delete, "Delete what was published").answers_nothing())
        .get(
            &format!("{of_one}/package"),
            marketplace::package,
            told(package, "The package of what is approved").answers_plain(PACKAGE),
        )
}

fn manager() -> Routes {
    let of_one = format!("{MANAGER}/{{installation}}");
    let install = |name| {
        told(name, "Install and enable what was approved, with a grant that is accepted")
            .takes(shapes::to_install)
            .answers(201, shapes::installation)
    };
    Routes::with_slash("addons manager")
        .get(
            MANAGER,
            addons::list,
            told("list_installations", "What was installed").asks(shapes::filter).answers(200, shapes::installations),
        )
        .post(MANAGER, addons::install, install("install_published"))
        .post(INSTALL_TOO, addons::install, install("install_published_too"))
        .get(&of_one, addons::one, told("installation", "How what was installed is").answers(200, shapes::installation))
        .patch(
            &of_one,
            addons::patch,
            told("move_installation", "Start it again, or disable it")
                .takes(shapes::to_move)
                .answers(200, shapes::installation),
        )
        .delete(
            &of_one,
            addons::delete,
            told("delete_installation", "Disable it; uninstall what is disabled, with its data")
                .answers(200, shapes::installation)
                .answers_nothing(),
        )
}

/// Gives what is refused under [`PREFIX`] the shape of Oakestra's errors.
pub fn shape(response: &mut Response) {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = Body::from(body(problem).to_string());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
}

/// The id that a path names, whatever stands there.
struct OfId(String);

impl<S: Send + Sync> FromRequestParts<S> for OfId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfId, Infallible> {
        let params = RawPathParams::from_request_parts(parts, state).await.ok();
        let first = params.as_ref().and_then(|params| params.iter().next());
        // What is not UTF-8 is no id either.
        Ok(OfId(first.map(|(_, value)| value.to_owned()).unwrap_or_default()))
    }
}

/// What a query asks; one that makes no sense asks nothing.
struct Asks(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Asks {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asks, Infallible> {
        Ok(Asks(Query::try_from_uri(&parts.uri).map(|Query(asked)| asked).unwrap_or_default()))
    }
}

/// The body of a request. What is not JSON counts as an empty object, whatever it says: no form of a page can change anything.
async fn json_or_nothing(given: Given, request: Request) -> Result<Value, Problem> {
    if given != Given::Json {
        return Ok(json!({}));
    }
    let body = read_json(request).await?;
    serde_json::from_slice(&body).map_err(|_| Problem::no_json())
}

fn body(problem: Problem) -> Value {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = Map::new();
    body.insert("code".to_owned(), json!(problem.status));
    body.insert("status".to_owned(), json!(status.canonical_reason().unwrap_or_default()));
    body.insert("reason".to_owned(), json!(problem.code));
    let problems = (!problem.problems.is_empty()).then(|| json!({ "json": by_path(&problem.problems) }));
    let errors = problem.errors.or(problems);
    let is_told = errors.is_none() && ![405, 500].contains(&problem.status);
    let more = [
        ("errors", errors),
        ("message", is_told.then(|| json!(problem.detail))),
        ("hint", problem.hint.map(Value::String)),
        ("grant", problem.grant),
    ];
    body.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Value::Object(body)
}

/// `services[0].image` as `{"services": {"0": {"image": [message]}}}`.
fn by_path(problems: &[lodger::Problem]) -> Value {
    let mut errors = Map::new();
    for problem in problems {
        let path = problem.path.replace('[', ".").replace(']', "");
        let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        note(&mut errors, &parts, &problem.message);
    }
    Value::Object(errors)
}

fn note(errors: &mut Map<String, Value>, parts: &[&str], message: &str) {
    let Some((first, below)) = parts.split_first() else { return note(errors, &["_schema"], message) };
    let at = errors.entry(*first).or_insert_with(|| if below.is_empty() { json!([]) } else { json!({}) });
    if !below.is_empty() && at.is_array() {
        // Something is wrong with what this is a part of, too.
        *at = json!({ "_schema": at.take() });
    }
    match at {
        Value::Object(deeper) => note(deeper, below, message),
        Value::Array(messages) => messages.push(json!(message)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_where_they_are() {
        let problem = |path: &str| lodger::Problem { path: path.to_owned(), message: format!("at {path}"), hint: None };
        let problems = ["name", "name", "services[1].ports.80", "services", "services[0]", "."].map(problem);
        let expected = json!({
            "name": ["at name", "at name"],
            "services": { "_schema": ["at services"], "0": ["at services[0]"], "1": { "ports": { "80": ["at services[1].ports.80"] } } },
            "_schema": ["at ."],
        });
        assert_eq!(by_path(&problems), expected);
        let deeper = ["services", "services[0].image"].map(problem);
        let expected = json!({
            "services": { "_schema": ["at services"], "0": { "image": ["at services[0].image"] } },
        });
        assert_eq!(by_path(&deeper), expected);
    }
}

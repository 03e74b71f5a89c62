//! The API as an OpenAPI document. It is made of the table that the router is made of: a route is added with what is told of
//! it, so that nothing is served that is not in the document, and nothing is in it that is not served.
//!
//! What is told of a route is what is its own: what it takes and answers. Refusals follow from what it is: whether a token is
//! asked for, what its path names, whether a body is read. Scopes are the gate's.

mod schemas;
mod told;

use std::sync::LazyLock;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use schemas::{Schemas, fields_of, list_of, map_of, one, page_of};
pub use told::{Told, told};

use crate::body::{JSON, plain};
use crate::passage::{Behind, Door};
use crate::shared::App;
use crate::{gate, oakestra};

/// What is served, with what is told of it.
pub struct Routes {
    /// What they are about.
    tag: &'static str,
    door: Door,
    /// A slash at the end makes no difference.
    with_slash: bool,
    router: Router<App>,
    paths: Map<String, Value>,
    schemas: Schemas,
}

impl Routes {
    pub fn new(tag: &'static str) -> Routes {
        let (router, paths, schemas) = (Router::new(), Map::new(), Schemas::default());
        Routes { tag, door: Door::Closed, with_slash: false, router, paths, schemas }
    }

    pub fn open(tag: &'static str) -> Routes {
        Routes { door: Door::Open, ..Routes::new(tag) }
    }

    pub fn of_platforms(tag: &'static str) -> Routes {
        Routes { door: Door::Platforms, ..Routes::new(tag) }
    }

    pub fn on_record(tag: &'static str) -> Routes {
        Routes { door: Door::OnRecord, ..Routes::new(tag) }
    }

    pub fn with_slash(tag: &'static str) -> Routes {
        Routes { with_slash: true, ..Routes::new(tag) }
    }

    pub fn get<T: 'static>(self, path: &str, handler: impl Handler<T, App>, told: Told) -> Routes {
        let served = get(Behind(self.door, handler));
        self.add(&Method::GET, path, served, told)
    }

    pub fn post<T: 'static>(self, path: &str, handler: impl Handler<T, App>, told: Told) -> Routes {
        let served = post(Behind(self.door, handler));
        self.add(&Method::POST, path, served, told)
    }

    pub fn put<T: 'static>(self, path: &str, handler: impl Handler<T, App>, told: Told) -> Routes {
        let served = put(Behind(self.door, handler));
        self.add(&Method::PUT, path, served, told)
    }

    pub fn patch<T: 'static>(self, path: &str, handler: impl Handler<T, App>, told: Told) -> Routes {
        let served = patch(Behind(self.door, handler));
        self.add(&Method::PATCH, path, served, told)
    }

    pub fn delete<T: 'static>(self, path: &str, handler: impl Handler<T, App>, told: Told) -> Routes {
        let served = delete(Behind(self.door, handler));
        self.add(&Method::DELETE, path, served, told)
    }

    fn add(mut self, method: &Method, path: &str, served: MethodRouter<App>, told: Told) -> Routes {
        let mut operation = told.written(method, path, self.door, &mut self.schemas);
        operation.insert("tags".to_owned(), json!([self.tag]));
        if self.door == Door::Platforms {
            operation.insert("security".to_owned(), json!([{ "platform": [] }]));
        } else if self.door != Door::Open {
            let scopes = gate::scopes(method, path);
            operation.insert("security".to_owned(), json!([{ "token": [] }]));
            operation.insert("description".to_owned(), json!(format!("For a token with `{}`.", scopes.join("` or `"))));
            operation.insert("x-lodger-scope".to_owned(), json!(scopes));
        }
        let at = self.paths.entry(path).or_insert_with(|| json!({}));
        if let Some(at) = at.as_object_mut() {
            at.insert(method.as_str().to_ascii_lowercase(), Value::Object(operation));
        }
        if self.with_slash {
            self.router = self.router.route(&format!("{path}/"), served.clone());
        }
        self.router = self.router.route(path, served);
        self
    }

    pub fn and(mut self, other: Routes) -> Routes {
        self.router = self.router.merge(other.router);
        for (path, operations) in other.paths {
            match (self.paths.get_mut(&path).and_then(Value::as_object_mut), operations) {
                (Some(here), Value::Object(operations)) => here.extend(operations),
                (_, operations) => drop(self.paths.insert(path, operations)),
            }
        }
        self.schemas.extend(other.schemas);
        self
    }

    pub fn router(self) -> Router<App> {
        self.router
    }
}

pub fn routes() -> Routes {
    let told = told("openapi", "This document").answers(200, |_| json!({ "type": "object" }));
    Routes::open("server").get("/openapi.json", page, told)
}

async fn page() -> Response {
    static WRITTEN: LazyLock<Bytes> = LazyLock::new(|| {
        let all = crate::routes().into_iter().reduce(Routes::and);
        Bytes::from(format!("{:#}\n", all.map(written).unwrap_or_default()))
    });
    plain(JSON, WRITTEN.clone())
}

fn written(mut routes: Routes) -> Value {
    let responses: Map<String, Value> = told::refusals(&mut routes.schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lodger",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A host for add-ons that runs their hooks in a sandbox",
            "description": format!(
                "What the command `lodger` does, over HTTP. What is refused under `{}` has the shape of Oakestra's errors, \
                 all else is problem details (RFC 9457).",
                oakestra::PREFIX,
            ),
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/", "description": "`lodger serve`" }],
        "paths": routes.paths,
        "components": {
            "schemas": routes.schemas.all(),
            "responses": responses,
            "securitySchemes": {
                "platform": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "`lodger provider credentials ADDON` shows what platforms prove themselves with.",
                },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`lodger token create --scope …` makes one. `x-lodger-scope` of an operation says of which \
                                    scopes it needs one.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_there_once_and_lead_somewhere() {
        let routes = crate::routes().into_iter().reduce(Routes::and).unwrap();
        assert_eq!(routes.schemas.contradictions(), Vec::<&String>::new());
        let document = written(routes);
        let mut ids = BTreeSet::new();
        for operation in
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
        {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is there twice");
        }
        every_reference_leads_somewhere(&document, &document);
    }

    fn every_reference_leads_somewhere(of: &Value, document: &Value) {
        match of {
            Value::Object(object) => {
                if let Some(Value::String(to)) = object.get("$ref") {
                    assert!(document.pointer(&to[1..]).is_some(), "{to}");
                }
                object.values().for_each(|value| every_reference_leads_somewhere(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| every_reference_leads_somewhere(value, document)),
            _ => {}
        }
    }
}

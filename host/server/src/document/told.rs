//! What is told of a route, and what follows from it.

use std::collections::BTreeSet;

use axum::http::{HeaderName, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::schemas::{Schemas, Shape};
use crate::body::JSON;
use crate::passage::Door;
use crate::problem::{PROBLEM, Problem};
use crate::sse::{self, LAST_EVENT_ID};
use crate::{oakestra, providers, v1};

#[derive(Clone, Copy)]
enum Content {
    Json(Shape),
    /// Of a media type, as it comes.
    Plain(&'static str),
    Nothing,
}

pub struct Told {
    /// What clients that are made of the document call it.
    id: &'static str,
    says: &'static str,
    /// The shape of an object, each of whose properties may be asked.
    query: Option<Shape>,
    takes: Vec<Content>,
    answers: Vec<(u16, Content)>,
    /// A hook or an engine is asked.
    reaches_out: bool,
    /// From the event that a client has seen last.
    resumes: bool,
}

pub fn told(id: &'static str, says: &'static str) -> Told {
    Told { id, says, query: None, takes: Vec::new(), answers: Vec::new(), reaches_out: false, resumes: false }
}

impl Told {
    pub fn asks(self, query: Shape) -> Told {
        Told { query: Some(query), ..self }
    }

    pub fn takes(mut self, shape: Shape) -> Told {
        self.takes.push(Content::Json(shape));
        self
    }

    pub fn takes_plain(mut self, media_type: &'static str) -> Told {
        self.takes.push(Content::Plain(media_type));
        self
    }

    pub fn answers(mut self, status: u16, shape: Shape) -> Told {
        self.answers.push((status, Content::Json(shape)));
        self
    }

    pub fn answers_plain(mut self, media_type: &'static str) -> Told {
        self.answers.push((200, Content::Plain(media_type)));
        self
    }

    /// The same with another status.
    pub fn answers_plain_with(mut self, status: u16, media_type: &'static str) -> Told {
        self.answers.push((status, Content::Plain(media_type)));
        self
    }

    /// As server-sent events, which a client that was cut off goes on with.
    pub fn answers_events(self) -> Told {
        Told { resumes: true, ..self }.answers_plain(sse::KIND)
    }

    pub fn answers_nothing(mut self) -> Told {
        self.answers.push((204, Content::Nothing));
        self
    }

    pub fn reaches_out(self) -> Told {
        Told { reaches_out: true, ..self }
    }

    pub(super) fn written(self, method: &Method, path: &str, door: Door, schemas: &mut Schemas) -> Map<String, Value> {
        let mut operation = Map::new();
        operation.insert("operationId".to_owned(), json!(self.id));
        operation.insert("summary".to_owned(), json!(self.says));
        let mut parameters: Vec<Value> = names(path).map(|name| path_parameter(name, schemas)).collect();
        parameters.extend(self.query.map(|query| query_parameters(&query(schemas))).unwrap_or_default());
        let is_verb = v1::is_verb(method, path);
        if is_verb {
            parameters.extend(record_parameters());
        }
        if self.resumes {
            let says = "The number of the event that was seen last";
            parameters.push(header(&LAST_EVENT_ID, says, &json!({ "type": "integer", "minimum": 0 })));
        }
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), Value::Array(parameters));
        }
        if !self.takes.is_empty() {
            let content: Map<String, Value> =
                self.takes.iter().filter_map(|content| content.written(schemas)).collect();
            operation.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
        }
        let of = match path {
            path if path.starts_with(oakestra::PREFIX) => "Oakestra",
            path if path.starts_with(providers::PREFIX) => "Platform",
            _ => "",
        };
        let refused = self.refused(method, path, door).into_iter();
        let mut responses: Map<String, Value> = refused
            .map(|status| {
                (status.to_string(), json!({ "$ref": format!("#/components/responses/{of}Refused{status}") }))
            })
            .collect();
        for (status, content) in &self.answers {
            let code = StatusCode::from_u16(*status).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
            let before =
                responses.remove(&status.to_string()).and_then(|mut before| before.get_mut("content").map(Value::take));
            let mut contents = before.and_then(|before| before.as_object().cloned()).unwrap_or_default();
            contents.extend(content.written(schemas));
            let answer = match contents.is_empty() {
                true => json!({ "description": code }),
                false => json!({ "description": code, "content": contents }),
            };
            responses.insert(status.to_string(), answer);
        }
        if is_verb {
            responses.insert("202".to_owned(), accepted(schemas));
        }
        operation.insert("responses".to_owned(), Value::Object(responses));
        operation
    }

    /// With which status, beside those it answers itself.
    fn refused(&self, method: &Method, path: &str, door: Door) -> BTreeSet<u16> {
        let mut refused = BTreeSet::from([403, 421, 429, 500]);
        match door {
            Door::Open => {}
            Door::Closed | Door::OnRecord => refused.extend([401, 503]),
            Door::Platforms => refused.extend([401, 410, 503]),
        }
        if path.contains('{') {
            refused.extend([404, 409, 422]);
        }
        if self.query.is_some() {
            refused.insert(422);
        }
        // Headers that make no sense there.
        if path.starts_with("/v1/") {
            refused.insert(400);
        }
        if !self.takes.is_empty() {
            refused.extend([400, 408, 413, 415, 422]);
        }
        if method != Method::GET {
            refused.extend([404, 409, 422]);
        }
        if method != Method::GET || self.reaches_out {
            refused.extend([502, 504]);
        }
        refused
    }
}

impl Content {
    fn written(self, schemas: &mut Schemas) -> Option<(String, Value)> {
        match self {
            Content::Json(shape) => Some((JSON.to_owned(), json!({ "schema": shape(schemas) }))),
            Content::Plain(media_type) if media_type.starts_with("text/") => {
                Some((media_type.to_owned(), json!({ "schema": { "type": "string" } })))
            }
            Content::Plain(media_type) => {
                // A format of OpenAPI 3.0, without which those who make clients make nothing of it.
                Some((media_type.to_owned(), json!({ "schema": { "type": "string", "format": "binary" } })))
            }
            Content::Nothing => None,
        }
    }
}

/// Those in braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str, schemas: &mut Schemas) -> Value {
    let (says, schema) = match name {
        "namespace" => ("Of the addon", schemas.of::<lodger::Id>()),
        "name" => ("Of the addon, within its namespace", schemas.of::<lodger::Id>()),
        "app" => ("Of the app", schemas.of::<lodger::Id>()),
        "service" => ("Of the service, within its addon", schemas.of::<lodger::Id>()),
        "operation" => ("Its id", json!({ "type": "string" })),
        "dialect" => ("`scalingo` or `heroku`", schemas.of::<lodger::Dialect>()),
        "resource" => ("As it was answered, or as the platform names it", json!({ "type": "string" })),
        _ => ("Its `_id`", json!({ "type": "string" })),
    };
    json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema })
}

fn header(name: &HeaderName, says: &str, schema: &Value) -> Value {
    json!({ "name": name.as_str(), "in": "header", "required": false, "description": says, "schema": schema })
}

/// Of what may be put on record.
fn record_parameters() -> [Value; 2] {
    let key = r#"^([!#-+\--:<-\[\]-~]{1,255}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#;
    let key_says = "The same request under the same key is carried out once";
    let prefer_says = "`respond-async`: to be answered at once";
    [
        header(&v1::KEY, key_says, &json!({ "type": "string", "pattern": key })),
        header(&v1::PREFER, prefer_says, &json!({ "type": "string" })),
    ]
}

/// To whoever prefers to be answered at once.
fn accepted(schemas: &mut Schemas) -> Value {
    let text = |says: &str| json!({ "description": says, "required": true, "schema": { "type": "string" } });
    json!({
        "description": "Accepted",
        "content": { JSON: { "schema": schemas.of::<lodger::Operation>() } },
        "headers": { "Location": text("Where it is found again"), "Preference-Applied": text("`respond-async`") },
    })
}

/// Of the properties of an object.
fn query_parameters(object: &Value) -> Vec<Value> {
    let required: Vec<&Value> = object.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let properties = object.get("properties").and_then(Value::as_object).into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut parameter = Map::new();
        let mut schema = without_null(schema);
        if let Some(says) = schema.as_object_mut().and_then(|schema| schema.remove("description")) {
            parameter.insert("description".to_owned(), says);
        }
        parameter.insert("name".to_owned(), json!(name));
        parameter.insert("in".to_owned(), json!("query"));
        parameter.insert("required".to_owned(), json!(required.iter().any(|required| *required == name)));
        parameter.insert("schema".to_owned(), schema);
        Value::Object(parameter)
    };
    properties.map(parameter).collect()
}

/// What is not there is left out of a query.
fn without_null(schema: &Value) -> Value {
    let either = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    if let Some(one) = either("oneOf").find(|one| one.get("type").is_none_or(|kind| kind != "null")) {
        return one.clone();
    }
    let mut schema = schema.clone();
    if let Some(kind) = either("type").find(|kind| **kind != "null").cloned()
        && let Some(schema) = schema.as_object_mut()
    {
        schema.insert("type".to_owned(), kind);
    }
    schema
}

/// What it means to be refused with a status.
const REFUSED: [(u16, &str); 16] = [
    (400, "The body is not what it says it is, or did not arrive whole."),
    (401, "There is no token, or none that counts."),
    (403, "The token's scopes do not include this, or a page of another origin asks."),
    (404, "There is no such thing."),
    (408, "The body took too long to arrive."),
    (409, "It cannot be in the state that things are in, or a grant must be accepted first, which `grant` shows."),
    (410, "It is gone."),
    (413, "The body is larger than this path takes."),
    (415, "The body is of another type than this path takes."),
    (421, "The server is not reached by that name."),
    (422, "The request makes no sense, or the addon itself says no."),
    (429, "Too many requests are in flight, or too many tokens were none; ask again later."),
    (500, "The host is at fault."),
    (502, "The addon trapped, broke a limit or answered nonsense, or an engine failed."),
    (503, "Something is busy, or an engine is silent; ask again later."),
    (504, "A hook's deadline is over."),
];

/// Every way to be refused, in Lodger's shape, Oakestra's and that of platforms.
pub(super) fn refusals(schemas: &mut Schemas) -> Map<String, Value> {
    let by_lodger = (PROBLEM, schemas.of::<Problem>());
    let mut refusals = refusals_of("", "Bearer", vec![by_lodger.clone()]);
    refusals.extend(refusals_of("Oakestra", "Bearer", vec![(JSON, oakestra::shapes::error(schemas))]));
    // What has nothing to do with an add-on is refused as everywhere.
    let by_provider = (JSON, schemas.of::<providers::NotProvided>());
    refusals.extend(refusals_of("Platform", "Basic", vec![by_provider, by_lodger]));
    refusals
}

fn refusals_of(of: &str, challenge: &str, shapes: Vec<(&str, Value)>) -> Map<String, Value> {
    let text = |says: &str| json!({ "description": says, "required": true, "schema": { "type": "string" } });
    let content: Map<String, Value> =
        shapes.into_iter().map(|(kind, schema)| (kind.to_owned(), json!({ "schema": schema }))).collect();
    let refusal = |(status, says): (u16, &str)| {
        let headers = match status {
            401 => json!({ "WWW-Authenticate": text(&format!("`{challenge}`")) }),
            429 | 503 => json!({ "Retry-After": text("In how many seconds to ask again") }),
            _ => json!({}),
        };
        let refusal = json!({ "description": says, "content": content, "headers": headers });
        (format!("{of}Refused{status}"), refusal)
    };
    REFUSED.into_iter().map(refusal).collect()
}

//! The document of the API: it is what is checked in, and every answer in these tests is in it.

use std::sync::LazyLock;

use serde_json::Value;

use super::{Reply, Serving};
use crate::support::{Lab, root};

const CHECKED_IN: &str = "host/server/openapi.json";

/// Panics unless the document has the answer: the status of the path, and its type. What no route answers is not in it.
#[track_caller]
pub fn assert_documented(method: &str, path: &str, reply: &Reply) {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_slice(&std::fs::read(root().join(CHECKED_IN)).unwrap()).unwrap());
    let told = || format!("{method} {path}: {}\n{}", reply.status, reply.head);
    let Some(operation) = operation(&DOCUMENT, method, path) else {
        // What a browser asks beforehand is of no route.
        assert!(
            reply.status == 0 || reply.status >= 400 || method == "OPTIONS",
            "what is not in {CHECKED_IN} is answered: {}",
            told()
        );
        return;
    };
    let answer = &operation["responses"][reply.status.to_string()];
    let answer = answer["$ref"].as_str().map_or(answer, |to| DOCUMENT.pointer(&to[1..]).unwrap());
    match reply.head.split_once("content-type: ") {
        Some((_, kind)) => {
            let kind = kind.split(['\r', ';']).next().unwrap();
            assert!(answer["content"].get(kind).is_some(), "{CHECKED_IN} does not have {}", told());
        }
        None if reply.status == 204 => assert!(answer.is_object(), "{CHECKED_IN} does not have {}", told()),
        // What is no request has no route, and a connection that broke off no answer.
        None => {}
    }
}

/// The one for a path: of several that would match, the one that names most of it.
fn operation<'a>(document: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let parts = |path: &'a str| path.split('/').collect::<Vec<_>>();
    let path = path.split('?').next().unwrap();
    let asked: Vec<&str> =
        path.strip_suffix('/').filter(|path| path.starts_with("/api/")).unwrap_or(path).split('/').collect();
    let is_name = |part: &str| part.starts_with('{');
    let matches = |template: &[&str]| {
        template.len() == asked.len() && template.iter().zip(&asked).all(|(part, asked)| is_name(part) || part == asked)
    };
    let paths = document["paths"].as_object().unwrap().iter().map(|(path, operations)| (parts(path), operations));
    let (_, operations) = paths
        .filter(|(template, _)| matches(template))
        .min_by_key(|(template, _)| template.iter().filter(|part| is_name(part)).count())?;
    operations.get(if method == "HEAD" { "get".to_owned() } else { method.to_ascii_lowercase() })
}

#[test]
fn the_document_that_is_served_is_the_one_that_is_checked_in() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let served = server.ask("GET", "/openapi.json", "", b"").is(200);
    let file = root().join(CHECKED_IN);
    if std::env::var_os("LODGER_TEST_BLESS").is_some() {
        std::fs::write(&file, &served.body).unwrap();
    }
    assert!(served.body == std::fs::read(file).unwrap(), "`cargo xtask openapi` writes {CHECKED_IN}");
    let document = served.json();
    for (method, path, id) in [
        ("GET", "/v1/addons/good/probe/calls?limit=1", Some("addon_calls")),
        ("HEAD", "/healthz", Some("is_alive")),
        ("POST", "/api/addons/install/", Some("install_published_too")),
        ("DELETE", "/api/addons/install", None),
        ("GET", "/v1/nothing", None),
    ] {
        let found = operation(&document, method, path).map(|operation| operation["operationId"].as_str().unwrap());
        assert_eq!(found, id, "{method} {path}");
    }
}

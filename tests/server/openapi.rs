//! The document of the API: it is what is checked in, every answer in these tests is in it, and a tester that knows nothing
//! else finds nothing that is otherwise.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::providers::basic;
use super::{Reply, Serving, manager, market, packed};
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

/// Schemathesis, where it was installed.
fn tester() -> Option<OsString> {
    if let Some(program) = std::env::var_os("SCHEMATHESIS") {
        return Some(program);
    }
    let lacking = "the API was not tried against its document: SCHEMATHESIS does not say where Schemathesis is";
    let hint = "`cargo xtask tester` installs it, as `cargo xtask test` does";
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{lacking}\nhint: {hint}");
    // Past what is kept of a test that passes.
    writeln!(std::io::stderr(), "SKIPPED: {lacking}; {hint}").unwrap();
    None
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// What takes away what all others are asked about comes last.
const ENDS: &str = "^(delete|end|uninstall|unpublish|remove|disable|roll_back|move)";

#[test]
fn a_tester_that_has_read_the_document_finds_nothing_else() {
    let Some(program) = tester() else { return };
    let lab = Lab::new();
    let plans = |manifest: &mut Value| manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
    lab.well_behaved(plans);
    lab.lodger(&["add", "shop", "good/probe", "--as", "one"]).ok();
    let later = lab.well_behaved_package(|manifest| {
        plans(manifest);
        manifest["version"] = json!("1.1.0");
    });
    lab.lodger(&["upgrade", "good/probe", &later]).ok();
    let server = Serving::start(&lab);
    let approved = |dir: &str| {
        let package = packed(&lab, root().join(dir).to_str().unwrap());
        let entry = market::publish(&server, &server.token, &package).is(201).json();
        let entry = market::reviewed(&server, &entry["_id"]);
        (text(&entry["_id"]), text(&entry["verification"]["grant"]))
    };
    let (entry, grant) = approved("guest-examples/hello");
    let asked = json!({ "marketplace_id": entry, "grant": grant });
    let installation = text(&server.post("/api/v1/addons", &asked).is(201).json()["_id"]);
    manager::comes_to(&server, &json!(installation), "active");
    let (other, grant) = approved("guest-examples/app-secrets");

    let known = lab.json(&["provider", "credentials", "good/probe"]);
    let order = json!({ "app_id": "shop", "plan": "small", "uuid": "one" }).to_string();
    let proof =
        format!("{}Content-Type: application/json\r\n", basic(&text(&known["username"]), &text(&known["password"])));
    let made = server.ask("POST", "/providers/good/probe/scalingo/resources", &proof, order.as_bytes()).is(201).json();

    let later = format!("{}Content-Type: application/json\r\nPrefer: respond-async\r\n", server.bearer());
    let operation = text(&server.ask("POST", "/v1/reconcile", &later, b"{}").is(202).json()["id"]);

    let mut config = std::fs::read_to_string(root().join("tests/server/schemathesis.toml")).unwrap();
    for (name, id) in [
        ("ENTRY", entry),
        ("INSTALLATION", installation),
        ("OTHER", other),
        ("GRANT", grant),
        ("OPERATION", operation),
        ("ORDER", text(&made["id"])),
    ] {
        config = config.replace(&format!("\"{name}\""), &format!("\"{id}\""));
    }
    let config = lab.write("schemathesis.toml", config);
    // What it makes up comes again with other requests, which a key does not; and what is answered at once is judged later.
    let mut document = server.get("/openapi.json").is(200).json();
    for operations in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in operations.as_object_mut().unwrap().values_mut() {
            if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
                parameters
                    .retain(|parameter| !["idempotency-key", "prefer"].map(Value::from).contains(&parameter["name"]));
            }
        }
    }
    let document = lab.write("openapi.json", document.to_string());
    let try_all = |which: &[&str]| {
        let mut tester = Command::new(&program);
        tester
            .arg("--config-file")
            .arg(&config)
            .arg("run")
            .arg(&document)
            .args(["--url", &server.url(""), "--no-color"])
            .args(which);
        if std::env::var_os("LODGER_TEST_FULL").is_some() {
            tester.args(["--max-examples", "200"]);
        }
        tester.env("LODGER_TOKEN", &server.token);
        tester.env("LODGER_USERNAME", text(&known["username"])).env("LODGER_PASSWORD", text(&known["password"]));
        let tried = tester.current_dir(lab.path("")).output().unwrap();
        let said = String::from_utf8_lossy(&tried.stdout);
        assert!(tried.status.success(), "{said}{}", String::from_utf8_lossy(&tried.stderr));
        println!("{said}");
    };
    try_all(&["--exclude-operation-id-regex", ENDS]);
    // Of what is gone there is nothing more to find.
    try_all(&["--include-operation-id-regex", ENDS, "--warnings", "off"]);
}

//! Whatever is asked, in whatever order, by whomever: an answer of its kind, and never that the host is at fault.

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{PACKAGE, Serving, packed, token};
use crate::support::{Lab, strings};

/// Names of what is there, of what could be, and of what is none.
fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["good", "probe", "shop", "blog", "one", "nothing", "..", "%2e%2e", "A", "%00", "x%2fy", "%ff", "é"])
}

/// What there is to ask.
const ROUTES: [(&str, &str); 30] = [
    ("GET", "/v1/addons"),
    ("GET", "/v1/calls"),
    ("GET", "/v1/doctor"),
    ("GET", "/v1/apps"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("POST", "/v1/reconcile"),
    ("GET", "/v1/events"),
    ("GET", "/v1/operations"),
    ("GET", "/v1/operations/OPERATION"),
    ("GET", "/v1/operations/OPERATION/events"),
    ("GET", "/v1/addons/ADDON"),
    ("DELETE", "/v1/addons/ADDON"),
    ("GET", "/v1/addons/ADDON/grant"),
    ("GET", "/v1/addons/ADDON/calls"),
    ("GET", "/v1/addons/ADDON/logs"),
    ("POST", "/v1/addons/ADDON/enable"),
    ("POST", "/v1/addons/ADDON/disable"),
    ("POST", "/v1/addons/ADDON/upgrade"),
    ("POST", "/v1/addons/ADDON/rollback"),
    ("POST", "/v1/addons/ADDON/reconcile"),
    ("PUT", "/v1/addons/ADDON/settings"),
    ("GET", "/v1/apps/APP/env"),
    ("PUT", "/v1/apps/APP/addons/ADDON"),
    ("DELETE", "/v1/apps/APP/addons/ADDON"),
    ("GET", "/v1/apps/APP/addons/ADDON/url"),
    ("POST", "/v1/apps/APP/addons/ADDON/plan"),
    ("POST", "/v1/apps/APP/addons/ADDON/suspend"),
    ("GET", "/v1/apps/APP/addons/ADDON/dump"),
    ("PUT", "/v1/apps/APP/addons/ADDON/restore"),
];

/// Mostly about what is there, so that most is not refused at once.
fn method_and_path() -> impl Strategy<Value = (&'static str, String)> {
    let addon = (name(), name()).prop_map(|(namespace, name)| format!("{namespace}/{name}"));
    let addon = prop_oneof![5 => Just("good/probe".to_owned()), 1 => addon];
    let app = prop_oneof![5 => Just("shop"), 1 => name()];
    let queries = vec![
        "?limit=1",
        "?limit=0",
        "?limit=-1",
        "?cursor=",
        "?cursor=%00",
        "?after=1",
        "?after=18446744073709551615",
        "?after=-1",
        "?alias=one",
        "?alias=A",
        "?partial=true",
        "?accept_grant=sha256:",
        "?%ff",
        "?&&=",
    ];
    let query = prop_oneof![3 => Just(""), 1 => select(queries)];
    let other =
        prop_oneof![9 => Just(None), 1 => select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"]).prop_map(Some)];
    (select(ROUTES.to_vec()), addon, app, query, other).prop_map(|((method, path), addon, app, query, other)| {
        let path = path.replace("ADDON", &addon).replace("APP", app);
        (other.unwrap_or(method), format!("{path}{query}"))
    })
}

/// What a request may ask for beside.
fn headers() -> impl Strategy<Value = &'static str> {
    let some = select(vec![
        "Prefer: respond-async\r\n",
        "Prefer: respond-async, wait=5\r\nIdempotency-Key: \"both\"\r\n",
        "Idempotency-Key: one\r\n",
        "Idempotency-Key: \"one\"\r\n",
        "Idempotency-Key: two words\r\n",
        "Idempotency-Key: \r\n",
        "Last-Event-ID: 1\r\n",
        "Last-Event-ID: \"\r\n",
    ]);
    prop_oneof![3 => Just(""), 1 => some]
}

fn body() -> impl Strategy<Value = Value> {
    let value = || {
        select(vec![
            json!(null),
            json!(true),
            json!(false),
            json!(-1),
            json!(1e300),
            json!("one"),
            json!("large"),
            json!(""),
            json!("\u{202e}\u{0}"),
            json!([]),
            json!({}),
            json!({ "note": "x" }),
            json!({ "PLAIN": 1 }),
        ])
    };
    let key = || select(vec!["alias", "plan", "options", "force", "keep_data", "retry", "PLAIN", "SECRET", "other"]);
    let object = proptest::collection::vec((key(), value()), 0..3);
    let object = object.prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    prop_oneof![3 => Just(json!({})), 3 => object.prop_map(Value::Object), 1 => value()]
}

#[test]
fn is_answered_and_the_host_is_never_at_fault() {
    let lab = Lab::new();
    let dir = lab.well_behaved_package(|manifest| {
        manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
    });
    let package = packed(&lab, &dir);
    let server = Serving::start(&lab);
    server.install_and_enable(&package, "good/probe");
    let tokens = vec![server.token.clone(), token(&lab, "read"), token(&lab, "app:shop"), "lodger_0_0".to_owned()];
    // Mostly one that may do everything.
    let token = prop_oneof![9 => Just(server.token.clone()), 1 => select(tokens)];
    let kind = prop_oneof![6 => Just("application/json"), 1 => select(vec![PACKAGE, "application/octet-stream", "text/plain"])];
    let operation = select(vec!["LATEST", "LATEST", "x", "%ff", "00000000000000000000000000000000"]);
    let asked = (method_and_path(), token, kind, body(), headers(), operation);
    let latest = std::cell::RefCell::new("0".to_owned());
    let cases = if std::env::var_os("LODGER_TEST_FULL").is_some() { 5000 } else { 500 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&asked, |((method, path), token, kind, body, headers, operation)| {
        let path = path.replace("OPERATION", operation).replace("LATEST", &latest.borrow());
        // What happens would be told for ever.
        let accept = if path.starts_with("/v1/events") { "Accept: application/json\r\n" } else { "" };
        let more = format!("Authorization: Bearer {token}\r\nContent-Type: {kind}\r\n{accept}{headers}");
        let mut reply = server.ask(method, &path, &more, body.to_string().as_bytes());
        if reply.status == 202 {
            *latest.borrow_mut() = reply.json()["id"].as_str().unwrap().to_owned();
            let told = server.listen(&format!("/v1/operations/{}/events", latest.borrow())).rest();
            let end = &told.last().unwrap().data;
            proptest::prop_assert!(["done", "failed"].contains(&end["state"].as_str().unwrap()), "{}", end);
            (reply.status, reply.body) = (end["status"].as_u64().unwrap() as u16, end["answer"].to_string().into());
            if reply.status >= 400 {
                reply.head.push_str("\r\ncontent-type: application/problem+json");
            }
        }
        let of_reply = || format!("{method} {path} {kind} {body}: {} {:?}", reply.head, reply.text());
        proptest::prop_assert!((200..500).contains(&reply.status), "{}", of_reply());
        if reply.status >= 400 && method != "HEAD" {
            proptest::prop_assert!(reply.head.contains("content-type: application/problem+json"), "{}", of_reply());
            let problem = reply.json();
            proptest::prop_assert_eq!(&problem["status"], &json!(reply.status));
            strings(&problem).iter().for_each(|text| crate::support::assert_plain(text));
        }
        if reply.status == 200 && path.starts_with("/v1/addons/good/probe") && ["DELETE", "POST"].contains(&method) {
            // For what comes next to have something to do.
            let problem = server.install(&package, "");
            let grant = if problem.status == 409 { problem.json()["grant"]["digest"].clone() } else { json!("") };
            server.install(&package, grant.as_str().unwrap());
            server.post("/v1/addons/good/probe/enable", &json!({})).is(200);
        }
        Ok(())
    });
    tried.unwrap();
    // What was installed in between serves on, whatever became of it.
    server.ask("GET", "/healthz", "", b"").is(200);
    let doctor = server.get("/v1/doctor").is(200).json();
    assert!(doctor.as_array().unwrap().iter().all(|finding| finding["severity"] != "error"), "{doctor}");
}

/// Something like a descriptor, with what does not belong there.
fn descriptor() -> impl Strategy<Value = Value> {
    let odd = || {
        select(vec![
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!(""),
            json!("x"),
            json!("\u{202e}\u{0}"),
            json!("../../x"),
            json!("0.0.1"),
            json!([]),
            json!(["x:/y"]),
            json!({}),
            json!({ "name": "v", "driver": "bridge" }),
            json!([{ "name": "n", "enable_ipv6": "yes" }]),
            json!([{ "service_name": "s", "image": "docker.io/x:@", "ports": { "a": "b" } }]),
            json!([{ "service_name": "s", "image": "", "environment": { "A": 1 } }]),
            json!({ "80": "80" }),
        ])
    };
    let keys = vec![
        "name",
        "services",
        "volumes",
        "networks",
        "version",
        "namespace",
        "_id",
        "status",
        "component",
        "plans",
        "settings",
        "capabilities",
        "marketplace_id",
        "grant",
        "limits",
        "depends",
        "provider",
        "replaces",
    ];
    let object = proptest::collection::vec((select(keys), odd()), 0..6);
    let object = object.prop_map(|pairs| {
        let mut whole = json!({ "name": "any", "services": [] });
        for (key, value) in pairs {
            whole[key] = value;
        }
        whole
    });
    prop_oneof![4 => object, 1 => odd(), 1 => Just(json!({ "status": "installing" })), 1 => Just(json!({ "status": "active" }))]
}

#[test]
fn of_oakestras_is_answered_in_its_shape() {
    use super::market::{MARKET, package, publish, reviewed};

    let lab = Lab::new();
    let server = Serving::start(&lab);
    let entry = publish(&server, &server.token, &package(&lab, |_| ())).is(201).json();
    let entry = reviewed(&server, &entry["_id"]);
    let asked = json!({ "marketplace_id": entry["_id"], "grant": entry["verification"]["grant"] });
    let installed = server.post("/api/v1/addons", &asked).is(201).json();
    let ids: Vec<String> = [&entry["_id"], &installed["_id"]].map(|id| id.as_str().unwrap().to_owned()).into();
    let id = prop_oneof![
        3 => select(ids),
        2 => select(vec!["x", "", "%ff", "%00", "..%2f", "install", "00000000000000000000000g"]).prop_map(str::to_owned),
    ];
    let base = select(vec![MARKET, "/api/addons", "/api/v1/addons", "/api/addons/install", "/api/v1/nothing"]);
    let end = select(vec!["", "/", "?name=x", "?status=%ff", "?&&=", "?search=%00"]);
    let method = select(vec!["GET", "GET", "POST", "POST", "DELETE", "PATCH", "PUT", "HEAD"]);
    let kind =
        prop_oneof![6 => Just("application/json"), 1 => select(vec![PACKAGE, "text/plain", "application/json; x"])];
    let path = (base, proptest::option::of(id), end).prop_map(|(base, id, end)| match id {
        Some(id) => format!("{base}/{id}{end}"),
        None => format!("{base}{end}"),
    });
    let cases = if std::env::var_os("LODGER_TEST_FULL").is_some() { 5000 } else { 500 };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let tried = runner.run(&(method, path, kind, descriptor()), |(method, path, kind, body)| {
        let more = format!("{}Content-Type: {kind}\r\n", server.bearer());
        let reply = server.ask(method, &path, &more, body.to_string().as_bytes());
        let of_reply = || format!("{method} {path} {kind} {body}: {} {:?}", reply.head, reply.text());
        proptest::prop_assert!((200..500).contains(&reply.status), "{}", of_reply());
        if reply.status >= 400 && method != "HEAD" {
            proptest::prop_assert!(reply.head.contains("content-type: application/json"), "{}", of_reply());
            let told = reply.json();
            proptest::prop_assert_eq!(&told["code"], &json!(reply.status), "{}", of_reply());
            strings(&told).iter().for_each(|text| crate::support::assert_plain(text));
        }
        Ok(())
    });
    tried.unwrap();
    server.ask("GET", "/healthz", "", b"").is(200);
    assert!(!super::log(&lab).contains("panicked"));
}

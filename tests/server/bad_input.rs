//! What clients send that they should not: each has its answer, and the server goes on.

use std::io::{Read as _, Write as _};

use serde_json::json;

use super::{PACKAGE, Reply, Serving, log, packed};
use crate::support::{Lab, assert_plain, until};

/// Whatever the bytes are, there is an answer below 500, or the connection is closed; and the next request is answered.
fn send(server: &Serving, bytes: &[u8]) -> Reply {
    let mut stream = server.connect();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let reply = Reply::read(stream);
    assert!(reply.status < 500, "{reply:?}");
    server.ask("GET", "/healthz", "", b"").is(200);
    reply
}

#[test]
fn bodies_that_are_no_json_or_another_are_refused() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let more = format!("{}Content-Type: application/json\r\n", server.bearer());
    let disable = format!("/v1/addons/{addon}/disable");
    let put = format!("/v1/apps/shop/addons/{addon}");
    for (body, status, code) in [
        (&b"{"[..], 400, "malformed-json"),
        (b"{} {}", 400, "malformed-json"),
        (b"\xff\xfe", 400, "malformed-json"),
        (b"{\"force\": tru}", 400, "malformed-json"),
        (b"{\"force\": \"yes\"}", 422, "invalid-body"),
        (b"{\"force\": true, \"also\": 1}", 422, "invalid-body"),
        (b"[true]", 422, "invalid-body"),
        (b"null", 422, "invalid-body"),
    ] {
        server.ask("POST", &disable, &more, body).refuses(status, code);
    }
    let deep = format!("{{\"options\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let reply = server.ask("PUT", &put, &more, deep.as_bytes());
    assert!([400, 422].contains(&reply.status), "{reply:?}");
    for alias in ["..", "A", "a/b", "", "x\u{202e}y"] {
        let problem = server.put(&put, &json!({ "alias": alias })).refuses(422, "invalid-body");
        assert_plain(problem["detail"].as_str().unwrap());
    }
    server.put(&put, &json!({ "options": { "name": 1 } })).refuses(422, "invalid-body");
    server.put(&put, &json!({ "options": { "x": "y".repeat(5000) } })).refuses(422, "invalid-option");
    // What is wrong with a value is said without it.
    let settings = format!("/v1/addons/{addon}/settings");
    let problem = server.ask("PUT", &settings, &more, b"{\"SECRET\": \"hush-hush").refuses(400, "malformed-json");
    assert!(!problem.to_string().contains("hush-hush"), "{problem}");
    let problem = server.post(&disable, &json!({ "force": "hush-hush" })).refuses(422, "invalid-body");
    assert_eq!(problem["detail"], "expected a boolean at line 1 column 20");
    assert_eq!(server.get(&format!("/v1/addons/{addon}")).is(200).json()["state"], "enabled");
    // No body is an empty one.
    assert_eq!(server.ask("POST", &disable, &more, b"").is(200).json()["changed"], true);
    assert!(!log(&lab).contains("hush-hush"));
}

#[test]
fn bodies_and_heads_that_are_too_large_are_not_read() {
    let lab = Lab::new();
    lab.policy("[limits]\npackage_bytes = 1000000\n");
    let server = Serving::start(&lab);
    let (address, bearer) = (&server.address, server.bearer());
    let head = |path: &str, kind: &str, length: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{bearer}Content-Type: {kind}\r\n{length}\r\n\r\n")
    };
    let enable = "/v1/addons/good/probe/enable";
    // Told beforehand.
    for length in ["1048577", "99999999999999"] {
        let mut stream = server.connect();
        stream.write_all(head(enable, "application/json", &format!("Content-Length: {length}")).as_bytes()).unwrap();
        Reply::read(stream).refuses(413, "body-too-large");
    }
    let mut stream = server.connect();
    stream.write_all(head("/v1/addons", PACKAGE, "Content-Length: 1000001").as_bytes()).unwrap();
    Reply::read(stream).refuses(413, "body-too-large");
    // Found out.
    let mut stream = server.connect();
    stream.write_all(head(enable, "application/json", "Transfer-Encoding: chunked").as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    while stream.write_all(chunk.as_bytes()).is_ok() {}
    server.ask("GET", "/healthz", "", b"").is(200);

    let long = "x".repeat(100_000);
    assert_eq!(send(&server, format!("GET /{long} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).status / 100, 4);
    let reply = send(&server, format!("GET / HTTP/1.1\r\nHost: {address}\r\nX-Long: {long}\r\n\r\n").as_bytes());
    assert_eq!(reply.status, 431, "{reply:?}");
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let reply = send(&server, format!("GET / HTTP/1.1\r\nHost: {address}\r\n{many}\r\n").as_bytes());
    assert_eq!(reply.status, 431, "{reply:?}");
}

#[test]
fn what_is_no_http_is_closed() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let address = &server.address;
    for bytes in [
        &b"\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo\xffst: x\r\n\r\n",
        format!("POST /v1/addons HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
            .as_bytes(),
        format!("POST /v1/addons HTTP/1.1\r\nHost: {address}\r\nContent-Length: -1\r\n\r\n").as_bytes(),
        format!("POST /v1/addons HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").as_bytes(),
    ] {
        let reply = send(&server, bytes);
        assert_ne!(reply.status / 100, 2, "{reply:?}");
    }
}

#[test]
fn a_path_is_a_name_or_nothing() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    for path in [
        "/v1/addons/..%2f..%2fkey/probe",
        "/v1/addons/good/..%2fprobe",
        "/v1/addons/good/%2e%2e",
        "/v1/addons/good/Probe",
        "/v1/addons/good/probe%00",
        "/v1/addons/good/%ff",
        "/v1/addons/good/probe%0d%0aX:y",
        "/v1/apps/..%2fshop",
        "/v1/addons/good/probe/services/..%2f/logs",
    ] {
        let problem = server.get(path).refuses(422, "invalid-id");
        assert_plain(problem["detail"].as_str().unwrap());
    }
    for path in ["/v1", "/v1/addons/", "/v1/addons/good", "/v1/../v1/addons", "//v1/addons", "/v1/addons/good/probe/"] {
        server.get(path).refuses(404, "no-such-route");
    }
    server.get("/v1/addons/good/other").refuses(404, "unknown-addon");
    server.get("/v1/addons/good/other/calls").refuses(404, "unknown-addon");
    server.get("/v1/addons/good/probe/services/db/logs").refuses(404, "unknown-service");
    server.post("/v1/addons/good/other/enable", &json!({})).refuses(404, "unknown-addon");
    server.post("/v1/addons/good/probe", &json!({})).refuses(405, "method-not-allowed");
    server.get("/v1/addons/good/probe/enable").refuses(405, "method-not-allowed");
    server.get("/v1/addons/good/probe/calls?limit=many").refuses(422, "invalid-query");
    server.get("/v1/addons/good/probe/calls?token=x").refuses(422, "invalid-query");
    server.get("/v1/apps/shop/env?partial=maybe").refuses(422, "invalid-query");
    server.get("/v1/addons/good/probe/calls?cursor=%27%20OR%201=1--").is(200);
}

#[test]
fn packages_are_refused_as_on_the_command_line() {
    let lab = Lab::new();
    let dir = lab.well_behaved_package(|_| ());
    let whole = packed(&lab, &dir);
    let server = Serving::start(&lab);
    for bad in [&b""[..], b"not an archive", b"\x1f\x8b\x08garbage", &whole[..whole.len() / 2]] {
        server.install(bad, "").refuses(422, "invalid-package");
    }
    let wrong = lab.well_behaved_package(|manifest| manifest["surprise"] = json!(1));
    // `pack` itself refuses it: packed as tar would.
    let out = lab.path("wrong.tar.gz");
    let tar =
        lab.command_of("tar", &["-C", &wrong, "-czf", out.to_str().unwrap(), "addon.json", "probe.wasm", "files"]);
    assert!({ tar }.status().unwrap().success());
    let reply = server.install(&std::fs::read(out).unwrap(), "");
    let problem = reply.refuses(422, "invalid-manifest");
    assert!(problem["problems"][0]["path"].is_string(), "{problem}");
    server
        .ask("POST", "/v1/addons", &format!("{}Content-Type: application/gzip\r\n", server.bearer()), &whole)
        .refuses(415, "media-type");
    assert!(lab.installed_files().is_empty());
}

/// Both wait for the server's patience, side by side.
#[test]
fn who_is_too_slow_is_not_waited_for() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let mut slow_head = server.connect();
    slow_head.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").unwrap();
    let mut idle = server.connect();
    let mut slow_body = server.connect();
    let (address, bearer) = (&server.address, server.bearer());
    let head = format!("POST /v1/reconcile HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{bearer}");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{");
    slow_body.write_all(head.as_bytes()).unwrap();
    Reply::read(slow_body).refuses(408, "body-too-slow");
    let slow = Reply::read(slow_head);
    assert!([0, 408].contains(&slow.status), "{slow:?}");
    assert_eq!(idle.read(&mut [0; 10]).unwrap_or(0), 0, "it is closed");
}

#[test]
fn one_client_has_so_many_requests_and_connections_and_leaves_room_for_none_more() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let (address, bearer) = (&server.address, server.bearer());
    let head = format!("POST /v1/reconcile HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{bearer}");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{");
    // Each waits for its last byte.
    let mut waiting: Vec<_> = (0..32).map(|_| server.connect()).collect();
    for stream in &mut waiting {
        stream.write_all(head.as_bytes()).unwrap();
    }
    let refused = until(|| Some(server.ask("GET", "/healthz", "", b"")).filter(|reply| reply.status != 200));
    refused.refuses(429, "too-many-requests");
    for stream in &mut waiting {
        stream.write_all(b"}").unwrap();
    }
    for stream in waiting {
        Reply::read(stream).is(200);
    }
    let idle: Vec<_> = (0..128).map(|_| server.connect()).collect();
    let mut one_too_many = server.connect();
    let _ = one_too_many.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(one_too_many.read(&mut [0; 10]).unwrap_or(0), 0, "it is closed");
    drop(idle);
    until(|| {
        let mut stream = server.connect();
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        (Reply::read(stream).status == 200).then_some(())
    });
}

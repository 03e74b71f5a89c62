//! The marketplace over HTTP, in Oakestra's shapes: publishing, reviews, what is told of them.

use serde_json::{Value, json};

use super::{PACKAGE, Reply, Serving, log, packed, token};
use crate::support::{Lab, assert_plain, component, probe_manifest, until};

pub const MARKET: &str = "/api/v1/marketplace/addons";

/// An addon without services, whose review needs no engine.
pub fn package(lab: &Lab, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut manifest = probe_manifest("good", 60_000);
    manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]);
    change(&mut manifest);
    packed(lab, lab.package("hooks_all", &manifest, component("hooks_all")).to_str().unwrap())
}

pub fn publish(server: &Serving, token: &str, packed: &[u8]) -> Reply {
    let more = format!("Authorization: Bearer {token}\r\nContent-Type: {PACKAGE}\r\n");
    server.ask("POST", MARKET, &more, packed)
}

/// The entry once its review has ended.
pub fn reviewed(server: &Serving, id: &Value) -> Value {
    let path = format!("{MARKET}/{}", id.as_str().unwrap());
    until(|| Some(server.get(&path).is(200).json()).filter(|entry| entry["status"] != "under_review"))
}

/// A refusal as Oakestra words it.
#[track_caller]
pub fn refused(reply: Reply, status: u16, phrase: &str) -> Value {
    assert!(reply.head.contains("content-type: application/json"), "{reply:?}");
    let body = reply.is(status).json();
    assert_eq!((&body["code"], &body["status"]), (&json!(status), &json!(phrase)), "{body}");
    body
}

fn is_id(id: &Value) -> bool {
    let id = id.as_str().unwrap();
    id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

#[test]
fn a_package_is_reviewed_listed_and_gone_when_it_is_deleted() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let bytes = package(&lab, |_| ());
    let [publisher, reader, other] = ["publish:good", "read", "publish:acme"].map(|scope| token(&lab, scope));
    refused(publish(&server, &reader, &bytes), 403, "Forbidden");
    refused(publish(&server, &other, &bytes), 403, "Forbidden");
    let entry = publish(&server, &publisher, &bytes).is(201).json();
    assert!(is_id(&entry["_id"]) && entry["status"] == "under_review", "{entry}");
    assert_eq!((&entry["addon"], &entry["version"]), (&json!("good/probe"), &json!("1.0.0")));
    let path = format!("{MARKET}/{}", entry["_id"].as_str().unwrap());
    let entry = reviewed(&server, &entry["_id"]);
    assert_eq!(entry["status"], "approved", "{entry}");
    let checks: Vec<&Value> = entry["verification"]["checks"].as_array().unwrap().iter().collect();
    assert_eq!(
        checks.iter().map(|check| check["check"].as_str().unwrap()).collect::<Vec<_>>(),
        ["manifest", "component", "grant"]
    );
    assert!(checks.iter().all(|check| check["passed"] == true), "{entry}");
    assert!(entry["verification"]["grant"].as_str().unwrap().starts_with("sha256:"));
    for list in [MARKET, "/api/addons", "/api/addons/", &format!("{MARKET}?name=probe&other=1")] {
        let listed = server.as_(&reader, "GET", list, &json!({})).is(200).json();
        assert_eq!(listed, json!([entry]), "{list}");
    }
    assert_eq!(server.get(&format!("{MARKET}?name=prob")).is(200).json(), json!([]));
    assert_eq!(server.get(&format!("{MARKET}?search=OOD/PRO")).is(200).json(), json!([entry]));
    assert_eq!(server.get(&format!("{MARKET}?search=nothing")).is(200).json(), json!([]));
    // The same again is what is there.
    assert_eq!(publish(&server, &publisher, &bytes).is(201).json()["_id"], entry["_id"]);
    // Another content is never the same version.
    let changed = package(&lab, |manifest| manifest["description"] = json!("another"));
    let body = refused(publish(&server, &publisher, &changed), 409, "Conflict");
    assert_eq!(body["reason"], "version-published");
    let later = package(&lab, |manifest| manifest["version"] = json!("1.0.1"));
    let later = publish(&server, &publisher, &later).is(201).json();
    assert_ne!(later["_id"], entry["_id"]);

    for method in ["PUT", "PATCH"] {
        let body = refused(server.as_(&server.token, method, &path, &json!({})), 405, "Method Not Allowed");
        assert!(body.get("message").is_none());
    }
    refused(server.as_(&other, "DELETE", &path, &json!({})), 403, "Forbidden");
    let gone = server.as_(&publisher, "DELETE", &path, &json!({})).is(204);
    assert_eq!(gone.text(), "");
    for id in [entry["_id"].as_str().unwrap(), "x", "%2e%2e%2f", "0000", &"f".repeat(24)] {
        for method in ["GET", "DELETE"] {
            let body =
                refused(server.as_(&server.token, method, &format!("{MARKET}/{id}"), &json!({})), 404, "Not Found");
            assert_eq!(body["message"], "Addon not found");
        }
    }
    // Also after it was deleted.
    refused(publish(&server, &publisher, &changed), 409, "Conflict");
    let again = publish(&server, &publisher, &bytes).is(201).json();
    assert!(again["_id"] != entry["_id"] && again["digest"] == entry["digest"], "{again}");
    assert_eq!(reviewed(&server, &again["_id"])["status"], "approved");
}

#[test]
fn what_a_review_finds_is_told_and_ends_it_once() {
    let lab = Lab::new();
    lab.policy("[grant]\nnetwork = []\n");
    let server = Serving::start(&lab);
    let of = |name: &str, component: &[u8], network: Value| {
        let mut manifest = probe_manifest("good", 60_000);
        (manifest["name"], manifest["config_vars"]) = (json!(name), json!([]));
        manifest["capabilities"]["network"] = network;
        archive(&lab.package(name, &manifest, component))
    };
    let cases = [
        ("grant", "capabilities.network[0]", of("asks", &component("hooks_all"), json!(["api.example.com:443"]))),
        ("component", ".", of("broken", b"\0asm but no component", json!([]))),
        ("component", ".", of("unknown", &component("unknown_import"), json!([]))),
    ];
    for (check, path, bytes) in cases {
        let entry = publish(&server, &server.token, &bytes).is(201).json();
        let entry = reviewed(&server, &entry["_id"]);
        assert_eq!(entry["status"], "verification_failed", "{entry}");
        let failed = entry["verification"]["checks"].as_array().unwrap().iter().find(|check| check["passed"] == false);
        let failed = failed.unwrap();
        assert_eq!((&failed["check"], &failed["problems"][0]["path"]), (&json!(check), &json!(path)), "{entry}");
        assert!(!failed["problems"][0]["message"].as_str().unwrap().is_empty());
        // The same is tried anew, since the policy or a registry may have changed.
        let again = publish(&server, &server.token, &bytes).is(201).json();
        assert!(again["_id"] != entry["_id"] && again["status"] == "under_review", "{again}");
        assert_eq!(reviewed(&server, &again["_id"])["status"], "verification_failed");
    }
    assert_eq!(server.get(MARKET).is(200).json(), json!([]));
}

/// What `lodger pack` would refuse to pack.
fn archive(dir: &std::path::Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, entry.file_name(), &bytes[..]).unwrap();
        }
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn descriptors_are_refused_in_the_words_of_their_schema() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let service = |more: Value| {
        let mut service = json!({ "service_name": "s", "image": "redis:7" });
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "name": "x", "services": [service] })
    };
    let table = [
        (
            json!({}),
            json!({ "name": ["Missing data for required field."], "services": ["Missing data for required field."] }),
        ),
        (json!([]), json!({ "_schema": ["Invalid input type."] })),
        (json!({ "name": null, "services": [] }), json!({ "name": ["Field may not be null."] })),
        (
            json!({ "name": 5, "services": {} }),
            json!({ "name": ["Not a valid string."], "services": ["Not a valid list."] }),
        ),
        (json!({ "name": "x", "services": [], "status": "approved" }), json!({ "status": ["Unknown field."] })),
        (
            json!({ "name": "x", "services": [{ "service_name": "s" }] }),
            json!({ "services": { "0": { "image": ["Missing data for required field."] } } }),
        ),
        (
            json!({ "name": "x", "services": ["s"] }),
            json!({ "services": { "0": { "_schema": ["Invalid input type."] } } }),
        ),
        (
            service(json!({ "ports": { "80": 8080 } })),
            json!({ "services": { "0": { "ports": { "80": { "value": ["Not a valid string."] } } } } }),
        ),
        (
            service(json!({ "restart": "always", "depends_on": [] })),
            json!({ "services": { "0": { "restart": ["Unknown field."], "depends_on": ["Unknown field."] } } }),
        ),
        (
            service(json!({ "environment": ["A=b"] })),
            json!({ "services": { "0": { "environment": ["Not a valid mapping type."] } } }),
        ),
        (
            json!({ "name": "x", "services": [], "networks": [{ "name": "n", "enable_ipv6": "maybe" }] }),
            json!({ "networks": { "0": { "enable_ipv6": ["Not a valid boolean."] } } }),
        ),
        // What is not Oakestra's has its own words.
        (json!({ "name": "x", "services": [], "version": "one" }), Value::Null),
        (json!({ "name": "x", "services": [], "namespace": "No Way" }), Value::Null),
        (json!({ "name": "x", "services": [], "plans": 5 }), Value::Null),
        (json!({ "name": "x", "services": [], "component": "x.wasm" }), Value::Null),
        (json!({ "name": "\u{202e}", "services": [] }), Value::Null),
    ];
    for (descriptor, errors) in table {
        let body = refused(server.post(MARKET, &descriptor), 422, "Unprocessable Entity");
        if errors.is_null() {
            assert!(body["errors"]["json"].is_object(), "{body}");
            crate::support::strings(&body).iter().for_each(|text| assert_plain(text));
        } else {
            assert_eq!(
                body,
                json!({ "code": 422, "status": "Unprocessable Entity", "reason": "invalid-body", "errors": { "json": errors } })
            );
        }
    }
    for text in ["{", "", "{}{}", "\u{0}"] {
        let more = format!("{}Content-Type: application/json\r\n", server.bearer());
        let body = refused(server.ask("POST", MARKET, &more, text.as_bytes()), 400, "Bad Request");
        assert_eq!(body["errors"], json!({ "json": ["Invalid JSON body."] }));
    }
    // What a form of a page could send is none.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let more = format!("{}Content-Type: {kind}\r\n", server.bearer());
        let body =
            refused(server.ask("POST", MARKET, &more, br#"{"name":"x","services":[]}"#), 422, "Unprocessable Entity");
        assert_eq!(body["errors"]["json"]["name"], json!(["Missing data for required field."]));
    }
    let more = format!("{}Content-Type: application/json\r\n", server.bearer());
    refused(server.ask("POST", MARKET, &more, &vec![b' '; (1 << 20) + 1]), 413, "Payload Too Large");
    let more = format!("{}Content-Type: {PACKAGE}\r\n", server.bearer());
    refused(server.ask("POST", MARKET, &more, b"not an archive"), 422, "Unprocessable Entity");
    refused(server.ask("GET", MARKET, "", b""), 401, "Unauthorized");
    refused(server.get("/api/v1/nothing"), 404, "Not Found");
    let foreign = format!("{}Origin: https://evil.example\r\n", server.bearer());
    refused(server.ask("GET", MARKET, &foreign, b""), 403, "Forbidden");
}

#[test]
fn a_descriptor_fails_its_review_where_its_rules_are_broken() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    // The example of Oakestra's own documentation, as it stands there.
    let documented = json!({
        "name": "addon-name",
        "networks": [],
        "volumes": [{ "name": "myvolume", "driver": "bridge" }],
        "services": [{
            "image": "your-username/addon-name:latest",
            "service_name": "my_service",
            "networks": [],
            "volumes": ["myvolume:/somevolume"],
            "ports": { "10007": "10007" },
        }],
    });
    let entry = server.post("/api/addons", &documented).is(201).json();
    assert_eq!(
        (&entry["status"], &entry["addon"], &entry["version"]),
        (&json!("under_review"), &json!("local/addon-name"), &json!("0.0.1"))
    );
    assert_eq!(entry["services"][0]["environment"], json!({}), "{entry}");
    assert_eq!(entry["volumes"][0]["labels"], json!({}), "{entry}");
    let entry = reviewed(&server, &entry["_id"]);
    assert_eq!(entry["status"], "verification_failed");
    let check = &entry["verification"]["checks"][0];
    assert_eq!((&check["check"], &check["passed"]), (&json!("manifest"), &json!(false)));
    assert_eq!(
        (&check["problems"][0]["path"], &check["problems"][0]["hint"]),
        (&json!("volumes[0].driver"), &json!("remove the line"))
    );
    // One that is empty is decided too; theirs waited for ever.
    let empty = server.post(MARKET, &json!({ "name": "Empty Addon", "services": [], "_id": "mine" })).is(201).json();
    assert!(is_id(&empty["_id"]) && empty["addon"] == "local/empty-addon" && empty["name"] == "Empty Addon", "{empty}");
    assert_eq!(reviewed(&server, &empty["_id"])["status"], "verification_failed");
    // Versions that nobody names are counted, as far as there is anything new.
    let version = |descriptor: &Value| server.post(MARKET, descriptor).is(201).json()["version"].clone();
    assert_eq!(version(&documented), "0.0.1");
    let mut changed = documented.clone();
    changed["description"] = json!("changed");
    assert_eq!((version(&changed), version(&changed)), (json!("0.0.2"), json!("0.0.2")));
    let mut named = documented.clone();
    named["version"] = json!("0.0.2");
    let body = refused(server.post(MARKET, &named), 409, "Conflict");
    assert_eq!(body["reason"], "version-published");
}

#[test]
fn secrets_in_descriptors_are_not_told() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let environment = json!({
        "MODE": "fast", "DB_PASSWORD": "hush-one", "api_key": "hush-two", "URL": "amqp://user:hush-three@host/", "TOKEN": "",
    });
    let descriptor = json!({
        "name": "leaky", "version": "1.0.0", "volumes": [{ "name": "v", "driver": "nfs" }],
        "services": [{ "service_name": "s", "image": "redis:7", "environment": environment }],
    });
    let entry = server.post(MARKET, &descriptor).is(201);
    let id = entry.json()["_id"].clone();
    let told = entry.text() + &reviewed(&server, &id).to_string() + &log(&lab);
    assert!(!told.contains("hush-") && told.contains("fast"), "{told}");
    // What is kept is what was given.
    let same = server.post(MARKET, &descriptor).is(201).json();
    assert_eq!(same["digest"], entry.json()["digest"]);
}

#[test]
fn a_review_that_was_cut_off_is_begun_anew() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let bytes = package(&lab, |_| ());
    // Compiled code that is there already would be used.
    std::fs::remove_dir_all(lab.home().join("cache")).unwrap();
    std::fs::DirBuilder::new().create(lab.home().join("cache")).unwrap();
    let id = publish(&server, &server.token, &bytes).is(201).json()["_id"].clone();
    drop(server);
    let server = Serving::start(&lab);
    assert_eq!(reviewed(&server, &id)["status"], "approved");
}

#[test]
fn of_two_that_publish_at_once_one_version_is_one_digest() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let one = package(&lab, |_| ());
    let other = package(&lab, |manifest| manifest["description"] = json!("other"));
    let more = format!("{}Content-Type: {PACKAGE}\r\n", server.bearer());
    let sent: Vec<_> = [&one, &other, &one, &other].map(|bytes| server.send("POST", MARKET, &more, bytes)).into();
    let replies: Vec<Reply> = sent.into_iter().map(Reply::read).collect();
    let digests: std::collections::BTreeSet<String> =
        replies.iter().filter(|reply| reply.status == 201).map(|reply| reply.json()["digest"].to_string()).collect();
    assert_eq!(digests.len(), 1, "{replies:?}");
    assert!(replies.iter().all(|reply| [201, 409].contains(&reply.status)), "{replies:?}");
}

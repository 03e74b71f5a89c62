//! The marketplace where addons have services: their images are looked for, and none is fetched.

use serde_json::{Value, json};

use super::{Site, docker, web};
use crate::registry::Registry;
use crate::server::Serving;
use crate::support::until;

const MARKET: &str = "/api/v1/marketplace/addons";

fn descriptor(site: &Site, name: &str, images: &[&str]) -> Value {
    let services = images.iter().enumerate().map(|(place, image)| {
        let mut service = web(&format!("web-{place}"));
        service["image"] = json!(image);
        service
    });
    json!({ "name": name, "namespace": site.namespace, "version": "1.0.0", "services": services.collect::<Vec<_>>() })
}

fn reviewed(server: &Serving, descriptor: &Value) -> Value {
    let entry = server.post(MARKET, descriptor).is(201).json();
    let path = format!("{MARKET}/{}", entry["_id"].as_str().unwrap());
    until(|| Some(server.get(&path).is(200).json()).filter(|entry| entry["status"] != "under_review"))
}

fn images(entry: &Value) -> &Value {
    let checks = entry["verification"]["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == "images").unwrap()
}

#[test]
fn images_are_found_where_they_are_and_not_fetched() {
    let site = Site::new();
    let registry = Registry::new();
    let there = registry.push("lodger-test/web:1", "acme/web:2");
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}\n[[registry]]\nname = \"{}\"\n", registry.address()));
    let server = Serving::start(&site.lab);
    // One that the engine has by its id, and one that only its registry has.
    let image = format!("{}/acme/web:2", registry.address());
    let entry = reviewed(&server, &descriptor(&site, "both", &["lodger-test/web:1", &image]));
    assert_eq!(entry["status"], "approved", "{entry}");
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", "lodger-test/web:1"]);
    assert_eq!(entry["verification"]["images"]["web-0"], id.trim());
    assert_eq!(entry["verification"]["images"]["web-1"], format!("{}/acme/web@{there}", registry.address()));
    let fetched = docker(&["images", "--quiet", &format!("{}/acme/web", registry.address())]);
    assert_eq!(fetched, "", "nothing is fetched");

    // One that is not there keeps the other from being approved, at any moment.
    let absent = format!("{}/acme/absent:1", registry.address());
    let entry = reviewed(&server, &descriptor(&site, "half", &["lodger-test/web:1", &absent]));
    assert_eq!(entry["status"], "verification_failed", "{entry}");
    let problems = &images(&entry)["problems"];
    assert_eq!(problems[0]["path"], "services[1].image", "{entry}");
    assert!(problems[0]["message"].as_str().unwrap().contains("acme/absent:1"), "{entry}");
    assert_eq!(problems.as_array().unwrap().len(), 1);
}

#[test]
fn a_descriptor_with_secrets_is_given_whole_only_to_who_manages_and_installed_elsewhere_as_it_is() {
    let (site, other) = (Site::new(), Site::new());
    let server = Serving::start(&site.lab);
    let mut plain = descriptor(&site, "plain", &["lodger-test/web:1"]);
    plain["namespace"] = json!(other.namespace);
    let mut secret = descriptor(&site, "secret", &["lodger-test/web:1"]);
    secret["services"][0]["environment"] = json!({ "DB_PASSWORD": "hush-hush" });
    let reader = site.lab.json(&["token", "create", "--scope", "read"])["token"].as_str().unwrap().to_owned();
    let get = |token: &str, entry: &Value| {
        let path = format!("{MARKET}/{}/package", entry["_id"].as_str().unwrap());
        server.ask("GET", &path, &format!("Authorization: Bearer {token}\r\n"), b"")
    };
    let entry = reviewed(&server, &secret);
    assert_eq!(entry["status"], "approved", "{entry}");
    assert_eq!(get(&reader, &entry).status, 403);
    assert_eq!(server.get(&format!("{MARKET}/{}/package", entry["_id"].as_str().unwrap())).status, 200);
    // One without is anybody's who may look, and what is installed of it is what was approved.
    let entry = reviewed(&server, &plain);
    assert_eq!(get(&reader, &entry).status, 200);
    let mut command = other.lab.command(&["--json", "install", "plain", "--yes"]);
    command.env("LODGER_MARKETPLACE", server.url("")).env("LODGER_MARKETPLACE_TOKEN", &reader);
    let installed = crate::support::Ran::of(&["install"], command.output().unwrap()).ok().json();
    assert_eq!((&installed["digest"], &installed["changed"]), (&entry["digest"], &json!(true)));
}

#[test]
fn whoever_publishes_does_not_choose_what_this_machine_asks() {
    let site = Site::new();
    let registry = Registry::new();
    registry.push("lodger-test/web:1", "acme/web:2");
    let server = Serving::start(&site.lab);
    for host in [registry.address(), "169.254.169.254", "localhost:5000", "10.0.0.1:80"] {
        let name = format!("at-{}", host.replace(['.', ':'], "-"));
        let entry = reviewed(&server, &descriptor(&site, &name, &[&format!("{host}/acme/web:2")]));
        assert_eq!(entry["status"], "verification_failed", "{entry}");
        let problem = &images(&entry)["problems"][0];
        assert!(problem["message"].as_str().unwrap().contains("cannot be asked"), "{entry}");
        assert!(problem["hint"].as_str().unwrap().contains("[[registry]]"), "{entry}");
    }
}

#[test]
fn without_an_engine_a_review_waits_and_keeps_no_other_waiting() {
    let site = Site::new();
    let socket = site.lab.path("engine.sock");
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}\n[[engine]]\nname = \"local\"\nsocket = \"{}\"\n", socket.display()));
    let server = Serving::start(&site.lab);
    let entry = server.post(MARKET, &descriptor(&site, "waits", &["lodger-test/web:1"])).is(201).json();
    let path = format!("{MARKET}/{}", entry["_id"].as_str().unwrap());
    // One whose end needs no engine comes to it meanwhile.
    let mut broken = descriptor(&site, "broken", &["lodger-test/web:1"]);
    broken["volumes"] = json!([{ "name": "v", "driver": "bridge" }]);
    assert_eq!(reviewed(&server, &broken)["status"], "verification_failed");
    assert_eq!(server.get(&path).is(200).json()["status"], "under_review");
    std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    let entry = until(|| Some(server.get(&path).is(200).json()).filter(|entry| entry["status"] != "under_review"));
    assert_eq!(entry["status"], "approved", "{entry}");
}

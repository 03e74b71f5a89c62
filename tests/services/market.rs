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

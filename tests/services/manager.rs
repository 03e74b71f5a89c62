//! The addons manager where addons have services, as Oakestra's users drive it: what theirs gets wrong, and how ours is.

use std::process::Command;

use serde_json::{Value, json};

use super::{Site, docker, web};
use crate::server::Serving;
use crate::server::manager::comes_to;
use crate::server::market::{MARKET, reviewed};
use crate::support::until;

const ADDONS: &str = "/api/v1/addons";

/// A descriptor in which services have no port of the machine.
fn descriptor(site: &Site, name: &str, services: &[&str]) -> Value {
    let services = services.iter().map(|name| json!({ "service_name": name, "image": "lodger-test/web:1" }));
    json!({ "name": name, "namespace": site.namespace, "services": services.collect::<Vec<_>>() })
}

/// Publishes it, and asks for it to be installed: the installation's id.
fn install(server: &Serving, descriptor: &Value) -> Value {
    let entry = server.post(MARKET, descriptor).is(201).json();
    let entry = reviewed(server, &entry["_id"]);
    assert_eq!(entry["status"], "approved", "{entry}");
    let asked = json!({ "marketplace_id": entry["_id"], "grant": entry["verification"]["grant"] });
    server.post(ADDONS, &asked).is(201).json()["_id"].clone()
}

/// The container of a service of an addon.
fn container(site: &Site, addon: &str, service: &str) -> String {
    let filter = format!("label=lodger.addon={}/{addon}", site.namespace);
    let named = format!("label=lodger.service={service}");
    docker(&["ps", "--all", "--filter", &filter, "--filter", &named, "--format", "{{.Names}}"]).trim().to_owned()
}

#[test]
fn the_documented_flow_works_as_it_is_documented() {
    let site = Site::new();
    let mut addon = web("my_service");
    addon["networks"] = json!([]);
    addon["volumes"] = json!(["myvolume:/somevolume"]);
    addon.as_object_mut().unwrap().remove("ready");
    let addon = json!({
        "name": "addon-name", "networks": [], "volumes": [{ "name": "myvolume", "driver": "local" }], "services": [addon],
        "namespace": site.namespace,
    });
    site.lab.write("addon.json", addon.to_string());
    let server = Serving::start(&site.lab);
    let curl = |args: &[&str]| -> Value {
        let bearer = server.bearer();
        let output = Command::new("curl")
            .args(["--silent", "--header", bearer.trim()])
            .args(args)
            .current_dir(site.lab.path(""))
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let published =
        curl(&["-X", "POST", "-H", "Content-Type: application/json", "-d", "@addon.json", &server.url("/api/addons")]);
    assert_eq!(published["status"], "under_review");
    let entry = reviewed(&server, &published["_id"]);
    assert_eq!(curl(&[&server.url("/api/addons")])[0]["_id"], entry["_id"]);
    // Whoever may name a grant does; without, it is the policy's to preapprove.
    let asked = format!("{{\"marketplace_id\": {}}}", entry["_id"]);
    let post = ["-X", "POST", "-H", "Content-Type: application/json", "-d"];
    let url = server.url("/api/addons/install");
    let refused = curl(&[&post[..], &[&asked, &url]].concat());
    assert_eq!((&refused["code"], &refused["grant"]["digest"]), (&json!(409), &entry["verification"]["grant"]));
    drop(server);
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let approved = format!("preapproved = [{}]\n", entry["verification"]["grant"]);
    site.lab.policy(&format!("{policy}{approved}"));
    let server = Serving::start(&site.lab);
    let bearer = server.bearer();
    let url = server.url("/api/addons/install");
    let args = [&["--silent", "--header", bearer.trim()], &post[..], &[&asked, &url]].concat();
    let installed: Value = serde_json::from_slice(&Command::new("curl").args(args).output().unwrap().stdout).unwrap();
    assert_eq!(installed["status"], "installing", "{installed}");
    comes_to(&server, &installed["_id"], "active");
    assert_eq!(site.has("containers").len(), 1);
    let path = format!("{ADDONS}/{}", installed["_id"].as_str().unwrap());
    server.delete(&path, &json!({})).is(200);
    comes_to(&server, &installed["_id"], "disabled");
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 1));
    server.delete(&path, &json!({})).is(204);
    site.has_nothing();
}

/// Faults 2 and 5 of theirs, and the partial failure that took the healthy services away.
#[test]
fn a_service_that_crashes_is_told_by_its_name_and_its_siblings_stay() {
    let site = Site::new();
    let server = Serving::start(&site.lab);
    let id = install(&server, &descriptor(&site, "pair", &["one", "two"]));
    // The same names in another addon.
    let other = install(&server, &descriptor(&site, "other", &["one"]));
    comes_to(&server, &id, "active");
    comes_to(&server, &other, "active");
    let (one, two) = (container(&site, "pair", "one"), container(&site, "pair", "two"));
    let started = || docker(&["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", &two]);
    let (before, others) = (started(), docker(&["inspect", "--format", "{{.Id}}", &container(&site, "other", "one")]));
    // Whenever it runs, it is killed again.
    let path = format!("{ADDONS}/{}", id.as_str().unwrap());
    let partial = until(|| {
        let _ = Command::new("docker").args(["kill", &one]).output();
        Some(server.get(&path).is(200).json()).filter(|found| found["status"] == "partially_active")
    });
    assert_eq!(partial["status_details"]["failed_services"], json!(["one"]), "{partial}");
    assert_eq!(started(), before, "the sibling is left alone");
    let recovered = comes_to(&server, &id, "active");
    assert_eq!((&recovered["status_details"], &recovered["logs"]), (&json!({}), &json!("")));
    assert_eq!(docker(&["inspect", "--format", "{{.Id}}", &container(&site, "other", "one")]), others);
}

#[test]
fn one_that_cannot_start_is_failed_with_its_log_and_keeps_no_other_waiting() {
    let site = Site::new();
    let server = Serving::start(&site.lab);
    let mut bad = descriptor(&site, "bad", &["ends"]);
    bad["services"][0]["image"] = json!("lodger-test/exits:1");
    bad["services"][0]["ready"] = json!({ "port": 8080, "timeout_ms": 20000 });
    let bad = install(&server, &bad);
    let good = install(&server, &descriptor(&site, "good", &["ends"]));
    comes_to(&server, &good, "active");
    let failed = comes_to(&server, &bad, "failed");
    assert_eq!(failed["status_details"]["failed_services"], json!(["ends"]), "{failed}");
    assert!(failed["logs"].as_str().unwrap().starts_with("Logs for container 'ends':\n"), "{failed}");
    assert!(failed["logs"].as_str().unwrap().contains("it cannot start: nothing is right"), "{failed}");
}

#[test]
fn neither_an_engine_that_is_away_nor_a_restart_fails_anything() {
    let site = Site::new();
    let socket = site.lab.path("engine.sock");
    let up = || std::os::unix::fs::symlink("/var/run/docker.sock", &socket).unwrap();
    up();
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}\n[[engine]]\nname = \"local\"\nsocket = \"{}\"\n", socket.display()));
    let server = Serving::start(&site.lab);
    let id = install(&server, &descriptor(&site, "stays", &["one"]));
    comes_to(&server, &id, "active");
    let before = docker(&["inspect", "--format", "{{.Id}}", &container(&site, "stays", "one")]);
    let entry = server.post(MARKET, &descriptor(&site, "later", &["one"])).is(201).json();
    let entry = reviewed(&server, &entry["_id"]);
    std::fs::remove_file(&socket).unwrap();
    // What is installed meanwhile waits, and says so.
    let asked = json!({ "marketplace_id": entry["_id"], "grant": entry["verification"]["grant"] });
    let later = server.post(ADDONS, &asked).is(201).json()["_id"].clone();
    let path = format!("{ADDONS}/{}", later.as_str().unwrap());
    let waits = until(|| Some(server.get(&path).is(200).json()).filter(|found| found["status_details"] != json!({})));
    assert_eq!(waits["status"], "installing");
    assert_eq!(waits["status_details"]["waits_for"]["code"], "engine-unreachable", "{waits}");
    drop(server);
    let server = Serving::start(&site.lab);
    let path = format!("{ADDONS}/{}", id.as_str().unwrap());
    assert_eq!(server.get(&path).is(200).json()["status"], "active");
    up();
    comes_to(&server, &later, "active");
    assert_eq!(server.get(&path).is(200).json()["status"], "active");
    assert_eq!(docker(&["inspect", "--format", "{{.Id}}", &container(&site, "stays", "one")]), before);
}

/// What was approved is what runs, whatever its name leads to by now.
#[test]
fn an_image_that_moved_since_it_was_approved_is_not_installed() {
    let site = Site::new();
    let name = format!("lodger-test/web:{}", site.namespace);
    docker(&["tag", "lodger-test/web:1", &name]);
    let server = Serving::start(&site.lab);
    let mut moving = descriptor(&site, "moving", &["one"]);
    moving["services"][0]["image"] = json!(name);
    let entry = server.post(MARKET, &moving).is(201).json();
    let entry = reviewed(&server, &entry["_id"]);
    assert_eq!(entry["status"], "approved", "{entry}");
    docker(&["tag", "lodger-test/shell:1", &name]);
    let asked = json!({ "marketplace_id": entry["_id"], "grant": entry["verification"]["grant"] });
    let id = server.post(ADDONS, &asked).is(201).json()["_id"].clone();
    let failed = comes_to(&server, &id, "failed");
    docker(&["rmi", &name]);
    assert_eq!(failed["status_details"]["failure"]["code"], "image", "{failed}");
    site.has_nothing();
}

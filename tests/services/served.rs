//! Services while a server runs: it looks after them, and tells how they are.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Site, docker, web};
use crate::server::Serving;
use crate::support::until;

const SOCKET: &str = "/var/run/docker.sock";

#[test]
fn a_server_mends_services_and_tells_of_them_and_of_their_engine() {
    let site = Site::new();
    let socket = site.lab.path("engine.sock");
    symlink(SOCKET, &socket).unwrap();
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}\n[[engine]]\nname = \"local\"\nsocket = \"{}\"\n", socket.display()));
    let addon = site.install("web", json!([web("web")]));
    let server = Serving::start(&site.lab);
    let path = format!("/v1/addons/{addon}");
    assert_eq!(server.post(&format!("{path}/enable"), &json!({})).is(200).json()["state"], "enabled");
    let is = |line: &str| {
        let metrics = server.get("/metrics").is(200).text();
        metrics.lines().any(|found| found == line).then_some(())
    };
    is("lodger_services{state=\"running\"} 1").unwrap();
    is("lodger_engine_up{engine=\"local\"} 1").unwrap();
    let logs = server.get(&format!("{path}/services/web/logs")).is(200).json();
    assert_eq!(logs, site.lab.json(&["logs", &addon, "--service", "web"]));

    let [container] = &site.has("containers")[..] else { panic!() };
    let id = || docker(&["inspect", "--format", "{{.Id}}", container]);
    let before = id();
    docker(&["rm", "--force", container]);
    until(|| (!site.has("containers").is_empty()).then_some(()));
    until(|| is("lodger_services{state=\"running\"} 1"));
    assert_ne!(id(), before);

    // An engine that is away is waited for, and the rest goes on.
    std::fs::remove_file(&socket).unwrap();
    let ready = || server.ask("GET", "/readyz", "", b"");
    let away = until(|| Some(ready()).filter(|reply| reply.status == 503)).json();
    assert_eq!(away, json!({ "ready": false, "store": true, "home": true, "engines": { "local": false } }));
    is("lodger_engine_up{engine=\"local\"} 0").unwrap();
    is("lodger_services{state=\"unknown\"} 1").unwrap();
    server.get(&path).is(200);
    server.post(&format!("{path}/disable"), &json!({})).refuses(503, "engine-unreachable");
    symlink(SOCKET, &socket).unwrap();
    until(|| Some(ready()).filter(|reply| reply.status == 200));
    server.post(&format!("{path}/disable"), &json!({})).is(200);
    assert_eq!(site.has("containers"), Vec::<String>::new());
    is("lodger_services{state=\"stopped\"} 1").unwrap();
}

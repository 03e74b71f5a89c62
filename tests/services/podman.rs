//! Services on Podman: those that reach each other and the apps of a network. It has no place for one that publishes a port.

use serde_json::{Value, json};

use super::{Site, web};
use crate::engine::podman::Podman;

#[test]
fn services_of_a_network_run_on_podman_and_those_with_ports_are_refused() {
    let podman = Podman::at_work();
    let site = Site::new();
    let apps = format!("{}-apps", site.namespace);
    assert!(podman.docker(&["network", "create", &apps]).output().unwrap().status.success());
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let policy = format!("{policy}[[engine]]\nname = \"podman\"\nsocket = \"{}\"\n", podman.socket().display());
    site.lab.policy(&format!("{policy}[apps]\nreach = \"network:{apps}\"\n"));
    let mut asks = web("asks");
    asks["image"] = json!("lodger-test/shell:1");
    asks["ready"] =
        json!({ "exec": ["sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 web 8080 | grep -q page"] });
    let mut serves = web("web");
    serves["ready"] = Value::Null;
    let addon = site.install_with(json!({
        "name": "pair", "version": "1.0.0", "services": [serves, asks], "volumes": [{ "name": "data" }],
    }));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    let label = format!("label=lodger.addon={addon}");
    let containers = || {
        let listed = podman.docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", &label]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let there = containers();
    assert_eq!(there.len(), 2);
    assert!(podman.docker(&["rm", "--force", &there[0]]).output().unwrap().status.success());
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "made");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));

    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.lab.policy(&policy);
    let addon = site.install("ports", json!([web("web")]));
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(4, "engine");
    assert!(error["message"].as_str().unwrap().contains("does not keep containers that publish ports"), "{error}");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    assert_eq!(containers(), Vec::<String>::new());
    let listed = podman.docker(&["network", "ls", "--quiet", "--filter", &format!("name={apps}")]).output().unwrap();
    assert!(!listed.stdout.is_empty());
    assert!(podman.docker(&["network", "rm", &apps]).output().unwrap().status.success());
}

//! What goes wrong with services, and how it ends: in a stated state, with a message that names the service, and a way back.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, docker, web};
use crate::support::until;

pub fn service(image: &str, ready: Value) -> Value {
    json!([{ "service_name": "main", "image": image, "ready": ready }])
}

#[test]
fn a_service_that_ends_at_once_fails_enable_with_what_it_said() {
    let site = Site::new();
    let addon = site.install("ends", service("lodger-test/exits:1", json!(null)));
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(1, "service-not-ready");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("service `main` of addon") && message.contains("exit code 3"), "{message}");
    assert!(message.contains("it last said: "), "{message}");
    assert_eq!(site.state(&addon), "failed{enable}");
    assert_eq!(site.has("containers"), Vec::<String>::new());
    let logs = site.lodger(&["logs", &addon, "--service", "main"]).ok().stdout;
    assert!(!logs.is_empty(), "the last logs are kept");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn an_addon_that_cannot_be_loaded_keeps_no_other_from_being_mended() {
    let site = Site::new();
    let [bad, good] = ["bad", "good"].map(|name| {
        let addon = site.install_with(json!({ "name": name, "version": "1.0.0", "services": [web("web")] }));
        site.lodger(&["enable", &addon]).ok();
        addon
    });
    let manifest = site.lab.home().join(format!("addons/{bad}/1.0.0/addon.json"));
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, "{").unwrap();
    site.has("containers").iter().for_each(|container| drop(docker(&["rm", "--force", container])));
    let repairs = site.lodger(&["--json", "reconcile"]).exits(1).json();
    let told: Vec<_> = repairs.as_array().unwrap().iter().map(|repair| (&repair["addon"], &repair["what"])).collect();
    assert_eq!(told, [(&json!(bad), &json!("failed")), (&json!(good), &json!("made"))], "{repairs}");
    let line = site.lodger(&["reconcile"]).exits(1).stdout;
    assert!(line.starts_with(&format!("{bad}: failed: ")), "{line}");
    site.lodger(&["--json", "reconcile", &bad]).fails_with(1, "invalid-manifest");
    std::fs::write(&manifest, whole).unwrap();
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "made");
}

#[test]
fn what_a_service_is_handed_in_confidence_is_not_shown_when_it_says_it() {
    let site = Site::new();
    let secret = "s3cr3t-of-the-operator";
    let addon = site.install_with(json!({
        "name": "talks", "version": "1.0.0", "settings": { "TOKEN": { "secret": true } },
        "services": [{
            "service_name": "main", "image": "lodger-test/shell:1", "environment": { "TOKEN": "" },
            "command": ["sh", "-c", "echo the token is $TOKEN; exit 3"],
        }],
    }));
    site.lodger(&["set", &addon, &format!("TOKEN={secret}")]).ok();
    let told = site.lodger(&["enable", &addon]).exits(1).stderr;
    assert!(told.contains("the token is [redacted]") && !told.contains(secret), "{told}");
    let logs = site.lodger(&["logs", &addon, "--service", "main"]).ok().stdout;
    assert!(logs.contains("the token is [redacted]") && !logs.contains(secret), "{logs}");
}

#[test]
fn a_service_that_is_never_ready_is_taken_away_again() {
    let site = Site::new();
    let ready = json!({ "port": 8080, "timeout_ms": 1500 });
    let addon = site.install("mute", service("lodger-test/silent:1", ready));
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(1, "service-not-ready");
    assert!(error["message"].as_str().unwrap().contains("not ready within 1500 ms"), "{error}");
    assert_eq!(site.has("containers"), Vec::<String>::new());
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn what_is_changed_behind_our_back_is_made_as_it_was() {
    let site = Site::new();
    let addon = site.install("web", json!([web("one"), web("two")]));
    site.lodger(&["enable", &addon]).ok();
    let containers = site.has("containers");
    assert_eq!(containers.len(), 2);
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));

    docker(&["rm", "--force", &containers[0]]);
    let internal = site
        .has("networks")
        .into_iter()
        .find(|network| docker(&["network", "inspect", "--format", "{{.Internal}}", network]).trim() == "true");
    docker(&["network", "disconnect", &internal.unwrap(), &containers[1]]);
    let repaired = site.lab.json(&["reconcile"]);
    let mut what: Vec<&str> = repaired.as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    what.sort_unstable();
    assert_eq!(what, ["made", "made anew"], "{repaired}");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));

    site.lodger(&["disable", &addon]).ok();
    assert_eq!((site.has("containers").len(), site.has("networks").len()), (0, 0));
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn a_crashed_service_is_started_again_later_each_time_and_its_sibling_is_left_alone() {
    let site = Site::new();
    let addon = site.install("web", json!([web("one"), web("two")]));
    site.lodger(&["enable", &addon]).ok();
    let containers = site.has("containers");
    let one = containers.iter().find(|name| name.contains("-one-")).unwrap();
    let sibling = containers.iter().find(|name| name.contains("-two-")).unwrap();
    let started = |name: &str| docker(&["inspect", "--format", "{{.State.StartedAt}}", name]);
    let before = started(sibling);

    docker(&["kill", one]);
    let repaired = site.lab.json(&["reconcile", &addon]);
    assert_eq!((&repaired[0]["service"], &repaired[0]["what"]), (&json!("one"), &json!("started")), "{repaired}");
    // It is waited for longer each time; the first waits may be over before anybody looks.
    until(|| {
        docker(&["kill", one]);
        let ran = site.lodger(&["--json", "reconcile"]);
        (ran.json()[0]["what"] == "waiting").then(|| assert_eq!(ran.code, 1))
    });
    assert_eq!(site.state(&addon), "degraded");
    until(|| {
        std::thread::sleep(Duration::from_millis(100));
        let ran = site.lodger(&["--json", "reconcile"]);
        (ran.json()[0]["what"] == "started").then_some(())
    });
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    assert_eq!(site.state(&addon), "enabled");
    assert_eq!(started(sibling), before, "the sibling was not touched");
}

#[test]
fn a_service_that_crashes_and_one_that_is_given_up_are_told_of() {
    let site = Site::with_policy("events = [\"service.*\", \"addon.degraded\", \"addon.recovered\"]\n");
    let ear = site.install_with(json!({
        "name": "ear", "version": "1.0.0", "component": "listener.wasm", "config_vars": [],
        "settings": { "TARGET": { "default": "" }, "OTHER": { "default": "" } },
        "capabilities": { "events": ["service.*", "addon.degraded", "addon.recovered"] },
    }));
    site.lodger(&["enable", &ear]).ok();
    let addon = site.install("web", json!([web("one")]));
    site.lodger(&["enable", &addon]).ok();
    let container = site.has("containers").remove(0);
    docker(&["kill", &container]);
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "started");
    let store = rusqlite::Connection::open(site.lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE instance SET failures = 4, failed_at = 0", []).unwrap();
    docker(&["kill", &container]);
    site.lodger(&["--json", "reconcile"]).exits(1);
    site.lodger(&["reconcile", &addon, "--retry"]).ok();
    let told = std::fs::read_to_string(site.lab.data(&ear.parse().unwrap()).join("told")).unwrap();
    let told: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').skip(1).take(4).collect()).collect();
    let expected = [
        ["service.crashed", &addon, "-", "host"],
        ["service.failed", &addon, "-", "host"],
        ["addon.degraded", &addon, "-", "cli"],
        ["service.crashed", &addon, "-", "host"],
        ["addon.recovered", &addon, "-", "cli"],
    ];
    assert_eq!(told, expected);
    let events = site.lab.json(&["events"]);
    assert_eq!((&events[4]["kind"], &events[4]["service"]), (&json!("service.crashed"), &json!("one")));
}

#[test]
fn a_port_that_was_taken_is_waited_for() {
    let site = Site::new();
    let addon = site.install("web", json!([web("one")]));
    site.lodger(&["enable", &addon]).ok();
    let container = site.has("containers").remove(0);
    let published = docker(&["port", &container, "8080"]);
    docker(&["stop", &container]);
    let other = TcpListener::bind(published.trim()).unwrap();
    // As often as a service may end before it is left alone, and once more.
    for _ in 0..6 {
        let repaired = site.lodger(&["--json", "reconcile"]).exits(1).json();
        let why = repaired[0]["why"].as_str().unwrap();
        assert!(why.contains("address already in use"), "{why}");
        assert_eq!(site.state(&addon), "degraded");
    }
    drop(other);
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "started");
    assert_eq!((site.state(&addon).as_str(), docker(&["port", &container, "8080"])), ("enabled", published));
}

#[test]
fn a_foreign_container_of_our_name_is_named_and_left_alone() {
    let site = Site::new();
    let addon = site.install("web", json!([web("one")]));
    site.lodger(&["enable", &addon]).ok();
    let name = site.has("containers").remove(0);
    site.lodger(&["disable", &addon]).ok();
    let labels = format!("lodger.addon={addon}");
    docker(&[
        "run",
        "--detach",
        "--name",
        &name,
        "--label",
        &labels,
        "--label",
        "lodger.spec=a.b",
        "lodger-test/web:1",
    ]);
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(1, "foreign-container");
    assert!(error["message"].as_str().unwrap().contains(&name), "{error}");
    assert_eq!(site.state(&addon), "failed{enable}");
    assert_eq!(docker(&["inspect", "--format", "{{.State.Running}}", &name]).trim(), "true", "not ours to touch");
    docker(&["rm", "--force", &name]);
    site.lodger(&["enable", &addon]).ok();
}

#[test]
fn an_engine_that_does_not_answer_is_waited_for() {
    let site = Site::new();
    let addon = site.install("web", json!([web("one")]));
    site.lodger(&["enable", &addon]).ok();
    let containers = site.has("containers");
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}\n[[engine]]\nname = \"local\"\nsocket = \"/nowhere/docker.sock\"\n"));
    for verb in ["reconcile", "disable"] {
        let error = site.lodger(&["--json", verb, &addon]).fails_with(4, "engine-unreachable");
        assert!(error["message"].as_str().unwrap().contains("/nowhere/docker.sock"), "{error}");
    }
    assert_eq!(site.has("containers"), containers);
    let package = site.package(json!({ "name": "later", "version": "1.0.0", "services": [web("one")] }));
    site.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let later = format!("{}/later", site.namespace);
    site.lodger(&["--json", "enable", &later]).fails_with(4, "engine-unreachable");
    site.lab.policy(&policy);
    site.lodger(&["enable", &later]).ok();
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    assert_eq!(site.has("containers").len(), 2);
}

#[test]
fn a_kill_while_a_service_starts_leaves_nothing_that_is_in_the_way() {
    let site = Site::new();
    let ready = json!({ "port": 8080, "timeout_ms": 60000 });
    let addon = site.install("mute", service("lodger-test/silent:1", ready));
    let running = site.lab.start(&["enable", &addon]);
    until(|| (!site.has("containers").is_empty()).then_some(()));
    running.kill();
    assert_eq!(site.state(&addon), "interrupted{enable}");
    site.lodger(&["disable", &addon]).ok();
    assert_eq!(site.state(&addon), "installed");
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn volumes_an_image_declares_have_names_and_an_owner() {
    let site = Site::new();
    let addon = site.install("volumes", service("lodger-test/volumes:1", json!(null)));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(site.has("volumes").len(), 2);
    site.lodger(&["disable", &addon]).ok();
    assert_eq!(site.has("volumes").len(), 2, "disabling keeps data");
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn what_ignores_being_stopped_is_killed() {
    let site = Site::new();
    let addon = site.install("stubborn", service("lodger-test/stubborn:1", json!(null)));
    site.lodger(&["enable", &addon]).ok();
    site.lodger(&["disable", &addon]).ok();
    assert_eq!(site.has("containers"), Vec::<String>::new());
}

#[test]
fn a_host_port_is_given_to_one_service_only() {
    let site = Site::new();
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let first = policy.split("host_ports = \"").nth(1).unwrap().split('-').next().unwrap().to_owned();
    let fixed = |name: &str| {
        let mut service = web(name);
        service["ports"] = json!({ "8080": first });
        service
    };
    let one = site.install("one", json!([fixed("web")]));
    let two = site.install("two", json!([fixed("web")]));
    site.lodger(&["enable", &one]).ok();
    let error = site.lodger(&["--json", "enable", &two]).fails_with(1, "port-taken");
    assert!(error["message"].as_str().unwrap().contains(&first), "{error}");
    assert_eq!(site.has("containers").len(), 1, "before anything was started");
}

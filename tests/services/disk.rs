//! What services take of the disk: too much of it stops them, with their data, until somebody does something about it.

use serde_json::{Value, json};

use super::{Site, docker, web};
use crate::support::{Ran, until};

const MIB: u64 = 1 << 20;

/// A shell with a volume, that may keep so many MiB.
fn shell(mib: u64) -> Value {
    json!({
        "service_name": "shell", "image": "lodger-test/shell:1", "volumes": ["data:/data"],
        "limits": { "disk_bytes": mib * MIB },
    })
}

fn manifest(services: Value) -> Value {
    json!({ "name": "keeps", "version": "1.0.0", "services": services, "volumes": [{ "name": "data" }] })
}

/// The container of a service.
fn container(site: &Site, service: &str) -> String {
    let found = site.has("containers").into_iter().find(|name| name.starts_with(&format!("lodger-{service}-")));
    found.expect("it has one")
}

fn write(container: &str, file: &str, mib: u64) {
    docker(&["exec", container, "dd", "if=/dev/zero", "bs=1M", &format!("count={mib}"), &format!("of={file}")]);
}

fn runs(container: &str) -> bool {
    docker(&["inspect", "--format", "{{.State.Running}}", container]).trim() == "true"
}

/// The one repair of a home where one service is kept down.
#[track_caller]
fn kept_down(ran: &Ran) -> String {
    assert_eq!(ran.code, 1, "{ran:?}");
    let repairs = ran.json();
    assert_eq!((repairs.as_array().unwrap().len(), &repairs[0]["what"]), (1, &json!("failed")), "{repairs}");
    repairs[0]["why"].as_str().unwrap().to_owned()
}

#[test]
fn what_takes_too_much_is_stopped_and_its_sibling_is_left_alone() {
    let site = Site::new();
    let addon = site.install_with(manifest(json!([shell(4), web("web")])));
    let explained = site.lodger(&["explain", &addon]).ok().stdout;
    assert!(explained.contains("take up to 4 MiB of disk in shell; looked at every few minutes, so a soft limit"));
    assert!(explained.contains("take up to 4 GiB of disk in web; "), "{explained}");
    site.lodger(&["enable", &addon]).ok();
    let (shell, web) = (container(&site, "shell"), container(&site, "web"));
    let started = docker(&["inspect", "--format", "{{.State.StartedAt}}", &web]);
    write(&shell, "/data/some", 3);
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "it may have that");

    write(&shell, "/data/more", 3);
    let why = kept_down(&site.lodger(&["--json", "reconcile"]));
    assert!(why.starts_with("it takes 6"), "{why}");
    assert!(
        why.contains(" MiB of disk, its limit is 4 MiB (services[0].limits.disk_bytes); raise it or free"),
        "{why}"
    );
    assert!(why.contains(&format!("`lodger reconcile {addon} --retry` starts it for 15 minutes")), "{why}");
    assert!(!runs(&shell) && site.has("volumes").len() == 1, "it is stopped, and its data is there");
    assert_eq!(site.state(&addon), "degraded");
    let findings = site.lodger(&["--json", "doctor"]).exits(1).json();
    let found = |words: &str| findings.as_array().unwrap().iter().any(|finding| finding.to_string().contains(words));
    assert!(found("its service shell does not run: it takes 6") && found("--retry"), "{findings}");

    // It stays down, whoever looks and whoever starts it.
    kept_down(&site.lodger(&["--json", "reconcile", &addon]));
    docker(&["start", &shell]);
    kept_down(&site.lodger(&["--json", "reconcile"]));
    assert!(!runs(&shell));
    docker(&["rm", &shell]);
    kept_down(&site.lodger(&["--json", "reconcile"]));
    assert_eq!(site.has("containers"), std::slice::from_ref(&web));
    assert_eq!(docker(&["inspect", "--format", "{{.State.StartedAt}}", &web]), started, "the sibling was not touched");
}

#[test]
fn it_runs_again_to_be_cleared_up_and_for_good_when_it_takes_less() {
    let site = Site::new();
    let addon = site.install_with(manifest(json!([shell(2)])));
    site.lodger(&["enable", &addon]).ok();
    let shell = container(&site, "shell");
    write(&shell, "/data/much", 5);
    kept_down(&site.lodger(&["--json", "reconcile"]));

    site.lodger(&["reconcile", "--retry"]).exits(2);
    let retried = site.lab.json(&["reconcile", &addon, "--retry"]);
    assert_eq!(retried[0]["what"], "started", "{retried}");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "it has its time, and has not crashed");
    assert_eq!(site.state(&addon), "enabled");
    // The time is over.
    let store = rusqlite::Connection::open(site.lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE instance SET spared_at = spared_at - 900", []).unwrap();
    kept_down(&site.lodger(&["--json", "reconcile"]));
    site.lodger(&["reconcile", &addon, "--retry"]).ok();
    docker(&["exec", &shell, "rm", "/data/much"]);
    store.execute("UPDATE instance SET spared_at = spared_at - 900", []).unwrap();
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));

    // Cleared up from outside, it is started without being asked to.
    write(&shell, "/data/much", 5);
    kept_down(&site.lodger(&["--json", "reconcile"]));
    let volume = format!("{}:/data", site.has("volumes")[0]);
    docker(&["run", "--rm", "--volume", &volume, "lodger-test/shell:1", "rm", "/data/much"]);
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "started");
    assert_eq!((site.lab.json(&["reconcile"]), site.state(&addon)), (json!([]), "enabled".to_owned()));
}

#[test]
fn it_runs_again_when_it_may_take_more_and_after_it_was_disabled() {
    let site = Site::new();
    let addon = site.install_with(manifest(json!([shell(2)])));
    site.lodger(&["enable", &addon]).ok();
    let name = container(&site, "shell");
    write(&name, "/data/much", 5);
    kept_down(&site.lodger(&["--json", "reconcile"]));
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["enable", &addon]).ok();
    assert!(runs(&name));
    kept_down(&site.lodger(&["--json", "reconcile"]));

    let package = site.package(manifest(json!([shell(10)])));
    site.lodger(&["install", package.to_str().unwrap(), "--dev", "--yes"]).ok();
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "started");
    assert!(runs(&name));
}

#[test]
fn nothing_starts_it_while_it_takes_too_much() {
    let site = Site::new();
    let mut mute = web("mute");
    mute["image"] = json!("lodger-test/silent:1");
    mute["ready"]["timeout_ms"] = json!(500);
    let addon = site.install_with(manifest(json!([shell(2), mute])));
    site.lodger(&["--json", "enable", &addon]).fails_with(1, "service-not-ready");
    let shell = container(&site, "shell");
    write(&shell, "/data/much", 5);
    kept_down(&site.lodger(&["--json", "reconcile"]));
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(1, "service");
    assert!(error["message"].as_str().unwrap().contains("it takes 5 MiB of disk, its limit is 2 MiB"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("--retry"), "{error}");
    assert!(!runs(&shell));
}

#[test]
fn what_is_left_alone_for_crashing_is_tried_again_when_somebody_says_so() {
    let site = Site::new();
    let addon = site.install("web", json!([web("web")]));
    site.lodger(&["enable", &addon]).ok();
    let container = container(&site, "web");
    let store = rusqlite::Connection::open(site.lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE instance SET failures = 5, failed_at = unixepoch()", []).unwrap();
    docker(&["kill", &container]);
    let why = kept_down(&site.lodger(&["--json", "reconcile"]));
    assert!(why.contains("5 times in a row") && why.contains(&format!("`lodger reconcile {addon} --retry`")), "{why}");
    assert_eq!(site.lab.json(&["reconcile", &addon, "--retry"])[0]["what"], "started");
    assert!(runs(&container));
}

#[test]
fn what_is_written_outside_of_volumes_counts() {
    let site = Site::new();
    let mut writes = shell(2);
    writes["writable_root"] = json!(true);
    let addon = site.install_with(manifest(json!([writes])));
    site.lodger(&["enable", &addon]).ok();
    let shell = container(&site, "shell");
    write(&shell, "/much", 5);
    write(&shell, "/tmp/in-memory", 5);
    let why = kept_down(&site.lodger(&["--json", "reconcile"]));
    assert!(why.starts_with("it takes 5"), "{why}");
}

#[test]
fn a_watch_measures_too() {
    let site = Site::new();
    let addon = site.install_with(manifest(json!([shell(2)])));
    site.lodger(&["enable", &addon]).ok();
    let shell = container(&site, "shell");
    write(&shell, "/data/much", 5);
    let watch = site.lab.start(&["reconcile", "--watch"]);
    until(|| (!runs(&shell)).then_some(()));
    until(|| (site.state(&addon) == "degraded").then_some(()));
    watch.kill();
}

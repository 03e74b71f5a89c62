//! Another version of an addon: taken in with what it has, refused, taken back, and gone back from.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::state;
use crate::support::{Lab, Running, component, probe_manifest, until};

pub const ADDON: &str = "good/probe";

/// A version of the probe `versions` that does `does`, in a directory called so, after `change` was made to its manifest.
pub fn version(lab: &Lab, number: &str, does: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut manifest = probe_manifest("good", 60_000);
    manifest["version"] = json!(number);
    manifest["config_vars"] = json!(["PROBE_URL"]);
    change(&mut manifest);
    let dir = format!("v{number}-{does}");
    let path: PathBuf = lab.package(&dir, &manifest, component("versions"));
    lab.write(&format!("{dir}/files/does.txt"), does);
    path.to_str().unwrap().to_owned()
}

/// Version 1.0.0, enabled and added to the app `shop`.
fn first(lab: &Lab) {
    lab.lodger(&["install", &version(lab, "1.0.0", "well", |_| ()), "--yes"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    lab.lodger(&["add", "shop", ADDON]).ok();
}

fn url(lab: &Lab, app: &str) -> String {
    lab.lodger(&["url", app, ADDON]).ok().stdout.trim().to_owned()
}

/// What there is on the disk of all versions.
fn kept(lab: &Lab) -> (Vec<String>, Vec<String>) {
    let names = |part: &str| {
        let entries = std::fs::read_dir(lab.home().join(part).join("good/probe")).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    (names("addons"), names("snapshots"))
}

#[track_caller]
fn is_as_it_was(lab: &Lab) {
    assert_eq!(url(lab, "shop"), "probe://shop/1");
    assert_eq!(state(lab), "enabled");
    assert_eq!(lab.json(&["list"])[0]["version"], "1.0.0");
    assert_eq!(kept(lab), (vec!["1.0.0".to_owned()], vec![]));
    assert!(!lab.data(&ADDON.parse().unwrap()).join("new").exists());
    lab.lodger(&["add", "blog", ADDON]).ok();
    lab.lodger(&["remove", "blog", ADDON]).ok();
}

#[test]
fn a_later_version_takes_over_what_the_earlier_had_and_can_be_left_again() {
    let lab = Lab::new();
    first(&lab);
    let id = super::resources(&lab, "shop")[0]["id"].clone();
    let later = version(&lab, "1.1.0", "well", |_| ());
    assert_eq!(lab.json(&["upgrade", ADDON, &later, "--dry-run"])["changed"], true);
    is_as_it_was(&lab);

    let done = lab.json(&["upgrade", ADDON, &later]);
    assert_eq!(done, json!({ "id": ADDON, "from": "1.0.0", "to": "1.1.0", "state": "enabled", "changed": true }));
    assert_eq!(url(&lab, "shop"), "probe://written over/2, from 1.0.0");
    assert_eq!(lab.json(&["info", ADDON])["earlier"][0]["version"], "1.0.0");
    assert_eq!(lab.json(&["upgrade", ADDON, &later])["changed"], false);
    lab.lodger(&["--json", "install", &version(&lab, "1.0.0", "well", |_| ()), "--yes"]).fails_with(1, "other-version");

    let back = lab.json(&["rollback", ADDON, "--yes"]);
    assert_eq!(back, json!({ "id": ADDON, "from": "1.1.0", "to": "1.0.0", "state": "enabled", "changed": true }));
    is_as_it_was(&lab);
    assert_eq!(super::resources(&lab, "shop")[0]["id"], id);
    lab.lodger(&["--json", "rollback", ADDON, "--yes"]).fails_with(1, "no-earlier-version");
}

#[test]
fn whatever_keeps_a_version_from_serving_leaves_the_one_that_is_there_with_its_data() {
    let lab = Lab::new();
    first(&lab);
    for (does, exit, code, says) in [
        ("refuse", 1, "refused", "cannot read that format"),
        ("trap", 3, "trapped", "asked to panic"),
        ("hang", 3, "deadline-exceeded", "deadline"),
        ("fill", 1, "refused", "no room"),
        ("ail", 1, "refused", "the rows are gone"),
    ] {
        let later = version(&lab, "1.1.0", does, |manifest| {
            manifest["limits"]["deadlines_ms"] =
                json!({ "default": 60_000, "upgrade": if does == "hang" { 300 } else { 60_000 } });
        });
        let error = lab.lodger(&["--json", "upgrade", ADDON, &later]).fails_with(exit, code);
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        is_as_it_was(&lab);
    }
    let rows = lab.json(&["calls", "--limit", "100"]);
    assert!(rows.as_array().unwrap().iter().filter(|call| call["hook"] == "upgrade").count() == 5, "{rows}");
}

#[test]
fn a_version_that_may_do_more_needs_its_grant_accepted_by_name() {
    let lab = Lab::new();
    first(&lab);
    lab.policy("[grant]\nnetwork = [\"api.example.com:443\"]\n");
    let wider = version(&lab, "1.1.0", "well", |manifest| {
        manifest["capabilities"]["network"] = json!(["api.example.com:443"]);
        manifest["capabilities"]["data"]["max_files"] = json!(10);
    });
    let plan = lab.json(&["upgrade", ADDON, &wider, "--dry-run"]);
    let widens: Vec<&str> =
        plan["widens"].as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap()).collect();
    assert!(widens.contains(&"connect to api.example.com:443, and look up that name"), "{widens:?}");
    assert!(!widens.iter().any(|line| line.contains("files and directories")), "fewer of them are no more: {widens:?}");
    let error = lab.lodger(&["--json", "upgrade", ADDON, &wider]).fails_with(1, "grant-widens");
    let digest = plan["grant"].as_str().unwrap();
    assert!(error["hint"].as_str().unwrap().contains(digest), "{error}");
    let wrong = format!("sha256:{}", "0".repeat(64));
    lab.lodger(&["--json", "upgrade", ADDON, &wider, "--accept-grant", &wrong]).fails_with(1, "grant-widens");
    is_as_it_was(&lab);
    lab.lodger(&["upgrade", ADDON, &wider, "--accept-grant", digest]).ok();
    assert_eq!(lab.json(&["list"])[0]["version"], "1.1.0");
}

#[test]
fn what_is_no_later_version_of_this_addon_is_refused_before_anything_is_done() {
    let lab = Lab::new();
    first(&lab);
    let refused = |package: &str, code: &str| {
        let error = lab.lodger(&["--json", "upgrade", ADDON, package]).fails_with(1, code);
        is_as_it_was(&lab);
        error["message"].as_str().unwrap().to_owned()
    };
    refused(&version(&lab, "0.9.0", "well", |_| ()), "downgrade");
    refused(&version(&lab, "1.0.0", "otherwise", |_| ()), "digest-changed");
    refused(&version(&lab, "1.1.0", "renamed", |manifest| manifest["namespace"] = json!("renamed")), "other-addon");
    lab.policy("[grant]\nenv_names = [\"OTHER_URL\"]\n");
    let taken = version(&lab, "1.2.0", "taken", |manifest| manifest["config_vars"] = json!(["OTHER_URL"]));
    let other = lab.package(
        "other",
        &json!({ "name": "other", "version": "1.0.0", "component": "x.wasm", "capabilities": { "data": {} } }),
        component("hooks_all"),
    );
    lab.lodger(&["install", other.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "local/other"]).ok();
    lab.lodger(&["add", "shop", "local/other"]).ok();
    let error = lab.lodger(&["--json", "upgrade", ADDON, &taken]).fails_with(1, "variable-taken");
    assert!(error["message"].as_str().unwrap().contains("OTHER_URL"), "{error}");
}

#[test]
fn a_version_without_what_apps_need_is_refused_until_they_let_go() {
    let lab = Lab::new();
    first(&lab);
    let mut manifest = probe_manifest("good", 60_000);
    manifest["version"] = json!("2.0.0");
    manifest["config_vars"] = json!(["PROBE_URL"]);
    let path = lab.package("setup-only", &manifest, component("data_survives"));
    let package = path.to_str().unwrap();
    let error = lab.lodger(&["--json", "upgrade", ADDON, package]).fails_with(1, "still-needed");
    assert!(error["message"].as_str().unwrap().contains("the hook `provision`, which app `shop` needs"), "{error}");
    is_as_it_was(&lab);
    lab.lodger(&["remove", "shop", ADDON]).ok();
    lab.lodger(&["upgrade", ADDON, package]).ok();
    assert_eq!(lab.json(&["list"])[0]["version"], "2.0.0");
}

#[test]
fn what_apps_were_given_since_keeps_from_going_back_and_what_they_gave_up_stays_gone() {
    let lab = Lab::new();
    first(&lab);
    lab.lodger(&["add", "wiki", ADDON]).ok();
    let wiki = super::resources(&lab, "wiki")[0]["id"].as_str().unwrap().to_owned();
    lab.lodger(&["upgrade", ADDON, &version(&lab, "1.1.0", "well", |_| ())]).ok();
    lab.lodger(&["remove", "wiki", ADDON]).ok();
    lab.lodger(&["add", "blog", ADDON]).ok();
    let error = lab.lodger(&["--json", "rollback", ADDON, "--yes"]).fails_with(1, "added-since");
    assert!(error["message"].as_str().unwrap().contains("`blog`"), "{error}");
    assert_eq!(lab.json(&["list"])[0]["version"], "1.1.0");
    lab.lodger(&["rollback", ADDON, "--yes", "--force"]).ok();
    assert_eq!(url(&lab, "shop"), "probe://shop/1");
    assert_eq!(lab.json(&["apps"]).as_object().unwrap().keys().collect::<Vec<_>>(), ["shop"]);
    assert!(!lab.data(&ADDON.parse().unwrap()).join(wiki).exists(), "the snapshot had it");
}

#[test]
fn an_upgrade_that_is_cut_off_is_taken_back_by_whoever_comes_next() {
    for verb in [&["reconcile"][..], &["add", "wiki", ADDON], &["disable", ADDON, "--force"]] {
        let lab = Lab::new();
        first(&lab);
        upgrading(&lab).kill();
        assert_eq!(state(&lab), "interrupted{upgrade}");
        // Nobody has to wait for that: the version that is there serves.
        assert_eq!(url(&lab, "shop"), "probe://shop/1");
        let findings = lab.lodger(&["--json", "doctor"]).exits(1).stdout;
        assert!(findings.contains("`lodger reconcile good/probe`"), "{findings}");
        lab.lodger(verb).ok();
        if verb[0] != "disable" {
            is_as_it_was(&lab);
        }
    }
}

/// An upgrade that hangs in its hook.
fn upgrading(lab: &Lab) -> Running {
    let running = lab.start(&["upgrade", ADDON, &version(lab, "1.1.0", "hang", |_| ())]);
    let tried = lab.home().join("snapshots/good/probe/1.0.0/data/new");
    until(|| tried.exists().then_some(()));
    running
}

#[test]
fn a_disabled_addon_is_upgraded_and_stays_disabled() {
    let lab = Lab::new();
    lab.lodger(&["install", &version(&lab, "1.0.0", "well", |_| ()), "--yes"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    lab.lodger(&["disable", ADDON]).ok();
    lab.lodger(&["upgrade", ADDON, &version(&lab, "1.1.0", "ail", |_| ())]).ok();
    assert_eq!(state(&lab), "installed");
    lab.lodger(&["rollback", ADDON, "--yes"]).ok();
    assert_eq!((state(&lab).as_str(), &lab.json(&["list"])[0]["version"]), ("installed", &json!("1.0.0")));
    lab.lodger(&["uninstall", ADDON, "--yes"]).ok();
    assert_eq!(kept(&lab), (vec![], vec![]));
}

#[test]
fn the_policy_says_how_many_earlier_versions_are_kept() {
    let lab = Lab::new();
    first(&lab);
    lab.policy("[retention]\nsnapshots = 2\n");
    for number in ["1.1.0", "1.2.0", "1.3.0"] {
        lab.lodger(&["upgrade", ADDON, &version(&lab, number, "well", |_| ())]).ok();
    }
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(kept(&lab), (texts(&["1.1.0", "1.2.0", "1.3.0"]), texts(&["1.1.0", "1.2.0"])));
    lab.lodger(&["rollback", ADDON, "--yes"]).ok();
    lab.lodger(&["rollback", ADDON, "--yes"]).ok();
    assert_eq!(lab.json(&["list"])[0]["version"], "1.1.0");
    lab.policy("[retention]\nsnapshots = 0\n");
    lab.lodger(&["upgrade", ADDON, &version(&lab, "1.4.0", "well", |_| ())]).ok();
    assert_eq!(kept(&lab), (texts(&["1.4.0"]), vec![]));
}

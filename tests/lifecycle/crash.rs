//! Several processes in one home, and processes that die at their work.

use serde_json::{Value, json};

use super::{outcomes, pairs, resources, state, under_way};
use crate::support::{Lab, Running, component, probe_manifest, until};

/// Waits until the guest itself has written something.
fn written(lab: &Lab, what: impl Fn(&str) -> bool) {
    let data = lab.data(&"good/probe".parse().unwrap());
    until(|| {
        let names = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.into_iter().find(|name| what(name)).map(drop)
    });
}

/// An `add` that hangs in the guest, after it has made the resource.
fn hanging(lab: &Lab, app: &str) -> Running {
    let adding = lab.start(&["add", app, "probe", "--option", "hang_once=1"]);
    under_way(lab, "provision");
    written(lab, |name| name.len() == 32);
    adding
}

#[test]
fn processes_that_add_to_different_apps_at_once_all_succeed() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let apps = ["one", "two", "three", "four"];
    let adding = apps.map(|app| lab.start(&["--json", "add", app, "probe"]));
    let added: Vec<Value> = adding.map(|running| running.wait().ok().json()).into();
    let mut ids: Vec<_> = added.iter().map(|added| added["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    for app in apps {
        let [only] = &resources(&lab, app)[..] else { panic!("{app}") };
        assert_eq!(only["state"], "active");
    }
    // Each has counted what the one before had written.
    let counted = std::fs::read_to_string(lab.data(&addon.parse().unwrap()).join("calls/provision")).unwrap();
    assert_eq!(counted, "4");
}

#[test]
fn a_mutating_verb_is_busy_while_another_process_is_at_it_and_read_verbs_are_not() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "blog", "probe"]).ok();
    lab.policy("[limits]\nlock_wait_ms = 100\n");
    let adding = hanging(&lab, "shop");
    for verb in [
        &["add", "wiki", "probe"][..],
        &["remove", "blog", "probe"],
        &["disable", "probe"],
        &["set", "probe", "PLAIN=1"],
        &["restore", "blog", "probe"],
    ] {
        let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(1, "busy");
        assert_eq!(error["hint"], "ask again later; nothing has been done");
    }
    assert_eq!(lab.json(&["env", "blog"]).as_object().unwrap().len(), 3);
    assert_eq!(resources(&lab, "shop")[0]["state"], "provisioning");
    adding.kill();
    lab.lodger(&["add", "wiki", "probe"]).ok();
}

#[test]
fn after_a_kill_within_provision_adding_again_finishes_it_under_the_same_key() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    hanging(&lab, "shop").kill();
    let [cut_off] = &resources(&lab, "shop")[..] else { panic!("one resource") };
    assert_eq!(cut_off["state"], "interrupted{provision}");
    let findings = lab.lodger(&["--json", "doctor"]).exits(1).json();
    let [_, broken] = &findings.as_array().unwrap()[..] else { panic!("{findings}") };
    assert_eq!(broken["message"], "what app `shop` has of it is interrupted{provision}");

    let added = lab.json(&["add", "shop", "probe", "--option", "hang_once=1"]);
    let [only] = &resources(&lab, "shop")[..] else { panic!("one resource") };
    assert_eq!((&only["state"], &only["id"]), (&json!("active"), &added["id"]));
    let calls = lab.json(&["calls"]);
    let keys: Vec<_> =
        calls.as_array().unwrap().iter().filter(|call| call["hook"] == "provision").map(|call| &call["key"]).collect();
    assert_eq!(keys, [&added["id"], &added["id"]]);
    let files = std::fs::read_dir(lab.data(&addon.parse().unwrap())).unwrap().count();
    assert_eq!(files, 2, "the counters and one resource");
    lab.lodger(&["doctor"]).ok();
    assert_eq!(lab.json(&["env", "shop"]), added["config"]);
    let mutating = outcomes(&lab).into_iter().filter(|(hook, _)| hook == "provision").collect::<Vec<_>>();
    assert_eq!(mutating, pairs([("provision", "interrupted"), ("provision", "completed")]));
}

#[test]
fn after_a_kill_within_provision_removing_cleans_up() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    hanging(&lab, "shop").kill();
    lab.lodger(&["--json", "url", "shop", "probe"]).fails_with(1, "resource-state");
    lab.lodger(&["remove", "shop", "probe"]).ok();
    assert_eq!(lab.json(&["apps"]), json!({}));
    let left: Vec<_> =
        std::fs::read_dir(lab.data(&addon.parse().unwrap())).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["calls"]);
    lab.lodger(&["disable", "probe"]).ok();
}

#[test]
fn a_kill_within_enable_shows_as_interrupted_and_disable_leads_out() {
    let lab = Lab::new();
    let package = lab.package("package", &probe_manifest("good", 3_600_000), component("endless_loop"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let enabling = lab.start(&["enable", "probe"]);
    under_way(&lab, "enable");
    assert_eq!(state(&lab), "enabling");
    enabling.kill();
    assert_eq!(state(&lab), "interrupted{enable}");
    assert_eq!(lab.json(&["info", "probe"])["state"], "interrupted{enable}");
    let error = lab.lodger(&["--json", "add", "shop", "probe"]);
    assert_eq!(
        error.fails_with(1, "not-permitted")["hint"],
        "`lodger enable good/probe` again, or `lodger calls good/probe` to see why"
    );
    lab.lodger(&["disable", "probe"]).ok();
    assert_eq!(state(&lab), "installed");
    assert_eq!(outcomes(&lab), pairs([("enable", "interrupted"), ("disable", "completed")]));
    lab.lodger(&["uninstall", "probe"]).ok();
}

#[test]
fn a_kill_while_a_package_is_installed_leaves_nothing_that_is_in_the_way() {
    let lab = Lab::cold();
    lab.lodger(&["list"]).ok();
    let package = lab.package("package", &probe_manifest("good", 1000), component("hooks_all"));
    let package = package.to_str().unwrap();
    // With no code in the cache, the compiler is at work when it is killed.
    lab.start(&["install", package, "--yes"]).kill();
    assert_eq!(lab.json(&["list"]), json!([]));
    lab.lodger(&["install", package, "--yes"]).ok();
    assert_eq!(state(&lab), "installed");
}

//! The verbs in their order, again, out of order, and only asked what they would do.

use serde_json::json;

use super::{Picture, outcomes, pairs, resources, state};
use crate::support::{Lab, component, probe_manifest, root};

#[test]
fn the_whole_life_of_an_addon_from_install_to_uninstall() {
    let lab = Lab::new();
    let package = root().join("guest-examples/app-secrets");
    let installed = lab.json(&["install", package.to_str().unwrap(), "--yes"]);
    assert_eq!((&installed["id"], &installed["version"]), (&json!("lodger/app-secrets"), &json!("1.0.0")));
    assert_eq!(state(&lab), "installed");
    lab.lodger(&["enable", "app-secrets"]).ok();
    assert_eq!(state(&lab), "enabled");

    let added = lab.json(&["add", "shop", "app-secrets"]);
    let id = added["id"].as_str().unwrap();
    let env = lab.json(&["env", "shop"]);
    let secret = |name: &str| env[name].as_str().unwrap().to_owned();
    assert_eq!(secret("APP_SECRETS_KEY").len(), 64);
    assert_ne!(secret("APP_SECRETS_KEY"), secret("APP_SECRETS_SALT"));
    assert_eq!(
        added,
        json!({
            "app": "shop",
            "addon": "lodger/app-secrets",
            "alias": null,
            "id": id,
            "plan": "standard",
            "config": env,
            "created": true,
            "message": "APP_SECRETS_KEY and APP_SECRETS_SALT are ready",
        })
    );
    assert_eq!(lab.json(&["env", "shop"]), env);

    lab.lodger(&["remove", "shop", "app-secrets"]).ok();
    assert_eq!(lab.json(&["apps"]), json!({}));
    lab.lodger(&["disable", "app-secrets"]).ok();
    assert_eq!(state(&lab), "installed");
    lab.lodger(&["uninstall", "app-secrets"]).ok();
    assert_eq!(lab.json(&["list"]), json!([]));
    assert!(
        lab.installed_files().iter().all(|path| path.file_name().unwrap() == "lodger"),
        "only the namespace is left"
    );
}

#[test]
fn every_verb_said_twice_changes_once_and_says_so() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let package = lab.path("hooks_all");
    let package = package.to_str().unwrap();
    let twice: [(&[&str], &str, &str); 6] = [
        (&["install", package, "--yes"], "changed", "already installed: good/probe 1.0.0\n"),
        (&["enable", "probe"], "changed", "good/probe is already enabled\n"),
        (&["add", "shop", "probe"], "created", "already there: good/probe for shop\n"),
        (&["remove", "shop", "probe"], "changed", "shop has no good/probe\n"),
        (&["disable", "probe"], "changed", "good/probe is not enabled\n"),
        (&["set", "probe", "PLAIN=other"], "changed", "PLAIN of good/probe is already so\n"),
    ];
    for (verb, changed, says) in twice {
        lab.lodger(verb).ok();
        // The variables are asked for afresh when one adds again: read hooks, which change nothing.
        let before = outcomes(&lab).into_iter().filter(|(hook, _)| !["url", "config-vars"].contains(&&**hook)).count();
        let answer = lab.json(verb);
        assert!(answer[changed] == json!(false) || answer[changed] == json!([]), "{verb:?}: {answer}");
        let said = lab.lodger(verb).ok().stderr;
        assert!(said.starts_with(says), "{verb:?}: {said}");
        let after = outcomes(&lab).into_iter().filter(|(hook, _)| !["url", "config-vars"].contains(&&**hook)).count();
        assert_eq!(before, after, "{verb:?} called a mutating hook again");
    }
    lab.lodger(&["uninstall", "probe"]).ok();
    lab.lodger(&["--json", "uninstall", "probe"]).fails_with(1, "unknown-addon");
}

#[test]
fn a_dry_run_checks_everything_and_changes_nothing() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let other = lab.package("other", &probe_manifest("other", 1000), component("hooks_all"));
    let other = other.to_str().unwrap();
    let would = json!({ "dry_run": true, "changed": true });
    let would_not = json!({ "dry_run": true, "changed": false });
    let cases: [(&[&str], &serde_json::Value); 7] = [
        (&["enable", "probe"], &would_not),
        (&["disable", "probe", "--force"], &would),
        (&["add", "shop", "probe"], &would_not),
        (&["add", "blog", "probe"], &would),
        (&["remove", "shop", "probe"], &would),
        (&["remove", "blog", "probe"], &would_not),
        (&["set", "probe", "PLAIN=other"], &json!({ "id": "good/probe", "changed": [], "dry_run": true })),
    ];
    let before = Picture::of(&lab);
    for (verb, answer) in cases {
        assert_eq!(lab.json(&[verb, &["--dry-run"]].concat()), *answer, "{verb:?}");
        let said = lab.lodger(&[verb, &["--dry-run"]].concat()).ok();
        assert!(said.stdout.is_empty() && !said.stderr.is_empty(), "{said:?}");
    }
    let installing = lab.json(&["install", other, "--dry-run"]);
    assert_eq!((&installing["changed"], &installing["grant"]["addon"]), (&json!(true), &json!("other/probe")));
    let refused: [(&[&str], &str); 5] = [
        (&["disable", "probe"], "in-use"),
        (&["uninstall", "probe"], "in-use"),
        (&["add", "shop", "probe", "--option", "a=b"], "already-added"),
        (&["set", "probe", "UNDECLARED=1"], "unknown-setting"),
        (&["enable", "nobody"], "unknown-addon"),
    ];
    for (verb, code) in refused {
        lab.lodger(&[&["--json"], verb, &["--dry-run"]].concat()).fails_with(1, code);
    }
    assert_eq!(Picture::of(&lab), before);

    lab.lodger(&["disable", "probe", "--force"]).ok();
    let before = Picture::of(&lab);
    assert_eq!(lab.json(&["enable", "probe", "--dry-run"]), would);
    assert_eq!(lab.json(&["disable", "probe", "--dry-run"]), would_not);
    assert_eq!(lab.json(&["uninstall", "probe", "--dry-run"]), would);
    assert_eq!(Picture::of(&lab), before);
}

#[test]
fn what_a_state_does_not_permit_is_refused_with_the_way_on() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["disable", "probe"]).ok();
    let error = lab.lodger(&["--json", "add", "shop", "probe"]).fails_with(1, "not-permitted");
    assert_eq!(error["message"], "addon `good/probe` is installed; `provision` needs it enabled");
    assert_eq!(error["hint"], "`lodger enable good/probe` first");
    lab.lodger(&["enable", "probe"]).ok();
    let error = lab.lodger(&["--json", "uninstall", "probe"]).fails_with(1, "not-permitted");
    assert_eq!(error["hint"], "`lodger disable good/probe` first");
}

#[test]
fn disable_refuses_while_apps_use_the_addon_and_force_takes_it_from_them() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    for app in ["shop", "blog"] {
        lab.lodger(&["add", app, "probe"]).ok();
    }
    let error = lab.lodger(&["--json", "disable", "probe"]).fails_with(1, "in-use");
    assert_eq!(error["message"], "addon `good/probe` is used by `blog`, `shop`");
    assert_eq!(error["hint"], "remove it from them first, or use --force");
    assert_eq!(state(&lab), "enabled");
    lab.lodger(&["disable", "probe", "--force"]).ok();
    assert_eq!(state(&lab), "installed");
    assert_eq!(lab.json(&["apps"]), json!({}));
    let mutating = outcomes(&lab).into_iter().filter(|(hook, _)| !["url", "config-vars"].contains(&&**hook));
    let hooks = ["enable", "provision", "provision", "unprovision", "unprovision", "disable"];
    assert_eq!(mutating.collect::<Vec<_>>(), pairs(hooks.map(|hook| (hook, "completed"))));
}

#[test]
fn a_failed_enable_is_left_by_enabling_or_disabling_again() {
    let lab = Lab::new();
    let mut manifest = probe_manifest("late", 1000);
    manifest["limits"]["deadlines_ms"]["default"] = 300.into();
    let package = lab.package("late_write", &manifest, component("endless_loop"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let error = lab.lodger(&["--json", "enable", "probe"]).fails_with(3, "deadline-exceeded");
    assert_eq!(error["message"], "`enable` of late/probe exceeded its deadline of 300 ms");
    assert_eq!(state(&lab), "failed{enable}");
    lab.lodger(&["--json", "enable", "probe"]).fails_with(3, "deadline-exceeded");
    lab.lodger(&["disable", "probe"]).ok();
    assert_eq!(state(&lab), "installed");
}

#[test]
fn kept_data_is_seen_by_the_next_install() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let counted = || std::fs::read_to_string(lab.data(&addon.parse().unwrap()).join("calls/enable")).ok();
    lab.lodger(&["disable", "probe"]).ok();
    assert_eq!(lab.json(&["uninstall", "probe", "--keep-data"])["kept_data"], true);
    assert_eq!(counted().as_deref(), Some("1"));
    lab.well_behaved(|_| ());
    assert_eq!(counted().as_deref(), Some("2"));
    lab.lodger(&["disable", "probe"]).ok();
    lab.lodger(&["uninstall", "probe"]).ok();
    assert_eq!(counted(), None);
}

#[test]
fn what_a_remove_kept_is_attached_again_as_it_was() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let before = (lab.json(&["add", "shop", addon])["id"].clone(), lab.json(&["env", "shop"]));
    let said = lab.lodger(&["remove", "shop", addon, "--keep-data"]).ok().stderr;
    assert!(said.contains("`lodger add shop good/probe` attaches it again"), "{said}");
    assert_eq!(lab.json(&["remove", "shop", addon, "--keep-data"])["changed"], false);
    assert_eq!(lab.json(&["env", "shop"]), json!({}), "no app uses it");
    assert_eq!(lab.json(&["apps"])["shop"][0]["state"], "detached");

    // Nobody uses it, so it may be disabled; but uninstalling would destroy what was to be kept.
    lab.lodger(&["disable", addon]).ok();
    lab.lodger(&["--json", "uninstall", addon]).fails_with(1, "data-kept");
    lab.lodger(&["enable", addon]).ok();

    let again = lab.json(&["add", "shop", addon]);
    assert_eq!((&again["id"], &again["created"]), (&before.0, &json!(true)));
    assert_eq!(lab.json(&["env", "shop"]), before.1);
    lab.lodger(&["remove", "shop", addon, "--keep-data"]).ok();
    assert_eq!(lab.json(&["remove", "shop", addon])["changed"], true, "kept data is destroyed by name");
    assert_eq!(lab.json(&["apps"]), json!({}));
}

#[test]
fn a_short_name_serves_where_it_is_unambiguous() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["info", "probe"]).ok();
    let other = lab.package("other", &probe_manifest("other", 1000), component("hooks_all"));
    lab.lodger(&["install", other.to_str().unwrap(), "--yes"]).ok();
    let error = lab.lodger(&["--json", "info", "probe"]).fails_with(1, "ambiguous-addon");
    assert_eq!(error["message"], "`probe` could be `good/probe`, `other/probe`");
    assert_eq!(lab.json(&["info", "other/probe"])["id"], "other/probe");
    lab.lodger(&["--json", "info", "third/probe"]).fails_with(1, "unknown-addon");
    for name in ["../probe", "Probe", "a/b/c", "", "probe/", "\u{1b}[31m"] {
        lab.lodger(&["--json", "info", name]).fails_with(1, "invalid-id");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let lab = Lab::new();
    for args in [&["frobnicate"][..], &["add", "shop"], &["env", "shop", "--format", "xml"], &["install"], &[]] {
        let ran = lab.lodger(args).exits(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:?}");
    }
    assert!(resources(&lab, "shop").is_empty());
}

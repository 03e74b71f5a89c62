//! What apps have: plans, options, aliases, and what happens when a hook says no.

use serde_json::json;

use super::{outcomes, pairs, resources};
use crate::support::{Lab, component, probe_manifest};

fn with_plans(lab: &Lab) {
    lab.well_behaved(|manifest| {
        manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
        manifest["provider"] = json!({ "regions": ["eu"] });
    });
}

#[test]
fn the_first_plan_is_the_default_and_an_unknown_one_is_refused() {
    let lab = Lab::new();
    with_plans(&lab);
    assert_eq!(lab.json(&["add", "shop", "probe"])["plan"], "small");
    assert_eq!(lab.json(&["add", "blog", "probe", "--plan", "large"])["config"]["PROBE_PLAN"], "large");
    let error = lab.lodger(&["--json", "add", "wiki", "probe", "--plan", "huge"]).fails_with(1, "unknown-plan");
    assert_eq!(error["hint"], "there are `small`, `large`");
    assert!(resources(&lab, "wiki").is_empty());
}

#[test]
fn adding_again_with_another_plan_or_options_is_refused_with_the_hint() {
    let lab = Lab::new();
    with_plans(&lab);
    lab.lodger(&["add", "shop", "probe", "--plan", "large", "--option", "sleep_ms=0"]).ok();
    let again: [(&[&str], &str); 3] = [
        (&["--plan", "small", "--option", "sleep_ms=0"], "plan"),
        (&["--plan", "large", "--option", "sleep_ms=1"], "options"),
        (&["--plan", "large"], "options"),
    ];
    for (asked, what) in again {
        let error = lab.lodger(&[&["--json", "add", "shop", "probe"], asked].concat()).fails_with(1, "already-added");
        assert_eq!(error["message"], format!("app `shop` already has addon `good/probe` with other {what}"));
        let hint = match what {
            "plan" => "`lodger plan shop good/probe small` changes its plan",
            _ => "`lodger remove shop good/probe` first, or add another with --as ALIAS",
        };
        assert_eq!(error["hint"], hint);
    }
    let same = lab.json(&["add", "shop", "probe", "--plan", "large", "--option", "sleep_ms=0"]);
    assert_eq!(same["created"], false);
}

#[test]
fn options_that_are_none_or_too_long_are_refused_before_the_guest_is_entered() {
    let lab = Lab::new();
    with_plans(&lab);
    let calls = outcomes(&lab);
    lab.lodger(&["--json", "add", "shop", "probe", "--option", "novalue"]).fails_with(1, "failed");
    let long = format!("a={}", "x".repeat(5000));
    lab.lodger(&["--json", "add", "shop", "probe", "--option", &long]).fails_with(1, "invalid-option");
    let many: Vec<String> = (0..33).map(|number| format!("--option=o{number}=1")).collect();
    let many: Vec<&str> = ["--json", "add", "shop", "probe"].into_iter().chain(many.iter().map(|o| &**o)).collect();
    lab.lodger(&many).fails_with(1, "invalid-option");
    assert_eq!(outcomes(&lab), calls);
}

#[test]
fn a_refusal_of_the_addon_leaves_nothing_behind() {
    let lab = Lab::new();
    with_plans(&lab);
    let error = lab.lodger(&["--json", "add", "shop", "probe", "--option", "refuse=1"]).fails_with(1, "refused");
    assert_eq!(error["message"], "`provision` of good/probe refused (conflict): asked to refuse");
    assert_eq!(lab.json(&["apps"]), json!({}));
    assert_eq!(outcomes(&lab), pairs([("enable", "completed"), ("provision", "refused")]));
    lab.lodger(&["add", "shop", "probe"]).ok();
}

#[test]
fn what_a_fault_may_have_made_is_undone() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|manifest| manifest["limits"]["deadlines_ms"]["provision"] = 300.into());
    for (option, code, outcome) in
        [("panic=1", "trapped", "trapped"), ("loop=1", "deadline-exceeded", "deadline-exceeded")]
    {
        let error = lab.lodger(&["--json", "add", "shop", "probe", "--option", option]).fails_with(3, code);
        assert!(error["hint"].as_str().unwrap().contains("lodger logs"), "{error}");
        assert_eq!(lab.json(&["apps"]), json!({}));
        let calls = outcomes(&lab);
        assert_eq!(calls[calls.len() - 2..], pairs([("provision", outcome), ("unprovision", "completed")]));
    }
    let left: Vec<_> =
        std::fs::read_dir(lab.data(&addon.parse().unwrap())).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["calls"]);
}

#[test]
fn an_alias_sets_a_second_one_apart() {
    let lab = Lab::new();
    with_plans(&lab);
    lab.lodger(&["add", "shop", "probe"]).ok();
    let cache = lab.json(&["add", "shop", "probe", "--as", "cache"]);
    let names: Vec<_> = cache["config"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["CACHE_PLAN", "CACHE_REGION", "CACHE_URL"]);
    let env = lab.json(&["env", "shop"]);
    assert_eq!(env.as_object().unwrap().len(), 6);
    assert_ne!(env["PROBE_URL"], env["CACHE_URL"]);
    assert_eq!(lab.json(&["url", "shop", "probe"])["url"], env["PROBE_URL"]);
    assert_eq!(lab.json(&["url", "shop", "probe", "--as", "cache"])["url"], env["CACHE_URL"]);
    lab.lodger(&["remove", "shop", "probe"]).ok();
    assert_eq!(resources(&lab, "shop").iter().map(|r| r["alias"].clone()).collect::<Vec<_>>(), ["cache"]);
    // The only one left needs no alias to be asked for.
    assert_eq!(lab.json(&["url", "shop", "probe"])["url"], env["CACHE_URL"]);
    lab.lodger(&["remove", "shop", "probe", "--as", "cache"]).ok();
    lab.lodger(&["--json", "env", "shop"]).fails_with(1, "unknown-app");
}

#[test]
fn several_under_aliases_only_are_told_apart_by_name() {
    let lab = Lab::new();
    with_plans(&lab);
    for alias in ["one", "two"] {
        lab.lodger(&["add", "shop", "probe", "--as", alias]).ok();
    }
    let error = lab.lodger(&["--json", "url", "shop", "probe"]).fails_with(1, "ambiguous-resource");
    assert_eq!(error["hint"], "say which with --as: `one`, `two`");
}

#[test]
fn a_variable_the_app_has_already_is_refused_with_the_hint_to_name_it_apart() {
    let lab = Lab::new();
    with_plans(&lab);
    lab.lodger(&["add", "shop", "good/probe"]).ok();
    let mut manifest = probe_manifest("other", 60_000);
    manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]);
    let other = lab.package("other", &manifest, component("hooks_all"));
    lab.lodger(&["install", other.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "other/probe"]).ok();
    let error = lab.lodger(&["--json", "add", "shop", "other/probe"]).fails_with(1, "variable-taken");
    assert_eq!(error["message"], "app `shop` already has the variable `PROBE_URL` from addon `good/probe`");
    assert_eq!(error["hint"], "give it another name with --as ALIAS");
    let named = lab.json(&["add", "shop", "other/probe", "--as", "second"]);
    assert!(named["config"]["SECOND_URL"].is_string(), "{named}");
    let error = lab.lodger(&["--json", "add", "shop", "other/probe", "--as", "ld"]).fails_with(1, "variable-forbidden");
    assert_eq!(error["hint"], "choose another alias");
    for alias in ["LD", "a_b", "a/b", "-x", "\u{202e}"] {
        lab.lodger(&["--json", "add", "shop", "other/probe", &format!("--as={alias}")]).fails_with(1, "invalid-id");
    }
}

#[test]
fn apps_lists_who_has_what() {
    let lab = Lab::new();
    with_plans(&lab);
    lab.lodger(&["add", "shop", "probe", "--plan", "large"]).ok();
    lab.lodger(&["add", "blog", "probe", "--as", "cache"]).ok();
    let apps = lab.json(&["apps"]);
    let known = ["addon", "app", "created_at", "id", "message", "plan", "state", "variables"];
    assert_eq!(apps["shop"][0].as_object().unwrap().keys().collect::<Vec<_>>(), known);
    assert_eq!(apps["shop"][0]["variables"], json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]));
    assert_eq!(apps["blog"][0]["alias"], "cache");
    let shown = lab.lodger(&["apps"]).ok().stdout;
    let id = |app: &str| apps[app][0]["id"].as_str().unwrap();
    let lines = [
        format!("blog  good/probe  as cache, plan small, id {}, active", id("blog")),
        format!("shop  good/probe  plan large, id {}, active", id("shop")),
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), lines);
}

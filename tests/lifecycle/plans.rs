//! What an app has stays, and changes: another plan, suspended, resumed; and what leads out when that goes wrong half-way.

use lodger::{HookName, HookRequest, ResourceState};
use serde_json::{Value, json};

use super::{Picture, outcomes, pairs, resources, under_way};
use crate::support::{Lab, Running, addon, component, id, probe_manifest, run, until};

/// An app that has the well-behaved addon on the plan `small`; moving it to others goes wrong as their names say.
fn with_plans() -> Lab {
    with_plans_and(|_| ())
}

fn with_plans_and(change: impl FnOnce(&mut Value)) -> Lab {
    let lab = Lab::new();
    lab.well_behaved(|manifest| {
        manifest["plans"] = json!([
            { "name": "small" },
            { "name": "large" },
            { "name": "full", "options": { "refuse": "1" } },
            { "name": "broken", "options": { "panic_once": "1" } },
            { "name": "endless", "options": { "loop": "1" } },
            { "name": "cut-off", "options": { "hang_once": "1" } },
        ]);
        change(manifest);
    });
    lab.lodger(&["add", "shop", "probe"]).ok();
    lab
}

/// State and plan of the only resource.
#[track_caller]
fn shop(lab: &Lab) -> (String, String) {
    let [only] = &resources(lab, "shop")[..] else { panic!("one resource") };
    (only["state"].as_str().unwrap().to_owned(), only["plan"].as_str().unwrap().to_owned())
}

fn is(state: &str, plan: &str) -> (String, String) {
    (state.to_owned(), plan.to_owned())
}

/// The calls of mutating hooks since `enable` and the first `provision`.
fn mutating(lab: &Lab) -> Vec<(String, String)> {
    let reads = ["url", "config-vars", "health"];
    outcomes(lab).into_iter().filter(|(hook, _)| !reads.contains(&&**hook)).skip(2).collect()
}

/// What `doctor` says of the only addon, and what would mend it.
#[track_caller]
fn ill(lab: &Lab) -> (String, String) {
    let findings = lab.lodger(&["--json", "doctor"]).exits(1).json();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let of_addon: Vec<_> = findings.as_array().unwrap().iter().filter(|f| f["subject"] == "good/probe").collect();
    let [only] = of_addon[..] else { panic!("{findings}") };
    (text(only, "message"), text(only, "fix"))
}

#[test]
fn a_resource_moves_to_another_plan_and_keeps_what_it_is() {
    let lab = with_plans();
    let (before, url) = (resources(&lab, "shop")[0].clone(), lab.json(&["url", "shop", "probe"]));
    let moved = lab.json(&["plan", "shop", "probe", "large"]);
    assert_eq!(
        moved,
        json!({
            "app": "shop",
            "addon": "good/probe",
            "alias": null,
            "id": before["id"],
            "plan": "large",
            "state": "active",
            "message": "moved shop from small to large",
            "changed": true,
        })
    );
    let mut after = before;
    after["plan"] = "large".into();
    after["message"] = "moved shop from small to large".into();
    assert_eq!(resources(&lab, "shop"), [after]);
    assert_eq!(lab.json(&["env", "shop"])["PROBE_PLAN"], "large");
    let url = url["url"].as_str().unwrap().replace("/small", "/large");
    assert_eq!(lab.json(&["url", "shop", "probe"])["url"], url);

    let same = lab.lodger(&["plan", "shop", "probe", "large"]).ok();
    assert_eq!((&*same.stdout, &*same.stderr), ("", "good/probe of shop has plan large already\n"));
    assert_eq!(lab.json(&["plan", "shop", "probe", "large"])["changed"], false);
    let back = lab.lodger(&["plan", "shop", "probe", "small"]).ok();
    assert_eq!(back.stderr, "moved good/probe of shop to plan small\nmoved shop from large to small\n");
    assert_eq!(mutating(&lab), pairs([("change-plan", "completed"); 2]));
}

#[test]
fn what_cannot_be_a_plan_of_the_app_is_refused_before_the_guest_is_entered() {
    let lab = with_plans();
    let before = Picture::of(&lab);
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "huge"]).fails_with(1, "unknown-plan");
    assert_eq!(error["hint"], "there are `small`, `large`, `full`, `broken`, `endless`, `cut-off`");
    lab.lodger(&["--json", "plan", "shop", "probe", "\u{1b}[31m"]).fails_with(1, "unknown-plan");
    lab.lodger(&["--json", "plan", "blog", "probe", "large"]).fails_with(1, "unknown-resource");
    lab.lodger(&["--json", "plan", "shop", "probe", "large", "--as", "other"]).fails_with(1, "unknown-resource");
    lab.lodger(&["--json", "suspend", "blog", "probe"]).fails_with(1, "unknown-resource");
    lab.lodger(&["plan", "shop", "probe"]).exits(2);
    assert_eq!(Picture::of(&lab), before);

    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "large"]).fails_with(1, "unknown-plan");
    assert_eq!(error["hint"], "its manifest has no plans");
}

#[test]
fn a_dry_run_checks_everything_and_changes_nothing() {
    let lab = with_plans();
    let before = Picture::of(&lab);
    for (verb, changes) in [
        (&["plan", "shop", "probe", "large"][..], true),
        (&["plan", "shop", "probe", "small"], false),
        (&["suspend", "shop", "probe"], true),
        (&["resume", "shop", "probe"], false),
    ] {
        assert_eq!(lab.json(&[verb, &["--dry-run"]].concat()), json!({ "dry_run": true, "changed": changes }));
    }
    let said = lab.lodger(&["plan", "shop", "probe", "large", "--dry-run"]).ok().stderr;
    assert_eq!(said, "would move good/probe of shop to plan large\n");
    lab.lodger(&["--json", "plan", "shop", "probe", "huge", "--dry-run"]).fails_with(1, "unknown-plan");
    assert_eq!(Picture::of(&lab), before);
    lab.lodger(&["suspend", "shop", "probe"]).ok();
    lab.lodger(&["--json", "plan", "shop", "probe", "large", "--dry-run"]).fails_with(1, "resource-state");
}

#[test]
fn a_plan_the_addon_refuses_leaves_everything_as_it_was() {
    let lab = with_plans();
    let (before, env) = (resources(&lab, "shop"), lab.json(&["env", "shop"]));
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "full"]).fails_with(1, "refused");
    assert_eq!(error["message"], "`change-plan` of good/probe refused (conflict): too much data for the plan full");
    assert_eq!(error["hint"], "`lodger logs good/probe` shows what it said");
    assert_eq!((resources(&lab, "shop"), lab.json(&["env", "shop"])), (before, env));
    lab.lodger(&["doctor"]).ok();
    lab.lodger(&["plan", "shop", "probe", "large"]).ok();
}

#[test]
fn after_a_fault_the_app_keeps_its_variables_and_either_plan_leads_out() {
    let lab = with_plans_and(|manifest| manifest["limits"]["deadlines_ms"]["change-plan"] = 2000.into());
    let again = "`lodger plan shop good/probe small` again, or with another plan";
    for (plan, outcome, way_out) in
        [("broken", "trapped", "broken"), ("endless", "deadline-exceeded", "small"), ("broken", "trapped", "large")]
    {
        lab.lodger(&["plan", "shop", "probe", "small"]).ok();
        let error = lab.lodger(&["--json", "plan", "shop", "probe", plan]).fails_with(3, outcome);
        assert_eq!(error["hint"], format!("{again}; `lodger logs good/probe` shows what it said"));
        assert_eq!(shop(&lab), is("failed{change-plan}", "small"));
        // It has changed half-way, and is asked as ever.
        assert_eq!(lab.json(&["env", "shop"])["PROBE_PLAN"], plan);
        lab.lodger(&["url", "shop", "probe"]).ok();
        let message = "what app `shop` has of it is failed{change-plan}".to_owned();
        assert_eq!(ill(&lab), (message, again.to_owned()));
        for verb in [
            &["suspend", "shop", "probe"][..],
            &["resume", "shop", "probe"],
            &["remove", "shop", "probe", "--keep-data"],
            &["add", "shop", "probe"],
        ] {
            let error = lab.lodger(&[&["--json"], verb].concat());
            let error = error.fails_with(1, "resource-state");
            assert_eq!(error["hint"], again, "{verb:?}");
        }
        // A refusal promises that nothing has changed, not that all is well.
        let refused = lab.lodger(&["--json", "plan", "shop", "probe", "full"]).fails_with(1, "refused");
        assert_eq!(refused["hint"], error_hint(again));
        assert_eq!(shop(&lab), is("failed{change-plan}", "small"));

        lab.lodger(&["plan", "shop", "probe", way_out]).ok();
        assert_eq!(shop(&lab), is("active", way_out));
        assert_eq!(lab.json(&["env", "shop"])["PROBE_PLAN"], way_out);
        lab.lodger(&["doctor"]).ok();
    }
}

fn error_hint(way_out: &str) -> String {
    format!("{way_out}; `lodger logs good/probe` shows what it said")
}

#[test]
fn what_failed_half_way_can_be_removed() {
    let lab = with_plans();
    lab.lodger(&["--json", "plan", "shop", "probe", "broken"]).fails_with(3, "trapped");
    lab.lodger(&["remove", "shop", "probe"]).ok();
    assert_eq!(lab.json(&["apps"]), json!({}));
    lab.lodger(&["disable", "probe"]).ok();
}

/// A verb that hangs in the guest, which has counted the call and done its work.
fn hanging(lab: &Lab, verb: &[&str], hook: &str, done: impl Fn(&str) -> bool) -> Running {
    let key = resources(lab, "shop")[0]["id"].as_str().unwrap().to_owned();
    let running = lab.start(verb);
    under_way(lab, hook);
    until(|| done(&key).then_some(()));
    running
}

fn changing(lab: &Lab) -> Running {
    let data = lab.data(&addon("good/probe"));
    hanging(lab, &["plan", "shop", "probe", "cut-off"], "change-plan", |key| {
        std::fs::read_to_string(data.join(key)).is_ok_and(|text| text.starts_with("cut-off\n"))
    })
}

#[test]
fn after_a_kill_within_change_plan_either_plan_leads_out() {
    let lab = with_plans();
    for way_out in ["cut-off", "small"] {
        let changing = changing(&lab);
        assert_eq!(shop(&lab), is("updating", "small"));
        assert_eq!(lab.json(&["env", "shop"]).as_object().unwrap().len(), 3, "read verbs go on meanwhile");
        changing.kill();
        assert_eq!(shop(&lab), is("interrupted{change-plan}", "small"));
        assert_eq!(lab.json(&["env", "shop"])["PROBE_PLAN"], "cut-off");
        let message = "what app `shop` has of it is interrupted{change-plan}".to_owned();
        let fix = "`lodger plan shop good/probe small` again, or with another plan".to_owned();
        assert_eq!(ill(&lab), (message, fix));
        lab.lodger(&["--json", "suspend", "shop", "probe"]).fails_with(1, "resource-state");

        assert_eq!(lab.json(&["plan", "shop", "probe", way_out])["changed"], true);
        assert_eq!(shop(&lab), is("active", way_out));
        assert_eq!(lab.json(&["env", "shop"])["PROBE_PLAN"], way_out);
        lab.lodger(&["doctor"]).ok();
        lab.lodger(&["plan", "shop", "probe", "small"]).ok();
    }
    let calls = mutating(&lab);
    let expected = [("interrupted"), "completed", "completed", "interrupted", "completed"];
    assert_eq!(calls, pairs(expected.map(|outcome| ("change-plan", outcome))));
}

#[test]
fn a_suspended_resource_keeps_its_data_and_the_app_its_variables() {
    let lab = with_plans();
    let env = lab.json(&["env", "shop"]);
    let suspended = lab.json(&["suspend", "shop", "probe"]);
    assert_eq!((&suspended["state"], &suspended["changed"]), (&json!("suspended"), &json!(true)));
    assert_eq!(shop(&lab), is("suspended", "small"));
    let data = lab.data(&addon("good/probe"));
    let marker = data.join(format!("{}.suspended", suspended["id"].as_str().unwrap()));
    assert!(marker.exists(), "the addon was told");
    assert_eq!(lab.json(&["env", "shop"]), env);
    lab.lodger(&["doctor"]).ok();

    assert_eq!(lab.json(&["suspend", "shop", "probe"])["changed"], false);
    let said = lab.lodger(&["suspend", "shop", "probe"]).ok().stderr;
    assert_eq!(said, "already suspended: good/probe of shop\n");
    assert_eq!(lab.json(&["plan", "shop", "probe", "small"])["changed"], false, "it has that plan");
    for verb in [&["plan", "shop", "probe", "large"][..], &["remove", "shop", "probe", "--keep-data"]] {
        let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(1, "resource-state");
        assert_eq!(error["hint"], "`lodger resume shop good/probe` gives it back", "{verb:?}");
    }
    let again = lab.lodger(&["add", "shop", "probe"]).ok().stderr;
    assert!(again.contains("it is suspended: `lodger resume shop good/probe` gives it back\n"), "{again}");
    lab.lodger(&["--json", "disable", "probe"]).fails_with(1, "in-use");

    let resumed = lab.json(&["resume", "shop", "probe"]);
    assert_eq!((&resumed["state"], &resumed["message"]), (&json!("active"), &json!("shop is served again")));
    assert!(!marker.exists(), "the addon was told");
    assert_eq!(lab.json(&["env", "shop"]), env);
    let said = lab.lodger(&["resume", "shop", "probe"]).ok().stderr;
    assert_eq!(said, "not suspended: good/probe of shop\n");
    assert_eq!(mutating(&lab), pairs([("suspend", "completed"), ("resume", "completed")]));

    lab.lodger(&["suspend", "shop", "probe"]).ok();
    lab.lodger(&["remove", "shop", "probe"]).ok();
    assert_eq!(lab.json(&["apps"]), json!({}));
    assert!(!marker.exists(), "what is suspended can be removed");
}

#[test]
fn a_suspend_that_goes_wrong_is_finished_or_taken_back() {
    let lab = with_plans();
    for (option, exit, code, state) in [
        ("suspend=refuse", 1, "refused", "active"),
        ("suspend=panic_once", 3, "trapped", "failed{suspend}"),
        ("resume=panic_once", 0, "", "suspended"),
    ] {
        lab.lodger(&["remove", "shop", "probe"]).ok();
        lab.lodger(&["add", "shop", "probe", "--option", option]).ok();
        let ran = lab.lodger(&["--json", "suspend", "shop", "probe"]).exits(exit);
        if exit != 0 {
            ran.fails_with(exit, code);
        }
        assert_eq!(shop(&lab), is(state, "small"), "{option}");
        assert_eq!(lab.json(&["env", "shop"]).as_object().unwrap().len(), 3);
    }
    lab.lodger(&["--json", "resume", "shop", "probe"]).fails_with(3, "trapped");
    let both = "`lodger suspend shop good/probe` or `lodger resume shop good/probe` again";
    assert_eq!(ill(&lab), ("what app `shop` has of it is failed{resume}".to_owned(), both.to_owned()));
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "large"]).fails_with(1, "resource-state");
    assert_eq!(error["hint"], both);
    lab.lodger(&["suspend", "shop", "probe"]).ok();
    assert_eq!(shop(&lab), is("suspended", "small"));
    lab.lodger(&["--json", "resume", "shop", "probe"]).fails_with(3, "trapped");
    lab.lodger(&["resume", "shop", "probe"]).ok();
    assert_eq!(shop(&lab), is("active", "small"));
}

#[test]
fn after_a_kill_within_suspend_or_resume_either_leads_out() {
    let lab = with_plans();
    lab.lodger(&["remove", "shop", "probe"]).ok();
    let hang = ["--option", "suspend=hang_once", "--option", "resume=hang_once"];
    lab.lodger(&[&["add", "shop", "probe"][..], &hang].concat()).ok();
    let data = lab.data(&addon("good/probe"));
    let marker = |key: &str| data.join(format!("{key}.suspended")).exists();

    hanging(&lab, &["suspend", "shop", "probe"], "suspend", marker).kill();
    assert_eq!(shop(&lab), is("interrupted{suspend}", "small"));
    lab.lodger(&["suspend", "shop", "probe"]).ok();
    assert_eq!(shop(&lab), is("suspended", "small"));

    let resuming = hanging(&lab, &["resume", "shop", "probe"], "resume", |key| !marker(key));
    assert_eq!(shop(&lab), is("resuming", "small"));
    resuming.kill();
    assert_eq!(shop(&lab), is("interrupted{resume}", "small"));
    assert_eq!(lab.json(&["env", "shop"]).as_object().unwrap().len(), 3);
    lab.lodger(&["resume", "shop", "probe"]).ok();
    assert_eq!(shop(&lab), is("active", "small"));
    lab.lodger(&["doctor"]).ok();
}

#[test]
fn an_addon_that_exports_no_plans_says_so() {
    let lab = Lab::new();
    let mut manifest = probe_manifest("good", 60_000);
    manifest["config_vars"] = json!([]);
    manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
    let package = lab.package("package", &manifest, component("refuses"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "probe"]).ok();
    lab.lodger(&["add", "shop", "probe"]).ok();
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "large"]).fails_with(1, "hook-missing");
    assert_eq!(error["message"], "addon `good/probe` does not export the hook `change-plan`");
    let hint = "its component exports no `plans`: remove it and add it again with --plan, which destroys what is there";
    assert_eq!(error["hint"], hint);
    let error = lab.lodger(&["--json", "suspend", "shop", "probe"]).fails_with(1, "hook-missing");
    assert_eq!(error["hint"], "it exports nothing to suspend and resume with");
    assert_eq!(lab.json(&["plan", "shop", "probe", "small"])["changed"], false);
    assert_eq!(lab.json(&["resume", "shop", "probe"])["changed"], false);
    let error = lab.lodger(&["--json", "add", "shop", "probe", "--plan", "large"]).fails_with(1, "already-added");
    assert_eq!(error["hint"], "`lodger remove shop good/probe` first, or add another with --as ALIAS");
    assert_eq!(shop(&lab), is("active", "small"));
}

#[test]
fn an_alias_says_which_one_is_meant() {
    let lab = with_plans();
    lab.lodger(&["add", "shop", "probe", "--as", "cache"]).ok();
    lab.lodger(&["plan", "shop", "probe", "large", "--as", "cache"]).ok();
    lab.lodger(&["suspend", "shop", "probe"]).ok();
    let found: Vec<_> = resources(&lab, "shop").iter().map(|r| (r["state"].clone(), r["plan"].clone())).collect();
    assert_eq!(found, [(json!("suspended"), json!("small")), (json!("active"), json!("large"))]);
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "broken", "--as", "cache"]).fails_with(3, "trapped");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.starts_with("`lodger plan shop good/probe large --as cache` again"), "{hint}");
}

#[test]
fn adding_again_takes_the_plan_it_has_unless_another_is_asked_for() {
    let lab = with_plans();
    lab.lodger(&["plan", "shop", "probe", "large"]).ok();
    assert_eq!(lab.json(&["add", "shop", "probe"])["plan"], "large");
    let error = lab.lodger(&["--json", "add", "shop", "probe", "--plan", "small"]).fails_with(1, "already-added");
    assert_eq!(error["hint"], "`lodger plan shop good/probe small` changes its plan");
    lab.lodger(&["remove", "shop", "probe", "--keep-data"]).ok();
    let error = lab.lodger(&["--json", "plan", "shop", "probe", "small"]).fails_with(1, "resource-state");
    assert_eq!(error["hint"], "`lodger add shop good/probe` attaches it again");
    assert_eq!(lab.json(&["add", "shop", "probe"])["plan"], "large");
    assert_eq!(shop(&lab), is("active", "large"));
}

#[test]
fn a_call_of_an_embedder_is_held_to_the_same_rules() {
    let lab = with_plans();
    run(async {
        let host = lab.host().await;
        let (app, of) = (id("shop"), addon("good/probe"));
        let request = || host.request(HookName::ChangePlan, &app, &of, None);
        let HookRequest::ChangePlan(asked) = request().await.unwrap() else { panic!("about another hook") };
        assert_eq!((asked.of.plan.as_deref(), &*asked.plan), (Some("small"), "small"));

        let mut large = asked.clone();
        large.plan = "large".to_owned();
        for _ in 0..2 {
            let call = host.call(&of, HookRequest::ChangePlan(large.clone())).await.unwrap();
            assert!(call.outcome.is_completed(), "{:?}", call.outcome);
            assert_eq!(host.resource(&app, &of, None).unwrap().plan, Some(id("large")));
        }
        let mut unknown = asked.clone();
        unknown.plan = "huge".to_owned();
        let error = host.call(&of, HookRequest::ChangePlan(unknown)).await.unwrap_err();
        assert_eq!(error.code(), "unknown-plan");
        let mut nobody = asked.of;
        nobody.key = "0".repeat(32);
        let error = host.call(&of, HookRequest::Suspend(nobody)).await.unwrap_err();
        assert_eq!(error.code(), "unknown-key");

        host.suspend(&app, &of, None).await.unwrap();
        let again = host.request(HookName::Provision, &app, &of, None).await.unwrap();
        for refused in [request().await.unwrap(), again] {
            let error = host.call(&of, refused).await.unwrap_err();
            assert_eq!(error.code(), "resource-state");
            assert_eq!(host.resource(&app, &of, None).unwrap().state, ResourceState::Suspended);
        }
    });
}

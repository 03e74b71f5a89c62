//! What is done when a hook fails, as `[failure]` of the policy says: called again, gone on without, quarantined.

use lodger::{Add, HookRequest};
use serde_json::{Value, json};

use super::{outcomes, pairs, resources};
use crate::kill_points::{kill_at, points};
use crate::support::{Lab, addon, component, id, probe_manifest, run};

const ADDON: &str = "flaky/probe";

/// A lab with the addon that fails when it is told to, enabled under a policy.
fn flaky(policy: &str) -> Lab {
    let lab = Lab::new();
    lab.policy(policy);
    let mut manifest = probe_manifest("flaky", 60_000);
    manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN"]);
    let package = lab.package("flaky", &manifest, component("flaky"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    lab
}

/// Tells a hook what to do from now on: `trap`, `trap 2`, `unavailable 1`, … or nothing but its work.
fn tell(lab: &Lab, hook: &str, what: &str) {
    let does = lab.data(&addon(ADDON)).join("does");
    std::fs::create_dir_all(&does).unwrap();
    std::fs::write(does.join(hook), if what.is_empty() { "trap 0" } else { what }).unwrap();
}

/// How the calls of a hook ended, the oldest first.
fn of(lab: &Lab, hook: &str) -> Vec<String> {
    outcomes(lab).into_iter().filter(|(called, _)| called == hook).map(|(_, outcome)| outcome).collect()
}

fn state(lab: &Lab) -> String {
    lab.json(&["info", ADDON])["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_policy_that_means_nothing_is_refused_with_its_line_and_the_reason() {
    let lab = Lab::new();
    let cases = [
        ("enable = \"fail-open\"", "failure.enable = \"fail-open\": apps would be given an addon that is not ready"),
        ("provision = \"fail-open\"", "failure.provision = \"fail-open\": the app would be given nothing"),
        ("upgrade = \"fail-open\"", "failure.upgrade = \"fail-open\": a version would serve on data"),
        ("health = \"fail-open\"", "failure.health = \"fail-open\": an addon that cannot tell how it is"),
        ("default = \"fail-open\"", "failure.default = \"fail-open\": not every hook can be gone on without"),
        ("schedule = \"fail-closed\"", "failure.schedule = \"fail-closed\": the built-in decides at once"),
        ("schedule = \"retry(1)\"", "failure.schedule = \"retry(1)\": the built-in decides at once"),
        ("enable = \"quarantine\"", "failure.enable = \"quarantine\": an addon of which this hook has failed"),
        ("upgrade = \"quarantine(2)\"", "failure.upgrade = \"quarantine(2)\": the version before is put back"),
        ("dump = \"retry(1)\"", "failure.dump = \"retry(1)\": what went through its stream cannot be had again"),
        ("restore = \"fail-open\"", "failure.restore = \"fail-open\": what was restored in part would pass"),
        ("restart = \"fail-closed\"", "failure.restart = \"fail-closed\": unknown hook; there are enable, disable"),
        ("url = \"retry(6)\"", "failure.url = \"retry(6)\": there are \"fail-closed\""),
        ("url = \"retry\"", "failure.url = \"retry\": there are \"fail-closed\""),
        ("url = \"quarantine(0)\"", "failure.url = \"quarantine(0)\": there are \"fail-closed\""),
        ("url = \"\\u001b[31m\"", "there are \"fail-closed\""),
        ("url = 3", "invalid type: integer"),
    ];
    for (line, says) in cases {
        lab.policy(&format!("[failure]\n{line}\n"));
        let error = lab.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says) && !message.contains('\u{1b}'), "{line}: {message}");
    }
}

#[test]
fn what_is_done_is_shown_for_every_hook_that_the_addon_has() {
    let lab = flaky("[failure]\ndefault = \"retry(2)\"\nurl = \"fail-open\"\nhealth = \"quarantine\"\n");
    let expected = json!({
        "enable": "retry(2)", "disable": "retry(2)", "provision": "retry(2)", "unprovision": "retry(2)",
        "url": "fail-open", "config-vars": "retry(2)", "health": "quarantine(3)",
    });
    assert_eq!(lab.json(&["info", ADDON])["failure"], expected);
    let shown = lab.lodger(&["info", ADDON]).ok().stdout;
    assert!(shown.lines().any(|line| line.starts_with("when url fails") && line.ends_with(" fail-open")), "{shown}");
    let findings = lab.lodger(&["doctor"]).ok().stdout;
    assert!(findings.contains("looser than the built-in default: failure.url = \"fail-open\""), "{findings}");

    // `default` is for hooks that it means something for.
    lab.policy("[failure]\ndefault = \"quarantine(7)\"\n");
    let policies = &lab.json(&["info", ADDON])["failure"];
    assert_eq!((&policies["enable"], &policies["url"]), (&json!("fail-closed"), &json!("quarantine(7)")));
}

#[test]
fn a_hook_is_called_again_under_the_same_key_as_often_as_the_policy_says() {
    let lab = flaky("[failure]\nprovision = \"retry(2)\"\nenable = \"retry(1)\"\nurl = \"retry(2)\"\n");
    tell(&lab, "provision", "trap 2");
    lab.lodger(&["add", "shop", ADDON]).ok();
    let expected = pairs([
        ("enable", "completed"),
        ("provision", "trapped"),
        ("provision", "trapped"),
        ("provision", "completed"),
        ("url", "completed"),
        ("config-vars", "completed"),
    ]);
    assert_eq!(outcomes(&lab), expected);
    let calls = lab.json(&["calls"]);
    let keys: Vec<&Value> =
        calls.as_array().unwrap().iter().filter(|call| call["hook"] == "provision").map(|call| &call["key"]).collect();
    assert!(keys.iter().all(|key| *key == keys[0] && key.is_string()), "{keys:?}");

    // Once more than it is asked again: as without retries, and undone.
    tell(&lab, "provision", "trap 3");
    lab.lodger(&["--json", "add", "blog", ADDON]).fails_with(3, "trapped");
    assert_eq!(of(&lab, "provision")[3..], ["trapped", "trapped", "trapped"]);
    assert_eq!(of(&lab, "unprovision"), ["completed"]);
    assert!(resources(&lab, "blog").is_empty());

    // Read hooks too.
    tell(&lab, "url", "trap");
    lab.lodger(&["--json", "url", "shop", ADDON]).fails_with(3, "trapped");
    assert_eq!(of(&lab, "url")[1..], ["trapped", "trapped", "trapped"]);

    tell(&lab, "enable", "trap 1");
    lab.lodger(&["disable", ADDON, "--force"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    assert_eq!(of(&lab, "enable"), ["completed", "trapped", "completed"]);
}

#[test]
fn of_refusals_only_one_that_says_unavailable_is_asked_for_again() {
    let lab = flaky("[failure]\nprovision = \"retry(1)\"\nunprovision = \"fail-open\"\n");
    tell(&lab, "provision", "unavailable 1");
    lab.lodger(&["add", "shop", ADDON]).ok();
    assert_eq!(of(&lab, "provision"), ["refused", "completed"]);
    tell(&lab, "provision", "conflict 1");
    lab.lodger(&["--json", "add", "blog", ADDON]).fails_with(1, "refused");
    assert_eq!(of(&lab, "provision").len(), 3);
    assert!(resources(&lab, "blog").is_empty());

    // A refusal is an answer, which nobody goes on without.
    tell(&lab, "unprovision", "conflict 1");
    lab.lodger(&["--json", "remove", "shop", ADDON]).fails_with(1, "refused");
    assert_eq!(resources(&lab, "shop")[0]["state"], "failed{unprovision}");
}

#[test]
fn whoever_gives_up_between_two_tries_leaves_what_reconcile_finishes() {
    let lab = flaky("[failure]\nprovision = \"retry(5)\"\n");
    tell(&lab, "provision", "trap");
    run(async {
        let host = lab.host().await;
        let trapped = async {
            while !host
                .calls(Some(&addon(ADDON)), 1)
                .unwrap()
                .iter()
                .any(|call| call.outcome.as_deref() == Some("trapped"))
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            done = host.add(Add::new(id("shop"), addon(ADDON))) => panic!("it ended: {done:?}"),
            () = trapped => {}
        }
    });
    assert_eq!(resources(&lab, "shop")[0]["state"], "interrupted{provision}");
    tell(&lab, "provision", "");
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(resources(&lab, "shop")[0]["state"], "active");
}

#[test]
fn a_program_that_is_killed_at_any_point_of_a_retry_leaves_what_is_finished() {
    let add = ["add", "shop", ADDON];
    let begin = || {
        let lab = flaky("[failure]\nprovision = \"retry(1)\"\n");
        tell(&lab, "provision", "trap 1");
        lab
    };
    let all = points(&begin(), &add);
    assert_eq!(all.iter().filter(|point| *point == "stored: note the start of a call").count(), 2, "{all:?}");
    for (number, point) in (1..).zip(&all) {
        let lab = begin();
        kill_at(&lab, &add, number);
        lab.lodger(&["reconcile"]).ok();
        lab.lodger(&add).ok();
        let [only] = &resources(&lab, "shop")[..] else { panic!("{number}, {point}") };
        assert_eq!(only["state"], "active", "{number}, {point}");
        assert!(of(&lab, "unprovision").is_empty(), "{number}, {point}: there was nothing to undo");
        lab.lodger(&["doctor"]).ok();
    }
}

#[test]
fn an_addon_that_traps_when_it_is_to_clear_up_goes_where_the_policy_says_so() {
    let lab = flaky("");
    for app in ["shop", "blog", "wiki"] {
        lab.lodger(&["add", app, ADDON]).ok();
    }
    tell(&lab, "unprovision", "trap");
    tell(&lab, "disable", "trap");
    lab.lodger(&["--json", "remove", "shop", ADDON]).fails_with(3, "trapped");
    assert_eq!(resources(&lab, "shop")[0]["state"], "failed{unprovision}");

    lab.policy("[failure]\nunprovision = \"fail-open\"\ndisable = \"fail-open\"\n");
    let removed = lab.lodger(&["--json", "remove", "shop", ADDON]).ok();
    let how = removed.json()["failed_open"][0].as_str().unwrap().to_owned();
    assert!(how.starts_with("`unprovision` of flaky/probe trapped: "), "{how}");
    assert!(removed.stderr.contains("warning: `unprovision` of flaky/probe trapped"), "{}", removed.stderr);
    let call = &lab.json(&["calls", "--limit", "1"])[0];
    assert_eq!((&call["hook"], &call["outcome"]), (&json!("unprovision"), &json!("trapped")));
    assert!(call["detail"].as_str().unwrap().ends_with(" (gone on without it: fail-open)"), "{call}");
    assert!(resources(&lab, "shop").is_empty());

    // With the apps that still have it, and a `disable` that traps as well.
    let disabled = lab.json(&["disable", ADDON, "--force"]);
    assert_eq!((&disabled["state"], disabled["failed_open"].as_array().unwrap().len()), (&json!("installed"), 3));
    assert_eq!(lab.json(&["apps"]), json!({}));
    lab.lodger(&["uninstall", ADDON, "--yes"]).ok();
    assert_eq!(lab.json(&["list"]), json!([]));
}

#[test]
fn an_app_does_without_an_addon_that_fails_open_and_keeps_the_others() {
    let lab = flaky("[failure]\nurl = \"fail-open\"\nhealth = \"quarantine(1)\"\n");
    lab.lodger(&["add", "shop", ADDON, "--as", "second"]).ok();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "good/probe"]).ok();
    let whole = lab.json(&["env", "shop"]);
    tell(&lab, "url", "trap");
    let ran = lab.lodger(&["--json", "env", "shop"]).ok();
    assert!(ran.stderr.starts_with("flaky/probe: `url`: trapped: "), "{}", ran.stderr);
    assert!(ran.stderr.trim_end().ends_with("; left out, as the policy says"), "{}", ran.stderr);
    let mut expected = whole.clone();
    expected.as_object_mut().unwrap().remove("SECOND_URL");
    assert_eq!(ran.json(), expected);
    lab.lodger(&["run", "shop", "--", "sh", "-c", "test -n \"$PROBE_URL\" -a -z \"$SECOND_URL\""]).ok();

    // `config-vars` fails closed, also of one that is quarantined.
    tell(&lab, "config-vars", "trap");
    lab.lodger(&["--json", "env", "shop"]).fails_with(3, "env-incomplete");
    tell(&lab, "health", "trap");
    lab.lodger(&["doctor"]).exits(1);
    let ran = lab.lodger(&["--json", "env", "shop"]);
    assert_eq!(ran.fails_with(1, "env-incomplete")["message"], "one hook of app `shop` gave no values");
    lab.policy("[failure]\nurl = \"fail-open\"\nconfig-vars = \"fail-open\"\n");
    expected.as_object_mut().unwrap().remove("SECOND_PLAN");
    assert_eq!(lab.json(&["env", "shop"]), expected);
}

#[test]
fn a_hook_that_fails_too_often_in_a_row_quarantines_its_addon_until_it_is_enabled_again() {
    let lab = flaky("[failure]\nhealth = \"quarantine(3)\"\n");
    lab.lodger(&["add", "shop", ADDON]).ok();
    let ask = |times: u32| (0..times).for_each(|_| drop(lab.lodger(&["doctor"])));
    tell(&lab, "health", "trap");
    ask(2);
    tell(&lab, "health", "");
    ask(1);
    tell(&lab, "health", "trap");
    ask(2);
    assert_eq!(state(&lab), "degraded", "never three times in a row");
    let findings = lab.lodger(&["doctor"]).exits(1).stdout;
    let says = "error: flaky/probe: addon `flaky/probe` is quarantined: its hook `health` has failed 3 times in a row\n  \
                fix: `lodger enable flaky/probe` lets it try again; `lodger calls flaky/probe` shows how it has failed\n";
    assert!(findings.contains(says), "{findings}");
    assert_eq!(state(&lab), "failed{health}");

    // Whatever is asked of it, by whichever program, but what takes it away.
    tell(&lab, "health", "");
    let before = outcomes(&lab);
    for verb in [&["add", "blog", ADDON][..], &["url", "shop", ADDON]] {
        let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(1, "quarantined");
        assert!(
            error["hint"].as_str().unwrap().starts_with("`lodger enable flaky/probe` lets it try again"),
            "{error}"
        );
    }
    lab.lodger(&["doctor", "--fix"]).exits(1);
    lab.lodger(&["reconcile"]).ok();
    assert_eq!((outcomes(&lab), state(&lab)), (before, "failed{health}".to_owned()));
    let needs = lab.well_behaved_package(|manifest| {
        manifest["depends"] = json!([{ "namespace": "flaky", "name": "probe" }]);
    });
    lab.lodger(&["install", &needs, "--yes"]).ok();
    lab.lodger(&["--json", "enable", "good/probe"]).fails_with(1, "quarantined");
    lab.lodger(&["--json", "enable", "good/probe", "--dry-run"]).fails_with(1, "quarantined");
    lab.lodger(&["uninstall", "good/probe", "--yes"]).ok();

    lab.lodger(&["enable", ADDON]).ok();
    lab.lodger(&["url", "shop", ADDON]).ok();
    lab.lodger(&["doctor"]).ok();
    // What it has failed before does not count again.
    tell(&lab, "health", "trap");
    ask(2);
    assert_eq!(state(&lab), "degraded");
    ask(1);
    assert_eq!(state(&lab), "failed{health}");
    lab.lodger(&["remove", "shop", ADDON]).ok();
    lab.lodger(&["disable", ADDON]).ok();
    assert_eq!(state(&lab), "installed");
}

#[test]
fn calls_that_are_only_logged_count_at_once() {
    let lab = flaky("[failure]\ndefault = \"quarantine(2)\"\n");
    run(async {
        let (host, id) = (lab.host().await, addon(ADDON));
        let health = async || host.call(&id, HookRequest::Health).await.map(|call| call.outcome.name());
        for (told, outcome) in [("trap", "trapped"), ("", "completed"), ("trap", "trapped"), ("trap", "trapped")] {
            tell(&lab, "health", told);
            assert_eq!(health().await.unwrap(), outcome);
        }
        assert_eq!(health().await.unwrap_err().code(), "quarantined");
        tell(&lab, "health", "");
        assert!(host.enable(&id).await.unwrap().outcome.is_completed());
        assert_eq!(health().await.unwrap(), "completed");
    });
}

#[test]
fn of_a_mutating_hook_the_last_fault_is_undone_before_nothing_is_called_any_more() {
    let lab = flaky("[failure]\nprovision = \"quarantine(2)\"\n");
    lab.lodger(&["add", "wiki", ADDON]).ok();
    tell(&lab, "provision", "trap");
    for _ in 0..2 {
        assert_eq!(state(&lab), "enabled");
        lab.lodger(&["--json", "add", "shop", ADDON]).fails_with(3, "trapped");
    }
    assert_eq!(state(&lab), "failed{provision}");
    assert_eq!(of(&lab, "unprovision"), ["completed", "completed"]);
    assert!(resources(&lab, "shop").is_empty());
    lab.lodger(&["--json", "add", "shop", ADDON]).fails_with(1, "quarantined");
    lab.lodger(&["--json", "url", "wiki", ADDON]).fails_with(1, "quarantined");
}

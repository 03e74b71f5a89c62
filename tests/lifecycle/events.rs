//! Who hears of events, who decides about them, and what becomes of one that is cut off on its way.

use std::fs;

use lodger::Raised;
use serde_json::{Value, json};

use super::backup::{back_up, restore};
use super::upgrade::{ADDON, version};
use super::{resources, under_way};
use crate::kill_points::{kill_at, points};
use crate::support::{Lab, addon, component, probe_manifest, run};

const POLICY: &str = "[grant]\nevents = [\"app.*\", \"addon.*\", \"build.*\"]\n";

/// A listener under this name, enabled.
fn listener(lab: &Lab, name: &str, events: &[&str]) -> String {
    let package = package(lab, name, events);
    lab.lodger(&["install", &package, "--yes"]).ok();
    let id = format!("ears/{name}");
    lab.lodger(&["enable", &id]).ok();
    id
}

fn package(lab: &Lab, name: &str, events: &[&str]) -> String {
    let mut manifest = probe_manifest("ears", 60_000);
    (manifest["name"], manifest["config_vars"]) = (json!(name), json!([]));
    manifest["settings"] = json!({ "TARGET": { "default": "" }, "OTHER": { "default": "" } });
    manifest["capabilities"]["events"] = json!(events);
    lab.package(name, &manifest, component("listener")).to_str().unwrap().to_owned()
}

/// A lab with a well-behaved addon of two plans, and a listener to all about apps.
fn heard() -> (Lab, &'static str, String) {
    let lab = Lab::new();
    lab.policy(POLICY);
    let subject = lab.well_behaved(|manifest| manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]));
    let ear = listener(&lab, "ear", &["app.*"]);
    (lab, subject, ear)
}

fn answers(lab: &Lab, listener: &str, how: &str) {
    lab.lodger(&["set", listener, &format!("TARGET={how}")]).ok();
}

/// The events a listener has noted: kind, addon, app and details.
fn told(lab: &Lab, listener: &str) -> Vec<String> {
    let lines = fs::read_to_string(lab.data(&addon(listener)).join("told")).unwrap_or_default();
    let shown = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        format!("{} {} {}", words[1], words[3], words[6]).trim().to_owned()
    };
    lines.lines().map(shown).collect()
}

fn ids(lab: &Lab, listener: &str) -> Vec<String> {
    let lines = fs::read_to_string(lab.data(&addon(listener)).join("told")).unwrap_or_default();
    lines.lines().map(|line| line.split(' ').nth(5).unwrap().to_owned()).collect()
}

/// How the calls of a hook ended, the oldest first.
fn of(lab: &Lab, listener: &str, hook: &str) -> Vec<String> {
    let calls = lab.json(&["calls", listener, "--limit", "1000"]);
    let calls = calls.as_array().unwrap().iter().rev().filter(|call| call["hook"] == hook);
    calls.map(|call| call["outcome"].as_str().unwrap().to_owned()).collect()
}

fn findings(lab: &Lab, subject: &str) -> Vec<String> {
    let findings = lab.lodger(&["--json", "doctor"]).json();
    let about = findings.as_array().unwrap().iter().filter(|finding| finding["subject"] == subject);
    about.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
}

/// What fails is not told again before some time has passed: as if it had.
fn later(lab: &Lab) {
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE listener SET retry_at = 0", []).unwrap();
}

#[test]
fn what_happens_is_told_in_order_to_whom_it_is_granted() {
    let (lab, subject, ear) = heard();
    let other = listener(&lab, "other", &["app.removed", "addon.*"]);
    lab.lodger(&["add", "shop", subject]).ok();
    lab.lodger(&["plan", "shop", subject, "large"]).ok();
    lab.lodger(&["suspend", "shop", subject]).ok();
    lab.lodger(&["resume", "shop", subject]).ok();
    lab.lodger(&["add", "shop", subject]).ok();
    lab.lodger(&["remove", "shop", subject, "--keep-data"]).ok();
    lab.lodger(&["add", "shop", subject]).ok();
    lab.lodger(&["remove", "shop", subject, "--yes"]).ok();
    lab.lodger(&["disable", subject]).ok();
    lab.lodger(&["uninstall", subject, "--yes"]).ok();
    let apps = [
        "app.added shop plan=small",
        "app.plan-changed shop plan=large,from=small",
        "app.suspended shop",
        "app.resumed shop",
        "app.detached shop",
        "app.attached shop",
        "app.removed shop",
    ];
    assert_eq!(told(&lab, &ear), apps);
    assert_eq!(told(&lab, &other), ["app.removed shop", "addon.disabled -", "addon.uninstalled -"]);
    let events = lab.json(&["events", "--limit", "2"]);
    assert_eq!((&events[0]["kind"], &events[0]["actor"]), (&json!("addon.uninstalled"), &json!("cli")));
    assert_eq!(events[0]["listeners"], json!({ other.as_str(): "told" }));
    assert_eq!(events.as_array().unwrap().len(), 2);
    // Asked beforehand were those whose pattern matches, and nobody about what was so already.
    assert_eq!(of(&lab, &other, "before"), Vec::<String>::new());
    assert_eq!(of(&lab, &ear, "before").len(), 5, "twice adding and attaching, a plan, suspend and resume");
}

#[test]
fn a_veto_and_a_listener_that_cannot_tell_keep_a_verb_from_being_done() {
    let (lab, subject, ear) = heard();
    let add = ["--json", "add", "shop", subject];
    answers(&lab, &ear, "veto");
    let error = lab.lodger(&add).fails_with(1, "vetoed");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&ear) && message.contains("not \\u{1b}[31mtoday"), "{error}");
    assert_eq!(error["hint"], format!("`lodger disable {ear}` if it is not to decide"));
    lab.lodger(&["--json", "add", "shop", subject, "--dry-run"]).fails_with(1, "vetoed");
    assert_eq!(lab.json(&["apps"]), json!({}));
    for (how, words) in [
        ("trap", "trapped"),
        ("hang", "1000 ms"),
        ("refuse", "refused (other)"),
        ("version=2.0.0", "which nobody may change"),
        ("digest=x", "which nobody may change"),
        ("image=x", "which nobody may change"),
        ("namespace=x", "which nobody may change"),
        ("grant=x", "which nobody may change"),
        ("addon=other/probe", "which nobody may change"),
        ("app=wiki", "which nobody may change"),
    ] {
        answers(&lab, &ear, how);
        let error = lab.lodger(&add).fails_with(1, "listener-failed");
        assert!(error["message"].as_str().unwrap().contains(words), "{how}: {error}");
        assert!(error["hint"].as_str().unwrap().contains(&format!("lodger disable {ear}")), "{error}");
    }
    assert_eq!(lab.json(&["apps"]), json!({}));
    assert_eq!(lab.json(&["events"]), json!([]), "what was refused has not happened");
    lab.lodger(&["disable", &ear]).ok();
    lab.lodger(&add).ok();
}

#[test]
fn what_a_listener_changes_is_checked_as_what_anybody_asks_for() {
    let (lab, subject, ear) = heard();
    answers(&lab, &ear, "plan=large");
    lab.lodger(&["add", "shop", subject, "--plan", "small"]).ok();
    assert_eq!(resources(&lab, "shop")[0]["plan"], "large");
    assert_eq!(lab.json(&["plan", "shop", subject, "small"])["plan"], "large", "and is so already");
    answers(&lab, &ear, "plan=huge");
    lab.lodger(&["--json", "add", "wiki", subject]).fails_with(1, "unknown-plan");
    lab.lodger(&["--json", "plan", "shop", subject, "small"]).fails_with(1, "unknown-plan");
    answers(&lab, &ear, "option:refuse=1");
    lab.lodger(&["--json", "add", "wiki", subject]).fails_with(1, "refused");
    answers(&lab, &ear, &format!("option:{}=1", "x".repeat(129)));
    lab.lodger(&["--json", "add", "wiki", subject]).fails_with(1, "invalid-option");
    assert_eq!(lab.json(&["apps"]).as_object().unwrap().len(), 1);
    // Nothing of an addon that is enabled or upgraded may be changed at all.
    answers(&lab, &ear, "");
    let all = listener(&lab, "all", &["addon.*"]);
    answers(&lab, &all, "version=9.9.9");
    lab.lodger(&[
        "install",
        &version(&lab, "1.0.0", "well", |manifest| manifest["namespace"] = json!("more")),
        "--yes",
    ])
    .ok();
    lab.lodger(&["--json", "enable", "more/probe"]).fails_with(1, "listener-failed");
    let next = version(&lab, "1.1.0", "well", |manifest| manifest["namespace"] = json!("more"));
    lab.lodger(&["--json", "upgrade", "more/probe", &next]).fails_with(1, "listener-failed");
    assert_eq!(lab.json(&["info", "more/probe"])["version"], "1.0.0");
}

#[test]
fn what_leads_out_of_trouble_and_what_is_its_own_a_listener_cannot_refuse() {
    let lab = Lab::new();
    lab.policy(POLICY);
    lab.lodger(&["install", &version(&lab, "1.0.0", "well", |_| ()), "--yes"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    lab.lodger(&["upgrade", ADDON, &version(&lab, "1.1.0", "well", |_| ())]).ok();
    lab.lodger(&["add", "shop", ADDON]).ok();
    let ear = listener(&lab, "ear", &["app.*", "addon.*"]);
    answers(&lab, &ear, "veto");
    // Others may be refused what it vetoes …
    lab.lodger(&["--json", "add", "wiki", ADDON]).fails_with(1, "vetoed");
    lab.lodger(&["--json", "upgrade", ADDON, &version(&lab, "1.2.0", "well", |_| ())]).fails_with(1, "vetoed");
    lab.lodger(&["--json", "suspend", "shop", ADDON]).exits(1);
    // … but not what ends something, and nothing about itself.
    lab.lodger(&["remove", "shop", ADDON, "--yes"]).ok();
    lab.lodger(&["rollback", ADDON, "--yes"]).ok();
    lab.lodger(&["disable", ADDON, "--force"]).ok();
    lab.lodger(&["--json", "enable", ADDON]).fails_with(1, "vetoed");
    lab.lodger(&["--json", "enable", ADDON, "--dry-run"]).fails_with(1, "vetoed");
    lab.lodger(&["uninstall", ADDON, "--yes"]).ok();
    assert_eq!(
        told(&lab, &ear),
        ["app.removed shop", "addon.rolled-back - from=1.1.0,version=1.0.0", "addon.disabled -", "addon.uninstalled -"]
    );
    lab.lodger(&["disable", &ear]).ok();
    lab.lodger(&["enable", &ear]).ok();
    let later = package(&lab, "ear", &["app.*", "addon.*"]);
    let manifest = format!("{later}/addon.json");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("1.0.0", "1.1.0")).unwrap();
    lab.lodger(&["upgrade", &ear, &later]).ok();
    lab.lodger(&["rollback", &ear, "--yes"]).ok();
    lab.lodger(&["disable", &ear]).ok();
    lab.lodger(&["uninstall", &ear, "--yes"]).ok();
    assert_eq!(lab.json(&["list"]), json!([]));
}

#[test]
fn events_are_a_grant() {
    let lab = Lab::new();
    let refused = |package: &str, words: &str| {
        let error = lab.lodger(&["--json", "install", package, "--yes"]).fails_with(1, "grant-refused");
        let problem = &error["problems"][0];
        assert_eq!(problem["path"].as_str().unwrap().split('[').next(), Some("capabilities.events"));
        assert!(problem["message"].as_str().unwrap().contains(words), "{error}");
        problem["hint"].as_str().unwrap().to_owned()
    };
    let asks = package(&lab, "ear", &["app.*"]);
    assert!(refused(&asks, "lets no addon hear of").contains("events = [\"app.*\"]"));
    lab.policy("[grant]\nevents = [\"app.added\"]\n");
    refused(&asks, "lets no addon hear of");
    lab.policy(POLICY);
    for pattern in ["*", "app", "APP.*", "app.?", "a[b]c.*"] {
        refused(&package(&lab, "odd", &[pattern]), "names no event");
    }
    let deaf = lab.well_behaved_package(|manifest| manifest["capabilities"]["events"] = json!(["app.*"]));
    refused(&deaf, "does not export `lodger:addon/events`");
    let line = lab.lodger(&["install", &asks, "--yes"]).ok().stderr;
    assert!(line.contains("hear of events `app.*` of all other addons and apps"), "{line}");
    lab.lodger(&["install", &package(&lab, "mute", &[]), "--yes"]).ok();
    let line = lab.lodger(&["explain", "mute"]).ok().stdout;
    assert!(line.contains("hear of any event, although it exports"), "{line}");
    // Without the capability it is never asked; and what the policy does not admit any more is not, either.
    lab.lodger(&["enable", "ears/mute"]).ok();
    lab.lodger(&["enable", "ears/ear"]).ok();
    answers(&lab, "ears/mute", "veto");
    answers(&lab, "ears/ear", "veto");
    let subject = lab.well_behaved(|_| ());
    lab.lodger(&["--json", "add", "shop", subject]).fails_with(1, "vetoed");
    lab.policy("");
    lab.lodger(&["add", "shop", subject]).ok();
    assert_eq!(of(&lab, "ears/mute", "before"), Vec::<String>::new());
    lab.policy("[grant]\nevents = [\"*\"]\n");
    lab.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
}

#[test]
fn policies_say_what_is_done_without_a_listener() {
    let (lab, subject, ear) = heard();
    answers(&lab, &ear, "trap");
    lab.policy(&format!("{POLICY}[failure]\nbefore = \"fail-open\"\n"));
    lab.lodger(&["add", "shop", subject]).ok();
    answers(&lab, &ear, "veto");
    lab.lodger(&["--json", "add", "wiki", subject]).fails_with(1, "vetoed");
    answers(&lab, &ear, "trap");
    lab.policy(&format!("{POLICY}[failure]\nbefore = \"quarantine(2)\"\n"));
    lab.lodger(&["--json", "add", "blog", subject]).fails_with(1, "listener-failed");
    assert_eq!(lab.json(&["info", &ear])["state"], "enabled");
    lab.lodger(&["--json", "add", "blog", subject]).fails_with(1, "listener-failed");
    assert_eq!(lab.json(&["info", &ear])["state"], "failed{before}");
    lab.lodger(&["add", "blog", subject]).ok();
    assert_eq!(told(&lab, &ear), ["app.added shop plan=small"], "nobody is told who is quarantined");
    answers(&lab, &ear, "");
    lab.lodger(&["enable", &ear]).ok();
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(told(&lab, &ear).last().map(String::as_str), Some("app.added blog plan=small"), "but later");
}

#[test]
fn policies_say_what_is_done_when_a_listener_does_not_take_in_what_it_is_told() {
    let (lab, subject, ear) = heard();
    lab.lodger(&["set", &ear, "OTHER=trap"]).ok();
    lab.policy(&format!("{POLICY}[failure]\nafter = \"fail-open\"\n"));
    lab.lodger(&["add", "shop", subject]).ok();
    assert_eq!(lab.json(&["events"])[0]["listeners"][&ear], "left-out");
    lab.policy(&format!("{POLICY}[failure]\nafter = \"retry(1)\"\n"));
    lab.lodger(&["add", "wiki", subject]).ok();
    assert_eq!(of(&lab, &ear, "after"), ["trapped", "trapped", "trapped"]);
    assert_eq!(lab.json(&["events"])[0]["listeners"][&ear], "waiting");
    lab.policy(&format!("{POLICY}[failure]\nafter = \"quarantine(4)\"\n"));
    later(&lab);
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(lab.json(&["info", &ear])["state"], "failed{after}");
    later(&lab);
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(of(&lab, &ear, "after").len(), 4, "nothing is told any more");
    let told_before = told(&lab, &ear).len();
    lab.lodger(&["set", &ear, "OTHER="]).ok();
    lab.lodger(&["enable", &ear]).ok();
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(told(&lab, &ear)[told_before..], ["app.added wiki plan=small"]);
}

#[test]
fn what_a_listener_does_not_take_in_is_told_again_and_left_out_at_last() {
    let (lab, subject, ear) = heard();
    lab.lodger(&["set", &ear, "OTHER=app.added"]).ok();
    lab.lodger(&["add", "shop", subject]).ok();
    lab.lodger(&["remove", "shop", subject, "--yes"]).ok();
    assert_eq!(of(&lab, &ear, "after"), ["refused"], "not again at once, and nothing before it");
    assert!(findings(&lab, &ear)[0].contains("failed to take in an event, once"), "{:?}", findings(&lab, &ear));
    for _ in 0..4 {
        later(&lab);
        lab.lodger(&["reconcile"]).ok();
    }
    assert_eq!(of(&lab, &ear, "after"), ["refused", "refused", "refused", "refused", "refused", "completed"]);
    assert_eq!(told(&lab, &ear), ["app.removed shop"]);
    assert_eq!(findings(&lab, &ear), ["it was not told of one event, having failed too often"]);
    let events = lab.json(&["events"]);
    assert_eq!((&events[0]["listeners"][&ear], &events[1]["listeners"][&ear]), (&json!("told"), &json!("left-out")));
    // A trap and a deadline are the same, and hold up the verb no longer than that.
    lab.lodger(&["set", &ear, "OTHER=hang"]).ok();
    lab.lodger(&["add", "shop", subject]).ok();
    lab.lodger(&["set", &ear, "OTHER="]).ok();
    later(&lab);
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(of(&lab, &ear, "after")[6..], ["deadline-exceeded", "completed"]);
    let ids = ids(&lab, &ear);
    assert_eq!(ids[1], ids[2], "the same event, with the same id");
}

#[test]
fn an_event_that_was_committed_is_told_whatever_is_killed() {
    let prepared = || {
        let (lab, subject, ear) = heard();
        let second = listener(&lab, "second", &["app.*"]);
        lab.lodger(&["add", "first", subject]).ok();
        (lab, subject, [ear, second])
    };
    let (lab, subject, _) = prepared();
    let verb = ["add", "shop", subject];
    let all = points(&lab, &verb);
    let committed = 1 + all.iter().position(|point| point == "stored: note the end of a call").unwrap();
    assert!(all.len() >= committed + 8, "two listeners are told: {all:?}");
    for point in 1..=all.len() {
        let (lab, subject, ears) = prepared();
        kill_at(&lab, &["add", "shop", subject], point);
        lab.lodger(&["reconcile"]).ok();
        lab.lodger(&["add", "last", subject]).ok();
        for ear in &ears {
            let (mut told, mut ids) = (told(&lab, ear), ids(&lab, ear));
            // At least once: the one that was cut off may be there twice, the one after the other.
            told.dedup();
            ids.dedup();
            assert_eq!(told.len(), ids.len(), "{point}");
            let expected = ["first", "shop", "last"].map(|app| format!("app.added {app} plan=small"));
            let there = resources(&lab, "shop").len() == 1;
            let expected: Vec<_> = expected.iter().filter(|line| there || !line.contains("shop")).collect();
            assert_eq!(told.iter().collect::<Vec<_>>(), expected, "killed at {point}, {}", all[point - 1]);
            assert!(there || point < committed, "{point}");
        }
    }
}

#[test]
fn a_listener_that_kills_the_host_each_time_is_left_out() {
    let (lab, subject, ear) = heard();
    let verb = ["add", "shop", subject];
    let entered =
        points(&lab, &verb).iter().rposition(|point| point == "stored: note the start of a call").unwrap() + 1;
    let number = |lab: &Lab| ids(lab, &ear).len();
    kill_at(&lab, &["add", "wiki", subject], entered);
    for _ in 0..2 {
        // Two points of noting what was cut off, two of its services, two of beginning again.
        kill_at(&lab, &["reconcile"], 6);
    }
    let before = number(&lab);
    lab.lodger(&["reconcile"]).ok();
    assert_eq!(number(&lab), before, "not told a fourth time");
    assert_eq!(findings(&lab, &ear), ["it was not told of one event, having failed too often"]);
    lab.lodger(&["remove", "wiki", subject, "--yes"]).ok();
    assert_eq!(told(&lab, &ear).last().map(String::as_str), Some("app.removed wiki"));
}

#[test]
fn who_begins_to_listen_begins_now_and_what_nobody_hears_is_not_kept() {
    let (lab, subject, ear) = heard();
    lab.lodger(&["add", "shop", subject]).ok();
    let late = listener(&lab, "late", &["app.*"]);
    lab.lodger(&["disable", &ear]).ok();
    lab.lodger(&["add", "wiki", subject]).ok();
    assert_eq!(told(&lab, &late), ["app.added wiki plan=small"]);
    assert_eq!(told(&lab, &ear), ["app.added shop plan=small"]);
    lab.lodger(&["disable", &late]).ok();
    let before = lab.json(&["events"]);
    lab.lodger(&["add", "blog", subject]).ok();
    assert_eq!(lab.json(&["events"]).as_array().unwrap().len(), before.as_array().unwrap().len());
    // A version that is tried and taken back changes nothing for who listens.
    lab.lodger(&["enable", &ear]).ok();
    lab.lodger(&["remove", "blog", subject, "--yes"]).ok();
    assert_eq!(told(&lab, &ear).last().map(String::as_str), Some("app.removed blog"));
}

#[test]
fn the_outbox_keeps_what_the_policy_says_and_tells_who_has_missed_something() {
    let (lab, subject, ear) = heard();
    lab.policy(&format!("{POLICY}[retention]\nevents = 10\n"));
    lab.lodger(&["set", &ear, "OTHER=app.added"]).ok();
    lab.lodger(&["add", "shop", subject]).ok();
    run(async {
        let host = lab.host().await;
        listener_to_builds(&host, &lab).await;
        for number in 0..200 {
            let details = vec![lodger::Pair { name: "number".to_owned(), value: number.to_string() }];
            host.raise(Raised { kind: "build.finished".to_owned(), details, ..Raised::default() }).unwrap();
        }
        assert!(host.events(1000).unwrap().len() <= 10 + 64);
    });
    assert!(findings(&lab, &ear).iter().any(|finding| finding.contains("one event went by [retention]")));
    assert!(findings(&lab, "ears/builds").iter().any(|finding| finding.contains("events went by [retention]")));
}

async fn listener_to_builds(host: &lodger::Host, lab: &Lab) {
    let package = package(lab, "builds", &["build.*"]);
    host.install(host.inspect(package.as_ref()).await.unwrap(), false).await.unwrap();
    assert!(host.enable(&addon("ears/builds")).await.unwrap().outcome.is_completed());
}

#[test]
fn who_decides_is_asked_before_the_lock_is_taken() {
    let (lab, subject, ear) = heard();
    let holding = lab.start(&["add", "wiki", subject, "--option", "loop=1"]);
    under_way(&lab, "provision");
    lab.policy(&format!("{POLICY}[limits]\nlock_wait_ms = 1\n"));
    lab.lodger(&["--json", "add", "shop", subject]).fails_with(1, "busy");
    answers(&lab, &ear, "veto");
    lab.lodger(&["--json", "add", "shop", subject]).fails_with(1, "vetoed");
    holding.kill();
}

#[test]
fn whoever_watches_tells_what_others_and_it_itself_have_raised() {
    let (lab, subject, ear) = heard();
    let verb = ["add", "shop", subject];
    let stored = points(&lab, &verb).iter().position(|point| point == "stored: note the end of a call").unwrap() + 1;
    assert_eq!(told(&lab, &ear).len(), 1);
    kill_at(&lab, &["add", "wiki", subject], stored);
    assert_eq!(told(&lab, &ear).len(), 1);
    run(async {
        let host = lab.host().await;
        listener_to_builds(&host, &lab).await;
        let heard = async {
            while told(&lab, &ear).len() < 2 {
                tokio::task::yield_now().await;
            }
            host.raise(Raised { kind: "build.finished".to_owned(), ..Raised::default() }).unwrap();
            while told(&lab, "ears/builds").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = host.watch_services(None, |_| ()) => unreachable!("it watches for ever"),
            () = heard => {}
        }
    });
    assert_eq!(told(&lab, &ear)[1], "app.added wiki plan=small");
}

#[test]
fn a_restored_home_begins_to_listen_anew() {
    let (lab, subject, ear) = heard();
    lab.lodger(&["add", "shop", subject]).ok();
    back_up(&lab);
    let other = Lab::new();
    other.policy(POLICY);
    restore(&other, &fs::read(lab.path("home.backup")).unwrap()).ok();
    assert_eq!(other.json(&["events"]), json!([]));
    other.lodger(&["remove", "shop", subject, "--yes"]).ok();
    assert_eq!(told(&other, &ear), ["app.added shop plan=small", "app.removed shop"], "the first with its data");
}

#[test]
fn the_audit_writes_what_happens_and_keeps_addons_from_apps() {
    let lab = Lab::new();
    lab.policy(POLICY);
    let subject = lab.well_behaved(|_| ());
    let package = crate::support::root().join("guest-examples/audit");
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "audit"]).ok();
    lab.lodger(&["set", "audit", "DENY_APPS=wiki, blog"]).ok();
    lab.lodger(&["add", "shop", subject]).ok();
    let error = lab.lodger(&["--json", "add", "blog", subject]).fails_with(1, "vetoed");
    assert!(error["message"].as_str().unwrap().contains("DENY_APPS"), "{error}");
    lab.lodger(&["remove", "shop", subject, "--yes"]).ok();
    let log = fs::read_to_string(lab.data(&addon("lodger/audit")).join("audit.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| (line["kind"].as_str().unwrap(), line["app"].as_str())).collect();
    assert_eq!(kinds, [("app.added", Some("shop")), ("app.removed", Some("shop"))]);
    assert_eq!((&lines[0]["addon"], &lines[0]["actor"]), (&json!(subject), &json!("cli")));
}

#[test]
fn a_listener_in_another_version_goes_on_with_what_that_is_granted() {
    let (lab, subject, ear) = heard();
    lab.lodger(&["add", "shop", subject]).ok();
    let mut manifest = probe_manifest("ears", 60_000);
    (manifest["name"], manifest["version"]) = (json!("ear"), json!("1.1.0"));
    manifest["config_vars"] = json!([]);
    manifest["settings"] = json!({ "TARGET": { "default": "" }, "OTHER": { "default": "" } });
    manifest["capabilities"]["events"] = json!(["app.added"]);
    let next = lab.package("next", &manifest, component("listener"));
    lab.lodger(&["upgrade", &ear, next.to_str().unwrap()]).ok();
    lab.lodger(&["remove", "shop", subject, "--yes"]).ok();
    lab.lodger(&["add", "wiki", subject]).ok();
    assert_eq!(told(&lab, &ear), ["app.added shop plan=small", "app.added wiki plan=small"], "of removing no more");
    lab.lodger(&["rollback", &ear, "--yes"]).ok();
    lab.lodger(&["remove", "wiki", subject, "--yes"]).ok();
    assert_eq!(told(&lab, &ear), ["app.added shop plan=small", "app.removed wiki"], "as it was then");
}

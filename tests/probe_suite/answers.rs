//! Probes that lie in what they answer, and those that answer by a fault.

use std::fs;
use std::time::Duration;

use lodger::{Answer, EventRecord, HookRequest, Limit, Outcome, Pair, Raised};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::{PATIENT_MS, Probe, broken, refusal, schedule_request, trapped};
use crate::support::{Lab, component, id, probe_manifest};

pub async fn a_panic_is_a_fault_with_its_message(name: &str) {
    let probe = Probe::installed(name).await;
    let done = probe.enable().await;
    assert!(trapped(&done.outcome).contains("this is the probe's own message"), "{:?}", done.outcome);
    let log = done.call.unwrap().log.join("\n");
    assert!(log.contains("this is the probe's own message"), "{log}");
}

pub async fn a_late_trap_is_a_fault(name: &str) {
    let probe = Probe::installed(name).await;
    trapped(&probe.enable().await.outcome);
    assert_eq!(probe.host.addon(&probe.id).unwrap().state.to_string(), "failed{enable}");
}

pub async fn what_was_written_before_a_trap_is_there_after_it(name: &str) {
    let probe = Probe::provider(name).await;
    let told = probe.lab.data(&probe.id).join("does");
    fs::create_dir(&told).unwrap();
    fs::write(told.join("provision"), "trap 1").unwrap();
    assert!(trapped(&probe.add("shop").await.outcome).contains("told to trap"));
    assert_eq!(fs::read_to_string(told.join("provision")).unwrap(), "trap 0");
    assert!(probe.add("shop").await.outcome.is_completed());
}

pub async fn leaving_is_a_fault(name: &str) {
    let probe = Probe::provider(name).await;
    for (app, code) in [("success", 0), ("failure", 1)] {
        let done = probe.add(app).await;
        let reason = trapped(&done.outcome);
        assert!(reason.contains(&format!("exited with code {code}")), "{reason}");
        assert_eq!(probe.resources(), 0);
    }
    assert_eq!(probe.add("other").await.outcome.name(), "refused");
}

pub async fn an_unknown_import_is_refused_at_install(name: &str) {
    let lab = Lab::new();
    let package = lab.package(name, &probe_manifest("probes", PATIENT_MS), component(name));
    let host = lab.host().await;
    let error = host.inspect(&package).await.unwrap_err();
    assert!(error.to_string().contains("evil:host/shell"), "{error}");
    assert_eq!((error.code(), error.exit_code()), ("invalid-component", 1));
    assert!(host.addons().unwrap().is_empty());
    assert!(lab.installed_files().is_empty());
}

pub async fn an_engine_that_is_no_candidate_is_refused(name: &str) {
    let probe = Probe::installed(name).await;
    assert_eq!(probe.enable().await.outcome, Outcome::Completed(()));
    let call = probe.host.call(&probe.id, schedule_request()).await.unwrap();
    let (code, message) = refusal(&call.outcome);
    assert_eq!(code, lodger::BAD_ANSWER);
    assert!(message.contains("elsewhere") && !message.contains('\u{1b}'), "{message}");
}

pub async fn every_refusal_keeps_its_code_and_text(name: &str) {
    let probe = Probe::provider(name).await;
    for case in ["invalid", "not-found", "conflict", "denied", "exhausted", "unavailable", "other"] {
        let done = probe.add(case).await;
        assert_eq!(refusal(&done.outcome), (case, &*format!("this is {case}")));
        assert_eq!(done.outcome.exit_code(), 1);
    }
    // A refusal promises that there is nothing to undo.
    assert!(probe.outcomes().iter().all(|(hook, _)| hook == "provision"), "{:?}", probe.outcomes());
    assert_eq!(probe.resources(), 0);
}

pub async fn huge_answers_are_refused_as_a_whole(name: &str) {
    let probe = Probe::provider(name).await;
    for app in ["id", "private", "message", "log-drain-url", "error"] {
        let done = probe.add(app).await;
        assert_eq!(broken(&done.outcome), Limit::CopyBytes, "{app}");
        assert_eq!(probe.resources(), 0, "{app}");
    }
    assert!(probe.add("url").await.outcome.is_completed());
    let url = probe.host.url(&id("url"), &probe.id, None).await.unwrap();
    assert_eq!(broken(&url), Limit::CopyBytes);
    let lab = probe.close();
    let stored: u64 = ["lodger.db", "lodger.db-wal"]
        .iter()
        .filter_map(|file| fs::metadata(lab.home().join(file)).ok())
        .map(|meta| meta.len())
        .sum();
    assert!(stored < 1 << 20, "{stored} bytes are stored");
}

pub async fn ids_against_the_rules_are_refused_and_undone(name: &str) {
    let probe = Probe::provider(name).await;
    assert!(probe.add("good").await.outcome.is_completed());
    let bad = [
        "colon",
        "control",
        "newline",
        "ansi",
        "bidi",
        "empty",
        "long",
        "private-colon",
        "private-control",
        "private-long",
    ];
    for app in bad {
        let done = probe.add(app).await;
        assert_eq!(refusal(&done.outcome).0, "bad-answer", "{app}");
        assert_undone(&probe);
    }
    assert!(probe.add("duplicate").await.outcome.is_completed());
    let second = probe.add_as("duplicate", Some("second")).await;
    assert_eq!(refusal(&second.outcome).0, "bad-answer");
    assert_undone(&probe);
    assert_eq!(probe.resources(), 2);
}

/// The last call undid the one before it: by its key, without the id that was refused.
#[track_caller]
fn assert_undone(probe: &Probe) {
    let calls = probe.calls();
    let [.., provision, undo] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((provision.hook.as_str(), undo.hook.as_str()), ("provision", "unprovision"));
    assert_eq!(undo.outcome.as_deref(), Some("completed"));
    assert_eq!(provision.key, undo.key);
    let undone = probe.lab.data(&probe.id).join("undone").join(undo.key.as_deref().unwrap());
    assert_eq!(fs::read_to_string(undone).unwrap(), "");
}

pub async fn read_hooks_see_read_only_data(name: &str) {
    let probe = Probe::provider(name).await;
    assert!(probe.add("shop").await.outcome.is_completed());
    let env = probe.host.env(&id("shop")).await.unwrap();
    assert!(env.failures.is_empty(), "{:?}", env.failures);
    let expected = [("PROBE_HELD", "yes"), ("PROBE_URL", "ok://held")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(env.variables, expected.into());
    let dumped = probe.host.dump(&id("shop"), &probe.id, None, tokio::io::sink()).await.unwrap();
    assert_eq!(dumped.outcome, Outcome::Completed(0), "{dumped:?}");
    let health = probe.host.check_health(&probe.id).await.unwrap().unwrap().outcome;
    assert!(
        matches!(&health, Outcome::Completed(Answer::Health(report)) if report.status == lodger::HealthStatus::Healthy),
        "{health:?}"
    );
    assert_eq!(fs::read_to_string(probe.lab.data(&probe.id).join("kept")).unwrap(), "kept");
}

pub async fn variables_that_take_over_an_app_refuse_the_whole_answer(name: &str) {
    let probe = Probe::provider(name).await;
    let attacks = ["loader", "proxy", "undeclared", "lowercase", "equals", "empty", "nul", "twice", "flood", "huge"];
    for app in attacks {
        assert!(probe.add(app).await.outcome.is_completed(), "{app}");
        let env = probe.host.env(&id(app)).await.unwrap();
        assert!(env.variables.is_empty(), "{app}: {:?}", env.variables);
        let [failure] = &env.failures[..] else { panic!("{app}: {:?}", env.failures) };
        assert!(failure.message.contains("bad-answer"), "{app}: {}", failure.message);
    }
    assert!(probe.add("good").await.outcome.is_completed());
    let env = probe.host.env(&id("good")).await.unwrap();
    assert!(env.failures.is_empty(), "{:?}", env.failures);
    assert_eq!(env.variables, [("PROBE_GOOD".to_owned(), "1".to_owned())].into());
}

pub async fn a_well_behaved_addon_completes_every_hook(name: &str) {
    let mut manifest = probe_manifest("hooks-all", PATIENT_MS);
    manifest["config_vars"] = ["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"].as_slice().into();
    manifest["plans"] = serde_json::json!([{ "name": "small" }, { "name": "large" }]);
    manifest["provider"] = serde_json::json!({ "regions": ["eu"] });
    let probe = Probe::with_manifest(name, manifest).await;
    assert!(probe.enable().await.outcome.is_completed());
    let added = probe.add("shop").await.outcome;
    let Outcome::Completed(resource) = added else { panic!("{added:?}") };
    let key = resource.id.unwrap();
    let env = probe.host.env(&id("shop")).await.unwrap();
    let url = format!("probe://{key}:password-of-{key}@host/small");
    let expected = [("PROBE_URL", &*url), ("PROBE_PLAN", "small"), ("PROBE_REGION", "eu")];
    assert_eq!(env.variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for done in [
        probe.host.change_plan(&id("shop"), &probe.id, None, "large").await,
        probe.host.suspend(&id("shop"), &probe.id, None).await,
        probe.host.resume(&id("shop"), &probe.id, None).await,
    ] {
        assert!(done.unwrap().outcome.is_completed());
    }
    let (mut reader, to) = tokio::io::duplex(100);
    let dumped = probe.host.dump(&id("shop"), &probe.id, None, to).await.unwrap();
    let mut dump = String::new();
    reader.read_to_string(&mut dump).await.unwrap();
    assert_eq!((dumped.outcome, &*dump), (Outcome::Completed(9), "large\neu\n"));
    let restored = probe.host.restore(&id("shop"), &probe.id, None, &b"small\nus\n"[..]).await.unwrap();
    assert_eq!((restored.outcome, restored.changed), (Outcome::Completed(9), true));
    let env = probe.host.env(&id("shop")).await.unwrap();
    assert_eq!((&*env.variables["PROBE_PLAN"], &*env.variables["PROBE_REGION"]), ("small", "us"));
    probe.host.check_health(&probe.id).await.unwrap().unwrap();
    assert!(probe.host.remove(&id("shop"), &probe.id, None).await.unwrap().outcome.is_completed());
    assert!(probe.host.disable(&probe.id, false).await.unwrap().outcome.is_completed());
    let (probe_id, lab) = (probe.id.clone(), probe.close());
    let host = lab.host().await;
    let mut calls: Vec<_> = host.calls(Some(&probe_id), 100).unwrap();
    calls.sort_by(|one, other| one.id.cmp(&other.id));
    let hooks: Vec<_> = calls.iter().map(|call| (call.hook.as_str(), call.outcome.as_deref().unwrap())).collect();
    let expected = [
        "enable",
        "provision",
        "url",
        "config-vars",
        "change-plan",
        "suspend",
        "resume",
        "dump",
        "restore",
        "url",
        "config-vars",
        "health",
        "unprovision",
        "disable",
    ];
    assert_eq!(hooks, expected.map(|hook| (hook, "completed")));
}

pub async fn a_version_is_upgraded_by_the_host_alone(name: &str) {
    let probe = Probe::provider(name).await;
    let error = probe.host.call(&probe.id, HookRequest::Upgrade("0.9.0".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.code(), "not-permitted");
    assert_eq!(probe.calls().last().unwrap().hook, "enable", "the guest was not entered");
}

pub async fn a_listener_decides_within_bounds(name: &str) {
    let mut manifest = probe_manifest("listener", 60_000);
    manifest["settings"] =
        json!({ "SECRET": { "secret": true }, "TARGET": { "default": "" }, "OTHER": { "default": "" } });
    manifest["capabilities"]["events"] = json!(["build.*"]);
    let probe = Probe::with_policy(name, manifest, "[grant]\nevents = [\"build.*\"]\n").await;
    let about = Raised { kind: "build.starting".to_owned(), changeable: vec!["plan".to_owned()], ..Raised::default() };
    // One that is not enabled is not asked.
    probe.host.set(&probe.id, "TARGET", Some("veto".to_owned())).await.unwrap();
    assert_eq!(probe.host.before(about.clone()).await.unwrap().len(), 0);
    assert_eq!(probe.enable().await.outcome, Outcome::Completed(()));
    let ask = async |how: &str| {
        probe.host.set(&probe.id, "TARGET", Some(how.to_owned())).await.unwrap();
        match probe.host.before(about.clone()).await {
            Ok(details) => Ok(details.into_iter().map(|pair| (pair.name, pair.value)).collect::<Vec<_>>()),
            Err(error) => Err((error.code(), error.to_string())),
        }
    };
    assert_eq!(ask("").await, Ok(Vec::new()));
    assert_eq!(ask("plan=large").await, Ok(vec![("plan".to_owned(), "large".to_owned())]));
    for how in ["trap", "hang", "refuse", "flood", "price=0"] {
        assert_eq!(ask(how).await.map_err(|(code, _)| code), Err("listener-failed"), "{how}");
    }
    let (code, message) = ask("long").await.unwrap_err();
    assert_eq!(code, "vetoed");
    assert!((1000..1200).contains(&message.len()), "{} bytes", message.len());
    // What has happened is told, and only what is no kind of the host's own.
    probe.host.raise(Raised { kind: "build.finished".to_owned(), ..Raised::default() }).unwrap();
    probe.host.tell_events(None, Duration::from_secs(60)).await.unwrap();
    let told = fs::read_to_string(probe.lab.data(&probe.id).join("told")).unwrap();
    assert!(told.contains("build.finished") && told.lines().count() == 1, "{told}");
    for kind in ["app.added", "addon.enabled", "service.x", "lodger.x", "finished", "Build.finished", "build.*"] {
        let raised = Raised { kind: kind.to_owned(), ..Raised::default() };
        assert_eq!(probe.host.raise(raised.clone()).unwrap_err().code(), "invalid-event", "{kind}");
        assert_eq!(probe.host.before(raised).await.unwrap_err().code(), "invalid-event", "{kind}");
    }
    let details = vec![Pair { name: "x".to_owned(), value: "x".repeat(5000) }];
    let long = Raised { kind: "build.finished".to_owned(), details, ..Raised::default() };
    assert_eq!(probe.host.raise(long).unwrap_err().code(), "invalid-event");
    // Nobody is made to believe that something has happened.
    let event = told_event();
    let forged = probe.host.call(&probe.id, HookRequest::After(event)).await.unwrap_err();
    assert_eq!(forged.code(), "hook-missing");
}

fn told_event() -> EventRecord {
    EventRecord {
        id: "x".to_owned(),
        sequence: 1_000_000,
        kind: "app.added".to_owned(),
        at_ms: 0,
        actor: "x".to_owned(),
        addon: None,
        app: None,
        alias: None,
        key: None,
        service: None,
        details: Vec::new(),
    }
}

//! What is kept of the past: as much as the policy says, whatever was there.

use serde_json::json;

use crate::support::{Lab, addon, run};
use lodger::HookRequest;

#[test]
fn of_many_calls_the_newest_are_kept() {
    let lab = Lab::new();
    let name = lab.well_behaved(|_| ());
    lab.policy("[retention]\ncalls = 20\n");
    run(async {
        let host = lab.host().await;
        for _ in 0..600 {
            host.call(&addon(name), HookRequest::Health).await.unwrap();
        }
    });
    // Looked through after every 256th.
    let calls = lab.json(&["calls", name, "--limit", "1000"]);
    let calls = calls.as_array().unwrap();
    assert!((20..=20 + 256).contains(&calls.len()), "{}", calls.len());
    let newest = calls[0]["started_at"].as_i64().unwrap();
    assert!(calls.iter().all(|call| call["started_at"].as_i64().unwrap() <= newest), "the newest are left");
}

#[test]
fn calls_that_are_too_old_go_however_few_they_are() {
    let lab = Lab::new();
    let name = lab.well_behaved(|_| ());
    // So few that they are looked through after every 256th.
    lab.policy("[retention]\ncalls = 1000\n");
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    // As if it had been made in 1999.
    store
        .execute(
            "UPDATE call SET id = '00d5b2c9a400' || substr(id, 13), started_at = 917830800000 WHERE hook = 'enable'",
            [],
        )
        .unwrap();
    assert_eq!(lab.json(&["calls", name])[0]["hook"], "enable");
    run(async {
        let host = lab.host().await;
        for _ in 0..256 {
            host.call(&addon(name), HookRequest::Health).await.unwrap();
        }
    });
    let calls = lab.json(&["calls", name, "--limit", "1000"]);
    assert!(calls.as_array().unwrap().iter().all(|call| call["hook"] == json!("health")), "{calls}");
}

#[test]
fn a_policy_that_keeps_what_there_is_not_is_refused() {
    let lab = Lab::new();
    lab.policy("[retention]\nphotos = 3\n");
    let error = lab.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
    assert!(error["message"].as_str().unwrap().contains("photos"), "{error}");
}

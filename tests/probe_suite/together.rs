//! Several probes at once on one thread, beside an addon that behaves: no addon touches another.

use lodger::{Add, Outcome};

use super::Probe;
use crate::support::{Lab, addon, component, id, probe_manifest, run};

const HOSTILE: [&str; 6] =
    ["endless_loop", "sleep_loop", "disk_fill_append", "memory_growth", "log_flood", "pollable_flood"];

#[test]
fn hostile_addons_at_work_take_nothing_from_a_good_one() {
    run(async {
        let lab = Lab::new();
        let good = addon(lab.well_behaved(|_| ()));
        let host = lab.host().await;
        for name in HOSTILE {
            let package = lab.package(name, &probe_manifest(&name.replace('_', "-"), 2000), component(name));
            host.install(host.inspect(&package).await.unwrap(), false).await.unwrap();
        }
        let add = |app: &str| Add::new(id(app), good.clone());
        assert!(host.add(add("before")).await.unwrap().outcome.is_completed());
        let before = host.env(&id("before")).await.unwrap().variables;

        let [a, b, c, d, e, f] = HOSTILE.map(|name| addon(&format!("{}/probe", name.replace('_', "-"))));
        let hostile = async {
            tokio::join!(
                host.enable(&a),
                host.enable(&b),
                host.enable(&c),
                host.enable(&d),
                host.enable(&e),
                host.enable(&f)
            )
        };
        let behaving = async {
            for number in 0..10 {
                let app = format!("app-{number}");
                let added = host.add(add(&app)).await.unwrap();
                assert!(added.outcome.is_completed(), "{added:?}");
                let env = host.env(&id(&app)).await.unwrap();
                assert!(env.failures.is_empty() && env.variables.len() == 3, "{env:?}");
                assert!(host.remove(&id(&app), &good, None).await.unwrap().outcome.is_completed());
            }
        };
        let (ended, ()) = tokio::join!(hostile, behaving);
        let outcomes: [Outcome<()>; 6] =
            [ended.0, ended.1, ended.2, ended.3, ended.4, ended.5].map(|done| done.unwrap().outcome);
        let names =
            ["deadline-exceeded", "deadline-exceeded", "completed", "limit-exceeded", "completed", "limit-exceeded"];
        assert_eq!(outcomes.each_ref().map(Outcome::name), names, "{outcomes:?}");

        assert_eq!(host.env(&id("before")).await.unwrap().variables, before);
        let calls = host.calls(Some(&good), 1000).unwrap();
        assert!(calls.iter().all(|call| call.outcome.as_deref() == Some("completed")), "{calls:?}");
        let counted = std::fs::read_to_string(lab.data(&good).join("calls/provision")).unwrap();
        assert_eq!(counted, "11");
    });
}

/// The guest refuses where another of its mutating hooks is at work; read hooks do not wait for them.
pub async fn one_mutating_hook_at_a_time(name: &str) {
    let probe = Probe::provider(name).await;
    assert!(probe.add("first").await.outcome.is_completed());
    let (host, first, none) = (&probe.host, id("first"), id("none"));
    let read = async {
        for _ in 0..5 {
            let env = host.env(&first).await.unwrap();
            assert!(env.failures.is_empty(), "{env:?}");
        }
    };
    let (a, b, c, removed, ()) =
        tokio::join!(probe.add("a"), probe.add("b"), probe.add("c"), host.remove(&none, &probe.id, None), read);
    assert!([a, b, c].iter().all(|done| done.outcome.is_completed()));
    assert!(!removed.unwrap().changed);
    let disabled = host.disable(&probe.id, true).await.unwrap();
    assert!(disabled.outcome.is_completed(), "{disabled:?}");
}

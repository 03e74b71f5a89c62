//! What one host can do at a time: calls in flight, and a machine too small for the pool.

use lodger::Error;

use crate::support::{Lab, addon, component, id, probe_manifest, run};

#[test]
fn a_call_beyond_those_the_policy_allows_is_refused_and_nothing_is_done() {
    run(async {
        let lab = Lab::new();
        lab.policy("[limits]\nconcurrent_calls = 1\nlock_wait_ms = 50\n");
        let good = addon(lab.well_behaved(|_| ()));
        let host = lab.host().await;
        let package = lab.package("endless_sleep", &probe_manifest("endless-sleep", 3000), component("endless_sleep"));
        host.install(host.inspect(&package).await.unwrap(), false).await.unwrap();
        let sleeper = addon("endless-sleep/probe");

        // Polled in order on one thread: the sleeper is in its guest, and stays there, when the other asks.
        let add = async { host.add(lodger::Add::new(id("shop"), good.clone())).await };
        let (slept, refused) = tokio::join!(biased; host.enable(&sleeper), add);
        assert_eq!(slept.unwrap().outcome.name(), "deadline-exceeded");
        assert!(matches!(refused, Err(Error::TooManyCalls { calls: 1 })), "{refused:?}");
        assert!(host.apps().unwrap().is_empty());
        let added = host.add(lodger::Add::new(id("shop"), good)).await.unwrap();
        assert!(added.outcome.is_completed(), "{added:?}");
    });
}

#[test]
fn a_machine_too_small_for_the_pool_still_runs_hooks_and_says_so() {
    let lab = Lab::new();
    let name = lab.well_behaved(|_| ());
    lab.lodger(&["disable", name]).ok();
    // 24 GiB of address space hold the program and a few instances, not the pool.
    let limited = |arguments: &str| {
        let script = format!("ulimit -v 25165824; exec \"$0\" {arguments}");
        let output = lab.command_of("sh", &["-c", &script, env!("CARGO_BIN_EXE_lodger")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    limited(&format!("enable {name}"));
    let told = limited("doctor");
    assert!(told.contains("on demand, since a pool does not fit"), "{told}");
}

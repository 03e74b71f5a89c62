//! Probes that take without end: time, memory, stack, handles, disk, log, progress.

use std::fs;
use std::time::Duration;

use lodger::{Limit, Outcome, ProgressEvent};

use super::{PATIENT_MS, Probe, broken, schedule_request};
use crate::support::probe_manifest;

pub async fn stopped_at_the_deadline(name: &str) {
    let deadline = Duration::from_millis(300);
    let probe = Probe::with_deadline(name, 300).await;
    assert_eq!(probe.enable().await.outcome, Outcome::DeadlineExceeded { deadline });
    assert_eq!(probe.host.addon(&probe.id).unwrap().state.to_string(), "failed{enable}");
    // The host is well: it answers the same way again.
    assert_eq!(probe.enable().await.outcome, Outcome::DeadlineExceeded { deadline });
}

/// Whatever else its hooks may take: somebody waits for a service, and the built-in could have decided.
pub async fn a_scheduler_has_a_second(name: &str) {
    let probe = Probe::installed(name).await;
    assert_eq!(probe.enable().await.outcome, Outcome::Completed(()));
    let call = probe.host.call(&probe.id, schedule_request()).await.unwrap();
    assert_eq!(call.outcome.map(drop), Outcome::DeadlineExceeded { deadline: Duration::from_secs(1) });
}

pub async fn a_stopped_call_writes_no_more(name: &str) {
    let probe = Probe::with_deadline(name, 1000).await;
    assert_eq!(probe.enable().await.outcome.name(), "deadline-exceeded");
    let again = probe.enable().await;
    assert_eq!(again.outcome, Outcome::Completed(()), "{:?}", again.call);
}

pub async fn files_survive_and_memory_does_not(name: &str) {
    let probe = Probe::installed(name).await;
    assert_eq!(probe.enable().await.outcome, Outcome::Completed(()));
    let disabled = probe.host.disable(&probe.id, false).await.unwrap();
    assert_eq!(disabled.outcome, Outcome::Completed(()));
    assert_eq!(probe.enable().await.outcome, Outcome::Completed(()));
    let calls = fs::read_to_string(probe.lab.data(&probe.id).join("calls")).unwrap();
    assert_eq!(calls, "enable\ndisable\nenable\n");
}

pub async fn over_the_memory(name: &str) {
    let done = Probe::installed(name).await.enable().await;
    assert_eq!(broken(&done.outcome), Limit::MemoryBytes);
    let report = done.call.unwrap().report;
    assert!(report.memory_bytes <= 64 << 20, "{report:?}");
}

pub async fn over_the_stack(name: &str) {
    let done = Probe::installed(name).await.enable().await;
    assert_eq!(broken(&done.outcome), Limit::StackBytes);
}

pub async fn over_handles_or_resources(name: &str) {
    let done = Probe::installed(name).await.enable().await;
    let limit = broken(&done.outcome);
    assert!([Limit::Handles, Limit::Resources].contains(&limit), "{limit}");
}

/// Refused within the guest or stopped, either way at no more than the limit.
pub async fn host_memory_is_bounded(name: &str) {
    let probe = Probe::installed(name).await;
    let done = probe.enable().await;
    let report = done.call.unwrap().report;
    let bound = [Limit::Handles, Limit::Resources, Limit::HostMemoryBytes];
    match &done.outcome {
        Outcome::Completed(()) => {}
        other => assert!(bound.contains(&broken(other)), "{other:?}"),
    }
    assert!(report.host_memory_bytes <= report.limits[Limit::HostMemoryBytes], "{report:?}");
}

pub async fn over_the_random_bytes(name: &str) {
    let probe = Probe::provider(name).await;
    for app in ["gigabyte", "terabyte", "most", "insecure-gigabyte", "insecure-most"] {
        let done = probe.add(app).await;
        assert_eq!(broken(&done.outcome), Limit::RandomBytes, "{app}");
        assert_eq!(done.call.unwrap().report.random_bytes, 0, "{app}");
        assert_eq!(probe.resources(), 0, "{app}");
    }
}

pub async fn the_log_is_kept_up_to_its_limit(name: &str) {
    let mut manifest = probe_manifest("log-flood", PATIENT_MS);
    manifest["limits"]["log_bytes"] = (64 << 10).into();
    let done = Probe::with_manifest(name, manifest).await.enable().await;
    assert_eq!(done.outcome, Outcome::Completed(()));
    let call = done.call.unwrap();
    let written = 2 * 20 * (7000 + 7000 + 7000 + (128 << 10));
    assert_eq!(call.report.log_bytes, 64 << 10);
    assert_eq!(call.report.log_bytes + call.report.log_dropped_bytes, written);
    assert!(call.log.iter().map(String::len).sum::<usize>() <= 64 << 10);
}

pub async fn progress_is_cut_and_counted(name: &str) {
    let probe = Probe::installed(name).await;
    assert_eq!(probe.enable().await.outcome, Outcome::Completed(()));
    let told = probe.told.by_guests();
    assert_eq!(told.len(), 1000);
    for event in told {
        match event {
            ProgressEvent::Step(step) => assert!(step.len() <= 200, "{step}"),
            ProgressEvent::Percent(percent) => assert!(percent <= 100, "{percent}"),
        }
    }
}

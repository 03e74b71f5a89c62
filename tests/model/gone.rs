//! A client that goes away never cuts a hook in half.

use lodger::{Add, Error, Host};
use tokio::runtime::Builder;

use super::verbs::{leave_after, leave_when};
use crate::support::{Lab, addon, component, id, probe_manifest, run};

const PROBE: &str = "left/probe";

async fn enabled(lab: &Lab) -> Host {
    let mut manifest = probe_manifest("left", 60_000);
    manifest["config_vars"] = serde_json::json!(["PROBE_URL", "PROBE_PLAN"]);
    let package = lab.package("one_at_a_time", &manifest, component("one_at_a_time"));
    let host = lab.host().await;
    host.install(host.inspect(&package).await.unwrap(), false).await.unwrap();
    assert!(host.enable(&addon(PROBE)).await.unwrap().outcome.is_completed());
    host
}

/// How the calls of a hook ended, all of them.
fn outcomes(host: &Host, hook: &str) -> Vec<Option<String>> {
    let calls = host.calls(Some(&addon(PROBE)), 1000).unwrap();
    calls.into_iter().filter(|call| call.hook == hook).map(|call| call.outcome).collect()
}

#[test]
fn whenever_it_does_the_hook_ends_and_its_end_is_on_record() {
    run(async {
        let lab = Lab::new();
        let host = enabled(&lab).await;
        let mut left = 0;
        for waits in 0.. {
            let app = id(&format!("app-{waits}"));
            let done = leave_after(host.add(Add::new(app.clone(), addon(PROBE))), Some(waits)).await;
            let ended = done.is_some();
            left += usize::from(!ended);
            // Whoever comes next waits for it, and finds it done.
            let again = host.add(Add::new(app.clone(), addon(PROBE))).await.unwrap();
            assert!(again.outcome.is_completed() && !again.changed, "{waits}: {again:?}");
            assert_eq!(host.env(&app).await.unwrap().variables.len(), 2, "{waits}");

            let done = leave_after(host.remove(&app, &addon(PROBE), None), Some(waits)).await;
            let again = host.remove(&app, &addon(PROBE), None).await.unwrap();
            assert!(again.outcome.is_completed() && !again.changed, "{waits}: {again:?}");
            if ended && done.is_some() {
                break;
            }
        }
        assert!(left > 3, "the hook waits several times");
        for hook in ["provision", "unprovision"] {
            let outcomes = outcomes(&host, hook);
            assert!(outcomes.iter().all(|outcome| outcome.as_deref() == Some("completed")), "{hook}: {outcomes:?}");
            assert!(outcomes.len() > left, "{hook}: once for each that was left, and once more");
        }
        let files = std::fs::read_dir(lab.data(&addon(PROBE))).unwrap().count() as u64;
        assert_eq!(host.addon(&addon(PROBE)).unwrap().data_files, files, "what the hooks wrote is counted");
        drop(host);
        lab.lodger(&["doctor"]).ok();
    });
}

#[test]
fn an_upgrade_that_is_left_is_taken_back_or_done() {
    run(async {
        let lab = Lab::new();
        let host = enabled(&lab).await;
        host.add(Add::new(id("shop"), addon(PROBE))).await.unwrap();
        let mut manifest = probe_manifest("left", 60_000);
        manifest["config_vars"] = serde_json::json!(["PROBE_URL", "PROBE_PLAN"]);
        manifest["version"] = "1.1.0".into();
        let package = lab.package("later", &manifest, component("one_at_a_time"));
        lab.write("later/files/does.txt", "well");
        for waits in 0.. {
            let later = host.inspect(&package).await.unwrap();
            let done = leave_after(host.upgrade(&addon(PROBE), later), Some(waits)).await;
            let added = host.add(Add::new(id("shop"), addon(PROBE))).await.unwrap();
            assert!(added.outcome.is_completed() && !added.changed, "{waits}: {added:?}");
            let format = if host.addon(&addon(PROBE)).unwrap().version == "1.0.0" { "1" } else { "2" };
            let url = host.url(&id("shop"), &addon(PROBE), None).await.unwrap();
            assert_eq!(url, lodger::Outcome::Completed(format!("probe://none/none/{format}")), "{waits}");
            assert_eq!(done.is_some(), format == "2", "{waits}");
            if done.is_some() {
                return assert!(waits > 3, "the hook waits several times");
            }
        }
    });
}

#[test]
fn a_runtime_that_is_shut_down_is_to_the_record_what_a_host_that_dies_is() {
    let lab = Lab::new();
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    let good = addon(lab.well_behaved(|_| ()));
    let mut add = Add::new(id("shop"), good.clone());
    add.options.insert("hang_once".to_owned(), "1".to_owned());
    let host = one.block_on(async {
        let host = lab.host().await;
        // The file of its resource beside the counters: the guest is about to hang, once.
        let made = |_| std::fs::read_dir(lab.data(&good)).unwrap().count() == 2;
        assert!(leave_when(host.add(add.clone()), made).await.is_none(), "it hangs in the guest");
        host
    });
    drop(one);
    run(async {
        let state = host.resource(&id("shop"), &good, None).unwrap().state.to_string();
        assert_eq!(state, "interrupted{provision}");
        let done = host.add(add).await;
        let id_of = host.resource(&id("shop"), &good, None).unwrap().id;
        assert!(done.as_ref().is_ok_and(|done| done.outcome.is_completed() && done.changed), "{done:?}");
        let keys: Vec<_> =
            host.calls(Some(&good), 1000).unwrap().into_iter().filter(|call| call.hook == "provision").collect();
        assert!(keys.len() == 2 && keys.iter().all(|call| call.key == id_of), "{keys:?}");
        // Counted anew, since the call that was cut off has not said what it wrote; two files are in `calls`.
        let files = std::fs::read_dir(lab.data(&good)).unwrap().count() as u64 + 2;
        assert_eq!(host.addon(&good).unwrap().data_files, files);
    });
}

#[test]
fn what_is_left_keeps_the_addon_busy_for_others() {
    let lab = Lab::new();
    let good = addon(lab.well_behaved(|_| ()));
    lab.policy("[limits]\nlock_wait_ms = 50\n");
    let mut add = Add::new(id("shop"), good.clone());
    add.options.insert("hang_once".to_owned(), "1".to_owned());
    run(async {
        let host = lab.host().await;
        assert!(leave_after(host.add(add), Some(0)).await.is_none(), "it hangs in the guest");
        let busy = host.add(Add::new(id("wiki"), good.clone())).await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        let others = lab.host().await;
        let busy = others.disable(&good, true).await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        assert_eq!(others.resource(&id("shop"), &good, None).unwrap().state.to_string(), "provisioning");
    });
}

//! Hostile guests and their own services: what `lodger:addon/services` refuses, bounds and ends. Each probe asserts; its test
//! is named in `../probe_suite.rs`, and is here because it needs an engine.

use std::time::Instant;

use lodger::Outcome;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::{Site, docker};
use crate::support::{addon, id, most_resident_bytes};

/// The manifest of a probe that uses `services`, all of the small image that waits for commands.
fn manifest(probe: &str, deadline_ms: u64, services: &[Value]) -> Value {
    let service = |change: &Value| {
        let mut service = json!({ "image": "lodger-test/shell:1" });
        service.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        service
    };
    json!({
        "name": "probe",
        "version": "1.0.0",
        "component": format!("{probe}.wasm"),
        "config_vars": ["PROBE_URL"],
        "plans": [{ "name": "small" }, { "name": "large" }],
        "capabilities": { "services": true },
        "limits": { "deadlines_ms": { "default": deadline_ms } },
        "services": services.iter().map(service).collect::<Vec<_>>(),
    })
}

fn installed(probe: &str, deadline_ms: u64, services: &[Value]) -> (Site, String) {
    let site = Site::new();
    let addon = site.install_with(manifest(probe, deadline_ms, services));
    (site, addon)
}

fn started_at(container: &str) -> String {
    docker(&["inspect", "--format", "{{.State.StartedAt}}", container])
}

pub async fn only_its_own_services(probe: &str) {
    let (site, addon) = installed(
        probe,
        120_000,
        &[
            json!({ "service_name": "always", "ports": { "8080": "0" } }),
            json!({
                "service_name": "shared", "start": "manual", "environment": { "GIVEN": "" }, "ports": { "8080": "0" },
            }),
            json!({ "service_name": "own", "start": "provision" }),
        ],
    );
    site.lodger(&["enable", &addon]).ok();
    for app in ["shop", "blog"] {
        site.lodger(&["add", app, &addon]).ok();
    }
    for app in ["shop", "blog"] {
        assert_eq!(site.lab.json(&["env", app])["PROBE_URL"], "ok://held");
    }
    assert_eq!(site.has("containers").len(), 4);
    site.lodger(&["plan", "shop", &addon, "large"]).ok();
    site.lodger(&["suspend", "shop", &addon]).ok();
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "what the addon has stopped stays so");
    assert_eq!(site.has("containers").len(), 3);
    site.lodger(&["resume", "shop", &addon]).ok();
    assert_eq!(site.lab.json(&["env", "shop"])["PROBE_URL"], "ok://held");
    assert_eq!(site.has("containers").len(), 4);
    let refused = site.lodger(&["--json", "add", "refuser", &addon]).exits(1);
    assert!(refused.stdout.contains("asked to refuse"), "{refused:?}");
    assert_eq!(site.has("containers").len(), 4, "what it started went with it");
    site.lodger(&["disable", &addon, "--force"]).ok();
    assert_eq!(site.has("containers"), Vec::<String>::new(), "nor is left what it starts at the very end");
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

pub async fn commands_are_bounded(probe: &str) {
    let (site, addon) = installed(probe, 120_000, &[json!({ "service_name": "main" })]);
    let enabling = site.lab.start(&["enable", &addon]);
    let most = most_resident_bytes(enabling.id());
    enabling.wait().ok();
    assert!(0 < most && most < 100_000_000, "{most} bytes for 100 MB of output");
}

pub async fn streams_go_past_the_guest(probe: &str) {
    let (site, name) = piping(probe, 120_000);
    site.lodger(&["add", "shop", &name]).ok();
    // Hundreds of MiB from a container to a file, and from there into another.
    let dump = site.lab.path("dump");
    for verb in [["dump", "--output"], ["restore", "--input"]] {
        let moving = site.lab.start(&["--json", verb[0], "shop", &name, verb[1], dump.to_str().unwrap()]);
        let most = most_resident_bytes(moving.id());
        let moved = moving.wait().ok().json();
        assert_eq!(moved["bytes"], (300 << 20) + 7 + 6, "{verb:?}");
        assert!(0 < most && most < 100_000_000, "{most} bytes for 300 MiB of {verb:?}");
    }

    // Whoever reads goes away.
    let read = async |mut reader: DuplexStream| {
        let mut start = [0; 100_000];
        reader.read_exact(&mut start).await.unwrap();
    };
    let (code, message) = ended_in_the_middle(&site, &name, read).await;
    assert_eq!(code, lodger::BROKEN_STREAM);
    assert!(message.contains("broken pipe"), "{message}");
    // Nobody reads until the deadline.
    let (site, name) = piping(probe, 6_000);
    let (code, message) = ended_in_the_middle(&site, &name, async |reader| std::mem::forget(reader)).await;
    assert_eq!(code, "unavailable");
    assert!(message.contains("had not ended in time; it was killed"), "{message}");
}

fn piping(probe: &str, dump_ms: u64) -> (Site, String) {
    let site = Site::new();
    let mut manifest = manifest(probe, 120_000, &[json!({ "service_name": "main" })]);
    manifest["capabilities"]["data"] = json!({ "max_bytes": 1 << 20, "max_files": 50 });
    manifest["limits"]["deadlines_ms"]["dump"] = json!(dump_ms);
    let name = site.install_with(manifest);
    site.lodger(&["enable", &name]).ok();
    site.lodger(&["add", "endless", &name]).ok();
    (site, name)
}

/// How a dump without end was refused. Its command has ended, and the service has gone on.
async fn ended_in_the_middle(site: &Site, name: &str, read: impl AsyncFnOnce(DuplexStream)) -> (String, String) {
    let container = site.has("containers").remove(0);
    let first = started_at(&container);
    let (host, app, addon) = (site.lab.host().await, id("endless"), addon(name));
    let (reader, to) = duplex(1000);
    let (dumped, ()) = tokio::join!(host.dump(&app, &addon, None, to), read(reader));
    assert_eq!(docker(&["top", &container]).matches("head -c").count(), 0);
    assert_eq!(started_at(&container), first);
    match dumped.unwrap().outcome {
        Outcome::Refused(refused) => (refused.code, refused.message),
        other => panic!("{other:?}"),
    }
}

pub async fn a_command_that_does_not_end_is_ended(probe: &str) {
    let deadline_ms = 8_000;
    let (site, addon) = installed(probe, deadline_ms, &[json!({ "service_name": "main" })]);
    let enabling = site.lab.start(&["enable", &addon]);
    // Only what runs: one that is being made is listed before it can be asked about.
    let label = format!("label=lodger.addon={addon}");
    let running = || docker(&["ps", "--quiet", "--filter", &label]).trim().to_owned();
    let container = crate::support::until(|| Some(running()).filter(|id| !id.is_empty()));
    let first = started_at(&container);
    // On a machine that is busy the restart itself may take longer than the call.
    let ran = enabling.wait();
    assert!(ran.code == 0 || ran.stderr.contains("(deadline-exceeded)"), "{ran:?}");
    assert_ne!(started_at(&container), first, "the container was restarted");
    let processes = docker(&["top", &container]);
    assert!(!processes.contains("yes"), "{processes}");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "it runs as it should");
}

pub async fn a_few_commands_at_a_time(probe: &str) {
    let (site, name) = installed(probe, 60_000, &[json!({ "service_name": "main", "start": "manual" })]);
    site.lodger(&["enable", &name]).ok();
    site.lodger(&["add", "shop", &name]).ok();
    let (host, shop, addon) = (site.lab.host().await, id("shop"), addon(&name));
    let seen = async || match host.url(&shop, &addon, None).await.unwrap() {
        Outcome::Completed(url) => url.strip_prefix("seen://").unwrap().parse::<usize>().unwrap(),
        other => panic!("{other:?}"),
    };
    let began = Instant::now();
    let seen = tokio::join!(seen(), seen(), seen(), seen(), seen(), seen(), seen());
    let seen: [usize; 7] = seen.into();
    let most = seen.into_iter().max().unwrap();
    assert!((2..=4).contains(&most), "{seen:?}");
    assert!(began.elapsed().as_secs() >= 2, "one round after the other");
}

#[test]
fn a_guest_that_uses_services_needs_the_line_that_says_so() {
    let site = Site::new();
    let mut manifest = manifest("services_reach", 1000, &[json!({ "service_name": "always" })]);
    manifest["capabilities"] = json!({});
    let package = site.package(manifest);
    let error = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, "grant-refused");
    let problem = &error["problems"][0];
    assert!(problem["message"].as_str().unwrap().contains("lodger:addon/services"), "{error}");
    assert_eq!(problem["hint"], "write \"services\": true under `capabilities` of addon.json");
    site.has_nothing();
}

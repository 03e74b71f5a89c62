//! Hostile guests and their own services: what `lodger:addon/services` refuses, bounds and ends. Each probe asserts; its test
//! is named in `../probe_suite.rs`, and is here because it needs an engine.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Instant;

use lodger::Outcome;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::{Site, docker, web};
use crate::support::{addon, id, most_resident_bytes, until};

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
    let container = until(|| Some(running()).filter(|id| !id.is_empty()));
    let first = started_at(&container);
    // On a machine that is busy the restart itself may take longer than the call.
    let ran = enabling.wait();
    assert!(ran.code == 0 || ran.stderr.contains("(deadline-exceeded)"), "{ran:?}");
    assert_ne!(started_at(&container), first, "the container was restarted");
    let processes = docker(&["top", &container]);
    assert!(!processes.contains("yes"), "{processes}");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "it runs as it should");
}

/// The container that a call is at work in with a command that does not end.
async fn left_at_work(site: &Site, calling: impl Future<Output = ()>) -> String {
    let label = format!("label=lodger.addon={}/probe", site.namespace);
    let at_work = tokio::task::spawn_blocking(move || {
        until(|| {
            let running = docker(&["ps", "--quiet", "--filter", &label]).trim().to_owned();
            runs_yes(&running).then_some(running)
        })
    });
    tokio::select! { () = calling => panic!("it has ended"), container = at_work => container.unwrap() }
}

fn runs_yes(container: &str) -> bool {
    // It may be about to be started again.
    let output = Command::new("docker").args(["top", container]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("yes")
}

pub async fn a_command_that_was_left_is_ended_by_whoever_looks_next(probe: &str) {
    let (site, addon) = installed(probe, 120_000, &[json!({ "service_name": "main" })]);
    site.lodger(&["enable", &addon]).ok();
    let killed = async || {
        let looking = site.lab.start(&["doctor"]);
        let container = left_at_work(&site, std::future::pending()).await;
        looking.kill();
        container
    };
    let dropped = async || {
        let host = site.lab.host().await;
        let addon = addon.parse().unwrap();
        left_at_work(&site, async { drop(host.check_health(&addon).await) }).await
    };
    for by_a_kill in [true, false] {
        let container = if by_a_kill { killed().await } else { dropped().await };
        let first = started_at(&container);
        assert!(runs_yes(&container), "nobody else has ended it");
        let repaired = site.lab.json(&["reconcile"]);
        let [repair] = &repaired.as_array().unwrap()[..] else { panic!("{repaired}") };
        let told = (&repair["what"], &repair["why"]);
        assert_eq!(told, (&json!("restarted"), &json!("a command in it had outlived its call")));
        assert_ne!(started_at(&container), first);
        assert!(!runs_yes(&container));
        assert_eq!(site.lab.json(&["reconcile"]), json!([]), "once");
    }
    // A hook that may need the service, too; and a container that goes takes the command with it.
    let container = killed().await;
    site.lodger(&["add", "shop", &addon]).ok();
    assert!(!runs_yes(&container));
    killed().await;
    site.lodger(&["disable", &addon, "--force"]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
    assert_eq!(std::fs::read_dir(site.lab.home().join("locks/commands")).unwrap().count(), 0);
}

pub async fn a_few_commands_at_a_time(probe: &str) {
    let (site, name) = installed(probe, 60_000, &[json!({ "service_name": "main", "start": "manual" })]);
    site.lodger(&["enable", &name]).ok();
    site.lodger(&["add", "shop", &name]).ok();
    let container = site.has("containers").remove(0);
    let first = started_at(&container);
    let (host, shop, addon) = (site.lab.host().await, id("shop"), addon(&name));
    let seen = async || match host.url(&shop, &addon, None).await.unwrap() {
        Outcome::Completed(url) => url.strip_prefix("seen://").unwrap().parse::<usize>().unwrap(),
        other => panic!("{other:?}"),
    };
    let began = Instant::now();
    // Whoever looks after services meanwhile leaves alone what is at work.
    let notes = site.lab.home().join("locks/commands");
    let looking = async {
        let at_work = move || until(|| std::fs::read_dir(&notes).unwrap().next().map(drop));
        tokio::task::spawn_blocking(at_work).await.unwrap();
        assert!(host.reconcile(None).await.unwrap().is_empty());
    };
    let seen = tokio::join!(seen(), seen(), seen(), seen(), seen(), seen(), seen(), looking);
    let seen: [usize; 7] = [seen.0, seen.1, seen.2, seen.3, seen.4, seen.5, seen.6];
    assert_eq!(started_at(&container), first);
    let most = seen.into_iter().max().unwrap();
    assert!((2..=4).contains(&most), "{seen:?}");
    assert!(began.elapsed().as_secs() >= 2, "one round after the other");
}

/// The guest asks this server, which it is granted, to have done what it is about to test.
pub async fn a_port_that_another_has_taken_is_not_dialled(probe: &str) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = format!("localhost:{}", server.local_addr().unwrap().port());
    let site = Site::with_policy(&format!("network = [\"{authority}\"]\nnetwork_addresses = [\"127.0.0.1/32\"]\n"));
    let mut manifest = manifest(probe, 120_000, &[web("main")]);
    manifest["capabilities"]["network"] = json!([authority]);
    manifest["settings"] = json!({ "TARGET": { "default": authority } });
    let addon = site.install_with(manifest);
    let enabling = site.lab.start(&["enable", &addon]);
    let containers = until(|| Some(site.has("containers")).filter(|found| !found.is_empty()));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let container = &containers[0];
        let asked = answer(&server, || {
            let published = docker(&["port", container, "8080"]);
            docker(&["stop", container]);
            let other = TcpListener::bind(published.trim()).unwrap();
            other.set_nonblocking(true).unwrap();
            other
        });
        answer(&server, || {
            let nobody = asked.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            tell.send(nobody).unwrap();
            drop(asked);
            docker(&["start", container]);
        });
    });
    let ran = enabling.wait();
    assert_eq!(ran.code, 0, "{ran:?} {}", site.lodger(&["logs", &addon]).stdout);
    assert!(told.recv().unwrap(), "somebody has connected to what took the port");
    let logs = site.lodger(&["logs", &addon]).ok().stdout;
    assert!(logs.contains("its engine does not say that the service still runs there"), "{logs}");
}

/// Does `work` when it is asked, and answers then.
fn answer<T>(server: &TcpListener, work: impl FnOnce() -> T) -> T {
    let (mut stream, _) = server.accept().unwrap();
    let mut head = [0; 1024];
    assert!(stream.read(&mut head).unwrap() > 0);
    let done = work();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    done
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

pub async fn what_fails_open_leaves_nothing_on_the_engine(probe: &str) {
    let site = Site::with_policy("[failure]\nunprovision = \"fail-open\"\nurl = \"quarantine(1)\"\n");
    let mut with_volume =
        manifest(probe, 120_000, &[json!({ "service_name": "own", "start": "provision", "volumes": ["data:/data"] })]);
    with_volume["volumes"] = json!([{ "name": "data" }]);
    let addon = site.install_with(with_volume);
    site.lodger(&["enable", &addon]).ok();
    site.lodger(&["add", "shop", &addon]).ok();

    // Asking for its variables has quarantined it. What it runs goes on.
    assert_eq!(site.state(&addon), "failed{url}");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (1, 1));

    let removed = site.lodger(&["--json", "remove", "shop", &addon]).ok();
    assert_eq!(removed.json()["changed"], true);
    assert!(removed.stderr.contains("`unprovision` of"), "{}", removed.stderr);
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 0));
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

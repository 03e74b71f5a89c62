//! Probes with a network, or that want one: they reach what is granted and nothing else, within their bounds.

use lodger::{Limit, Outcome};
use serde_json::{Value, json};

use super::{PATIENT_MS, Probe};
use crate::loopback::{Loopback, by_path, endless_headers, endless_trailers, itself, redirect, somebody_else};
use crate::support::{Lab, Ran, component, probe_manifest, root};

/// A policy that admits the server by name and, where `addresses`, lets that name lead to the loopback.
fn policy(server: &Loopback, addresses: bool) -> String {
    let addresses = if addresses { "network_addresses = [\"127.0.0.1/32\"]" } else { "" };
    format!("[grant]\nnetwork = [\"{}\"]\n{addresses}\n", server.authority())
}

/// The manifest of a probe that asks for the server, where `granted`, and is told where it and another one are.
fn manifest(name: &str, server: &Loopback, other: &Loopback, granted: bool) -> Value {
    let mut manifest = probe_manifest(&name.replace('_', "-"), PATIENT_MS);
    manifest["settings"]["TARGET"] = json!({ "default": server.authority() });
    manifest["settings"]["OTHER"] = json!({ "default": other.authority() });
    manifest["limits"]["network_bytes"] = json!(1 << 20);
    if granted {
        manifest["capabilities"]["network"] = json!([server.authority()]);
    }
    manifest
}

async fn granted(name: &str, server: &Loopback) -> Probe {
    Probe::with_policy(name, manifest(name, server, server, true), &policy(server, true)).await
}

async fn held(probe: &Probe) {
    let done = probe.enable().await;
    assert_eq!(done.outcome, Outcome::Completed(()), "{:?}", done.call);
}

/// With proxies in the environment, which nobody may ask.
pub async fn http_reaches_what_is_granted(name: &str) {
    let (server, proxy) = (Loopback::start(by_path), Loopback::start(by_path));
    let lab = Lab::new();
    lab.policy(&policy(&server, true));
    let package = lab.package(name, &manifest(name, &server, &proxy, true), component(name));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let mut command = lab.command(&["--json", "enable", "probe"]);
    for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        command.env(variable, format!("http://127.0.0.1:{}", proxy.port));
    }
    let enabled = Ran::of(&["enable"], command.output().unwrap()).ok();
    assert_eq!((server.accepted(), proxy.accepted()), (2, 0), "{enabled:?}");
    let calls = lab.json(&["calls", "probe"]);
    assert!(calls[0]["network_bytes"].as_u64().unwrap() > 14, "{calls}");
}

/// With the tests' authority as the one of the machine.
pub async fn https_reaches_whom_it_is_for(name: &str) {
    let (server, other) = (Loopback::raw(itself), Loopback::raw(somebody_else));
    let lab = Lab::new();
    lab.policy(&format!(
        "[grant]\nnetwork = [\"{}\", \"{}\"]\nnetwork_addresses = [\"127.0.0.0/8\"]\n",
        server.authority(),
        other.authority()
    ));
    let mut manifest = manifest(name, &server, &other, true);
    manifest["capabilities"]["network"] = json!([server.authority(), other.authority()]);
    let package = lab.package(name, &manifest, component(name));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let enable = |authority: &str| {
        let mut command = lab.command(&["enable", "probe"]);
        command.env("SSL_CERT_FILE", root().join("tests/tls").join(authority));
        Ran::of(&["enable"], command.output().unwrap())
    };
    // Nobody vouches for it but itself.
    let ran = enable("other.example.pem").exits(1);
    assert!(ran.stderr.contains("TlsCertificateError"), "{ran:?}");
    server.one_is_closed();
    enable("authority.pem").ok();
    other.one_is_closed();
}

/// Without any grant, and with one of another port.
pub async fn http_reaches_nothing_else(name: &str) {
    let (server, other) = (Loopback::start(by_path), Loopback::start(by_path));
    for is_granted in [false, true] {
        let probe = Probe::with_policy(name, manifest(name, &server, &other, is_granted), &policy(&server, true)).await;
        let done = probe.enable().await;
        assert_eq!(done.outcome, Outcome::Completed(()), "{:?}", done.call);
        let log = done.call.unwrap().log.join("\n");
        let lesson = format!("lodger: `localhost:{}` is not granted: ask for it in capabilities.network", other.port);
        assert!(log.contains(&lesson), "{log}");
        assert_eq!((server.accepted(), other.accepted()), (0, 0));
    }
}

pub async fn a_name_that_leads_here_is_refused(name: &str) {
    let server = Loopback::start(by_path);
    let manifest = manifest(name, &server, &server, true);
    let probe = Probe::with_policy(name, manifest, &policy(&server, false)).await;
    let done = probe.enable().await;
    assert_eq!(done.outcome, Outcome::Completed(()), "{:?}", done.call);
    assert_eq!(server.accepted(), 0);
    let log = done.call.unwrap().log.join("\n");
    assert!(log.contains("which is this machine itself"), "{log}");
    assert!(log.contains("`network_addresses = ["), "{log}");
}

pub async fn a_redirect_is_an_answer(name: &str) {
    let server = Loopback::start(redirect);
    let probe = granted(name, &server).await;
    held(&probe).await;
    let health = probe.host.check_health(&probe.id).await.unwrap().unwrap();
    assert!(health.outcome.is_completed(), "{health:?}");
    assert_eq!(server.accepted(), 2);
}

pub async fn a_head_without_end_is_given_up(name: &str) {
    let server = Loopback::start(endless_headers);
    held(&granted(name, &server).await).await;
    server.one_is_closed();
}

pub async fn trailers_without_end_are_given_up(name: &str) {
    let server = Loopback::start(endless_trailers);
    held(&granted(name, &server).await).await;
    server.one_is_closed();
}

/// The last two are stopped at the deadline: their connections are closed by then, before anybody does anything else.
pub async fn a_stalled_server_is_left(name: &str) {
    let server = Loopback::start(by_path);
    for (deadline_ms, apps, outcome) in [
        (PATIENT_MS, ["no-answer", "half-an-answer"], "completed"),
        (2000, ["a-byte", "in-flight"], "deadline-exceeded"),
    ] {
        let mut manifest = manifest(name, &server, &server, true);
        manifest["limits"]["deadlines_ms"]["provision"] = json!(deadline_ms);
        let probe = Probe::with_policy(name, manifest, &policy(&server, true)).await;
        held(&probe).await;
        for app in apps {
            let done = probe.add(app).await;
            assert_eq!(done.outcome.name(), outcome, "{app}: {:?}", done.outcome);
            server.one_is_closed();
        }
    }
    assert_eq!(server.accepted(), 4);
}

pub async fn connections_are_counted(name: &str) {
    let server = Loopback::start(by_path);
    held(&granted(name, &server).await).await;
    assert!(server.accepted() <= 9);
}

pub async fn bytes_are_counted(name: &str) {
    let server = Loopback::start(by_path);
    let probe = granted(name, &server).await;
    held(&probe).await;
    for app in ["http", "http-upload", "tcp", "tcp-upload"] {
        let done = probe.add(app).await;
        assert!(done.outcome.is_completed(), "{app}: {:?}", done.outcome);
        let report = done.call.unwrap().report;
        assert!((1 << 19..=1 << 20).contains(&report.network_bytes), "{app}: {report:?}");
        assert_eq!(report.limits[Limit::NetworkBytes], 1 << 20);
    }
}

pub async fn tcp_reaches_what_is_granted(name: &str) {
    let (server, other) = (Loopback::start(by_path), Loopback::start(by_path));
    let probe = Probe::with_policy(name, manifest(name, &server, &other, true), &policy(&server, true)).await;
    held(&probe).await;
    assert_eq!((server.accepted(), other.accepted()), (2, 0));
}

pub async fn only_connecting_is_granted(name: &str) {
    let server = Loopback::start(by_path);
    let probe = granted(name, &server).await;
    held(&probe).await;
    let denied = probe.host.explain(&probe.id).await.unwrap().denied_imports;
    assert!(denied.iter().any(|import| import.starts_with("wasi:sockets/udp@")), "{denied:?}");
    assert!(denied.iter().all(|import| import.starts_with("wasi:sockets/udp")), "{denied:?}");
}

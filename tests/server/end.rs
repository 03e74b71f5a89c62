//! Clients that go away, and the end of the server: told, and killed.

use rustix::process::Signal;
use serde_json::json;

use super::{Reply, Serving, packed, token};
use crate::support::{Lab, component, probe_manifest, until};

/// An addon whose `enable` sleeps until its deadline.
fn sleeper(lab: &Lab, deadline_ms: u64) -> &'static str {
    let package = lab.package("sleeper", &probe_manifest("sleeper", deadline_ms), component("endless_sleep"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    "sleeper/probe"
}

/// The outcome of the newest call, once there is one; `null` while it runs.
fn newest(lab: &Lab) -> Option<serde_json::Value> {
    lab.json(&["calls"]).as_array().unwrap().first().map(|call| call["outcome"].clone())
}

fn headers(server: &Serving) -> String {
    format!("{}Content-Type: application/json\r\n", server.bearer())
}

#[test]
fn a_client_that_goes_away_cuts_no_hook_off() {
    let lab = Lab::new();
    let addon = sleeper(&lab, 2000);
    let server = Serving::start(&lab);
    let asked = server.send("POST", &format!("/v1/addons/{addon}/enable"), &headers(&server), b"{}");
    until(|| newest(&lab).filter(serde_json::Value::is_null));
    drop(asked);
    until(|| newest(&lab).filter(|outcome| *outcome == "deadline-exceeded"));
    assert_eq!(server.get(&format!("/v1/addons/{addon}")).is(200).json()["state"], "failed{enable}");
}

#[test]
fn guests_that_keep_their_workers_busy_keep_nobody_from_being_answered() {
    let lab = Lab::new();
    let busy = std::thread::available_parallelism().unwrap().get() + 2;
    let server = Serving::start(&lab);
    let mut asked = Vec::new();
    for number in 0..busy {
        let namespace = format!("busy-{number}");
        let manifest = probe_manifest(&namespace, 600_000);
        let package = lab.package(&namespace, &manifest, component("endless_loop"));
        lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
        let path = format!("/v1/addons/{namespace}/probe/enable");
        asked.push(server.send("POST", &path, &headers(&server), b"{}"));
    }
    until(|| {
        let calls = lab.json(&["calls"]);
        let running = calls.as_array().unwrap().iter().filter(|call| call["outcome"].is_null()).count();
        (running >= busy - 2).then_some(())
    });
    for _ in 0..20 {
        server.ask("GET", "/healthz", "", b"").is(200);
    }
    drop(asked);
}

#[test]
fn told_to_end_it_answers_what_is_under_way_and_takes_no_more() {
    for signal in [Signal::TERM, Signal::INT] {
        let lab = Lab::new();
        let addon = sleeper(&lab, 2000);
        let server = Serving::start(&lab);
        let address = server.address.clone();
        let path = format!("/v1/addons/{addon}/enable");
        // One whose client waits, and one whose client has gone.
        let idle = server.connect();
        let asked = server.send("POST", &path, &headers(&server), b"{}");
        until(|| newest(&lab).filter(serde_json::Value::is_null));
        server.signal(signal);
        until(|| std::net::TcpStream::connect(&address).is_err().then_some(()));
        assert!(newest(&lab).unwrap().is_null(), "the call is still under way");
        Reply::read(asked).refuses(504, "deadline-exceeded");
        server.wait().ok();
        drop(idle);
        assert_eq!(newest(&lab).unwrap(), "deadline-exceeded");
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_waited_for_when_it_ends_unless_told_twice() {
    let lab = Lab::new();
    let addon = sleeper(&lab, 2000);
    let path = format!("/v1/addons/{addon}/enable");
    let server = Serving::start(&lab);
    drop(server.send("POST", &path, &headers(&server), b"{}"));
    until(|| newest(&lab).filter(serde_json::Value::is_null));
    server.signal(Signal::TERM);
    server.wait().ok();
    assert_eq!(newest(&lab).unwrap(), "deadline-exceeded");

    let lab = Lab::new();
    sleeper(&lab, 600_000);
    let server = Serving::start(&lab);
    let asked = server.send("POST", &path, &headers(&server), b"{}");
    until(|| newest(&lab).filter(serde_json::Value::is_null));
    server.signal(Signal::TERM);
    until(|| std::net::TcpStream::connect(&server.address).is_err().then_some(()));
    server.signal(Signal::TERM);
    server.wait().ok();
    assert_eq!(Reply::read(asked).status, 0, "it was not answered");
    assert_eq!(lab.json(&["list"])[0]["state"], "interrupted{enable}");
}

#[test]
fn two_installs_of_one_addon_at_once_are_one() {
    let lab = Lab::new();
    let package = packed(&lab, &lab.well_behaved_package(|_| ()));
    let server = Serving::start(&lab);
    let grant = server.install(&package, "").refuses(409, "grant-not-accepted")["grant"]["digest"].clone();
    let grant = grant.as_str().unwrap();
    let more = format!("{}Content-Type: {}\r\n", server.bearer(), super::PACKAGE);
    let path = format!("/v1/addons?accept_grant={grant}");
    let both = [0, 1].map(|_| server.send("POST", &path, &more, &package)).map(Reply::read);
    let mut statuses = both.map(|reply| reply.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    server.post("/v1/addons/good/probe/enable", &json!({})).is(200);
}

#[test]
fn a_server_that_is_killed_while_it_installs_leaves_all_or_nothing() {
    let lab = Lab::new();
    let package = packed(&lab, &lab.well_behaved_package(|_| ()));
    let mut died = 0;
    for at in 1.. {
        let lab = Lab::new();
        // Its points come after those of making the home and the token.
        token(&lab, "read");
        let server = Serving::start_with(&lab, &[], &[("LODGER_KILL_AT", &at.to_string())]);
        let digest = server.install(&package, "");
        let grant = if digest.status == 409 { digest.json()["grant"]["digest"].clone() } else { json!("") };
        let reply = server.install(&package, grant.as_str().unwrap());
        let answered = reply.status == 201;
        drop(server);
        died += u32::from(!answered);

        let server = Serving::start(&lab);
        let there = server.get("/v1/addons").is(200).json();
        assert!(there.as_array().unwrap().len() <= 1, "{there}");
        assert!(!answered || there[0]["id"] == "good/probe", "what was answered is there: {there}");
        let problem = server.install(&package, "");
        let grant = if problem.status == 409 { problem.json()["grant"]["digest"].clone() } else { json!("") };
        let installed = server.install(&package, grant.as_str().unwrap());
        assert!([200, 201].contains(&installed.status), "{at}: {}", installed.text());
        server.post("/v1/addons/good/probe/enable", &json!({})).is(200);
        if answered {
            break;
        }
    }
    assert!(died > 3, "it was killed at {died} points");
}

//! The addons manager over HTTP, in Oakestra's shapes: installing what is approved, how it is, and its end.

use serde_json::{Value, json};

use super::market::{MARKET, package, publish, refused, reviewed};
use super::{Serving, token};
use crate::support::{Lab, addon, component, probe_manifest, until};

const ADDONS: &str = "/api/v1/addons";

/// The id of an approved entry, and the digest of its grant.
fn approved(server: &Serving, packed: &[u8]) -> (Value, Value) {
    let entry = publish(server, &server.token, packed).is(201).json();
    let entry = reviewed(server, &entry["_id"]);
    assert_eq!(entry["status"], "approved", "{entry}");
    (entry["_id"].clone(), entry["verification"]["grant"].clone())
}

fn path(id: &Value) -> String {
    format!("{ADDONS}/{}", id.as_str().unwrap())
}

/// The installation once it is so.
pub fn comes_to(server: &Serving, id: &Value, status: &str) -> Value {
    until(|| Some(server.get(&path(id)).is(200).json()).filter(|found| found["status"] == status))
}

/// Where it comes to rest.
fn settled(server: &Serving, id: &Value) -> Value {
    let moves = |found: &Value| found["status"] == "installing" || found["status"] == "disabling";
    until(|| Some(server.get(&path(id)).is(200).json()).filter(|found| !moves(found)))
}

#[test]
fn only_what_is_approved_and_accepted_is_installed_and_it_goes_in_two_steps() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let (entry, grant) = approved(&server, &package(&lab, |_| ()));
    let asked = json!({ "marketplace_id": entry });
    let body = refused(server.post(ADDONS, &asked), 409, "Conflict");
    assert_eq!((&body["reason"], &body["grant"]["digest"]), (&json!("grant-not-accepted"), &grant));
    assert!(body["grant"]["lines"].is_array() && body["hint"].as_str().unwrap().contains("sha256:"), "{body}");
    let other = json!({ "marketplace_id": entry, "grant": "sha256:00" });
    refused(server.post(ADDONS, &other), 409, "Conflict");
    for scope in ["read", "publish:good"] {
        let body = json!({ "marketplace_id": entry, "grant": grant });
        refused(server.as_(&token(&lab, scope), "POST", ADDONS, &body), 403, "Forbidden");
    }
    assert_eq!(server.get(ADDONS).is(200).json(), json!([]));

    let accepted = json!({ "marketplace_id": entry, "grant": grant });
    let installed = server.post(ADDONS, &accepted).is(201).json();
    let id = &installed["_id"];
    assert_eq!((&installed["status"], &installed["marketplace_id"]), (&json!("installing"), &entry));
    assert_eq!((&installed["name"], &installed["services"]), (&json!("probe"), &json!([])), "{installed}");
    let body = refused(server.post("/api/addons/install", &accepted), 400, "Bad Request");
    assert_eq!(body["message"], format!("Addon with marketplace-id - {} already exists.", entry.as_str().unwrap()));
    let active = settled(&server, id);
    assert_eq!((&active["status"], &active["status_details"]), (&json!("active"), &json!({})), "{active}");
    assert_eq!(server.get("/v1/addons/good/probe").is(200).json()["state"], "enabled");
    for (query, count) in [("", 1), ("?status=active", 1), ("?status=failed", 0), ("?status=nonsense&x=1", 0)] {
        assert_eq!(server.get(&format!("{ADDONS}{query}")).is(200).json().as_array().unwrap().len(), count, "{query}");
    }

    // What an app uses is not taken from it.
    lab.lodger(&["add", "shop", "probe"]).ok();
    let body = refused(server.delete(&path(id), &json!({})), 409, "Conflict");
    assert!(body["message"].as_str().unwrap().contains("shop"), "{body}");
    assert_eq!(settled(&server, id)["status"], "active");
    lab.lodger(&["remove", "shop", "probe", "--yes"]).ok();

    assert_eq!(server.ask("DELETE", &path(id), &server.bearer(), b"").is(200).json()["status"], "disabling");
    assert_eq!(settled(&server, id)["status"], "disabled");
    assert_eq!(server.get("/v1/addons/good/probe").is(200).json()["state"], "installed");
    // Back, and away for good.
    assert_eq!(
        server.as_(&server.token, "PATCH", &path(id), &json!({ "status": "installing" })).is(200).json()["status"],
        "installing"
    );
    assert_eq!(settled(&server, id)["status"], "active");
    server.delete(&path(id), &json!({})).is(200);
    assert_eq!(settled(&server, id)["status"], "disabled");
    assert_eq!(server.delete(&path(id), &json!({})).is(204).text(), "");
    refused(server.get(&path(id)), 404, "Not Found");
    refused(server.delete(&path(id), &json!({})), 404, "Not Found");
    server.get("/v1/addons/good/probe").refuses(404, "unknown-addon");
    let again = server.post(ADDONS, &accepted).is(201).json();
    assert_ne!(again["_id"], *id);
    assert_eq!(settled(&server, &again["_id"])["status"], "active");
}

#[test]
fn what_the_policy_preapproves_needs_no_more_words_and_two_at_once_are_one() {
    let lab = Lab::new();
    let bytes = package(&lab, |_| ());
    let grant = {
        let server = Serving::start(&lab);
        approved(&server, &bytes).1
    };
    lab.policy(&format!("[grant]\npreapproved = [{grant}]\n"));
    let server = Serving::start(&lab);
    let entry = publish(&server, &server.token, &bytes).is(201).json()["_id"].clone();
    let more = format!("{}Content-Type: application/json\r\n", server.bearer());
    let body = json!({ "marketplace_id": entry }).to_string();
    let sent: Vec<_> = (0..4).map(|_| server.send("POST", ADDONS, &more, body.as_bytes())).collect();
    let mut statuses: Vec<u16> = sent.into_iter().map(|stream| super::Reply::read(stream).status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 400, 400, 400]);
    let installed = server.get(ADDONS).is(200).json();
    assert_eq!(settled(&server, &installed[0]["_id"])["status"], "active");
}

#[test]
fn requests_that_make_no_sense_are_refused_as_oakestra_does() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let errors = |reply| refused(reply, 422, "Unprocessable Entity")["errors"]["json"].clone();
    assert_eq!(
        errors(server.post(ADDONS, &json!({}))),
        json!({ "marketplace_id": ["Missing data for required field."] })
    );
    let more = json!({ "marketplace_id": 5, "x": 1 });
    assert_eq!(
        errors(server.post(ADDONS, &more)),
        json!({ "marketplace_id": ["Not a valid string."], "x": ["Unknown field."] })
    );
    assert_eq!(errors(server.post(ADDONS, &json!([]))), json!({ "_schema": ["Invalid input type."] }));
    let with = format!("{}Content-Type: application/json\r\n", server.bearer());
    refused(server.ask("POST", ADDONS, &with, b"{"), 400, "Bad Request");
    let form = format!("{}Content-Type: text/plain\r\n", server.bearer());
    refused(server.ask("POST", ADDONS, &form, br#"{"marketplace_id":"x"}"#), 422, "Unprocessable Entity");
    for id in ["unique-addon-id", "../../etc/passwd", "", &"f".repeat(24)] {
        refused(server.post(ADDONS, &json!({ "marketplace_id": id })), 404, "Not Found");
    }
    for (method, body) in [("GET", json!({})), ("DELETE", json!({})), ("PATCH", json!({ "status": "installing" }))] {
        for id in ["x", &"0".repeat(24), "%00", "..%2f"] {
            let reply = server.as_(&server.token, method, &format!("{ADDONS}/{id}"), &body);
            assert_eq!(refused(reply, 404, "Not Found")["message"], "Addon not found", "{method} {id}");
        }
    }
    // What is not approved is none that can be had.
    let broken = json!({ "name": "x", "services": [] });
    let entry = server.post(MARKET, &broken).is(201).json();
    let entry = reviewed(&server, &entry["_id"]);
    let body = refused(server.post(ADDONS, &json!({ "marketplace_id": entry["_id"] })), 409, "Conflict");
    assert_eq!(body["reason"], "not-approved");

    let (entry, grant) = approved(&server, &package(&lab, |_| ()));
    let installed = server.post(ADDONS, &json!({ "marketplace_id": entry, "grant": grant })).is(201).json();
    let path = path(&installed["_id"]);
    comes_to(&server, &installed["_id"], "active");
    let patch = |body: Value| server.as_(&server.token, "PATCH", &path, &body);
    assert_eq!(errors(patch(json!({}))), json!({ "status": ["Missing data for required field."] }));
    let known = "Must be one of: installing, disabling, disabled, failed, active, partially_active.";
    assert_eq!(errors(patch(json!({ "status": "gone" }))), json!({ "status": [known] }));
    for status in ["installing", "disabled", "failed", "partially_active"] {
        assert_eq!(refused(patch(json!({ "status": status })), 409, "Conflict")["reason"], "transition", "{status}");
    }
    // What is so stays so, and what else is said changes nothing.
    let same = patch(json!({ "status": "active", "status_details": "mine", "name": "other" })).is(200).json();
    assert_eq!((&same["name"], &same["status_details"]), (&json!("probe"), &json!({})));
    assert_eq!(patch(json!({ "status": "disabling" })).is(200).json()["status"], "disabling");
    settled(&server, &installed["_id"]);
    assert_eq!(refused(patch(json!({ "status": "active" })), 409, "Conflict")["reason"], "transition");
}

#[test]
fn one_that_fails_says_why_and_keeps_no_other_from_being_installed() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let mut manifest = probe_manifest("bad", 1000);
    manifest["config_vars"] = json!([]);
    let dir = lab.package("sleeper", &manifest, component("endless_sleep"));
    let (bad, bad_grant) = approved(&server, &super::packed(&lab, dir.to_str().unwrap()));
    let (good, good_grant) = approved(&server, &package(&lab, |_| ()));
    let install = |entry: &Value, grant: &Value| {
        server.post(ADDONS, &json!({ "marketplace_id": entry, "grant": grant })).is(201).json()["_id"].clone()
    };
    let (bad, good) = (install(&bad, &bad_grant), install(&good, &good_grant));
    assert_eq!(settled(&server, &good)["status"], "active");
    let failed = settled(&server, &bad);
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["status_details"]["failure"]["code"], "deadline-exceeded", "{failed}");
    // Again, and away.
    let tried = server.as_(&server.token, "PATCH", &path(&bad), &json!({ "status": "installing" })).is(200).json();
    assert_eq!((&tried["status"], &tried["status_details"]), (&json!("installing"), &json!({})));
    assert_eq!(settled(&server, &bad)["status"], "failed");
    server.delete(&path(&bad), &json!({})).is(200);
    assert_eq!(settled(&server, &bad)["status"], "disabled");
    server.delete(&path(&bad), &json!({})).is(204);
    assert_eq!(settled(&server, &good)["status"], "active");
}

/// As far as the server lives.
fn published_and_installed(server: &Serving, bytes: &[u8]) -> Option<()> {
    let get = |path: &str| Some(server.try_ask("GET", path, "", b"")?.is(200).json());
    let kind = format!("Content-Type: {}\r\n", super::PACKAGE);
    let entry = server.try_ask("POST", MARKET, &kind, bytes)?.is(201).json()["_id"].clone();
    let grant = loop {
        let entry = get(&format!("{MARKET}/{}", entry.as_str().unwrap()))?;
        if entry["status"] == "approved" {
            break entry["verification"]["grant"].clone();
        }
    };
    let asked = json!({ "marketplace_id": entry, "grant": grant }).to_string();
    let id = server.try_ask("POST", ADDONS, "Content-Type: application/json\r\n", asked.as_bytes())?;
    let id = id.is(201).json()["_id"].clone();
    while get(&path(&id))?["status"] != "active" {}
    Some(())
}

/// Killed wherever it notes something, it comes to the same end.
#[test]
fn nothing_is_lost_where_the_server_is_killed() {
    let mut killed = 0;
    for point in (1..200).step_by(3) {
        let lab = Lab::new();
        let bytes = package(&lab, |_| ());
        let at = point.to_string();
        let server = Serving::try_start(&lab, &[], &[("LODGER_KILL_AT", &at)]);
        let all = server.as_ref().is_some_and(|server| published_and_installed(server, &bytes).is_some());
        drop(server);
        killed += usize::from(!all);

        let server = Serving::start(&lab);
        let entry = publish(&server, &server.token, &bytes).is(201).json();
        let entry = reviewed(&server, &entry["_id"]);
        assert_eq!(entry["status"], "approved", "{point}: {entry}");
        let grant = &entry["verification"]["grant"];
        let asked = json!({ "marketplace_id": entry["_id"], "grant": grant });
        let again = server.post(ADDONS, &asked).status;
        assert!([201, 400].contains(&again), "{point}: {again}");
        let installed = server.get(ADDONS).is(200).json();
        assert_eq!(installed.as_array().unwrap().len(), 1, "{point}: {installed}");
        let end = settled(&server, &installed[0]["_id"]);
        assert_eq!(end["status"], "active", "{point}: {end}");
        assert_eq!(server.get(MARKET).is(200).json().as_array().unwrap().len(), 1, "{point}");
        if all {
            break;
        }
    }
    assert!(killed > 3, "{killed}");
}

/// As far as the server lives: disabled, uninstalled, and no longer published.
fn taken_away(server: &Serving, id: &Value, entry: &Value) -> Option<()> {
    let delete = |path: &str| Some(server.try_ask("DELETE", path, "Content-Type: application/json\r\n", b"{}")?.status);
    loop {
        match delete(&path(id))? {
            // It is being disabled.
            200 => {}
            status => break assert!([204, 404].contains(&status), "{status}"),
        }
    }
    let status = delete(&format!("{MARKET}/{}", entry.as_str().unwrap()))?;
    assert!([204, 404].contains(&status), "{status}");
    Some(())
}

#[test]
fn nothing_is_left_where_the_server_is_killed_while_it_takes_away() {
    let mut killed = 0;
    for point in (1..200).step_by(3) {
        let lab = Lab::new();
        let bytes = package(&lab, |_| ());
        let server = Serving::start(&lab);
        published_and_installed(&server, &bytes).unwrap();
        let installed = server.get(ADDONS).is(200).json()[0].clone();
        let (id, entry) = (&installed["_id"], &installed["marketplace_id"]);
        drop(server);
        let server = Serving::try_start(&lab, &[], &[("LODGER_KILL_AT", &point.to_string())]);
        let all = server.as_ref().is_some_and(|server| taken_away(server, id, entry).is_some());
        drop(server);
        killed += usize::from(!all);

        let server = Serving::start(&lab);
        taken_away(&server, id, entry).unwrap();
        for path in [ADDONS, MARKET, "/v1/addons"] {
            assert_eq!(server.get(path).is(200).json(), json!([]), "{point}: {path}");
        }
        assert!(!lab.data(&addon("good/probe")).exists(), "{point}");
        // The very same may come again.
        published_and_installed(&server, &bytes).unwrap();
        if all {
            break;
        }
    }
    assert!(killed > 3, "{killed}");
}

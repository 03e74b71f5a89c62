//! Providers that do ill: whatever one answers, or does not, the store and it agree afterwards, or the store says that they may
//! not.

use serde_json::{Value, json};

use super::{ADDON, agree, enabled, enabled_as, outcomes};
use crate::support::{Lab, Ran, assert_plain, strings};
use crate::upstream::{Does, Upstream, policy, response};

/// An addon whose hooks may take a second.
fn hasty(upstream: &Upstream, more: &str) -> Lab {
    enabled_as(upstream, more, |addon| addon["limits"]["deadlines_ms"] = json!({ "default": 1500 }))
}

#[track_caller]
fn says(ran: Ran, exit: i32, code: &str, word: &str) {
    assert_eq!(ran.code, exit, "{ran:#?}");
    let answer = ran.json();
    strings(&answer).iter().for_each(|text| assert_plain(text));
    let message = answer["error"]["message"].as_str().unwrap();
    // A refusal says of which kind it is.
    let (error, kind) = if code == "bad-answer" { ("refused", "(bad-answer)") } else { (code, "") };
    assert_eq!(answer["error"]["code"], error, "{message}");
    assert!(message.contains(word) && message.contains(kind), "{message}");
}

#[test]
fn whatever_is_answered_nothing_is_left_that_nobody_knows_of() {
    let ok = |body: Value| Does::ThenSays(response(201, &body));
    let raw = |text: &str| Does::ThenSays(text.to_owned());
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
    let cases: Vec<(Does, i32, &str, &str)> = vec![
        (Does::ThenCloses, 3, "trapped", "broke off"),
        (Does::ThenHangs, 3, "deadline-exceeded", "1500"),
        (Does::ThenFloods, 3, "trapped", "more than 65536 bytes"),
        (raw(&response(500, &json!({ "message": "ow\u{1b}[2J\u{202e}" }))), 3, "trapped", "ow"),
        (raw(redirect), 1, "bad-answer", "no redirect is followed"),
        (raw("SSH-2.0-OpenSSH_9.2\r\n"), 3, "trapped", "no HTTP"),
        (raw("HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n<html>ok!"), 1, "bad-answer", "JSON"),
        (raw("HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{\"id\":"), 3, "trapped", "broke off"),
        (ok(json!([])), 1, "bad-answer", "JSON"),
        (ok(json!({ "config": {} })), 1, "bad-answer", "empty ID"),
        (ok(json!({ "id": "a:b", "config": {} })), 1, "bad-answer", "colon"),
        (ok(json!({ "id": "..", "config": {} })), 1, "bad-answer", "lead elsewhere"),
        (ok(json!({ "id": "x".repeat(256), "config": {} })), 1, "bad-answer", "255"),
        (ok(json!({ "id": "a\u{1b}[2J", "config": {} })), 1, "bad-answer", "do not show"),
        (ok(json!({ "id": "a", "config": { "EXAMPLE_URL": 7 } })), 1, "bad-answer", "JSON"),
        (ok(json!({ "id": "a", "config": { "LD_PRELOAD": "x" } })), 1, "bad-answer", "never given"),
        (ok(json!({ "id": "a", "config": { "OTHER_URL": "x" } })), 1, "bad-answer", "not among"),
        (ok(json!({ "id": "a", "config": { "EXAMPLE_URL": "a\0b" } })), 1, "bad-answer", "NUL"),
        (ok(json!({ "id": "a", "config": { "EXAMPLE_URL": "x".repeat(4096) } })), 1, "bad-answer", "4096 are kept"),
        (Does::Says(422, json!({ "message": "no\u{1b}[2J more" })), 1, "refused", "no\\u{1b}[2J more"),
        (Does::Says(409, json!({ "error": "taken" })), 1, "refused", "taken"),
        (Does::Says(403, json!("no")), 1, "refused", "answers 403"),
        (Does::Says(404, Value::Null), 1, "refused", "answers 404"),
        (Does::Says(429, json!({ "message": "later" })), 1, "refused", "later"),
    ];
    let upstream = Upstream::start();
    let lab = hasty(&upstream, "");
    for (does, exit, code, word) in cases {
        let point = format!("{does:?}");
        let point = &point[..point.len().min(120)];
        upstream.next([does]);
        let ran = lab.lodger(&["--json", "add", "shop", ADDON]);
        println!("{point}: {}", ran.stdout);
        says(ran, exit, code, word);
        assert_eq!(lab.json(&["apps"]), json!({}), "{point}");
        agree(&lab, &upstream, point);
    }
    lab.lodger(&["add", "shop", ADDON]).ok();
    agree(&lab, &upstream, "well again");
    lab.lodger(&["doctor"]).ok();
}

#[test]
fn a_change_of_plan_that_went_wrong_is_asked_for_again() {
    let upstream = Upstream::start();
    let lab = hasty(&upstream, "");
    lab.lodger(&["add", "shop", ADDON]).ok();
    let env = lab.json(&["env", "shop"]);
    let state = || lab.json(&["apps"])["shop"][0]["state"].as_str().unwrap().to_owned();
    upstream.next([Does::Says(422, json!({ "message": "too small" }))]);
    says(lab.lodger(&["--json", "plan", "shop", ADDON, "premium"]), 1, "refused", "too small");
    assert_eq!(state(), "active");
    for does in [
        Does::ThenCloses,
        Does::ThenHangs,
        Does::ThenSays(response(200, &json!("yes"))),
        Does::ThenSays(response(200, &json!({ "config": { "PATH": "." } }))),
    ] {
        upstream.next([does]);
        let ran = lab.lodger(&["--json", "plan", "shop", ADDON, "premium"]);
        assert_ne!(ran.code, 0, "{ran:?}");
        assert_eq!(state(), "failed{change-plan}");
        assert_eq!(lab.json(&["env", "shop"]), env, "the app keeps what it has");
        lab.lodger(&["plan", "shop", ADDON, "free"]).ok();
        agree(&lab, &upstream, "back again");
    }
    lab.lodger(&["plan", "shop", ADDON, "premium"]).ok();
    assert_eq!(lab.json(&["env", "shop"])["EXAMPLE_PLAN"], "premium");
    agree(&lab, &upstream, "at last");
}

#[test]
fn what_cannot_be_taken_away_is_not_forgotten() {
    let upstream = Upstream::start();
    let lab = hasty(&upstream, "");
    lab.lodger(&["add", "shop", ADDON]).ok();
    let state = || lab.json(&["apps"])["shop"][0]["state"].as_str().unwrap().to_owned();
    for (does, exit) in [
        (Does::Says(500, Value::Null), 3),
        (Does::Says(401, Value::Null), 1),
        (Does::Says(422, json!({ "message": "not now" })), 1),
    ] {
        upstream.next([does]);
        lab.lodger(&["remove", "shop", ADDON]).exits(exit);
        assert_eq!(state(), "failed{unprovision}");
    }
    // It is done, and nobody hears of it: the second time it is gone already.
    upstream.next([Does::ThenCloses]);
    lab.lodger(&["remove", "shop", ADDON]).exits(3);
    assert_eq!((state().as_str(), upstream.held().len()), ("failed{unprovision}", 0));
    lab.lodger(&["remove", "shop", ADDON]).ok();
    agree(&lab, &upstream, "gone");

    // Neither the answer nor what undoes it comes through.
    upstream.next([Does::ThenCloses, Does::Says(503, Value::Null)]);
    lab.lodger(&["add", "shop", ADDON]).exits(3);
    assert_eq!((state().as_str(), upstream.held().len()), ("failed{unprovision}", 1));
    lab.lodger(&["remove", "shop", ADDON]).ok();
    agree(&lab, &upstream, "gone, too");

    // One that takes a UUID only once has what it refuses.
    upstream.next([Does::ThenCloses, Does::Says(422, json!({ "error": "uuid has already been taken" }))]);
    lab.lodger(&["add", "shop", ADDON]).exits(3);
    assert_eq!((state().as_str(), upstream.held().len()), ("failed{unprovision}", 1));
    let calls = lab.json(&["calls", ADDON]);
    let said = calls[0]["detail"].as_str().unwrap();
    assert!(said.contains("already been taken") && said.contains("is not known"), "{said}");
    lab.lodger(&["remove", "shop", ADDON]).ok();
    agree(&lab, &upstream, "gone at last");
}

#[test]
fn policies_of_failure_hold_for_providers() {
    let upstream = Upstream::start();
    let lab = hasty(
        &upstream,
        "[failure]\nprovision = \"retry(2)\"\nunprovision = \"fail-open\"\nchange-plan = \"quarantine(2)\"\n",
    );
    upstream.next([Does::ThenCloses, Does::Says(503, Value::Null)]);
    lab.lodger(&["add", "shop", ADDON]).ok();
    assert_eq!(outcomes(&lab), ["provision trapped", "provision trapped", "provision completed"]);
    agree(&lab, &upstream, "retried");
    // A refusal after an answer that was lost promises nothing: what may be there is looked for, and taken away.
    let sold_out = Does::Says(422, json!({ "message": "sold out" }));
    upstream.next([Does::ThenCloses, sold_out.clone(), sold_out]);
    says(lab.lodger(&["--json", "add", "wiki", ADDON]), 3, "trapped", "sold out");
    agree(&lab, &upstream, "undone");

    upstream.next([Does::Says(500, Value::Null)]);
    let removed = lab.lodger(&["remove", "shop", ADDON]).ok();
    assert!(removed.stderr.contains("gone on without it"), "{removed:?}");
    assert_eq!((lab.json(&["apps"]), upstream.held().len()), (json!({}), 1));

    lab.lodger(&["add", "shop", ADDON]).ok();
    upstream.next([Does::Says(500, Value::Null), Does::Says(500, Value::Null)]);
    for _ in 0..2 {
        lab.lodger(&["plan", "shop", ADDON, "premium"]).exits(3);
    }
    lab.lodger(&["--json", "plan", "shop", ADDON, "premium"]).fails_with(1, "quarantined");
    assert_eq!(lab.json(&["list"])[0]["state"], "failed{change-plan}");
}

#[test]
fn a_provider_that_is_not_reached_has_nothing() {
    let upstream = Upstream::start();
    let lab = hasty(&upstream, "");
    // The name leads to this machine, and the policy says so no more.
    let only_names = policy(upstream.port).lines().take(2).collect::<Vec<_>>().join("\n");
    lab.policy(&only_names);
    lab.lodger(&["install", "./package", "--accept-grant"]).exits(2);
    let grant = lab.json(&["install", "./package", "--dry-run"])["grant"]["digest"].as_str().unwrap().to_owned();
    lab.lodger(&["install", "./package", "--accept-grant", &grant]).ok();
    let ran = lab.lodger(&["--json", "add", "shop", ADDON]);
    says(ran, 1, "refused", "network_addresses");
    assert_eq!((lab.json(&["apps"]), upstream.asked().len()), (json!({}), 0));
    assert_eq!(outcomes(&lab), ["provision refused"]);

    // Nobody listens there.
    let nobody = Lab::new();
    let mut manifest = upstream.scalingo();
    manifest["production"]["base_url"] = json!("http://localhost:9/resources");
    nobody.policy("[grant]\nnetwork = [\"localhost:9\"]\nnetwork_addresses = [\"127.0.0.0/8\", \"::1/128\"]\n");
    nobody.write("manifest.json", manifest.to_string());
    nobody.lodger(&["import", "manifest.json", "--yes"]).ok();
    nobody.lodger(&["enable", ADDON]).ok();
    says(nobody.lodger(&["--json", "add", "shop", ADDON]), 1, "refused", "unable to connect");
    assert_eq!(nobody.json(&["apps"]), json!({}));
}

#[test]
fn an_id_that_another_resource_has_is_not_taken_away() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    upstream.calls_all("the-one");
    lab.lodger(&["add", "shop", ADDON]).ok();
    says(lab.lodger(&["--json", "add", "wiki", ADDON]), 1, "bad-answer", "another resource");
    assert_eq!(lab.json(&["apps"]).as_object().unwrap().keys().collect::<Vec<_>>(), ["shop"]);
    assert!(upstream.asked().iter().all(|asked| asked.method != "DELETE"));
    assert!(upstream.held().values().any(|held| held.app == "shop"));
}

#[test]
fn a_provider_that_never_comes_to_an_end_is_undone_in_time() {
    let upstream = Upstream::start();
    let lab = hasty(&upstream, "");
    upstream.next(std::iter::repeat_n(Does::Pending, 4));
    let ran = lab.lodger(&["--json", "add", "shop", ADDON]);
    assert!(upstream.asked().len() >= 4);
    says(ran, 1, "bad-answer", "still at it (202)");
    agree(&lab, &upstream, "undone");
}

#[test]
fn the_limits_of_a_call_hold_for_what_a_provider_says() {
    let upstream = Upstream::start();
    let lab = enabled_as(&upstream, "", |addon| addon["limits"]["network_bytes"] = json!(200));
    says(lab.lodger(&["--json", "add", "shop", ADDON]), 3, "limit-exceeded", "network_bytes = 200");
    let lines = lab.json(&["explain", ADDON])["lines"].to_string();
    assert!(lines.contains("move up to 200 bytes over the network"), "{lines}");
    assert!(!lines.contains("of memory") && !lines.contains("/data"), "{lines}");
}

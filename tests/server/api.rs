//! The native API, verb by verb, in the shapes of the command line; and what is counted meanwhile.

use serde_json::{Value, json};

use super::{PACKAGE, Serving, packed};
use crate::support::{Lab, component, probe_manifest, root, until};

const SECRETS: &str = "lodger/app-secrets";

#[test]
fn the_whole_life_of_an_addon_is_as_on_the_command_line() {
    let lab = Lab::new();
    let package = packed(&lab, root().join("guest-examples/app-secrets").to_str().unwrap());
    let server = Serving::start(&lab);
    server.install_and_enable(&package, SECRETS);
    let addon = format!("/v1/addons/{SECRETS}");
    let again = server.post(&format!("{addon}/enable"), &json!({})).is(200).json();
    assert_eq!(again, json!({ "id": SECRETS, "version": "1.0.0", "state": "enabled", "changed": false }));
    let shop = format!("/v1/apps/shop/addons/{SECRETS}");
    let added = server.put(&shop, &json!({ "plan": "long" })).is(201).json();
    assert_eq!((&added["plan"], &added["created"]), (&json!("long"), &json!(true)));
    assert_eq!(server.put(&shop, &json!({})).is(200).json()["created"], false);
    server.put(&shop, &json!({ "plan": "standard" })).refuses(409, "already-added");
    server.put(&shop, &json!({ "plan": "huge" })).refuses(404, "unknown-plan");

    // Each answer is the one of the verb.
    for (path, verb) in [
        ("/v1/addons", &["list"][..]),
        (&addon, &["info", SECRETS]),
        (&format!("{addon}/grant"), &["explain", SECRETS]),
        ("/v1/apps", &["apps"]),
        ("/v1/apps/shop/env", &["env", "shop"]),
    ] {
        assert_eq!(server.get(path).is(200).json(), lab.json(verb), "{path}");
    }
    assert_eq!(server.get("/v1/apps/shop").is(200).json(), lab.json(&["apps"])["shop"]);
    assert_eq!(added["config"], lab.json(&["env", "shop"]));
    server.get("/v1/apps/blog").refuses(404, "unknown-app");
    server.get("/v1/apps/blog/env").refuses(404, "unknown-app");
    server.get(&format!("{shop}/url")).refuses(409, "hook-missing");

    let doctor = server.get("/v1/doctor").is(200).json();
    assert!(doctor.as_array().unwrap().iter().all(|finding| finding["severity"] == "note"), "{doctor}");
    assert_eq!(server.post(&format!("{addon}/reconcile"), &json!({})).is(200).json(), json!([]));
    assert_eq!(server.post("/v1/reconcile", &json!({})).is(200).json(), json!([]));

    server.delete(&addon, &json!({})).refuses(409, "in-use");
    server.post(&format!("{addon}/disable"), &json!({})).refuses(409, "in-use");
    let removed = server.delete(&shop, &json!({ "keep_data": true })).is(200).json();
    assert_eq!((&removed["changed"], &removed["kept_data"]), (&json!(true), &json!(true)));
    assert_eq!(server.put(&shop, &json!({})).is(201).json()["config"], added["config"]);
    server.delete(&shop, &json!({})).is(200);
    assert_eq!(server.delete(&shop, &json!({})).is(200).json()["changed"], false);
    let disabled = server.post(&format!("{addon}/disable"), &json!({ "force": true })).is(200).json();
    assert_eq!(disabled["state"], "installed");
    let gone = server.delete(&addon, &json!({})).is(200).json();
    assert_eq!(gone, json!({ "id": SECRETS, "changed": true, "kept_data": false }));
    server.get(&addon).refuses(404, "unknown-addon");
    assert_eq!(lab.json(&["list"]), json!([]));
}

#[test]
fn plans_settings_and_versions_change_over_http() {
    let lab = Lab::new();
    let plans = |manifest: &mut Value| {
        manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
    };
    let first = packed(&lab, &lab.well_behaved_package(plans));
    let server = Serving::start(&lab);
    server.install_and_enable(&first, "good/probe");
    let (addon, shop) = ("/v1/addons/good/probe", "/v1/apps/shop/addons/good/probe");
    server.put(shop, &json!({ "alias": "one" })).is(201);
    let moved = server.post(&format!("{shop}/plan"), &json!({ "plan": "large", "alias": "one" })).is(200).json();
    assert_eq!((&moved["plan"], &moved["changed"]), (&json!("large"), &json!(true)));
    assert_eq!(server.post(&format!("{shop}/suspend"), &json!({})).is(200).json()["state"], "suspended");
    assert_eq!(server.post(&format!("{shop}/resume"), &json!({ "alias": "one" })).is(200).json()["state"], "active");
    server.post(&format!("{shop}/resume"), &json!({ "alias": "two" })).refuses(404, "unknown-resource");

    let settings = format!("{addon}/settings");
    let set = server.put(&settings, &json!({ "PLAIN": "other", "SECRET": "hush-hush" })).is(200).json();
    assert_eq!(set["changed"], json!(["PLAIN", "SECRET"]));
    assert_eq!(server.put(&settings, &json!({ "PLAIN": null })).is(200).json()["changed"], json!(["PLAIN"]));
    // None of several is set where one cannot be.
    server.put(&settings, &json!({ "PLAIN": "third", "UNKNOWN": "x" })).refuses(404, "unknown-setting");
    let details = server.get(addon).is(200);
    assert!(!details.text().contains("hush-hush") && !details.text().contains("third"), "{}", details.text());

    let next = |memory: u64| {
        packed(
            &lab,
            &lab.well_behaved_package(|manifest| {
                plans(manifest);
                manifest["version"] = "1.1.0".into();
                manifest["limits"]["memory_bytes"] = memory.into();
            }),
        )
    };
    let upgrade = |package: &[u8], query: &str| {
        let more = format!("{}Content-Type: {PACKAGE}\r\n", server.bearer());
        server.ask("POST", &format!("{addon}/upgrade{query}"), &more, package)
    };
    let wider = next(128 << 20);
    let problem = upgrade(&wider, "").refuses(409, "grant-widens");
    let digest = problem["grant"]["digest"].as_str().unwrap();
    let upgraded = upgrade(&wider, &format!("?accept_grant={digest}")).is(200).json();
    let expected = json!({
        "id": "good/probe", "from": "1.0.0", "to": "1.1.0", "state": "enabled", "changed": true,
    });
    assert_eq!(upgraded, expected);
    upgrade(&first, "").refuses(409, "downgrade");
    let back = server.post(&format!("{addon}/rollback"), &json!({})).is(200).json();
    assert_eq!((&back["from"], &back["to"]), (&json!("1.1.0"), &json!("1.0.0")));
    server.post(&format!("{addon}/rollback"), &json!({})).refuses(404, "no-earlier-version");
}

#[test]
fn a_dump_streams_out_and_in_again_and_is_whole_or_broken() {
    let lab = Lab::new();
    let package = packed(&lab, root().join("guest-examples/app-secrets").to_str().unwrap());
    let server = Serving::start(&lab);
    server.install_and_enable(&package, SECRETS);
    let of = |app: &str| format!("/v1/apps/{app}/addons/{SECRETS}");
    for app in ["shop", "blog"] {
        server.put(&of(app), &json!({})).is(201);
    }
    let env = |app: &str| server.get(&format!("/v1/apps/{app}/env")).is(200).json();
    assert_ne!(env("shop"), env("blog"));
    let dump = server.get(&format!("{}/dump", of("shop"))).is(200);
    assert_eq!(dump.body, lab.lodger(&["dump", "shop", SECRETS]).ok().stdout.as_bytes());
    let restore = format!("{}/restore", of("blog"));
    let more = format!("{}Content-Type: application/octet-stream\r\n", server.bearer());
    let restored = server.ask("PUT", &restore, &more, &dump.body).is(200).json();
    assert_eq!(restored["bytes"], dump.body.len());
    assert_eq!(env("blog"), env("shop"));
    server.get(&format!("{}/dump", of("wiki"))).refuses(404, "unknown-resource");
    server.ask("PUT", &restore, &more, b"nonsense").refuses(422, "refused");

    // A body that breaks off is not taken for one that ended.
    let before = env("blog");
    let mut stream = server.connect();
    let host = &server.address;
    let head = format!("PUT {restore} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{more}\r\n", dump.body.len());
    let half = [head.as_bytes(), &dump.body[..dump.body.len() / 2]].concat();
    std::io::Write::write_all(&mut stream, &half).unwrap();
    drop(stream);
    let call = until(|| {
        let calls = server.get("/v1/calls").is(200).json();
        let newest = calls["items"].as_array().unwrap().iter().find(|call| call["hook"] == "restore").unwrap().clone();
        newest["detail"].as_str().is_some_and(|detail| detail.starts_with("broken-stream")).then_some(newest)
    });
    assert_eq!(call["outcome"], "refused");
    assert_eq!(env("blog"), before);

    // Nor is a dump that breaks off a dump: it has no end.
    let mut manifest = probe_manifest("greedy", 2000);
    manifest["config_vars"] = json!(["PROBE_URL"]);
    let endless = lab.package("greedy", &manifest, component("dump_endless"));
    server.install_and_enable(&packed(&lab, endless.to_str().unwrap()), "greedy/probe");
    server.put("/v1/apps/shop/addons/greedy/probe", &json!({})).is(201);
    let broken = server.get("/v1/apps/shop/addons/greedy/probe/dump");
    assert!(broken.status == 200 && !broken.whole && !broken.body.is_empty(), "{}", broken.status);
}

#[test]
fn calls_and_logs_come_page_by_page() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    for app in ["one", "two", "three"] {
        lab.lodger(&["add", app, addon]).ok();
        lab.lodger(&["remove", app, addon]).ok();
    }
    let server = Serving::start(&lab);
    let all = lab.json(&["calls", addon]);
    let all = all.as_array().unwrap();
    assert!(all.len() > 7, "{all:?}");
    let path = format!("/v1/addons/{addon}/calls");
    for limit in [1, 3, all.len(), 1000] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("{path}?limit={limit}{cursor}")).is(200).json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            seen.extend(items.clone());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, *all, "{limit}");
    }
    let logs = format!("/v1/addons/{addon}/logs");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{logs}?limit=2{cursor}")).is(200).json();
        seen.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(json!(seen), lab.json(&["logs", addon]));
}

#[test]
fn hooks_that_do_not_complete_have_a_status_of_their_own() {
    let lab = Lab::new();
    let mut manifest = probe_manifest("says-no", 1000);
    manifest["config_vars"] = json!(["PROBE_URL"]);
    let refuses = lab.package("refuses", &manifest, component("refuses"));
    lab.lodger(&["install", refuses.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "says-no/probe"]).ok();
    let traps = lab.package("traps", &probe_manifest("traps", 60_000), component("panic"));
    lab.lodger(&["install", traps.to_str().unwrap(), "--yes"]).ok();
    let loops = lab.package("loops", &probe_manifest("loops", 300), component("endless_loop"));
    lab.lodger(&["install", loops.to_str().unwrap(), "--yes"]).ok();
    let server = Serving::start(&lab);
    let add = |app: &str| server.put(&format!("/v1/apps/{app}/addons/says-no/probe"), &json!({}));
    for (app, status) in [("conflict", 422), ("denied", 422), ("other", 422), ("unavailable", 503)] {
        let problem = add(app).refuses(status, "refused");
        assert!(problem["detail"].as_str().unwrap().contains(&format!("this is {app}")), "{problem}");
        assert_eq!(problem["hint"], "`lodger logs says-no/probe` shows what it said");
    }
    server.post("/v1/addons/traps/probe/enable", &json!({})).refuses(502, "trapped");
    server.post("/v1/addons/loops/probe/enable", &json!({})).refuses(504, "deadline-exceeded");
    server.post("/v1/addons/loops/probe/rollback", &json!({})).refuses(404, "no-earlier-version");

    let metrics = server.get("/metrics").is(200);
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    let metrics = metrics.text();
    for line in [
        "lodger_calls_total{addon=\"says-no/probe\",hook=\"provision\",outcome=\"refused\"} 4",
        "lodger_calls_total{addon=\"traps/probe\",hook=\"enable\",outcome=\"trapped\"} 1",
        "lodger_calls_total{addon=\"loops/probe\",hook=\"enable\",outcome=\"deadline-exceeded\"} 1",
        "lodger_call_seconds_bucket{addon=\"loops/probe\",hook=\"enable\",le=\"0.1\"} 0",
        "lodger_call_seconds_bucket{addon=\"loops/probe\",hook=\"enable\",le=\"+Inf\"} 1",
        "lodger_call_seconds_count{addon=\"says-no/probe\",hook=\"provision\"} 4",
        "lodger_data_max_bytes{addon=\"traps/probe\"} 1048576",
        "lodger_services{state=\"running\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    assert!(metrics.contains("route=\"/v1/addons/{namespace}/{name}/enable\",status=\"502\"} 1"), "{metrics}");
    // Every line is one of the format's.
    for line in metrics.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok() && name.starts_with(|c: char| c.is_ascii_lowercase()), "{line}");
    }
}

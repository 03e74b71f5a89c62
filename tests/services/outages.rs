//! An engine that is stopped, killed and started again under the feet of verbs and services, or has nothing left to give.

use serde_json::json;

use super::private::PrivateEngine;
use super::redis::url;
use super::web;
use crate::support::until;

#[test]
fn data_and_urls_survive_a_restart_of_the_engine() {
    let mut engine = PrivateEngine::new(&["redis:7"]);
    let site = engine.site();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    let shop = url(&site, "shop");
    assert!(shop.contains("@lodger-redis-") && shop.ends_with(":6379/0"), "by its name in the network of apps: {shop}");
    assert_eq!(engine.redis("SET basket full"), "OK");

    engine.stop();
    assert_eq!(url(&site, "shop"), shop, "known without an engine");
    let error = site.lodger(&["--json", "add", "blog", &redis]).fails_with(4, "engine-unreachable");
    assert!(error["message"].as_str().unwrap().contains(&engine.socket()), "{error}");
    engine.start();
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!(repaired[0]["what"], "started", "{repaired}");
    until(|| (engine.redis("PING") == "PONG").then_some(()));
    assert_eq!((engine.redis("GET basket"), url(&site, "shop")), ("full".to_owned(), shop));

    site.lodger(&["remove", "shop", &redis]).ok();
    site.lodger(&["disable", &redis]).ok();
    site.lodger(&["uninstall", &redis]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_killed_while_a_service_starts_is_waited_for_and_cleaned_up_after() {
    let mut engine = PrivateEngine::new(&["lodger-test/silent:1", "lodger-test/web:1"]);
    let site = engine.site();
    let mut mute = web("mute");
    mute["image"] = json!("lodger-test/silent:1");
    mute["ready"]["timeout_ms"] = json!(60_000);
    let addon = site.install("mute", json!([mute]));
    let running = site.lab.start(&["--json", "enable", &addon]);
    until(|| (engine.containers() > 0).then_some(()));
    engine.kill();
    running.wait().fails_with(4, "engine-unreachable");
    assert_eq!(site.state(&addon), "failed{enable}");

    engine.start();
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_killed_while_a_resource_goes_is_cleaned_up_after() {
    let mut engine = PrivateEngine::new(&["redis:7"]);
    let site = engine.site();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    // Paused, it takes as long to stop as it is given.
    let listed = engine.docker().args(["ps", "--quiet"]).output().unwrap();
    let container = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
    assert!(engine.docker().args(["pause", &container]).output().unwrap().status.success());
    let running = site.lab.start(&["remove", "shop", &redis]);
    until(|| (site.lab.json(&["apps"]) == json!({})).then_some(()));
    engine.kill();
    running.wait().ok();
    assert_eq!(site.lab.json(&["apps"]), json!({}), "it is gone, and its container is recorded as to go");

    engine.start();
    site.lodger(&["reconcile"]).ok();
    assert_eq!(engine.containers(), 0);
    site.lodger(&["disable", &redis]).ok();
    site.lodger(&["uninstall", &redis]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_without_room_says_so_and_is_used_again_when_it_has_some() {
    let engine = PrivateEngine::with_disk(Some("64m"), &["--iptables=false"], &["lodger-test/web:1"]);
    let site = engine.site();
    let addon = site.install("web", json!([web("one")]));
    let no_room = |said: &str| assert!(said.contains("no space left on device"), "{said}");

    engine.fill();
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(4, "engine");
    no_room(error["message"].as_str().unwrap());
    assert_eq!((site.state(&addon).as_str(), engine.containers()), ("failed{enable}", 0));
    engine.empty();
    site.lodger(&["enable", &addon]).ok();

    let listed = engine.docker().args(["ps", "--quiet"]).output().unwrap();
    let container = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
    assert!(engine.docker().args(["rm", "--force", &container]).output().unwrap().status.success());
    engine.fill();
    let repaired = site.lodger(&["--json", "reconcile"]).exits(1).json();
    assert_eq!(repaired[0]["what"], "failed", "{repaired}");
    no_room(repaired[0]["why"].as_str().unwrap());
    assert_eq!((site.state(&addon).as_str(), engine.containers()), ("degraded", 0));
    engine.empty();
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "made");
    assert_eq!((site.state(&addon).as_str(), site.lab.json(&["reconcile"])), ("enabled", json!([])));

    // Whatever can go without room goes, and the rest when there is some.
    engine.fill();
    let ran = site.lodger(&["disable", &addon]);
    assert!(ran.code == 0 || ran.stderr.contains("no space left on device"), "{ran:?}");
    assert_eq!((site.state(&addon).as_str(), engine.containers()), ("installed", 0));
    engine.empty();
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_without_addresses_for_a_network_says_what_gives_it_more() {
    // One for the engine's own network, one for that of apps.
    let options = &["--iptables=false", "--default-address-pool", "base=10.201.0.0/24,size=25"];
    let engine = PrivateEngine::with(options, &["lodger-test/web:1"]);
    let site = engine.site();
    let addon = site.install("web", json!([web("web")]));
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(4, "engine");
    assert!(error["message"].as_str().unwrap().contains("could not create the network"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("\"default-address-pools\": [{"), "{error}");
    assert_eq!(site.state(&addon), "failed{enable}");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    engine.is_empty();
}

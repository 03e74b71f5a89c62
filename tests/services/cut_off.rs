//! An engine that goes at every single thing that it is asked to change, and lodger killed when the engine has done it and
//! before it knows. Whoever comes next finishes it, and nothing is left that nobody owns. And engines that fall silent or
//! refuse.

use serde_json::{Value, json};

use super::{Site, docker, web};
use crate::engine::socket;
use crate::proxy::{Fault, Proxy};
use crate::support::Ran;

/// A home whose engine is behind a proxy.
fn site(proxy: &Proxy) -> Site {
    let site = Site::new();
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}{}", proxy.policy()));
    site
}

/// Cuts `verb` off at each change it asks for, every time in another home that `prepare` has made ready, and sees what
/// `afterwards` finds when its services were looked after. An engine that goes ends the verb with `gone`.
fn at_every_change(prepare: fn(&Site) -> String, verb: &[&str], gone: i32, afterwards: fn(&Site, &str)) {
    let run = |fault: Option<(usize, Fault)>| {
        let proxy = Proxy::new(socket());
        let site = site(&proxy);
        let addon = prepare(&site);
        proxy.changes();
        if let Some((nth, fault)) = fault {
            proxy.meddle("", nth, fault);
        }
        let verb: Vec<_> = verb.iter().map(|word| if *word == "ADDON" { &*addon } else { word }).collect();
        let running = site.lab.start(&verb);
        proxy.victim(&running);
        let ran = running.wait();
        let changes = proxy.changes();
        let expected = match fault {
            None => 0,
            Some((_, Fault::Gone)) => gone,
            Some(_) => -9,
        };
        assert_eq!(ran.code, expected, "{fault:?} of {changes:?}: {ran:?}");
        proxy.back();
        site.lodger(&["reconcile"]).ok();
        assert_eq!(site.lab.json(&["reconcile"]), json!([]), "after {fault:?} of {changes:?} all is as it should be");
        afterwards(&site, &addon);
        site.has_nothing();
        changes.len()
    };
    let changes = run(None);
    assert!(changes > 1);
    // One of them at each in every run, and both where that is asked for.
    let all = std::env::var_os("LODGER_TEST_FULL").is_some();
    for nth in 0..changes {
        for (fault, turn) in [(Fault::KillAfter, 0), (Fault::Gone, 1)] {
            if all || (nth + std::process::id() as usize) % 2 == turn {
                run(Some((nth, fault)));
            }
        }
    }
}

/// With everything that a container may need: two networks, a volume, a port.
fn with_data(version: &str) -> Value {
    let mut service = web("main");
    service["networks"] = json!(["own"]);
    service["volumes"] = json!(["data:/data"]);
    json!({
        "name": "web", "version": version, "services": [service], "networks": ["own"],
        "volumes": [{ "name": "data", "driver": "local" }],
    })
}

fn web_with_data(site: &Site) -> String {
    site.install_with(with_data("1.0.0"))
}

fn enabled_web(site: &Site) -> String {
    let addon = web_with_data(site);
    site.lodger(&["enable", &addon]).ok();
    addon
}

#[test]
fn enable() {
    at_every_change(web_with_data, &["enable", "ADDON"], 4, |site, addon| {
        site.lodger(&["enable", addon]).ok();
        assert_eq!((site.state(addon).as_str(), site.has("containers").len()), ("enabled", 1));
        assert_eq!(site.lab.json(&["reconcile"]), json!([]));
        site.lodger(&["disable", addon]).ok();
        site.lodger(&["uninstall", addon]).ok();
    });
}

#[test]
fn disable() {
    at_every_change(enabled_web, &["disable", "ADDON"], 4, |site, addon| {
        assert_eq!((site.has("containers").len(), site.has("networks").len()), (0, 0));
        assert_eq!(site.has("volumes").len(), 1, "disabling keeps data");
        assert_eq!(site.state(addon), "installed");
        assert_eq!(site.lab.json(&["disable", addon])["changed"], false);
        site.lodger(&["enable", addon]).ok();
        assert_eq!(site.has("containers").len(), 1);
        site.lodger(&["disable", addon]).ok();
        site.lodger(&["uninstall", addon]).ok();
    });
}

/// With a hook of its own that is asked first.
fn enabled_guest(site: &Site) -> String {
    let addon = site.install_with(json!({
        "name": "guest", "version": "1.0.0", "component": "services_crowd.wasm", "config_vars": ["GUEST_URL"],
        "capabilities": { "services": true },
        "services": [{ "service_name": "main", "image": "lodger-test/shell:1", "start": "manual" }],
    }));
    site.lodger(&["enable", &addon]).ok();
    addon
}

#[test]
fn disable_after_its_hook() {
    at_every_change(enabled_guest, &["disable", "ADDON"], 4, |site, addon| {
        assert_eq!((site.has("containers").len(), site.has("networks").len()), (0, 0));
        assert_eq!(site.state(addon), "installed");
        site.lodger(&["uninstall", addon]).ok();
    });
}

/// One that was never well, and has left what runs beside it.
fn failed_web(site: &Site) -> String {
    let mut service = web("main");
    service["volumes"] = json!(["data:/data"]);
    let broken = json!({ "service_name": "second", "image": "lodger-test/exits:1" });
    let addon = site.install_with(json!({
        "name": "web", "version": "1.0.0", "services": [service, broken],
        "volumes": [{ "name": "data", "driver": "local" }],
    }));
    site.lodger(&["enable", &addon]).exits(1);
    addon
}

#[test]
fn uninstall() {
    at_every_change(failed_web, &["uninstall", "ADDON"], 4, |site, addon| {
        if site.lab.json(&["list"]) != json!([]) {
            site.lodger(&["uninstall", addon]).ok();
        }
    });
}

fn enabled_redis(site: &Site) -> String {
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    redis
}

#[test]
fn add() {
    at_every_change(enabled_redis, &["add", "shop", "ADDON"], 1, |site, redis| {
        let added = site.lab.json(&["add", "shop", redis]);
        assert_eq!(site.lab.json(&["env", "shop"]), added["config"]);
        assert_eq!(site.has("containers").len(), 1);
        site.lodger(&["remove", "shop", redis]).ok();
        assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 0));
        site.lodger(&["disable", redis]).ok();
        site.lodger(&["uninstall", redis]).ok();
    });
}

fn added_redis(site: &Site) -> String {
    let redis = enabled_redis(site);
    site.lodger(&["add", "shop", &redis]).ok();
    redis
}

#[test]
fn remove() {
    at_every_change(added_redis, &["remove", "shop", "ADDON"], 0, |site, redis| {
        assert_eq!(site.lab.json(&["apps"]), json!({}));
        assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 0));
        let removed = site.lab.json(&["remove", "shop", redis]);
        assert_eq!(removed["changed"], false);
        site.lodger(&["disable", redis]).ok();
        site.lodger(&["uninstall", redis]).ok();
    });
}

/// Kills an upgrade while it copies a volume, and tells what it leaves to do that with.
fn killed_while_it_copies(proxy: &Proxy, site: &Site, addon: &str) -> String {
    let package = site.package(with_data("1.1.0"));
    proxy.meddle("/archive", 0, Fault::KillBefore);
    let upgrading = site.lab.start(&["upgrade", addon, package.to_str().unwrap()]);
    proxy.victim(&upgrading);
    upgrading.wait().exits(-9);
    let [helper] = &helpers(site)[..] else { panic!("one") };
    helper.clone()
}

fn helpers(site: &Site) -> Vec<String> {
    site.has("containers").into_iter().filter(|name| name.starts_with("lodger-helper-")).collect()
}

#[test]
fn what_a_killed_host_has_left_of_a_copy_goes_and_nothing_else() {
    let proxy = Proxy::new(socket());
    let site = site(&proxy);
    let addon = enabled_web(&site);
    let containers = site.has("containers");
    let helper = killed_while_it_copies(&proxy, &site, &addon);
    // One of another home, and one that says that it is this home's.
    let label = |label: &str| {
        let format = format!("{{{{index .Config.Labels {label:?}}}}}");
        format!("--label={label}={}", docker(&["inspect", "--format", &format, &helper]).trim())
    };
    let [of, ours, spec, helps] = ["lodger.addon", "lodger.home", "lodger.spec", "lodger.helper"].map(label);
    let other = "--label=lodger.home=0123456789abcdef".to_owned();
    let made = [(ours, "forged"), (other, "other")].map(|(home, name)| {
        let name = format!("{helper}-{name}");
        docker(&["create", "--name", &name, &of, &home, &spec, &helps, "lodger-test/shell:1"]);
        name
    });
    site.lodger(&["reconcile"]).ok();
    assert_eq!(helpers(&site), made);
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    let left = [&containers[..], &made].concat();
    assert!(site.has("containers").iter().all(|name| left.contains(name)));

    // Whatever comes next does it, too.
    for name in &made {
        docker(&["rm", name]);
    }
    killed_while_it_copies(&proxy, &site, &addon);
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn an_engine_that_falls_silent_is_given_up_after_a_while() {
    // Each waits as long as an engine may take to answer; all at once.
    std::thread::scope(|tests| {
        tests.spawn(|| {
            let proxy = Proxy::new(socket());
            let site = site(&proxy);
            let addon = web_with_data(&site);
            proxy.meddle("GET /networks", 0, Fault::Silence);
            unanswered(&site.lodger(&["--json", "enable", &addon]));
            assert_eq!(site.state(&addon), "failed{enable}");
            proxy.back();
            site.lodger(&["enable", &addon]).ok();
        });
        tests.spawn(|| {
            let proxy = Proxy::new(socket());
            let site = site(&proxy);
            let redis = enabled_redis(&site);
            proxy.meddle("GET /containers/lodger-redis", 0, Fault::Silence);
            let ran = site.lodger(&["add", "shop", &redis]).exits(1);
            assert!(ran.stderr.contains("unavailable"), "{ran:?}");
            assert_eq!(site.lab.json(&["apps"]), json!({}), "the guest has given it up");
            proxy.back();
            site.lodger(&["reconcile"]).ok();
            assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 0));
            site.lodger(&["add", "shop", &redis]).ok();
        });
        tests.spawn(|| {
            let proxy = Proxy::new(socket());
            let site = site(&proxy);
            let redis = added_redis(&site);
            let there = (site.has("containers"), site.has("volumes"), site.lab.json(&["apps"]));
            proxy.meddle("GET /containers/json", 0, Fault::Silence);
            unanswered(&site.lodger(&["--json", "remove", "shop", &redis]));
            assert_eq!((site.has("containers"), site.has("volumes"), site.lab.json(&["apps"])), there);
            proxy.back();
            site.lodger(&["remove", "shop", &redis]).ok();
            assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 0));
        });
    });
}

fn unanswered(ran: &Ran) {
    let error = ran.fails_with(4, "engine-unreachable");
    assert!(error["message"].as_str().unwrap().contains("did not answer"), "{error}");
}

#[test]
fn an_engine_that_cannot_keep_an_image_says_so_and_nothing_is_installed() {
    let proxy = Proxy::new(socket());
    let site = site(&proxy);
    let mut service = web("main");
    service["image"] = json!("lodger-test/not-there:1");
    let package = site.package(json!({ "name": "web", "version": "1.0.0", "services": [service] }));
    proxy.meddle("POST /images/create", 0, Fault::Refusal(500, "write /layer: no space left on device"));
    let error = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, "image");
    assert!(proxy.has_met());
    assert!(error["message"].as_str().unwrap().contains("no space left on device"), "{error}");
    assert_eq!(site.lab.json(&["list"]), json!([]));
}

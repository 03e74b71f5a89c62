//! Versions of addons with services: volumes, containers and ports go along, there and back.

use serde_json::json;

use super::{Site, postgres, redis};

#[test]
fn a_postgres_that_takes_no_writes_is_left_again_with_all_rows_under_the_same_url() {
    let (site, addon) = postgres::enabled();
    site.lodger(&["add", "shop", &addon]).ok();
    let url = postgres::url(&site, "shop");
    postgres::ask(&url, "CREATE TABLE basket AS SELECT n FROM generate_series(1, 1000) n");
    let volumes = site.has("volumes");

    let ill = site.version("postgres", "1.1.0", |manifest| {
        manifest["services"][0]["command"] = json!(["postgres", "-c", "default_transaction_read_only=on"]);
    });
    let error = site.lodger(&["--json", "upgrade", &addon, &ill]).fails_with(1, "refused");
    assert!(error["message"].as_str().unwrap().contains("the server takes no writes"), "{error}");
    assert_eq!(
        (site.state(&addon).as_str(), site.lab.json(&["info", &addon])["version"].clone()),
        ("enabled", json!("1.0.0"))
    );
    assert_eq!((postgres::url(&site, "shop"), site.has("volumes")), (url.clone(), volumes.clone()));
    assert_eq!(postgres::ask(&url, "SELECT sum(n) FROM basket"), "500500");
    postgres::ask(&url, "INSERT INTO basket VALUES (0)");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));

    // One that is fit takes over, and is gone back from: what was written since is gone, and nothing else.
    let fit = site.version("postgres", "1.1.0", |manifest| {
        manifest["services"][0]["limits"]["memory_bytes"] = json!(201_326_592);
    });
    site.lodger(&["upgrade", &addon, &fit]).ok();
    assert_eq!(postgres::url(&site, "shop"), url);
    let server = site.has("containers").remove(0);
    let memory = || super::docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &server]).trim().to_owned();
    assert_eq!(memory(), "201326592");
    postgres::ask(&url, "DELETE FROM basket");
    site.lodger(&["rollback", &addon, "--yes"]).ok();
    assert_eq!((memory().as_str(), postgres::url(&site, "shop")), ("268435456", url.clone()));
    assert_eq!(postgres::ask(&url, "SELECT count(*) FROM basket"), "1001");
    assert_eq!(site.has("volumes"), volumes);

    site.lodger(&["disable", &addon, "--force"]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn services_that_a_version_adds_and_drops_come_and_go_with_it() {
    let site = Site::new();
    let services = |names: &[&str]| {
        let services = names.iter().map(|name| {
            let mut service = super::web(name);
            service["volumes"] = json!([format!("{name}:/data")]);
            service
        });
        let volumes: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "name": "web", "version": "1.0.0", "services": services.collect::<Vec<_>>(), "volumes": volumes })
    };
    let addon = site.install_with(services(&["one", "two"]));
    site.lodger(&["enable", &addon]).ok();
    let before = (site.has("containers"), site.has("volumes"));
    assert_eq!((before.0.len(), before.1.len()), (2, 2));

    let mut later = services(&["two", "three"]);
    later["version"] = json!("1.1.0");
    let package = site.package(later);
    let plan = site.lab.json(&["upgrade", &addon, package.to_str().unwrap(), "--dry-run"]);
    assert!(plan["widens"].to_string().contains("as its service three"), "{plan}");
    let grant = plan["grant"].as_str().unwrap();
    site.lodger(&["upgrade", &addon, package.to_str().unwrap(), "--accept-grant", grant]).ok();
    let after = (site.has("containers"), site.has("volumes"));
    let has = |names: &[String], part: &str| names.iter().any(|name| name.contains(part));
    for names in [&after.0, &after.1] {
        assert!(!has(names, "-one-") && has(names, "-two-") && has(names, "-three-") && names.len() == 2, "{names:?}");
    }
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    site.lodger(&["rollback", &addon, "--yes"]).ok();
    assert_eq!((site.has("containers"), site.has("volumes")), before);
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
}

#[test]
fn every_apps_redis_is_taken_along_and_back() {
    let site = Site::new();
    let addon = site.example("redis");
    site.lodger(&["enable", &addon]).ok();
    let urls = ["shop", "blog"].map(|app| {
        site.lodger(&["add", app, &addon]).ok();
        let url = redis::url(&site, app);
        assert_eq!(redis::Client::new(&url).ask(&["SET", "name", app]), "+OK");
        url
    });
    let later = site.version("redis", "1.1.0", |manifest| {
        manifest["services"][0]["limits"]["memory_bytes"] = json!(100_663_296);
    });
    site.lodger(&["upgrade", &addon, &later]).ok();
    for (app, url) in ["shop", "blog"].iter().zip(&urls) {
        assert_eq!(redis::url(&site, app), *url);
        assert_eq!(redis::Client::new(url).ask(&["GET", "name"]), *app);
        assert_eq!(redis::Client::new(url).ask(&["SET", "name", "other"]), "+OK");
    }
    site.lodger(&["remove", "blog", &addon]).ok();
    site.lodger(&["rollback", &addon, "--yes"]).ok();
    assert_eq!(redis::Client::new(&urls[0]).ask(&["GET", "name"]), "shop");
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (1, 1), "what an app gave up stays gone");
}

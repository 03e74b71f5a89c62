//! Backups of homes with services: what is in volumes goes along, and comes up again in another home.

use serde_json::{Value, json};

use super::{Site, postgres, redis};
use crate::kill_points::{kill_at, points};
use crate::lifecycle::backup::{back_up, restore, with_file};

/// Redis for two apps, one of which gave it up and keeps it; PostgreSQL for one; each with something in it.
fn furnished() -> (Site, Vec<u8>) {
    let (site, postgres) = postgres::enabled();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    for (app, addon) in [("shop", &redis), ("blog", &redis), ("shop", &postgres)] {
        site.lodger(&["add", app, addon]).ok();
    }
    for app in ["shop", "blog"] {
        assert_eq!(redis::Client::new(&redis::url(&site, app)).ask(&["SET", "name", app]), "+OK");
    }
    postgres::ask(&postgres::url(&site, "shop"), "CREATE TABLE basket AS SELECT n FROM generate_series(1, 1000) n");
    site.lodger(&["remove", "blog", &redis, "--keep-data"]).ok();
    let done = back_up(&site.lab);
    assert_eq!((&done["addons"], &done["resources"], &done["volumes"]), (&json!(2), &json!(3), &json!(3)), "{done}");
    let backup = std::fs::read(site.lab.path("home.backup")).unwrap();
    (site, backup)
}

/// What apps find where their URLs lead.
#[track_caller]
fn serves(site: &Site) {
    assert_eq!(redis::Client::new(&redis::url(site, "shop")).ask(&["GET", "name"]), "shop");
    assert_eq!(postgres::ask(&postgres::url(site, "shop"), "SELECT sum(n) FROM basket"), "500500");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
}

/// A site with the policy of another, and nothing in it.
fn like(site: &Site) -> Site {
    let other = Site::new();
    other.lab.policy(&std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap());
    other
}

#[test]
fn services_come_up_in_another_home_with_their_data_and_their_ports_where_those_are_free() {
    let (site, backup) = furnished();
    serves(&site);
    let urls = (redis::url(&site, "shop"), postgres::url(&site, "shop"));
    let there = (site.has("containers"), site.has("volumes"));

    // On the same engine, beside the first: under other names, at other ports.
    let beside = like(&site);
    let done = restore(&beside.lab, &backup).ok().json();
    assert_eq!(done, json!({ "addons": 2, "resources": 3, "volumes": 3, "not_up": [] }));
    serves(&beside);
    assert_ne!((redis::url(&beside, "shop"), postgres::url(&beside, "shop")), urls);
    let both = (site.has("containers"), site.has("volumes"));
    assert_eq!((both.0.len(), both.1.len()), (there.0.len() * 2, there.1.len() * 2));
    postgres::ask(&postgres::url(&beside, "shop"), "DELETE FROM basket");
    serves(&site);
    let redis = format!("{}/redis", site.namespace);
    beside.lodger(&["add", "blog", &redis]).ok();
    assert_eq!(redis::Client::new(&redis::url(&beside, "blog")).ask(&["GET", "name"]), "blog");
    assert_eq!(redis::url(&site, "shop"), urls.0);
    site.lodger(&["remove", "blog", &redis]).ok();
    for addon in ["redis", "postgres"] {
        let addon = format!("{}/{addon}", site.namespace);
        for site in [&site, &beside] {
            site.lodger(&["disable", &addon, "--force"]).ok();
            site.lodger(&["uninstall", &addon, "--yes"]).ok();
        }
    }
    site.has_nothing();

    // In place of the first: under the same URLs.
    let instead = like(&site);
    restore(&instead.lab, &backup).ok();
    serves(&instead);
    assert_eq!((redis::url(&instead, "shop"), postgres::url(&instead, "shop")), urls);
}

#[test]
fn an_image_that_is_another_here_and_an_engine_that_is_unknown_are_refused_with_nothing_left() {
    let site = Site::new();
    let addon = site.install_with(json!({
        "name": "web", "version": "1.0.0", "services": [super::web("web")],
    }));
    site.lodger(&["enable", &addon]).ok();
    back_up(&site.lab);
    let backup = std::fs::read(site.lab.path("home.backup")).unwrap();
    let containers = site.has("containers");
    let other = Site::new();
    other.lab.policy("[grant]\nunpinned = []\n");
    restore(&other.lab, &backup).fails_with(1, "image");
    other.lab.policy("[grant]\nunpinned = [\"docker.io/lodger-test/*\"]\n[[engine]]\nname = \"far\"\nsocket = \"/var/run/docker.sock\"\n");
    let error = restore(&other.lab, &backup).fails_with(4, "unknown-engine");
    assert!(error["hint"].as_str().unwrap().contains("name = \"local\""), "{error}");
    other.lab.policy(
        "[grant]\nunpinned = [\"docker.io/lodger-test/*\"]\n[[engine]]\nname = \"local\"\nsocket = \"/nowhere\"\n",
    );
    restore(&other.lab, &backup).fails_with(4, "engine-unreachable");
    assert_eq!((other.lab.json(&["list"]), site.has("containers")), (json!([]), containers));
}

#[test]
fn killed_at_work_neither_leaves_services_halted_nor_anything_of_a_restore() {
    let site = Site::new();
    let addon = site.example("redis");
    site.lodger(&["enable", &addon]).ok();
    site.lodger(&["add", "wiki", &addon]).ok();
    let url = redis::url(&site, "wiki");
    assert_eq!(redis::Client::new(&url).ask(&["SET", "page", "first"]), "+OK");
    let lab = &site.lab;
    let verb = with_file(lab, "backup", "home.backup", &[]);
    let all = points(lab, &verb);
    let backup = std::fs::read(lab.path("home.backup")).unwrap();
    let halted = all.iter().position(|point| point.contains("stop")).unwrap();
    for number in [halted + 1, halted + 2, all.len() - 2] {
        kill_at(lab, &verb, number);
        let repairs = lab.json(&["reconcile"]);
        assert!(repairs.as_array().unwrap().iter().all(|repair: &Value| repair["what"] == "started"), "{repairs}");
        redis::wait_for(&url);
        assert_eq!(redis::Client::new(&url).ask(&["GET", "page"]), "first");
        assert_eq!(std::fs::read(lab.path("home.backup")).unwrap(), backup, "{}", all[number - 1]);
        assert_eq!((site.has("containers").len(), site.has("volumes").len()), (1, 1));
    }

    let other = like(&site);
    other.lab.write("home.backup", &backup);
    let verb = with_file(&other.lab, "restore-home", "home.backup", &["--yes"]);
    let made = like(&site);
    made.lab.write("home.backup", &backup);
    let all = points(&made.lab, &with_file(&made.lab, "restore-home", "home.backup", &["--yes"]));
    let import = all.iter().position(|point| point.contains("import")).unwrap();
    kill_at(&other.lab, &verb, import + 1);
    assert_eq!((other.lab.json(&["list"]), site.has("volumes").len()), (json!([]), 3));
    other.lodger(&verb).ok();
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (3, 3));
    assert_eq!(redis::Client::new(&redis::url(&other, "wiki")).ask(&["GET", "page"]), "first");
}

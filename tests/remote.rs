//! Addons whose hooks are requests to a provider elsewhere: taken in by its manifest, in its life, and when it does ill.

mod hostile;
mod import;
mod kill_points;
mod lodger;

use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use crate::support::Lab;
use crate::upstream::{Asked, BASIC, Does, PASSWORD, SALT, USER, Upstream, policy};

pub const ADDON: &str = "local/example";

/// A home that may ask a provider on this machine, with its manifest beside it.
pub fn lab_at(port: u16, manifest: &Value) -> Lab {
    let lab = Lab::new();
    lab.policy(&policy(port));
    lab.write("manifest.json", manifest.to_string());
    lab
}

pub fn lab(upstream: &Upstream, manifest: &Value) -> Lab {
    lab_at(upstream.port, manifest)
}

/// The same with the provider as an addon that is enabled.
pub fn enabled(upstream: &Upstream, manifest: &Value) -> Lab {
    let lab = lab(upstream, manifest);
    lab.lodger(&["import", "manifest.json", "--yes"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    lab
}

/// The same with another `addon.json`, and more of a policy.
pub fn enabled_as(upstream: &Upstream, more: &str, change: impl FnOnce(&mut Value)) -> Lab {
    let lab = lab(upstream, &upstream.scalingo());
    lab.policy(&format!("{}{more}", policy(upstream.port)));
    lab.lodger(&["import", "manifest.json", "--output", "package"]).ok();
    let path = lab.path("package/addon.json");
    let mut addon: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut addon);
    std::fs::write(&path, addon.to_string()).unwrap();
    lab.lodger(&["install", "./package", "--yes"]).ok();
    lab.with_stdin(&["set", ADDON, "PROVIDER_PASSWORD=-"], PASSWORD).ok();
    lab.lodger(&["enable", ADDON]).ok();
    lab
}

/// Outcomes of the calls of hooks that change something, the oldest first.
pub fn outcomes(lab: &Lab) -> Vec<String> {
    let calls = lab.json(&["calls", ADDON]);
    let calls = calls.as_array().unwrap().iter().rev().filter(|call| call["hook"] != "config-vars");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    calls.map(|call| format!("{} {}", text(&call["hook"]), text(&call["outcome"]))).collect()
}

/// What the provider and the store have is the same.
#[track_caller]
pub fn agree(lab: &Lab, upstream: &Upstream, point: &str) {
    let apps = lab.json(&["apps"]);
    let mut here: Vec<(String, String, String)> = Vec::new();
    for (app, resources) in apps.as_object().unwrap() {
        for resource in resources.as_array().unwrap() {
            assert!(matches!(resource["state"].as_str().unwrap(), "active" | "suspended"), "{point}: {apps}");
            let text = |key: &str| resource[key].as_str().unwrap().to_owned();
            here.push((app.clone(), text("id"), text("plan")));
        }
    }
    let held = upstream.held().into_values();
    let mut there: Vec<_> = held.map(|held| (held.app, held.id, held.plan)).collect();
    here.sort();
    there.sort();
    assert_eq!(here, there, "{point}");
}

fn last(upstream: &Upstream) -> Asked {
    upstream.asked().pop().unwrap()
}

#[test]
fn a_provider_lives_the_life_of_an_addon() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    assert_eq!(upstream.asked().len(), 0, "enabling asks nobody");

    let added = lab.json(&["add", "shop", ADDON, "--option", "colour=red"]);
    let asked = last(&upstream);
    let uuid = asked.body["uuid"].as_str().unwrap().to_owned();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/resources"));
    let options = json!({ "colour": "red" });
    assert_eq!(asked.body, json!({ "app_id": "shop", "plan": "free", "options": options, "uuid": uuid }));
    assert!(asked.head.contains(&format!("Basic {BASIC}")), "{}", asked.head);
    let parts: Vec<&str> = uuid.split('-').collect();
    assert!(parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts[2].starts_with('4'), "{uuid}");
    let held = upstream.held()[&uuid].clone();
    assert_eq!((&added["id"], &added["message"]), (&json!(held.id), &json!("there you are")));
    assert_eq!(added["config"], json!(held.config));

    // What it has answered is kept: nobody is asked for it again.
    upstream.requests();
    assert_eq!(lab.json(&["env", "shop"]), json!(held.config));
    assert!(lab.json(&["add", "shop", ADDON, "--option", "colour=red"])["created"] == false);
    assert_eq!(upstream.requests(), Vec::<String>::new());

    let moved = lab.json(&["plan", "shop", ADDON, "premium"]);
    assert_eq!((&moved["plan"], &moved["message"]), (&json!("premium"), &json!("it is premium now")));
    let asked = last(&upstream);
    let options = json!({ "colour": "red", "size": "512" });
    assert_eq!(asked.body, json!({ "plan": "premium", "options": options }));
    let env = lab.json(&["env", "shop"]);
    assert_eq!((&env["EXAMPLE_PLAN"], &env["EXAMPLE_URL"]), (&json!("premium"), &json!(held.config["EXAMPLE_URL"])));

    lab.lodger(&["suspend", "shop", ADDON]).ok();
    assert!(upstream.held()[&uuid].suspended && lab.json(&["apps"])["shop"][0]["state"] == "suspended");
    lab.lodger(&["resume", "shop", ADDON]).ok();
    assert!(!upstream.held()[&uuid].suspended);
    agree(&lab, &upstream, "in between");
    lab.lodger(&["remove", "shop", ADDON]).ok();
    assert_eq!((upstream.held().len(), lab.json(&["apps"])), (0, json!({})));
    let id = &held.id;
    let seen = [
        format!("PUT /resources/{id}"),
        format!("POST /resources/{id}/suspend"),
        format!("POST /resources/{id}/resume"),
        format!("DELETE /resources/{id}"),
    ];
    assert_eq!(upstream.requests(), seen);
    let outcomes = outcomes(&lab);
    assert_eq!(
        outcomes,
        ["provision", "change-plan", "suspend", "resume", "unprovision"].map(|hook| format!("{hook} completed"))
    );
    let logs = lab.lodger(&["logs", ADDON]).ok().stdout;
    assert!(logs.contains(&format!("DELETE {}/{id}: 204", upstream.base_url())), "{logs}");
    lab.lodger(&["disable", ADDON]).ok();
}

#[test]
fn heroku_names_what_it_asks_about_by_its_uuid() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.heroku());
    let added = lab.json(&["add", "shop", ADDON]);
    assert_eq!(added["plan"], "test", "the plan that every add-on of Heroku's begins with");
    let (uuid, held) = upstream.held().pop_first().unwrap();
    assert_eq!((&held.app, &added["id"]), (&"shop".to_owned(), &json!(held.id)));
    let asked = last(&upstream);
    assert!(asked.head.contains("application/vnd.heroku-addons+json; version=3"), "{}", asked.head);
    assert_eq!((&asked.body["heroku_id"], &asked.body["region"]), (&json!("shop"), &json!("eu")));
    let refused = lab.lodger(&["--json", "suspend", "shop", ADDON]).fails_with(1, "hook-missing");
    assert!(refused["hint"].as_str().unwrap().contains("to suspend and resume with"), "{refused}");

    let opened = lab.json(&["open", "shop", ADDON, "--email", "me@example.com"]);
    let fields = &opened["fields"];
    assert_eq!((&opened["post"], &opened["url"]), (&json!(true), &json!("https://dashboard.example.com/login")));
    assert_eq!((&fields["id"], &fields["resource_id"]), (&json!(uuid), &json!(uuid)));
    assert_eq!((&fields["email"], &fields["app"]), (&json!("me@example.com"), &json!("shop")));
    let link = lab.lodger(&["open", "shop", ADDON]).ok().stdout;
    assert!(link.starts_with("data:text/html;charset=utf-8,%3Cform%20method%3Dpost%20action%3D%22https"), "{link}");

    upstream.requests();
    lab.lodger(&["remove", "shop", ADDON]).ok();
    assert_eq!(upstream.requests(), [format!("DELETE /resources/{uuid}")]);
    agree(&lab, &upstream, "after it was removed");

    // Where no answer came, its uuid is enough to take it away.
    upstream.next([Does::ThenCloses]);
    lab.lodger(&["add", "shop", ADDON]).exits(3);
    let requests = upstream.requests();
    assert!(requests.len() == 2 && requests[1].starts_with("DELETE /resources/"), "{requests:?}");
    agree(&lab, &upstream, "after it was undone");
}

#[test]
fn the_link_of_single_sign_on_is_one_that_the_provider_knows() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    lab.lodger(&["add", "shop", ADDON]).ok();
    let id = upstream.held().pop_first().unwrap().1.id;
    let link = lab.lodger(&["open", "shop", ADDON]).ok().stdout;
    let (at, query) = link.trim().split_once('?').unwrap();
    assert_eq!(at, "https://dashboard.example.com/sso");
    let fields: std::collections::BTreeMap<&str, &str> =
        query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    assert_eq!(fields["id"], id);
    let mut sha1 = Sha1::new();
    sha1.update(format!("{id}:{SALT}:{}", fields["timestamp"]));
    assert_eq!(fields["token"], hex(&sha1.finalize()));

    lab.lodger(&["set", ADDON, "PROVIDER_SSO_SALT="]).ok();
    let refused = lab.lodger(&["--json", "open", "shop", ADDON]).fails_with(1, "no-sign-on");
    assert!(refused["hint"].as_str().unwrap().contains("PROVIDER_SSO_SALT"), "{refused}");
    lab.lodger(&["--json", "open", "wiki", ADDON]).fails_with(1, "unknown-resource");
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "good/probe"]).ok();
    lab.lodger(&["--json", "open", "shop", "good/probe"]).fails_with(1, "no-sign-on");
}

#[test]
fn a_provider_that_takes_its_time_is_asked_again_under_the_same_uuid() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    upstream.next([Does::Pending, Does::Pending]);
    let added = lab.json(&["add", "shop", ADDON]);
    let asked = upstream.asked();
    assert_eq!((asked.len(), upstream.held().len()), (3, 1));
    assert!(asked.windows(2).all(|two| two[0].body == two[1].body));
    assert_eq!(added["config"].as_object().unwrap().len(), 2);
    agree(&lab, &upstream, "when it is there");
}

#[test]
fn credentials_are_settings_and_nowhere_else() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    upstream.next([Does::Says(422, json!({ "message": format!("not for {PASSWORD}, {BASIC} or {SALT}") }))]);
    let refused = lab.lodger(&["--json", "add", "shop", ADDON]).exits(1);
    assert!(refused.stdout.contains("not for [redacted], [redacted] or [redacted]"), "{refused:?}");
    lab.lodger(&["add", "shop", ADDON]).ok();
    let config = upstream.held().pop_first().unwrap().1.config;
    upstream.next([Does::Says(422, json!({ "error": format!("you are {}", config["EXAMPLE_URL"]) }))]);
    let refused = lab.lodger(&["plan", "shop", ADDON, "premium"]).exits(1);
    assert!(refused.stderr.contains("you are [redacted]"), "{refused:?}");
    let mut shown = Vec::new();
    for verb in [&["info", ADDON][..], &["explain", ADDON], &["logs", ADDON], &["calls", ADDON], &["apps"], &["doctor"]]
    {
        shown.push(lab.lodger(&[&["--json"], verb].concat()).stdout);
        shown.push(lab.lodger(verb).stdout);
    }
    for file in lab.installed_files().iter().filter(|file| file.is_file()) {
        shown.push(std::fs::read_to_string(file).unwrap());
    }
    shown.push(String::from_utf8_lossy(&std::fs::read(lab.home().join("lodger.db")).unwrap()).into_owned());
    for text in &shown {
        for secret in [PASSWORD, SALT, BASIC, &config["EXAMPLE_URL"]] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    // Somebody has changed it: the message says where.
    lab.with_stdin(&["set", ADDON, "PROVIDER_PASSWORD=-"], "other").ok();
    let refused = lab.lodger(&["--json", "add", "wiki", ADDON]).exits(1).json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("`lodger set local/example PROVIDER_PASSWORD=-`") && message.contains(USER), "{message}");
    lab.lodger(&["set", ADDON, "PROVIDER_PASSWORD="]).ok();
    let refused = lab.lodger(&["--json", "add", "wiki", ADDON]).exits(1).stdout;
    assert!(refused.contains("PROVIDER_PASSWORD is not set"), "{refused}");
    lab.with_stdin(&["set", ADDON, "PROVIDER_PASSWORD=-"], PASSWORD).ok();
    agree(&lab, &upstream, "in the end");
}

#[test]
fn what_a_backup_holds_of_a_provider_is_there_again() {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    lab.lodger(&["add", "shop", ADDON]).ok();
    let env = lab.json(&["env", "shop"]);
    lab.write("passphrase", "a passphrase that is long enough");
    lab.lodger(&["backup", "all.backup", "--passphrase-file", "passphrase"]).ok();
    let other = Lab::new();
    other.policy(&policy(upstream.port));
    let (from, passphrase) = (lab.path("all.backup"), lab.path("passphrase"));
    let restore = ["restore-home", from.to_str().unwrap(), "--passphrase-file", passphrase.to_str().unwrap(), "--yes"];
    other.lodger(&restore).ok();
    assert_eq!(other.json(&["env", "shop"]), env);
    agree(&other, &upstream, "restored");
    other.lodger(&["remove", "shop", ADDON]).ok();
    agree(&other, &upstream, "removed");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

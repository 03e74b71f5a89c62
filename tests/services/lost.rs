//! What is gone though it should be there, and what is there though nobody wants it any more.

use serde_json::{Value, json};

use super::faults::service;
use super::{Site, docker, web};

#[test]
fn a_network_that_is_gone_is_made_again_with_what_was_in_it() {
    let site = Site::new();
    let addon = site.install("web", json!([web("one"), web("two")]));
    site.lodger(&["enable", &addon]).ok();
    for container in site.has("containers") {
        docker(&["stop", &container]);
    }
    for network in site.has("networks") {
        docker(&["network", "rm", &network]);
    }
    let repaired = site.lab.json(&["reconcile"]);
    let what: Vec<&Value> = repaired.as_array().unwrap().iter().map(|one| &one["what"]).collect();
    assert_eq!(what, ["made anew", "made anew"], "{repaired}");
    assert_eq!((site.has("containers").len(), site.has("networks").len()), (2, 2));
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
}

/// Takes away what a service has kept, the container that had it first.
fn lose_everything(site: &Site) -> String {
    docker(&["rm", "--force", &site.has("containers")[0]]);
    let volume = site.has("volumes").remove(0);
    docker(&["volume", "rm", &volume]);
    volume
}

/// What doctor has to say of lost data.
fn told(site: &Site) -> Vec<String> {
    let findings = site.lab.json(&["doctor"]);
    let messages = findings.as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap().to_owned());
    messages.filter(|message| message.contains("was gone")).collect()
}

#[test]
fn a_volume_that_is_gone_is_made_anew_and_that_is_said() {
    let site = Site::new();
    let addon = site.install("volumes", service("lodger-test/volumes:1", json!(null)));
    site.lodger(&["enable", &addon]).ok();
    // Its container alone takes nothing with it.
    docker(&["rm", "--force", &site.has("containers")[0]]);
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!((&repaired[0]["what"], &repaired[0]["why"]), (&json!("made"), &json!(null)), "{repaired}");
    assert_eq!(told(&site), Vec::<String>::new());

    let volumes = site.has("volumes");
    let lost = lose_everything(&site);
    let repaired = site.lab.json(&["reconcile"]);
    let why = format!("its volume {lost} was gone with all it held, and was made anew, empty");
    assert_eq!((&repaired[0]["what"], &repaired[0]["why"]), (&json!("made"), &json!(why)), "{repaired}");
    assert_eq!((site.has("volumes"), told(&site)), (volumes.clone(), vec![why.clone()]));
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "once");
    assert_eq!(told(&site), [why.as_str()], "but not forgotten");

    // Whoever disables it may well clear up, and is told all the same when it is enabled.
    site.lodger(&["disable", &addon]).ok();
    docker(&["volume", "rm", &volumes[1]]);
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(told(&site), [why.replace(&lost, &volumes[1])], "the other has been started anew since");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(told(&site), Vec::<String>::new());

    // What was kept and is gone when the addon comes back is missed, too; what was to go is not.
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon, "--keep-data"]).ok();
    docker(&["volume", "rm", &volumes[0]]);
    let addon = site.install("volumes", service("lodger-test/volumes:1", json!(null)));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(told(&site), [why.replace(&lost, &volumes[0])]);
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
    let addon = site.install("volumes", service("lodger-test/volumes:1", json!(null)));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(told(&site), Vec::<String>::new());
}

#[test]
fn data_of_an_app_that_is_lost_while_another_is_added_is_told_of() {
    let site = Site::new();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    let lost = lose_everything(&site);
    site.lodger(&["add", "blog", &redis]).ok();
    assert_eq!(site.has("containers").len(), 2);
    let [told] = &told(&site)[..] else { panic!("one") };
    assert!(told.contains(&lost) && told.ends_with(", of app `shop`"), "{told}");
    site.lodger(&["remove", "shop", &redis]).ok();
    assert_eq!(self::told(&site), Vec::<String>::new());
}

#[test]
fn an_addon_stays_until_all_that_it_has_can_go() {
    let site = Site::new();
    let addon = site.install("volumes", service("lodger-test/volumes:1", json!(null)));
    site.lodger(&["enable", &addon]).ok();
    site.lodger(&["disable", &addon]).ok();
    let volume = site.has("volumes").remove(0);
    let data = site.lab.data(&addon.parse().unwrap());
    // Whoever uses it, and whatever that says of itself.
    let labels = [format!("lodger.addon={addon}"), format!("lodger.helper={volume}"), "lodger.spec=a.b".to_owned()];
    let labels = labels.map(|label| format!("--label={label}"));
    let mount = format!("{volume}:/used");
    let user = docker(&["create", "--volume", &mount, &labels[0], &labels[1], &labels[2], "lodger-test/shell:1"]);
    let error = site.lodger(&["--json", "uninstall", &addon]).fails_with(1, "service");
    assert!(error["message"].as_str().unwrap().contains(&volume), "{error}");
    assert!(data.exists(), "nothing else has gone before");
    assert_eq!(site.state(&addon), "installed");
    docker(&["rm", user.trim()]);
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
    assert!(!data.exists());
}

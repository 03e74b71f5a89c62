//! Several engines, and who decides between them. One engine under two names is enough: what is recorded tells them apart.

use lodger::{Access, Outcome, Slot};
use serde_json::{Value, json};

use super::{Site, docker, web};
use crate::support::{addon, component, id, run};

const SOCKET: &str = "/var/run/docker.sock";

/// Engines `a` and `b`: `a` is first in every order but that of carbon.
fn site(slots: &str) -> Site {
    let engine = |name: &str, carbon: u32| {
        format!("[[engine]]\nname = \"{name}\"\nsocket = \"{SOCKET}\"\nlabels = {{ carbon = \"{carbon}\" }}\n")
    };
    Site::with_policy(&format!("slots = [{slots}]\n{}{}", engine("a", 300), engine("b", 30)))
}

impl Site {
    /// The engine that each instance of an addon is recorded on, in the order of their resources.
    fn engines(&self, addon: &str) -> Vec<String> {
        let store = rusqlite::Connection::open(self.lab.home().join("lodger.db")).unwrap();
        let sql = "SELECT engine FROM instance WHERE addon = ?1 ORDER BY service, resource";
        let mut statement = store.prepare(sql).unwrap();
        let found = statement.query_map([addon], |row| row.get(0)).unwrap();
        found.collect::<Result<_, _>>().unwrap()
    }

    /// Installs and enables an addon of one service, and says where it went.
    fn placed(&self, name: &str) -> String {
        let addon = self.install(name, json!([web("web")]));
        self.lodger(&["enable", &addon]).ok();
        self.engines(&addon).concat()
    }

    /// A plugin made of this component, enabled.
    fn plugin(&self, file: &str) -> String {
        let addon = self.install_with(plugin(file));
        self.lodger(&["enable", &addon]).ok();
        addon
    }

    /// The messages of `doctor` about a slot.
    fn told_of(&self, slot: &str) -> Vec<String> {
        let findings = self.lab.json(&["doctor"]);
        let about = findings.as_array().unwrap().iter().filter(|finding| finding["subject"] == format!("slot {slot}"));
        about.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Disables and uninstalls everything, after which nothing is left.
    fn clear(&self) {
        for addon in self.lab.json(&["list"]).as_array().unwrap() {
            let id = addon["id"].as_str().unwrap();
            self.lodger(&["disable", id, "--force"]).ok();
            self.lodger(&["uninstall", id, "--yes"]).ok();
        }
        self.has_nothing();
    }
}

fn plugin(file: &str) -> Value {
    json!({
        "name": file.replace('_', "-"), "version": "1.0.0", "component": format!("{file}.wasm"),
        "config_vars": [], "replaces": "scheduler",
    })
}

#[test]
fn services_are_spread_and_what_may_meet_stays_together() {
    let site = site("");
    assert_eq!(site.placed("one"), "a");
    assert_eq!(site.placed("two"), "b");
    assert_eq!(site.placed("three"), "a");
    let pair = site.install("pair", json!([web("web"), web("other")]));
    site.lodger(&["enable", &pair]).ok();
    assert_eq!(site.engines(&pair), ["b", "b"]);

    // Every app's Redis is on its own; and there they stay.
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    for app in ["shop", "blog", "wiki"] {
        site.lodger(&["add", app, &redis]).ok();
    }
    let mut there = site.engines(&redis);
    assert!(there.contains(&"a".to_owned()) && there.contains(&"b".to_owned()), "{there:?}");
    let before = site.has("containers");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "what is under the other name is not left over");
    assert_eq!(site.has("containers"), before);
    site.lodger(&["remove", "blog", &redis, "--yes"]).ok();
    assert_eq!(site.has("containers").len(), before.len() - 1);
    for name in site.has("containers") {
        docker(&["rm", "--force", &name]);
    }
    site.lodger(&["reconcile"]).ok();
    assert_eq!(site.has("containers").len(), before.len() - 1);
    site.lodger(&["add", "blog", &redis]).ok();
    there = site.engines(&redis);
    assert_eq!(there.len(), 3);
    assert_eq!(site.told_of("scheduler"), ["no addon fills it: the built-in decides"]);
    site.clear();
}

#[test]
fn an_engine_that_does_not_answer_is_left_out() {
    let site = Site::with_policy(&format!(
        "[[engine]]\nname = \"a\"\nsocket = \"/nowhere.sock\"\n[[engine]]\nname = \"b\"\nsocket = \"{SOCKET}\"\n"
    ));
    assert_eq!(site.placed("one"), "b");
    site.clear();
    let none = Site::with_policy(
        "[[engine]]\nname = \"a\"\nsocket = \"/nowhere.sock\"\n[[engine]]\nname = \"b\"\nsocket = \"/none.sock\"\n",
    );
    let addon = none.install("one", json!([web("web")]));
    none.lodger(&["--json", "enable", &addon]).fails_with(4, "engine-unreachable");
}

#[test]
fn the_green_scheduler_decides_while_it_is_enabled() {
    let site = site("\"scheduler\"");
    let green = site.example("green-scheduler");
    assert_eq!(site.placed("before"), "a");
    site.lodger(&["enable", &green]).ok();
    assert_eq!(site.placed("one"), "b");
    assert_eq!(site.placed("two"), "b");
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    site.lodger(&["add", "blog", &redis]).ok();
    assert_eq!(site.engines(&redis), ["b", "b"]);
    assert_eq!(site.told_of("scheduler"), [format!("addon `{green}` fills it")]);
    assert_eq!(site.lab.json(&["info", &green])["replaces"], "scheduler");
    let explained = site.lodger(&["explain", &green]).ok().stdout;
    assert!(explained.contains("decide on which engine the services of all other addons go"), "{explained}");

    // Its settings: a weight of nothing makes all equal, and the name decides; one that is none is its own refusal.
    site.lodger(&["set", &green, "CARBON_WEIGHT=0"]).ok();
    assert_eq!(site.placed("three"), "a");
    site.lodger(&["set", &green, "CARBON_WEIGHT=much"]).ok();
    assert_eq!(site.placed("four"), "a", "the built-in: fewest");
    let told = site.told_of("scheduler");
    assert!(told[1].contains("refused") && told[1].contains("not a number"), "{told:?}");
    site.lodger(&["set", &green, "CARBON_WEIGHT=1"]).ok();

    site.lodger(&["disable", &green]).ok();
    assert_eq!(site.placed("five"), "a", "the built-in is back");
    assert_eq!(site.told_of("scheduler"), ["no addon fills it: the built-in decides"]);
    site.clear();
}

#[test]
fn a_scheduler_that_fails_hands_back_to_the_built_in() {
    let site = site("\"scheduler\"");
    for (file, outcome, words) in [
        ("scheduler_endless", "deadline-exceeded", "1000 ms"),
        ("scheduler_elsewhere", "refused", "not among the candidates"),
    ] {
        let plugin = site.plugin(file);
        assert_eq!(site.placed("one"), "a");
        let calls = site.lab.json(&["calls", &plugin]);
        assert_eq!((&calls[0]["hook"], &calls[0]["outcome"]), (&json!("schedule"), &json!(outcome)), "{calls}");
        let told = site.told_of("scheduler");
        assert!(told[1].contains(words) && told[1].contains("the built-in stands in"), "{told:?}");
        assert!(!told[1].contains('\u{1b}'));
        site.clear();
    }
}

#[test]
fn one_addon_fills_a_slot_and_only_where_the_policy_says_so() {
    let site = site("\"scheduler\"");
    let first = site.plugin("scheduler_elsewhere");
    let second = site.install_with(plugin("scheduler_endless"));
    for args in [&["--json", "enable", &second][..], &["--json", "enable", &second, "--dry-run"]] {
        let error = site.lodger(args).fails_with(1, "slot-taken");
        assert!(error["message"].as_str().unwrap().contains(&first), "{error}");
        assert_eq!(error["hint"], format!("`lodger disable {first}` first"));
    }
    assert_eq!(site.state(&second), "installed");
    site.lodger(&["disable", &first]).ok();
    site.lodger(&["enable", &second]).ok();
    site.lodger(&["--json", "enable", &first]).fails_with(1, "slot-taken");

    let strict = Site::new();
    for (manifest, words) in [
        (plugin("green-scheduler"), "slots = [\"scheduler\"]"),
        (json!({ "name": "x", "version": "1.0.0", "component": "hello.wasm", "replaces": "kitchen" }), "scheduler"),
    ] {
        let package = strict.package(manifest);
        let error = strict.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]);
        let error = error.fails_with(1, "grant-refused");
        assert_eq!(error["problems"][0]["path"], "replaces");
        assert!(error["problems"][0]["hint"].as_str().unwrap().contains(words), "{error}");
    }
    let package = site.package(plugin("hello"));
    let error = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, "grant-refused");
    assert!(error["problems"][0]["message"].as_str().unwrap().contains("`lodger:addon/scheduler`"), "{error}");
}

#[test]
fn an_embedder_has_slots_of_its_own() {
    run(async {
        let site = Site::with_policy("slots = [\"prices\"]\n");
        let package = site.lab.package(
            "rules",
            &json!({
                "name": "rules", "version": "1.0.0", "component": "green.wasm", "replaces": "prices",
                "config_vars": [],
            }),
            component("hello"),
        );
        let export = "lodger:addon/url".to_owned();
        let host = site.lab.host_with(|config| config.slots = vec![Slot { name: id("prices"), export }]).await;
        let rules = host.install(host.inspect(&package).await.unwrap(), false).await.unwrap().id;
        assert_eq!(rules, addon("local/rules"));
        assert_eq!(host.filler("prices").unwrap(), None);
        host.enable(&rules).await.unwrap();
        assert_eq!(host.filler("prices").unwrap(), Some(rules.clone()));
        let call = host.call_world(&rules, "price", Access::ReadOnly, Box::new(()), async |store, component| {
            component.instantiate_async(store).await.map(drop)
        });
        assert_eq!(call.await.unwrap().outcome, Outcome::Completed(()));
        host.disable(&rules, false).await.unwrap();
        assert_eq!(host.filler("prices").unwrap(), None);
    });
}

//! From a provider's manifest to an addon, and what keeps one from being it.

use serde_json::{Value, json};

use super::{ADDON, lab};
use crate::support::{Lab, assert_plain, strings};
use crate::upstream::{PASSWORD, SALT, Upstream};

#[test]
fn a_manifest_becomes_an_addon_in_one_command() {
    let upstream = Upstream::start();
    let lab = lab(&upstream, &upstream.scalingo());
    let import = ["import", "manifest.json"];
    // Nobody is there to say yes.
    lab.lodger(&["--json", "import", "manifest.json"]).fails_with(1, "grant-not-accepted");
    assert_eq!(lab.json(&["list"]), json!([]));
    let dry = lab.json(&["import", "manifest.json", "--dry-run"]);
    assert_eq!((&dry["changed"], lab.json(&["list"])), (&json!(true), json!([])));
    let digest = dry["grant"]["digest"].as_str().unwrap().to_owned();
    let done = lab.json(&[&import[..], &["--accept-grant", &digest]].concat());
    assert_eq!((&done["id"], &done["changed"], &done["grant"]), (&json!(ADDON), &json!(true), &json!(digest)));
    assert_eq!(lab.json(&[&import[..], &["--yes"]].concat())["changed"], false);
    let set = lab.json(&["info", ADDON])["settings"].clone();
    let names: Vec<_> = set.as_array().unwrap().iter().map(|setting| (&setting["name"], &setting["set"])).collect();
    let [yes, password, salt] = [json!(true), json!("PROVIDER_PASSWORD"), json!("PROVIDER_SSO_SALT")];
    assert_eq!(names, [(&password, &yes), (&salt, &yes)]);

    let grant = lab.json(&["explain", ADDON]);
    assert_eq!(grant["remote"], upstream.base_url());
    assert_eq!(grant["hooks"], json!(["provision", "unprovision", "config-vars", "change-plan", "suspend", "resume"]));
    let explained = lab.lodger(&["explain", ADDON]).ok().stdout;
    for line in [
        &format!("have its hooks done by {}", upstream.base_url()),
        "ask it as scalingo does, as `platform` with the setting PROVIDER_PASSWORD",
        "send people to https://dashboard.example.com/sso",
        "run any code on this machine",
    ] {
        assert!(explained.contains(line), "{line}: {explained}");
    }

    // What the provider says another time is taken over by an upgrade.
    let mut later = upstream.scalingo();
    later["plans"].as_array_mut().unwrap().push(json!({ "name": "huge" }));
    lab.write("manifest.json", later.to_string());
    let error = lab.lodger(&["--json", "import", "manifest.json", "--yes"]).fails_with(1, "digest-changed");
    assert!(error["message"].as_str().unwrap().contains("lodger upgrade local/example DIR"), "{error}");
    lab.lodger(&["enable", ADDON]).ok();
    lab.lodger(&["add", "shop", ADDON]).ok();
    lab.lodger(&["import", "manifest.json", "--output", "later"]).ok();
    lab.lodger(&["upgrade", ADDON, "./later"]).ok();
    lab.lodger(&["plan", "shop", ADDON, "huge"]).ok();
    assert_eq!(upstream.held().pop_first().unwrap().1.plan, "huge");
}

#[test]
fn only_the_package_is_written_where_that_is_asked_for() {
    let upstream = Upstream::start();
    let lab = lab(&upstream, &upstream.heroku());
    let written =
        lab.json(&["import", "manifest.json", "--output", "out", "--name", "mine", "--plan", "basic", "--plan", "pro"]);
    assert_eq!((&written["id"], lab.json(&["list"])), (&json!("local/mine"), json!([])));
    assert_eq!(written["settings"], json!(["PROVIDER_PASSWORD", "PROVIDER_SSO_SALT"]));
    let text = std::fs::read_to_string(lab.path("out/addon.json")).unwrap();
    assert!(!text.contains(PASSWORD) && !text.contains(SALT), "{text}");
    let addon: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(addon["plans"], json!([{ "name": "basic" }, { "name": "pro" }]));
    assert_eq!((&addon["remote"]["by_uuid"], &addon["remote"]["sso_post"]), (&json!(true), &json!(true)));
    // The names of its variables are Heroku's, not of the name it was given.
    let error = lab.lodger(&["--json", "install", "./out", "--yes"]).fails_with(1, "grant-refused");
    assert!(error["problems"][0]["hint"].as_str().unwrap().contains("env_names"), "{error}");
    lab.lodger(&["import", "manifest.json", "--output", "checked"]).ok();
    let home = lab.home();
    let checked = lab.lodger(&["--home", home.to_str().unwrap(), "check", "checked"]).ok().stdout;
    assert!(checked.contains(&format!("{}, heroku", upstream.base_url())), "{checked}");
    let test = lab.lodger(&["--json", "import", "manifest.json", "--test"]).fails_with(1, "grant-refused");
    assert!(test["problems"][0]["message"].as_str().unwrap().contains("localhost:1"), "{test}");
}

#[test]
fn what_is_wrong_with_a_manifest_is_said_with_its_own_paths() {
    let upstream = Upstream::start();
    let good = upstream.scalingo();
    let refused = |change: &dyn Fn(&mut Value), args: &[&str], path: &str, word: &str| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let lab = lab(&upstream, &manifest);
        let error = lab.lodger(&[&["--json", "import", "manifest.json", "--yes"], args].concat());
        let error = error.fails_with(1, "invalid-manifest");
        strings(&error).iter().for_each(|text| assert_plain(text));
        let said = error["problems"].as_array().unwrap().iter().find(|problem| problem["path"] == path);
        assert!(said.is_some_and(|said| said["message"].as_str().unwrap().contains(word)), "{path}: {error}");
        assert_eq!(lab.json(&["list"]), json!([]));
    };
    let set = |path: &'static str, value: Value| {
        move |manifest: &mut Value| *manifest.pointer_mut(path).unwrap() = value.clone()
    };
    let base = "/production/base_url";
    refused(&set(base, json!("http://api.example.com/x")), &[], "production.base_url", "clear text");
    refused(&set(base, json!("https://10.0.0.1/x")), &[], "production.base_url", "only names are taken");
    refused(&set(base, json!("https://u:p@api.example.com/x")), &[], "production.base_url", "user names");
    refused(&set(base, json!("ftp://api.example.com")), &[], "production.base_url", "https://");
    refused(&set("/production/sso_url", json!("javascript:alert(1)")), &[], "production.sso_url", "URL");
    refused(&set("/production", Value::Null), &[], "production", "where that provider is");
    refused(&set("/test", Value::Null), &["--test"], "test", "where that provider is");
    refused(&set("/password", json!("")), &[], "password", "blank");
    refused(&set("/username", json!("a:b")), &[], "username", "colon");
    refused(&set("/username", json!("a\u{1b}")), &[], "username", "1 to 255");
    refused(&set("/plans/0/name", json!("Sandbox Small")), &[], "plans[0].name", "not an id");
    refused(&set("/config_vars", json!(["LD_PRELOAD"])), &[], "config_vars[0]", "never given");
    refused(&set("/name", json!("!!!")), &[], "name", "no letter");
    let lab = lab(&upstream, &good);
    lab.policy("");
    let error = lab.lodger(&["--json", "import", "manifest.json", "--yes"]).fails_with(1, "grant-refused");
    let hint = error["problems"][0]["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("network = [\"localhost:{}\"]", upstream.port)), "{hint}");
    lab.write("manifest.json", "{ not json");
    lab.lodger(&["--json", "import", "manifest.json"]).fails_with(1, "invalid-manifest");
}

#[test]
fn a_remote_addon_asks_for_nothing_that_means_nothing() {
    let lab = Lab::new();
    let good = json!({
        "name": "example", "version": "1.0.0", "plans": [{ "name": "free" }], "config_vars": [],
        "remote": { "dialect": "scalingo", "base_url": "https://api.example.com/r", "username": "u" },
        "capabilities": { "network": ["api.example.com:443"] },
    });
    lab.policy("[grant]\nnetwork = [\"*.example.com:443\"]\n");
    let install = |manifest: &Value| {
        lab.write("package/addon.json", manifest.to_string());
        lab.lodger(&["--json", "install", "./package", "--yes", "--dry-run"])
    };
    install(&good).ok();
    let problem = |change: &dyn Fn(&mut Value), path: &str| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let error = install(&manifest).fails_with(1, "invalid-manifest");
        let problems = error["problems"].as_array().unwrap();
        assert!(problems.iter().any(|problem| problem["path"] == path), "{path}: {error}");
    };
    let service = json!([{ "service_name": "x", "image": "docker.io/library/redis:7" }]);
    for (path, value) in [
        ("component", json!("x.wasm")),
        ("services", service),
        ("replaces", json!("scheduler")),
        ("settings", json!({ "A": {} })),
    ] {
        problem(&|manifest| manifest[path] = value.clone(), path);
    }
    for (pointer, value, path) in [
        ("services", json!(true), "capabilities.services"),
        ("events", json!(["app.*"]), "capabilities.events"),
        ("data", json!({ "max_bytes": 1 }), "capabilities.data.max_bytes"),
        ("network", json!([]), "capabilities.network"),
        ("network", json!(["api.example.com:443", "www.example.com:443"]), "capabilities.network"),
        ("network", json!(["api.example.com:80"]), "capabilities.network"),
    ] {
        problem(&|manifest| manifest["capabilities"][pointer] = value.clone(), path);
    }
    problem(&|manifest| manifest["limits"] = json!({ "memory_bytes": 1 }), "limits.memory_bytes");
    for (key, value, path) in [
        ("dialect", json!("cloud"), "remote.dialect"),
        ("base_url", json!(7), "remote.base_url"),
        ("passwort", json!("x"), "remote.passwort"),
        ("password", json!("x"), "remote.password"),
    ] {
        problem(&|manifest| manifest["remote"][key] = value.clone(), path);
    }
}

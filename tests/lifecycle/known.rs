//! What is known of an addon: info, explain, calls, logs, doctor; and the completions of a shell.

use serde_json::{Value, json};

use super::state;
use crate::support::Lab;

#[test]
fn info_shows_state_settings_data_and_users() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let info = lab.json(&["info", "probe"]);
    assert_eq!(
        (&info["id"], &info["version"], &info["state"]),
        (&json!("good/probe"), &json!("1.0.0"), &json!("enabled"))
    );
    assert_eq!(info["resources"], lab.json(&["apps"])["shop"]);
    // Two counters, a directory and a resource.
    assert_eq!(info["data_files"], 4);
    let shown = lab.lodger(&["info", "probe"]).ok().stdout;
    for line in ["addon           good/probe", "state           enabled", "setting SECRET  (a secret, not set)"] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}

#[test]
fn explain_gives_every_line_a_reason() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let grant = lab.json(&["explain", "probe"]);
    let keys = [
        "addon",
        "config_vars",
        "deadlines_ms",
        "denied_imports",
        "digest",
        "hooks",
        "limits",
        "lines",
        "network",
        "services",
        "settings",
    ];
    assert_eq!(grant.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    let lines = grant["lines"].as_array().unwrap();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    assert!(lines.iter().all(|line| !text(line, "what").is_empty() && !text(line, "because").is_empty()), "{grant}");
    let because = |what: &str| {
        let line = lines.iter().find(|line| text(line, "what").starts_with(what)).unwrap_or_else(|| panic!("{what}"));
        (line["may"].as_bool().unwrap(), text(line, "because"))
    };
    assert_eq!(because("use up to 64 MiB of memory"), (true, "addon.json: limits.memory_bytes".to_owned()));
    assert_eq!(because("keep up to 1 MiB"), (true, "addon.json: capabilities.data.max_bytes".to_owned()));
    assert_eq!(because("read its secret setting SECRET"), (true, "addon.json: settings.SECRET".to_owned()));
    assert_eq!(because("reach any network"), (false, "addon.json: no capabilities.network".to_owned()));
    assert_eq!(because("see any other file"), (false, "built in".to_owned()));

    let shown = lab.lodger(&["explain", "probe"]).ok().stdout;
    assert_eq!(shown.lines().next(), Some("good/probe may"));
    assert!(shown.lines().any(|line| line == "good/probe may not"), "{shown}");
    assert_eq!(shown.lines().last(), Some(&*format!("grant {}", text(&grant, "digest"))));
    for line in lines {
        let what = text(line, "what");
        assert!(shown.contains(&what) && shown.contains(&text(line, "because")), "{what} in {shown}");
    }
}

#[test]
fn calls_are_recorded_with_what_they_used() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let calls = lab.json(&["calls", "probe"]);
    let hooks: Vec<_> = calls.as_array().unwrap().iter().map(|call| call["hook"].as_str().unwrap()).collect();
    assert_eq!(hooks, ["config-vars", "url", "provision", "enable"]);
    for call in calls.as_array().unwrap() {
        assert_eq!(
            (&call["outcome"], &call["addon"], &call["actor"]),
            (&json!("completed"), &json!("good/probe"), &json!("cli"))
        );
        assert!(call["call"].is_string() && call["started_at"].is_u64(), "{call}");
        for used in ["wall_us", "memory_bytes", "data_bytes", "data_files", "log_bytes", "host_memory_bytes"] {
            assert!(call[used].is_u64(), "{used} of {call}");
        }
        assert!(call["memory_bytes"].as_u64() > Some(0) && call["wall_us"].as_u64() > Some(0), "{call}");
    }
    let key = lab.json(&["apps"])["shop"][0]["id"].clone();
    assert_eq!((&calls[0]["key"], &calls[2]["key"], &calls[3]["key"]), (&key, &key, &Value::Null));
    assert_eq!(lab.json(&["calls", "--limit", "2"]).as_array().unwrap()[..], calls.as_array().unwrap()[..2]);
    assert_eq!(lab.lodger(&["calls"]).ok().stdout.lines().count(), 4);
}

#[test]
fn logs_show_what_the_hooks_said_with_the_call() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let logs = lab.json(&["logs", "probe"]);
    let calls = lab.json(&["calls", "probe"]);
    let said: Vec<_> = logs.as_array().unwrap().iter().map(|entry| entry["line"].as_str().unwrap()).collect();
    assert_eq!(said, ["hook enable", "hook provision", "hook url", "hook config-vars"]);
    for (entry, call) in logs.as_array().unwrap().iter().zip(calls.as_array().unwrap().iter().rev()) {
        assert_eq!((&entry["call"], &entry["hook"]), (&call["call"], &call["hook"]));
    }
    let shown = lab.lodger(&["logs", "probe"]).ok().stdout;
    let first = format!("{} enable       hook enable", logs[0]["call"].as_str().unwrap());
    assert_eq!(shown.lines().next(), Some(&*first));
}

#[test]
fn doctor_is_content_with_a_healthy_home_and_names_what_is_not() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let well = lab.json(&["doctor"]);
    assert!(well.as_array().unwrap().iter().all(|finding| finding["severity"] == "note"), "{well}");
    lab.policy("[limits]\nmemory_bytes = 1073741824\n\n[grant]\nenv_names = [\"DATABASE_URL\"]\n");
    let looser = lab.json(&["doctor"]);
    let of_policy: Vec<_> = looser
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["subject"] == "policy")
        .map(|f| f["message"].clone())
        .collect();
    assert_eq!(
        of_policy,
        [
            "looser than the built-in default: limits.memory_bytes = 1073741824 (built in: 536870912)",
            "looser than the built-in default: grant.env_names: `DATABASE_URL`"
        ]
    );
    lab.policy("[limits]\nmemory_bytes = 1048576\n");
    let ran = lab.lodger(&["--json", "doctor"]).exits(1);
    let broken: Vec<_> = ran.json().as_array().unwrap().iter().filter(|f| f["severity"] == "error").cloned().collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(broken[0]["subject"], "good/probe");
    let shown = lab.lodger(&["doctor"]).exits(1).stdout;
    assert!(shown.contains("error: good/probe: ") && shown.contains("  fix: "), "{shown}");
    assert_eq!(state(&lab), "enabled");
}

#[test]
fn completions_name_every_verb() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = lab.lodger(&["completions", shell]).ok().stdout;
        for verb in
            ["install", "uninstall", "enable", "disable", "list", "explain", "add", "remove", "plan", "env", "doctor"]
        {
            assert!(script.contains(verb), "{verb} for {shell}");
        }
    }
    assert!(!lab.home().join("lodger.db").exists(), "no home is needed for it");
}

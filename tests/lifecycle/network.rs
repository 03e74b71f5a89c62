//! The network as a grant: what it takes to have it, what is said of it, and what becomes of it when the policy changes.

use serde_json::{Value, json};

use crate::support::{Lab, component, probe_manifest};

fn package(lab: &Lab) -> String {
    let mut manifest = probe_manifest("good", 60_000);
    manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]);
    manifest["capabilities"]["network"] = json!(["API.example.com:443", "example.net:8080"]);
    lab.package("hooks_all", &manifest, component("hooks_all")).display().to_string()
}

#[test]
fn nothing_is_reached_that_no_line_of_the_policy_admits() {
    let lab = Lab::new();
    let package = package(&lab);
    let refused = |problems: &[(&str, &str)]| {
        let error = lab.lodger(&["--json", "install", &package, "--yes"]).fails_with(1, "grant-refused");
        let found = error["problems"].as_array().unwrap();
        assert_eq!(found.len(), problems.len(), "{error}");
        for (problem, (path, to)) in found.iter().zip(problems) {
            assert_eq!(problem["path"], *path);
            assert!(problem["message"].as_str().unwrap().contains(&format!("`{to}`")), "{error}");
            let hint = problem["hint"].as_str().unwrap();
            assert!(hint.contains("[grant]") && hint.contains(&format!("network = [\"{to}\"]")), "{error}");
        }
    };
    let both = [("capabilities.network[0]", "api.example.com:443"), ("capabilities.network[1]", "example.net:8080")];
    refused(&both);
    for policy in ["", "[grant]\nnetwork = []\n", "[grant]\nnetwork = [\"example.com:443\", \"*.example.net:8080\"]\n"]
    {
        lab.policy(policy);
        refused(&both);
    }
    lab.policy("[grant]\nnetwork = [\"*.example.com:443\", \"example.net:80\"]\n");
    refused(&both[1..]);
}

#[test]
fn a_grant_says_what_is_reached_and_ends_with_its_line() {
    let lab = Lab::new();
    let policy = "[grant]\nnetwork = [\"*.example.com:443\", \"example.net:8080\"]\n";
    lab.policy(policy);
    let package = package(&lab);
    lab.lodger(&["install", &package, "--yes"]).ok();
    lab.lodger(&["enable", "probe"]).ok();
    let grant = lab.json(&["explain", "probe"]);
    assert_eq!(grant["network"], json!(["api.example.com:443", "example.net:8080"]));
    let because = |grant: &Value, may: bool, what: &str| {
        let lines = grant["lines"].as_array().unwrap().clone();
        let says = |line: &Value| line["may"] == may && line["what"].as_str().unwrap().starts_with(what);
        lines.into_iter().find(says).map(|line| line["because"].as_str().unwrap().to_owned())
    };
    let line = "addon.json: capabilities.network[0]; lodger.toml: grant.network has `*.example.com:443`";
    assert_eq!(because(&grant, true, "connect to api.example.com:443").as_deref(), Some(line));
    assert_eq!(because(&grant, true, "move up to 16 MiB over the network").as_deref(), Some("default"));
    assert_eq!(because(&grant, true, "have up to 8 connections").as_deref(), Some("default"));
    assert!(because(&grant, false, "reach any other host").is_some(), "{grant}");
    assert_eq!(because(&grant, false, "reach any network"), None);

    // Wider or narrower, it is another grant.
    lab.policy(&format!("{policy}network_addresses = [\"10.0.0.0/8\"]\n"));
    lab.lodger(&["--json", "enable", "probe"]).fails_with(1, "grant-revoked");
    let grant = lab.json(&["install", &package, "--dry-run"])["grant"].clone();
    let line = "lodger.toml: grant.network_addresses has `10.0.0.0/8`";
    assert_eq!(because(&grant, true, "be led by these names to 10.0.0.0/8").as_deref(), Some(line));
    let doctor = lab.lodger(&["--json", "doctor"]).exits(1).stdout;
    for looser in ["grant.network: `*.example.com:443`", "grant.network_addresses: `10.0.0.0/8`"] {
        assert!(doctor.contains(&format!("looser than the built-in default: {looser}")), "{doctor}");
    }
    lab.policy("[grant]\nnetwork = [\"*.example.com:443\"]\n");
    let error = lab.lodger(&["--json", "enable", "probe"]).fails_with(1, "grant-revoked");
    assert_eq!(error["problems"][0]["path"], "capabilities.network[1]");
    lab.policy(policy);
    lab.lodger(&["enable", "probe"]).ok();
}

//! Nothing is let in that the operator has not accepted, and nothing stays that the policy does not admit any more.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use super::state;
use crate::support::{Lab, component, probe_manifest};

fn package(lab: &Lab) -> String {
    lab.package("package", &probe_manifest("good", 1000), component("hooks_all")).display().to_string()
}

#[test]
fn without_a_terminal_nothing_is_installed_that_was_not_accepted() {
    let lab = Lab::new();
    let package = package(&lab);
    let error = lab.lodger(&["--json", "install", &package]).fails_with(1, "grant-not-accepted");
    assert_eq!(error["hint"], "--yes accepts the grant as shown");
    let wrong = format!("sha256:{}", "0".repeat(64));
    lab.lodger(&["--json", "install", &package, "--accept-grant", &wrong]).fails_with(1, "grant-not-accepted");
    lab.lodger(&["--json", "install", &package, "--yes", "--accept-grant", &wrong]).fails_with(1, "grant-not-accepted");
    assert_eq!(lab.json(&["list"]), json!([]));
    assert!(lab.installed_files().is_empty());

    let grant = lab.json(&["install", &package, "--dry-run"])["grant"]["digest"].as_str().unwrap().to_owned();
    let installed = lab.json(&["install", &package, "--accept-grant", &grant]);
    assert_eq!((&installed["grant"], &installed["changed"]), (&json!(grant), &json!(true)));
    assert_eq!(lab.json(&["explain", "probe"])["digest"], grant);
}

/// Runs the binary on a terminal, where somebody types `answer`.
fn on_a_terminal(lab: &Lab, args: &str, answer: &str) -> (i32, String) {
    // The program of that name gives a terminal of its own to the command, and ends as the command did.
    let command = format!("{} {args}", crate::support::LODGER);
    let mut script = lab.command_of("script", &["--quiet", "--return", "--command", &command, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn on_a_terminal_the_operator_is_asked() {
    let lab = Lab::new();
    let install = format!("install {}", package(&lab));
    let (code, said) = on_a_terminal(&lab, &install, "n\n");
    assert!(code == 1 && said.contains("Install it with these permissions? [y/N]"), "{code} {said}");
    assert_eq!(lab.json(&["list"]), json!([]));
    let (code, said) = on_a_terminal(&lab, &install, "y\n");
    assert!(code == 0 && said.contains("use up to 64 MiB of memory"), "{code} {said}");

    lab.lodger(&["enable", "probe"]).ok();
    lab.lodger(&["add", "shop", "probe"]).ok();
    let (code, said) = on_a_terminal(&lab, "remove shop probe", "\n");
    assert!(code == 1 && said.contains("Destroy what shop has of good/probe? [y/N]"), "{code} {said}");
    assert!(said.contains("nothing was done"), "{said}");
    let (code, said) = on_a_terminal(&lab, "remove shop probe", "yes\n");
    assert!(code == 0 && said.contains("removed good/probe from shop"), "{code} {said}");
    lab.lodger(&["disable", "probe"]).ok();
    let (code, said) = on_a_terminal(&lab, "uninstall probe", "no\n");
    assert!(code == 1 && said.contains("Destroy good/probe and all its data? [y/N]"), "{code} {said}");
    assert_eq!(on_a_terminal(&lab, "uninstall probe", "y\n").0, 0);
    assert_eq!(lab.json(&["list"]), json!([]));
}

#[test]
fn what_is_asked_for_is_shown_before_it_is_accepted() {
    let lab = Lab::new();
    let said = lab.lodger(&["install", &package(&lab), "--yes"]).ok().stderr;
    for line in ["good/probe may", "  use up to 64 MiB of memory (addon.json: limits.memory_bytes)"] {
        assert!(said.lines().any(|shown| shown == line), "{line} in {said}");
    }
    assert!(said.ends_with("installed good/probe 1.0.0\n"), "{said}");
}

#[test]
fn the_same_version_with_other_content_is_refused_unless_it_is_being_developed() {
    let lab = Lab::new();
    let one = package(&lab);
    lab.lodger(&["install", &one, "--yes"]).ok();
    lab.write("package/files/readme.txt", "other");
    let error = lab.lodger(&["--json", "install", &one, "--yes"]).fails_with(1, "digest-changed");
    assert_eq!(error["hint"], "raise the version in addon.json, or use --dev");
    lab.lodger(&["install", &one, "--yes", "--dev"]).ok();
    assert_eq!(lab.json(&["list"])[0]["dev"], true);
    let mut newer = probe_manifest("good", 1000);
    newer["version"] = "1.0.1".into();
    let newer = lab.package("newer", &newer, component("hooks_all"));
    lab.lodger(&["--json", "install", newer.to_str().unwrap(), "--yes"]).fails_with(1, "other-version");
    assert_eq!(lab.json(&["list"])[0]["version"], "1.0.0");
}

#[test]
fn a_policy_that_got_tighter_blocks_the_addon_until_it_is_decided_anew() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    lab.policy("[limits]\nmemory_bytes = 1048576\n");
    for verb in [&["explain", "probe"][..], &["add", "blog", "probe"], &["disable", "probe"], &["url", "shop", "probe"]]
    {
        let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(1, "grant-revoked");
        assert_eq!(
            error["problems"],
            json!([{
                "path": "limits.memory_bytes",
                "message": "asks for 67108864; the policy's ceiling is 1048576",
                "hint": "lower it, or set `memory_bytes = 67108864` under [limits] in lodger.toml",
            }])
        );
        assert_eq!(error["hint"], "loosen the policy, or install `good/probe` again to decide anew");
    }
    lab.lodger(&["--json", "env", "shop"]).fails_with(1, "env-incomplete");
    let package = lab.path("hooks_all").display().to_string();
    lab.lodger(&["--json", "install", &package, "--yes"]).fails_with(1, "grant-refused");
    assert_eq!(state(&lab), "enabled");
    lab.policy("");
    lab.lodger(&["env", "shop"]).ok();
}

#[test]
fn a_default_that_got_tighter_is_accepted_by_its_digest_and_not_by_a_blanket_yes() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.policy("[limits]\nrandom_bytes = 16\n");
    let error = lab.lodger(&["--json", "enable", "probe"]).fails_with(1, "grant-revoked");
    assert_eq!(error["problems"], json!(null), "nothing is refused, it is only another grant");
    let package = lab.path("hooks_all").display().to_string();
    lab.lodger(&["--json", "install", &package, "--yes"]).fails_with(1, "grant-not-accepted");
    let grant = lab.json(&["install", &package, "--dry-run"])["grant"]["digest"].as_str().unwrap().to_owned();
    lab.lodger(&["install", &package, "--accept-grant", &grant]).ok();
    assert_eq!(lab.json(&["explain", "probe"])["limits"]["random_bytes"], 16);
    assert_eq!(state(&lab), "enabled");
}

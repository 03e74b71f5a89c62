//! Dumping what an app has, and restoring it: through pipes and files, whole or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Picture, outcomes, resources};
use crate::support::{LODGER, Lab, Ran, root, until};

/// `app-secrets` for two apps. No container and no server: the component is the whole addon.
fn secrets() -> Lab {
    let lab = Lab::new();
    let package = root().join("guest-examples/app-secrets");
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "app-secrets"]).ok();
    for app in ["shop", "blog"] {
        lab.lodger(&["add", app, "app-secrets"]).ok();
    }
    lab
}

/// A pipeline of the binary with itself and others.
fn shell(lab: &Lab, script: &str) -> Ran {
    let path = std::path::Path::new(LODGER).parent().unwrap().display().to_string();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    let args = ["-o", "pipefail", "-c", script];
    Ran::of(&args, lab.command_of("bash", &args).env("PATH", path).output().unwrap())
}

#[test]
fn what_was_dumped_is_there_again_after_a_restore_here_or_elsewhere() {
    let lab = secrets();
    let (shop, blog) = (lab.json(&["env", "shop"]), lab.json(&["env", "blog"]));
    assert_ne!(shop, blog);
    let dumped = lab.lodger(&["dump", "shop", "app-secrets"]).ok();
    let lines =
        ["APP_SECRETS_KEY", "APP_SECRETS_SALT"].map(|name| format!("{name}={}\n", shop[name].as_str().unwrap()));
    assert_eq!(dumped.stdout, format!("bytes=32\n{}", lines.concat()));
    let bytes = dumped.stdout.len();
    assert_eq!(dumped.stderr, format!("dumped lodger/app-secrets of shop: {bytes} bytes\n"));

    lab.with_stdin(&["restore", "blog", "app-secrets"], &dumped.stdout).ok();
    assert_eq!(lab.json(&["env", "blog"]), shop);
    // What was added before, and what was removed in between.
    lab.lodger(&["remove", "shop", "app-secrets"]).ok();
    lab.lodger(&["add", "shop", "app-secrets"]).ok();
    assert_ne!(lab.json(&["env", "shop"]), shop);
    let file = lab.write("shop.dump", &dumped.stdout);
    for _ in 0..2 {
        let restored = lab.json(&["restore", "shop", "app-secrets", "--input", file.to_str().unwrap()]);
        let expected = json!({ "app": "shop", "addon": "lodger/app-secrets", "alias": null, "bytes": bytes });
        assert_eq!(restored, expected);
        assert_eq!(lab.json(&["env", "shop"]), shop);
    }
    // Both at once: a dump holds nobody up, not even the restore it goes to.
    lab.lodger(&["add", "shop", "app-secrets", "--as", "signing", "--plan", "long"]).ok();
    shell(&lab, "lodger dump shop app-secrets --as signing | lodger restore blog app-secrets").ok();
    let signing = lab.json(&["env", "shop"])["SIGNING_KEY"].clone();
    assert_eq!((&lab.json(&["env", "blog"])["APP_SECRETS_KEY"], signing.as_str().unwrap().len()), (&signing, 128));
    let calls = lab.json(&["calls"]);
    let of = |hook: &str| calls.as_array().unwrap().iter().find(|call| call["hook"] == hook).unwrap().clone();
    for hook in ["dump", "restore"] {
        assert_eq!((of(hook)["outcome"].clone(), of(hook)["stream_bytes"].as_u64()), (json!("completed"), Some(300)));
    }
}

#[test]
fn a_file_is_whole_and_nobody_elses_or_not_there() {
    let lab = secrets();
    let file = lab.write("dumps/shop.dump", "an older one");
    let path = file.to_str().unwrap();
    let dumped = lab.json(&["dump", "shop", "app-secrets", "--output", path]);
    let bytes = fs::read(&file).unwrap();
    let expected = json!({
        "app": "shop", "addon": "lodger/app-secrets", "alias": null, "bytes": bytes.len(), "file": path,
    });
    assert_eq!(dumped, expected);
    assert!(bytes.starts_with(b"bytes=32\nAPP_SECRETS_KEY="));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // What fails changes nothing there, and leaves nothing there.
    lab.lodger(&["disable", "app-secrets", "--force"]).ok();
    lab.lodger(&["--json", "dump", "shop", "app-secrets", "--output", path]).fails_with(1, "unknown-resource");
    lab.lodger(&["enable", "app-secrets"]).ok();
    lab.lodger(&["add", "shop", "app-secrets"]).ok();
    damage(&lab);
    let failed = lab.lodger(&["--json", "dump", "shop", "app-secrets", "--output", path]).fails_with(1, "refused");
    assert!(failed["message"].as_str().unwrap().contains("are damaged"), "{failed}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let names: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["shop.dump"]);
    // What is no file is not replaced by one.
    let nowhere =
        lab.lodger(&["--json", "dump", "shop", "app-secrets", "--output", "/dev/null"]).fails_with(2, "usage");
    assert_eq!(nowhere["hint"], "redirect stdout to it: > /dev/null");
}

/// What the addon keeps of its only resource.
fn damage(lab: &Lab) {
    let data = lab.data(&"lodger/app-secrets".parse().unwrap());
    for entry in fs::read_dir(data).unwrap() {
        fs::write(entry.unwrap().path(), "APP_SECRETS_KEY=").unwrap();
    }
}

#[test]
fn what_is_no_dump_is_refused_and_what_was_there_stays() {
    let lab = secrets();
    let before = lab.json(&["env", "shop"]);
    let whole = lab.lodger(&["dump", "shop", "app-secrets"]).ok().stdout;
    let more = format!("{whole}\n");
    let large = "bytes=32\nAPP_SECRETS_KEY=".to_owned() + &"x".repeat(20_000);
    for wrong in [
        "",
        "garbage",
        &whole[..whole.len() - 1],
        &whole[20..],
        &more,
        &large,
        "bytes=32\nAPP_SECRETS_KEY=\nAPP_SECRETS_SALT=\n",
    ] {
        let refused = lab.with_stdin(&["restore", "shop", "app-secrets"], wrong).exits(1);
        assert!(refused.stderr.contains("(invalid): that is no whole dump of secrets"), "{refused:?}");
        assert_eq!(lab.json(&["env", "shop"]), before);
    }
    assert_eq!(resources(&lab, "shop")[0]["state"], "active");
}

#[test]
fn a_terminal_is_no_place_for_a_dump_nor_is_the_json() {
    let lab = secrets();
    let usage = lab.lodger(&["--json", "dump", "shop", "app-secrets"]).fails_with(2, "usage");
    assert_eq!(
        (&usage["message"], &usage["hint"]),
        (&"the dump itself goes to stdout".into(), &"--json needs --output FILE".into())
    );
    for (verb, hint) in
        [("dump", "`lodger dump shop app-secrets > FILE`"), ("restore", "`lodger restore shop app-secrets < FILE`")]
    {
        let command = format!("{LODGER} {verb} shop app-secrets");
        let args = ["--quiet", "--return", "--command", &command, "/dev/null"];
        let ran = Ran::of(&args, lab.command_of("script", &args).output().unwrap()).exits(2);
        assert!(ran.stdout.contains("a terminal (usage)") && ran.stdout.contains(hint), "{ran:?}");
    }
    assert!(outcomes(&lab).iter().all(|(hook, _)| hook != "dump" && hook != "restore"));
}

#[test]
fn what_cannot_be_dumped_or_restored_is_said_before_anything_is_done() {
    let lab = secrets();
    let hello = root().join("guest-examples/hello");
    lab.lodger(&["install", hello.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "hello"]).ok();
    lab.lodger(&["add", "shop", "hello"]).ok();
    lab.lodger(&["remove", "blog", "app-secrets", "--keep-data"]).ok();
    let before = Picture::of(&lab);
    let file = lab.path("dump");
    let verbs: [&[&str]; 3] = [&["dump", "--output", file.to_str().unwrap()], &["restore"], &["restore", "--dry-run"]];
    for verb in verbs {
        let ask = |app: &str, addon: &str| lab.with_stdin(&[&["--json"], verb, &[app, addon]].concat(), "");
        let missing = ask("shop", "hello").fails_with(1, "hook-missing");
        assert_eq!(missing["message"], format!("addon `local/hello` does not export the hook `{}`", verb[0]));
        let detached = ask("blog", "app-secrets").fails_with(1, "resource-state");
        assert_eq!(detached["hint"], "`lodger add blog lodger/app-secrets` attaches it again");
        ask("wiki", "app-secrets").fails_with(1, "unknown-resource");
        ask("shop", "nothing").fails_with(1, "unknown-addon");
    }
    let would = lab.json(&["restore", "shop", "app-secrets", "--dry-run"]);
    assert_eq!(would, json!({ "dry_run": true, "changed": true }));
    assert!(!file.exists());
    assert_eq!(Picture::of(&lab), before);
}

#[test]
fn after_a_kill_within_restore_it_is_restored_again() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let before = lab.json(&["env", "shop"]);
    let mut restoring = lab.command(&["restore", "shop", "probe"]).stdin(Stdio::piped()).spawn().unwrap();
    until(|| {
        let calls = lab.json(&["calls", "--limit", "1"]);
        (calls[0]["hook"] == "restore" && calls[0]["outcome"] == Value::Null).then_some(())
    });
    // Whoever writes slowly holds the addon, and nobody who only reads.
    assert_eq!(lab.lodger(&["dump", "shop", "probe"]).ok().stdout, "\n\n");
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    assert_eq!(lab.json(&["env", "shop"]), before);
    lab.with_stdin(&["restore", "shop", "probe"], "large\nus\n").ok();
    let env = lab.json(&["env", "shop"]);
    assert_eq!((&env["PROBE_PLAN"], &env["PROBE_REGION"]), (&json!("large"), &json!("us")));
    let restores: Vec<_> = outcomes(&lab).into_iter().filter(|(hook, _)| hook == "restore").collect();
    assert_eq!(restores.iter().map(|(_, outcome)| &**outcome).collect::<Vec<_>>(), ["interrupted", "completed"]);
}

#[test]
fn they_may_take_ten_minutes_where_nothing_says_otherwise() {
    for (policy, most) in [("", "600000"), ("[limits]\ndeadline_ms = 60000\n", "60000")] {
        let lab = Lab::new();
        lab.policy(policy);
        lab.well_behaved(|manifest| manifest["limits"]["deadlines_ms"] = json!({}));
        let explained = lab.lodger(&["explain", "probe"]).ok().stdout;
        for hook in ["dump", "restore"] {
            assert!(explained.contains(&format!("run its hook {hook} for up to {most} ms")), "{explained}");
        }
    }
}

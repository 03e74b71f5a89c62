//! Addons that need each other: the order they come and go in, and what is refused with the chain that leads there.

use lodger::Error;
use serde_json::{Value, json};

use super::Picture;
use crate::support::{Lab, addon, component, run, until};

/// A lab whose addons may set the variables that the component `hooks_all` gives.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.policy("[grant]\nenv_names = [\"PROBE_URL\", \"PROBE_PLAN\", \"PROBE_REGION\"]\n");
    lab
}

fn manifest(name: &str, version: &str, depends: Value) -> Value {
    json!({
        "name": name, "namespace": "t", "version": version, "component": "probe.wasm",
        "config_vars": ["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"], "depends": depends,
    })
}

/// Writes a package of an addon that needs these, in any version.
fn package(lab: &Lab, name: &str, needs: &[&str]) -> String {
    let depends = needs.iter().map(|need| json!({ "namespace": "t", "name": need })).collect();
    write(lab, name, &manifest(name, "1.0.0", depends))
}

fn write(lab: &Lab, dir: &str, manifest: &Value) -> String {
    lab.package(dir, manifest, component("hooks_all")).display().to_string()
}

/// `base`, `middle`, which needs it, and `top`, which needs that: the packages, the last first.
fn tower(lab: &Lab) -> [String; 3] {
    [package(lab, "top", &["middle"]), package(lab, "middle", &["base"]), package(lab, "base", &[])]
}

fn installed(lab: &Lab) {
    let [top, middle, base] = tower(lab);
    lab.lodger(&["install", &top, &middle, &base, "--yes"]).ok();
}

fn state(lab: &Lab, name: &str) -> String {
    lab.json(&["info", name])["state"].as_str().unwrap().to_owned()
}

fn states(lab: &Lab) -> Vec<(String, String)> {
    let text = |addon: &Value, key: &str| addon[key].as_str().unwrap().to_owned();
    let list = lab.json(&["list"]);
    list.as_array().unwrap().iter().map(|addon| (text(addon, "id"), text(addon, "state"))).collect()
}

/// The mutating calls so far, as `hook addon`, the oldest first.
fn calls(lab: &Lab) -> Vec<String> {
    let calls = lab.json(&["calls", "--limit", "1000"]);
    let text = |call: &Value, key: &str| call[key].as_str().unwrap().to_owned();
    let mutating = ["enable", "disable", "provision", "unprovision"];
    let calls =
        calls.as_array().unwrap().iter().rev().filter(|call| mutating.contains(&call["hook"].as_str().unwrap()));
    calls.map(|call| format!("{} {}", text(call, "hook"), text(call, "addon"))).collect()
}

/// Runs a verb that must be refused and change nothing. Returns the error.
#[track_caller]
fn refused(lab: &Lab, verb: &[&str], code: &str) -> Value {
    let before = Picture::of(lab);
    let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(1, code);
    assert_eq!(Picture::of(lab), before, "{verb:?}");
    error
}

#[test]
fn they_are_installed_in_the_order_it_takes_whatever_order_they_are_given_in() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let lab = lab();
        let tower = tower(&lab);
        let given = order.map(|place| tower[place].as_str());
        let dry = lab.json(&[&["install", "--dry-run"], &given[..]].concat());
        assert_eq!(lab.json(&["list"]), json!([]));
        let done = lab.json(&[&["install", "--yes"], &given[..]].concat());
        let ids = |answers: &Value, key: &str| {
            let answers = answers.as_array().unwrap().iter();
            answers.map(|one| one.pointer(key).unwrap().as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&done, "/id"), ["t/base", "t/middle", "t/top"]);
        assert_eq!(ids(&dry, "/grant/addon"), ids(&done, "/id"));
    }
}

#[test]
fn what_is_missing_is_refused_with_the_chain_and_nothing_is_installed() {
    let lab = lab();
    let [top, middle, base] = tower(&lab);
    let beside = package(&lab, "beside", &[]);
    for (verb, chain, missing) in [
        (vec![&top], "`t/top` needs `t/middle`", "t/middle"),
        (vec![&beside, &top, &middle], "`t/top` needs `t/middle` needs `t/base`", "t/base"),
        (vec![&middle, &top, &beside], "`t/middle` needs `t/base`", "t/base"),
    ] {
        let mut args = vec!["install", "--yes"];
        args.extend(verb.into_iter().map(String::as_str));
        let error = refused(&lab, &args, "dependency-missing");
        assert_eq!(error["message"], format!("{chain}, which is not installed"));
        assert_eq!(error["hint"], format!("`lodger install PATH-OF-{missing}` first"));
        args.push("--dry-run");
        refused(&lab, &args, "dependency-missing");
    }
    // What is installed by itself serves those that come later.
    for path in [&base, &middle, &top] {
        lab.lodger(&["install", path, "--yes"]).ok();
    }
}

#[test]
fn a_circle_is_refused_with_all_of_it_named() {
    let lab = lab();
    let a = package(&lab, "a", &["b"]);
    let b = package(&lab, "b", &["c"]);
    let c = package(&lab, "c", &["a"]);
    let outside = package(&lab, "outside", &["b"]);
    let error = refused(&lab, &["install", &a, &b, &c, "--yes"], "dependency-cycle");
    assert_eq!(error["message"], "`t/a` needs `t/b` needs `t/c` needs `t/a`");
    assert!(error["hint"].as_str().unwrap().contains("addon.json"), "{error}");
    // The way there is not part of it.
    let error = refused(&lab, &["install", &outside, &c, &b, &a, "--yes"], "dependency-cycle");
    assert_eq!(error["message"], "`t/b` needs `t/c` needs `t/a` needs `t/b`");

    // One that would only come about by a change to what is installed.
    installed(&lab);
    let base = package(&lab, "base", &["top"]);
    let error = refused(&lab, &["install", &base, "--dev", "--yes"], "dependency-cycle");
    assert_eq!(error["message"], "`t/base` needs `t/top` needs `t/middle` needs `t/base`");
}

#[test]
fn a_need_that_is_met_is_left_as_it_is() {
    let lab = lab();
    let [_, middle, base] = tower(&lab);
    lab.lodger(&["install", &base, "--yes"]).ok();
    let before = lab.json(&["list"])[0].clone();
    let newer = write(&lab, "newer", &manifest("base", "1.1.0", json!([])));
    let error = refused(&lab, &["install", &middle, &newer, "--yes"], "other-version");
    assert_eq!(error["message"], "addon `t/base` is installed in version 1.0.0");
    lab.lodger(&["install", &middle, "--yes"]).ok();
    let said = lab.lodger(&["install", &middle, &base, "--yes"]).ok().stderr;
    assert_eq!(said, "already installed: t/base 1.0.0\nalready installed: t/middle 1.0.0\n");
    assert_eq!(lab.json(&["list"])[0], before);

    // One package under two names is one; two of one name are none.
    lab.lodger(&["install", &package(&lab, "copy", &[]), &package(&lab, "copy", &[]), "--yes"]).ok();
    let other = write(&lab, "other", &manifest("fresh", "1.0.0", json!([])));
    let another = write(&lab, "another", &manifest("fresh", "1.0.1", json!([])));
    let error = refused(&lab, &["install", &other, &another, "--yes"], "given-twice");
    assert!(error["message"].as_str().unwrap().contains("`t/fresh`"), "{error}");
}

#[test]
fn a_version_that_will_not_do_is_refused_with_both_named() {
    let lab = lab();
    let base = |version: &str| write(&lab, &format!("base-{version}"), &manifest("base", version, json!([])));
    let picky = json!([{ "namespace": "t", "name": "base", "version": ">=1.2, <2" }]);
    let top = write(&lab, "top", &manifest("top", "1.0.0", picky));
    for version in ["1.1.9", "2.0.0", "1.3.0-rc.1"] {
        let error = refused(&lab, &["install", &top, &base(version), "--yes"], "dependency-version");
        assert_eq!(error["message"], format!("`t/top` needs `t/base` in version >=1.2, <2; it is {version}"));
        assert!(error["hint"].as_str().unwrap().contains("`t/base`"), "{error}");
    }
    lab.lodger(&["install", &base("1.1.9"), "--yes"]).ok();
    refused(&lab, &["install", &top, "--yes"], "dependency-version");
    // Of the two that could be meant, the one that would be there afterwards counts.
    lab.lodger(&["install", &top, &base("1.2.0"), "--dev", "--yes"]).ok();
    assert_eq!(lab.json(&["info", "base"])["version"], "1.2.0");
    assert_eq!(
        lab.json(&["info", "top"])["depends"],
        json!([{ "addon": "t/base", "version": ">=1.2, <2", "installed": "1.2.0", "state": "installed" }])
    );
    // Nor is it taken away from below.
    let error = refused(&lab, &["install", &base("2.0.0"), "--dev", "--yes"], "dependency-version");
    assert_eq!(error["message"], "`t/top` needs `t/base` in version >=1.2, <2; it is 2.0.0");
    lab.lodger(&["install", &base("1.9.0"), "--dev", "--yes"]).ok();
}

#[test]
fn all_is_shown_before_anything_is_installed_and_each_is_accepted_by_itself() {
    let lab = lab();
    let [top, middle, base] = tower(&lab);
    let all = [top.as_str(), &middle, &base];
    let said = lab.lodger(&[&["install"], &all[..]].concat()).exits(1).stderr;
    for addon in ["t/base", "t/middle", "t/top"] {
        assert!(said.contains(&format!("{addon} may\n")), "{addon} in {said}");
    }
    assert!(said.contains("  have t/middle enabled before it (addon.json: depends[0])"), "{said}");
    assert!(said.contains("error: t/base: the grant was not accepted (grant-not-accepted)"), "{said}");

    let dry = lab.json(&[&["install", "--dry-run"], &all[..]].concat());
    let digests: Vec<&str> =
        dry.as_array().unwrap().iter().map(|one| one["grant"]["digest"].as_str().unwrap()).collect();
    let with = |digests: &[&str]| {
        let mut args = vec!["install".to_owned()];
        args.extend(all.iter().map(ToString::to_string));
        args.extend(digests.iter().map(|digest| format!("--accept-grant={digest}")));
        args
    };
    let two = with(&digests[..2]);
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    let error = refused(&lab, &two, "grant-not-accepted");
    assert_eq!(error["message"], "t/top: the grant was not accepted");
    let three = with(&digests);
    lab.lodger(&three.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert_eq!(states(&lab).len(), 3);
}

#[test]
fn enabling_enables_what_is_needed_first() {
    let lab = lab();
    installed(&lab);
    let first = json!(["t/base", "t/middle"]);
    let before = Picture::of(&lab);
    let would = json!({ "dry_run": true, "changed": true, "enabled_first": first });
    assert_eq!(lab.json(&["enable", "top", "--dry-run"]), would);
    let said = lab.lodger(&["enable", "top", "--dry-run"]).ok().stderr;
    assert_eq!(said, "would enable t/base, t/middle, then t/top\n");
    assert_eq!(Picture::of(&lab), before);

    let done = lab.json(&["enable", "top"]);
    let top = json!({ "id": "t/top", "version": "1.0.0", "state": "enabled", "changed": true, "enabled_first": first });
    assert_eq!(done, top);
    assert_eq!(calls(&lab), ["enable t/base", "enable t/middle", "enable t/top"]);
    assert_eq!(lab.lodger(&["enable", "top"]).ok().stderr, "t/top is already enabled\n");

    lab.lodger(&["disable", "top"]).ok();
    lab.lodger(&["disable", "middle"]).ok();
    let said = lab.lodger(&["enable", "top"]).ok().stderr;
    assert_eq!(said, "enabled t/middle, which is needed first\nenabled t/top\n");
    assert_eq!(calls(&lab).iter().filter(|call| *call == "enable t/base").count(), 1, "it was enabled already");
}

#[test]
fn where_paths_meet_each_is_enabled_and_disabled_once() {
    let lab = lab();
    let paths = [
        package(&lab, "top", &["left", "right"]),
        package(&lab, "left", &["base"]),
        package(&lab, "right", &["left", "base"]),
        package(&lab, "base", &[]),
    ];
    let mut install = vec!["install", "--yes"];
    install.extend(paths.iter().map(String::as_str));
    lab.lodger(&install).ok();
    lab.lodger(&["enable", "top"]).ok();
    assert_eq!(calls(&lab), ["enable t/base", "enable t/left", "enable t/right", "enable t/top"]);
    let error = refused(&lab, &["disable", "base"], "needed");
    assert_eq!(error["message"], "addon `t/base` is needed by `t/top`, `t/right`, `t/left`");
    let done = lab.json(&["disable", "base", "--force"]);
    assert_eq!(done["disabled_first"], json!(["t/top", "t/right", "t/left"]));
    assert_eq!(calls(&lab)[4..], ["disable t/top", "disable t/right", "disable t/left", "disable t/base"]);
}

#[test]
fn one_that_cannot_be_enabled_stops_those_above_it() {
    let lab = lab();
    let [top, middle, _] = tower(&lab);
    let base = lab.package("base", &manifest("base", "1.0.0", json!([])), component("panic")).display().to_string();
    lab.lodger(&["install", &top, &middle, &base, "--yes"]).ok();
    let error = lab.lodger(&["--json", "enable", "top"]).fails_with(3, "trapped");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("`t/top` needs `t/middle` needs `t/base`: `enable` of t/base trapped"), "{message}");
    assert_eq!(error["hint"], "`lodger logs t/base` shows what it said");
    assert_eq!(calls(&lab), ["enable t/base"], "the others were not entered");
    let states = states(&lab).into_iter().map(|(_, state)| state).collect::<Vec<_>>();
    assert_eq!(states, ["failed{enable}", "installed", "installed"]);

    // The same where the host itself refuses.
    let lab = self::lab();
    let mut greedy = manifest("base", "1.0.0", json!([]));
    greedy["limits"] = json!({ "memory_bytes": 100 << 20 });
    let [top, middle, _] = tower(&lab);
    lab.lodger(&["install", &top, &middle, &write(&lab, "base", &greedy), "--yes"]).ok();
    let policy = std::fs::read_to_string(lab.home().join("lodger.toml")).unwrap();
    lab.policy(&format!("{policy}[limits]\nmemory_bytes = 67108864\n"));
    for verb in [&["enable", "top"][..], &["enable", "top", "--dry-run"]] {
        let error = refused(&lab, verb, "grant-revoked");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("`t/top` needs `t/middle` needs `t/base`: addon `t/base` is not granted"),
            "{error}"
        );
        assert_eq!(error["problems"][0]["path"], "limits.memory_bytes");
    }
}

#[test]
fn what_others_need_is_disabled_after_them_or_not_at_all() {
    let lab = lab();
    installed(&lab);
    lab.lodger(&["enable", "top"]).ok();
    lab.lodger(&["add", "shop", "top"]).ok();
    for verb in [&["disable", "base"][..], &["disable", "base", "--dry-run"]] {
        let error = refused(&lab, verb, "needed");
        assert_eq!(error["message"], "addon `t/base` is needed by `t/top`, `t/middle`");
        assert_eq!(error["hint"], "`lodger disable t/top`, then `lodger disable t/middle` first, or use --force");
    }
    let would = lab.json(&["disable", "base", "--force", "--dry-run"]);
    assert_eq!(would, json!({ "dry_run": true, "changed": true, "disabled_first": ["t/top", "t/middle"] }));
    assert_eq!(state(&lab, "top"), "enabled");

    // As with one addon: without force, what an app uses stays.
    refused(&lab, &["disable", "top"], "in-use");
    let said = lab.lodger(&["disable", "base", "--force"]).ok().stderr;
    let first = "t/base is needed by others, disabled first: t/top, t/middle\n";
    assert_eq!(said, format!("{first}disabled t/top\ndisabled t/middle\ndisabled t/base\n"));
    let after = ["unprovision t/top", "disable t/top", "disable t/middle", "disable t/base"];
    assert_eq!(calls(&lab)[4..], after);
    assert_eq!(lab.json(&["apps"]), json!({}));
    assert_eq!(lab.lodger(&["disable", "base", "--force"]).ok().stderr, "t/base is not enabled\n");

    // Who is not enabled is in nobody's way.
    lab.lodger(&["enable", "middle"]).ok();
    lab.lodger(&["disable", "middle"]).ok();
    lab.lodger(&["disable", "base"]).ok();
}

#[test]
fn one_that_cannot_be_disabled_stops_those_below_it() {
    let lab = lab();
    let [_, middle, base] = tower(&lab);
    let mut full = manifest("top", "1.0.0", json!([{ "namespace": "t", "name": "middle" }]));
    // Room for what `enable` counts, and none for what `disable` does.
    full["capabilities"] = json!({ "data": { "max_files": 2 } });
    lab.lodger(&["install", &write(&lab, "top", &full), &middle, &base, "--yes"]).ok();
    lab.lodger(&["enable", "top"]).ok();
    let error = lab.lodger(&["--json", "disable", "base", "--force"]).fails_with(1, "refused");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("`t/top` needs `t/middle` needs `t/base`: `disable` of t/top"), "{message}");
    let of = |name: &str| state(&lab, name);
    assert_eq!([of("top"), of("middle"), of("base")], ["failed{disable}", "enabled", "enabled"]);
    // It still has to be cleaned up, with what it needs.
    assert_eq!(refused(&lab, &["disable", "middle"], "needed")["message"], "addon `t/middle` is needed by `t/top`");
    lab.lodger(&["uninstall", "top"]).ok();
    lab.lodger(&["disable", "base", "--force"]).ok();

    // Where that can be told beforehand, nothing is disabled.
    let mut greedy = manifest("greedy", "1.0.0", json!([{ "namespace": "t", "name": "base" }]));
    greedy["limits"] = json!({ "memory_bytes": 100 << 20 });
    lab.lodger(&["install", &write(&lab, "greedy", &greedy), "--yes"]).ok();
    lab.lodger(&["enable", "greedy"]).ok();
    lab.lodger(&["enable", "middle"]).ok();
    let policy = std::fs::read_to_string(lab.home().join("lodger.toml")).unwrap();
    lab.policy(&format!("{policy}[limits]\nmemory_bytes = 67108864\n"));
    let error = refused(&lab, &["disable", "base", "--force"], "grant-revoked");
    assert!(error["message"].as_str().unwrap().starts_with("`t/greedy` needs `t/base`: "), "{error}");
}

#[test]
fn a_long_chain_is_gone_through_and_shown_by_its_ends() {
    let lab = lab();
    let names: Vec<String> = (0..40).map(|number| format!("a{number}")).collect();
    let mut paths = vec![package(&lab, &names[0], &[])];
    for pair in names.windows(2) {
        paths.push(package(&lab, &pair[1], &[&pair[0]]));
    }
    let mut install = vec!["install", "--yes"];
    install.extend(paths[1..].iter().rev().map(String::as_str));
    let message = refused(&lab, &install, "dependency-missing")["message"].to_string();
    assert!(message.contains("`t/a39` needs `t/a38`") && message.contains("`t/a32` needs … needs `t/a7`"), "{message}");
    assert!(message.contains("`t/a1` needs `t/a0`, which is not installed"), "{message}");
    install.push(&paths[0]);
    lab.lodger(&install).ok();
    lab.lodger(&["enable", "a39"]).ok();
    let error = refused(&lab, &["disable", "a0"], "needed");
    let ends = "`t/a39`, `t/a38`, `t/a37`, `t/a36`, `t/a35`, `t/a34`, `t/a33`, `t/a32`, …, `t/a8`, ";
    assert!(error["message"].as_str().unwrap().contains(ends), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("`lodger disable t/a32`, then …, then "), "{error}");
    assert_eq!(lab.json(&["disable", "a0", "--force"])["disabled_first"].as_array().unwrap().len(), 39);
}

#[test]
fn what_others_need_is_uninstalled_after_them() {
    let lab = lab();
    installed(&lab);
    let error = refused(&lab, &["uninstall", "base"], "needed");
    assert_eq!(error["message"], "addon `t/base` is needed by `t/top`, `t/middle`");
    assert_eq!(error["hint"], "`lodger uninstall t/top`, then `lodger uninstall t/middle` first");
    refused(&lab, &["uninstall", "base", "--dry-run"], "needed");
    for name in ["top", "middle", "base"] {
        lab.lodger(&["uninstall", name]).ok();
    }
    assert_eq!(lab.json(&["list"]), json!([]));
}

#[test]
fn a_new_version_that_needs_more_is_checked_as_a_new_addon_is() {
    let lab = lab();
    lab.lodger(&["install", &package(&lab, "top", &[]), "--yes"]).ok();
    lab.lodger(&["enable", "top"]).ok();
    let (top, base) = (package(&lab, "top", &["base"]), package(&lab, "base", &[]));
    let again = ["install", &top, "--dev", "--yes"];
    assert_eq!(
        refused(&lab, &again, "dependency-missing")["message"],
        "`t/top` needs `t/base`, which is not installed"
    );
    // It is enabled, and would go on without what it needs.
    refused(&lab, &["install", &top, &base, "--dev", "--yes"], "dependency-not-enabled");
    lab.lodger(&["install", &base, "--yes"]).ok();
    let error = refused(&lab, &again, "dependency-not-enabled");
    assert_eq!(error["message"], "addon `t/top` needs `t/base`, which is installed");
    assert_eq!(error["hint"], "`lodger enable t/base` first");
    lab.lodger(&["enable", "base"]).ok();
    lab.lodger(&again).ok();
    assert_eq!(refused(&lab, &["disable", "base"], "needed")["message"], "addon `t/base` is needed by `t/top`");
}

#[test]
fn info_and_doctor_show_who_needs_whom_and_what_is_amiss() {
    let lab = lab();
    installed(&lab);
    lab.lodger(&["enable", "top"]).ok();
    let info = lab.json(&["info", "middle"]);
    assert_eq!(info["depends"], json!([{ "addon": "t/base", "installed": "1.0.0", "state": "enabled" }]));
    assert_eq!(info["needed_by"], json!(["t/top"]));
    let shown = lab.lodger(&["info", "middle"]).ok().stdout;
    assert!(shown.contains("needs t/base  1.0.0, enabled\n") && shown.contains("needed by     t/top\n"), "{shown}");
    lab.lodger(&["doctor"]).ok();

    // No verb leaves it like this: somebody else has.
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE addon SET state = 'installed' WHERE id = 't/base'", []).unwrap();
    let findings = lab.lodger(&["--json", "doctor"]).exits(1).json();
    let errors = findings.as_array().unwrap().iter().filter(|finding| finding["severity"] == "error");
    let finding = json!({
        "severity": "error", "subject": "t/middle", "fix": "`lodger enable t/middle`",
        "message": "it is enabled, and needs `t/base`, which is installed",
    });
    assert_eq!(errors.collect::<Vec<_>>(), [&finding]);
    assert_eq!(lab.json(&["enable", "middle"])["enabled_first"], json!(["t/base"]));
    lab.lodger(&["doctor"]).ok();
}

#[test]
fn one_whose_manifest_is_damaged_stands_in_nobodys_way() {
    let lab = lab();
    installed(&lab);
    lab.lodger(&["enable", "middle"]).ok();
    std::fs::write(lab.home().join("addons/t/middle/1.0.0/addon.json"), "{").unwrap();
    lab.lodger(&["disable", "base"]).ok();
    lab.lodger(&["enable", "base"]).ok();
    lab.lodger(&["list"]).ok();
    lab.lodger(&["info", "base"]).ok();
    let findings = lab.lodger(&["--json", "doctor"]).exits(1).json();
    let errors = findings.as_array().unwrap().iter().filter(|finding| finding["severity"] == "error");
    assert!(errors.map(|finding| &finding["subject"]).eq([&json!("t/middle")]), "{findings:#}");
}

#[test]
fn an_embedder_is_told_what_is_not_enabled_or_has_it_enabled() {
    run(async {
        let lab = lab();
        installed(&lab);
        let host = lab.host().await;
        let (top, middle, base) = (addon("t/top"), addon("t/middle"), addon("t/base"));
        let error = host.enable(&top).await.unwrap_err();
        assert!(matches!(&error, Error::DependencyNotEnabled { needed, .. } if *needed == middle), "{error}");
        assert_eq!(host.addon(&top).unwrap().state.to_string(), "installed");
        let mut told = Vec::new();
        let last = host.enable_with_needs(&top, |step| told.push((step.addon.clone(), step.why()))).await.unwrap();
        assert_eq!((&last.addon, last.why()), (&top, None));
        assert!(last.done.outcome.is_completed() && last.done.changed);
        let why = |text: &str| Some(text.to_owned());
        let expected = [
            (base.clone(), why("`t/top` needs `t/middle` needs `t/base`")),
            (middle.clone(), why("`t/top` needs `t/middle`")),
        ];
        assert_eq!(told, expected);
        for force in [false, true] {
            let error = host.disable(&base, force).await.unwrap_err();
            assert!(matches!(&error, Error::Needed { by, .. } if *by == [top.clone(), middle.clone()]), "{error}");
        }
        let last = host.disable_with_dependents(&base, |_| ()).await.unwrap();
        assert!(last.addon == base && last.done.outcome.is_completed());
    });
}

#[test]
fn one_that_is_on_its_way_needs_already_what_is_below_it() {
    let lab = lab();
    let endless = manifest("middle", "1.0.0", json!([{ "namespace": "t", "name": "base" }]));
    let middle = lab.package("middle", &endless, component("endless_loop")).display().to_string();
    lab.lodger(&["install", &middle, &package(&lab, "base", &[]), "--yes"]).ok();
    lab.lodger(&["enable", "base"]).ok();
    let enabling = lab.start(&["enable", "middle"]);
    until(|| (state(&lab, "middle") == "enabling").then_some(()));
    lab.lodger(&["--json", "disable", "base"]).fails_with(1, "needed");
    enabling.kill();
    // It was cut off half-way, and is to be cleaned up first.
    refused(&lab, &["disable", "base"], "needed");
    lab.lodger(&["disable", "base", "--force"]).ok();
    assert_eq!(states(&lab).iter().map(|(_, state)| state.as_str()).collect::<Vec<_>>(), ["installed", "installed"]);
}

/// Whoever comes first: never is one enabled whose need is not.
#[test]
fn enabling_above_and_disabling_below_at_once_leave_no_gap() {
    let lab = lab();
    let [_, middle, base] = tower(&lab);
    lab.lodger(&["install", &middle, &base, "--yes"]).ok();
    for _ in 0..20 {
        lab.lodger(&["enable", "base"]).ok();
        let (enabling, disabling) = (lab.start(&["enable", "middle"]), lab.start(&["disable", "base"]));
        enabling.wait();
        disabling.wait();
        let now = (state(&lab, "middle"), state(&lab, "base"));
        let settled = |state: &str| ["enabled", "installed"].contains(&state);
        assert!(settled(&now.0) && settled(&now.1) && !(now.0 == "enabled" && now.1 == "installed"), "{now:?}");
        lab.lodger(&["disable", "base", "--force"]).ok();
    }
}

#[test]
fn an_author_names_what_the_test_of_an_addon_needs() {
    let lab = lab();
    let [top, ..] = tower(&lab);
    let said = lab.lodger(&["test", &top]).exits(1).stderr;
    assert!(said.contains("name its package in `depends` of lodger-test.toml"), "{said}");
    lab.write("top/lodger-test.toml", "depends = [\"../base\", \"../middle\"]\n");
    let tested = lab.json(&["test", &top]);
    assert_eq!((&tested["addon"], &tested["passed"]), (&json!("t/top"), &json!(true)), "{tested:#}");
    lab.lodger(&["check", &top]).ok();
}

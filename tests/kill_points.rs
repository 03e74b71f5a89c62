//! The program killed at every point at which something lasts, verb by verb: the points count themselves, so that a step
//! that is added is killed at too. After each kill the home is mended, and must be as before or as after; then the verb is
//! repeated, and must come to what it comes to undisturbed.
//!
//! Points of an engine take long. Some of every verb are tried, others in every run; all of them where
//! `LODGER_TEST_FULL` is set, as `cargo xtask test --full` does.

use std::path::Path;

use serde_json::{Value, json};

use crate::lifecycle::upgrade::{ADDON, version};
use crate::support::{Lab, Ran};

const SIGKILL: i32 = -9;

/// Runs a verb, and tells the points it has passed.
pub fn points(lab: &Lab, verb: &[&str]) -> Vec<String> {
    let file = lab.path("points");
    let _ = std::fs::remove_file(&file);
    Ran::of(verb, lab.command(verb).env("LODGER_POINTS", &file).output().unwrap()).ok();
    std::fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Runs a verb that is killed at a point.
#[track_caller]
pub fn kill_at(lab: &Lab, verb: &[&str], point: usize) {
    let output = lab.command(verb).env("LODGER_KILL_AT", point.to_string()).output().unwrap();
    Ran::of(verb, output).exits(SIGKILL);
}

/// A verb that was done already may say so as an error: there is nothing left to undo.
#[track_caller]
pub fn repeat(lab: &Lab, verb: &[&str]) {
    let ran = lab.lodger(&[&["--json"], verb].concat());
    let done = match verb[0] {
        "uninstall" | "disable" => Some("unknown-addon"),
        "rollback" => Some("no-earlier-version"),
        _ => None,
    };
    if ran.code != 0 {
        assert_eq!(Some(ran.json()["error"]["code"].as_str().unwrap()), done, "{ran:#?}");
    }
}

/// All that lasts in a home, without what is another each time.
#[derive(Debug, PartialEq)]
struct Picture {
    addons: Value,
    apps: Value,
    files: Vec<String>,
}

impl Picture {
    fn of(lab: &Lab) -> Picture {
        let home = lab.home();
        let mut files = Vec::new();
        for part in ["addons", "data", "snapshots"] {
            below(&home.join(part), &home, &mut files);
        }
        files.sort();
        let (mut addons, mut apps) = (lab.json(&["list"]), lab.json(&["apps"]));
        for addon in addons.as_array_mut().unwrap() {
            addon["installed_at"] = json!(0);
        }
        for resource in apps.as_object_mut().unwrap().values_mut().flat_map(|all| all.as_array_mut().unwrap()) {
            (resource["created_at"], resource["id"]) = (json!(0), json!("KEY"));
        }
        Picture { addons, apps, files }
    }
}

/// The paths below a directory, with what files hold.
fn below(dir: &Path, home: &Path, files: &mut Vec<String>) {
    let is_key = |part: &str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(home).unwrap().to_str().unwrap();
        let shown: Vec<&str> = shown.split('/').map(|part| if is_key(part) { "KEY" } else { part }).collect();
        let shown = shown.join("/");
        if path.is_dir() {
            // Names of addons that have gone may stay as empty directories of their namespace.
            if shown.split('/').count() > 2 {
                files.push(format!("{shown}/"));
            }
            below(&path, home, files);
        } else {
            let held = std::fs::read(&path).unwrap();
            files.push(format!("{shown}: {}", blake3_of(&held)));
        }
    }
}

fn blake3_of(bytes: &[u8]) -> String {
    // Enough to tell files apart.
    format!(
        "{} bytes, {:x}",
        bytes.len(),
        bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte))
    )
}

/// Nothing is under way, nothing is doubled, and what is not there has no files.
#[track_caller]
fn is_settled(lab: &Lab, point: &str) -> Picture {
    let picture = Picture::of(lab);
    for addon in picture.addons.as_array().unwrap() {
        let state = addon["state"].as_str().unwrap();
        assert!(matches!(state, "installed" | "enabled"), "{point}: {state}");
    }
    for (app, resources) in picture.apps.as_object().unwrap() {
        assert_eq!(resources.as_array().unwrap().len(), 1, "{point}: {app}");
        assert_eq!(resources[0]["state"], "active", "{point}");
    }
    if picture.addons.as_array().unwrap().is_empty() {
        let left: Vec<_> = picture.files.iter().filter(|file| !file.starts_with("data/")).collect();
        assert!(left.is_empty(), "{point}: {left:?}");
    }
    assert!(picture.files.iter().all(|file| !file.contains(".incoming")), "{point}: {:?}", picture.files);
    picture
}

fn id_of(lab: &Lab, app: &str) -> Value {
    lab.json(&["apps"])[app][0]["id"].clone()
}

/// Kills `verb` at each of its points, in homes as `prepare` leaves them.
fn kill_everywhere(prepare: impl Fn(&Lab), verb: &[&str]) {
    let lab = Lab::new();
    prepare(&lab);
    let before = Picture::of(&lab);
    let points = points(&lab, verb);
    let after = Picture::of(&lab);
    assert!(!points.is_empty(), "{verb:?} changes something");
    println!("{}: {} kill points", verb[0], points.len());
    for (number, point) in (1..).zip(&points) {
        let point = format!("{} killed at {number} of {}, {point}", verb[0], points.len());
        let lab = Lab::new();
        prepare(&lab);
        let id = id_of(&lab, "wiki");
        kill_at(&lab, verb, number);
        lab.lodger(&["reconcile"]).ok();
        let mended = is_settled(&lab, &point);
        let same = |one: &Picture| (&one.addons, &one.apps) == (&mended.addons, &mended.apps);
        // An `add --force`d disable goes app by app: between them it is neither.
        assert!(same(&before) || same(&after) || verb.contains(&"--force"), "{point}: {mended:#?}");
        if id != Value::Null && !verb.contains(&"--force") {
            assert_eq!(id_of(&lab, "wiki"), id, "{point}");
        }
        repeat(&lab, verb);
        assert_eq!(Picture::of(&lab), after, "{point}");
        lab.lodger(&["doctor"]).ok();
    }
}

fn first(lab: &Lab) -> String {
    version(lab, "1.0.0", "well", |_| ())
}

fn installed(lab: &Lab) {
    lab.lodger(&["install", &first(lab), "--yes"]).ok();
    version(lab, "1.1.0", "well", |_| ());
}

fn enabled(lab: &Lab) {
    installed(lab);
    lab.lodger(&["enable", ADDON]).ok();
}

fn in_use(lab: &Lab) {
    enabled(lab);
    for app in ["wiki", "shop"] {
        lab.lodger(&["add", app, ADDON]).ok();
    }
}

fn upgraded(lab: &Lab) {
    in_use(lab);
    lab.lodger(&["upgrade", ADDON, "v1.1.0-well"]).ok();
}

#[test]
fn of_install() {
    kill_everywhere(|lab| drop(first(lab)), &["install", "v1.0.0-well", "--yes"]);
}

#[test]
fn of_enable() {
    kill_everywhere(installed, &["enable", ADDON]);
}

#[test]
fn of_add() {
    kill_everywhere(enabled, &["add", "shop", ADDON]);
}

#[test]
fn of_remove() {
    kill_everywhere(in_use, &["remove", "shop", ADDON]);
}

#[test]
fn of_remove_that_keeps() {
    let lab = Lab::new();
    in_use(&lab);
    let verb = ["remove", "shop", ADDON, "--keep-data"];
    for number in 1..=points(&lab, &verb).len() {
        let lab = Lab::new();
        in_use(&lab);
        let id = id_of(&lab, "shop");
        kill_at(&lab, &verb, number);
        lab.lodger(&["reconcile"]).ok();
        repeat(&lab, &verb);
        lab.lodger(&["add", "shop", ADDON]).ok();
        assert_eq!(id_of(&lab, "shop"), id);
    }
}

#[test]
fn of_disable() {
    kill_everywhere(in_use, &["disable", ADDON, "--force"]);
}

#[test]
fn of_upgrade() {
    kill_everywhere(in_use, &["upgrade", ADDON, "v1.1.0-well"]);
}

#[test]
fn of_rollback() {
    kill_everywhere(upgraded, &["rollback", ADDON, "--yes"]);
}

#[test]
fn of_rollback_to_before_it_was_enabled() {
    let prepare = |lab: &Lab| {
        enabled(lab);
        lab.lodger(&["disable", ADDON]).ok();
        lab.lodger(&["upgrade", ADDON, "v1.1.0-well"]).ok();
        lab.lodger(&["enable", ADDON]).ok();
    };
    kill_everywhere(prepare, &["rollback", ADDON, "--yes"]);
}

#[test]
fn of_restore() {
    let prepare = |lab: &Lab| {
        in_use(lab);
        lab.write("other.dump", "other");
    };
    kill_everywhere(prepare, &["restore", "shop", ADDON, "--input", "other.dump"]);
}

#[test]
fn of_uninstall() {
    kill_everywhere(installed, &["uninstall", ADDON, "--yes"]);
}

#[test]
fn of_set() {
    kill_everywhere(enabled, &["set", ADDON, "PLAIN=other"]);
}

#[test]
fn what_only_reads_has_nothing_to_be_cut_off() {
    let lab = Lab::new();
    in_use(&lab);
    for verb in [
        &["env", "shop"][..],
        &["url", "shop", ADDON],
        &["dump", "shop", ADDON],
        &["list"],
        &["explain", ADDON],
        &["doctor"],
    ] {
        assert_eq!(points(&lab, verb), Vec::<String>::new(), "{verb:?}");
    }
}

#[test]
fn a_hook_that_is_cut_off_each_time_is_left_for_a_person_to_decide() {
    let lab = Lab::new();
    enabled(&lab);
    let add = ["add", "shop", ADDON];
    let cut = 1 + points(&lab, &add).iter().position(|point| point == "stored: note the start of a call").unwrap();
    lab.lodger(&["remove", "shop", ADDON]).ok();
    kill_at(&lab, &add, cut);
    for _ in 0..2 {
        // Two points of noting what was cut off, two of beginning again.
        kill_at(&lab, &["reconcile"], 4);
    }
    let repairs = lab.lodger(&["--json", "reconcile"]).exits(1).json();
    assert_eq!((&repairs[0]["hook"], &repairs[0]["what"]), (&json!("provision"), &json!("failed")), "{repairs}");
    assert_eq!(lab.json(&["apps"])["shop"][0]["state"], "interrupted{provision}");
    let findings = lab.lodger(&["doctor"]).exits(1).stdout;
    assert!(findings.contains("`lodger remove shop good/probe`, which --fix does"), "{findings}");
    lab.lodger(&["doctor", "--fix"]).ok();
    assert_eq!(lab.json(&["apps"]), json!({}));
}

//! Backups: a home restored elsewhere with all it had, everything that can be wrong with an archive, and deaths at work.

mod sealed;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tar::EntryType;

use self::sealed::{HEADER, Member, SEALED_CHUNK};
use super::upgrade::{ADDON, version};
use crate::kill_points::{kill_at, points};
use crate::support::{Lab, Ran, SECRET, until};

pub const PASSPHRASE: &str = "correct horse battery staple";

/// `backup` or `restore-home` of a file beside the home.
pub fn with_file<'a>(lab: &Lab, verb: &'a str, file: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    lab.write("passphrase", format!("{PASSPHRASE}\n"));
    [&[verb, file, "--passphrase-file", "passphrase"], rest].concat()
}

#[track_caller]
pub fn back_up(lab: &Lab) -> Value {
    lab.json(&with_file(lab, "backup", "home.backup", &[]))
}

/// The backup in a lab of its own.
pub fn restore(lab: &Lab, backup: &[u8]) -> Ran {
    lab.write("home.backup", backup);
    lab.lodger(&[&["--json"], &with_file(lab, "restore-home", "home.backup", &["--yes"])[..]].concat())
}

/// What files and directories are below a directory, and what they hold.
fn tree(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(below) = dirs.pop() {
        for entry in std::fs::read_dir(below).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let content = (!path.is_dir()).then(|| std::fs::read(&path).unwrap());
            dirs.extend(path.is_dir().then_some(path));
            found.insert(name, content);
        }
    }
    found
}

/// Nothing of any addon is there, on the disk and in the store.
#[track_caller]
fn is_empty(lab: &Lab) {
    for part in ["addons", "data", "snapshots"] {
        assert_eq!(tree(&lab.home().join(part)), BTreeMap::new(), "{part}");
    }
    assert_eq!((lab.json(&["list"]), lab.json(&["apps"])), (json!([]), json!({})));
}

/// A home with addons in several states, plans, aliases, settings, secrets, and something kept of what was removed.
fn furnished(lab: &Lab) {
    let good = lab.well_behaved(|manifest| {
        let plan = |name: &str| json!({ "name": name, "display_name": name, "price": 1.0, "description": name });
        manifest["plans"] = json!([plan("small"), plan("big")]);
    });
    lab.with_stdin(&["set", good, "SECRET=-"], SECRET).ok();
    lab.lodger(&["set", good, "PLAIN=of the operator"]).ok();
    lab.lodger(&["add", "shop", good, "--plan", "big"]).ok();
    lab.lodger(&["add", "shop", good, "--as", "second"]).ok();
    lab.lodger(&["add", "blog", good]).ok();
    lab.lodger(&["remove", "blog", good, "--keep-data"]).ok();
    let example = crate::support::root().join("guest-examples/app-secrets");
    lab.lodger(&["install", example.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "app-secrets"]).ok();
    lab.lodger(&["add", "shop", "app-secrets", "--plan", "long"]).ok();
    let idle = version(lab, "1.0.0", "well", |manifest| manifest["namespace"] = json!("idle"));
    lab.lodger(&["install", &idle, "--yes"]).ok();
    // As wild as a guest can make it.
    let data = lab.data(&good.parse().unwrap());
    let deep = data.join(vec!["deep"; 20].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir_all(data.join("empty")).unwrap();
    std::fs::write(deep.join("x".repeat(255)), "long").unwrap();
    std::fs::write(data.join("deep/\u{202e}\n -rf"), vec![7; 70_000]).unwrap();
}

/// All that can be seen of a home, but when things were installed.
fn seen(lab: &Lab) -> Value {
    let mut infos = Vec::new();
    for addon in lab.json(&["list"]).as_array().unwrap() {
        let id = addon["id"].as_str().unwrap();
        infos.push(json!([lab.json(&["info", id])["settings"], lab.json(&["explain", id])]));
    }
    let mut list = lab.json(&["list"]);
    for addon in list.as_array_mut().unwrap() {
        // As counted by the last call, which was before what the test has written.
        (addon["data_bytes"], addon["data_files"]) = (json!(0), json!(0));
    }
    json!({ "list": list, "apps": lab.json(&["apps"]), "infos": infos, "env": lab.json(&["env", "shop"]) })
}

#[test]
fn a_home_is_restored_on_an_empty_machine_with_all_it_had() {
    let lab = Lab::new();
    furnished(&lab);
    let before = seen(&lab);
    let answer = back_up(&lab);
    let file = lab.path("home.backup");
    let backup = std::fs::read(&file).unwrap();
    let expected = json!({
        "archive": "home.backup", "addons": 3, "resources": 4, "volumes": 0, "bytes": backup.len(),
    });
    assert_eq!(answer, expected);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!backup.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));

    // Another key, another identity, another place; not even the directory is there.
    let other = Lab::cold();
    other.write("home.backup", &backup);
    let dry = other.json(&with_file(&other, "restore-home", "home.backup", &["--dry-run"]));
    assert_eq!(dry["grants"].as_array().unwrap().len(), 3, "{dry}");
    is_empty(&other);
    assert_eq!(
        restore(&other, &backup).ok().json(),
        json!({ "addons": 3, "resources": 4, "volumes": 0, "not_up": [] })
    );
    assert_eq!(seen(&other), before);
    for part in ["addons", "data"] {
        assert_eq!(tree(&other.home().join(part)), tree(&lab.home().join(part)), "{part}");
    }
    assert_ne!(std::fs::read(other.home().join("key")).unwrap(), std::fs::read(lab.home().join("key")).unwrap());
    let calls = other.json(&["calls", "--limit", "1000"]);
    assert!(
        calls.as_array().unwrap().iter().all(|call| call["hook"] == "url" || call["hook"] == "config-vars"),
        "{calls}"
    );
    for lab in [&lab, &other] {
        lab.lodger(&["add", "blog", "good/probe", "--plan", "small"]).ok();
        lab.lodger(&["doctor"]).ok();
    }
    assert_eq!(other.json(&["env", "blog"]), lab.json(&["env", "blog"]), "what was kept of it");
    other.lodger(&["remove", "shop", "app-secrets"]).ok();
    other.lodger(&["enable", "idle/probe"]).ok();

    // A home with anything in it is not written over.
    let error = restore(&other, &backup).fails_with(1, "home-not-empty");
    assert!(error["hint"].as_str().unwrap().contains("restore-home FILE"), "{error}");
    restore(&lab, &backup).fails_with(1, "home-not-empty");
}

#[test]
fn data_that_was_kept_of_an_addon_keeps_a_home_from_being_empty() {
    let (lab, other) = (Lab::new(), Lab::new());
    for lab in [&lab, &other] {
        lab.lodger(&["install", &version(lab, "1.0.0", "well", |_| ()), "--yes"]).ok();
        lab.lodger(&["enable", ADDON]).ok();
    }
    back_up(&lab);
    other.lodger(&["disable", ADDON]).ok();
    other.lodger(&["uninstall", ADDON, "--keep-data"]).ok();
    let error = restore(&other, &std::fs::read(lab.path("home.backup")).unwrap()).fails_with(1, "home-not-empty");
    assert!(error["message"].as_str().unwrap().contains("data of addon `good/probe`"), "{error}");
    assert!(other.data(&ADDON.parse().unwrap()).join("deep/deeper/format").exists());
}

/// A small home, and its backup.
fn small() -> (Lab, Vec<u8>) {
    let lab = Lab::new();
    lab.lodger(&["install", &version(&lab, "1.0.0", "well", |_| ()), "--yes"]).ok();
    lab.lodger(&["enable", ADDON]).ok();
    std::fs::write(lab.data(&ADDON.parse().unwrap()).join("ballast"), vec![7; 200_000]).unwrap();
    lab.lodger(&["add", "shop", ADDON]).ok();
    lab.lodger(&["set", ADDON, "PLAIN=other"]).ok();
    back_up(&lab);
    let backup = std::fs::read(lab.path("home.backup")).unwrap();
    assert!(backup.len() > HEADER + SEALED_CHUNK, "there is more than one chunk");
    (lab, backup)
}

#[test]
fn what_was_cut_off_changed_or_made_by_others_is_told_apart_and_leaves_the_home_empty() {
    let (_, backup) = small();
    let lab = Lab::new();
    let changed = |at: usize| {
        let mut backup = backup.clone();
        backup[at] ^= 1;
        backup
    };
    let chunk = |number: usize| HEADER + number * SEALED_CHUNK..HEADER + (number + 1) * SEALED_CHUNK;
    let swapped = [&backup[..HEADER], &backup[chunk(1).start..], &backup[chunk(0)]].concat();
    let doubled = [&backup[..chunk(0).end], &backup[chunk(0)], &backup[chunk(0).end..]].concat();
    let mut newer = backup.clone();
    newer[15] = 2;
    let mut dear = backup.clone();
    dear[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    for (what, bytes, code) in [
        ("nothing", Vec::new(), "not-a-backup"),
        ("something else", lab_archive(), "not-a-backup"),
        ("half a header", backup[..50].to_vec(), "backup-truncated"),
        ("a header", backup[..HEADER].to_vec(), "backup-truncated"),
        ("one chunk", backup[..chunk(0).end].to_vec(), "backup-truncated"),
        ("some of a chunk", backup[..chunk(0).end - 9].to_vec(), "backup-truncated"),
        ("all but a byte", backup[..backup.len() - 1].to_vec(), "backup-truncated"),
        ("a changed salt", changed(30), "wrong-passphrase"),
        ("a changed MAC", changed(70), "wrong-passphrase"),
        ("a changed chunk", changed(HEADER + 5), "backup-damaged"),
        ("chunks in another order", swapped, "backup-damaged"),
        ("a chunk twice", doubled, "backup-damaged"),
        ("something after its end", [&backup[..], &backup[HEADER..]].concat(), "backup-damaged"),
        ("another format", newer, "backup-newer"),
        ("a dear key", dear, "backup-damaged"),
    ] {
        let ran = restore(&lab, &bytes);
        assert_eq!(ran.json()["error"]["code"], code, "{what}: {ran:?}");
        is_empty(&lab);
    }
    for (passphrase, code) in [("another passphrase", "wrong-passphrase"), ("short", "short-passphrase")] {
        lab.write("home.backup", &backup);
        let mut command = lab.command(&["--json", "restore-home", "home.backup", "--yes"]);
        let ran = Ran::of(&[], command.env("LODGER_BACKUP_PASSPHRASE", passphrase).output().unwrap());
        ran.fails_with(1, code);
    }
    let error = lab.lodger(&["--json", "restore-home", "home.backup", "--yes"]).fails_with(1, "failed");
    assert!(error["message"].as_str().unwrap().contains("LODGER_BACKUP_PASSPHRASE"), "{error}");
    is_empty(&lab);
    restore(&lab, &backup).ok();
}

fn lab_archive() -> Vec<u8> {
    sealed::archive(&[Member::file("backup.json", "{}")])
}

type Change<'a> = Box<dyn Fn(&mut Vec<Member>) + 'a>;

/// Changes the JSON of the first member that ends so.
fn json_of<'a>(ends: &'a str, change: impl Fn(&mut Value) + 'a) -> Change<'a> {
    Box::new(move |members| {
        let member = members.iter_mut().find(|member| member.path.ends_with(ends.as_bytes())).unwrap();
        let mut value = serde_json::from_slice(&member.content).unwrap();
        change(&mut value);
        member.content = serde_json::to_vec(&value).unwrap();
    })
}

/// Puts a member after those of the data directory's root.
fn with(path: &'static str, kind: EntryType, content: &'static [u8]) -> Change<'static> {
    Box::new(move |members| {
        let place = members.iter().position(|member| member.path.starts_with(b"addons/0/data/1/")).unwrap();
        members.insert(place, Member { path: path.into(), kind, content: content.into() });
    })
}

/// Whoever has the passphrase may still be no friend.
fn crafted() -> Vec<(&'static str, Change<'static>)> {
    let file = EntryType::Regular;
    let rows = |change: fn(&mut Value)| json_of("rows.json", change);
    vec![
        ("no plain name", with("addons/0/data/0/..", file, b"")),
        ("no plain name", with("addons/0/data/0/../../../../key", file, b"x")),
        ("no plain name", with("addons/0/data/0//etc/passwd", file, b"x")),
        ("no plain name", with("addons/0/data/0/", file, b"x")),
        ("is not expected there", with("../../key", file, b"x")),
        ("is not expected there", with("/etc/passwd", file, b"x")),
        ("is not expected there", with("addons/1/data/0/x", file, b"x")),
        ("is no entry of a data directory", with("addons/0/data/x/y", file, b"x")),
        ("out of turn", with("addons/0/data/999/x", file, b"x")),
        ("out of turn", Box::new(|members| members.push(Member::file("addons/0/data/0/x", "")))),
        ("exists", with("addons/0/data/0/deep", file, b"x")),
        ("neither a file nor a directory", with("addons/0/data/0/x", EntryType::Symlink, b"")),
        ("neither a file nor a directory", with("addons/0/data/0/x", EntryType::Link, b"")),
        ("neither a file nor a directory", with("addons/0/data/0/x", EntryType::Char, b"")),
        ("neither a file nor a directory", with("addons/0/data/0/x", EntryType::Fifo, b"")),
        ("neither a file nor a directory", with("addons/0/data/0/x", EntryType::XHeader, b"")),
        ("larger than it can be", with("addons/0/data/0/x", EntryType::Directory, b"x")),
        (
            "1048576 bytes it may have",
            Box::new(|members| {
                members.push(Member::file("addons/0/data/0/large", vec![0; 1 << 20]));
            }),
        ),
        (
            "50 files it may have",
            Box::new(|members| {
                members.extend((0..50).map(|number| Member::file(format!("addons/0/data/0/{number}"), "")));
            }),
        ),
        (
            "neither a file nor a directory",
            Box::new(|members| {
                members.push(Member::file(["addons/0/data/0/", &"x".repeat(600)].concat(), ""));
            }),
        ),
        ("is not there", Box::new(|members| members.swap(0, 1))),
        ("is not there", Box::new(|members| drop(members.remove(2)))),
        ("is not expected there", Box::new(|members| members.push(members[1].clone()))),
        ("names an addon twice", json_of("backup.json", |about| about["addons"] = json!([ADDON, ADDON]))),
        ("has another format", json_of("backup.json", |about| about["format"] = json!(2))),
        ("unknown field", json_of("backup.json", |about| about["policy"] = json!("egress = true"))),
        ("is of another addon", json_of("backup.json", |about| about["addons"] = json!(["good/other"]))),
        ("unknown field", rows(|rows| rows["grant"] = json!({ "network": ["*"] }))),
        ("is not the one that was installed", rows(|rows| rows["digest"] = json!("sha256:0"))),
        ("is not that of its package", rows(|rows| rows["version"] = json!("1.0.1"))),
        ("is none it can be in", rows(|rows| rows["state"] = json!("upgrading"))),
        ("is not declared, or too long", rows(|rows| rows["settings"]["OTHER"] = json!("x"))),
        ("is not declared, or too long", rows(|rows| rows["settings"]["PLAIN"] = json!("x".repeat(70_000)))),
        ("has no key of ours", rows(|rows| rows["resources"][0]["key"] = json!("../../../../../../../../../../ke"))),
        ("control or formatting", rows(|rows| rows["resources"][0]["id"] = json!("a\u{1b}b"))),
        ("has no id", rows(|rows| rows["resources"][0]["id"] = Value::Null)),
        ("has a plan", rows(|rows| rows["resources"][0]["plan"] = json!("other"))),
        ("is in no state", rows(|rows| rows["resources"][0]["state"] = json!("provisioning"))),
        ("is not an id", rows(|rows| rows["resources"][0]["app"] = json!("../shop"))),
        (
            "is there twice",
            rows(|rows| {
                let twice = rows["resources"][0].clone();
                rows["resources"].as_array_mut().unwrap().push(twice);
            }),
        ),
        (
            "is not declared by its package",
            rows(|rows| {
                rows["instances"] = json!([{
                    "service": "web", "resource": "", "engine": "local", "running": true, "environment": null, "ports": {},
                }]);
            }),
        ),
        (
            "addons/0/volumes/0/0 is not there",
            rows(|rows| {
                rows["volumes"] = json!([{ "service": "web", "resource": "", "path": "/" }]);
            }),
        ),
    ]
}

#[test]
fn what_lodger_would_not_have_written_is_refused_although_it_is_authentic() {
    let (_, backup) = small();
    let members = sealed::members(&sealed::open(&backup, PASSPHRASE));
    let lab = Lab::new();
    for (number, (says, change)) in crafted().into_iter().enumerate() {
        let mut members = members.clone();
        change(&mut members);
        let ran = restore(&lab, &sealed::seal(&sealed::archive(&members), PASSPHRASE));
        let error = ran.fails_with(1, "invalid-backup");
        assert!(error["message"].as_str().unwrap().contains(says), "{number}, {says}: {error}");
        is_empty(&lab);
    }
    // The package has a reader of its own, and a digest.
    let mut other = members.clone();
    other[2].content = b"no archive".to_vec();
    restore(&lab, &sealed::seal(&sealed::archive(&other), PASSPHRASE)).fails_with(1, "invalid-package");
    is_empty(&lab);
    // What follows the archive's end.
    let trailing = [sealed::archive(&members), b"more".to_vec()].concat();
    restore(&lab, &sealed::seal(&trailing, PASSPHRASE)).fails_with(1, "invalid-backup");
    is_empty(&lab);
    restore(&lab, &sealed::seal(&sealed::archive(&members), PASSPHRASE)).ok();
    assert_eq!(lab.lodger(&["url", "shop", ADDON]).ok().stdout, "probe://shop/1\n");
}

#[test]
fn grants_are_decided_by_the_policy_of_the_new_home_and_accepted_again() {
    let (_, backup) = small();
    let lab = Lab::new();
    lab.policy("[limits]\nmemory_bytes = 1048576\n");
    let error = restore(&lab, &backup).fails_with(1, "grant-refused");
    assert!(error["problems"][0]["hint"].as_str().unwrap().contains("memory_bytes"), "{error}");
    is_empty(&lab);
    lab.policy("[limits]\nmemory_bytes = 67108864\n");
    lab.lodger(&[&["--json"], &with_file(&lab, "restore-home", "home.backup", &[])[..]].concat())
        .fails_with(1, "grant-not-accepted");
    is_empty(&lab);
    let ran = lab.lodger(&with_file(&lab, "restore-home", "home.backup", &["--yes"])).ok();
    assert!(ran.stderr.contains("good/probe may") && ran.stderr.contains("restored 1 addon, 1 resource"), "{ran:?}");
}

#[test]
fn an_addon_that_is_at_work_keeps_the_backup_from_being_made_and_no_file_is_touched() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.write("home.backup", "the one of yesterday");
    lab.policy("[limits]\nlock_wait_ms = 100\n");
    let adding = lab.start(&["add", "shop", "probe", "--option", "hang_once=1"]);
    until(|| (lab.json(&["calls", "--limit", "1"])[0]["hook"] == "provision").then_some(()));
    lab.lodger(&[&["--json"], &with_file(&lab, "backup", "home.backup", &[])[..]].concat()).fails_with(1, "busy");
    assert_eq!(std::fs::read_to_string(lab.path("home.backup")).unwrap(), "the one of yesterday");
    let left = std::fs::read_dir(lab.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with(".lodger-backup")));
    adding.kill();
    back_up(&lab);
    // What was cut off is in it as what it is, and is finished in the new home.
    let other = Lab::new();
    restore(&other, &std::fs::read(lab.path("home.backup")).unwrap()).ok();
    assert_eq!(super::resources(&other, "shop")[0]["state"], "interrupted{provision}");
    other.lodger(&["reconcile"]).ok();
    assert_eq!(super::resources(&other, "shop")[0]["state"], "active");
}

#[test]
fn an_addon_that_the_policy_admits_no_more_is_saved_all_the_same() {
    let (lab, _) = small();
    lab.policy("[limits]\nmemory_bytes = 1048576\n");
    lab.lodger(&["--json", "url", "shop", ADDON]).exits(1);
    back_up(&lab);
    let other = Lab::new();
    restore(&other, &std::fs::read(lab.path("home.backup")).unwrap()).ok();
    assert_eq!(other.lodger(&["url", "shop", ADDON]).ok().stdout, "probe://shop/1\n");
}

#[test]
fn a_backup_goes_to_stdout_where_that_is_asked_for() {
    let (lab, _) = small();
    let mut command = lab.command(&["backup", "-"]);
    let output = command.env("LODGER_BACKUP_PASSPHRASE", PASSPHRASE).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let other = Lab::new();
    restore(&other, &output.stdout).ok();
    assert_eq!(other.lodger(&["url", "shop", ADDON]).ok().stdout, "probe://shop/1\n");
    lab.lodger(&[&["--json"], &with_file(&lab, "backup", "-", &[])[..]].concat()).fails_with(1, "failed");
}

#[test]
fn a_backup_that_is_cut_off_leaves_the_one_before() {
    let (lab, backup) = small();
    let verb = with_file(&lab, "backup", "home.backup", &[]);
    let all = points(&lab, &verb);
    assert_eq!(all, ["file: backup to be put in place", "file: backup put in place"]);
    std::fs::write(lab.path("home.backup"), &backup).unwrap();
    kill_at(&lab, &verb, 1);
    assert_eq!(std::fs::read(lab.path("home.backup")).unwrap(), backup);
    kill_at(&lab, &verb, 2);
    let other = Lab::new();
    restore(&other, &std::fs::read(lab.path("home.backup")).unwrap()).ok();
    assert_eq!(lab.json(&["reconcile"]), json!([]));
}

#[test]
fn a_restore_that_is_cut_off_is_begun_anew_and_nobody_works_with_what_it_left() {
    let (original, backup) = small();
    let fresh = || {
        let lab = Lab::new();
        lab.write("home.backup", &backup);
        lab.lodger(&["list"]).ok();
        lab
    };
    let lab = fresh();
    let verb = with_file(&lab, "restore-home", "home.backup", &["--yes"]);
    let all = points(&lab, &verb);
    println!("restore-home: {} kill points", all.len());
    assert!(all.contains(&"stored: note a restored home".to_owned()), "{all:?}");
    let mut refused = 0;
    for (number, point) in (1..).zip(&all) {
        let lab = fresh();
        let verb = with_file(&lab, "restore-home", "home.backup", &["--yes"]);
        kill_at(&lab, &verb, number);
        let package = version(&lab, "1.0.0", "well", |_| ());
        if lab.json(&["list"]) == json!([]) {
            let ran = lab.lodger(&["--json", "install", &package, "--yes", "--dry-run"]);
            if ran.code != 0 {
                ran.fails_with(1, "restoring");
                refused += 1;
            }
            lab.lodger(&verb).ok();
        }
        assert_eq!(seen_of_small(&lab), seen_of_small(&original), "killed at {point}");
        for part in ["addons", "data"] {
            assert_eq!(tree(&lab.home().join(part)), tree(&original.home().join(part)), "killed at {point}: {part}");
        }
        lab.lodger(&["--json", "install", &package, "--yes"]).ok();
    }
    assert!(refused > 2, "{refused} of {} points are within", all.len());
}

fn seen_of_small(lab: &Lab) -> Value {
    json!([
        lab.json(&["list"]),
        lab.json(&["apps"]),
        lab.json(&["env", "shop"]),
        lab.json(&["info", ADDON])["settings"]
    ])
}

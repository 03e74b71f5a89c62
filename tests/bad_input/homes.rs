//! Homes that are no home: foreign, open, read-only, full, copied, tampered with.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::json;

use super::says;
use crate::support::{LODGER, Lab, Ran, component, probe_manifest};

/// A user who owns nothing.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_home_that_is_no_private_directory_is_refused_with_what_mends_it() {
    let lab = Lab::new();
    lab.lodger(&["list"]).ok();
    for mode in [0o755, 0o750, 0o701, 0o777] {
        chmod(&lab.home(), mode);
        let error = lab.lodger(&["--json", "list"]).fails_with(4, "home-unusable");
        says(&error, &[&format!("mode {mode:o} lets others in")]);
        assert_eq!(error["hint"], format!("chmod 700 {}", lab.home().display()));
    }
    chmod(&lab.home(), 0o700);
    lab.lodger(&["list"]).ok();
    let file = lab.write("file", "");
    let ran = lab.lodger(&["--json", "--home", file.to_str().unwrap(), "list"]);
    says(&ran.fails_with(4, "home-unusable"), &["not a directory"]);
    let ran = lab.lodger(&["--json", "--home", lab.path("no/such/parent").to_str().unwrap(), "list"]);
    says(&ran.fails_with(4, "io"), &["cannot make the home", "no/such/parent"]);
    assert!(!lab.path("no").exists());
}

#[test]
fn a_home_of_another_user_is_refused() {
    let lab = Lab::new();
    lab.lodger(&["list"]).ok();
    // Root can give its home away; everybody else finds that `/usr` is not theirs.
    let foreign = if is_root() {
        chown(lab.home(), Some(NOBODY), None).unwrap();
        lab.home()
    } else {
        "/usr".into()
    };
    let ran = lab.lodger(&["--json", "--home", foreign.to_str().unwrap(), "list"]);
    let error = ran.fails_with(4, "home-unusable");
    says(&error, &["belongs to user", "this is user"]);
    assert_eq!(error["hint"], "run lodger as its owner, or choose another --home");
}

/// The binary as a user whom permissions bind: the tests' own, or nobody where that is root.
struct Bound {
    lab: Lab,
}

impl Bound {
    fn new() -> Bound {
        let lab = Lab::cold();
        fs::copy(LODGER, lab.path("lodger")).unwrap();
        fs::create_dir(lab.home()).unwrap();
        chmod(&lab.home(), 0o700);
        if is_root() {
            chown(lab.home(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Bound { lab }
    }

    fn lodger(&self, args: &[&str]) -> Ran {
        let mut command = self.lab.command_of(self.lab.path("lodger").to_str().unwrap(), args);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ran::of(args, command.output().unwrap())
    }
}

#[test]
fn a_read_only_home_is_an_error_and_stays_as_it_is() {
    let bound = Bound::new();
    let home = bound.lab.home();
    chmod(&home, 0o500);
    let error = bound.lodger(&["--json", "list"]).fails_with(4, "home-unusable");
    says(&error, &["cannot be written"]);
    assert_eq!(error["hint"], "mount it writable");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);

    chmod(&home, 0o700);
    bound.lodger(&["list"]).ok();
}

#[test]
fn a_home_that_is_read_only_in_parts_is_an_error_and_nothing_is_half_installed() {
    for part in ["addons", "data", "cache", "locks"] {
        let bound = Bound::new();
        bound.lodger(&["list"]).ok();
        let package = bound.lab.package("package", &probe_manifest("good", 60_000), component("panic"));
        let install = ["--json", "install", package.to_str().unwrap(), "--yes"];
        chmod(&bound.lab.home().join(part), 0o500);
        says(&bound.lodger(&install).fails_with(4, "io"), &[&format!("/home/{part}/"), "Permission denied"]);
        assert_eq!(bound.lodger(&["--json", "list"]).ok().json(), json!([]));
        chmod(&bound.lab.home().join(part), 0o700);
        bound.lodger(&install).ok();
        bound.lodger(&["explain", "probe"]).ok();
    }
}

/// A limit on the size of files stands for a disk without room: the kernel refuses the same writes.
#[test]
fn without_room_on_the_disk_nothing_is_lost() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let before = (lab.json(&["list"]), lab.json(&["apps"]), lab.json(&["env", "shop"]));
    let other = lab.package("other", &probe_manifest("other", 60_000), component("data_survives"));
    let full = |args: &[&str]| {
        let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
        let all = [&["-c", script, LODGER, "--json"], args].concat();
        Ran::of(args, lab.command_of("sh", &all).output().unwrap())
    };
    let installing = full(&["install", other.to_str().unwrap(), "--yes"]).exits(4);
    let code = installing.json()["error"]["code"].clone();
    assert!(code == "io" || code == "store", "{installing:?}");
    full(&["add", "blog", "probe"]).fails_with(4, "store");
    full(&["set", "probe", "PLAIN=other"]).fails_with(4, "store");
    assert_eq!((lab.json(&["list"]), lab.json(&["apps"]), lab.json(&["env", "shop"])), before);
    assert_eq!(lab.json(&["info", "probe"])["settings"][0]["set"], false);
    lab.lodger(&["add", "blog", "probe"]).ok();
    lab.lodger(&["install", other.to_str().unwrap(), "--yes"]).ok();
}

#[test]
fn a_copied_home_acts_on_nothing_until_it_is_adopted() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    let copy = lab.path("copy");
    let (from, to) = (lab.home(), copy.to_str().unwrap());
    let args = ["-a", from.to_str().unwrap(), to];
    Ran::of(&args, lab.command_of("cp", &args).output().unwrap()).ok();
    let in_copy = |args: &[&str]| lab.lodger(&[&["--json", "--home", copy.to_str().unwrap()], args].concat());

    let package = lab.path("hooks_all").display().to_string();
    let verbs: [&[&str]; 7] = [
        &["remove", "shop", "probe"],
        &["add", "blog", "probe"],
        &["disable", "probe", "--force"],
        &["enable", "probe"],
        &["set", "probe", "PLAIN=1"],
        &["uninstall", "probe"],
        &["install", &package, "--yes"],
    ];
    for verb in verbs {
        let error = in_copy(verb).fails_with(4, "home-copied");
        assert_eq!(error["hint"], "`lodger adopt` makes it a home of its own");
    }
    assert_eq!(in_copy(&["env", "shop"]).ok().json(), lab.json(&["env", "shop"]));
    let findings = in_copy(&["doctor"]).exits(1).json();
    assert!(findings.as_array().unwrap().iter().any(|finding| finding["subject"] == "home"), "{findings}");

    assert_eq!(in_copy(&["adopt"]).ok().json()["changed"], true);
    assert_eq!(in_copy(&["adopt"]).ok().json()["changed"], false);
    in_copy(&["remove", "shop", "probe"]).ok();
    assert_eq!(lab.json(&["apps"])["shop"][0]["state"], "active");
    lab.lodger(&["env", "shop"]).ok();
}

#[test]
fn a_link_in_the_place_of_a_data_directory_is_not_followed() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let elsewhere = lab.write("elsewhere/precious", "precious");
    let data = lab.data(&addon.parse().unwrap());
    fs::rename(&data, lab.path("data")).unwrap();
    symlink(lab.path("elsewhere"), &data).unwrap();
    for verb in [&["add", "shop", "probe"][..], &["disable", "probe"]] {
        says(&lab.lodger(&[&["--json"], verb].concat()).fails_with(4, "io"), &["data"]);
    }
    lab.lodger(&["--json", "uninstall", "probe"]).exits(1);
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
    assert_eq!(fs::read_dir(lab.path("elsewhere")).unwrap().count(), 1);
    fs::remove_file(&data).unwrap();
    fs::rename(lab.path("data"), &data).unwrap();
    lab.lodger(&["disable", "probe"]).ok();
}

#[test]
fn links_a_guest_could_not_have_made_are_not_followed_when_its_data_is_destroyed() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    lab.lodger(&["disable", "probe"]).ok();
    let elsewhere = lab.write("elsewhere/precious", "precious");
    let data = lab.data(&addon.parse().unwrap());
    symlink(lab.path("elsewhere"), data.join("directory")).unwrap();
    symlink(&elsewhere, data.join("file")).unwrap();
    symlink("/", data.join("calls/root")).unwrap();
    lab.lodger(&["uninstall", "probe"]).ok();
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
    assert!(!data.exists());
}

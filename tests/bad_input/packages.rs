//! Packages as directories: regular files and directories, within bounds, and nothing that leads elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{manifest, refused, says};
use crate::support::{Lab, Ran, component};

fn fifo(lab: &Lab, path: &Path) {
    let args = [path.to_str().unwrap()];
    Ran::of(&args, lab.command_of("mkfifo", &args).output().unwrap()).ok();
}

/// A good package, what is done to it, and what the error says. Must not hang, follow or read what is not the package's.
#[test]
fn a_directory_with_anything_but_its_own_files_is_refused() {
    type Change = fn(&Lab, &Path);
    let cases: [(Change, &[&str]); 17] = [
        (|_, dir| fs::remove_file(dir.join("addon.json")).unwrap(), &["there is no `addon.json` in it"]),
        (|_, dir| fs::remove_file(dir.join("addon.wasm")).unwrap(), &["the component `addon.wasm` is not in it"]),
        (|lab, dir| replace_by_link(lab, &dir.join("addon.json")), &["`addon.json` is a symbolic link"]),
        (|lab, dir| replace_by_link(lab, &dir.join("addon.wasm")), &["`addon.wasm` is a symbolic link"]),
        (|lab, dir| replace_by_link(lab, &dir.join("files/readme.txt")), &["`files/readme.txt` is a symbolic link"]),
        (|_, dir| symlink("readme.txt", dir.join("files/within")).unwrap(), &["`files/within` is a symbolic link"]),
        (|_, dir| symlink("nowhere", dir.join("files/dangling")).unwrap(), &["`files/dangling` is a symbolic link"]),
        (|_, dir| symlink("/", dir.join("files/root")).unwrap(), &["`files/root` is a symbolic link"]),
        (
            |_, dir| {
                fs::rename(dir.join("files"), dir.join("real")).unwrap();
                symlink("real", dir.join("files")).unwrap();
            },
            &["`files` is a symbolic link"],
        ),
        (|lab, dir| fifo(lab, &dir.join("files/pipe")), &["`files/pipe` is not a regular file"]),
        (
            |lab, dir| {
                fs::remove_file(dir.join("addon.json")).unwrap();
                fifo(lab, &dir.join("addon.json"));
            },
            &["`addon.json` is not a regular file"],
        ),
        (
            |lab, dir| {
                fs::remove_file(dir.join("addon.wasm")).unwrap();
                fifo(lab, &dir.join("addon.wasm"));
            },
            &["`addon.wasm` is not a regular file"],
        ),
        (|_, dir| drop(UnixListener::bind(dir.join("files/s")).unwrap()), &["package", "cannot be read"]),
        (
            |_, dir| {
                fs::remove_dir_all(dir.join("files")).unwrap();
                fs::write(dir.join("files"), "").unwrap();
            },
            &["`files` is not a directory"],
        ),
        (
            |_, dir| fs::write(dir.join("files/README.txt"), "").unwrap(),
            &["`files/README.txt` and `files/readme.txt` are one path"],
        ),
        (
            |_, dir| fs::write(dir.join("files/a\u{1b}[2Jb"), "").unwrap(),
            &["`files/a\\u{1b}[2Jb`", "control or formatting characters"],
        ),
        (
            |_, dir| fs::write(dir.join("files").join(OsStr::from_bytes(b"a\xffb")), "").unwrap(),
            &["a name in `files` is not UTF-8"],
        ),
    ];
    for (change, words) in cases {
        let lab = Lab::new();
        let package = lab.package("package", &manifest(), component("hello"));
        change(&lab, &package);
        let code = if words.contains(&"cannot be read") { "package-unreadable" } else { "invalid-package" };
        says(&refused(&lab, &package, code), words);
    }
}

/// A private file of the person who installs, that the package wants to have as its own.
fn replace_by_link(lab: &Lab, path: &Path) {
    let private = lab.write("private", "a private key");
    fs::remove_file(path).unwrap();
    symlink(private, path).unwrap();
}

#[test]
fn bounds_of_the_policy_hold_for_directories() {
    let lab = Lab::new();
    let package = lab.package("package", &manifest(), component("hello"));
    for number in 0..20 {
        lab.write(&format!("package/files/{number}"), "x".repeat(1000));
    }
    let size = component("hello").len();
    let cases = [
        ("package_files = 10".to_owned(), "more than 10 entries (limits.package_files)"),
        (format!("package_bytes = {}", size + 5000), "bytes (limits.package_bytes)"),
        (format!("component_bytes = {}", size - 1), "(limits.component_bytes)"),
    ];
    for (limit, message) in cases {
        lab.policy(&format!("[limits]\n{limit}\n"));
        says(&refused(&lab, &package, "invalid-package"), &[message]);
    }
    lab.policy("");
    let mut deep = package.join("files");
    for _ in 0..20 {
        deep = deep.join("d");
    }
    fs::create_dir_all(&deep).unwrap();
    says(&refused(&lab, &package, "invalid-package"), &["the path is too long or too deep"]);
}

#[test]
fn what_is_neither_a_directory_nor_an_archive_is_refused_without_waiting_for_it() {
    let lab = Lab::new();
    fifo(&lab, &lab.path("pipe"));
    for path in [lab.path("pipe"), "/dev/null".into(), "/dev/zero".into()] {
        says(&refused(&lab, &path, "invalid-package"), &["neither a directory nor an archive"]);
    }
    says(&refused(&lab, &lab.path("nothing"), "package-unreadable"), &["nothing", "No such file"]);
    let text = lab.write("text", "hello");
    says(&refused(&lab, &text, "invalid-package"), &["not an archive made by `lodger pack`"]);
    says(&refused(&lab, &text.join("below"), "package-unreadable"), &["Not a directory"]);
}

#[test]
fn of_several_packages_none_is_installed_when_one_is_bad() {
    let lab = Lab::new();
    let good = lab.package("good", &manifest(), component("hello"));
    let good = good.to_str().unwrap();
    for packages in [[good, "/dev/null"], ["/dev/null", good]] {
        let ran = lab.lodger(&[&["--json", "install", "--yes"], &packages[..]].concat());
        ran.fails_with(1, "invalid-package");
        assert_eq!(lab.json(&["list"]), serde_json::json!([]));
        assert!(lab.installed_files().is_empty());
    }
}

#[test]
fn what_is_beside_an_addon_in_its_directory_is_left_there() {
    let lab = Lab::new();
    let package = lab.package("package", &manifest(), component("hello"));
    lab.write("package/src/lib.rs", "");
    symlink("/", package.join("target")).unwrap();
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let names: Vec<_> = lab.installed_files().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["local", "addon", "1.0.0", "addon.json", "component.wasm", "files", "readme.txt"]);
}

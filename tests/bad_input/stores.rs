//! A damaged database or key: said, and left as it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::says;
use crate::support::{Lab, SECRET};

/// A home with an addon, an app and a secret, and nothing of its store still in a journal.
fn used() -> Lab {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.lodger(&["add", "shop", "probe"]).ok();
    lab.with_stdin(&["set", "probe", "SECRET=-"], SECRET).ok();
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(store);
    lab
}

#[test]
fn a_damaged_store_is_an_error_and_is_not_touched() {
    let lab = used();
    let path = lab.home().join("lodger.db");
    let whole = fs::read(&path).unwrap();
    let mut no_header = whole.clone();
    no_header[..16].fill(b'x');
    let mut no_schema = whole.clone();
    no_schema[100..4096].fill(0xff);
    for damaged in
        [no_header, no_schema, b"not a database, but long enough to be taken for one by its size".repeat(100)]
    {
        fs::write(&path, &damaged).unwrap();
        for verb in [&["list"][..], &["add", "blog", "probe"], &["env", "shop"], &["doctor"]] {
            let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(4, "store-damaged");
            says(&error, &["the store is damaged"]);
            let hint = error["hint"].as_str().unwrap();
            assert!(hint.starts_with("nothing was changed; restore `") && hint.contains("lodger.db"), "{hint}");
        }
        assert!(fs::read(&path).unwrap() == damaged, "it was changed");
    }
    fs::write(&path, &whole).unwrap();
    lab.lodger(&["env", "shop"]).ok();
}

#[test]
fn a_store_of_a_newer_lodger_is_left_alone() {
    let lab = used();
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let error = lab.lodger(&["--json", "list"]).fails_with(4, "store-newer");
    assert_eq!(error["message"], "the store is from a newer lodger (schema 99, this one knows 1)");
}

#[test]
fn a_key_that_is_lost_open_or_another_is_an_error_and_nothing_is_made_in_its_place() {
    let lab = used();
    let path = lab.home().join("key");
    let key = fs::read(&path).unwrap();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    says(&lab.lodger(&["--json", "list"]).fails_with(4, "io"), &["key", "mode 644 lets others read it; chmod 600 it"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

    for bytes in [&key[..31], &[&key[..], b"x"].concat()] {
        fs::write(&path, bytes).unwrap();
        says(&lab.lodger(&["--json", "list"]).fails_with(4, "io"), &["key", "not 32 bytes"]);
    }
    fs::write(&path, b"").unwrap();
    let gone = "the key is gone, but the store is there; restore the key";
    says(&lab.lodger(&["--json", "list"]).fails_with(4, "io"), &[gone]);
    assert_eq!(fs::read(&path).unwrap(), b"");

    fs::write(&path, [7; 32]).unwrap();
    let error = lab.lodger(&["--json", "info", "probe"]).fails_with(4, "seal-broken");
    assert_eq!(error["hint"], "the home's `key` file was replaced or damaged; restore it");
    fs::write(&path, &key).unwrap();
    lab.lodger(&["env", "shop"]).ok();
}

#[test]
fn a_key_that_was_deleted_is_not_made_anew() {
    let lab = used();
    let path = lab.home().join("key");
    let key = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let gone = "the key is gone, but the store is there; restore the key";
    for _ in 0..2 {
        says(&lab.lodger(&["--json", "list"]).fails_with(4, "io"), &[gone]);
    }
    fs::write(&path, key).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    lab.lodger(&["list"]).ok();
}

//! Settings: given by value, file and stdin, taken back, and shown only when they are no secret.

use std::fs;

use serde_json::json;

use crate::support::{Lab, SECRET, assert_plain};

fn settings(lab: &Lab) -> serde_json::Value {
    lab.json(&["info", "probe"])["settings"].clone()
}

#[test]
fn a_setting_is_set_by_value_file_or_stdin_and_unset() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let plain = |set: bool, value: &str| json!({ "name": "PLAIN", "secret": false, "set": set, "value": value });
    let secret = |set: bool| json!({ "name": "SECRET", "secret": true, "set": set });
    assert_eq!(settings(&lab), json!([plain(false, "plain-value"), secret(false)]));

    lab.lodger(&["set", "probe", "PLAIN=a=b"]).ok();
    assert_eq!(settings(&lab)[0], plain(true, "a=b"));
    let file = lab.write("value", "from a file\n");
    lab.lodger(&["set", "probe", &format!("PLAIN=@{}", file.display())]).ok();
    assert_eq!(settings(&lab)[0], plain(true, "from a file"));
    lab.with_stdin(&["set", "probe", "PLAIN=-"], "from\nstdin\n").ok();
    assert_eq!(settings(&lab)[0], plain(true, "from\nstdin"));
    lab.lodger(&["set", "probe", "PLAIN="]).ok();
    assert_eq!(settings(&lab)[0], plain(false, "plain-value"));

    let answer = lab.json(&["set", "probe", "PLAIN=one", &format!("SECRET=@{}", file.display())]);
    assert_eq!(answer, json!({ "id": "good/probe", "changed": ["PLAIN", "SECRET"], "dry_run": false }));
    assert_eq!(settings(&lab), json!([plain(true, "one"), secret(true)]));
}

#[test]
fn a_setting_that_cannot_be_is_refused() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let error = lab.lodger(&["--json", "set", "probe", "UNDECLARED=1"]).fails_with(1, "unknown-setting");
    assert_eq!(error["hint"], "the manifest declares `PLAIN`, `SECRET`");
    lab.lodger(&["--json", "set", "probe", "PLAIN"]).fails_with(1, "failed");
    lab.lodger(&["--json", "set", "probe", "PLAIN=@no-such-file"]).fails_with(1, "failed");
    let empty = lab.with_stdin(&["--json", "set", "probe", "PLAIN=-"], "\n");
    empty.fails_with(1, "failed");
    let large = lab.write("large", "x".repeat((64 << 10) + 1));
    let ran = lab.lodger(&["--json", "set", "probe", &format!("PLAIN=@{}", large.display())]);
    ran.fails_with(1, "setting-too-long");
    assert_eq!(settings(&lab)[0]["set"], false);
}

#[test]
fn a_secret_is_never_shown_and_not_stored_as_it_is() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    lab.with_stdin(&["set", "probe", "SECRET=-"], SECRET).ok();
    lab.lodger(&["add", "shop", "probe"]).ok();
    let private = lab.json(&["env", "shop"])["PROBE_URL"].as_str().unwrap().to_owned();
    let (_, private) = private.split_once("password-of-").unwrap();
    let private = format!("password-of-{}", &private[..32]);
    let verbs: [&[&str]; 9] = [
        &["info", "probe"],
        &["explain", "probe"],
        &["list"],
        &["apps"],
        &["calls"],
        &["logs", "probe"],
        &["doctor"],
        &["set", "probe", "SECRET=other-value", "--dry-run"],
        &["set", "probe", "UNDECLARED=1"],
    ];
    for verb in verbs {
        for ran in [lab.lodger(verb), lab.lodger(&[&["--json"], verb].concat())] {
            for shown in [&ran.stdout, &ran.stderr] {
                assert!(!shown.contains(SECRET) && !shown.contains(&private), "{ran:?}");
                assert_plain(shown);
            }
        }
    }
    for file in ["lodger.db", "lodger.db-wal"] {
        let bytes = fs::read(lab.home().join(file)).unwrap_or_default();
        for hidden in [SECRET, &private] {
            assert!(!bytes.windows(hidden.len()).any(|window| window == hidden.as_bytes()), "{hidden} in {file}");
        }
    }
}

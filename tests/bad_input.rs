//! Input that is wrong, hostile or damaged: a clear error with a stable code, the place and a hint, and nothing half-done.

mod archives;
mod cache;
mod components;
mod homes;
mod manifests;
mod packages;
mod policies;
mod stores;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Lab, assert_plain};

/// The smallest manifest of an addon with a component.
fn manifest() -> Value {
    json!({ "name": "addon", "version": "1.0.0", "component": "addon.wasm" })
}

/// Installs what must be refused, and looks that nothing of it stays. Returns the error.
#[track_caller]
fn refused(lab: &Lab, package: &Path, code: &str) -> Value {
    let package = package.to_str().unwrap();
    let (list, files) = (lab.json(&["list"]), lab.installed_files());
    let error = lab.lodger(&["--json", "install", package, "--yes"]).fails_with(1, code);
    // The same for people: nothing on stdout, code and message on stderr.
    let told = lab.lodger(&["install", package, "--yes"]).exits(1);
    assert_eq!(told.stdout, "");
    let first = format!("error: {} ({code})", error["message"].as_str().unwrap());
    assert_eq!(told.stderr.lines().next(), Some(&*first));
    assert_plain(&told.stderr);
    assert_eq!(lab.json(&["list"]), list);
    assert_eq!(lab.installed_files(), files);
    error
}

/// Ends the test unless the error's message has all these words.
#[track_caller]
fn says(error: &Value, words: &[&str]) {
    let message = error["message"].as_str().unwrap();
    assert!(words.iter().all(|word| message.contains(word)), "{words:?} in {error:#}");
}

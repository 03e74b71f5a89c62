//! The life of an addon, through the binary as its users type it.

mod apps;
pub mod backup;
mod consent;
mod crash;
mod depends;
mod dump;
mod events;
mod failure;
mod known;
mod network;
mod plans;
mod retention;
mod set;
pub mod upgrade;
mod variables;
mod verbs;

use serde_json::Value;

use crate::support::{Lab, until};

/// All that a verb could change: what is installed, who has what, which calls were made, which files there are.
#[derive(Debug, PartialEq)]
struct Picture {
    addons: Value,
    apps: Value,
    calls: Value,
    files: Vec<String>,
}

impl Picture {
    fn of(lab: &Lab) -> Picture {
        let mut files = Vec::new();
        for part in ["addons", "data"] {
            let mut dirs = vec![lab.home().join(part)];
            while let Some(dir) = dirs.pop() {
                for entry in std::fs::read_dir(dir).into_iter().flatten() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        dirs.push(path.clone());
                    }
                    files.push(path.display().to_string());
                }
            }
        }
        files.sort();
        Picture { addons: lab.json(&["list"]), apps: lab.json(&["apps"]), calls: lab.json(&["calls"]), files }
    }
}

/// The state of the only addon.
#[track_caller]
fn state(lab: &Lab) -> String {
    let list = lab.json(&["list"]);
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    list[0]["state"].as_str().unwrap().to_owned()
}

/// What an app has, in the order it was added.
fn resources(lab: &Lab, app: &str) -> Vec<Value> {
    lab.json(&["apps"])[app].as_array().cloned().unwrap_or_default()
}

/// The hooks that were called and how they ended, the oldest first.
fn outcomes(lab: &Lab) -> Vec<(String, String)> {
    let calls = lab.json(&["calls", "--limit", "1000"]);
    let text = |call: &Value, key: &str| call[key].as_str().unwrap_or("running").to_owned();
    calls.as_array().unwrap().iter().rev().map(|call| (text(call, "hook"), text(call, "outcome"))).collect()
}

fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(hook, outcome)| (hook.to_owned(), outcome.to_owned())).to_vec()
}

/// Waits until the newest call is this hook and under way: the guest is entered, or about to be.
fn under_way(lab: &Lab, hook: &str) {
    until(|| {
        let calls = lab.json(&["calls", "--limit", "1"]);
        (calls[0]["hook"] == hook && calls[0]["outcome"] == Value::Null).then_some(())
    });
}

//! Services on a real engine: what addons declare runs, is reached, is mended, and leaves nothing behind.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests look at the engine from outside, and use services as apps do"
)]

mod backup;
mod cut_off;
mod disk;
mod faults;
mod guard;
pub mod guests;
mod images;
mod kill_points;
mod lost;
mod manager;
mod market;
mod oakestra;
mod outages;
mod podman;
mod postgres;
mod private;
mod redis;
mod refused;
mod remote;
mod replaceable;
mod secrets;
mod served;
mod slots;
mod upgrade;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::support::{Lab, Ran, component};

/// A home with a namespace and ports of its own, whose containers, networks and volumes go with it.
struct Site {
    lab: Lab,
    namespace: String,
}

impl Site {
    fn new() -> Site {
        Site::with_policy("")
    }

    /// With more lines under `[grant]`.
    fn with_policy(grant: &str) -> Site {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lab = Lab::new();
        let first = 17_000 + number * 20;
        lab.policy(&format!(
            "[grant]\nunpinned = [\"docker.io/library/*\", \"docker.io/lodger-test/*\"]\nhost_ports = \"{first}-{}\"\n{grant}",
            first + 19
        ));
        Site { lab, namespace: format!("t{}-{number}", std::process::id()) }
    }

    /// Installs an addon of services only, and returns its name.
    fn install(&self, name: &str, services: Value) -> String {
        self.install_with(json!({ "name": name, "version": "1.0.0", "services": services }))
    }

    fn install_with(&self, manifest: Value) -> String {
        let name = manifest["name"].as_str().unwrap().to_owned();
        let package = self.package(manifest);
        self.lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
        format!("{}/{name}", self.namespace)
    }

    fn package(&self, mut manifest: Value) -> PathBuf {
        manifest["namespace"] = json!(self.namespace);
        let name = manifest["name"].as_str().unwrap().to_owned();
        let component = manifest["component"].as_str().map(|file| component(file.trim_end_matches(".wasm")));
        self.lab.package(&name, &manifest, component.unwrap_or_default())
    }

    /// An addon among the examples, under this site's namespace.
    fn example(&self, name: &str) -> String {
        self.install_with(Site::manifest(name))
    }

    fn manifest(example: &str) -> Value {
        let path = crate::support::root().join("guest-examples").join(example).join("addon.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Another version of an example, with something changed: the path of its package.
    fn version(&self, example: &str, version: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut manifest = Site::manifest(example);
        manifest["version"] = json!(version);
        change(&mut manifest);
        self.package(manifest).to_str().unwrap().to_owned()
    }

    fn lodger(&self, args: &[&str]) -> Ran {
        self.lab.lodger(args)
    }

    fn state(&self, addon: &str) -> String {
        self.lab.json(&["info", addon])["state"].as_str().unwrap().to_owned()
    }

    /// The names of what the engine has of this site: `containers`, `networks` or `volumes`, sorted.
    fn has(&self, kind: &str) -> Vec<String> {
        let (list, format): (&[&str], _) = match kind {
            "containers" => (&["ps", "--all"], "{{.Names}} {{.Label \"lodger.addon\"}}"),
            "networks" => (&["network", "ls"], "{{.Name}} {{.Label \"lodger.addon\"}}"),
            _ => (&["volume", "ls"], "{{.Name}} {{.Label \"lodger.addon\"}}"),
        };
        let listed = docker(&[list, &["--filter", "label=lodger.addon", "--format", format]].concat());
        let ours = format!(" {}/", self.namespace);
        let names = listed.lines().filter_map(|line| line.split_once(&ours).map(|(name, _)| name.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[track_caller]
    fn has_nothing(&self) {
        for kind in ["containers", "networks", "volumes"] {
            assert_eq!(self.has(kind), Vec::<String>::new(), "{kind}");
        }
    }
}

impl Drop for Site {
    #[expect(clippy::disallowed_methods, reason = "what a failed test has left goes, too")]
    fn drop(&mut self) {
        for (kind, remove) in [("containers", "rm"), ("networks", "network"), ("volumes", "volume")] {
            for name in self.has(kind) {
                let args: &[&str] = if remove == "rm" { &["rm", "-fv", &name] } else { &[remove, "rm", &name] };
                let _ = Command::new("docker").args(args).output();
            }
        }
    }
}

/// Runs the engine's own command, which must succeed, and returns what it printed.
#[track_caller]
fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output();
    let output = output.expect("no `docker`: run `cargo xtask test --install-engine`");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A service of a small image that runs until it is stopped.
fn web(name: &str) -> Value {
    json!({
        "service_name": name, "image": "lodger-test/web:1", "ports": { "8080": "0" },
        "ready": { "port": 8080, "timeout_ms": 20000 },
    })
}

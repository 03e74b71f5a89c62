//! What the engine's machine is kept from by the rules that `doctor` shows, and what goes on as before.

use serde_json::{Value, json};

use super::private::PrivateEngine;
use super::{Site, web};
use crate::support::{LODGER, Ran};

const PAGE: &str = "a page of lodger-test/web";

/// An engine with a firewall of its own, and a home whose services go there.
struct Guarded {
    engine: PrivateEngine,
    site: Site,
}

impl Guarded {
    /// The binary, in the world of the engine.
    fn lodger(&self, args: &[&str]) -> Ran {
        let (program, mut words) = self.engine.inside(LODGER);
        words.extend(args.iter().map(ToString::to_string));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ran::of(args, self.site.lab.command_of(program, &words).output().unwrap())
    }

    /// The engine's own command, which must succeed.
    #[track_caller]
    fn docker(&self, args: &[&str]) -> String {
        let done = self.engine.docker().args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    #[track_caller]
    fn firewall(&self, rule: &str) {
        let (program, mut words) = self.engine.inside("iptables");
        words.extend(rule.strip_prefix("iptables ").unwrap().split(' ').map(str::to_owned));
        let done = std::process::Command::new(program).args(words).output().unwrap();
        assert!(done.status.success(), "{rule}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The container of a service.
    fn container(&self, service: &str) -> String {
        let format = ["ps", "--format", "{{.Names}}", "--filter"];
        self.docker(&[&format[..], &[&format!("name=^lodger-{service}-")]].concat())
    }

    /// Whether a container gets the page of `host`.
    fn gets(&self, container: &str, host: &str, port: &str) -> bool {
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} {port}");
        let done = self.engine.docker().args(["exec", container, "sh", "-c", &ask]).output().unwrap();
        String::from_utf8_lossy(&done.stdout).contains(PAGE)
    }

    /// Which of the machine's addresses a container has as its neighbour, in each of its networks.
    fn gateways(&self, container: &str) -> Vec<String> {
        let networks = self.docker(&["inspect", "--format", "{{json .NetworkSettings.Networks}}", container]);
        let networks: Value = serde_json::from_str(&networks).unwrap();
        let names = networks.as_object().unwrap().keys();
        let format = "{{(index .IPAM.Config 0).Gateway}}";
        names.map(|name| self.docker(&["network", "inspect", "--format", format, name])).collect()
    }

    /// What `doctor` says of the engine's machine: how grave it is, and what to do.
    fn told(&self) -> (String, String) {
        let findings = self.lodger(&["--json", "doctor"]).ok().json();
        let about = |finding: &&Value| finding["message"].as_str().unwrap().contains(" its machine");
        let found: Vec<&Value> = findings.as_array().unwrap().iter().filter(about).collect();
        assert_eq!(found.len(), 1, "{findings}");
        let text = |key: &str| found[0][key].as_str().unwrap().to_owned();
        (text("severity"), text("fix"))
    }
}

fn commands(fix: &str) -> Vec<&str> {
    fix.split('`').filter(|part| part.starts_with("iptables ")).collect()
}

/// A machine with an open port, addresses of a cloud's metadata that it forwards to, and an addon on it: `web` is published
/// and reaches the outside, `inner` only its sibling.
fn machine() -> (Guarded, String) {
    let engine = PrivateEngine::with(&[], &["lodger-test/web:1", "lodger-test/shell:1"]);
    let guarded = Guarded { site: Site::with_policy("egress = true\n"), engine };
    guarded.engine.has_services_of(&guarded.site, "", "");
    guarded.docker(&["run", "--detach", "--name", "machine", "--network", "host", "lodger-test/web:1"]);
    guarded.docker(&["network", "create", "--subnet", "169.254.169.0/24", "cloud"]);
    let cloud = ["--network", "cloud", "--ip", "169.254.169.254"];
    guarded.docker(&[&["run", "--detach", "--name", "metadata"], &cloud[..], &["lodger-test/web:1"]].concat());
    // As if it were not on this machine, where the engine keeps its networks from each other.
    for way in ["-d", "-s"] {
        guarded.firewall(&format!("iptables -I DOCKER-USER {way} 169.254.169.254 -j ACCEPT"));
    }
    let mut outer = web("web");
    outer["egress"] = json!(true);
    let inner = json!({ "service_name": "inner", "image": "lodger-test/shell:1" });
    let addon = guarded.site.install("addon", json!([outer, inner]));
    guarded.lodger(&["enable", &addon]).ok();
    (guarded, addon)
}

#[test]
fn the_rules_doctor_shows_keep_services_off_the_machine_and_nothing_else() {
    let (guarded, addon) = machine();
    let services = ["web", "inner"].map(|service| guarded.container(service));
    let reaches_machine = |container: &String| {
        let gateways = guarded.gateways(container);
        assert!(!gateways.is_empty());
        gateways.iter().any(|gateway| guarded.gets(container, gateway, "8080"))
    };
    let [web, inner] = &services;
    assert!(services.iter().all(reaches_machine), "of an internal network too");
    assert!(guarded.gets(web, "169.254.169.254", "8080"));
    let line = "reach ports of its machine that listen on more than 127.0.0.1, from";
    let explained = guarded.lodger(&["--json", "explain", &addon]).ok().json();
    assert!(explained.to_string().contains(&format!("{line} inner")), "{explained}");
    let (severity, fix) = guarded.told();
    assert_eq!(severity, "warning");

    assert_eq!(commands(&fix).len(), 2, "{fix}");
    for command in commands(&fix) {
        guarded.firewall(command);
    }
    assert!(!services.iter().any(reaches_machine));
    assert!(!guarded.gets(web, "169.254.169.254", "8080"));
    let policy = guarded.site.lab.home().join("lodger.toml");
    std::fs::write(&policy, std::fs::read_to_string(&policy).unwrap() + "guarded = true\n").unwrap();
    let (severity, check) = guarded.told();
    assert_eq!(severity, "note");
    for command in commands(&check) {
        guarded.firewall(command);
    }
    let explained = guarded.lodger(&["explain", &addon]).ok().stdout;
    assert!(!explained.contains(line) && explained.contains("reach its machine or 169.254.0.0/16 from inner"));
    assert!(explained.contains("lodger.toml: engine.guarded"), "{explained}");

    // Siblings, what is published, and starting and stopping go on: also in networks that are made after the rules.
    assert!(guarded.gets(inner, "web", "8080"));
    assert_eq!(guarded.lodger(&["--json", "reconcile"]).ok().json(), json!([]));
    guarded.lodger(&["disable", &addon]).ok();
    guarded.lodger(&["enable", &addon]).ok();
    let services = ["web", "inner"].map(|service| guarded.container(service));
    assert!(!services.iter().any(reaches_machine));
    let published = guarded.docker(&["port", &services[0]]);
    let port = published.rsplit(':').next().unwrap();
    assert!(guarded.gets("machine", "127.0.0.1", port), "{published}");
    guarded.lodger(&["disable", &addon]).ok();
}

#[test]
fn in_a_network_of_apps_the_rules_are_not_enough_and_that_is_said() {
    let engine = PrivateEngine::new(&["lodger-test/web:1"]);
    let site = Site::new();
    engine.has_services_of(&site, "guarded = true", "[apps]\nreach = \"network:apps\"\n");
    let addon = site.install("addon", json!([{ "service_name": "web", "image": "lodger-test/web:1" }]));
    site.lodger(&["enable", &addon]).ok();
    let explained = site.lodger(&["explain", &addon]).ok().stdout;
    assert!(explained.contains("apps.reach is a network that lodger has not made"), "{explained}");
    let doctor = site.lodger(&["doctor"]).ok().stdout;
    assert!(
        doctor.contains("from the network apps, which lodger has not made, services reach its machine"),
        "{doctor}"
    );
    site.lodger(&["disable", &addon]).ok();
}

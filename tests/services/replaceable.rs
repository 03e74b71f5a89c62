//! Containers of somebody's platform that a plugin's service stands in for: the platform's other parts reach the one or the
//! other by the same names, and whatever happens in between, the container is there again in the end.

use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use super::kill_points::chosen;
use super::{Site, docker, web};
use crate::kill_points::{kill_at, points, repeat};
use crate::lifecycle::backup::{back_up, restore};
use crate::support::{Ran, addon, probe_manifest, until};

const SOCKET: &str = "/var/run/docker.sock";

/// A core part in two networks, and another part that asks it. They and their networks go with their test.
struct Parts {
    name: String,
}

impl Parts {
    fn new() -> Parts {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let parts = Parts { name: format!("part-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)) };
        let [inner, outer] = parts.networks();
        docker(&["network", "create", "--internal", &inner]);
        docker(&["network", "create", "--internal", &outer]);
        parts.make_core(&[]);
        docker(&["run", "--detach", "--name", &parts.asks(), "--network", &inner, "lodger-test/shell:1"]);
        docker(&["network", "connect", &outer, &parts.asks()]);
        parts
    }

    fn make_core(&self, options: &[&str]) {
        let page =
            "mkdir -p /tmp/www && echo the core part >/tmp/www/index.html && exec term httpd -f -p 8080 -h /tmp/www";
        let [inner, outer] = &self.networks();
        let name = &self.core();
        let run = ["run", "--detach", "--name", name, "--network", inner, "--network-alias", "scheduler"];
        docker(&[&run, options, &["lodger-test/web:1", "sh", "-c", page]].concat());
        docker(&["network", "connect", "--alias", "elsewhere", outer, name]);
    }

    fn core(&self) -> String {
        format!("{}_scheduler", self.name)
    }

    fn asks(&self) -> String {
        format!("{}_asks", self.name)
    }

    fn networks(&self) -> [String; 2] {
        ["inner", "outer"].map(|network| format!("{}_{network}", self.name))
    }

    fn core_runs(&self) -> bool {
        docker(&["inspect", "--format", "{{.State.Running}}", &self.core()]).trim() == "true"
    }

    /// Who answers the platform's other part under a name.
    fn answers(&self, name: &str) -> &'static str {
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {name} 8080 || true");
        let page = docker(&["exec", &self.asks(), "sh", "-c", &ask]);
        match () {
            () if page.contains("the core part") => "core",
            () if page.contains("a page of lodger-test/web") => "plugin",
            () => "nobody",
        }
    }

    /// Waits until the core part is as it was: it answers under all of its names.
    #[track_caller]
    fn are_back(&self) {
        assert!(self.core_runs(), "it was started before the verb had ended");
        for name in [self.core().as_str(), "scheduler", "elsewhere"] {
            until(|| (self.answers(name) == "core").then_some(()));
        }
    }

    /// The policy that lets addons stand in for it.
    fn policy(&self) -> String {
        format!("slots = [\"scheduler\", \"ui\"]\n{}", self.replaceable("scheduler"))
    }

    fn replaceable(&self, slot: &str) -> String {
        format!("[[replaceable]]\nslot = \"{slot}\"\ncontainer = \"{}\"\n", self.core())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for container in [self.core(), self.asks()] {
            let _ = Command::new("docker").args(["rm", "--force", "--volumes", &container]).output();
        }
        for network in self.networks() {
            let _ = Command::new("docker").args(["network", "rm", &network]).output();
        }
    }
}

/// A home beside the platform. What the home has in the platform's networks goes before they do.
struct Platform {
    site: Site,
    parts: Parts,
}

impl Platform {
    fn new() -> Platform {
        let parts = Parts::new();
        Platform { site: Site::with_policy(&parts.policy()), parts }
    }

    /// Installs an addon that replaces the scheduler by these services.
    fn plugin(&self, services: Value) -> String {
        self.site.install_with(plugin(services))
    }

    /// The path of another version of such an addon.
    fn version(&self, version: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut manifest = plugin(json!([web("web")]));
        manifest["version"] = json!(version);
        change(&mut manifest);
        self.site.package(manifest).to_str().unwrap().to_owned()
    }

    fn upgrade(&self, plugin: &str, package: &str) -> Ran {
        let plan = self.site.lab.json(&["upgrade", plugin, package, "--dry-run"]);
        let grant = plan["grant"].as_str().unwrap();
        self.site.lodger(&["--json", "upgrade", plugin, package, "--accept-grant", grant])
    }

    /// The plugin stands in, alone and well.
    #[track_caller]
    fn plugin_stands_in(&self) {
        until(|| (self.parts.answers("scheduler") == "plugin").then_some(()));
        assert_eq!((self.parts.core_runs(), self.site.has("containers").len()), (false, 1));
        assert_eq!(self.site.lab.json(&["reconcile"]), json!([]));
    }

    fn told(&self) -> Value {
        let findings = self.site.lab.json(&["doctor"]);
        let about = findings.as_array().unwrap().iter().rfind(|finding| finding["subject"] == "slot scheduler");
        about.expect("doctor tells of it").clone()
    }

    #[track_caller]
    fn is_told(&self, severity: &str, words: &str) {
        let told = self.told();
        assert!(told["severity"] == severity && told["message"].as_str().unwrap().contains(words), "{words}: {told}");
    }
}

fn plugin(services: Value) -> Value {
    json!({ "name": "plugin", "version": "1.0.0", "replaces": "scheduler", "services": services })
}

/// One that is never ready, and waited for for long.
fn mute() -> Value {
    json!([{
        "service_name": "mute", "image": "lodger-test/silent:1", "ready": { "port": 8080, "timeout_ms": 300_000 },
    }])
}

#[test]
fn a_plugin_stands_in_for_a_container_until_it_is_disabled() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    parts.are_back();
    platform.is_told("note", "no addon stands in for the container");
    let mut helper = web("helper");
    helper["ports"] = json!({});
    let plugin = platform.plugin(json!([helper, web("scheduler")]));
    let line = format!("stand in for the container {} of this machine", parts.core());
    let grant = site.lab.json(&["explain", &plugin]);
    let because = "addon.json: replaces; lodger.toml: [[replaceable]] of slot `scheduler`";
    let lines = grant["lines"].as_array().unwrap();
    let line = lines.iter().find(|one| one["what"].as_str().unwrap().starts_with(&line)).expect("it is consented to");
    assert_eq!((&line["may"], &line["because"]), (&json!(true), &json!(because)));
    assert_eq!(grant["stands_in"], json!({ "service": "scheduler", "container": parts.core(), "engine": "local" }));
    assert_eq!(parts.answers(&parts.core()), "core");

    site.lodger(&["enable", &plugin]).ok();
    assert!(!parts.core_runs());
    for name in [parts.core().as_str(), "scheduler", "elsewhere"] {
        assert_eq!(parts.answers(name), "plugin", "{name}");
    }
    assert_eq!(parts.answers("helper"), "nobody", "its sibling is none of the platform's");
    platform.is_told("note", &format!("service scheduler of `{plugin}` stands in for the container"));
    let containers = site.has("containers");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "made of what was noted, it is the same again");
    assert_eq!(site.has("containers"), containers);

    // Somebody starts it: one of the two is enough.
    docker(&["start", &parts.core()]);
    platform.is_told("warning", "runs beside service scheduler");
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!((&repaired[0]["what"], repaired.as_array().unwrap().len()), (&json!("stands in"), 1), "{repaired}");
    assert!(!parts.core_runs());

    // Its own container goes: it is made again, in the same networks.
    docker(&["rm", "--force", site.has("containers").iter().find(|name| name.contains("-scheduler-")).unwrap()]);
    platform.is_told("warning", "does not run");
    site.lodger(&["reconcile"]).ok();
    until(|| (parts.answers("elsewhere") == "plugin").then_some(()));

    site.lodger(&["disable", &plugin]).ok();
    parts.are_back();
    site.lodger(&["uninstall", &plugin, "--yes"]).ok();
    site.has_nothing();
    parts.are_back();
}

#[test]
fn an_enable_that_fails_gives_the_container_back() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let ends = platform.plugin(json!([{ "service_name": "ends", "image": "lodger-test/exits:1" }]));
    site.lodger(&["--json", "enable", &ends]).fails_with(1, "service-not-ready");
    assert_eq!(site.state(&ends), "failed{enable}");
    parts.are_back();
    assert_eq!(site.has("containers"), Vec::<String>::new());
    site.lodger(&["uninstall", &ends, "--yes"]).ok();

    // Here the service is fine, and the hook is not. It fills a slot that only the policy knows.
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&policy.replace("slot = \"scheduler\"", "slot = \"ui\""));
    let mut told = web("web");
    told["environment"] = json!({ "TOKEN": "" });
    told["secret_files"] = json!(["TOKEN"]);
    let hangs = site.install_with(json!({
        "name": "hangs", "version": "1.0.0", "component": "endless_loop.wasm", "config_vars": [], "replaces": "ui",
        "limits": { "deadlines_ms": { "default": 500 } }, "services": [told], "settings": { "TOKEN": { "secret": true } },
    }));
    site.lodger(&["set", &hangs, "TOKEN=s3cret"]).ok();
    site.lodger(&["--json", "enable", &hangs]).fails_with(3, "deadline-exceeded");
    parts.are_back();
    assert_eq!((site.has("containers"), site.has("volumes")), (Vec::new(), Vec::new()));
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
}

#[test]
fn a_disable_that_fails_gives_the_container_back() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&policy.replace("slot = \"scheduler\"", "slot = \"ui\""));
    let plugin = site.install_with(json!({
        "name": "plugin", "version": "1.0.0", "component": "data_survives.wasm", "config_vars": [], "replaces": "ui",
        "services": [web("web")],
    }));
    site.lodger(&["enable", &plugin]).ok();
    assert_eq!(parts.answers("scheduler"), "plugin");
    // Its hook will not find what it has written.
    std::fs::write(site.lab.data(&addon(&plugin)).join("calls"), "").unwrap();
    site.lodger(&["--json", "disable", &plugin]).fails_with(1, "refused");
    assert_eq!(site.state(&plugin), "failed{disable}");
    parts.are_back();
}

#[test]
fn a_stand_in_that_is_given_up_gives_the_container_back() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    site.lodger(&["enable", &plugin]).ok();
    // As after four ends in a row, for which one waits half a minute.
    let store = rusqlite::Connection::open(site.lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE instance SET failures = 4, failed_at = 0", []).unwrap();
    docker(&["kill", &site.has("containers")[0]]);
    let repaired = site.lodger(&["--json", "reconcile"]).exits(1).json();
    let what: Vec<&str> = repaired.as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["failed", "gave back"], "{repaired}");
    parts.are_back();
    assert_eq!(site.state(&plugin), "degraded");
    let told = site.lodger(&["--json", "doctor"]).exits(1).json();
    assert!(told.to_string().contains("does not stand in for the container"), "{told}");

    // It stays so, until somebody decides.
    site.lodger(&["reconcile"]).exits(1);
    assert_eq!((site.state(&plugin), parts.answers("scheduler")), ("degraded".to_owned(), "core"));
    assert_eq!(site.has("containers"), Vec::<String>::new());
    site.lodger(&["reconcile", &plugin, "--retry"]).ok();
    until(|| (parts.answers("scheduler") == "plugin").then_some(()));
    assert_eq!((site.state(&plugin), parts.core_runs()), ("enabled".to_owned(), false));
    site.lodger(&["disable", &plugin]).ok();
    parts.are_back();
}

#[test]
fn a_stand_in_that_cannot_be_made_again_gives_the_container_back() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    site.lodger(&["enable", &plugin]).ok();
    let name = site.has("containers").remove(0);
    docker(&["rm", "--force", &name]);
    // Somebody else has its name.
    docker(&["run", "--detach", "--name", &name, "--label", &format!("lodger.addon={plugin}"), "lodger-test/shell:1"]);
    let repaired = site.lodger(&["--json", "reconcile"]).exits(1).json();
    assert_eq!((&repaired[0]["what"], &repaired[1]["what"]), (&json!("failed"), &json!("gave back")), "{repaired}");
    parts.are_back();
}

#[test]
fn after_a_kill_the_container_is_given_back_by_whatever_comes_next() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(mute());
    for verb in [&["disable", &*plugin][..], &["uninstall", &plugin, "--yes"]] {
        let enabling = site.lab.start(&["enable", &plugin]);
        until(|| (!site.has("containers").is_empty()).then_some(()));
        enabling.kill();
        assert!(!parts.core_runs());
        assert_eq!(site.state(&plugin), "interrupted{enable}");
        let told = site.lodger(&["--json", "doctor"]).exits(1).json();
        assert!(told.to_string().contains("does not stand in for it any more"), "{told}");
        site.lodger(verb).ok();
        parts.are_back();
        assert_eq!(site.has("containers"), Vec::<String>::new(), "{verb:?}");
        assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    }
    site.has_nothing();
}

#[test]
fn at_whatever_point_lodger_is_killed_one_of_the_two_runs_in_the_end() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    let later = platform.version("1.1.0", |manifest| {
        manifest["services"][0]["limits"] = json!({ "memory_bytes": 100_663_296 });
    });
    let [enable, disable] = ["enable", "disable"].map(|verb| [verb, &*plugin]);
    let (upgrade, rollback) = (["upgrade", &*plugin, &*later], ["rollback", &*plugin, "--yes"]);
    // Each verb with what leads to where it begins, and who answers after it.
    let verbs: [(&[&str], &[&str], &str); 4] = [
        (&enable, &disable, "plugin"),
        (&disable, &enable, "core"),
        (&upgrade, &rollback, "plugin"),
        (&rollback, &upgrade, "plugin"),
    ];
    for (verb, undo, after) in verbs {
        if verb[0] == "upgrade" {
            repeat(&site.lab, &enable);
        }
        repeat(&site.lab, undo);
        let all = points(&site.lab, verb).len();
        repeat(&site.lab, undo);
        for number in chosen(verb[0], all) {
            let point = format!("{verb:?} killed at {number} of {all}");
            kill_at(&site.lab, verb, number);
            let runs = |name: &String| docker(&["inspect", "--format", "{{.State.Running}}", name]).trim() == "true";
            assert!(!(parts.core_runs() && site.has("containers").iter().any(runs)), "{point}: both run");
            site.lodger(&["reconcile"]).ok();
            assert_eq!(parts.core_runs(), site.has("containers").is_empty(), "{point}");
            assert_eq!(site.lab.json(&["reconcile"]), json!([]), "{point}");
            repeat(&site.lab, verb);
            assert_eq!(
                (parts.core_runs(), site.has("containers").len()),
                (after == "core", usize::from(after != "core"))
            );
            until(|| (parts.answers("scheduler") == after).then_some(()));
            repeat(&site.lab, undo);
        }
    }
    repeat(&site.lab, &disable);
    parts.are_back();
}

#[test]
fn another_version_stands_in_once_it_is_fit() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    site.lodger(&["enable", &plugin]).ok();
    let ill = platform.version("1.1.0", |manifest| {
        manifest["services"][0]["image"] = json!("lodger-test/exits:1");
    });
    platform.upgrade(&plugin, &ill).fails_with(1, "service-not-ready");
    assert_eq!(
        (site.state(&plugin).as_str(), &site.lab.json(&["info", &plugin])["version"]),
        ("enabled", &json!("1.0.0"))
    );
    platform.plugin_stands_in();

    // By a service of another name, and back.
    let fit = platform.version("1.1.0", |manifest| manifest["services"][0]["service_name"] = json!("scheduler"));
    platform.upgrade(&plugin, &fit).ok();
    platform.plugin_stands_in();
    platform.is_told("note", "service scheduler of");
    site.lodger(&["rollback", &plugin, "--yes"]).ok();
    platform.plugin_stands_in();
    platform.is_told("note", "service web of");

    // One that does without the container's place gives it back.
    let mut green = Site::manifest("green-scheduler");
    green["name"] = json!("plugin");
    green["version"] = json!("2.0.0");
    let package = site.package(green);
    platform.upgrade(&plugin, package.to_str().unwrap()).ok();
    parts.are_back();
    assert_eq!(site.has("containers"), Vec::<String>::new());
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    platform.is_told("note", "no addon stands in for the container");
    site.lodger(&["rollback", &plugin, "--yes"]).ok();
    platform.plugin_stands_in();
    site.lodger(&["disable", &plugin]).ok();
    parts.are_back();
}

#[test]
fn a_plugin_that_is_quarantined_gives_the_container_back() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let policy = policy.replace("slot = \"scheduler\"", "slot = \"ui\"");
    site.lab.policy(&format!("{policy}[failure]\nhealth = \"quarantine(1)\"\nprovision = \"quarantine(1)\"\n"));
    let mut manifest = probe_manifest("flaky", 60_000);
    manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN"]);
    manifest["component"] = json!("flaky.wasm");
    manifest["replaces"] = json!("ui");
    manifest["services"] = json!([web("web")]);
    let plugin = site.install_with(manifest);
    let does = site.lab.data(&addon(&plugin)).join("does");
    // A hook that reads, of which none has the addon's lock, and one that has.
    for (hook, verb) in [("health", &["doctor"][..]), ("provision", &["add", "shop", &plugin])] {
        site.lodger(&["enable", &plugin]).ok();
        platform.plugin_stands_in();
        std::fs::create_dir_all(&does).unwrap();
        std::fs::write(does.join(hook), "trap").unwrap();
        assert_ne!(site.lodger(verb).code, 0);
        assert_eq!(site.state(&plugin), format!("failed{{{hook}}}"));
        parts.are_back();
        assert_eq!(site.has("containers"), Vec::<String>::new());
        std::fs::write(does.join(hook), "trap 0").unwrap();
    }
}

#[test]
fn in_a_home_that_is_restored_the_plugin_stands_in() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    site.lodger(&["enable", &plugin]).ok();
    back_up(&site.lab);
    platform.plugin_stands_in();
    let backup = std::fs::read(site.lab.path("home.backup")).unwrap();
    site.lodger(&["disable", &plugin]).ok();
    parts.are_back();

    let other = Site::new();
    other.lab.policy(&std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap());
    assert_eq!(restore(&other.lab, &backup).ok().json()["not_up"], json!([]));
    until(|| (parts.answers("scheduler") == "plugin").then_some(()));
    assert_eq!((parts.core_runs(), other.lab.json(&["reconcile"])), (false, json!([])));
    other.lodger(&["disable", &plugin]).ok();
    parts.are_back();
}

#[test]
fn a_kill_while_the_container_is_given_back_is_gone_on_from() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    // It takes its ten seconds to end.
    let plugin = platform.plugin(json!([{ "service_name": "stays", "image": "lodger-test/stubborn:1" }]));
    site.lodger(&["enable", &plugin]).ok();
    assert!(!parts.core_runs());
    let disabling = site.lab.start(&["disable", &plugin]);
    let store = rusqlite::Connection::open(site.lab.home().join("lodger.db")).unwrap();
    until(|| store.query_row("SELECT 1 FROM stand_in WHERE NOT standing", [], |_| Ok(())).ok());
    disabling.kill();
    site.lodger(&["reconcile"]).ok();
    parts.are_back();
    assert_eq!(site.has("containers"), Vec::<String>::new());
    site.lodger(&["disable", &plugin]).ok();
    assert_eq!(site.state(&plugin), "installed");
}

#[test]
fn an_engine_that_does_not_answer_is_waited_for() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let away = format!("{policy}\n[[engine]]\nname = \"local\"\nsocket = \"/nowhere/docker.sock\"\n");
    site.lab.policy(&away);
    site.lodger(&["--json", "enable", &plugin]).fails_with(4, "engine-unreachable");
    assert!(parts.core_runs());
    site.lab.policy(&policy);
    site.lodger(&["enable", &plugin]).ok();
    site.lab.policy(&away);
    for verb in ["reconcile", "disable"] {
        site.lodger(&["--json", verb, &plugin]).fails_with(4, "engine-unreachable");
        assert_eq!((parts.core_runs(), parts.answers("scheduler")), (false, "plugin"));
    }
    site.lab.policy(&policy);
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    site.lodger(&["disable", &plugin]).ok();
    parts.are_back();
}

#[test]
fn without_the_line_in_the_policy_the_container_is_given_back() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    site.lodger(&["enable", &plugin]).ok();
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(policy.split("[[replaceable]]").next().unwrap());
    site.lodger(&["--json", "disable", &plugin]).fails_with(1, "grant-revoked");
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!(repaired[0]["what"], "gave back", "{repaired}");
    parts.are_back();
    site.lab.policy(&policy);
    site.lodger(&["reconcile"]).exits(1);
    parts.are_back();
    site.lodger(&["disable", &plugin]).ok();
    site.lodger(&["enable", &plugin]).ok();
    assert_eq!(parts.answers("elsewhere"), "plugin");
}

#[test]
fn containers_that_cannot_be_stood_in_for() {
    let platform = Platform::new();
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    let refused = |words: &str| {
        let error = site.lodger(&["--json", "enable", &plugin]).fails_with(1, "not-replaceable");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words) && message.contains(&parts.core()), "{error}");
        assert!(error["hint"].is_string(), "{error}");
        assert_eq!(site.has("containers"), Vec::<String>::new());
    };
    docker(&["rm", "--force", &parts.core()]);
    refused("is not there");
    assert_eq!(site.has("networks"), Vec::<String>::new(), "before anything was made");
    let told = site.lodger(&["--json", "doctor"]).exits(1).json();
    assert!(told.to_string().contains("is not there on engine `local`"), "{told}");

    parts.make_core(&["--label", "lodger.home=0123456789abcdef"]);
    refused("is one that lodger has made");
    assert!(parts.core_runs());
    docker(&["rm", "--force", &parts.core()]);

    parts.make_core(&["--rm"]);
    refused("would be gone once it is stopped");
    assert!(parts.core_runs());
    docker(&["rm", "--force", &parts.core()]);

    docker(&["run", "--detach", "--name", &parts.core(), "lodger-test/web:1"]);
    refused("is in no network");
    assert!(parts.core_runs());
    docker(&["rm", "--force", &parts.core()]);

    parts.make_core(&[]);
    site.lodger(&["enable", &plugin]).ok();
    assert_eq!(parts.answers("scheduler"), "plugin");

    // One plugin at a time.
    let second = site.install_with(json!({
        "name": "second", "version": "1.0.0", "replaces": "scheduler", "services": [web("web")],
    }));
    site.lodger(&["--json", "enable", &second]).fails_with(1, "slot-taken");

    // Removed while it is stood in for, there is nothing to start: the plugin can go nevertheless.
    docker(&["rm", &parts.core()]);
    site.lodger(&["disable", &plugin]).ok();
    site.lodger(&["uninstall", &plugin, "--yes"]).ok();
}

#[test]
fn who_may_stand_in_is_decided_at_install() {
    let platform = Platform::new();
    let Platform { site, .. } = &platform;
    let refused = |site: &Site, manifest: Value, words: &str| {
        let package = site.package(manifest);
        let error = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]);
        let problem = error.fails_with(1, "grant-refused")["problems"][0].clone();
        assert!(problem.to_string().contains(words), "{words}: {problem}");
    };
    refused(site, plugin(json!([web("one"), web("two")])), "name that one `scheduler`");
    let mut manual = web("one");
    manual["start"] = json!("manual");
    refused(site, plugin(json!([manual])), "no service starts with the addon");
    let kitchen = json!({ "name": "x", "version": "1.0.0", "replaces": "kitchen", "services": [web("web")] });
    refused(site, kitchen, "under [[replaceable]]");
    let component = json!({
        "name": "x", "version": "1.0.0", "component": "hello.wasm", "config_vars": [], "replaces": "scheduler",
        "services": [web("web")],
    });
    refused(site, component, "does not export `lodger:addon/scheduler`");
    let strict = Site::with_policy(&platform.parts.replaceable("scheduler"));
    refused(&strict, plugin(json!([web("web")])), "slots = [\\\"scheduler\\\"]");
    let without = Site::with_policy("slots = [\"scheduler\"]\n");
    refused(&without, plugin(json!([web("web")])), "does not export");

    // A component alone fills the host's own slot, and leaves the container alone.
    let green = site.example("green-scheduler");
    assert_eq!(site.lab.json(&["explain", &green])["stands_in"], Value::Null);
    site.lodger(&["enable", &green]).ok();
    platform.parts.are_back();
    platform.is_told("note", "no addon stands in for the container");
}

#[test]
fn it_stands_in_where_the_container_is_and_places_no_services() {
    let parts = Parts::new();
    let engine = |name: &str| format!("[[engine]]\nname = \"{name}\"\nsocket = \"{SOCKET}\"\n");
    let replaceable = format!("{}engine = \"b\"\n", parts.replaceable("scheduler"));
    let policy = format!("slots = [\"scheduler\"]\n{replaceable}{}{}", engine("a"), engine("b"));
    let platform = Platform { site: Site::with_policy(&policy), parts };
    let Platform { site, parts } = &platform;
    let plugin = platform.plugin(json!([web("web")]));
    site.lodger(&["enable", &plugin]).ok();
    assert_eq!(parts.answers("scheduler"), "plugin");
    let other = site.install("other", json!([web("web")]));
    site.lodger(&["enable", &other]).ok();
    let store = rusqlite::Connection::open(site.lab.home().join("lodger.db")).unwrap();
    let engine = |addon: &str| -> String {
        store.query_row("SELECT engine FROM instance WHERE addon = ?1", [addon], |row| row.get(0)).unwrap()
    };
    assert_eq!((engine(&plugin).as_str(), engine(&other).as_str()), ("b", "a"));
    let findings = site.lab.json(&["doctor"]).to_string();
    assert!(findings.contains("no addon fills it: the built-in decides"), "{findings}");
    crate::support::run(async {
        let host = site.lab.host().await;
        assert_eq!(host.filler("scheduler").unwrap(), None, "there is nothing to ask");
        assert!(host.disable(&addon(&plugin), false).await.unwrap().changed);
    });
    parts.are_back();
}

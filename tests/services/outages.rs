//! An engine that is stopped, killed and started again, under the feet of verbs and services.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::redis::url;
use super::{Site, web};
use crate::support::until;

/// Where apps live, in the daemon's world.
const APPS: &str = "apps";

/// A daemon of its own, with a few of the images, that can be taken down.
struct PrivateEngine {
    dir: TempDir,
    daemon: Option<Child>,
    /// The size of a disk of its own, which is gone with the daemon.
    disk: Option<&'static str>,
}

impl PrivateEngine {
    fn new(images: &[&str]) -> PrivateEngine {
        PrivateEngine::with_disk(None, images)
    }

    fn with_disk(disk: Option<&'static str>, images: &[&str]) -> PrivateEngine {
        let mut engine = PrivateEngine { dir: TempDir::new().unwrap(), daemon: None, disk };
        std::fs::create_dir(engine.path("data")).unwrap();
        engine.start();
        let mut save = Command::new("docker").arg("save").args(images).stdout(Stdio::piped()).spawn().unwrap();
        let loaded = engine.docker().arg("load").stdin(save.stdout.take().unwrap()).output().unwrap();
        assert!(save.wait().unwrap().success() && loaded.status.success(), "{loaded:?}");
        let made = engine.docker().args(["network", "create", APPS]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> String {
        self.path("docker.sock").display().to_string()
    }

    /// The engine's own command, told where this one is.
    fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket()));
        command
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let disk = match self.disk {
            Some(size) => format!("mount -t tmpfs -o size={size} tmpfs {} && ", self.path("data").display()),
            None => String::new(),
        };
        // In a network of its own: two daemons in one take each other's bridges away.
        let daemon = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &format!("{disk}exec dockerd \"$@\""), "dockerd"])
            .args(["--host", &format!("unix://{}", self.socket()), "--iptables=false"])
            .args(["--data-root".as_ref(), self.path("data").as_os_str()])
            .args(["--exec-root".as_ref(), self.path("exec").as_os_str()])
            .args(["--pidfile".as_ref(), self.path("pid").as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        until(|| {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(ended.is_none(), "dockerd ended: {log}");
            self.docker().arg("version").output().unwrap().status.success().then_some(())
        });
    }

    /// As an operator, or a machine that goes down, stops it: its containers end first.
    fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
        daemon.wait().unwrap();
    }

    /// As nobody wants it: from one moment to the next, its containers left to themselves.
    fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // Its containerd goes with it, and where nobody asks how it ended, the next daemon takes it for running.
        let _ = std::fs::remove_file(self.path("exec/containerd/containerd.pid"));
    }

    /// What takes up all that is left of its disk, as the daemon sees it.
    fn filling(&self) -> PathBuf {
        let data = self.path("data");
        let world = PathBuf::from(format!("/proc/{}/root", self.daemon.as_ref().unwrap().id()));
        world.join(data.strip_prefix("/").unwrap()).join("filling")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.filling()).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn empty(&self) {
        std::fs::remove_file(self.filling()).unwrap();
    }

    fn containers(&self) -> usize {
        let listed = self.docker().args(["ps", "--all", "--quiet"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().count()
    }

    #[track_caller]
    fn is_empty(&self) {
        let networks = ["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"];
        for (list, left) in
            [(&["ps", "--all", "--quiet"][..], ""), (&["volume", "ls", "--quiet"], ""), (&networks, "apps\n")]
        {
            let listed = self.docker().args(list).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&listed.stdout), left, "{list:?}");
        }
    }

    /// Asks the only Redis there is, from within: its network is not the tests'.
    fn redis(&self, words: &str) -> String {
        let ask = format!("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli {words}");
        let listed = self.docker().args(["ps", "--quiet"]).output().unwrap();
        let container = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
        let answer = self.docker().args(["exec", &container, "sh", "-c", &ask]).output().unwrap();
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }

    /// A home whose services go to this engine.
    fn site(&self) -> Site {
        let site = Site::new();
        let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
        site.lab.policy(&format!(
            "{policy}\n[[engine]]\nname = \"private\"\nsocket = \"{}\"\n[apps]\nreach = \"network:{APPS}\"\n",
            self.socket()
        ));
        site
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            // What it left running is its own to end.
            self.start();
        }
        let listed = self.docker().args(["ps", "--all", "--quiet"]).output().unwrap();
        for id in String::from_utf8_lossy(&listed.stdout).lines() {
            let _ = self.docker().args(["rm", "--force", "--volumes", id]).output();
        }
        let _ = self.docker().args(["network", "prune", "--force"]).output();
        self.stop();
    }
}

#[test]
fn data_and_urls_survive_a_restart_of_the_engine() {
    let mut engine = PrivateEngine::new(&["redis:7"]);
    let site = engine.site();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    let shop = url(&site, "shop");
    assert!(shop.contains("@lodger-redis-") && shop.ends_with(":6379/0"), "by its name in the network of apps: {shop}");
    assert_eq!(engine.redis("SET basket full"), "OK");

    engine.stop();
    assert_eq!(url(&site, "shop"), shop, "known without an engine");
    let error = site.lodger(&["--json", "add", "blog", &redis]).fails_with(4, "engine-unreachable");
    assert!(error["message"].as_str().unwrap().contains(&engine.socket()), "{error}");
    engine.start();
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!(repaired[0]["what"], "started", "{repaired}");
    until(|| (engine.redis("PING") == "PONG").then_some(()));
    assert_eq!((engine.redis("GET basket"), url(&site, "shop")), ("full".to_owned(), shop));

    site.lodger(&["remove", "shop", &redis]).ok();
    site.lodger(&["disable", &redis]).ok();
    site.lodger(&["uninstall", &redis]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_killed_while_a_service_starts_is_waited_for_and_cleaned_up_after() {
    let mut engine = PrivateEngine::new(&["lodger-test/silent:1", "lodger-test/web:1"]);
    let site = engine.site();
    let mut mute = web("mute");
    mute["image"] = json!("lodger-test/silent:1");
    mute["ready"]["timeout_ms"] = json!(60_000);
    let addon = site.install("mute", json!([mute]));
    let running = site.lab.start(&["--json", "enable", &addon]);
    until(|| (engine.containers() > 0).then_some(()));
    engine.kill();
    running.wait().fails_with(4, "engine-unreachable");
    assert_eq!(site.state(&addon), "failed{enable}");

    engine.start();
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_killed_while_a_resource_goes_is_cleaned_up_after() {
    let mut engine = PrivateEngine::new(&["redis:7"]);
    let site = engine.site();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    // Paused, it takes as long to stop as it is given.
    let listed = engine.docker().args(["ps", "--quiet"]).output().unwrap();
    let container = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
    assert!(engine.docker().args(["pause", &container]).output().unwrap().status.success());
    let running = site.lab.start(&["remove", "shop", &redis]);
    until(|| (site.lab.json(&["apps"]) == json!({})).then_some(()));
    engine.kill();
    running.wait().ok();
    assert_eq!(site.lab.json(&["apps"]), json!({}), "it is gone, and its container is recorded as to go");

    engine.start();
    site.lodger(&["reconcile"]).ok();
    assert_eq!(engine.containers(), 0);
    site.lodger(&["disable", &redis]).ok();
    site.lodger(&["uninstall", &redis]).ok();
    engine.is_empty();
}

#[test]
fn an_engine_without_room_says_so_and_is_used_again_when_it_has_some() {
    let engine = PrivateEngine::with_disk(Some("64m"), &["lodger-test/web:1"]);
    let site = engine.site();
    let addon = site.install("web", json!([web("one")]));
    let no_room = |said: &str| assert!(said.contains("no space left on device"), "{said}");

    engine.fill();
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(4, "engine");
    no_room(error["message"].as_str().unwrap());
    assert_eq!((site.state(&addon).as_str(), engine.containers()), ("failed{enable}", 0));
    engine.empty();
    site.lodger(&["enable", &addon]).ok();

    let listed = engine.docker().args(["ps", "--quiet"]).output().unwrap();
    let container = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
    assert!(engine.docker().args(["rm", "--force", &container]).output().unwrap().status.success());
    engine.fill();
    let repaired = site.lodger(&["--json", "reconcile"]).exits(1).json();
    assert_eq!(repaired[0]["what"], "failed", "{repaired}");
    no_room(repaired[0]["why"].as_str().unwrap());
    assert_eq!((site.state(&addon).as_str(), engine.containers()), ("degraded", 0));
    engine.empty();
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "made");
    assert_eq!((site.state(&addon).as_str(), site.lab.json(&["reconcile"])), ("enabled", json!([])));

    // Whatever can go without room goes, and the rest when there is some.
    engine.fill();
    let ran = site.lodger(&["disable", &addon]);
    assert!(ran.code == 0 || ran.stderr.contains("no space left on device"), "{ran:?}");
    assert_eq!((site.state(&addon).as_str(), engine.containers()), ("installed", 0));
    engine.empty();
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    engine.is_empty();
}

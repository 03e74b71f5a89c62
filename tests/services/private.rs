//! A daemon of a test's own, which it may stop, kill, and give rules and addresses as it likes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::Site;
use crate::support::until;

/// Where apps live, in the daemon's world.
pub const APPS: &str = "apps";

/// A daemon of its own, with a few of the images, that can be taken down.
pub struct PrivateEngine {
    dir: TempDir,
    options: &'static [&'static str],
    daemon: Option<Child>,
    /// The size of a disk of its own, which is gone with the daemon.
    disk: Option<&'static str>,
}

impl PrivateEngine {
    /// One that leaves the firewall alone.
    pub fn new(images: &[&str]) -> PrivateEngine {
        PrivateEngine::with(&["--iptables=false"], images)
    }

    pub fn with(options: &'static [&'static str], images: &[&str]) -> PrivateEngine {
        PrivateEngine::with_disk(None, options, images)
    }

    pub fn with_disk(disk: Option<&'static str>, options: &'static [&'static str], images: &[&str]) -> PrivateEngine {
        let mut engine = PrivateEngine { dir: TempDir::new().unwrap(), options, daemon: None, disk };
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

    pub fn socket(&self) -> String {
        self.path("docker.sock").display().to_string()
    }

    /// The engine's own command, told where this one is.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket()));
        command
    }

    /// A process in its network.
    pub fn process(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    pub fn start(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let (worlds, disk) = match self.disk {
            Some(size) => {
                let mount = format!("mount -t tmpfs -o size={size} tmpfs {} && ", self.path("data").display());
                (&["--net", "--mount"][..], mount)
            }
            None => (&["--net"][..], String::new()),
        };
        // In a network of its own: two daemons in one take each other's bridges away.
        let daemon = Command::new("unshare")
            .args(worlds)
            .args(["sh", "-c", &format!("{disk}exec dockerd \"$@\""), "dockerd"])
            .args(["--host", &format!("unix://{}", self.socket())])
            .args(self.options)
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
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
        daemon.wait().unwrap();
    }

    /// As nobody wants it: from one moment to the next, its containers left to themselves.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // Its containerd goes with it, and where nobody asks how it ended, the next daemon takes it for running.
        let _ = std::fs::remove_file(self.path("exec/containerd/containerd.pid"));
    }

    /// What takes up all that is left of its disk, as the daemon sees it.
    fn filling(&self) -> PathBuf {
        let world = PathBuf::from(format!("/proc/{}/root", self.process()));
        world.join(self.path("data").strip_prefix("/").unwrap()).join("filling")
    }

    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.filling()).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.filling()).unwrap();
    }

    pub fn containers(&self) -> usize {
        let listed = self.docker().args(["ps", "--all", "--quiet"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().count()
    }

    #[track_caller]
    pub fn is_empty(&self) {
        let networks = ["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"];
        for (list, left) in
            [(&["ps", "--all", "--quiet"][..], ""), (&["volume", "ls", "--quiet"], ""), (&networks, "apps\n")]
        {
            let listed = self.docker().args(list).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&listed.stdout), left, "{list:?}");
        }
    }

    /// Asks the only Redis there is, from within: its network is not the tests'.
    pub fn redis(&self, words: &str) -> String {
        let ask = format!("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli {words}");
        let listed = self.docker().args(["ps", "--quiet"]).output().unwrap();
        let container = String::from_utf8(listed.stdout).unwrap().trim().to_owned();
        let answer = self.docker().args(["exec", &container, "sh", "-c", &ask]).output().unwrap();
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }

    /// A home whose services go to this engine, and whose apps are in a network of it.
    pub fn site(&self) -> Site {
        let site = Site::new();
        self.has_services_of(&site, "", &format!("[apps]\nreach = \"network:{APPS}\"\n"));
        site
    }

    /// Adds this engine, with a line more, and other lines after it to the policy of a home.
    pub fn has_services_of(&self, site: &Site, line: &str, others: &str) {
        let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
        let engine = format!("[[engine]]\nname = \"private\"\nsocket = \"{}\"\n{line}\n", self.socket());
        site.lab.policy(&format!("{policy}\n{engine}{others}"));
    }

    /// A program in the daemon's world, where its networks and the ports it publishes are.
    pub fn inside(&self, program: &str) -> (&'static str, Vec<String>) {
        ("nsenter", vec![format!("--net=/proc/{}/ns/net", self.process()), program.to_owned()])
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
        // It leaves these behind, and a directory with something mounted in it cannot be removed.
        for mounted in ["exec/netns/default", "data"] {
            // As often as it was started.
            let umount = || Command::new("umount").arg("--quiet").arg(self.path(mounted)).output();
            while umount().is_ok_and(|done| done.status.success()) {}
        }
    }
}

//! A Podman of the tests' own, by the socket that speaks Docker's API: in a network of its own, so that it and Docker do not
//! undo each other's rules, and with its files where they go with it.
#![expect(clippy::disallowed_methods, reason = "the tests start an engine, and bring it images")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use lodger::engine::docker::{Address, Docker};
use lodger::engine::{Fault, NetworkSpec, Reach};
use tempfile::TempDir;

use super::{Bench, LABEL, Under};
use crate::support::until;

const IMAGES: [&str; 9] = ["web", "exits", "stubborn", "silent", "noisy", "forged", "volumes", "shell", "otherarch"];

/// Ends of itself when nobody has asked anything for so long, where the tests are killed.
const IDLE_SECONDS: &str = "120";

/// As root Podman asks for more processes than a machine without that right may give, and nothing sets it lower for a
/// container that has any limit. So the limit is taken out on the way.
const RUNTIME: &str = r#"#!/bin/sh
before=
for word; do
    case $before in
    --bundle) file=$word/config.json ;;
    --process) file=$word ;;
    *) file= ;;
    esac
    [ -z "$file" ] || sed -i 's/{"type":"RLIMIT_NPROC"[^}]*},//; s/,{"type":"RLIMIT_NPROC"[^}]*}//' "$file"
    before=$word
done
exec runc "$@"
"#;

pub struct Podman {
    dir: TempDir,
    service: Child,
}

pub(super) fn real_podman() -> Under {
    let podman = Podman::at_work();
    let engine = Docker::connect("podman", &Address::Socket(podman.socket())).unwrap();
    Under { engine: Box::new(engine), podman: Some(podman) }
}

impl Podman {
    /// The one that all tests at work share: it takes seconds to start.
    pub fn at_work() -> Arc<Podman> {
        static AT_WORK: Mutex<Weak<Podman>> = Mutex::new(Weak::new());
        let mut at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        let podman = at_work.upgrade().unwrap_or_else(|| Arc::new(Podman::start()));
        *at_work = Arc::downgrade(&podman);
        podman
    }

    fn start() -> Podman {
        let dir = TempDir::new().unwrap();
        let at = dir.path().display();
        let config = format!(
            "[network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{at}/networks\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"lowered\"\n\
             [engine.runtimes]\nlowered = [\"{at}/runtime\"]\n"
        );
        std::fs::write(dir.path().join("containers.conf"), config).unwrap();
        let runtime = dir.path().join("runtime");
        std::fs::write(&runtime, RUNTIME).unwrap();
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).unwrap();
        // What it notes in /run is its own; its mounts, and who waits for minutes to tell how a command has ended, go with it.
        let script = "mkdir -p /run/containers && mount -t tmpfs none /run/containers && exec \"$@\"";
        let service = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", script, "sh", "podman"])
            .args(options(&dir))
            .args(["system", "service", "--time", IDLE_SECONDS, &format!("unix://{at}/podman.sock")])
            .env("CONTAINERS_CONF", dir.path().join("containers.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut podman = Podman { dir, service };
        until(|| {
            let ended = podman.service.try_wait().unwrap();
            let log = std::fs::read_to_string(podman.path("log")).unwrap_or_default();
            assert!(ended.is_none(), "podman, netavark and aardvark-dns are there: run `cargo xtask engine`; {log}");
            podman.docker(&["version"]).output().unwrap().status.success().then_some(())
        });
        podman.load_images();
        podman
    }

    fn load_images(&self) {
        let names = IMAGES.map(|name| format!("lodger-test/{name}:1"));
        let mut save = Command::new("docker").arg("save").args(&names).stdout(Stdio::piped()).spawn().unwrap();
        let loaded = self.docker(&["load"]).stdin(save.stdout.take().unwrap()).output().unwrap();
        assert!(save.wait().unwrap().success() && loaded.status.success(), "{loaded:?}");
        for name in names {
            // A name without a registry is this machine's to Podman, where it is loaded, and Docker Hub's, where it is asked.
            let tagged = self.docker(&["tag", &format!("localhost/{name}"), &format!("docker.io/{name}")]).output();
            assert!(tagged.unwrap().status.success(), "{name}");
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.path("podman.sock")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Docker's own command, which this one answers as well.
    pub fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command
    }
}

fn options(dir: &TempDir) -> Vec<String> {
    let option = |(option, name): (&str, &str)| [option.to_owned(), dir.path().join(name).display().to_string()];
    [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")].into_iter().flat_map(option).collect()
}

/// Rather than made to reach further than they were to.
pub(super) async fn networks_that_cannot_be_are_refused(bench: &Bench) {
    for reach in [Reach::Edge, Reach::Outside] {
        let spec = NetworkSpec { name: bench.name("apart"), labels: bench.labels(), reach };
        let failure = bench.engine.create_network(&spec).await.unwrap_err();
        assert!(failure.fault == Fault::Refused && failure.message.contains("enable_icc"), "{failure}");
        assert_eq!(bench.engine.networks(LABEL, &bench.label).await.unwrap(), []);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What a failed test has left.
        let listed = self.docker(&["ps", "--all", "--quiet"]).output().unwrap();
        for id in String::from_utf8_lossy(&listed.stdout).lines() {
            let _ = self.docker(&["rm", "--force", "--volumes", id]).output();
        }
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

//! A container engine for the tests, the images they run, and a registry for them to pull from.
//!
//! An engine that answers is used as it is. Only where it is asked to does this install one, from Debian's packages, and
//! start it: a daemon that outlives the command, with its log in the target directory like everything else made here.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::cargo::{command, output, root, run, target};

/// Where an engine listens when nobody says otherwise, and where the one started here does.
const DEFAULT: &str = "unix:///var/run/docker.sock";
const SECONDS_TO_ANSWER: u64 = 10;
const TIME_TO_START: Duration = Duration::from_secs(60);
const APT_INSTALL: &[&str] = &["apt-get", "install", "--yes", "--no-install-recommends"];
/// What Debian's packages ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const NO_SERVICES: &[u8] =
    b"#!/bin/sh\n# Of `cargo xtask engine`, which removes it when its packages are there.\nexit 101\n";

#[derive(clap::Args)]
pub(crate) struct Engine {}

impl Engine {
    #[expect(clippy::print_stdout, reason = "says where the engine is")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        println!("a container engine answers at {}, and has the images", ready(true)?);
        Ok(())
    }
}

/// The address of an engine that answers and has the images; quick when nothing is to do.
pub(crate) fn ready(install: bool) -> anyhow::Result<String> {
    let address = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT.into());
    let silence = ping(&address).err();
    // One that is somewhere else, or for other users, is not helped by starting another here.
    if let Some(error) = &silence
        && (address != DEFAULT || error.kind() == ErrorKind::PermissionDenied)
    {
        bail!("no container engine answers at {address}: {error}");
    }
    let packages = missing_packages(silence.is_some());
    if !install {
        refuse_unless_complete(&address, silence.as_ref(), &packages)?;
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if silence.is_some() {
        start()?;
    }
    let images = files()?.join("images");
    run(command(root().join("tests/images/make"), &root()).arg(images).env("DOCKER_HOST", &address))?;
    Ok(address)
}

fn refuse_unless_complete(address: &str, silence: Option<&io::Error>, packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    let lacking = match silence {
        Some(error) => format!("no container engine answers at {address}: {error}"),
        None if packages.is_empty() => return Ok(()),
        None => "programs that the tests use are missing".to_owned(),
    };
    let mut commands = String::new();
    if !packages.is_empty() {
        commands += &format!("\n    {} {}", APT_INSTALL.join(" "), listed(packages));
    }
    if silence.is_some() {
        commands += "\n    dockerd";
    }
    bail!("{lacking}\nhint: `cargo xtask test --install-engine` does as root, on Debian:{commands}");
}

/// Asks an engine whether it is there, and waits only so long for the answer.
fn ping(address: &str) -> io::Result<()> {
    let Some(path) = address.strip_prefix("unix://") else {
        let seconds = SECONDS_TO_ANSWER.to_string();
        let mut version = command("timeout", Path::new("/"));
        version.args([&seconds, "docker", "--host", address, "version"]);
        return output(&mut version).map(drop).map_err(io::Error::other);
    };
    let mut stream = UnixStream::connect(path)?;
    let limit = Some(Duration::from_secs(SECONDS_TO_ANSWER));
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; b"HTTP/1.1 200".len()];
    stream.read_exact(&mut status)?;
    if !status.ends_with(b" 200") {
        return Err(io::Error::other(format!("it answers {}", String::from_utf8_lossy(&status))));
    }
    Ok(())
}

/// What has to be installed for the programs that are used: by `tests/images/make`, by the tests, and to start an engine.
fn missing_packages(with_engine: bool) -> BTreeSet<&'static str> {
    let mut used = vec![
        ("docker", "docker.io"),
        ("docker-registry", "docker-registry"),
        // Another engine, which the tests start themselves, and what its networks and their names are made with.
        ("podman", "podman"),
        ("/usr/lib/podman/netavark", "netavark"),
        ("/usr/lib/podman/aardvark-dns", "aardvark-dns"),
    ];
    if with_engine {
        used.extend([("dockerd", "docker.io"), ("iptables", "iptables")]);
    }
    let missing = used.into_iter().filter(|(program, _)| !is_program(program));
    missing.map(|(_, package)| package).collect()
}

/// Whether it is in one of the directories of `PATH`, or where it says.
fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn listed(packages: &BTreeSet<&str>) -> String {
    packages.iter().copied().collect::<Vec<_>>().join(" ")
}

#[expect(clippy::print_stdout, reason = "the machine is changed")]
pub(crate) fn install_packages(packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    must_be_root()?;
    println!("installing {} from Debian's packages", listed(packages));
    let slash = Path::new("/");
    run(command("apt-get", slash).args(["-qq", "update"]))?;
    // From Debian 13 on, the command line has a package of its own.
    let apart = || output(command("apt-cache", slash).args(["show", "docker-cli"])).is_ok();
    let client = (packages.contains("docker.io") && apart()).then_some("docker-cli");
    let _quiet = NoServices::new()?;
    let (program, arguments) = APT_INSTALL.split_first().context("a command has a name")?;
    run(command(program, slash)
        .args(arguments)
        .args(packages)
        .args(client)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null()))
}

fn must_be_root() -> anyhow::Result<()> {
    if output(command("id", Path::new("/")).arg("--user"))?.trim() != "0" {
        bail!("installing packages and starting a container engine takes root");
    }
    Ok(())
}

/// While it lives, packages start no services: without systemd they would fail at it, or be in the way of [`start`].
struct NoServices {
    written: bool,
}

impl NoServices {
    fn new() -> anyhow::Result<NoServices> {
        if has_systemd() {
            return Ok(NoServices { written: false });
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut policy) => policy.write_all(NO_SERVICES)?,
            // It is the machine's own.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(NoServices { written: false }),
            Err(error) => return Err(error).with_context(|| format!("cannot write {POLICY}")),
        }
        Ok(NoServices { written: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.written {
            drop(std::fs::remove_file(POLICY));
        }
    }
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Starts the daemon so that it outlives this, and waits until it answers.
fn start() -> anyhow::Result<()> {
    must_be_root()?;
    if has_systemd() {
        run(command("systemctl", Path::new("/")).args(["start", "docker"]))?;
        return Ok(ping(DEFAULT)?);
    }
    let log_path = files()?.join("dockerd.log");
    let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
    // A session of its own: neither the terminal nor who waits for this command's group ends it.
    let mut daemon = command("setsid", Path::new("/"))
        .arg("dockerd")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run setsid")?;
    let deadline = Instant::now() + TIME_TO_START;
    while let Err(silence) = ping(DEFAULT) {
        let ended = daemon.try_wait()?.map(|status| format!("dockerd ended ({status})"));
        let late = || format!("dockerd does not answer after {} s: {silence}", TIME_TO_START.as_secs());
        if let Some(failure) = ended.or_else(|| (Instant::now() > deadline).then(late)) {
            bail!("{failure}; the end of {}:\n{}", log_path.display(), end_of(&log_path)?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn end_of(log: &Path) -> anyhow::Result<String> {
    let text = std::fs::read(log)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines.iter().skip(lines.len().saturating_sub(20)).map(|line| format!("    {line}\n")).collect())
}

/// Where what this makes is kept.
fn files() -> anyhow::Result<PathBuf> {
    let dir = target().join("engine");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

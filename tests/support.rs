//! The lab: a home of its own for every test, the binary to run in it, packages to install.
//!
//! Homes and what is compiled for them are under cargo's directory for the files of tests. A lab is removed with its test;
//! compiled code is kept for the next one, since a debug build takes a second to compile a component. Every warm home has
//! the same key, so that the code of one is authentic in another.
#![expect(clippy::disallowed_methods, reason = "the tests start the binary and what it is used from")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use lodger::{AddonId, Config, Host, Id, ProgressEvent};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The binary under test.
pub const LODGER: &str = env!("CARGO_BIN_EXE_lodger");

/// What the probes' tests give as the value of the setting `SECRET`.
pub const SECRET: &str = "s3cr3t-value-of-the-operator";

/// The key of every warm home.
const KEY: &[u8; 32] = b"the one key of all tests' homes.";

/// The directory of the checkout.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the package is two levels down")
}

/// A component made by `cargo xtask guests`: a probe by its name, or an example addon.
pub fn component(name: &str) -> Vec<u8> {
    let probe = root().join("tests/probes").join(format!("{name}.wasm"));
    let example = root().join("guest-examples").join(name).join(format!("{name}.wasm"));
    let found = fs::read(&probe).or_else(|_| fs::read(&example));
    found.unwrap_or_else(|_| panic!("{} is not there: run `cargo xtask guests`", probe.display()))
}

/// The `addon.json` every probe is installed with, under `namespace`: what `tests/probes/README.md` promises.
pub fn probe_manifest(namespace: &str, deadline_ms: u64) -> Value {
    json!({
        "name": "probe",
        "namespace": namespace,
        "version": "1.0.0",
        "component": "probe.wasm",
        "config_vars": ["PROBE_URL", "PROBE_GOOD", "PROBE_HELD", "PROBE_PLAN", "PROBE_REGION"],
        "settings": { "PLAIN": { "default": "plain-value" }, "SECRET": { "secret": true } },
        "capabilities": { "data": { "max_bytes": 1 << 20, "max_files": 50 } },
        "limits": { "memory_bytes": 64 << 20, "log_bytes": 64 << 10, "deadlines_ms": { "default": deadline_ms } },
    })
}

/// A throw-away place with a home in it.
pub struct Lab {
    dir: TempDir,
    warm: bool,
}

impl Lab {
    /// With the code of every component that any test has compiled before.
    pub fn new() -> Lab {
        let lab = Lab { dir: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), warm: true };
        make_private(&lab.home());
        make_private(&lab.home().join("cache"));
        let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(lab.home().join("key")).unwrap();
        key.write_all(KEY).unwrap();
        fs::create_dir_all(compiled()).unwrap();
        link_all(&compiled(), &lab.home().join("cache"));
        lab
    }

    /// With nothing in it, not even the home, and open to the user the tests may have to become.
    pub fn cold() -> Lab {
        let lab = Lab { dir: TempDir::new().unwrap(), warm: false };
        fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        lab
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A path beside the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the home.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes the operator's policy.
    pub fn policy(&self, text: &str) {
        fs::write(self.home().join("lodger.toml"), text).unwrap();
    }

    /// The data directory of an addon.
    pub fn data(&self, addon: &AddonId) -> PathBuf {
        self.home().join("data").join(addon.namespace.as_str()).join(addon.name.as_str())
    }

    /// Every file and directory that installed addons have, to see that nothing half-installed is left.
    pub fn installed_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.home().join("addons")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }

    /// The binary with the home in its environment and nothing else but a `PATH`.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(LODGER, args)
    }

    /// The same for another program, which is to start the binary.
    pub fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().env("LODGER_HOME", self.home()).current_dir(self.dir.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn lodger(&self, args: &[&str]) -> Ran {
        Ran::of(args, self.command(args).output().unwrap())
    }

    /// The JSON answer of a verb that must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        self.lodger(&[&["--json"], args].concat()).ok().json()
    }

    pub fn with_stdin(&self, args: &[&str], text: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Ran::of(args, child.wait_with_output().unwrap())
    }

    /// Starts the binary and does not wait for it.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(args, self.command(args))
    }

    /// Makes the directory of a package.
    pub fn package(&self, dir: &str, manifest: &Value, component: impl AsRef<[u8]>) -> PathBuf {
        let file = manifest["component"].as_str().unwrap_or("probe.wasm");
        self.write(&format!("{dir}/{file}"), component);
        self.write(&format!("{dir}/files/readme.txt"), "This file is immutable.\n");
        self.write(&format!("{dir}/addon.json"), serde_json::to_vec_pretty(manifest).unwrap());
        self.path(dir)
    }

    /// Installs and enables `hooks_all`, the addon that does everything well, after `change` was made to its manifest.
    /// Returns its name.
    pub fn well_behaved(&self, change: impl FnOnce(&mut Value)) -> &'static str {
        self.lodger(&["install", &self.well_behaved_package(change), "--yes"]).ok();
        self.lodger(&["enable", "good/probe"]).ok();
        "good/probe"
    }

    /// Its package alone.
    pub fn well_behaved_package(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut manifest = probe_manifest("good", 60_000);
        manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]);
        change(&mut manifest);
        self.package("hooks_all", &manifest, component("hooks_all")).to_str().unwrap().to_owned()
    }

    /// Opens the home in this process.
    pub async fn host(&self) -> Host {
        self.host_with(|_| ()).await
    }

    pub async fn host_with(&self, change: impl FnOnce(&mut Config)) -> Host {
        let mut config = Config::new(self.home());
        config.compiler = Some(LODGER.into());
        config.concurrent_calls = Some(8);
        change(&mut config);
        Host::open(config).await.unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.warm {
            link_all(&self.home().join("cache"), &compiled());
        }
    }
}

/// Where compiled code outlives its lab.
fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

fn make_private(dir: &Path) {
    fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
}

/// Links what is not there yet; the host never changes a file of its cache, it replaces them.
fn link_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|kind| kind == "cwasm") {
            let _ = fs::hard_link(entry.path(), to.join(entry.file_name()));
        }
    }
}

/// A binary that has ended.
#[derive(Debug)]
pub struct Ran {
    #[expect(dead_code, reason = "shown when a test fails")]
    pub command: String,
    /// The exit code, or minus the signal it died of.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(args: &[&str], output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
        Ran {
            command: args.join(" "),
            code: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    /// Exactly one JSON value on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The error object of a verb that was asked for JSON and must have failed so.
    #[track_caller]
    pub fn fails_with(&self, exit: i32, code: &str) -> Value {
        assert_eq!(self.code, exit, "{self:#?}");
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{self:#?}");
        error
    }
}

/// A binary at work; killed when it is dropped.
pub struct Running {
    args: Vec<String>,
    child: Option<Child>,
}

impl Running {
    pub fn of(args: &[&str], mut command: Command) -> Running {
        Running { args: args.iter().map(ToString::to_string).collect(), child: Some(command.spawn().unwrap()) }
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn wait(mut self) -> Ran {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        Ran::of(&self.args.iter().map(String::as_str).collect::<Vec<_>>(), output)
    }

    /// `SIGKILL`, and gone when this returns.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a test that uses the library, on one thread.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// The most that a process has had in memory, once it has ended.
pub fn most_resident_bytes(process: u32) -> u64 {
    let bytes = || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
    };
    let mut most = 0;
    while let Some(bytes) = bytes() {
        most = bytes;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    most
}

/// Asks until the answer is there. Whatever is waited for happens, or the test's harness stops the test.
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
}

pub fn id(text: &str) -> Id {
    text.parse().unwrap()
}

pub fn addon(text: &str) -> AddonId {
    text.parse().unwrap()
}

/// Collects what a guest tells about its progress.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<ProgressEvent>>>);

impl Told {
    pub fn listen(&self, config: &mut Config) {
        let told = self.0.clone();
        config.progress = Some(Arc::new(move |event| told.lock().unwrap_or_else(PoisonError::into_inner).push(event)));
    }

    pub fn all(&self) -> Vec<ProgressEvent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Without what the host tells of itself.
    pub fn by_guests(&self) -> Vec<ProgressEvent> {
        let own = |event: &ProgressEvent| matches!(event, ProgressEvent::Step(step) if step.starts_with("calling ") || step.starts_with("compiling "));
        self.all().into_iter().filter(|event| !own(event)).collect()
    }
}

/// Ends the test unless every line shows itself and nothing else: no control, format or bidirectional character.
#[track_caller]
pub fn assert_plain(text: &str) {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let bad: Vec<char> = text.chars().filter(|c| *c != '\n' && acts(*c)).collect();
    assert!(bad.is_empty(), "{bad:?} in {text:?}");
}

/// Every string in a JSON value, names of members too.
pub fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(members) => {
            members.iter().flat_map(|(name, value)| [vec![name.clone()], strings(value)].concat()).collect()
        }
        _ => Vec::new(),
    }
}

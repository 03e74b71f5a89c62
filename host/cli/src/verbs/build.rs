//! `lodger build`: compiles an addon written in Rust, and puts the component beside its `addon.json`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use lodger::Manifest;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output;

const TARGET: &str = "wasm32-wasip2";

/// Build an addon written in Rust: cargo's component goes beside addon.json
#[derive(clap::Args)]
pub struct Build {
    /// The addon's directory
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Build {
    pub fn run(self, context: &Context) -> anyhow::Result<u8> {
        let built = build(&self.dir)?;
        built.say(context);
        if context.json {
            output::json(&json!({ "component": built.component, "bytes": built.bytes, "changed": built.changed }))?;
        }
        Ok(0)
    }
}

pub struct Built {
    component: PathBuf,
    bytes: u64,
    /// False when the very same component was there already.
    changed: bool,
}

impl Built {
    pub fn say(&self, context: &Context) {
        let word = if self.changed { "built" } else { "up to date:" };
        output::say(context, format!("{word} {}, {}", self.component.display(), lodger::human_bytes(self.bytes)));
    }
}

/// Runs cargo, whose progress and errors go to stderr.
pub fn build(dir: &Path) -> anyhow::Result<Built> {
    let component = component(dir)?;
    if !dir.join("Cargo.toml").exists() {
        bail!(
            "there is no `Cargo.toml` in `{}`; of an addon in another language, put the component there as `{component}`",
            dir.display()
        );
    }
    add_target(dir)?;
    let made = cargo(dir)?;
    let bytes = std::fs::read(&made).with_context(|| format!("cannot read `{}`", made.display()))?;
    let component = if dir == Path::new(".") { PathBuf::from(component) } else { dir.join(component) };
    let changed = !std::fs::read(&component).is_ok_and(|there| there == bytes);
    if changed {
        super::put(&component, &bytes)?;
    }
    Ok(Built { component, bytes: bytes.len() as u64, changed })
}

/// The file name the manifest gives the component.
fn component(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("addon.json");
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("there is no `addon.json` in `{}`; `lodger new NAME` makes an addon", dir.display());
        }
        other => other.with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    let manifest = Manifest::parse(&bytes).with_context(|| format!("`{}`", path.display()))?;
    manifest.component.with_context(|| format!("`{}` names no `component`: there is nothing to build", path.display()))
}

#[expect(clippy::disallowed_methods, reason = "running the author's compiler is what this verb is for")]
fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    command
}

/// Adds what the toolchain needs to compile to components, when it is not there.
fn add_target(dir: &Path) -> anyhow::Result<()> {
    let libraries = command("rustc", dir).args(["--print", "target-libdir", "--target", TARGET]).output();
    let libraries = libraries.context("cannot run `rustc`: install Rust, https://rustup.rs")?.stdout;
    if Path::new(String::from_utf8_lossy(&libraries).trim()).exists() {
        return Ok(());
    }
    let added = command("rustup", dir).args(["target", "add", TARGET]).stdout(Stdio::null()).status();
    if !added.is_ok_and(|status| status.success()) {
        bail!("Rust cannot compile to components yet: run `rustup target add {TARGET}`");
    }
    Ok(())
}

/// Compiles, and returns where cargo says that it has put the component, whatever its configuration.
fn cargo(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut child = command("cargo", dir)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run `cargo`: install Rust, https://rustup.rs")?;
    let manifest = dir.canonicalize()?.join("Cargo.toml");
    let mut found = None;
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        // A build script may say what is not JSON.
        if let Ok(message) = serde_json::from_str(&line?) {
            found = component_in(&message, &manifest).or(found);
        }
    }
    if !child.wait()?.success() {
        bail!("the addon does not compile");
    }
    found.context("cargo has built no component; Cargo.toml needs `crate-type = [\"cdylib\"]` under [lib]")
}

/// The component, when the message is about one of this very package.
fn component_in(message: &Value, manifest: &Path) -> Option<PathBuf> {
    let ours = message["reason"] == "compiler-artifact" && Path::new(message["manifest_path"].as_str()?) == manifest;
    let files = message["filenames"].as_array().filter(|_| ours)?;
    files.iter().filter_map(Value::as_str).map(PathBuf::from).find(|file| file.extension().is_some_and(|x| x == "wasm"))
}

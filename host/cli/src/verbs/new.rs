//! `lodger new`: a new addon that builds and passes `check` and `test` as it is, offline.
//!
//! The addon is the example `hello` under another name: its files, the WIT package and the guests' lock file are embedded as
//! they are, so that what authors begin with is what this repository builds and tests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lodger::Id;
use serde_json::json;

use crate::context::Context;
use crate::output;

macro_rules! repository {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../", $path))
    };
}

/// The interfaces, as the addon vendors them.
const WIT: [(&str, &str); 17] = [
    ("wit/backup.wit", repository!("wit/backup.wit")),
    ("wit/config.wit", repository!("wit/config.wit")),
    ("wit/events.wit", repository!("wit/events.wit")),
    ("wit/health.wit", repository!("wit/health.wit")),
    ("wit/plans.wit", repository!("wit/plans.wit")),
    ("wit/progress.wit", repository!("wit/progress.wit")),
    ("wit/provider.wit", repository!("wit/provider.wit")),
    ("wit/scheduler.wit", repository!("wit/scheduler.wit")),
    ("wit/services.wit", repository!("wit/services.wit")),
    ("wit/settings.wit", repository!("wit/settings.wit")),
    ("wit/setup.wit", repository!("wit/setup.wit")),
    ("wit/types.wit", repository!("wit/types.wit")),
    ("wit/upgrade.wit", repository!("wit/upgrade.wit")),
    ("wit/url.wit", repository!("wit/url.wit")),
    ("wit/usage.wit", repository!("wit/usage.wit")),
    ("wit/worlds.wit", repository!("wit/worlds.wit")),
    ("wit/deps/io.wit", repository!("wit/deps/io.wit")),
];
/// The workspace of the guests: which wit-bindgen, which edition, which profile.
const GUESTS: &str = repository!("guest-examples/Cargo.toml");
/// Pins more than a new addon needs; cargo drops the rest with the first build, and asks no registry for that.
const LOCK: &str = repository!("guest-examples/Cargo.lock");
const SOURCE: &str = repository!("guest-examples/hello/src/lib.rs");
const MANIFEST: &str = repository!("guest-examples/hello/addon.json");
pub const EXPECTATIONS: &str = repository!("guest-examples/hello/lodger-test.toml");
const README: &str = include_str!("new/README.md");
const CARGO_CONFIG: &str = "# Plain `cargo build` makes a component, too, and editors check for its target.
[build]
target = \"wasm32-wasip2\"
";
const GITIGNORE: &str = "/target\n# Built by `lodger build`, packed by `lodger pack`.\n*.wasm\n*.tar.gz\n";

/// Write a new addon: sources, interfaces and tests, ready to be built offline
#[derive(clap::Args)]
pub struct New {
    /// The addon's name: 1 to 40 of a-z, 0-9 and inner dashes
    name: String,
    /// The language it is written in
    #[arg(long, value_enum, default_value_t = Lang::Rust)]
    lang: Lang,
    /// Where to write it [default: a directory of its name]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Lang {
    Rust,
}

impl New {
    pub fn run(self, context: &Context) -> anyhow::Result<u8> {
        let name = name(&self.name)?;
        let dir = self.dir.unwrap_or_else(|| PathBuf::from(name.as_str()));
        let files = match self.lang {
            Lang::Rust => rust(&name),
        };
        claim(&dir)?;
        for (path, content) in &files {
            write(&dir.join(path), content)?;
        }
        output::say(context, format!("wrote the addon {name} to {}", dir.display()));
        output::say(context, format!("next: cd {} && lodger build && lodger test", dir.display()));
        if context.json {
            let files: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
            output::json(&json!({ "name": name, "dir": dir, "files": files }))?;
        }
        Ok(0)
    }
}

/// A name under which an addon can be installed, and fill a variable called after it.
fn name(text: &str) -> anyhow::Result<Id> {
    let Ok(name) = text.parse::<Id>() else {
        let near = Id::nearest(text).map(|near| format!("; `{near}` would be one")).unwrap_or_default();
        bail!(
            "`{}` is not a name for an addon: 1 to 40 of a-z, 0-9 and inner dashes{near}",
            lodger::text::shown(text, 60)
        );
    };
    let variable = variable(&name);
    if !lodger::is_variable_allowed(&variable) {
        bail!("an addon `{name}` would fill `{variable}`, which is never given to an app; choose another name");
    }
    Ok(name)
}

fn variable(name: &Id) -> String {
    format!("{}URL", name.env_prefix())
}

/// Makes the directory, or takes it as it is when nothing is in it.
fn claim(dir: &Path) -> anyhow::Result<()> {
    let empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write to `{}`", dir.display())),
    };
    if !empty {
        bail!("`{}` is there and not empty; choose another --dir", dir.display());
    }
    Ok(())
}

fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    let put = || -> std::io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, content)
    };
    put().with_context(|| format!("cannot write `{}`", path.display()))
}

/// Every file of an addon in Rust.
fn rust(name: &Id) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("addon.json", renamed(MANIFEST, name).replace("\"1.0.0\"", "\"0.1.0\"")),
        ("src/lib.rs", renamed(SOURCE, name).replace("../../wit", "wit")),
        ("lodger-test.toml", renamed(EXPECTATIONS, name)),
        ("Cargo.toml", cargo_toml(name)),
        ("Cargo.lock", LOCK.replace("name = \"hello\"", &format!("name = \"{name}\""))),
        (".cargo/config.toml", CARGO_CONFIG.to_owned()),
        (".gitignore", GITIGNORE.to_owned()),
        ("README.md", renamed(README, name)),
    ];
    files.extend(WIT.map(|(path, content)| (path, content.to_owned())));
    files
}

/// The text of the example with its name replaced, as id, as first part of variables, and as a title.
fn renamed(text: &str, name: &Id) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let title = name.as_str().split('-').map(word).collect::<Vec<_>>().join(" ");
    text.replace("HELLO_", &name.env_prefix())
        .replace("\"Hello\"", &format!("\"{title}\""))
        .replace("hello", name.as_str())
}

fn cargo_toml(name: &Id) -> String {
    let line = |key: &str| GUESTS.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    let (edition, rust, bindgen) = (line("edition = "), line("rust-version = "), line("wit-bindgen = "));
    let profile = GUESTS.split_once("\n# Components are loaded").map_or("", |(_, profile)| profile);
    format!(
        "# The addon's version is in addon.json.
[package]
name = \"{name}\"
{edition}
{rust}
publish = false

# A component is a cdylib.
[lib]
crate-type = [\"cdylib\"]

[dependencies]
{bindgen}

# Stands alone, also below another workspace.
[workspace]

# Components are loaded{profile}"
    )
}

//! `lodger dev`: builds and tests an addon whenever one of its files changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::test::expectations;
use super::{build, test};
use crate::context::Context;
use crate::output;

/// What an addon is made of. What a build writes (the component, `target/`, Cargo.lock) is not among it.
const DIRECTORIES: [&str; 3] = ["src", "files", "wit"];
const FILES: [&str; 4] = ["addon.json", "Cargo.toml", "build.rs", expectations::FILE];
/// Editors write a file in several steps: how long nothing must happen before it is read.
const QUIET: Duration = Duration::from_millis(100);

/// Build and test an addon, now and whenever one of its files changes, until interrupted
#[derive(clap::Args)]
pub struct Dev {
    /// The addon's directory
    #[arg(default_value = ".")]
    path: PathBuf,
}

impl Dev {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        if context.json {
            bail!("`dev` goes on until it is interrupted; `lodger test --json` prints one value");
        }
        let dir = self.path.canonicalize().with_context(|| format!("cannot find `{}`", self.path.display()))?;
        let (sender, mut changes) = mpsc::unbounded_channel();
        let root = dir.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for path in event.into_iter().flat_map(|event| changed(&root, event)) {
                // Nobody listens any more: the program ends.
                let _ = sender.send(path);
            }
        })?;
        loop {
            // Before each run, as directories come and go; what changes during the run starts the next.
            watch(&mut watcher, &dir)?;
            if let Err(error) = round(context, &self.path).await {
                output::failure(context, &error);
            }
            output::say(context, format!("waiting for changes in {}; Ctrl-C ends", self.path.display()));
            let first = changes.recv().await.context("the files are not watched any more")?;
            while let Ok(Some(_)) = tokio::time::timeout(QUIET, changes.recv()).await {}
            output::say(context, format!("\n{} has changed", lodger::text::shown(&first.to_string_lossy(), 200)));
        }
    }
}

async fn round(context: &Context, path: &Path) -> anyhow::Result<()> {
    build::build(path)?.say(context);
    test::test(context, path).await.map(drop)
}

fn watch(watcher: &mut RecommendedWatcher, dir: &Path) -> anyhow::Result<()> {
    watcher.watch(dir, RecursiveMode::NonRecursive).with_context(|| format!("cannot watch `{}`", dir.display()))?;
    for below in DIRECTORIES.map(|name| dir.join(name)) {
        if below.is_dir() {
            watcher
                .watch(&below, RecursiveMode::Recursive)
                .with_context(|| format!("cannot watch `{}`", below.display()))?;
        }
    }
    Ok(())
}

/// The files of the addon an event is about; reading one is no change.
fn changed(root: &Path, event: notify::Event) -> Vec<PathBuf> {
    if event.need_rescan() {
        return vec![PathBuf::from("something")];
    }
    let paths = if matches!(event.kind, EventKind::Access(_)) { Vec::new() } else { event.paths };
    let below = paths.iter().filter_map(|path| path.strip_prefix(root).ok()).filter(|path| is_source(path));
    below.map(Path::to_owned).collect()
}

fn is_source(path: &Path) -> bool {
    let mut names = path.iter().filter_map(|name| name.to_str());
    let Some(first) = names.clone().next() else { return false };
    // Swap files and backups of editors.
    !names.any(|name| name.starts_with('.') || name.ends_with('~'))
        && (DIRECTORIES.contains(&first) || FILES.contains(&first))
}

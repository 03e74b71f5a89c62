//! What every verb is given: where the home is, how to answer, how to show progress.

use std::cell::OnceCell;
use std::fmt;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use lodger::{Config, Host, ProgressEvent};
use tempfile::TempDir;

use crate::output;
use crate::place::{Named, Place};

/// Calls this program makes at a time: it runs one verb.
const CONCURRENT_CALLS: u32 = 4;

/// How long a verb tells events before it leaves the rest to others.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// The policy of a home.
pub const POLICY: &str = "lodger.toml";

/// A host whose home is removed with it.
pub struct ThrowAway {
    /// Dropped first: it writes to the home to the last.
    pub host: Host,
    _dir: TempDir,
}

pub struct Context {
    home: Option<PathBuf>,
    pub json: bool,
    /// The server to be asked in the place of a home.
    server: Option<Named>,
    progress: ProgressBar,
    /// The home that was asked for, once it is open.
    host: OnceCell<Arc<Host>>,
}

impl Context {
    pub fn new(home: Option<PathBuf>, json: bool, server: Option<Named>) -> Context {
        Context { home, json, server, progress: ProgressBar::hidden(), host: OnceCell::new() }
    }

    pub fn home(&self) -> anyhow::Result<PathBuf> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        let data = data.or_else(home).context("neither --home, LODGER_HOME, XDG_DATA_HOME nor HOME is set")?;
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        Ok(data.join("lodger"))
    }

    /// Where the verb is to do its work.
    pub async fn place(&self) -> anyhow::Result<Place> {
        match &self.server {
            Some(server) => Ok(Place::There(Arc::new(server.open()?))),
            None => Ok(Place::Here(self.host().await?)),
        }
    }

    pub async fn host(&self) -> anyhow::Result<Arc<Host>> {
        if let Some(host) = self.host.get() {
            return Ok(host.clone());
        }
        let host = Arc::new(self.open(self.home()?).await?);
        Ok(self.host.get_or_init(|| host).clone())
    }

    /// After the verb has answered: those who listen are told what it has done. What is left over, `lodger reconcile` tells.
    pub async fn tell_events(&self) {
        if let Some(host) = self.host.get()
            && let Err(error) = host.tell_raised_events(TELL_WITHIN).await
        {
            output::warn(format!("warning: events wait to be told: {error}"));
        }
    }

    /// Opens another home than the one asked for.
    pub async fn open(&self, home: PathBuf) -> anyhow::Result<Host> {
        let mut config = Config::new(home);
        config.concurrent_calls = Some(CONCURRENT_CALLS);
        config.actor = "cli".to_owned();
        let bar = self.progress.clone();
        config.progress = Some(Arc::new(move |event| match event {
            ProgressEvent::Step(step) => bar.set_message(step),
            ProgressEvent::Percent(percent) => bar.set_prefix(format!("{percent:>3}% ")),
        }));
        Ok(Host::open(config).await?)
    }

    /// Opens a home that goes away with what is returned, for authors: under the policy of the home that was named, where
    /// there is one, else the built-in default.
    pub async fn throw_away(&self) -> anyhow::Result<ThrowAway> {
        let private = std::fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix("lodger-").permissions(private).tempdir();
        let dir = dir.context("cannot make a throw-away home")?;
        if let Some(policy) = self.home.as_ref().map(|home| home.join(POLICY)).filter(|policy| policy.exists()) {
            let copied = std::fs::copy(&policy, dir.path().join(POLICY));
            copied.with_context(|| format!("cannot read `{}`", policy.display()))?;
        }
        Ok(ThrowAway { host: self.open(dir.path().to_owned()).await?, _dir: dir })
    }

    /// A line to the person who asked, while something long is under way.
    pub fn say_meanwhile(&self, text: impl fmt::Display) {
        self.progress.suspend(|| output::say(self, text));
    }

    /// Shows how many bytes went through, beside what [`Context::watch`] shows.
    pub fn count(&self) -> impl Fn(u64) + Send + Unpin + 'static {
        let bar = self.progress.clone();
        move |bytes| bar.set_prefix(format!("{} ", lodger::human_bytes(bytes)))
    }

    /// Shows that something long is under way while `work` runs, on a terminal.
    pub async fn watch<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        if self.json || !std::io::stderr().is_terminal() {
            return work.await;
        }
        self.progress.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}{wide_msg} {elapsed}") {
            self.progress.set_style(style);
        }
        self.progress.set_message(what.to_owned());
        self.progress.enable_steady_tick(Duration::from_millis(100));
        let done = work.await;
        self.progress.disable_steady_tick();
        self.progress.set_prefix("");
        self.progress.finish_and_clear();
        self.progress.reset();
        done
    }
}

//! `lodger dump`: what an app has of an addon, as one stream.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lodger::{HookFailed, RemoteError};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::context::Context;
use crate::data::Data;
use crate::output::{self, Usage};
use crate::place::{Place, of_app, which};

/// Said of stdout, which cannot be taken back.
const NO_DUMP: &str = "what was written of it is no dump";

/// Write all that an app has of an addon to stdout or a file, for `restore`
///
/// A dump holds what the app keeps in confidence. It is whole only when this succeeds.
#[derive(clap::Args)]
pub struct Dump {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Write it to this file, which nobody else may read, and which appears only when it is whole [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Dump {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        if self.output.is_none() && context.json {
            return Err(Usage::new("the dump itself goes to stdout", "--json needs --output FILE").into());
        }
        if self.output.is_none() && std::io::stdout().is_terminal() {
            let hint = format!("`lodger dump {} {} > FILE`, or --output FILE", self.app, self.addon);
            return Err(Usage::new("a dump is not for a terminal", &hint).into());
        }
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let file = self.output.as_deref().map(beside).transpose()?;
        let to = match &file {
            Some(file) => Data::new(file.as_file(), context.count()),
            None => Data::new(&std::io::stdout(), context.count()),
        };
        let to = to.context("cannot open stdout")?;
        let what = format!("dumping {addon} of {app}");
        let bytes = match &place {
            Place::Here(host) => {
                let done = context.watch(&what, host.dump(&app, &addon, alias.as_ref(), to)).await?;
                let written = done.call.as_ref().map_or(0, |call| call.report.stream_bytes);
                output::completed(&addon, done).map_err(|failed| match file {
                    None if written > 0 => HookFailed { message: format!("{}; {NO_DUMP}", failed.message), ..failed },
                    _ => failed,
                })?
            }
            Place::There(server) => {
                let path = of_app(&app, &addon, &format!("/dump{}", which(alias.as_ref())));
                context.watch(&what, server.stream(&path, to)).await.map_err(|error| match (&file, error) {
                    // What is refused was refused before anything was written.
                    (None, error) if !matches!(error, RemoteError::Refused(_)) => {
                        anyhow::Error::from(error).context(NO_DUMP)
                    }
                    (_, error) => error.into(),
                })?
            }
        };
        if let (Some(file), Some(path)) = (file, &self.output) {
            let cannot = || format!("cannot write `{}`", path.display());
            file.as_file().sync_all().with_context(cannot)?;
            file.persist(path).with_context(cannot)?;
        }
        output::say(context, format!("dumped {addon} of {app}: {}", lodger::human_bytes(bytes)));
        if context.json {
            output::json(&json!({ "app": app, "addon": addon, "alias": alias, "bytes": bytes, "file": self.output }))?;
        }
        Ok(0)
    }
}

/// A file that takes another's place when it is whole. Nobody else may read it.
fn beside(path: &Path) -> anyhow::Result<NamedTempFile> {
    let cannot = || format!("cannot write `{}`", path.display());
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let hint = format!("redirect stdout to it: > {}", path.display());
        return Err(Usage::new(&format!("`{}` is there and no file", path.display()), &hint).into());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".lodger-").tempfile_in(dir).with_context(cannot)
}

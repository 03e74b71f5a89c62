//! `lodger restore`: what was dumped, in the place of what an app has of an addon.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use lodger::Streamed;

use crate::context::Context;
use crate::data::Data;
use crate::output::{self, Usage};
use crate::place::{Place, no_dry_run, of_app, which};

/// Replace all that an app has of an addon by a dump, of the same app or of another
#[derive(clap::Args)]
pub struct Restore {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Read it from this file [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Restore {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        if self.input.is_none() && !self.dry_run && std::io::stdin().is_terminal() {
            let hint = format!("`lodger restore {} {} < FILE`, or --input FILE", self.app, self.addon);
            return Err(Usage::new("a dump does not come from a terminal", &hint).into());
        }
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let from = match &self.input {
            Some(path) => File::open(path).and_then(|file| Data::new(&file, context.count())),
            None => Data::new(&std::io::stdin(), context.count()),
        };
        let name = self.input.as_ref().map_or_else(|| "stdin".into(), |path| path.to_string_lossy());
        let from = from.with_context(|| format!("cannot read `{name}`"))?;
        let what = format!("restoring {addon} of {app}");
        let restored = match &place {
            Place::Here(host) if self.dry_run => {
                host.may_restore(&app, &addon, alias.as_ref()).await?;
                return super::dry_run(context, true, &format!("restore {addon} of {app}"));
            }
            Place::Here(host) => {
                let done = context.watch(&what, host.restore(&app, &addon, alias.as_ref(), from)).await?;
                Streamed { bytes: output::completed(&addon, done)?, app, addon, alias }
            }
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let path = of_app(&app, &addon, &format!("/restore{}", which(alias.as_ref())));
                context.watch(&what, server.put_stream(&path, from)).await?
            }
        };
        let Streamed { app, addon, bytes, .. } = &restored;
        output::say(context, format!("restored {addon} of {app}: {}", lodger::human_bytes(*bytes)));
        if context.json {
            output::json(&restored)?;
        }
        Ok(0)
    }
}

//! `lodger restore-home`: shows what the addons of a backup will be allowed to do, asks, makes the home.

use std::path::PathBuf;

use anyhow::Context as _;
use lodger::Error;
use serde_json::json;

use super::backup::PassphraseFrom;
use super::{consent, install};
use crate::context::Context;
use crate::output;

/// Make an empty home be what was saved by `lodger backup`, all of it or nothing
///
/// What the addons may do is decided by the policy of this home, and accepted again. They are in the states they were in, and
/// their services run again.
#[derive(clap::Args)]
pub struct RestoreHome {
    /// A file made by `lodger backup`
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
    /// Accept the grants without asking
    #[arg(long)]
    yes: bool,
    /// Read it whole, show what would be restored, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl RestoreHome {
    /// Exits with 1 when a service does not come up.
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let passphrase = self.passphrase.read()?;
        let file = std::fs::File::open(&self.file).with_context(|| format!("cannot read `{}`", self.file.display()))?;
        let host = context.host().await?;
        let home = context.watch("reading", host.inspect_backup(file, &passphrase)).await?;
        output::say(context, format!("a backup made by lodger {}", home.program));
        for grant in home.grants() {
            install::show(context, grant);
        }
        if self.dry_run {
            output::say(context, format!("would restore {}", super::counted(&[(home.grants().count(), "addon")])));
            if context.json {
                let grants: Vec<_> = home.grants().collect();
                output::json(&json!({ "dry_run": true, "changed": true, "grants": grants }))?;
            }
            return Ok(0);
        }
        if !self.yes && !consent::ask("Restore them with these permissions?")? {
            return Err(Error::GrantNotAccepted.into());
        }
        let done = context.watch("restoring", host.restore_home(home)).await?;
        let what = super::counted(&[(done.addons, "addon"), (done.resources, "resource"), (done.volumes, "volume")]);
        output::say(context, format!("restored {what} into {}", host.home().display()));
        for not_up in &done.not_up {
            output::warn(format!("{}: {}; `lodger reconcile` tries again", not_up.addon, not_up.why));
        }
        if context.json {
            output::json(&done)?;
        }
        Ok(u8::from(!done.not_up.is_empty()))
    }
}

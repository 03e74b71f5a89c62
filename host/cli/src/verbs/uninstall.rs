//! `lodger uninstall`: removes an addon, and its data unless told to keep it.

use lodger::Uninstalled;
use serde_json::json;

use super::consent;
use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_addon};

/// Remove an addon that is not enabled and that no other needs, with its data
#[derive(clap::Args)]
pub struct Uninstall {
    addon: String,
    /// Keep its data directory for a later install
    #[arg(long)]
    keep_data: bool,
    /// Do not ask on a terminal
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Uninstall {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        match &place {
            Place::Here(host) => host.would_uninstall(&id).await?,
            Place::There(_) => no_dry_run(self.dry_run)?,
        }
        if self.dry_run {
            return super::dry_run(context, true, &format!("uninstall {id}"));
        }
        if !self.keep_data && !consent::destroys(self.yes, &format!("Destroy {id} and all its data?"))? {
            anyhow::bail!("not confirmed; nothing was done");
        }
        let uninstalled = match &place {
            Place::Here(host) => {
                host.uninstall(&id, self.keep_data).await?;
                Uninstalled { id: id.clone(), changed: true, kept_data: self.keep_data }
            }
            Place::There(server) => server.delete(&of_addon(&id, ""), &json!({ "keep_data": self.keep_data })).await?,
        };
        let kept = if self.keep_data { "; its data is kept: install it again to use it" } else { "" };
        output::say(context, format!("uninstalled {id}{kept}"));
        if context.json {
            output::json(&uninstalled)?;
        }
        Ok(0)
    }
}

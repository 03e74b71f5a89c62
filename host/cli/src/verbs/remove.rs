//! `lodger remove`: takes an addon from an app, and destroys what the app had of it.

use lodger::{AddonId, Host, Id, Removed};

use super::consent;
use crate::context::Context;
use crate::output;

/// Remove an addon from an app, with its data unless told to keep it
#[derive(clap::Args)]
pub struct Remove {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Keep the resource and its data; adding the addon again gives it back
    #[arg(long)]
    keep_data: bool,
    /// Do not ask on a terminal
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Remove {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let app = super::id(&self.app)?;
        let addon = host.resolve(&self.addon)?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        if self.keep_data && !self.dry_run {
            return self.detach(context, &host, &app, &addon, alias.as_ref()).await;
        }
        let would = host.would_remove(&app, &addon, alias.as_ref()).await?;
        if self.dry_run {
            return super::dry_run(context, would, &format!("remove {addon} from {app}"));
        }
        if would && !consent::destroys(self.yes, &format!("Destroy what {app} has of {addon}?"))? {
            anyhow::bail!("not confirmed; nothing was done");
        }
        let done = context.watch("removing", host.remove(&app, &addon, alias.as_ref())).await?;
        let (changed, failed_open) = (done.changed, done.failed_open.clone());
        output::completed(&addon, done)?;
        let word = if changed { format!("removed {addon} from {app}") } else { format!("{app} has no {addon}") };
        output::say(context, word);
        if context.json {
            output::json(&Removed { app, addon, alias, changed, failed_open, kept_data: false })?;
        }
        Ok(0)
    }

    async fn detach(
        self,
        context: &Context,
        host: &Host,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
    ) -> anyhow::Result<u8> {
        let done = host.detach(app, addon, alias).await?;
        let again = alias.map(|alias| format!(" --as {alias}")).unwrap_or_default();
        output::say(
            context,
            format!("{app} no longer uses {addon}; `lodger add {app} {addon}{again}` attaches it again"),
        );
        if context.json {
            let (app, addon, alias) = (app.clone(), addon.clone(), alias.cloned());
            let (changed, failed_open) = (done.changed, Vec::new());
            output::json(&Removed { app, addon, alias, changed, failed_open, kept_data: true })?;
        }
        Ok(0)
    }
}

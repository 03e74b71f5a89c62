//! `lodger remove`: takes an addon from an app, and destroys what the app had of it.

use lodger::{AddonId, Host, Id, Remote, Removed};
use serde_json::json;

use super::consent;
use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_app};

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
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let host = match &place {
            Place::Here(host) => host,
            Place::There(server) => return self.there(context, server, &app, &addon, alias.as_ref()).await,
        };
        if self.keep_data && !self.dry_run {
            return self.detach(context, host, &app, &addon, alias.as_ref()).await;
        }
        let would = host.would_remove(&app, &addon, alias.as_ref()).await?;
        if self.dry_run {
            return super::dry_run(context, would, &format!("remove {addon} from {app}"));
        }
        if would {
            self.confirm(&app, &addon)?;
        }
        let done = context.watch("removing", host.remove(&app, &addon, alias.as_ref())).await?;
        let (changed, failed_open) = (done.changed, done.failed_open.clone());
        output::completed(&addon, done)?;
        answer(context, &Removed { app, addon, alias, changed, failed_open, kept_data: false })
    }

    async fn there(
        &self,
        context: &Context,
        server: &Remote,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
    ) -> anyhow::Result<u8> {
        no_dry_run(self.dry_run)?;
        if !self.keep_data {
            self.confirm(app, addon)?;
        }
        let asked = json!({ "alias": alias, "keep_data": self.keep_data });
        let removed: Removed = context.watch("removing", server.delete(&of_app(app, addon, ""), &asked)).await?;
        output::failed_open(&removed.failed_open);
        answer(context, &removed)
    }

    fn confirm(&self, app: &Id, addon: &AddonId) -> anyhow::Result<()> {
        if !consent::destroys(self.yes, &format!("Destroy what {app} has of {addon}?"))? {
            anyhow::bail!("not confirmed; nothing was done");
        }
        Ok(())
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
        let (app, addon, alias) = (app.clone(), addon.clone(), alias.cloned());
        let (changed, failed_open) = (done.changed, Vec::new());
        answer(context, &Removed { app, addon, alias, changed, failed_open, kept_data: true })
    }
}

fn answer(context: &Context, removed: &Removed) -> anyhow::Result<u8> {
    let Removed { app, addon, alias, changed, kept_data, .. } = removed;
    let again = alias.as_ref().map(|alias| format!(" --as {alias}")).unwrap_or_default();
    let word = match (kept_data, changed) {
        (true, _) => format!("{app} no longer uses {addon}; `lodger add {app} {addon}{again}` attaches it again"),
        (false, true) => format!("removed {addon} from {app}"),
        (false, false) => format!("{app} has no {addon}"),
    };
    output::say(context, word);
    if context.json {
        output::json(removed)?;
    }
    Ok(0)
}

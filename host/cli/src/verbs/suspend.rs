//! `lodger suspend`: withholds from an app what it has of an addon.

use crate::context::Context;
use crate::output;

/// Withhold from an app what it has of an addon, until it is resumed; its data and variables stay
#[derive(clap::Args)]
pub struct Suspend {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Suspend {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let app = super::id(&self.app)?;
        let addon = host.resolve(&self.addon)?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let alias = alias.as_ref();
        if self.dry_run {
            let would = host.would_suspend(&app, &addon, alias).await?;
            return super::dry_run(context, would, &format!("suspend {addon} of {app}"));
        }
        let done = context.watch("suspending", host.suspend(&app, &addon, alias)).await?;
        let resource = done.stays(&host, &app, &addon, alias)?;
        let is = if resource.changed { "suspended" } else { "already suspended:" };
        output::say(context, format!("{is} {addon} of {app}"));
        super::resource(context, &resource)
    }
}

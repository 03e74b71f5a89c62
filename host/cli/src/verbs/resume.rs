//! `lodger resume`: gives back to an app what was suspended.

use crate::context::Context;
use crate::output;

/// Give back to an app what was suspended, as it was
#[derive(clap::Args)]
pub struct Resume {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Resume {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let app = super::id(&self.app)?;
        let addon = host.resolve(&self.addon)?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let alias = alias.as_ref();
        if self.dry_run {
            let would = host.would_resume(&app, &addon, alias).await?;
            return super::dry_run(context, would, &format!("resume {addon} of {app}"));
        }
        let done = context.watch("resuming", host.resume(&app, &addon, alias)).await?;
        let resource = done.stays(&host, &app, &addon, alias)?;
        let is = if resource.changed { "resumed" } else { "not suspended:" };
        output::say(context, format!("{is} {addon} of {app}"));
        super::resource(context, &resource)
    }
}

//! `lodger plan`: moves what an app has of an addon to another plan.

use crate::context::Context;
use crate::output;

/// Move what an app has of an addon to another plan, with its data
#[derive(clap::Args)]
pub struct Plan {
    app: String,
    addon: String,
    /// One of the addon's plans
    plan: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Plan {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let app = super::id(&self.app)?;
        let addon = host.resolve(&self.addon)?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let (alias, plan) = (alias.as_ref(), self.plan.as_str());
        if self.dry_run {
            let would = host.would_change_plan(&app, &addon, alias, plan).await?;
            return super::dry_run(context, would, &format!("move {addon} of {app} to plan {plan}"));
        }
        let done = context.watch("changing the plan", host.change_plan(&app, &addon, alias, plan)).await?;
        let resource = done.stays(&host, &app, &addon, alias)?;
        output::say(
            context,
            if resource.changed {
                format!("moved {addon} of {app} to plan {plan}")
            } else {
                format!("{addon} of {app} has plan {plan} already")
            },
        );
        super::resource(context, &resource)
    }
}

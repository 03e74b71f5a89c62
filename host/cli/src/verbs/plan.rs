//! `lodger plan`: moves what an app has of an addon to another plan.

use lodger::ResourceNow;
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_app};

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
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let (alias, plan) = (alias.as_ref(), self.plan.as_str());
        let what = "changing the plan";
        let resource: ResourceNow = match &place {
            Place::Here(host) if self.dry_run => {
                let would = host.would_change_plan(&app, &addon, alias, plan).await?;
                return super::dry_run(context, would, &format!("move {addon} of {app} to plan {plan}"));
            }
            Place::Here(host) => {
                let done = context.watch(what, host.change_plan(&app, &addon, alias, plan)).await?;
                done.stays(host, &app, &addon, alias)?
            }
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let asked = json!({ "plan": plan, "alias": alias });
                context.watch(what, server.post(&of_app(&app, &addon, "/plan"), &asked)).await?
            }
        };
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

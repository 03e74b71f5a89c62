//! `lodger suspend`: withholds from an app what it has of an addon.

use lodger::ResourceNow;
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_app};

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
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let alias = alias.as_ref();
        let resource: ResourceNow = match &place {
            Place::Here(host) if self.dry_run => {
                let would = host.would_suspend(&app, &addon, alias).await?;
                return super::dry_run(context, would, &format!("suspend {addon} of {app}"));
            }
            Place::Here(host) => {
                let done = context.watch("suspending", host.suspend(&app, &addon, alias)).await?;
                done.stays(host, &app, &addon, alias)?
            }
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let asked = json!({ "alias": alias });
                context.watch("suspending", server.post(&of_app(&app, &addon, "/suspend"), &asked)).await?
            }
        };
        let is = if resource.changed { "suspended" } else { "already suspended:" };
        output::say(context, format!("{is} {addon} of {app}"));
        super::resource(context, &resource)
    }
}

//! `lodger resume`: gives back to an app what was suspended.

use lodger::ResourceNow;
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_app};

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
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let alias = alias.as_ref();
        let resource: ResourceNow = match &place {
            Place::Here(host) if self.dry_run => {
                let would = host.would_resume(&app, &addon, alias).await?;
                return super::dry_run(context, would, &format!("resume {addon} of {app}"));
            }
            Place::Here(host) => {
                let done = context.watch("resuming", host.resume(&app, &addon, alias)).await?;
                done.stays(host, &app, &addon, alias)?
            }
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let asked = json!({ "alias": alias });
                context.watch("resuming", server.post(&of_app(&app, &addon, "/resume"), &asked)).await?
            }
        };
        let is = if resource.changed { "resumed" } else { "not suspended:" };
        output::say(context, format!("{is} {addon} of {app}"));
        super::resource(context, &resource)
    }
}

//! `lodger rollback`: back to the version before, with what it had.

use lodger::{AddonDetails, Error, Upgraded, VersionNow};
use serde_json::json;

use super::consent;
use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_addon};

/// Go back to the version before the last upgrade, with the data and volumes it had then
#[derive(clap::Args)]
pub struct Rollback {
    addon: String,
    /// Destroy what apps were given of the addon since
    #[arg(long)]
    force: bool,
    /// Do not ask on a terminal
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Rollback {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        let plan = match &place {
            Place::Here(host) => host.would_rollback(&id, self.force).await?,
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let details: AddonDetails = server.get(&of_addon(&id, "")).await?;
                let earlier = details.earlier.first().ok_or_else(|| Error::NothingEarlier { addon: id.clone() })?;
                let (from, to) = (details.info.version.parse()?, earlier.version.clone());
                Upgraded { id: id.clone(), from, to, widens: Vec::new() }
            }
        };
        let (from, to) = (&plan.from, &plan.to);
        if self.dry_run {
            return super::dry_run(context, true, &format!("take {id} back from {from} to {to}"));
        }
        let question = format!("Destroy what {id} has written since it left {to}?");
        if !consent::destroys(self.yes, &question)? {
            anyhow::bail!("not confirmed; nothing was done");
        }
        let what = format!("taking {id} back to {to}");
        let now: VersionNow = match &place {
            Place::Here(host) => {
                let done = context.watch(&what, host.rollback(&id, self.force)).await?;
                output::completed(&id, done)?;
                let state = host.now(&id)?.map(|info| info.state);
                VersionNow { id, from: plan.from, to: plan.to, state, changed: true }
            }
            Place::There(server) => {
                let asked = json!({ "force": self.force });
                context.watch(&what, server.post(&of_addon(&id, "/rollback"), &asked)).await?
            }
        };
        output::say(context, format!("{} is {} again, with what it had then", now.id, now.to));
        if context.json {
            output::json(&now)?;
        }
        Ok(0)
    }
}

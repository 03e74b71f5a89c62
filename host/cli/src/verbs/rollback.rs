//! `lodger rollback`: back to the version before, with what it had.

use lodger::VersionNow;

use super::consent;
use crate::context::Context;
use crate::output;

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
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        let plan = host.would_rollback(&id, self.force).await?;
        let (from, to) = (&plan.from, &plan.to);
        if self.dry_run {
            return super::dry_run(context, true, &format!("take {id} back from {from} to {to}"));
        }
        let question = format!("Destroy what {id} has written since it left {to}?");
        if !consent::destroys(self.yes, &question)? {
            anyhow::bail!("not confirmed; nothing was done");
        }
        let done = context.watch(&format!("taking {id} back to {to}"), host.rollback(&id, self.force)).await?;
        output::completed(&id, done)?;
        output::say(context, format!("{id} is {to} again, with what it had then"));
        if context.json {
            let state = host.now(&id)?.map(|info| info.state);
            output::json(&VersionNow { id, from: plan.from, to: plan.to, state, changed: true })?;
        }
        Ok(0)
    }
}

//! `lodger enable`.

use lodger::Moved;

use crate::context::Context;
use crate::output;

/// Enable an addon: its `enable` hook runs, and apps may use it
///
/// What it needs (`depends` in addon.json) and is not enabled is enabled before it. An addon that is quarantined, since a hook
/// has failed too often in a row, is let try again by this.
#[derive(clap::Args)]
pub struct Enable {
    addon: String,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Enable {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        if self.dry_run {
            let would = host.would_enable_with_needs(&id).await?;
            return super::dry_run_in_order(context, &id, &would, "enable", "enabled_first");
        }
        let mut first = Vec::new();
        let enabling = host.enable_with_needs(&id, |step| {
            context.say_meanwhile(format!("enabled {}, which is needed first", step.addon));
            first.push(step.addon.clone());
        });
        let step = context.watch(&format!("enabling {id}"), enabling).await?;
        let changed = step.done.changed;
        output::completed_step(step)?;
        output::say(context, if changed { format!("enabled {id}") } else { format!("{id} is already enabled") });
        super::moved(context, Moved { enabled_first: first, ..host.moved(&id, changed)? })
    }
}

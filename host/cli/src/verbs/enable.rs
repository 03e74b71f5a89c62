//! `lodger enable`.

use lodger::{AddonId, Moved};
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_addon};

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
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        let what = format!("enabling {id}");
        let told = |first: &AddonId| format!("enabled {first}, which is needed first");
        let moved = match &place {
            Place::Here(host) if self.dry_run => {
                let would = host.would_enable_with_needs(&id).await?;
                return super::dry_run_in_order(context, &id, &would, "enable", "enabled_first");
            }
            Place::Here(host) => {
                let mut first = Vec::new();
                let enabling = host.enable_with_needs(&id, |step| {
                    context.say_meanwhile(told(&step.addon));
                    first.push(step.addon.clone());
                });
                let step = context.watch(&what, enabling).await?;
                let changed = step.done.changed;
                output::completed_step(step)?;
                Moved { enabled_first: first, ..host.moved(&id, changed)? }
            }
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let moved: Moved = context.watch(&what, server.post(&of_addon(&id, "/enable"), &json!({}))).await?;
                moved.enabled_first.iter().for_each(|first| output::say(context, told(first)));
                moved
            }
        };
        output::say(context, if moved.changed { format!("enabled {id}") } else { format!("{id} is already enabled") });
        super::moved(context, moved)
    }
}

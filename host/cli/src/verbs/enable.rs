//! `lodger enable`.

use crate::context::Context;
use crate::output;

/// Enable an addon: its `enable` hook runs, and apps may use it
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
            return super::dry_run(context, host.would_enable(&id).await?, &format!("enable {id}"));
        }
        let done = context.watch(&format!("enabling {id}"), host.enable(&id)).await?;
        let changed = done.changed;
        output::completed(&id, done)?;
        output::say(context, if changed { format!("enabled {id}") } else { format!("{id} is already enabled") });
        super::state(context, &host, &id, changed)
    }
}

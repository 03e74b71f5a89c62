//! `lodger disable`.

use crate::context::Context;
use crate::output;

/// Disable an addon no app uses
#[derive(clap::Args)]
pub struct Disable {
    addon: String,
    /// Take it from the apps that use it first; destroys what they have of it
    #[arg(long)]
    force: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Disable {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        if self.dry_run {
            return super::dry_run(context, host.would_disable(&id, self.force).await?, &format!("disable {id}"));
        }
        let done = context.watch(&format!("disabling {id}"), host.disable(&id, self.force)).await?;
        let changed = done.changed;
        output::completed(&id, done)?;
        output::say(context, if changed { format!("disabled {id}") } else { format!("{id} is not enabled") });
        super::state(context, &host, &id, changed)
    }
}

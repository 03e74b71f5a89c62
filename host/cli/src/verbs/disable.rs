//! `lodger disable`.

use lodger::{AddonId, Host, Moved, Remote};
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_addon};

/// Disable an addon that no app uses and no enabled addon needs
#[derive(clap::Args)]
pub struct Disable {
    addon: String,
    /// Disable the addons that need it first, and take each from the apps that use it; destroys what they have of it
    #[arg(long)]
    force: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Disable {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        let host = match &place {
            Place::Here(host) => host,
            Place::There(server) => return self.there(context, server, &id).await,
        };
        if self.force {
            return self.with_dependents(context, host, &id).await;
        }
        if self.dry_run {
            return super::dry_run(context, host.would_disable(&id, false).await?, &format!("disable {id}"));
        }
        let done = context.watch(&format!("disabling {id}"), host.disable(&id, false)).await?;
        let (changed, failed_open) = (done.changed, done.failed_open.clone());
        output::completed(&id, done)?;
        say(context, &id, changed);
        super::moved(context, Moved { failed_open, ..host.moved(&id, changed)? })
    }

    async fn there(&self, context: &Context, server: &Remote, id: &AddonId) -> anyhow::Result<u8> {
        no_dry_run(self.dry_run)?;
        let (path, asked) = (of_addon(id, "/disable"), json!({ "force": self.force }));
        let disabling = server.post(&path, &asked);
        let moved: Moved = context.watch(&format!("disabling {id}"), disabling).await?;
        moved.disabled_first.iter().for_each(|first| output::say(context, format!("disabled {first}")));
        output::failed_open(&moved.failed_open);
        say(context, id, moved.changed);
        super::moved(context, moved)
    }

    async fn with_dependents(&self, context: &Context, host: &Host, id: &AddonId) -> anyhow::Result<u8> {
        let would = host.would_disable_with_dependents(id).await?;
        if self.dry_run {
            return super::dry_run_in_order(context, id, &would, "disable", "disabled_first");
        }
        let others = super::others(&would, id);
        if !others.is_empty() {
            output::say(context, format!("{id} is needed by others, disabled first: {}", super::names(&others)));
        }
        let (mut first, mut failed_open) = (Vec::new(), Vec::new());
        let disabling = host.disable_with_dependents(id, |step| {
            context.say_meanwhile(format!("disabled {}", step.addon));
            output::gone_on_without(&step.done);
            first.push(step.addon.clone());
            failed_open.extend_from_slice(&step.done.failed_open);
        });
        let step = context.watch(&format!("disabling {id}"), disabling).await?;
        let changed = step.done.changed;
        failed_open.extend_from_slice(&step.done.failed_open);
        output::completed_step(step)?;
        say(context, id, changed);
        super::moved(context, Moved { disabled_first: first, failed_open, ..host.moved(id, changed)? })
    }
}

fn say(context: &Context, id: &AddonId, changed: bool) {
    output::say(context, if changed { format!("disabled {id}") } else { format!("{id} is not enabled") });
}

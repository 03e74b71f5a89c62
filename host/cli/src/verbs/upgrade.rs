//! `lodger upgrade`: shows what the new version may do beyond the old, asks, upgrades.

use std::path::PathBuf;

use lodger::{Error, Grant, Upgraded, VersionNow};
use serde_json::json;

use super::consent;
use crate::context::Context;
use crate::output;

/// Replace an addon by a later version; whatever fails, everything is put back
#[derive(clap::Args)]
pub struct Upgrade {
    addon: String,
    /// A directory with an addon.json, or an archive made by `lodger pack`
    #[arg(value_name = "PATH")]
    package: PathBuf,
    /// Accept exactly the grant with this digest, as `--dry-run` shows it, where it widens
    #[arg(long, value_name = "SHA256:…")]
    accept_grant: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Upgrade {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        let what = format!("reading and compiling {}", self.package.display());
        let incoming = context.watch(&what, host.inspect(&self.package)).await?;
        let (plan, changes) = host.would_upgrade(&id, &incoming).await?;
        if changes {
            show(context, &plan, &incoming.grant);
        }
        if self.dry_run {
            let verb = format!("upgrade {id} from {} to {}", plan.from, plan.to);
            output::say(context, if changes { format!("would {verb}") } else { format!("nothing to do to {verb}") });
            if context.json {
                let (from, to, widens, grant) = (plan.from, plan.to, plan.widens, incoming.grant.digest);
                output::json(&json!({
                    "dry_run": true, "changed": changes, "from": from, "to": to, "widens": widens, "grant": grant,
                }))?;
            }
            return Ok(0);
        }
        if changes && !plan.widens.is_empty() && !self.accepts(&incoming.grant)? {
            return Err(Error::GrantWidens { addon: id, digest: incoming.grant.digest }.into());
        }
        let (from, to) = (plan.from, plan.to);
        let done = context.watch(&format!("upgrading {id} to {to}"), host.upgrade(&id, incoming)).await?;
        let changed = done.changed;
        if !done.outcome.is_completed() {
            output::say(context, format!("{id} is {from} again, with all it had"));
        }
        output::completed(&id, done)?;
        output::say(
            context,
            if changed { format!("upgraded {id} from {from} to {to}") } else { format!("{id} is already {to}") },
        );
        if context.json {
            let state = host.now(&id)?.map(|info| info.state);
            output::json(&VersionNow { id, from, to, state, changed })?;
        }
        Ok(0)
    }

    fn accepts(&self, grant: &Grant) -> anyhow::Result<bool> {
        match &self.accept_grant {
            Some(digest) => Ok(*digest == grant.digest),
            None => consent::ask("Upgrade it with these permissions?"),
        }
    }
}

fn show(context: &Context, plan: &Upgraded, grant: &Grant) {
    let Upgraded { id, from, to, widens } = plan;
    if widens.is_empty() {
        return output::say(context, format!("{id} may in {to} what it may in {from}, or less"));
    }
    output::say(context, format!("{id} may in {to}, beyond what it may in {from}"));
    for line in widens {
        output::say(context, format!("  {} ({})", line.what, line.because));
    }
    output::say(context, format!("grant {}", grant.digest));
}

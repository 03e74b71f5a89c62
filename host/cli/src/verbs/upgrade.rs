//! `lodger upgrade`: shows what the new version may do beyond the old, asks, upgrades.

use std::path::PathBuf;

use anyhow::Context as _;
use lodger::{
    AddonDetails, AddonId, Error, Grant, Host, Package, PackageBounds, Remote, RemoteError, Upgraded, VersionNow,
};
use serde_json::json;

use super::consent;
use crate::context::Context;
use crate::output;
use crate::packages::{self, Source};
use crate::place::{AtMarketplace, Place, no_dry_run, of_addon};

/// Replace an addon by a later version; whatever fails, everything is put back
#[derive(clap::Args)]
pub struct Upgrade {
    addon: String,
    /// A directory with an addon.json, an archive made by `lodger pack`, or a name in the marketplace, as `install` takes it
    #[arg(value_name = "PATH|NAME[@VERSION]")]
    package: PathBuf,
    #[command(flatten)]
    marketplace: AtMarketplace,
    /// Accept exactly the grant with this digest, as `--dry-run` shows it, where it widens
    #[arg(long, value_name = "SHA256:…")]
    accept_grant: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Upgrade {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        match &place {
            Place::Here(host) => self.here(context, host, id).await,
            Place::There(server) => self.there(context, server, id).await,
        }
    }

    async fn here(&self, context: &Context, host: &Host, id: AddonId) -> anyhow::Result<u8> {
        let package = self.package(context, &host.policy().package).await?;
        let what = format!("compiling {}", package.manifest.id);
        let incoming = context.watch(&what, host.inspect_package(package)).await?;
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
        let state = host.now(&id)?.map(|info| info.state);
        answer(context, &VersionNow { id, from, to, state, changed })
    }

    async fn there(&self, context: &Context, server: &Remote, id: AddonId) -> anyhow::Result<u8> {
        no_dry_run(self.dry_run)?;
        let package = self.package(context, &context.policy()?.package).await?;
        let details: AddonDetails = server.get(&of_addon(&id, "")).await?;
        let packed = bytes::Bytes::from(lodger::pack(&package)?);
        let upgrade = async |query: &str| {
            let path = of_addon(&id, &format!("/upgrade{query}"));
            server.post_package::<VersionNow>(&path, packed.clone()).await
        };
        let what = format!("upgrading {id}");
        let now = match context.watch(&what, upgrade("")).await {
            Err(RemoteError::Refused(mut refusal)) if refusal.code == "grant-widens" => {
                let grant = refusal.grant.take().ok_or(RemoteError::Refused(refusal))?;
                let before: Grant = server.get(&of_addon(&id, "/grant")).await?;
                let from = details.info.version.parse().context("the server tells of a version that is none")?;
                let to = package.manifest.version_or_first();
                show(context, &Upgraded { id: id.clone(), from, to, widens: grant.widens(&before) }, &grant);
                if !self.accepts(&grant)? {
                    return Err(Error::GrantWidens { addon: id, digest: grant.digest }.into());
                }
                context.watch(&what, upgrade(&format!("?accept_grant={}", grant.digest))).await?
            }
            now => now?,
        };
        answer(context, &now)
    }

    /// What takes over. What it needs must be there.
    async fn package(&self, context: &Context, bounds: &PackageBounds) -> anyhow::Result<Package> {
        match Source::of(&self.package) {
            Source::Path(path) => Ok(Package::read(&path, bounds)?),
            Source::Named(wanted) => packages::fetch_one(context, &self.marketplace, &wanted, bounds).await,
        }
    }

    fn accepts(&self, grant: &Grant) -> anyhow::Result<bool> {
        match &self.accept_grant {
            Some(digest) => Ok(*digest == grant.digest),
            None => consent::ask("Upgrade it with these permissions?"),
        }
    }
}

fn answer(context: &Context, now: &VersionNow) -> anyhow::Result<u8> {
    let VersionNow { id, from, to, changed, .. } = now;
    let word = if *changed { format!("upgraded {id} from {from} to {to}") } else { format!("{id} is already {to}") };
    output::say(context, word);
    if context.json {
        output::json(now)?;
    }
    Ok(0)
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

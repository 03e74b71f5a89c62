//! `lodger publish`: gives an addon to a marketplace, and waits for what its review says.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use lodger::{EntryStatus, Listed, Marketplace, Package, PackageBounds};

use crate::context::Context;
use crate::output::{self, Usage};
use crate::place::AtMarketplace;

/// Largest descriptor, in bytes.
const DESCRIPTOR_MAX: u64 = 1 << 20;
/// How often it is asked whether a review has ended, and for how long.
const LOOK: Duration = Duration::from_millis(500);
const REVIEWED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Publish an addon in a marketplace, and wait for its review
///
/// A version is what it was published as for ever: publish a change under another. Exits with 1 where the review finds something
/// wrong.
#[derive(clap::Args)]
pub struct Publish {
    /// A directory with an addon.json, an archive made by `lodger pack`, or a descriptor: an addon.json of services alone
    path: PathBuf,
    #[command(flatten)]
    marketplace: AtMarketplace,
    /// Do not wait for the review
    #[arg(long)]
    no_wait: bool,
}

enum Given {
    Package(Bytes),
    Descriptor(Bytes),
}

impl Publish {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let market = self.marketplace.open(context)?;
        let given = read(&self.path, &context.policy()?.package)?;
        let publishing = async {
            match given {
                Given::Package(packed) => market.publish_package(packed).await,
                Given::Descriptor(manifest) => market.publish_descriptor(manifest).await,
            }
        };
        let entry = context.watch("publishing", publishing).await?;
        let what = format!("{} {}", entry.addon, entry.version);
        output::say(context, format!("published {what} at {}, as {}", market.url(), entry.id));
        let entry = match (self.no_wait, entry.status) {
            (false, EntryStatus::UnderReview) => {
                context.watch("waiting for the review", reviewed(&market, &entry)).await?
            }
            _ => entry,
        };
        output::say(context, format!("{what}: {}", entry.status.name().replace('_', " ")));
        let checks = entry.review.iter().flat_map(|review| &review.checks).filter(|check| !check.passed);
        for (check, problem) in checks.flat_map(|check| check.problems.iter().map(move |problem| (check, problem))) {
            output::say(context, format!("  {}: {}: {}", check.check, problem.path, problem.message));
            if let Some(hint) = &problem.hint {
                output::say(context, format!("    hint: {hint}"));
            }
        }
        if context.json {
            output::json(&entry)?;
        }
        Ok(u8::from(entry.status == EntryStatus::VerificationFailed))
    }
}

/// An archive is what begins as one; what a descriptor is, the marketplace says.
fn read(path: &Path, bounds: &PackageBounds) -> anyhow::Result<Given> {
    let is_dir = std::fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?.is_dir();
    if !is_dir {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(DESCRIPTOR_MAX + 1).read_to_end(&mut bytes));
        read.with_context(|| format!("cannot read `{}`", path.display()))?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            if bytes.len() as u64 > DESCRIPTOR_MAX {
                let hint = "`lodger pack` makes an archive of a directory";
                return Err(Usage::new(&format!("`{}` is no addon.json and no archive", path.display()), hint).into());
            }
            return Ok(Given::Descriptor(bytes.into()));
        }
    }
    Ok(Given::Package(lodger::pack(&Package::read(path, bounds)?)?.into()))
}

async fn reviewed(market: &Marketplace, entry: &Listed) -> anyhow::Result<Listed> {
    let ended = async {
        loop {
            let entry = market.entry(&entry.id).await?;
            if entry.status != EntryStatus::UnderReview {
                return anyhow::Ok(entry);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(REVIEWED_WITHIN, ended).await.unwrap_or_else(|_| {
        bail!("the review has not ended; it goes on, and `lodger search` shows the addon once it is approved")
    })
}

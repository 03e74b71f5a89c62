//! Where packages come from: a path that is there, else a name in a marketplace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lodger::{AddonId, Marketplace, Package, PackageBounds, Wanted};

use crate::context::Context;
use crate::place::AtMarketplace;

/// What was given for a package.
pub enum Source {
    Path(PathBuf),
    Named(Wanted),
}

impl Source {
    /// Whatever is there has the name, and what can be no name is a path.
    pub fn of(given: &Path) -> Source {
        let is_there = !matches!(given.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
        match given.to_str().and_then(|text| text.parse().ok()).filter(|_| !is_there) {
            Some(wanted) => Source::Named(wanted),
            None => Source::Path(given.to_owned()),
        }
    }
}

/// What is fetched for the names, and of what that needs all that is neither given nor there. Nothing without names.
pub async fn fetch(
    context: &Context,
    at: &AtMarketplace,
    wanted: &[Wanted],
    given: &[AddonId],
    there: &BTreeSet<AddonId>,
    bounds: &PackageBounds,
) -> anyhow::Result<Vec<Package>> {
    let Some(first) = wanted.first() else { return Ok(Vec::new()) };
    let market = open(context, at, first)?;
    let fetching = market.fetch_all(wanted, given, |id| there.contains(id), bounds);
    Ok(context.watch(&format!("fetching from {}", market.url()), fetching).await?)
}

/// The package of a name alone.
pub async fn fetch_one(
    context: &Context,
    at: &AtMarketplace,
    wanted: &Wanted,
    bounds: &PackageBounds,
) -> anyhow::Result<Package> {
    let market = open(context, at, wanted)?;
    let fetching = async { market.fetch(&market.find(wanted).await?, bounds).await };
    Ok(context.watch(&format!("fetching from {}", market.url()), fetching).await?)
}

fn open(context: &Context, at: &AtMarketplace, wanted: &Wanted) -> anyhow::Result<Marketplace> {
    at.open(context).with_context(|| format!("there is no path `{wanted}`"))
}

/// Those that others need come before them, as far as they are among these.
pub fn needed_first(mut packages: Vec<Package>) -> Vec<Package> {
    let mut ordered = Vec::new();
    while !packages.is_empty() {
        let waits = |package: &Package| {
            let needs = |id: &AddonId| package.manifest.depends.iter().any(|need| need.id == *id);
            packages.iter().any(|other| other.manifest.id != package.manifest.id && needs(&other.manifest.id))
        };
        // In a circle any may be the first: who installs it is told.
        let next = packages.iter().position(|package| !waits(package)).unwrap_or(0);
        ordered.push(packages.remove(next));
    }
    ordered
}

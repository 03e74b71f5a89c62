//! `lodger install`: shows what the addons will be allowed to do, asks, installs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lodger::{AddonId, AddonInfo, Error, Grant, Host, Installed, Package, Remote, RemoteError, Wanted};

use super::consent;
use crate::context::Context;
use crate::output;
use crate::packages::{self, Source};
use crate::place::{AtMarketplace, Place, no_dry_run, only_here};

/// Install addons from directories, archives or a marketplace
///
/// What is there as a path is one; anything else is a name in the marketplace, of which the latest approved version is fetched
/// that will do, and with it what it needs and is not installed. Addons that need each other are installed in the order this
/// takes, whatever the order they are given in. What one from a path needs must be installed or among those given; what is
/// installed already stays as it is.
///
/// At a server (--server) they are installed one after the other, each with a grant that the server shows.
#[derive(clap::Args)]
pub struct Install {
    /// Directories with an addon.json, archives made by `lodger pack`, or names: NAME or NAMESPACE/NAME, with @1.2.3 for that
    /// version, @^1.2 or @">=1, <3" for the latest of those
    #[arg(required = true, value_name = "PATH|NAME[@VERSION]")]
    packages: Vec<PathBuf>,
    #[command(flatten)]
    marketplace: AtMarketplace,
    /// Accept the grant without asking
    #[arg(long)]
    yes: bool,
    /// Accept exactly the grant with this digest, as `--dry-run` shows it; once for each package
    #[arg(long, value_name = "SHA256:…")]
    accept_grant: Vec<String>,
    /// Let the same version come with other content, while developing
    #[arg(long)]
    dev: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Install {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let (mut paths, mut wanted) = (Vec::new(), Vec::new());
        for given in &self.packages {
            match Source::of(given) {
                Source::Path(path) => paths.push(path),
                Source::Named(name) => wanted.push(name),
            }
        }
        match context.place().await? {
            Place::Here(host) => self.here(context, &host, &paths, &wanted).await,
            Place::There(server) => self.there(context, &server, &paths, &wanted).await,
        }
    }

    async fn here(&self, context: &Context, host: &Host, paths: &[PathBuf], wanted: &[Wanted]) -> anyhow::Result<u8> {
        let mut incoming = Vec::new();
        for path in paths {
            let what = format!("reading and compiling {}", path.display());
            incoming.push(context.watch(&what, host.inspect(path)).await?);
        }
        let given: Vec<AddonId> = incoming.iter().map(|incoming| incoming.grant.id.clone()).collect();
        let there = host.addons()?.into_iter().map(|addon| addon.id).collect();
        let bounds = &host.policy().package;
        for package in packages::fetch(context, &self.marketplace, wanted, &given, &there, bounds).await? {
            let what = format!("compiling {}", package.manifest.id);
            incoming.push(context.watch(&what, host.inspect_package(package)).await?);
        }
        let incoming = host.in_order(incoming)?;
        let would = host.would_install(&incoming, self.dev).await?;
        let with_would = || incoming.iter().map(|incoming| &incoming.grant).zip(would.iter().copied());
        let mut answers = Vec::new();
        if self.dry_run {
            for (grant, changes) in with_would() {
                output::say(context, format!("would {} {}", if changes { "install" } else { "keep" }, grant.id));
                show(context, grant);
                answers.push(serde_json::json!({ "dry_run": true, "changed": changes, "grant": grant }));
            }
            return self.answer(context, &answers);
        }
        // All of it is shown and accepted before anything is installed.
        let alone = incoming.len() == 1;
        with_would().filter(|(_, changes)| *changes).for_each(|(grant, _)| show(context, grant));
        for (grant, _) in with_would().filter(|(_, changes)| *changes) {
            let known = host.addon(&grant.id).is_ok();
            accept(&self.accept_grant, self.yes && (self.dev || !known), grant, alone)?;
        }
        for incoming in incoming {
            // Which fetches the images of its services.
            let what = format!("installing {}", incoming.grant.id);
            let done = context.watch(&what, host.install(incoming, self.dev)).await?;
            answers.push(told(context, &done)?);
        }
        self.answer(context, &answers)
    }

    async fn there(
        &self,
        context: &Context,
        server: &Remote,
        paths: &[PathBuf],
        wanted: &[Wanted],
    ) -> anyhow::Result<u8> {
        no_dry_run(self.dry_run)?;
        only_here(self.dev, "--dev", "it is to try what changes")?;
        let bounds = context.policy()?.package;
        let mut given = Vec::new();
        for path in paths {
            given.push(Package::read(path, &bounds)?);
        }
        let ids: Vec<AddonId> = given.iter().map(|package| package.manifest.id.clone()).collect();
        let addons: Vec<AddonInfo> = server.get("/v1/addons").await?;
        let there: BTreeSet<AddonId> = addons.into_iter().map(|addon| addon.id).collect();
        given.extend(packages::fetch(context, &self.marketplace, wanted, &ids, &there, &bounds).await?);
        let (mut answers, alone) = (Vec::new(), given.len() == 1);
        for package in packages::needed_first(given) {
            let id = package.manifest.id.clone();
            let (known, packed) = (there.contains(&id), bytes::Bytes::from(lodger::pack(&package)?));
            let give = async |query: &str| {
                server.post_package::<Installed>(&format!("/v1/addons{query}"), packed.clone()).await
            };
            let what = format!("installing {id}");
            let done = match context.watch(&what, give("")).await {
                Err(RemoteError::Refused(mut refusal)) if refusal.code == Error::GrantNotAccepted.code() => {
                    let grant = refusal.grant.take().ok_or(RemoteError::Refused(refusal))?;
                    show(context, &grant);
                    accept(&self.accept_grant, self.yes && !known, &grant, alone)?;
                    context.watch(&what, give(&format!("?accept_grant={}", grant.digest))).await?
                }
                done => done?,
            };
            answers.push(told(context, &done)?);
        }
        self.answer(context, &answers)
    }

    /// One value for one package, else a list of them in the order they were installed.
    fn answer(&self, context: &Context, answers: &[serde_json::Value]) -> anyhow::Result<u8> {
        if context.json {
            match answers {
                [only] if self.packages.len() == 1 => output::json(only)?,
                several => output::json(&several)?,
            }
        }
        Ok(0)
    }
}

/// `yes` is not to be given for an addon that is there already and comes with another grant: a blanket one is not enough for
/// that.
pub(super) fn accept(digests: &[String], yes: bool, grant: &Grant, alone: bool) -> anyhow::Result<()> {
    let what = if alone { "it".to_owned() } else { grant.id.to_string() };
    let accepted = match digests {
        [] if yes => true,
        [] => consent::ask(&format!("Install {what} with these permissions?"))?,
        digests => digests.contains(&grant.digest),
    };
    match accepted {
        true => Ok(()),
        false if alone => Err(Error::GrantNotAccepted.into()),
        false => Err(anyhow::Error::from(Error::GrantNotAccepted).context(what)),
    }
}

pub(super) fn told(context: &Context, done: &Installed) -> anyhow::Result<serde_json::Value> {
    let word = if done.changed { "installed" } else { "already installed:" };
    output::say(context, format!("{word} {} {}", done.id, done.version));
    Ok(serde_json::to_value(done)?)
}

pub(super) fn show(context: &Context, grant: &Grant) {
    output::say(context, format!("{} may", grant.id));
    for line in grant.lines.iter().filter(|line| line.may && line.because != "built in" && line.because != "default") {
        output::say(context, format!("  {} ({})", line.what, line.because));
    }
    output::say(context, "  and what every addon may; `lodger explain` shows all of it");
    output::say(context, format!("grant {}", grant.digest));
}

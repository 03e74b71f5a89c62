//! `lodger install`: shows what the addons will be allowed to do, asks, installs.

use std::path::PathBuf;

use lodger::{Error, Grant};

use super::consent;
use crate::context::Context;
use crate::output;

/// Install addons from directories or archives
///
/// Those that need each other are installed in the order this takes, whatever the order they are given in. What one needs must
/// be installed or among those given; what is installed already stays as it is.
#[derive(clap::Args)]
pub struct Install {
    /// Directories with an addon.json, or archives made by `lodger pack`
    #[arg(required = true, value_name = "PATH")]
    packages: Vec<PathBuf>,
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
        let host = context.host().await?;
        let mut incoming = Vec::new();
        for path in &self.packages {
            let what = format!("reading and compiling {}", path.display());
            incoming.push(context.watch(&what, host.inspect(path)).await?);
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
        with_would().filter(|(_, changes)| *changes).for_each(|(grant, _)| show(context, grant));
        for (grant, _) in with_would().filter(|(_, changes)| *changes) {
            let known = host.addon(&grant.id).is_ok();
            self.accept(grant, known && !self.dev)?;
        }
        for incoming in incoming {
            // Which fetches the images of its services.
            let what = format!("installing {}", incoming.grant.id);
            let done = context.watch(&what, host.install(incoming, self.dev)).await?;
            let word = if done.changed { "installed" } else { "already installed:" };
            output::say(context, format!("{word} {} {}", done.id, done.version));
            answers.push(serde_json::to_value(done)?);
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

    /// An addon already there comes with another grant: a blanket `--yes` is not enough for that.
    fn accept(&self, grant: &Grant, another: bool) -> anyhow::Result<()> {
        let alone = self.packages.len() == 1;
        let what = if alone { "it".to_owned() } else { grant.id.to_string() };
        let accepted = match &self.accept_grant[..] {
            [] if self.yes && !another => true,
            [] => consent::ask(&format!("Install {what} with these permissions?"))?,
            digests => digests.contains(&grant.digest),
        };
        match accepted {
            true => Ok(()),
            false if alone => Err(Error::GrantNotAccepted.into()),
            false => Err(anyhow::Error::from(Error::GrantNotAccepted).context(what)),
        }
    }
}

pub(super) fn show(context: &Context, grant: &Grant) {
    output::say(context, format!("{} may", grant.id));
    for line in grant.lines.iter().filter(|line| line.may && line.because != "built in" && line.because != "default") {
        output::say(context, format!("  {} ({})", line.what, line.because));
    }
    output::say(context, "  and what every addon may; `lodger explain` shows all of it");
    output::say(context, format!("grant {}", grant.digest));
}

//! `lodger install`: shows what the addon will be allowed to do, asks, installs.

use std::path::PathBuf;

use lodger::{Error, Grant};

use super::consent;
use crate::context::Context;
use crate::output;

/// Install addons from directories or archives
#[derive(clap::Args)]
pub struct Install {
    /// Directories with an addon.json, or archives made by `lodger pack`
    #[arg(required = true, value_name = "PATH")]
    packages: Vec<PathBuf>,
    /// Accept the grant without asking
    #[arg(long)]
    yes: bool,
    /// Accept exactly the grant with this digest, as `--dry-run` shows it
    #[arg(long, value_name = "SHA256:…")]
    accept_grant: Option<String>,
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
        let mut installed = Vec::new();
        for path in &self.packages {
            let what = format!("reading and compiling {}", path.display());
            let incoming = context.watch(&what, host.inspect(path)).await?;
            let changes = host.would_install(&incoming, self.dev).await?;
            if self.dry_run {
                installed.push(serde_json::json!({ "dry_run": true, "changed": changes, "grant": incoming.grant }));
                output::say(
                    context,
                    format!("would {} {}", if changes { "install" } else { "keep" }, incoming.grant.id),
                );
                show(context, &incoming.grant);
                continue;
            }
            if changes {
                show(context, &incoming.grant);
                let known = host.addon(&incoming.grant.id).is_ok();
                self.accept(&incoming.grant, known && !self.dev)?;
            }
            let done = host.install(incoming, self.dev).await?;
            let word = if done.changed { "installed" } else { "already installed:" };
            output::say(context, format!("{word} {} {}", done.id, done.version));
            installed.push(serde_json::to_value(done)?);
        }
        if context.json {
            match <[serde_json::Value; 1]>::try_from(installed) {
                Ok([only]) => output::json(&only)?,
                Err(several) => output::json(&several)?,
            }
        }
        Ok(0)
    }

    /// An addon already there comes with another grant: a blanket `--yes` is not enough for that.
    fn accept(&self, grant: &Grant, another: bool) -> anyhow::Result<()> {
        let accepted = match &self.accept_grant {
            Some(digest) => *digest == grant.digest,
            None if self.yes && !another => true,
            None => consent::ask("Install it with these permissions?")?,
        };
        if accepted { Ok(()) } else { Err(Error::GrantNotAccepted.into()) }
    }
}

fn show(context: &Context, grant: &Grant) {
    output::say(context, format!("{} may", grant.id));
    for line in grant.lines.iter().filter(|line| line.may && line.because != "built in" && line.because != "default") {
        output::say(context, format!("  {} ({})", line.what, line.because));
    }
    output::say(context, "  and what every addon may; `lodger explain` shows all of it");
    output::say(context, format!("grant {}", grant.digest));
}

//! `lodger provider`: an add-on provider, asked as Scalingo and Heroku ask it; and what an addon hands to them.

mod cache;
mod contract;
mod offer;
mod target;

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use lodger::provider::ManifestReview;
use lodger::{Problem, ProviderClient, ProviderError, ProviderManifest};
use serde_json::json;

use self::target::Target;
use super::Reach;
use crate::context::Context;
use crate::output::{self, Refused};

/// Largest manifest that is read, in bytes, and one more to see that it is larger.
const MANIFEST_MAX: u64 = (1 << 20) + 1;
/// Test an add-on provider as Scalingo and Heroku ask it, by the manifest that it hands to them; make such a manifest of an addon
///
/// `credentials` and `manifest` are about an addon of the home. Everything else is about a provider of any kind: it is asked at the manifest's test addresses, never at those for production, and on this machine alone unless --allow-remote
/// says otherwise. Without a command the manifest is checked.
#[derive(clap::Args)]
pub struct Provider {
    /// The provider's manifest, of Scalingo's or Heroku's dialect
    #[arg(short, long, global = true, value_name = "FILE", env = "MANIFEST_PATH", default_value = "manifest.json")]
    manifest: PathBuf,
    /// Ask providers on other machines as well, over https://
    #[arg(long, global = true)]
    allow_remote: bool,
    /// For how many seconds an answer is waited for
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// For how many seconds a provider is waited for that answers 202 and calls back later
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86400))]
    wait: u64,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    #[command(flatten)]
    Ask(Tester),
    Credentials(offer::Credentials),
    Manifest(offer::Manifest),
}

#[derive(clap::Subcommand)]
enum Tester {
    /// Say everything that is wrong with the manifest
    Check,
    /// Ask for a resource, and remember it
    Provision {
        /// One of the manifest's [default: its first]
        #[arg(long)]
        plan: Option<String>,
        /// What the app is called [default: a fresh name]
        #[arg(long)]
        app: Option<String>,
        /// Ask the provider nothing, and say what would be asked
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask for another plan
    Update {
        #[arg(long)]
        plan: String,
        /// What the provider calls the resource; `list` shows it
        id: String,
        /// Ask the provider nothing, and say what would be asked
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask for a resource to be taken away
    Deprovision {
        id: String,
        /// Ask the provider nothing, and say what would be asked
        #[arg(long)]
        dry_run: bool,
    },
    /// List the resources that were provisioned here and not deprovisioned
    List,
    /// Forget them, without asking the provider anything
    Purge {
        /// Forget nothing, and say what would be forgotten
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the link that signs somebody on to the dashboard of a resource, or what a form would post
    Sso { id: String },
    /// Ask for everything that either platform may ask for, and say what is not as it should be; takes away what it made
    Test {
        /// The plan to begin with, one of the manifest's [default: its first]
        #[arg(long)]
        plan: Option<String>,
        /// The plan to change to [default: the manifest's next]
        #[arg(long)]
        to: Option<String>,
    },
}

impl Provider {
    /// A provider's author has no home; an addon is in one.
    pub const fn reach(&self) -> Reach {
        match self.what {
            Some(What::Credentials(_) | What::Manifest(_)) => Reach::Home,
            _ => Reach::Neither,
        }
    }

    pub async fn run(mut self, context: &Context) -> anyhow::Result<u8> {
        match self.what.take() {
            Some(What::Credentials(verb)) => verb.run(context).await,
            Some(What::Manifest(verb)) => verb.run(context).await,
            Some(What::Ask(verb)) => self.ask(context, verb).await,
            None => self.ask(context, Tester::Check).await,
        }
    }

    async fn ask(&self, context: &Context, verb: Tester) -> anyhow::Result<u8> {
        let review = self.read()?;
        match verb {
            Tester::Check => check(context, &review),
            _ if !review.errors.is_empty() => refuse(context, &review),
            Tester::Provision { plan, app, dry_run } => {
                self.target(review)?.provision(context, plan.as_deref(), app, dry_run).await
            }
            Tester::Update { plan, id, dry_run } => {
                self.target(review)?.update(context, &id.parse()?, &plan, dry_run).await
            }
            Tester::Deprovision { id, dry_run } => {
                self.target(review)?.deprovision(context, &id.parse()?, dry_run).await
            }
            Tester::List => self.target(review)?.list(context),
            Tester::Purge { dry_run } => self.target(review)?.purge(context, dry_run),
            Tester::Sso { id } => self.target(review)?.sso(context, &id.parse()?),
            Tester::Test { plan, to } => {
                contract::run(context, &self.target(review)?, plan.as_deref(), to.as_deref()).await
            }
        }
    }

    fn read(&self) -> anyhow::Result<ManifestReview> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.manifest).and_then(|file| file.take(MANIFEST_MAX).read_to_end(&mut bytes));
        let failed = || format!("Failed to read addon manifest: `{}`", self.manifest.display());
        read.with_context(failed)?;
        ProviderManifest::review(&bytes).with_context(failed)
    }

    fn target(&self, ManifestReview { manifest, .. }: ManifestReview) -> anyhow::Result<Target> {
        let at = manifest.test.clone().ok_or(ProviderError::NoAddress("test addresses"))?;
        let within = Duration::from_secs(self.timeout);
        let client = ProviderClient::new(&manifest, &at, self.allow_remote, within)?;
        Ok(Target { manifest, at, client, wait: Duration::from_secs(self.wait) })
    }
}

fn check(context: &Context, review: &ManifestReview) -> anyhow::Result<u8> {
    let ManifestReview { manifest, errors, warnings } = review;
    if context.json {
        let dialect = manifest.dialect;
        output::json(&json!({ "dialect": dialect, "name": manifest.name, "errors": errors, "warnings": warnings }))?;
        return Ok(u8::from(!errors.is_empty()));
    }
    for warning in warnings {
        output::warn(format!("warning: {warning}"));
    }
    if !errors.is_empty() {
        return refuse(context, review);
    }
    output::line("→ OK");
    Ok(0)
}

fn refuse(context: &Context, review: &ManifestReview) -> anyhow::Result<u8> {
    if context.json {
        let problem = |message: &String| Problem { path: ".".to_owned(), message: message.clone(), hint: None };
        let refused = Refused {
            code: "invalid-manifest",
            message: "Errors in the manifest".to_owned(),
            hint: "`lodger provider check` shows what else it could be warned of".to_owned(),
            problems: review.errors.iter().map(problem).collect(),
        };
        return Err(refused.into());
    }
    output::line("Errors in the manifest:");
    for error in &review.errors {
        output::line(format!("  → {error}"));
    }
    Ok(1)
}

//! `lodger test`: the whole life of an addon in a throw-away home, and what its author expects of it.

pub mod expectations;
mod lifecycle;
mod plans;
mod step;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use lodger::{Error, Grant, Host, Id};
use serde::Serialize;

use crate::context::Context;
use crate::output;
use expectations::Expectations;
use lifecycle::Lifecycle;
use step::Step;

/// Run an addon through its whole life in a throw-away home, with the cases of its lodger-test.toml
///
/// Each step shows its outcome, and what it used of its budget: wall time, memory, data and log. The policy is that of the
/// home named with --home or LODGER_HOME, where there is one; else the built-in default.
#[derive(clap::Args)]
#[command(after_long_help = expectations::help())]
pub struct Test {
    /// A directory with an addon.json and perhaps a lodger-test.toml, or an archive
    #[arg(default_value = ".")]
    path: PathBuf,
}

impl Test {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let tested = test(context, &self.path).await?;
        if context.json {
            output::json(&tested)?;
        }
        Ok(tested.exit_code())
    }
}

/// What came of it, as `--json` prints it.
#[derive(Serialize)]
pub struct Tested {
    addon: lodger::AddonId,
    version: String,
    digest: String,
    passed: bool,
    steps: Vec<Step>,
}

impl Tested {
    /// 1 when something is not as expected, 3 when the guest trapped or broke a limit unexpectedly.
    pub fn exit_code(&self) -> u8 {
        self.steps.iter().map(Step::exit_code).max().unwrap_or(0)
    }
}

/// Tests an addon, and shows each step as it ends.
///
/// # Errors
/// Only what keeps it from being tested: an addon that cannot be installed, expectations that cannot be read.
pub async fn test(context: &Context, path: &Path) -> anyhow::Result<Tested> {
    let expectations = Expectations::beside(path)?;
    let home = context.throw_away().await?;
    let (grant, plans) = install(context, &home.host, path, &expectations.depends).await?;
    let installed = home.host.addon(&grant.id)?;
    if !context.json {
        output::line(format!("{} {}", installed.id, installed.version));
    }
    let steps = Lifecycle::new(context, &home.host, grant, plans).run(&expectations).await?;
    let failed = steps.iter().filter(|step| !step.ok).count();
    let all = steps.len();
    output::say(
        context,
        match failed {
            0 => format!("passed: all {all} steps"),
            _ => format!("failed: {failed} of {all} steps"),
        },
    );
    let passed = failed == 0;
    Ok(Tested { addon: installed.id, version: installed.version, digest: installed.digest, passed, steps })
}

/// Installs the addon with the packages it needs, named as seen from it, and enables those. What it may do, and its plans.
async fn install(context: &Context, host: &Host, path: &Path, needed: &[PathBuf]) -> anyhow::Result<(Grant, Vec<Id>)> {
    let inspect = async |path: &Path| {
        let what = format!("reading and compiling {}", path.display());
        context.watch(&what, host.inspect(path)).await
    };
    let this = inspect(path).await?;
    let grant = this.grant.clone();
    let plans = this.package.manifest.plans.iter().map(|plan| plan.name.clone()).collect();
    let mut incoming = vec![this];
    for needed in needed {
        incoming.push(inspect(&path.join(needed)).await?);
    }
    let incoming = host.in_order(incoming).map_err(|error| match error {
        Error::DependencyMissing { .. } => anyhow!("{error}; name its package in `depends` of {}", expectations::FILE),
        error => error.into(),
    })?;
    for incoming in incoming {
        let id = host.install(incoming, true).await?.id;
        if id != grant.id {
            output::completed_step(host.enable_with_needs(&id, |_| ()).await?)?;
        }
    }
    Ok((grant, plans))
}

//! `lodger test`: the whole life of an addon in a throw-away home, and what its author expects of it.

pub mod expectations;
mod lifecycle;
mod step;

use std::path::{Path, PathBuf};

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
    let what = format!("reading and compiling {}", path.display());
    let incoming = context.watch(&what, home.host.inspect(path)).await?;
    let grant = incoming.grant.clone();
    let installed = home.host.install(incoming, true).await?;
    if !context.json {
        output::line(format!("{} {}", installed.id, installed.version));
    }
    let steps = Lifecycle::new(context, &home.host, grant).run(&expectations).await?;
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

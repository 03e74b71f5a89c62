//! `lodger run`: a command with the variables of an app.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::Context as _;

use crate::context::Context;

/// Run a command with the variables of an app
#[derive(clap::Args)]
pub struct Run {
    app: String,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    #[expect(clippy::disallowed_methods, reason = "running the operator's command is what this verb is for")]
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.open(context.home()?).await?;
        let variables = super::env::ask(&host, &super::id(&self.app)?, false).await?;
        // Writes what was logged; this process does not come back.
        drop(host);
        let (program, arguments) = self.command.split_first().context("no command")?;
        let error = std::process::Command::new(program).args(arguments).envs(&variables).exec();
        Err(error).with_context(|| format!("cannot run `{}`", program.to_string_lossy()))
    }
}

//! `lodger`, the command line of the plugin host. One file per verb; the library decides, this program asks and shows.

mod context;
mod data;
mod output;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::context::Context;
use crate::verbs::Verb;

/// Runs add-ons as WebAssembly components, each call in a sandbox that holds only what was granted.
#[derive(Parser)]
#[command(name = "lodger", version, max_term_width = 100)]
struct Cli {
    /// Where everything is kept [default: the XDG data directory]
    #[arg(long, global = true, value_name = "DIR", env = "LODGER_HOME")]
    home: Option<std::path::PathBuf>,
    /// Print exactly one JSON value on stdout
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    lodger::compiler::serve_if_asked();
    let cli = Cli::parse();
    if !cli.verb.is_for_authors() {
        // What a home holds is not for others.
        rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    }
    let context = Context::new(cli.home, cli.json);
    let code = match run(&context, cli.verb) {
        Ok(code) => code,
        Err(error) => output::failure(&context, &error),
    };
    ExitCode::from(code)
}

fn run(context: &Context, verb: Verb) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let ended = verb.run(context, Cli::command()).await;
        context.tell_events().await;
        ended
    });
    // A thread may still wait for whoever is at the other end of a pipe; nobody waits for it.
    runtime.shutdown_background();
    ended
}

//! `lodger`, the command line of the plugin host. One file per verb; the library decides, this program asks and shows.

mod context;
mod data;
mod output;
mod packages;
mod place;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::context::Context;
use crate::place::Named;
use crate::verbs::{Reach, Verb};

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
    /// Ask the server with this URL instead: https://HOST[:PORT], or http://localhost:7420 of one on this machine; its token
    /// is in LODGER_TOKEN or a file [env: LODGER_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Holds the token that the server is asked with [env: LODGER_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
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
    let (asked, known) = (cli.server.is_some(), std::env::var(place::SERVER).ok().filter(|url| !url.is_empty()));
    let server = cli.server.or(known).map(|url| Named { url, token_file: cli.token_file });
    let refused = server.is_some()
        && match cli.verb.reach() {
            Reach::Server => false,
            Reach::Home => true,
            // What has nothing to do with any home goes on as it is where the environment names a server.
            Reach::Neither => asked,
        };
    let context = Context::new(cli.home, cli.json, server);
    let done = if refused { Err(verbs::not_there().into()) } else { run(&context, cli.verb) };
    let code = match done {
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

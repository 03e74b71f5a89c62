//! `lodger env`: the variables of an app, asked for afresh.

use lodger::{Env as Asked, Host, Id};

use crate::context::Context;
use crate::output::{self, HookFailed};

/// Print the variables of an app
#[derive(clap::Args)]
pub struct Env {
    app: String,
    #[arg(long, value_enum, default_value_t = Format::Export)]
    format: Format,
    /// Print what there is although a hook failed
    #[arg(long)]
    partial: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// `export KEY='value'`, for a shell's `eval`
    Export,
    /// `KEY="value"`
    Dotenv,
    /// One object
    Json,
}

impl Env {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let env = ask(&host, &super::id(&self.app)?, self.partial).await?;
        if context.json || self.format == Format::Json {
            output::json(&env.variables)?;
            return Ok(0);
        }
        for (name, value) in &env.variables {
            output::line(match self.format {
                Format::Export => format!("export {name}='{}'", value.replace('\'', r"'\''")),
                _ => format!("{name}={}", dotenv(value)),
            });
        }
        Ok(0)
    }
}

/// In double quotes, as the readers of such files agree on.
fn dotenv(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// All variables but those that a failure policy leaves out, or with `partial` what there is; every failure is told.
pub async fn ask(host: &Host, app: &Id, partial: bool) -> anyhow::Result<Asked> {
    let env = host.env(app).await?;
    for failure in &env.failures {
        let left_out = if failure.failed_open { "; left out, as the policy says" } else { "" };
        output::warn(format!("{}: `{}`: {}{left_out}", failure.addon, failure.hook, failure.message));
    }
    let failures: Vec<_> = env.failures.iter().filter(|failure| !failure.failed_open).collect();
    match failures.iter().map(|failure| failure.exit_code).max() {
        Some(exit_code) if !partial => Err(HookFailed {
            code: "env-incomplete",
            message: format!("{} of app `{app}` gave no values", count(failures.len())),
            exit_code,
            hint: Some("--partial prints what there is".to_owned()),
        }
        .into()),
        _ => Ok(env),
    }
}

fn count(hooks: usize) -> String {
    if hooks == 1 { "one hook".to_owned() } else { format!("{hooks} hooks") }
}

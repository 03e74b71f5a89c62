//! `lodger env`: the variables of an app, asked for afresh.

use std::collections::BTreeMap;

use lodger::{Host, Id, Remote};

use crate::context::Context;
use crate::output;
use crate::place::Place;

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
        let app = super::id(&self.app)?;
        let variables = match context.place().await? {
            Place::Here(host) => ask(&host, &app, self.partial).await?,
            Place::There(server) => there(&server, &app, self.partial).await?,
        };
        if context.json || self.format == Format::Json {
            output::json(&variables)?;
            return Ok(0);
        }
        for (name, value) in &variables {
            output::line(match self.format {
                Format::Export => format!("export {name}='{}'", value.replace('\'', r"'\''")),
                _ => format!("{name}={}", dotenv(value)),
            });
        }
        Ok(0)
    }
}

/// The names go to a shell as they are: none is taken that a host would not give.
async fn there(server: &Remote, app: &Id, partial: bool) -> anyhow::Result<BTreeMap<String, String>> {
    let variables: BTreeMap<String, String> =
        server.get_exact(&format!("/v1/apps/{app}/env?partial={partial}")).await?;
    super::known_variables(&variables)?;
    Ok(variables)
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
pub async fn ask(host: &Host, app: &Id, partial: bool) -> anyhow::Result<BTreeMap<String, String>> {
    let env = host.env(app).await?;
    for failure in &env.failures {
        let left_out = if failure.failed_open { "; left out, as the policy says" } else { "" };
        output::warn(format!("{}: `{}`: {}{left_out}", failure.addon, failure.hook, failure.message));
    }
    Ok(env.whole(app, partial)?)
}

//! `lodger set`: settings of an addon, secrets never in the arguments.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use lodger::Settings;

use crate::context::Context;
use crate::output;

/// Set a setting: KEY=VALUE, KEY=@FILE, KEY=- (from stdin), KEY= to unset
#[derive(clap::Args)]
pub struct Set {
    addon: String,
    /// Give secrets by file or stdin: arguments can be read by every user of the machine
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Set {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        let mut changed = Vec::new();
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').with_context(|| format!("`{setting}` is not KEY=VALUE"))?;
            let value = read(value)?;
            if self.dry_run {
                host.would_set(&id, name, value.as_deref()).await?;
                output::say(context, format!("would set {name} of {id}"));
            } else if host.set(&id, name, value.clone()).await? {
                output::say(context, format!("{} {name} of {id}", if value.is_some() { "set" } else { "unset" }));
                changed.push(name.to_owned());
            } else {
                output::say(context, format!("{name} of {id} is already so"));
            }
        }
        if context.json {
            output::json(&Settings { id, changed, dry_run: self.dry_run })?;
        }
        Ok(0)
    }
}

/// The value behind what was written after `=`; `None` unsets.
fn read(written: &str) -> anyhow::Result<Option<String>> {
    let mut text = match (written, written.strip_prefix('@')) {
        ("", _) => return Ok(None),
        ("-", _) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
            text
        }
        (_, Some(path)) => std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))?,
        (value, None) => return Ok(Some(value.to_owned())),
    };
    // Files and pipes end with a line feed that is not part of the value.
    if text.ends_with('\n') {
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
    }
    if text.is_empty() {
        bail!("the value is empty; KEY= unsets");
    }
    Ok(Some(text))
}

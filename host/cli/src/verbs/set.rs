//! `lodger set`: settings of an addon, secrets never in the arguments.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::{Context as _, bail};
use lodger::{AddonId, Host, Settings};

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_addon};

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
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        let mut asked = Vec::new();
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').with_context(|| format!("`{setting}` is not KEY=VALUE"))?;
            asked.push((name, value));
        }
        let settings = match &place {
            Place::Here(host) => self.here(context, host, id, asked).await?,
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let mut values = BTreeMap::new();
                for (name, value) in asked {
                    values.insert(name, read(value)?);
                }
                let set: Settings = server.put(&of_addon(&id, "/settings"), &values).await?;
                for (name, value) in values {
                    say(context, &id, name, value.as_deref(), set.changed.iter().any(|changed| changed == name));
                }
                set
            }
        };
        if context.json {
            output::json(&settings)?;
        }
        Ok(0)
    }

    async fn here(
        &self,
        context: &Context,
        host: &Host,
        id: AddonId,
        asked: Vec<(&str, &str)>,
    ) -> anyhow::Result<Settings> {
        let mut changed = Vec::new();
        for (name, value) in asked {
            let value = read(value)?;
            if self.dry_run {
                host.would_set(&id, name, value.as_deref()).await?;
                output::say(context, format!("would set {name} of {id}"));
                continue;
            }
            let is_new = host.set(&id, name, value.clone()).await?;
            say(context, &id, name, value.as_deref(), is_new);
            changed.extend(is_new.then(|| name.to_owned()));
        }
        Ok(Settings { id, changed, dry_run: self.dry_run })
    }
}

fn say(context: &Context, id: &AddonId, name: &str, value: Option<&str>, is_new: bool) {
    output::say(
        context,
        match (is_new, value) {
            (true, Some(_)) => format!("set {name} of {id}"),
            (true, None) => format!("unset {name} of {id}"),
            (false, _) => format!("{name} of {id} is already so"),
        },
    );
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

//! `lodger add`: gives an app an addon.

use std::collections::BTreeMap;

use anyhow::Context as _;
use lodger::{Added, Id, ResourceState};
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, no_dry_run, of_app};

/// Add an addon to an app
#[derive(clap::Args)]
pub struct Add {
    app: String,
    addon: String,
    /// Name it apart from others of this addon in the app; its variables get this name
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// One of the addon's plans [default: the first]
    #[arg(long)]
    plan: Option<String>,
    /// Passed on to the addon
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Add {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let app: Id = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let mut options = BTreeMap::new();
        for option in &self.options {
            let (name, value) = option.split_once('=').with_context(|| format!("`{option}` is not KEY=VALUE"))?;
            options.insert(name.to_owned(), value.to_owned());
        }
        let what = format!("adding {addon} to {app}");
        let mut suspended = None;
        let added = match &place {
            Place::Here(host) => {
                let add =
                    lodger::Add { alias, plan: self.plan, options, ..lodger::Add::new(app.clone(), addon.clone()) };
                if self.dry_run {
                    return super::dry_run(context, host.would_add(&add).await?, &format!("add {addon} to {app}"));
                }
                let done = context.watch(&what, host.add(add)).await?;
                let created = done.changed;
                let resource = output::completed(&addon, done)?;
                suspended = (resource.state == ResourceState::Suspended).then(|| resource.way_on());
                let (added, failures) = host.added(resource, created).await?;
                for (hook, message) in failures {
                    output::warn(format!("warning: no values from `{hook}`: {message}"));
                }
                added
            }
            Place::There(server) => {
                no_dry_run(self.dry_run)?;
                let asked = json!({ "alias": alias, "plan": self.plan, "options": options });
                let added: Added = context.watch(&what, server.put_exact(&of_app(&app, &addon, ""), &asked)).await?;
                super::known_variables(&added.config)?;
                // Its values are nobody's to change; the rest is shown.
                let shown = |text: Option<String>| text.map(|text| lodger::text::shown(&text, usize::MAX));
                Added { id: shown(added.id), message: shown(added.message), ..added }
            }
        };
        if context.json {
            output::json(&added)?;
            return Ok(0);
        }
        let word = if added.created { "added" } else { "already there:" };
        output::say(context, format!("{word} {addon} for {app}"));
        if let Some(way_on) = suspended {
            output::say(context, format!("it is suspended: {way_on}"));
        }
        if let Some(message) = added.message {
            output::say(context, message);
        }
        for name in added.config.keys() {
            output::say(context, format!("  {name}"));
        }
        Ok(0)
    }
}

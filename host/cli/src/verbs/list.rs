//! `lodger list`.

use crate::context::Context;
use crate::output;

/// List the installed addons
#[derive(clap::Args)]
pub struct List {}

impl List {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let addons = context.host().await?.addons()?;
        if context.json {
            output::json(&addons)?;
            return Ok(0);
        }
        if addons.is_empty() {
            output::say(context, "no addons are installed; `lodger install PATH` installs one");
        }
        let rows =
            addons.iter().map(|addon| vec![addon.id.to_string(), addon.version.clone(), addon.state.to_string()]);
        output::table(&rows.collect::<Vec<_>>());
        Ok(0)
    }
}

//! `lodger list`.

use lodger::AddonInfo;

use crate::context::Context;
use crate::output;
use crate::place::Place;

/// List the installed addons
#[derive(clap::Args)]
pub struct List {}

impl List {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let addons: Vec<AddonInfo> = match context.place().await? {
            Place::Here(host) => host.addons()?,
            Place::There(server) => server.get("/v1/addons").await?,
        };
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

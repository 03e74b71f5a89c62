//! `lodger search`: what a marketplace has.

use lodger::text::shown;

use crate::context::Context;
use crate::output;
use crate::place::AtMarketplace;

/// Search a marketplace for approved addons: in their names and descriptions
#[derive(clap::Args)]
pub struct Search {
    /// All there are where it is left out
    text: Option<String>,
    #[command(flatten)]
    marketplace: AtMarketplace,
}

impl Search {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let market = self.marketplace.open(context)?;
        let found = context.watch("searching", market.search(self.text.as_deref().unwrap_or_default())).await?;
        if context.json {
            output::json(&found)?;
            return Ok(0);
        }
        if found.is_empty() {
            output::say(context, format!("{} has no such addon", market.url()));
        }
        let row = |entry: &lodger::Listed| {
            vec![entry.addon.to_string(), entry.version.to_string(), shown(&entry.description, 80)]
        };
        output::table(&found.iter().map(row).collect::<Vec<_>>());
        Ok(0)
    }
}

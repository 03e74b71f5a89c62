//! `lodger adopt`.

use serde_json::json;

use crate::context::Context;
use crate::output;

/// Make a copied home a home of its own; the original must not be used any more for the same apps
#[derive(clap::Args)]
pub struct Adopt {}

impl Adopt {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let mut host = context.open(context.home()?).await?;
        let changed = host.adopt()?;
        let home = host.home().display().to_string();
        output::say(context, if changed { format!("adopted {home}") } else { format!("{home} is no copy") });
        if context.json {
            output::json(&json!({ "home": home, "changed": changed }))?;
        }
        Ok(0)
    }
}

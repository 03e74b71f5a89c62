//! `lodger explain`: everything an addon may touch, and which line says so.

use lodger::Grant;

use crate::context::Context;
use crate::output;
use crate::place::{Place, of_addon};

/// Show in plain words everything an addon may touch, and which line says so
#[derive(clap::Args)]
pub struct Explain {
    addon: String,
}

impl Explain {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        let grant: Grant = match &place {
            Place::Here(host) => host.explain(&id).await?,
            Place::There(server) => server.get(&of_addon(&id, "/grant")).await?,
        };
        if context.json {
            output::json(&grant)?;
            return Ok(0);
        }
        show(&grant);
        Ok(0)
    }
}

/// A grant in plain words.
pub fn show(grant: &Grant) {
    for (title, may) in [("may", true), ("may not", false)] {
        output::line(format!("{} {title}", grant.id));
        let lines = grant.lines.iter().filter(|line| line.may == may);
        output::table(&lines.map(|line| vec![format!("  {}", line.what), line.because.clone()]).collect::<Vec<_>>());
        output::line("");
    }
    output::line(format!("grant {}", grant.digest));
}

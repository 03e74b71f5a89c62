//! `lodger explain`: everything an addon may touch, and which line says so.

use lodger::Grant;

use crate::context::Context;
use crate::output;

/// Show in plain words everything an addon may touch, and which line says so
#[derive(clap::Args)]
pub struct Explain {
    addon: String,
}

impl Explain {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let grant = host.explain(&host.resolve(&self.addon)?).await?;
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

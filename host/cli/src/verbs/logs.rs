//! `lodger logs`: what an addon's hooks have written to stdout and stderr.

use std::time::Duration;

use crate::context::Context;
use crate::output;

/// How often `--follow` looks for more.
const LOOK: Duration = Duration::from_millis(300);
/// Calls read at a time.
const PAGE: u32 = 200;

/// Show what an addon's hooks have said
#[derive(clap::Args)]
pub struct Logs {
    addon: String,
    /// Go on showing until interrupted
    #[arg(short, long, conflicts_with = "json")]
    follow: bool,
}

impl Logs {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        let mut after = String::new();
        let mut entries = Vec::new();
        loop {
            let calls = host.logs(&id, &after, PAGE)?;
            let Some(last) = calls.last() else {
                if !self.follow {
                    break;
                }
                tokio::time::sleep(LOOK).await;
                continue;
            };
            after.clone_from(&last.id);
            for call in calls {
                for text in call.log.iter().flat_map(|log| log.lines()) {
                    if context.json {
                        entries.push(serde_json::json!({ "call": call.id, "hook": call.hook, "line": text }));
                    } else {
                        output::line(format!("{} {:<12} {text}", call.id, call.hook));
                    }
                }
            }
        }
        if context.json {
            output::json(&entries)?;
        }
        Ok(0)
    }
}

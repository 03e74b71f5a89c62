//! `lodger logs`: what an addon's hooks, or one of its services, have written to stdout and stderr.

use std::time::Duration;

use lodger::LogLine;

use crate::context::Context;
use crate::output;

/// How often `--follow` looks for more.
const LOOK: Duration = Duration::from_millis(300);
/// Calls read at a time.
const PAGE: u32 = 200;

/// Show what an addon's hooks, or its services, have said
#[derive(clap::Args)]
pub struct Logs {
    addon: String,
    /// The last of what this service has said, instead
    #[arg(long, conflicts_with = "follow")]
    service: Option<String>,
    /// Go on showing until interrupted
    #[arg(short, long, conflicts_with = "json")]
    follow: bool,
}

impl Logs {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let id = host.resolve(&self.addon)?;
        if let Some(service) = &self.service {
            let logs = host.service_logs(&id, &super::id(service)?).await?;
            if context.json {
                output::json(&logs)?;
                return Ok(0);
            }
            for log in logs {
                for text in log.text.lines() {
                    output::line(format!("{} {text}", log.resource.as_deref().unwrap_or(service)));
                }
            }
            return Ok(0);
        }
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
                        let (call, hook) = (call.id.clone(), call.hook.clone());
                        entries.push(LogLine { call, hook, line: text.to_owned() });
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

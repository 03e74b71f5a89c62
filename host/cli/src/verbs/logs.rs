//! `lodger logs`: what an addon's hooks, or one of its services, have written to stdout and stderr.

use std::time::Duration;

use lodger::{AddonId, Id, LogLine, ServiceLog};

use super::calls::Page;
use crate::context::Context;
use crate::output;
use crate::place::{Place, of_addon};

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
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        if let Some(service) = &self.service {
            return self.of_service(context, &place, &id, &super::id(service)?).await;
        }
        let mut after = None;
        let mut entries = Vec::new();
        loop {
            let (lines, last) = said(&place, &id, after.as_deref()).await?;
            for line in &lines {
                if !context.json {
                    output::line(format!("{} {:<12} {}", line.call, line.hook, line.line));
                }
            }
            if context.json {
                entries.extend(lines);
            }
            match last {
                Some(last) => after = Some(last),
                None if self.follow => tokio::time::sleep(LOOK).await,
                None => break,
            }
        }
        if context.json {
            output::json(&entries)?;
        }
        Ok(0)
    }

    async fn of_service(&self, context: &Context, place: &Place, id: &AddonId, service: &Id) -> anyhow::Result<u8> {
        let logs: Vec<ServiceLog> = match place {
            Place::Here(host) => host.service_logs(id, service).await?,
            Place::There(server) => server.get_exact(&of_addon(id, &format!("/services/{service}/logs"))).await?,
        };
        if context.json {
            output::json(&logs)?;
            return Ok(0);
        }
        for log in logs {
            let of = lodger::text::shown(log.resource.as_deref().unwrap_or(service.as_str()), 80);
            for text in log.text.lines() {
                output::line(format!("{of} {}", lodger::text::shown(text, usize::MAX)));
            }
        }
        Ok(0)
    }
}

/// Lines from after a call on, and the last call that was looked at; `None` where there is none.
async fn said(place: &Place, id: &AddonId, after: Option<&str>) -> anyhow::Result<(Vec<LogLine>, Option<String>)> {
    match place {
        Place::Here(host) => Ok(host.log_lines(id, after.unwrap_or_default(), PAGE)?),
        Place::There(server) => {
            let cursor = after.map(|after| format!("&cursor={after}")).unwrap_or_default();
            let page: Page<LogLine> = server.get(&of_addon(id, &format!("/logs?limit={PAGE}{cursor}"))).await?;
            // Where it says the same again, it would for ever.
            Ok((page.items, page.next.filter(|next| Some(next.as_str()) != after)))
        }
    }
}

//! `lodger calls`: the record of what was called and how it ended.

use lodger::{AddonId, CallRow, Remote};
use serde::Deserialize;

use crate::context::Context;
use crate::output;
use crate::place::{Place, of_addon};

/// Most that a server puts on a page.
const PAGE: usize = 1000;

/// Show the newest calls: hook, outcome, what each used
#[derive(clap::Args)]
pub struct Calls {
    /// Only of this addon
    addon: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

impl Calls {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let addon = match &self.addon {
            Some(addon) => Some(place.resolve(addon).await?),
            None => None,
        };
        let calls = match &place {
            Place::Here(host) => host.calls(addon.as_ref(), self.limit)?,
            Place::There(server) => pages(server, addon.as_ref(), self.limit as usize).await?,
        };
        if context.json {
            output::json(&calls)?;
            return Ok(0);
        }
        let mut rows = Vec::new();
        for call in calls {
            let report = call.report.as_ref();
            let wall = report.map(|report| format!("{} µs", report.wall_us)).unwrap_or_default();
            let memory = report.map(|report| lodger::human_bytes(report.memory_bytes)).unwrap_or_default();
            let outcome = call.outcome.clone().unwrap_or_else(|| "running".to_owned());
            let detail = call.detail.clone().unwrap_or_default();
            rows.push(vec![call.id, call.addon, call.hook, outcome, wall, memory, lodger::text::shown(&detail, 80)]);
        }
        output::table(&rows);
        Ok(0)
    }
}

#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// What a server says that there is, page by page.
async fn pages(server: &Remote, addon: Option<&AddonId>, most: usize) -> anyhow::Result<Vec<CallRow>> {
    let path = addon.map_or("/v1/calls".to_owned(), |addon| of_addon(addon, "/calls"));
    let (mut calls, mut cursor) = (Vec::new(), String::new());
    while calls.len() < most {
        let limit = (most - calls.len()).min(PAGE);
        let page: Page<CallRow> = server.get(&format!("{path}?limit={limit}{cursor}")).await?;
        // A page that has nothing on it is the last, whatever it says of others.
        let Some(next) = page.next.filter(|_| !page.items.is_empty()) else {
            calls.extend(page.items);
            break;
        };
        calls.extend(page.items);
        cursor = format!("&cursor={next}");
    }
    calls.truncate(most);
    Ok(calls)
}

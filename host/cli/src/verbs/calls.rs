//! `lodger calls`: the record of what was called and how it ended.

use crate::context::Context;
use crate::output;

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
        let host = context.host().await?;
        let addon = self.addon.map(|addon| host.resolve(&addon)).transpose()?;
        let calls = host.calls(addon.as_ref(), self.limit)?;
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

//! `lodger events`: what has happened, and who has heard of it.

use lodger::Delivery;

use crate::context::Context;
use crate::output;

/// Show the newest events, and which addons were told
///
/// Kept is what an addon listens to, or everything once somebody has asked a server for `/v1/events`.
#[derive(clap::Args)]
pub struct Events {
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

impl Events {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let events = context.host().await?.events(self.limit)?;
        if context.json {
            output::json(&events)?;
            return Ok(0);
        }
        let mut rows = Vec::new();
        for event in events {
            let listeners = event.listeners.iter().map(|(addon, delivery)| {
                let word = match delivery {
                    Delivery::Told => "told",
                    Delivery::Waiting => "waits",
                    Delivery::LeftOut => "left out",
                };
                format!("{addon} {word}")
            });
            let listeners = listeners.collect::<Vec<_>>().join(", ");
            let details = event.details.iter().map(|(name, value)| format!("{name}={value}"));
            let details = lodger::text::shown(&details.collect::<Vec<_>>().join(" "), 80);
            let [addon, app] = [event.addon, event.app].map(Option::unwrap_or_default);
            rows.push(vec![event.sequence.to_string(), event.kind, addon, app, details, listeners]);
        }
        output::table(&rows);
        Ok(0)
    }
}

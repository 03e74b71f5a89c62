//! `lodger doctor`.

use lodger::Severity;

use crate::context::Context;
use crate::output;

/// Look for what is not well, and say what mends it
#[derive(clap::Args)]
pub struct Doctor {}

impl Doctor {
    /// Exits with 1 when something does not work.
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let findings = context.watch("looking", host.doctor()).await?;
        let broken = findings.iter().any(|finding| finding.severity == Severity::Error);
        if context.json {
            output::json(&findings)?;
            return Ok(u8::from(broken));
        }
        for finding in findings {
            let word = match finding.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            output::line(format!("{word}: {}: {}", finding.subject, finding.message));
            if let Some(fix) = finding.fix {
                output::line(format!("  fix: {fix}"));
            }
        }
        Ok(u8::from(broken))
    }
}

//! `lodger doctor`.

use std::collections::BTreeSet;

use lodger::{Finding, Severity};

use crate::context::Context;
use crate::output;
use crate::place::{Place, only_here};

/// Look for what is not well, and say what mends it
#[derive(clap::Args)]
pub struct Doctor {
    /// Run the commands that lead out of failed and interrupted states, then look again; what is quarantined stays so
    #[arg(long)]
    fix: bool,
}

impl Doctor {
    /// Exits with 1 when something does not work.
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let mut findings: Vec<Finding> = match context.place().await? {
            Place::Here(host) => context.watch("looking", host.doctor()).await?,
            Place::There(server) => {
                only_here(self.fix, "--fix", "what mends it is a verb for each, which the server can be asked for")?;
                context.watch("looking", server.get("/v1/doctor")).await?
            }
        };
        if self.fix {
            let host = context.host().await?;
            let mends: BTreeSet<_> = findings.into_iter().filter_map(|finding| finding.mend).collect();
            for mend in mends {
                output::say(context, format!("running `{mend}`"));
                match context.watch(&mend.to_string(), host.mend(&mend)).await {
                    Ok(outcome) if outcome.is_completed() => {}
                    Ok(outcome) => output::warn(format!("`{mend}`: its hook {outcome}")),
                    Err(error) => output::warn(format!("`{mend}`: {error}")),
                }
            }
            findings = context.watch("looking again", host.doctor()).await?;
        }
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

//! What those who listen to events have missed, or do not take in.

use super::{Finding, Severity};
use crate::error::Result;
use crate::host::Host;

impl Host {
    pub(super) fn event_findings(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        if self.policy.events.is_empty() {
            return Ok(findings);
        }
        for listener in self.registry.listeners(self)?.iter() {
            let id = listener.addon.to_string();
            let mut add = |message: String| {
                let fix = format!("`lodger calls {id}` shows why; `lodger events` shows which");
                findings.push(Finding::new(Severity::Warning, &id, message, Some(fix)));
            };
            if listener.failures > 0 {
                add(format!(
                    "it has failed to take in an event, {} so far: it is told again",
                    times(listener.failures)
                ));
            }
            if listener.left_out > 0 {
                add(format!("it was not told of {}, having failed too often", events(listener.left_out)));
            }
            if listener.lost > 0 {
                add(format!("{} went by [retention] before it was told of them", events(listener.lost)));
            }
        }
        Ok(findings)
    }
}

fn times(number: u32) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

fn events(number: u32) -> String {
    if number == 1 { "one event".to_owned() } else { format!("{number} events") }
}

//! What is not as it should be in a home, and the command that mends it.

mod parts;
mod services;

use serde::Serialize;

use crate::error::Result;
use crate::hook::HookName;
use crate::host::Host;
use crate::lifecycle::{AddonState, ResourceState};
use crate::outcome::{COMPLETED, Outcome};
use crate::slot::SCHEDULER;
use crate::{Answer, HealthStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Error,
}

#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// An addon, a resource, the policy, the host.
    pub subject: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Host {
    /// Looks at everything, asks every enabled addon for its health, and reports what is not well.
    pub async fn doctor(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut add = |severity, subject: &str, message: String, fix: Option<String>| {
            findings.push(Finding { severity, subject: subject.to_owned(), message, fix });
        };
        add(Severity::Note, "host", format!("instances come from {}", self.allocation()), None);
        for line in &self.policy.looser {
            add(Severity::Note, "policy", format!("looser than the built-in default: {line}"), None);
        }
        if let Err(error) = self.writable() {
            add(Severity::Error, "home", error.to_string(), error.hint());
        }
        let known = [self.engine_findings().await?, self.slot_findings().await?, self.part_findings().await?];
        for Finding { severity, subject, message, fix } in known.into_iter().flatten() {
            add(severity, &subject, message, fix);
        }
        for row in self.store.addons()? {
            let subject = row.id.to_string();
            // A state that says something is under way is true while somebody holds the lock.
            let held = self.is_at_work(&row.id)?;
            let state = if held { row.state } else { row.state.settled() };
            if matches!(state, AddonState::Failed(_) | AddonState::Interrupted(_)) {
                add(Severity::Error, &subject, format!("the addon is {state}"), Some(state.way_on(&row.id)));
            }
            for resource in self.store.resources_of_addon(&row.id)? {
                let state = if held { resource.state } else { resource.state.settled() };
                if matches!(state, ResourceState::Failed(_) | ResourceState::Interrupted(_)) {
                    let message = format!("what app `{}` has of it is {state}", resource.app);
                    let alias = resource.alias.map(|alias| format!(" --as {alias}")).unwrap_or_default();
                    add(
                        Severity::Error,
                        &subject,
                        message,
                        Some(format!("`lodger remove {} {}{alias}`", resource.app, row.id)),
                    );
                }
            }
            for Finding { severity, subject, message, fix } in self.service_findings(&row.id).await? {
                add(severity, &subject, message, fix);
            }
            match self.check_health(&row.id).await {
                Err(error) => add(Severity::Error, &subject, error.to_string(), error.hint()),
                Ok(None) => {}
                Ok(Some(call)) => match call.outcome {
                    Outcome::Completed(Answer::Health(report)) if report.status == HealthStatus::Healthy => {}
                    Outcome::Completed(Answer::Health(report)) => {
                        let said = report.message.unwrap_or_default();
                        let message = format!("its health is {:?}: {}", report.status, crate::text::shown(&said, 1024));
                        add(Severity::Warning, &subject, message, Some(format!("`lodger logs {subject}`")));
                    }
                    other => add(Severity::Warning, &subject, format!("its health hook {other}"), None),
                },
            }
        }
        Ok(findings)
    }

    /// Who fills each slot, and where the host stands in for a plugin that has failed. A home with one engine and no plugin
    /// has nothing to tell.
    async fn slot_findings(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for slot in &self.slots {
            let mut add = |severity, message: String, fix| {
                findings.push(Finding { severity, subject: format!("slot {}", slot.name), message, fix });
            };
            let is_scheduler = slot.name.as_str() == SCHEDULER;
            let Some(plugin) = self.filler(slot.name.as_str())? else {
                if !is_scheduler || self.services.engines.only().is_none() {
                    add(Severity::Note, "no addon fills it: the built-in decides".to_owned(), None);
                }
                continue;
            };
            let idle = is_scheduler && self.services.engines.only().is_some();
            let idle = if idle { ", and is not asked: the policy names one engine" } else { "" };
            add(Severity::Note, format!("addon `{plugin}` fills it{idle}"), None);
            if !is_scheduler {
                continue;
            }
            let stands_in = "the built-in stands in whenever it fails";
            if let Err(error) = self.registry.get(self, &plugin).await {
                let message = format!("`{plugin}` cannot be asked: {error}; {stands_in}");
                add(Severity::Warning, message, error.hint());
            } else if let Some(call) = self.store.last_call(&plugin, HookName::Schedule.name())?
                && call.outcome.as_deref().is_some_and(|outcome| outcome != COMPLETED)
            {
                let how = call.outcome.unwrap_or_default();
                let why = call.detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                let message = format!("the last call of `{plugin}` was {how}{why}; {stands_in}");
                add(Severity::Warning, message, Some(format!("`lodger calls {plugin}`, or `lodger disable {plugin}`")));
            }
        }
        Ok(findings)
    }
}

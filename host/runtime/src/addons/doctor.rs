//! What is not as it should be in a home, and the command that mends it.

mod events;
mod parts;
mod services;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::hook::HookName;
use crate::host::Host;
use crate::id::{AddonId, Id};
use crate::lifecycle::{AddonState, ResourceState};
use crate::outcome::{COMPLETED, Outcome};
use crate::repair::CUT_OFF_MAX;
use crate::resources::Resource;
use crate::slot::SCHEDULER;
use crate::store::AddonRow;
use crate::{Answer, HealthStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Error,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Finding {
    pub severity: Severity,
    /// An addon, a resource, the policy, the host.
    pub subject: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What [`Host::mend`] can do about it.
    #[serde(skip)]
    pub mend: Option<Mend>,
}

impl Finding {
    fn new(severity: Severity, subject: impl Into<String>, message: String, fix: Option<String>) -> Finding {
        Finding { severity, subject: subject.into(), message, fix, mend: None }
    }

    /// Something was left in a state that a verb leads out of.
    fn left(subject: &AddonId, message: String, mend: Mend) -> Finding {
        let fix = format!("`{mend}`, which --fix does; `lodger calls {subject}` shows how it came to that");
        Finding { mend: Some(mend), ..Finding::new(Severity::Error, subject.to_string(), message, Some(fix)) }
    }
}

/// A verb that leads out of a state in which something was left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mend {
    Reconcile(AddonId),
    Enable(AddonId),
    Disable(AddonId),
    Remove { app: Id, addon: AddonId, alias: Option<Id> },
}

/// The command.
impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mend::Reconcile(addon) => write!(f, "lodger reconcile {addon}"),
            Mend::Enable(addon) => write!(f, "lodger enable {addon}"),
            Mend::Disable(addon) => write!(f, "lodger disable {addon}"),
            Mend::Remove { app, addon, alias: None } => write!(f, "lodger remove {app} {addon}"),
            Mend::Remove { app, addon, alias: Some(alias) } => write!(f, "lodger remove {app} {addon} --as {alias}"),
        }
    }
}

impl Host {
    /// Looks at everything, asks every enabled addon for its health, and reports what is not well.
    pub async fn doctor(&self) -> Result<Vec<Finding>> {
        let instances = format!("instances come from {}", self.allocation());
        let mut findings = vec![Finding::new(Severity::Note, "host", instances, None)];
        for line in &self.policy.looser {
            let message = format!("looser than the built-in default: {line}");
            findings.push(Finding::new(Severity::Note, "policy", message, None));
        }
        if let Err(error) = self.writable() {
            findings.push(Finding::new(Severity::Error, "home", error.to_string(), error.hint()));
        }
        findings.extend(self.engine_findings().await?);
        findings.extend(self.slot_findings().await?);
        findings.extend(self.part_findings().await?);
        findings.extend(self.event_findings()?);
        for row in self.store.addons()? {
            findings.extend(self.left_findings(&row)?);
            findings.extend(self.service_findings(&row.id).await?);
            findings.extend(self.lost_findings(&row.id)?);
            findings.extend(self.health_finding(&row.id).await?);
        }
        Ok(findings)
    }

    /// The states of an addon, and of what apps have of it, that somebody must lead out of.
    fn left_findings(&self, row: &AddonRow) -> Result<Vec<Finding>> {
        let id = &row.id;
        let mut findings = Vec::new();
        // A state that says something is under way is true while somebody holds the lock.
        let held = self.is_at_work(id)?;
        let state = if held { row.state.clone() } else { row.state.clone().settled() };
        let way_on = match state {
            AddonState::Failed(HookName::Disable) | AddonState::Interrupted(HookName::Disable) => {
                Some(Mend::Disable(id.clone()))
            }
            AddonState::Failed(HookName::Enable) | AddonState::Interrupted(HookName::Enable) => {
                Some(Mend::Enable(id.clone()))
            }
            // Whether it is to try again is for a person to decide.
            _ if state.is_quarantined() => None,
            AddonState::Failed(_) | AddonState::Interrupted(_) => Some(Mend::Reconcile(id.clone())),
            _ => None,
        };
        findings.extend(self.quarantine_finding(id, &state)?);
        findings.extend(way_on.map(|mend| Finding::left(id, format!("the addon is {state}"), mend)));
        findings.extend(self.unmet_needs(row, &state)?);
        for resource in self.store.resources_of_addon(id)? {
            let state = if held { resource.state.clone() } else { resource.state.clone().settled() };
            let message = format!("what app `{}` has of it is {state}", resource.app);
            let mend = match state {
                // Which plan it is to have is for a person to say.
                ResourceState::Interrupted(HookName::ChangePlan)
                | ResourceState::Failed(HookName::ChangePlan | HookName::Suspend | HookName::Resume) => {
                    let way_on = Resource { state, ..resource.into() }.way_on();
                    findings.push(Finding::new(Severity::Error, id.to_string(), message, Some(way_on)));
                    continue;
                }
                ResourceState::Interrupted(hook)
                    if self.store.cut_off_in_a_row(id, hook.name(), Some(&resource.key), CUT_OFF_MAX)?
                        < CUT_OFF_MAX =>
                {
                    Mend::Reconcile(id.clone())
                }
                ResourceState::Failed(_) | ResourceState::Interrupted(_) => {
                    Mend::Remove { app: resource.app, addon: id.clone(), alias: resource.alias }
                }
                _ => continue,
            };
            findings.push(Finding::left(id, message, mend));
        }
        Ok(findings)
    }

    fn quarantine_finding(&self, id: &AddonId, state: &AddonState) -> Result<Option<Finding>> {
        let quarantined = self.quarantined(id, state)?;
        Ok(quarantined.map(|error| Finding::new(Severity::Error, id.to_string(), error.to_string(), error.hint())))
    }

    /// What an addon's own `health` tells, or what keeps it from telling.
    async fn health_finding(&self, id: &AddonId) -> Result<Option<Finding>> {
        let subject = id.to_string();
        let call = match self.check_health(id).await {
            Err(error) => {
                return Ok(Some(Finding::new(Severity::Error, subject, error.to_string(), error.hint())));
            }
            Ok(None) => return Ok(None),
            Ok(Some(call)) => call,
        };
        let (message, fix) = match call.outcome {
            Outcome::Completed(Answer::Health(report)) if report.status == HealthStatus::Healthy => return Ok(None),
            Outcome::Completed(Answer::Health(report)) => {
                let said = report.message.unwrap_or_default();
                (format!("its health is {:?}: {said}", report.status), Some(format!("`lodger logs {subject}`")))
            }
            other => {
                // It may have failed once too often.
                let now = self.store.addon(id)?.map(|row| row.state);
                if let Some(quarantined) = now.map(|state| self.quarantine_finding(id, &state)).transpose()?.flatten() {
                    return Ok(Some(quarantined));
                }
                (format!("its health hook {other}"), None)
            }
        };
        Ok(Some(Finding::new(Severity::Warning, subject, message, fix)))
    }

    /// What an addon needs and has not: an error where it is enabled, a warning where it cannot be.
    fn unmet_needs(&self, row: &AddonRow, state: &AddonState) -> Result<Vec<Finding>> {
        let mut unmet = Vec::new();
        let mut add = |severity, message, fix| {
            unmet.push(Finding::new(severity, row.id.to_string(), message, Some(fix)));
        };
        let severity = if state.is_enabled() { Severity::Error } else { Severity::Warning };
        for need in self.read_needs(row) {
            let id = &need.id;
            match self.store.addon(id)? {
                None => {
                    let message = format!("it needs `{id}`, which is not installed");
                    add(severity, message, format!("`lodger install PATH-OF-{id}`"));
                }
                Some(there) if !need.admits(&there.version) => {
                    let message = format!("it needs `{need}`, which is installed in version {}", there.version);
                    add(severity, message, format!("install a version of `{id}` that fits"));
                }
                Some(there) if state.is_enabled() && !there.state.is_enabled() => {
                    let first = if there.state.is_quarantined() { id } else { &row.id };
                    let message = format!("it is enabled, and needs `{id}`, which is {}", there.state.settled());
                    add(severity, message, format!("`lodger enable {first}`"));
                }
                Some(_) => {}
            }
        }
        Ok(unmet)
    }

    /// Leads out of what a finding tells.
    ///
    /// # Errors
    /// As for the verb; and where a hook did not complete, how it ended.
    pub async fn mend(&self, mend: &Mend) -> Result<Outcome<()>> {
        Ok(match mend {
            Mend::Reconcile(addon) => {
                self.reconcile(Some(addon)).await?;
                Outcome::Completed(())
            }
            Mend::Enable(addon) => self.enable(addon).await?.outcome,
            Mend::Disable(addon) => self.disable(addon, false).await?.outcome,
            Mend::Remove { app, addon, alias } => self.remove(app, addon, alias.as_ref()).await?.outcome,
        })
    }

    /// Who fills each slot, and where the host stands in for a plugin that has failed. A home with one engine and no plugin
    /// has nothing to tell.
    async fn slot_findings(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for slot in &self.slots {
            let mut add = |severity, message: String, fix| {
                findings.push(Finding::new(severity, format!("slot {}", slot.name), message, fix));
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

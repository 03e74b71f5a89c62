//! What verbs answer, in one shape for the command line's `--json` and for HTTP; and the failure of a hook they needed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::addons::{AddonInfo, Done, Need, SettingInfo};
use crate::error::{Error, Result};
use crate::failure::FailurePolicy;
use crate::hook::HookName;
use crate::host::Host;
use crate::id::{AddonId, Id};
use crate::lifecycle::{AddonState, ResourceState};
use crate::outcome::Outcome;
use crate::resources::{Env, Resource};
use crate::upgrade::Earlier;

/// A hook that was entered and did not complete.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HookFailed {
    pub code: &'static str,
    pub message: String,
    pub exit_code: u8,
    pub http_status: u16,
    pub hint: Option<String>,
}

/// An addon, with all that is known of it.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AddonDetails {
    #[serde(flatten)]
    pub info: AddonInfo,
    /// The slot it fills while it is enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Id>,
    /// Versions `lodger rollback` can go back to, the next one first.
    pub earlier: Vec<Earlier>,
    /// What must be enabled before it.
    pub depends: Vec<Need>,
    /// Installed addons that say so of it.
    pub needed_by: Vec<AddonId>,
    /// What is done when one of its hooks fails.
    pub failure: BTreeMap<HookName, FailurePolicy>,
    pub settings: Vec<SettingInfo>,
    pub resources: Vec<Resource>,
}

/// `enable` and `disable`: the addon as it is now, without version and state where somebody has uninstalled it since.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Moved {
    pub id: AddonId,
    pub version: Option<String>,
    pub state: Option<AddonState>,
    pub changed: bool,
    /// Addons that had to be enabled or disabled before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enabled_first: Vec<AddonId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disabled_first: Vec<AddonId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_open: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Uninstalled {
    pub id: AddonId,
    pub changed: bool,
    pub kept_data: bool,
}

/// `upgrade` and `rollback`.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionNow {
    pub id: AddonId,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub from: semver::Version,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub to: semver::Version,
    pub state: Option<AddonState>,
    pub changed: bool,
}

/// `set`: the names of the settings that were changed.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Settings {
    pub id: AddonId,
    pub changed: Vec<String>,
    pub dry_run: bool,
}

/// `add`. It holds what the app is to keep in confidence.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Added {
    pub app: Id,
    pub addon: AddonId,
    pub alias: Option<Id>,
    pub id: Option<String>,
    pub plan: Option<Id>,
    pub config: BTreeMap<String, String>,
    pub created: bool,
    pub message: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Removed {
    pub app: Id,
    pub addon: AddonId,
    pub alias: Option<Id>,
    pub changed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_open: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept_data: bool,
}

/// `plan`, `suspend` and `resume`.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ResourceNow {
    pub app: Id,
    pub addon: AddonId,
    pub alias: Option<Id>,
    pub id: Option<String>,
    pub plan: Option<Id>,
    pub state: ResourceState,
    pub message: Option<String>,
    pub changed: bool,
}

/// `restore`.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Streamed {
    pub app: Id,
    pub addon: AddonId,
    pub alias: Option<Id>,
    pub bytes: u64,
}

/// A line of what a hook has said.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    pub call: String,
    pub hook: String,
    pub line: String,
}

impl HookFailed {
    pub fn of<T>(subject: &impl std::fmt::Display, hook: &str, outcome: &Outcome<T>) -> HookFailed {
        HookFailed {
            code: outcome.name(),
            message: format!("`{hook}` of {subject} {outcome}"),
            exit_code: outcome.exit_code(),
            http_status: outcome.http_status(),
            hint: Some(format!("`lodger logs {subject}` shows what it said")),
        }
    }
}

impl<T> Done<T> {
    /// The verb's value, or the failure of the hook it needed.
    pub fn completed(self, subject: &impl std::fmt::Display) -> Result<T, HookFailed> {
        let hook = self.call.as_ref().map_or("hook", |call| call.hook);
        match self.outcome {
            Outcome::Completed(value) => Ok(value),
            other => Err(HookFailed::of(subject, hook, &other)),
        }
    }
}

impl Done<Resource> {
    /// The same for a verb that changes a resource, with what leads on from the state it is left in.
    pub fn stays(self, host: &Host, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<ResourceNow, HookFailed> {
        let changed = self.changed;
        let resource = self.completed(addon).map_err(|failed| match host.resource(app, addon, alias) {
            Ok(left) if matches!(left.state, ResourceState::Failed(_) | ResourceState::Interrupted(_)) => {
                let logs = failed.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                HookFailed { hint: Some(format!("{}{logs}", left.way_on())), ..failed }
            }
            _ => failed,
        })?;
        let Resource { app, addon, alias, id, plan, state, message, .. } = resource;
        Ok(ResourceNow { app, addon, alias, id, plan, state, message, changed })
    }
}

impl Env {
    /// All variables but those that a failure policy leaves out, or with `partial` what there is.
    pub fn whole(self, app: &Id, partial: bool) -> Result<BTreeMap<String, String>, HookFailed> {
        let failed: Vec<_> = self.failures.iter().filter(|failure| !failure.failed_open).collect();
        let Some(worst) = failed.iter().max_by_key(|failure| failure.exit_code).filter(|_| !partial) else {
            return Ok(self.variables);
        };
        let count = if failed.len() == 1 { "one hook".to_owned() } else { format!("{} hooks", failed.len()) };
        Err(HookFailed {
            code: "env-incomplete",
            message: format!("{count} of app `{app}` gave no values"),
            exit_code: worst.exit_code,
            http_status: 502,
            hint: Some("--partial prints what there is".to_owned()),
        })
    }
}

impl Host {
    pub async fn details(&self, id: &AddonId) -> Result<AddonDetails> {
        let (info, settings, earlier) = (self.addon(id)?, self.settings(id).await?, self.earlier(id)?);
        let grant = self.explain(id).await?;
        Ok(AddonDetails {
            info,
            replaces: grant.replaces,
            earlier,
            depends: self.needs_of(id)?,
            needed_by: self.needed_by(id)?,
            failure: grant.hooks.into_iter().map(|hook| (hook, self.policy.failure.of(hook))).collect(),
            settings,
            resources: self.resources_of(id)?,
        })
    }

    /// An addon after a verb on it was carried out. `None`: somebody else has uninstalled it since.
    pub fn now(&self, id: &AddonId) -> Result<Option<AddonInfo>> {
        match self.addon(id) {
            Err(Error::UnknownAddon(_)) => Ok(None),
            info => info.map(Some),
        }
    }

    /// What a verb has left an addon as.
    pub fn moved(&self, id: &AddonId, changed: bool) -> Result<Moved> {
        let info = self.now(id)?;
        let (version, state) = info.map(|info| (info.version, info.state)).unzip();
        let id = id.clone();
        let (enabled_first, disabled_first, failed_open) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Moved { id, version, state, changed, enabled_first, disabled_first, failed_open })
    }

    /// What an app was given, with its variables; the names of hooks that did not give any, and why, beside it.
    pub async fn added(&self, resource: Resource, created: bool) -> Result<(Added, Vec<(String, String)>)> {
        let Resource { app, addon, alias, id, plan, message, .. } = resource;
        let env = match self.config(&app, &addon, alias.as_ref()).await {
            // Somebody else has removed it since.
            Err(Error::UnknownResource { .. }) => Env::default(),
            env => env?,
        };
        let failures = env.failures.into_iter().map(|failure| (failure.hook.to_owned(), failure.message));
        Ok((Added { app, addon, alias, id, plan, config: env.variables, created, message }, failures.collect()))
    }

    /// What an addon's calls have said after the call with id `after`, a line each; and the last call that was looked at.
    pub fn log_lines(&self, id: &AddonId, after: &str, most: u32) -> Result<(Vec<LogLine>, Option<String>)> {
        let calls = self.logs(id, after, most)?;
        let last = calls.last().map(|call| call.id.clone());
        let mut lines = Vec::new();
        for call in calls {
            let said = call.log.iter().flat_map(|log| log.lines());
            lines.extend(said.map(|line| LogLine {
                call: call.id.clone(),
                hook: call.hook.clone(),
                line: line.to_owned(),
            }));
        }
        Ok((lines, last))
    }
}

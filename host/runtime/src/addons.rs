//! Verbs on addons: install, uninstall, enable, disable, set; and what is known of them.

mod doctor;
mod install;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::grant::Grant;
use crate::hook::{HookName, HookRequest};
use crate::host::{Call, Host, Locked, not_permitted};
use crate::id::{AddonId, Id};
use crate::lifecycle::{self, AddonState, ResourceState};
use crate::outcome::{Outcome, Report};
use crate::registry::setting_place;
use crate::store::{AddonRow, CallRow, Wanted};

pub use doctor::{Finding, Severity};
pub use install::{Incoming, Installed};

/// Longest value of a setting, in bytes.
const SETTING_MAX: usize = 64 << 10;

/// What came of a verb that could be carried out.
#[derive(Debug)]
pub struct Done<T> {
    pub outcome: Outcome<T>,
    /// False when it was so already, and nothing was done.
    pub changed: bool,
    /// The call that decided it, where a guest was entered.
    pub call: Option<CallNote>,
}

/// What to tell about a call.
#[derive(Clone, Debug)]
pub struct CallNote {
    pub id: String,
    pub hook: &'static str,
    pub report: Report,
    pub log: Vec<String>,
}

impl<T> Done<T> {
    pub(crate) fn already(value: T) -> Done<T> {
        Done { outcome: Outcome::Completed(value), changed: false, call: None }
    }

    pub(crate) fn without_call(value: T) -> Done<T> {
        Done { outcome: Outcome::Completed(value), changed: true, call: None }
    }

    pub(crate) fn by<A>(hook: HookName, call: Call<A>, into: impl FnOnce(A) -> T) -> Done<T> {
        let note = CallNote { id: call.id, hook: hook.name(), report: call.report, log: call.log };
        Done { outcome: call.outcome.map(into), changed: true, call: Some(note) }
    }
}

/// An installed addon, as `list` and `info` show it.
#[derive(Clone, Debug, Serialize)]
pub struct AddonInfo {
    pub id: AddonId,
    pub version: String,
    pub state: AddonState,
    pub digest: String,
    pub dev: bool,
    pub data_bytes: u64,
    pub data_files: u64,
    /// Seconds since 1970.
    pub installed_at: i64,
}

impl From<AddonRow> for AddonInfo {
    fn from(row: AddonRow) -> AddonInfo {
        AddonInfo {
            id: row.id,
            version: row.version.to_string(),
            state: row.state,
            digest: row.digest,
            dev: row.dev,
            data_bytes: row.data.bytes,
            data_files: row.data.files,
            installed_at: row.installed_at,
        }
    }
}

/// A setting, as `info` shows it; a secret's value is never shown.
#[derive(Clone, Debug, Serialize)]
pub struct SettingInfo {
    pub name: String,
    pub secret: bool,
    pub set: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Host {
    /// Finds an addon by `namespace/name`, or by its name alone where that is unambiguous.
    pub fn resolve(&self, name: &str) -> Result<AddonId> {
        let unknown = || Error::UnknownAddon(crate::text::shown(name, 80));
        if name.contains('/') {
            let id: AddonId = name.parse().map_err(|_| Error::InvalidId(name.to_owned()))?;
            return self.store.addon(&id)?.map(|row| row.id).ok_or_else(unknown);
        }
        let name: Id = name.parse().map_err(|_| Error::InvalidId(name.to_owned()))?;
        let mut found: Vec<AddonId> =
            self.store.addons()?.into_iter().map(|row| row.id).filter(|id| id.name == name).collect();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                found.push(last);
                Err(Error::AmbiguousAddon { name, candidates: found })
            }
            (None, _) => Err(unknown()),
        }
    }

    pub fn addons(&self) -> Result<Vec<AddonInfo>> {
        self.store.addons()?.into_iter().map(|row| self.info(row)).collect()
    }

    pub fn addon(&self, id: &AddonId) -> Result<AddonInfo> {
        let row = self.store.addon(id)?.ok_or_else(|| Error::UnknownAddon(id.to_string()))?;
        self.info(row)
    }

    fn info(&self, mut row: AddonRow) -> Result<AddonInfo> {
        if row.state != row.state.clone().settled() && !self.is_at_work(&row.id)? {
            // Whoever was at work may have ended between the two looks.
            row = self.store.addon(&row.id)?.unwrap_or(row);
            row.state = row.state.settled();
        }
        Ok(row.into())
    }

    /// Whether somebody holds the addon's lock: only then is a state true that says something is under way.
    pub(crate) fn is_at_work(&self, id: &AddonId) -> Result<bool> {
        self.registry.lock_of(self, id).is_held()
    }

    /// Everything the addon may touch.
    pub async fn explain(&self, id: &AddonId) -> Result<Grant> {
        Ok(self.registry.get(self, id).await?.0.grant.clone())
    }

    pub async fn settings(&self, id: &AddonId) -> Result<Vec<SettingInfo>> {
        let (addon, _) = self.registry.get(self, id).await?;
        let set = self.store.settings(id)?;
        let mut infos = Vec::new();
        for (name, setting) in &addon.manifest.settings {
            let value = match set.get(name) {
                _ if setting.secret => None,
                Some(sealed) => Some(self.home.key.open(&setting_place(id, name), sealed)?),
                None => setting.default.clone(),
            };
            infos.push(SettingInfo { name: name.clone(), secret: setting.secret, set: set.contains_key(name), value });
        }
        Ok(infos)
    }

    /// Sets a setting the manifest declares, or with `None` goes back to its default. True when that changed something.
    pub async fn set(&self, id: &AddonId, name: &str, value: Option<String>) -> Result<bool> {
        let locked = self.lock(id).await?;
        let sealed_now = self.check_set(&locked, name, value.as_deref())?;
        let same = match (&sealed_now, &value) {
            (Some(sealed), Some(value)) => self.home.key.open(&setting_place(id, name), sealed)? == *value,
            (None, None) => true,
            _ => false,
        };
        if same {
            return Ok(false);
        }
        let sealed = value.map(|value| self.home.key.seal(&setting_place(id, name), value.as_bytes())).transpose()?;
        self.store.set_setting(id, name, sealed.as_deref())?;
        Ok(true)
    }

    /// Whether [`Host::set`] could be carried out; does nothing.
    pub async fn would_set(&self, id: &AddonId, name: &str, value: Option<&str>) -> Result<()> {
        self.check_set(&self.lock(id).await?, name, value).map(drop)
    }

    fn check_set(&self, locked: &Locked, name: &str, value: Option<&str>) -> Result<Option<Vec<u8>>> {
        let addon = &locked.addon;
        if !addon.manifest.settings.contains_key(name) {
            let known = addon.manifest.settings.keys().cloned().collect();
            return Err(Error::UnknownSetting { addon: addon.id.clone(), name: name.to_owned(), known });
        }
        let length = value.map_or(0, str::len);
        if length > SETTING_MAX {
            let name = name.to_owned();
            return Err(Error::SettingTooLong { addon: addon.id.clone(), name, length, most: SETTING_MAX });
        }
        Ok(self.store.settings(&addon.id)?.remove(name))
    }

    /// Enables an addon: its `enable` hook runs, and after it apps may use it.
    pub async fn enable(&self, id: &AddonId) -> Result<Done<()>> {
        let locked = self.lock(id).await?;
        if locked.state.is_enabled() {
            return Ok(Done::already(()));
        }
        // What an enable that was cut off had stopped is stood in for anew, as it is now.
        self.services.give_back(id, true).await?;
        let mut begun = self.claim_slot(&locked)?;
        if !begun && !locked.addon.manifest.services.is_empty() {
            self.store.set_addon_state(id, &AddonState::Enabling)?;
            begun = true;
        }
        let done = self.enable_locked(&locked).await;
        if begun && done.is_err() {
            self.store.set_addon_state(id, &AddonState::Failed(HookName::Enable))?;
        }
        if !done.as_ref().is_ok_and(|done| done.outcome.is_completed()) {
            self.give_back(id).await;
        }
        done
    }

    async fn enable_locked(&self, locked: &Locked) -> Result<Done<()>> {
        let id = &locked.addon.id;
        if !locked.addon.manifest.services.is_empty() {
            self.start_services(&locked.addon).await?;
        }
        if !locked.addon.grant.hooks.contains(&HookName::Enable) {
            self.store.set_addon_state(id, &AddonState::Enabled)?;
            return Ok(Done::without_call(()));
        }
        let call = self.call_locked(locked, HookRequest::Enable, None).await?;
        Ok(Done::by(HookName::Enable, call, drop))
    }

    /// Whether [`Host::enable`] would change anything; does nothing.
    pub async fn would_enable(&self, id: &AddonId) -> Result<bool> {
        let locked = self.lock(id).await?;
        if locked.state.is_enabled() {
            return Ok(false);
        }
        self.could_claim_slot(&locked).map(|()| true)
    }

    /// Disables an addon no app uses. With `force`, takes it from the apps first.
    pub async fn disable(&self, id: &AddonId, force: bool) -> Result<Done<()>> {
        let locked = self.lock(id).await?;
        if !self.check_disable(&locked, force)? {
            // One that was cut off may have left that to do.
            let gave = self.services.give_back(id, true).await?;
            return Ok(if gave.is_some() { Done::without_call(()) } else { Done::already(()) });
        }
        for resource in self.store.resources_of_addon(id)? {
            if resource.state == ResourceState::Detached {
                continue;
            }
            let done = self.unprovision(&locked, &resource, crate::resources::Reason::Disabled).await?;
            if !done.outcome.is_completed() {
                return Ok(done);
            }
        }
        if !locked.addon.grant.hooks.contains(&HookName::Disable) {
            self.services.end(id, None, Wanted::Stopped).await?;
            self.store.set_addon_state(id, &AddonState::Installed)?;
            return Ok(Done::without_call(()));
        }
        let call = self.call_locked(&locked, HookRequest::Disable, None).await?;
        if call.outcome.is_completed() {
            self.services.end(id, None, Wanted::Stopped).await?;
        } else {
            self.give_back(id).await;
        }
        Ok(Done::by(HookName::Disable, call, drop))
    }

    /// Whether [`Host::disable`] would change anything; does nothing.
    pub async fn would_disable(&self, id: &AddonId, force: bool) -> Result<bool> {
        self.check_disable(&self.lock(id).await?, force)
    }

    fn check_disable(&self, locked: &Locked, force: bool) -> Result<bool> {
        let id = &locked.addon.id;
        if locked.state == AddonState::Installed {
            return Ok(false);
        }
        let in_use = self.store.resources_of_addon(id)?.into_iter().filter(|row| row.state != ResourceState::Detached);
        let apps: BTreeSet<Id> = in_use.map(|row| row.app).collect();
        if !apps.is_empty() && !force {
            return Err(Error::InUse { addon: id.clone(), apps: apps.into_iter().collect() });
        }
        if !lifecycle::permits(&locked.state, HookName::Disable) {
            return Err(not_permitted(&locked.addon, &locked.state, "disable", "enabled"));
        }
        Ok(true)
    }

    /// Asks an enabled addon for its health, and notes whether it is degraded. `None` when it has no such hook.
    pub async fn check_health(&self, id: &AddonId) -> Result<Option<Call<crate::Answer>>> {
        let (addon, now) = self.registry.get(self, id).await?;
        if !addon.grant.hooks.contains(&HookName::Health) || !now.state.is_enabled() {
            return Ok(None);
        }
        let call = self.call(id, HookRequest::Health).await?;
        let healthy = matches!(&call.outcome, Outcome::Completed(crate::Answer::Health(report))
            if report.status == crate::HealthStatus::Healthy);
        let state = if healthy { AddonState::Enabled } else { AddonState::Degraded };
        if state != now.state {
            let locked = self.lock(id).await?;
            if locked.state.is_enabled() {
                self.store.set_addon_state(id, &state)?;
            }
        }
        Ok(Some(call))
    }

    /// The newest calls first; of one addon, or of all.
    pub fn calls(&self, addon: Option<&AddonId>, most: u32) -> Result<Vec<CallRow>> {
        self.store.calls(addon, most)
    }

    /// What the addon's calls have logged, each after the call with id `after`, the oldest first: call, hook, lines.
    pub fn logs(&self, addon: &AddonId, after: &str, most: u32) -> Result<Vec<CallRow>> {
        self.store.logs(addon, after, most)
    }

    /// The names of all apps with what each has: addon and alias.
    pub fn apps(&self) -> Result<BTreeMap<Id, Vec<crate::Resource>>> {
        let mut apps: BTreeMap<Id, Vec<crate::Resource>> = BTreeMap::new();
        for row in self.store.resources()? {
            let app = row.app.clone();
            if let Some(resource) = self.seen(row)? {
                apps.entry(app).or_default().push(resource);
            }
        }
        Ok(apps)
    }
}

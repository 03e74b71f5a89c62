//! Verbs on addons: install, uninstall, enable, disable, set; and what is known of them.

mod depends;
mod doctor;
mod install;
mod order;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::event::{ADDON_DISABLED, ADDON_ENABLED};
use crate::grant::Grant;
use crate::hook::{Answer, HookName, HookRequest};
use crate::host::{Call, Host, Locked};
use crate::id::{AddonId, Id};
use crate::lifecycle::{self, AddonState, ResourceState};
use crate::outcome::{Outcome, Report};
use crate::registry::setting_place;
use crate::store::{AddonRow, CallRow, ResourceRow, Wanted};

pub use depends::Need;
pub use doctor::{Finding, Mend, Severity};
pub use install::{Incoming, Installed};
pub use order::Step;

/// Longest value of a setting, in bytes.
pub(crate) const SETTING_MAX: usize = 64 << 10;

/// What came of a verb that could be carried out.
#[derive(Debug)]
pub struct Done<T> {
    pub outcome: Outcome<T>,
    /// False when it was so already, and nothing was done.
    pub changed: bool,
    /// The call that decided it, where a guest was entered.
    pub call: Option<CallNote>,
    /// The hooks without which the verb went on, since their failure policy says so, and how each has failed.
    pub failed_open: Vec<String>,
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
        Done { changed: false, ..Done::without_call(value) }
    }

    pub(crate) fn without_call(value: T) -> Done<T> {
        Done { outcome: Outcome::Completed(value), changed: true, call: None, failed_open: Vec::new() }
    }

    pub(crate) fn by<A>(hook: HookName, call: Call<A>, into: impl FnOnce(A) -> T) -> Done<T> {
        let note = CallNote { id: call.id, hook: hook.name(), report: call.report, log: call.log };
        Done { outcome: call.outcome.map(into), changed: true, call: Some(note), failed_open: Vec::new() }
    }

    pub(crate) fn map<U>(self, into: impl FnOnce(T) -> U) -> Done<U> {
        let Done { outcome, changed, call, failed_open } = self;
        Done { outcome: outcome.map(into), changed, call, failed_open }
    }

    /// After others of the same verb, without which it may have gone on.
    pub(crate) fn after(mut self, failed_open: &mut Vec<String>) -> Done<T> {
        failed_open.append(&mut self.failed_open);
        Done { failed_open: std::mem::take(failed_open), ..self }
    }
}

impl Done<()> {
    /// By a hook that the host may have gone on without.
    pub(crate) fn by_or_without(hook: HookName, addon: &AddonId, call: Call<Answer>) -> Done<()> {
        let without = call.failed_open.then(|| format!("`{hook}` of {addon} {}", call.outcome));
        let mut done = Done::by(hook, call, drop);
        if let Some(how) = without {
            done.outcome = Outcome::Completed(());
            done.failed_open.push(how);
        }
        done
    }
}

/// An installed addon, as `list` and `info` show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettingInfo {
    pub name: String,
    pub secret: bool,
    pub set: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The one of these addons that has a name, without its namespace.
///
/// # Errors
/// [`Error::InvalidId`], [`Error::UnknownAddon`], [`Error::AmbiguousAddon`].
pub fn resolve(name: &str, addons: impl Iterator<Item = AddonId>) -> Result<AddonId> {
    let wanted: Id = name.parse().map_err(|_| Error::InvalidId(name.to_owned()))?;
    let mut found: Vec<AddonId> = addons.filter(|id| id.name == wanted).collect();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(Error::AmbiguousAddon { name: wanted, candidates: found })
        }
        (None, _) => Err(Error::UnknownAddon(name.to_owned())),
    }
}

impl Host {
    /// Finds an addon by `namespace/name`, or by its name alone where that is unambiguous.
    pub fn resolve(&self, name: &str) -> Result<AddonId> {
        let unknown = || Error::UnknownAddon(crate::text::shown(name, 80));
        if name.contains('/') {
            let id: AddonId = name.parse().map_err(|_| Error::InvalidId(name.to_owned()))?;
            return self.store.addon(&id)?.map(|row| row.id).ok_or_else(unknown);
        }
        resolve(name, self.store.addons()?.into_iter().map(|row| row.id))
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

    /// Enables an addon: its `enable` hook runs, and after it apps may use it. What it needs must be enabled, as
    /// [`Host::enable_with_needs`] sees to.
    pub async fn enable(&self, id: &AddonId) -> Result<Done<()>> {
        self.ask_enabling(id).await?;
        let locked = self.lock(id).await?;
        if locked.state.is_enabled() {
            return Ok(Done::already(()));
        }
        self.enable_locked(&locked).await
    }

    pub(crate) async fn enable_locked(&self, locked: &Locked) -> Result<Done<()>> {
        let (id, manifest) = (&locked.addon.id, &locked.addon.manifest);
        // What an enable that was cut off had stopped is stood in for anew, as it is now.
        self.services.give_back(id, true).await?;
        self.check_needs(manifest)?;
        let claimed = self.claim_slot(locked)?;
        if !claimed && (!manifest.services.is_empty() || !manifest.depends.is_empty()) {
            self.store.set_addon_state(id, &AddonState::Enabling)?;
        }
        // Again, now that whoever disables what it needs can see it.
        if let Err(error) = self.check_needs(manifest) {
            self.not_begun(locked, &AddonState::Enabling)?;
            return Err(error);
        }
        let done = self.start_and_enable(locked).await;
        match &done {
            Ok(_) => {}
            Err(_) if claimed || !manifest.services.is_empty() => {
                self.store.set_addon_state(id, &AddonState::Failed(HookName::Enable))?;
            }
            Err(_) => self.not_begun(locked, &AddonState::Enabling)?,
        }
        if !done.as_ref().is_ok_and(|done| done.outcome.is_completed()) {
            self.services.give_back_or_tell(id, true).await;
        }
        done
    }

    async fn start_and_enable(&self, locked: &Locked) -> Result<Done<()>> {
        let id = &locked.addon.id;
        if !locked.addon.manifest.services.is_empty() {
            self.start_services(&locked.addon).await?;
        }
        if !locked.addon.grant.hooks.contains(&HookName::Enable) {
            let event = self.store.event(ADDON_ENABLED, Some(&locked.addon.name), &self.actor());
            self.store.enabled(id, Some(&event))?;
            return Ok(Done::without_call(()));
        }
        let call = self.call_locked(locked, HookRequest::Enable, None).await?;
        Ok(Done::by(HookName::Enable, call, drop))
    }

    /// Whether [`Host::enable`] would change anything; does nothing.
    pub async fn would_enable(&self, id: &AddonId) -> Result<bool> {
        self.ask_enabling(id).await?;
        let locked = self.lock(id).await?;
        if locked.state.is_enabled() {
            return Ok(false);
        }
        self.check_needs(&locked.addon.manifest)?;
        self.could_claim_slot(&locked).map(|()| true)
    }

    /// Disables an addon that no app uses and no enabled addon needs. With `force`, takes it from the apps first;
    /// [`Host::disable_with_dependents`] disables those that need it, too.
    pub async fn disable(&self, id: &AddonId, force: bool) -> Result<Done<()>> {
        let locked = self.lock(id).await?;
        if !self.check_disable(&locked, force)? {
            // One that was cut off has left something.
            let gave = self.services.give_back(id, true).await?;
            if let Err(error) = self.tidy(&locked).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(addon = locked.addon.name, error, "services of a disabled addon are left to be removed");
            }
            return Ok(if gave.is_some() { Done::without_call(()) } else { Done::already(()) });
        }
        let mut failed_open = Vec::new();
        for resource in self.store.resources_of_addon(id)? {
            if resource.state == ResourceState::Detached {
                continue;
            }
            let done = self.unprovision(&locked, &resource, crate::resources::Reason::Disabled).await?;
            let done = done.after(&mut failed_open);
            if !done.outcome.is_completed() {
                return Ok(done);
            }
            failed_open = done.failed_open;
        }
        Ok(self.disable_locked(&locked).await?.after(&mut failed_open))
    }

    /// Disables an addon no app uses.
    pub(crate) async fn disable_locked(&self, locked: &Locked) -> Result<Done<()>> {
        let id = &locked.addon.id;
        self.store.set_addon_state(id, &AddonState::Disabling)?;
        // Again, now that whoever enables one that needs it can see it.
        let done = match self.check_unneeded(id) {
            Ok(()) => self.disable_and_stop(locked).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            self.not_begun(locked, &AddonState::Disabling)?;
        }
        done
    }

    async fn disable_and_stop(&self, locked: &Locked) -> Result<Done<()>> {
        let id = &locked.addon.id;
        if !locked.addon.grant.hooks.contains(&HookName::Disable) {
            self.services.answer(id).await?;
            let event = self.store.event(ADDON_DISABLED, Some(&locked.addon.name), &self.actor());
            self.store.disabled(id, Some(&event))?;
            self.services.end(id, None, Wanted::Stopped).await?;
            return Ok(Done::without_call(()));
        }
        let call = self.call_locked(locked, HookRequest::Disable, None).await?;
        let done = Done::by_or_without(HookName::Disable, id, call);
        if done.outcome.is_completed() {
            self.services.end(id, None, Wanted::Stopped).await?;
        } else {
            self.services.give_back_or_tell(id, true).await;
        }
        Ok(done)
    }

    /// Whether [`Host::disable`] would change anything; does nothing.
    pub async fn would_disable(&self, id: &AddonId, force: bool) -> Result<bool> {
        self.check_disable(&self.lock(id).await?, force)
    }

    fn check_disable(&self, locked: &Locked, force: bool) -> Result<bool> {
        if locked.state != AddonState::Installed {
            self.check_unneeded(&locked.addon.id)?;
        }
        self.could_disable(locked, force)
    }

    /// The same as far as it is about the addon alone.
    fn could_disable(&self, locked: &Locked, force: bool) -> Result<bool> {
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
            return Err(self.not_permitted(&locked.addon, &locked.state, "disable", "enabled"));
        }
        Ok(true)
    }

    /// Asks an enabled addon for its health, and notes whether it is degraded. `None` when it has no such hook.
    pub async fn check_health(&self, id: &AddonId) -> Result<Option<Call<Answer>>> {
        let (addon, now) = self.registry.get(self, id).await?;
        if !addon.grant.hooks.contains(&HookName::Health) || !now.state.is_enabled() {
            return Ok(None);
        }
        let call = self.call(id, HookRequest::Health).await?;
        let healthy = matches!(&call.outcome, Outcome::Completed(Answer::Health(report))
            if report.status == crate::HealthStatus::Healthy);
        if healthy != (now.state == AddonState::Enabled) {
            let _locked = self.lock(id).await?;
            self.note_health(&addon, healthy)?;
        }
        Ok(Some(call))
    }

    /// The newest calls first; of one addon, or of all.
    pub fn calls(&self, addon: Option<&AddonId>, most: u32) -> Result<Vec<CallRow>> {
        self.store.calls(addon, None, most)
    }

    /// The same from before the call with id `before`, for whoever goes through them page by page.
    pub fn calls_before(&self, addon: Option<&AddonId>, before: &str, most: u32) -> Result<Vec<CallRow>> {
        self.store.calls(addon, Some(before), most)
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

    /// What one of them has.
    ///
    /// # Errors
    /// [`Error::UnknownApp`] where that is nothing.
    pub fn app(&self, name: &Id) -> Result<Vec<crate::Resource>> {
        let resources = self.seen_of(self.store.resources_of_app(name)?)?;
        if resources.is_empty() { Err(Error::UnknownApp(name.clone())) } else { Ok(resources) }
    }

    /// What apps have of an addon, the oldest first.
    pub(crate) fn resources_of(&self, id: &AddonId) -> Result<Vec<crate::Resource>> {
        self.seen_of(self.store.resources_of_addon(id)?)
    }

    fn seen_of(&self, rows: Vec<ResourceRow>) -> Result<Vec<crate::Resource>> {
        rows.into_iter().filter_map(|row| self.seen(row).transpose()).collect()
    }
}

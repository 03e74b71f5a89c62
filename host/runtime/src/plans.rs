//! Verbs on a resource that stays: change its plan, withhold it from its app, give it back.
//!
//! The record keeps the old plan until the hook has completed, and the app its variables whatever becomes of the hook: a
//! change that went wrong half-way is asked for again, to the same plan or to another (`lifecycle.rs`).

use crate::addons::Done;
use crate::bindings::{ChangePlanRequest, ResourceInfo};
use crate::error::{Error, Result};
use crate::hook::{HookName, HookRequest};
use crate::host::{Host, Locked, resource_place};
use crate::id::{AddonId, Id};
use crate::lifecycle::{self, ResourceState};
use crate::manifest::Plan;
use crate::registry::Addon;
use crate::resources::{Resource, in_state, pairs};
use crate::store::ResourceRow;

impl Host {
    /// Moves what an app has of an addon to another plan of the manifest.
    ///
    /// # Errors
    /// [`Error::UnknownPlan`]; [`Error::HookMissing`] where the component does not export `plans`; [`Error::ResourceState`].
    pub async fn change_plan(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        plan: &str,
    ) -> Result<Done<Resource>> {
        let plan = self.ask_plan(app, addon, alias, plan).await?;
        let locked = self.lock(addon).await?;
        let row = self.only(app, addon, alias)?;
        let request = self.check_change_plan(&locked, &row, &plan)?;
        self.change(&locked, row, request).await
    }

    /// Whether [`Host::change_plan`] would change anything; does nothing.
    pub async fn would_change_plan(&self, app: &Id, addon: &AddonId, alias: Option<&Id>, plan: &str) -> Result<bool> {
        let plan = self.ask_plan(app, addon, alias, plan).await?;
        let locked = self.lock(addon).await?;
        Ok(self.check_change_plan(&locked, &self.only(app, addon, alias)?, &plan)?.is_some())
    }

    /// Withholds what an app has of an addon: what that means is the addon's to decide. The app keeps its variables.
    ///
    /// # Errors
    /// [`Error::HookMissing`] where the component does not export `plans`; [`Error::ResourceState`].
    pub async fn suspend(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Done<Resource>> {
        self.suspend_or_resume(app, addon, alias, HookName::Suspend).await
    }

    /// Whether [`Host::suspend`] would change anything; does nothing.
    pub async fn would_suspend(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<bool> {
        self.would_suspend_or_resume(app, addon, alias, HookName::Suspend).await
    }

    /// Gives back what was suspended.
    ///
    /// # Errors
    /// As for [`Host::suspend`].
    pub async fn resume(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Done<Resource>> {
        self.suspend_or_resume(app, addon, alias, HookName::Resume).await
    }

    /// Whether [`Host::resume`] would change anything; does nothing.
    pub async fn would_resume(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<bool> {
        self.would_suspend_or_resume(app, addon, alias, HookName::Resume).await
    }

    async fn suspend_or_resume(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        hook: HookName,
    ) -> Result<Done<Resource>> {
        self.ask_state(hook, app, addon, alias).await?;
        let locked = self.lock(addon).await?;
        let row = self.only(app, addon, alias)?;
        self.suspend_or_resume_locked(&locked, row, hook).await
    }

    pub(crate) async fn suspend_or_resume_locked(
        &self,
        locked: &Locked,
        row: ResourceRow,
        hook: HookName,
    ) -> Result<Done<Resource>> {
        let request = self.check_suspend_or_resume(locked, &row, hook)?;
        self.change(locked, row, request).await
    }

    async fn would_suspend_or_resume(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        hook: HookName,
    ) -> Result<bool> {
        self.ask_state(hook, app, addon, alias).await?;
        let locked = self.lock(addon).await?;
        Ok(self.check_suspend_or_resume(&locked, &self.only(app, addon, alias)?, hook)?.is_some())
    }

    /// Asks the hook, and looks at what has become of the resource. Without a request it is so already.
    async fn change(&self, locked: &Locked, row: ResourceRow, request: Option<HookRequest>) -> Result<Done<Resource>> {
        let Some(request) = request else { return Ok(Done::already(row.into())) };
        let hook = request.hook();
        let call = self.call_locked(locked, request, None).await?;
        let now = self.store.resource(&row.addon, &row.key)?.unwrap_or(row);
        Ok(Done::by(hook, call, |_| now.into()))
    }

    /// What is to be asked; `None` where the resource has the plan already.
    fn check_change_plan(&self, locked: &Locked, row: &ResourceRow, plan: &str) -> Result<Option<HookRequest>> {
        let addon = &locked.addon;
        let plan = known_plan(addon, plan)?;
        let rests = matches!(row.state, ResourceState::Active | ResourceState::Suspended);
        if rests && row.plan.as_ref() == Some(&plan.name) {
            return Ok(None);
        }
        self.permit(addon, &locked.state, HookName::ChangePlan)?;
        let request = HookRequest::ChangePlan(self.change_plan_request(addon, row, plan)?);
        self.state_before(addon, &request)?;
        Ok(Some(request))
    }

    /// The same; `None` where the resource is suspended already, or is not.
    fn check_suspend_or_resume(
        &self,
        locked: &Locked,
        row: &ResourceRow,
        hook: HookName,
    ) -> Result<Option<HookRequest>> {
        let suspend = hook == HookName::Suspend;
        if row.state == if suspend { ResourceState::Suspended } else { ResourceState::Active } {
            return Ok(None);
        }
        self.permit(&locked.addon, &locked.state, hook)?;
        let of = self.resource_info(&locked.addon, row)?;
        let request = if suspend { HookRequest::Suspend(of) } else { HookRequest::Resume(of) };
        self.state_before(&locked.addon, &request)?;
        Ok(Some(request))
    }

    /// The state of the resource that a hook of `plans` finds; `None` for the other hooks.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::UnknownPlan`], and [`Error::ResourceState`] where that state does not permit the hook.
    pub(crate) fn state_before(&self, addon: &Addon, request: &HookRequest) -> Result<Option<ResourceState>> {
        let of = match request {
            HookRequest::ChangePlan(asked) => {
                known_plan(addon, &asked.plan)?;
                &asked.of
            }
            HookRequest::Suspend(of) | HookRequest::Resume(of) => of,
            _ => return Ok(None),
        };
        let unknown = || Error::UnknownKey(crate::text::shown(&of.key, 60));
        let row = self.store.resource(&addon.id, &of.key)?.ok_or_else(unknown)?;
        if lifecycle::permits_on(&row.state, request.hook()) { Ok(Some(row.state)) } else { Err(in_state(row)) }
    }

    pub(crate) fn change_plan_request(
        &self,
        addon: &Addon,
        row: &ResourceRow,
        plan: &Plan,
    ) -> Result<ChangePlanRequest> {
        let of = self.resource_info(addon, row)?;
        Ok(ChangePlanRequest { of, plan: plan.name.to_string(), plan_options: pairs(&plan.options) })
    }

    /// The resource as the hooks of `plans` are told of it.
    pub(crate) fn resource_info(&self, addon: &Addon, row: &ResourceRow) -> Result<ResourceInfo> {
        let (Some(id), Some(private)) = (&row.guest_id, &row.private) else { return Err(in_state(row.clone())) };
        let private = self.home.key.open(&resource_place(&row.key), private)?;
        let plan = row.plan.as_ref().and_then(|name| addon.manifest.plan(name));
        Ok(ResourceInfo {
            key: row.key.clone(),
            id: id.clone(),
            private,
            app: row.app.to_string(),
            alias: row.alias.as_ref().map(ToString::to_string).unwrap_or_default(),
            plan: row.plan.as_ref().map(ToString::to_string),
            plan_options: plan.map(|plan| pairs(&plan.options)).unwrap_or_default(),
            options: pairs(&row.options),
        })
    }
}

/// # Errors
/// [`Error::UnknownPlan`], with those there are.
pub(crate) fn known_plan<'a>(addon: &'a Addon, name: &str) -> Result<&'a Plan> {
    let plans = &addon.manifest.plans;
    plans.iter().find(|plan| plan.name.as_str() == name).ok_or_else(|| Error::UnknownPlan {
        addon: addon.id.clone(),
        plan: crate::text::shown(name, 60),
        known: plans.iter().map(|plan| plan.name.clone()).collect(),
    })
}

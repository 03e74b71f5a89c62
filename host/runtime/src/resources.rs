//! Verbs on what apps have of addons: add, remove, url, env.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::addons::Done;
use crate::bindings::{Figure, Pair, Period, ProvisionRequest, UnprovisionRequest};
use crate::env;
use crate::error::{Error, Result};
use crate::event::{APP_ATTACHED, APP_DETACHED, Event};
use crate::failure::FailurePolicy;
use crate::grant::Grant;
use crate::hook::{Answer, HookName, HookRequest, ResourceRef};
use crate::host::{Host, Locked, now_ms, resource_place};
use crate::id::{AddonId, Id};
use crate::lifecycle::ResourceState;
use crate::outcome::Outcome;
use crate::plans::known_plan;
use crate::registry::Addon;
use crate::store::{ResourceRow, Wanted};

pub(crate) use crate::bindings::UnprovisionReason as Reason;

/// Bounds of an option, as the WIT package states them.
const OPTIONS_MAX: usize = 32;
const OPTION_NAME_MAX: usize = 128;
const OPTION_VALUE_MAX: usize = 4096;

/// What an app has of an addon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Resource {
    pub app: Id,
    pub addon: AddonId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Id>,
    /// The addon's own name of it; absent until it has one.
    pub id: Option<String>,
    pub plan: Option<Id>,
    pub state: ResourceState,
    /// Names of the variables the app receives.
    pub variables: Vec<String>,
    /// What the addon said when it made the resource, or changed it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

impl From<ResourceRow> for Resource {
    fn from(row: ResourceRow) -> Resource {
        Resource {
            app: row.app,
            addon: row.addon,
            alias: row.alias,
            id: row.guest_id,
            plan: row.plan,
            state: row.state,
            variables: row.variables,
            message: row.message,
            created_at: row.created_at,
        }
    }
}

impl Resource {
    /// The command that leads on from a state in which something is refused.
    pub fn way_on(&self) -> String {
        let alias = self.alias.as_ref().map(|alias| format!(" --as {alias}")).unwrap_or_default();
        let of = format!("{} {}", self.app, self.addon);
        let plan = self.plan.as_ref().map_or("PLAN", Id::as_str);
        match &self.state {
            ResourceState::Failed(hook) | ResourceState::Interrupted(hook) => match hook {
                HookName::ChangePlan => format!("`lodger plan {of} {plan}{alias}` again, or with another plan"),
                HookName::Suspend | HookName::Resume => {
                    format!("`lodger suspend {of}{alias}` or `lodger resume {of}{alias}` again")
                }
                HookName::Unprovision => format!("`lodger remove {of}{alias}` again"),
                _ => format!("`lodger remove {of}{alias}`, then add it again"),
            },
            ResourceState::Suspended => format!("`lodger resume {of}{alias}` gives it back"),
            ResourceState::Detached => format!("`lodger add {of}{alias}` attaches it again"),
            ResourceState::Active => format!("`lodger remove {of}{alias}` first"),
            ResourceState::Provisioning
            | ResourceState::Updating
            | ResourceState::Suspending
            | ResourceState::Resuming
            | ResourceState::Deprovisioning => "wait until it has ended".to_owned(),
        }
    }
}

/// What to add to an app.
#[derive(Clone, Debug)]
pub struct Add {
    pub app: Id,
    pub addon: AddonId,
    /// Tells several of one addon in one app apart, and gives their variables other names.
    pub alias: Option<Id>,
    /// One of the manifest's plans; when absent the first, or the one it has where it is there already.
    pub plan: Option<String>,
    pub options: BTreeMap<String, String>,
    /// Where a platform wants it: one of the manifest's regions. When absent the first of them.
    pub region: Option<String>,
}

/// The variables of an app, asked for afresh.
#[derive(Clone, Debug, Default)]
pub struct Env {
    pub variables: BTreeMap<String, String>,
    pub failures: Vec<EnvFailure>,
}

/// A hook that did not give its variables.
#[derive(Clone, Debug, Serialize)]
pub struct EnvFailure {
    pub addon: AddonId,
    pub hook: &'static str,
    pub message: String,
    /// The app is to do without: the hook's failure policy says so.
    pub failed_open: bool,
    #[serde(skip)]
    pub exit_code: u8,
}

impl Add {
    /// The addon's first plan, no options, no alias.
    pub fn new(app: Id, addon: AddonId) -> Add {
        Add { app, addon, alias: None, plan: None, options: BTreeMap::new(), region: None }
    }
}

impl Host {
    /// Adds an addon to an app: `provision` runs, and what it may have done is undone when it fails in any way but its own
    /// refusal.
    pub async fn add(&self, add: Add) -> Result<Done<Resource>> {
        let add = self.ask_adding(add).await?;
        let locked = self.lock(&add.addon).await?;
        self.add_locked(&locked, add).await
    }

    /// The same under the addon's lock, after all were asked who may decide about it.
    pub(crate) async fn add_locked(&self, locked: &Locked, add: Add) -> Result<Done<Resource>> {
        let row = self.check_add(locked, &add)?;
        if is_there(&row.state) {
            return Ok(Done::already(row.into()));
        }
        if row.state == ResourceState::Detached {
            self.services.resume(&locked.addon, &row.key).await?;
            let event = self.resource_event(APP_ATTACHED, &row);
            self.store.set_resource_state(&row.key, &ResourceState::Active, Some(&event))?;
            return Ok(Done::without_call(Resource { state: ResourceState::Active, ..row.into() }));
        }
        self.provision(locked, row).await
    }

    /// Provisions a resource that is new, or was not finished.
    pub(crate) async fn provision(&self, locked: &Locked, row: ResourceRow) -> Result<Done<Resource>> {
        let request = provision_request(&locked.addon, &row);
        let call = self.call_locked(locked, HookRequest::Provision(request), Some(row.clone())).await?;
        let done = Done::by(HookName::Provision, call, |_| ());
        let mut failed_open = Vec::new();
        match &done.outcome {
            Outcome::Completed(()) => {}
            // Its own refusal promises that there is nothing.
            Outcome::Refused(refused) if refused.code != crate::outcome::BAD_ANSWER => {}
            _ => {
                failed_open = self.unprovision(locked, &row, Reason::Undone).await?.failed_open;
            }
        }
        let now = self.find(&row.app, &row.addon, row.alias.as_ref())?;
        let outcome = match (done.outcome, now) {
            (Outcome::Completed(()), Some(row)) => Outcome::Completed(row.into()),
            (Outcome::Completed(()), None) => return Err(Error::TaskLost),
            (failed, _) => failed.map(|()| Resource::from(row)),
        };
        Ok(Done { outcome, changed: done.changed, call: done.call, failed_open })
    }

    /// Whether [`Host::add`] would change anything; does nothing.
    pub async fn would_add(&self, add: &Add) -> Result<bool> {
        let add = self.ask_adding(add.clone()).await?;
        let locked = self.lock(&add.addon).await?;
        Ok(!is_there(&self.check_add(&locked, &add)?.state))
    }

    /// The resource as it would be: the one already there, one to try again, or a new one.
    fn check_add(&self, locked: &Locked, add: &Add) -> Result<ResourceRow> {
        let addon = &locked.addon;
        self.permit(addon, &locked.state, HookName::Provision)?;
        check_options(&add.options)?;
        let plan = match (&add.plan, addon.manifest.plans.first()) {
            (None, first) => first.map(|plan| plan.name.clone()),
            (Some(asked), _) => Some(known_plan(addon, asked)?.name.clone()),
        };
        let of_app = self.store.resources_of_app(&add.app)?;
        let same = |row: &&ResourceRow| row.addon == addon.id && row.alias == add.alias;
        if let Some(mut there) = of_app.iter().find(same).cloned() {
            there.state = there.state.settled();
            return match there.state {
                _ if add.plan.is_some() && there.plan != plan => Err(with_other(addon, add, "plan")),
                _ if there.options != add.options => Err(with_other(addon, add, "options")),
                ResourceState::Active
                | ResourceState::Suspended
                | ResourceState::Detached
                | ResourceState::Interrupted(HookName::Provision) => Ok(there),
                _ => Err(in_state(there)),
            };
        }
        let row = ResourceRow {
            key: uuid::Uuid::new_v4().simple().to_string(),
            addon: addon.id.clone(),
            app: add.app.clone(),
            alias: add.alias.clone(),
            plan,
            options: add.options.clone(),
            region: add.region.clone(),
            variables: variables(&addon.grant, &add.app, add.alias.as_ref(), &of_app)?,
            state: ResourceState::Provisioning,
            guest_id: None,
            private: None,
            message: None,
            created_at: now_ms(),
        };
        Ok(row)
    }

    /// Removes an addon from an app: `unprovision` destroys the resource.
    pub async fn remove(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Done<()>> {
        let locked = self.lock(addon).await?;
        match self.find(app, addon, alias)? {
            Some(row) => self.unprovision(&locked, &row, Reason::Removed).await,
            None => Ok(Done::already(())),
        }
    }

    /// Takes an addon from an app and keeps the resource, for [`Host::add`] to attach again. The guest is not told: what it
    /// provisioned stays as it is.
    pub async fn detach(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Done<()>> {
        let _locked = self.lock(addon).await?;
        let Some(row) = self.find(app, addon, alias)? else { return Ok(Done::already(())) };
        match row.state {
            ResourceState::Detached => Ok(Done::already(())),
            ResourceState::Active => {
                self.services.end(addon, Some(&row.key), Wanted::Stopped).await?;
                let event = self.resource_event(APP_DETACHED, &row);
                self.store.set_resource_state(&row.key, &ResourceState::Detached, Some(&event))?;
                Ok(Done::without_call(()))
            }
            _ => Err(in_state(row)),
        }
    }

    /// Whether [`Host::remove`] would change anything; does nothing.
    pub async fn would_remove(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<bool> {
        let locked = self.lock(addon).await?;
        if self.find(app, addon, alias)?.is_none() {
            return Ok(false);
        }
        self.permit(&locked.addon, &locked.state, HookName::Unprovision).map(|()| true)
    }

    pub(crate) async fn unprovision(&self, locked: &Locked, row: &ResourceRow, reason: Reason) -> Result<Done<()>> {
        // What was handed out in an answer that was refused is not an id.
        let id = if reason == Reason::Undone { None } else { row.guest_id.clone() };
        let request = UnprovisionRequest { key: row.key.clone(), id, reason };
        let call = self.call_locked(locked, HookRequest::Unprovision(request), None).await?;
        Ok(Done::by_or_without(HookName::Unprovision, &row.addon, call))
    }

    fn resource_event(&self, kind: &str, row: &ResourceRow) -> Event {
        self.store.event(kind, Some(&row.addon.to_string()), &self.actor()).about(&row.key)
    }

    pub(crate) fn find(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Option<ResourceRow>> {
        let of_app = self.store.resources_of_app(app)?;
        Ok(of_app.into_iter().find(|row| row.addon == *addon && row.alias.as_ref() == alias))
    }

    /// The resource an app has of an addon: under the alias, or the only one.
    pub fn resource(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Resource> {
        let unknown = || Error::UnknownResource { app: app.clone(), addon: addon.clone(), alias: alias.cloned() };
        self.seen(self.only(app, addon, alias)?)?.ok_or_else(unknown)
    }

    /// The resource as it is shown; `None` where it went meanwhile.
    pub(crate) fn seen(&self, row: ResourceRow) -> Result<Option<Resource>> {
        if row.state == row.state.clone().settled() || self.is_at_work(&row.addon)? {
            return Ok(Some(row.into()));
        }
        // Whoever was at work may have ended between the two looks.
        let now = self.find(&row.app, &row.addon, row.alias.as_ref())?;
        Ok(now.map(|row| Resource { state: row.state.clone().settled(), ..row.into() }))
    }

    pub(crate) fn only(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<ResourceRow> {
        let mut rows = self.store.resources_of_app(app)?;
        rows.retain(|row| row.addon == *addon && (alias.is_none() || row.alias.as_ref() == alias));
        let unknown = || Error::UnknownResource { app: app.clone(), addon: addon.clone(), alias: alias.cloned() };
        if rows.len() > 1 && alias.is_none() {
            if let Some(plain) = rows.iter().position(|row| row.alias.is_none()) {
                return Ok(rows.swap_remove(plain));
            }
            let aliases = rows.iter().filter_map(|row| row.alias.as_ref()).map(ToString::to_string).collect();
            return Err(Error::AmbiguousResource { app: app.clone(), addon: addon.clone(), aliases });
        }
        rows.pop().ok_or_else(unknown)
    }

    pub(crate) fn reference(&self, row: &ResourceRow) -> Result<ResourceRef> {
        let (Some(id), Some(private), true) = (&row.guest_id, &row.private, row.state.gives_variables()) else {
            return Err(in_state(row.clone()));
        };
        let private = self.home.key.open(&resource_place(&row.key), private)?;
        Ok(ResourceRef { key: row.key.clone(), id: id.clone(), private })
    }

    /// What `hook` is asked with about a resource that is there, for [`Host::call`].
    ///
    /// The requests are those the host makes itself, so that a hook can be repeated: the WIT package demands that doing it
    /// twice does no harm, and authors' tests hold it to that. That of `change-plan` is about the plan it has.
    pub async fn request(&self, hook: HookName, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<HookRequest> {
        let row = self.only(app, addon, alias)?;
        Ok(match hook {
            HookName::Enable => HookRequest::Enable,
            HookName::Disable => HookRequest::Disable,
            HookName::Health => HookRequest::Health,
            // About no resource, or with a stream of the caller's: not what the host can repeat.
            HookName::Schedule
            | HookName::Upgrade
            | HookName::Usage
            | HookName::Dump
            | HookName::Restore
            | HookName::Before
            | HookName::After => {
                return Err(Error::HookMissing { addon: addon.clone(), hook: hook.name() });
            }
            HookName::Url => HookRequest::Url(self.reference(&row)?),
            HookName::ConfigVars => HookRequest::ConfigVars(self.reference(&row)?),
            HookName::Provision => {
                let (addon, _) = self.registry.get(self, addon).await?;
                HookRequest::Provision(provision_request(&addon, &row))
            }
            HookName::ChangePlan => {
                let (addon, _) = self.registry.get(self, addon).await?;
                let plan = known_plan(&addon, row.plan.as_ref().map(Id::as_str).unwrap_or_default())?;
                HookRequest::ChangePlan(self.change_plan_request(&addon, &row, plan)?)
            }
            HookName::Suspend | HookName::Resume => {
                let (addon, _) = self.registry.get(self, addon).await?;
                let of = self.resource_info(&addon, &row)?;
                if hook == HookName::Suspend { HookRequest::Suspend(of) } else { HookRequest::Resume(of) }
            }
            HookName::Unprovision => {
                HookRequest::Unprovision(UnprovisionRequest { key: row.key, id: row.guest_id, reason: Reason::Removed })
            }
        })
    }

    /// Asks the addon where the resource is reached.
    pub async fn url(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Outcome<String>> {
        let row = self.only(app, addon, alias)?;
        let call = self.call(addon, HookRequest::Url(self.reference(&row)?)).await?;
        Ok(call.outcome.map(|answer| match answer {
            Answer::Url(url) => url,
            _ => String::new(),
        }))
    }

    /// Asks the addon how much of the resource was used.
    pub async fn usage(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        during: Period,
    ) -> Result<Outcome<Vec<Figure>>> {
        let row = self.only(app, addon, alias)?;
        let call = self.call(addon, HookRequest::Usage(self.reference(&row)?, during)).await?;
        Ok(call.outcome.map(|answer| match answer {
            Answer::Used(figures) => figures,
            _ => Vec::new(),
        }))
    }

    /// Asks every addon of an app for its variables.
    ///
    /// # Errors
    /// [`Error::UnknownApp`]. A hook that fails is among the failures, and gives no variable.
    pub async fn env(&self, app: &Id) -> Result<Env> {
        let mut rows = self.store.resources_of_app(app)?;
        if rows.is_empty() {
            return Err(Error::UnknownApp(app.clone()));
        }
        rows.retain(|row| row.state != ResourceState::Detached);
        let mut env = Env::default();
        for row in &rows {
            self.ask(row, row.alias.as_ref(), &mut env).await;
        }
        Ok(env)
    }

    /// The variables of one resource.
    pub async fn config(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<Env> {
        let mut env = Env::default();
        let row = self.only(app, addon, alias)?;
        self.ask(&row, row.alias.as_ref(), &mut env).await;
        Ok(env)
    }

    /// The same under the names that the addon's manifest has for them.
    pub(crate) async fn config_unnamed(&self, row: &ResourceRow) -> Env {
        let mut env = Env::default();
        self.ask(row, None, &mut env).await;
        env
    }

    async fn ask(&self, row: &ResourceRow, alias: Option<&Id>, env: &mut Env) {
        let fail = |hook, message: String, exit_code| {
            let addon = row.addon.clone();
            EnvFailure { addon, hook, message, failed_open: false, exit_code }
        };
        let asked = async {
            let (addon, _) = self.registry.get(self, &row.addon).await?;
            Ok::<_, Error>((self.reference(row)?, addon))
        };
        let (resource, addon) = match asked.await {
            Ok(found) => found,
            Err(error) => return env.failures.push(fail("env", error.to_string(), error.exit_code())),
        };
        let in_app = |name: &str| env::name_in_app(name, &row.addon.name, alias);
        for hook in [HookName::Url, HookName::ConfigVars] {
            if !addon.grant.hooks.contains(&hook) {
                continue;
            }
            let request = match hook {
                HookName::Url => HookRequest::Url(resource.clone()),
                _ => HookRequest::ConfigVars(resource.clone()),
            };
            match self.call(&row.addon, request).await {
                Err(error) => {
                    let open = self.policy.failure.of(hook) == FailurePolicy::FailOpen;
                    let failed_open = open && matches!(error, Error::Quarantined { .. });
                    let failure = fail(hook.name(), error.to_string(), error.exit_code());
                    env.failures.push(EnvFailure { failed_open, ..failure });
                }
                Ok(call) => match call.outcome {
                    Outcome::Completed(Answer::Url(url)) => {
                        let first = addon.grant.config_vars.first().map(|name| in_app(name));
                        env.variables.extend(first.map(|name| (name, url)));
                    }
                    Outcome::Completed(Answer::ConfigVars(vars)) => {
                        env.variables.extend(vars.into_iter().map(|var| (in_app(&var.name), var.value)));
                    }
                    other => {
                        let failure = fail(hook.name(), other.to_string(), other.exit_code());
                        env.failures.push(EnvFailure { failed_open: call.failed_open, ..failure });
                    }
                },
            }
        }
    }
}

/// The names an addon's variables have in an app that has `others`, none of them taken.
pub(crate) fn variables(grant: &Grant, app: &Id, alias: Option<&Id>, others: &[ResourceRow]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in &grant.config_vars {
        let variable = env::name_in_app(name, &grant.id.name, alias);
        if let Some(alias) = alias.filter(|_| !env::is_allowed(&variable)) {
            return Err(Error::VariableForbidden { alias: alias.clone(), variable });
        }
        if let Some(holder) = others.iter().find(|other| other.variables.contains(&variable)) {
            return Err(Error::VariableTaken { app: app.clone(), variable, holder: holder.addon.clone() });
        }
        names.push(variable);
    }
    Ok(names)
}

pub(crate) fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    let too_many = options.len() > OPTIONS_MAX;
    let too_long = |(name, value): &(&String, &String)| name.len() > OPTION_NAME_MAX || value.len() > OPTION_VALUE_MAX;
    match options.iter().find(|option| too_many || too_long(option)) {
        Some((name, _)) => Err(Error::InvalidOption(name.clone())),
        None => Ok(()),
    }
}

/// Whether adding it again changes nothing.
fn is_there(state: &ResourceState) -> bool {
    matches!(state, ResourceState::Active | ResourceState::Suspended)
}

/// What is there was added with another plan, or other options.
fn with_other(addon: &Addon, add: &Add, what: &'static str) -> Error {
    let alias = add.alias.as_ref().map(|alias| format!(" --as {alias}")).unwrap_or_default();
    let of = format!("{} {}", add.app, addon.id);
    let hint = match &add.plan {
        Some(plan) if what == "plan" && addon.grant.hooks.contains(&HookName::ChangePlan) => {
            format!("`lodger plan {of} {plan}{alias}` changes its plan")
        }
        _ => format!("`lodger remove {of}{alias}` first, or add another with --as ALIAS"),
    };
    Error::AlreadyAdded { app: add.app.clone(), addon: addon.id.clone(), what, hint }
}

/// What is asked for cannot be in the state the resource is in.
pub(crate) fn in_state(row: ResourceRow) -> Error {
    let resource = Resource { state: row.state.clone().settled(), ..row.into() };
    let (hint, state) = (resource.way_on(), resource.state.to_string());
    Error::ResourceState { app: resource.app, addon: resource.addon, state, hint }
}

pub(crate) fn pairs(map: &BTreeMap<String, String>) -> Vec<Pair> {
    map.iter().map(|(name, value)| Pair { name: name.clone(), value: value.clone() }).collect()
}

pub(crate) fn provision_request(addon: &Addon, row: &ResourceRow) -> ProvisionRequest {
    let plan = row.plan.as_ref().and_then(|name| addon.manifest.plan(name));
    ProvisionRequest {
        key: row.key.clone(),
        app: row.app.to_string(),
        alias: row.alias.as_ref().map(ToString::to_string).unwrap_or_default(),
        plan: plan.map(|plan| plan.name.to_string()),
        plan_options: plan.map(|plan| pairs(&plan.options)).unwrap_or_default(),
        options: pairs(&row.options),
        region: row.region.clone().or_else(|| addon.manifest.provider.regions.first().cloned()),
        log_input: None,
    }
}

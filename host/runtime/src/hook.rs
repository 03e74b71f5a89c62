//! The hooks: their names, what they are asked, what they answer, and which answers are accepted.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bindings::{
    Candidate, ChangePlanRequest, Changed, ConfigVar, EventRecord, Figure, GuestError, HealthReport, Pair, Period,
    ProvisionRequest, Provisioned, ResourceInfo, ServiceRequest, UnprovisionRequest, Verdict,
};
use crate::env;
use crate::event::{OPTION, are_details};
use crate::registry::Hooks;
use crate::sandbox::Guest;
use crate::stream::{Inlet, Outlet};
use crate::text::is_plain;

/// One of our hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HookName {
    Enable,
    Disable,
    Provision,
    Unprovision,
    Url,
    ConfigVars,
    ChangePlan,
    Suspend,
    Resume,
    Usage,
    Dump,
    Restore,
    Health,
    Schedule,
    Upgrade,
    Before,
    After,
}

impl HookName {
    pub const ALL: [HookName; 17] = [
        HookName::Enable,
        HookName::Disable,
        HookName::Provision,
        HookName::Unprovision,
        HookName::Url,
        HookName::ConfigVars,
        HookName::ChangePlan,
        HookName::Suspend,
        HookName::Resume,
        HookName::Usage,
        HookName::Dump,
        HookName::Restore,
        HookName::Health,
        HookName::Schedule,
        HookName::Upgrade,
        HookName::Before,
        HookName::After,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            HookName::Enable => "enable",
            HookName::Disable => "disable",
            HookName::Provision => "provision",
            HookName::Unprovision => "unprovision",
            HookName::Url => "url",
            HookName::ConfigVars => "config-vars",
            HookName::ChangePlan => "change-plan",
            HookName::Suspend => "suspend",
            HookName::Resume => "resume",
            HookName::Usage => "usage",
            HookName::Dump => "dump",
            HookName::Restore => "restore",
            HookName::Health => "health",
            HookName::Schedule => "schedule",
            HookName::Upgrade => "upgrade",
            HookName::Before => "before",
            HookName::After => "after",
        }
    }

    pub fn from_name(name: &str) -> Option<HookName> {
        HookName::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// A mutating hook holds the addon's lock, writes `/data` and leaves a durable record; the others do none of it.
    pub const fn is_mutating(self) -> bool {
        match self {
            HookName::Enable
            | HookName::Disable
            | HookName::Provision
            | HookName::Unprovision
            | HookName::ChangePlan
            | HookName::Suspend
            | HookName::Resume
            | HookName::Restore
            | HookName::Upgrade
            | HookName::After => true,
            HookName::Url
            | HookName::ConfigVars
            | HookName::Usage
            | HookName::Dump
            | HookName::Health
            | HookName::Schedule
            | HookName::Before => false,
        }
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a hook is called with.
#[derive(Clone, Debug)]
pub enum HookRequest {
    Enable,
    Disable,
    Provision(ProvisionRequest),
    Unprovision(UnprovisionRequest),
    Url(ResourceRef),
    ConfigVars(ResourceRef),
    ChangePlan(ChangePlanRequest),
    Suspend(ResourceInfo),
    Resume(ResourceInfo),
    Usage(ResourceRef, Period),
    Dump(ResourceRef, Outlet),
    Restore(ResourceRef, Inlet),
    Health,
    /// Where services are to go, and which engines there are.
    Schedule(ServiceRequest, Vec<Candidate>),
    /// The version whose data is there. Only within [`Host::upgrade`](crate::Host::upgrade).
    Upgrade(semver::Version),
    /// What is about to happen, and the names of the details that may be changed. As [`Host::before`](crate::Host::before)
    /// and the verbs ask it.
    Before(EventRecord, Vec<String>),
    /// What has happened. Only as it is delivered.
    After(EventRecord),
}

/// A resource as its addon knows it.
#[derive(Clone, Debug)]
pub struct ResourceRef {
    /// Our key of it, for the record; the guest does not see it.
    pub key: String,
    pub id: String,
    pub private: String,
}

impl HookRequest {
    pub const fn hook(&self) -> HookName {
        match self {
            HookRequest::Enable => HookName::Enable,
            HookRequest::Disable => HookName::Disable,
            HookRequest::Provision(_) => HookName::Provision,
            HookRequest::Unprovision(_) => HookName::Unprovision,
            HookRequest::Url(_) => HookName::Url,
            HookRequest::ConfigVars(_) => HookName::ConfigVars,
            HookRequest::ChangePlan(_) => HookName::ChangePlan,
            HookRequest::Suspend(_) => HookName::Suspend,
            HookRequest::Resume(_) => HookName::Resume,
            HookRequest::Usage(..) => HookName::Usage,
            HookRequest::Dump(..) => HookName::Dump,
            HookRequest::Restore(..) => HookName::Restore,
            HookRequest::Health => HookName::Health,
            HookRequest::Schedule(..) => HookName::Schedule,
            HookRequest::Upgrade(_) => HookName::Upgrade,
            HookRequest::Before(..) => HookName::Before,
            HookRequest::After(_) => HookName::After,
        }
    }

    /// The key of the resource it is about; or the id of the event, by which calls that tell of it are known.
    pub fn key(&self) -> Option<&str> {
        match self {
            HookRequest::Provision(request) => Some(&request.key),
            HookRequest::Unprovision(request) => Some(&request.key),
            HookRequest::Url(resource)
            | HookRequest::ConfigVars(resource)
            | HookRequest::Usage(resource, _)
            | HookRequest::Dump(resource, _)
            | HookRequest::Restore(resource, _) => Some(&resource.key),
            HookRequest::ChangePlan(ChangePlanRequest { of, .. })
            | HookRequest::Suspend(of)
            | HookRequest::Resume(of) => Some(&of.key),
            HookRequest::After(event) => Some(&event.id),
            HookRequest::Enable
            | HookRequest::Disable
            | HookRequest::Health
            | HookRequest::Schedule(..)
            | HookRequest::Upgrade(_)
            | HookRequest::Before(..) => None,
        }
    }

    /// The private value that the guest is handed.
    pub(crate) fn private(&self) -> Option<&str> {
        match self {
            HookRequest::Url(resource)
            | HookRequest::ConfigVars(resource)
            | HookRequest::Usage(resource, _)
            | HookRequest::Dump(resource, _)
            | HookRequest::Restore(resource, _) => Some(&resource.private),
            HookRequest::ChangePlan(ChangePlanRequest { of, .. })
            | HookRequest::Suspend(of)
            | HookRequest::Resume(of) => Some(&of.private),
            HookRequest::Enable
            | HookRequest::Disable
            | HookRequest::Provision(_)
            | HookRequest::Unprovision(_)
            | HookRequest::Health
            | HookRequest::Schedule(..)
            | HookRequest::Upgrade(_)
            | HookRequest::Before(..)
            | HookRequest::After(_) => None,
        }
    }

    /// Bytes that went through its stream.
    pub(crate) fn stream_bytes(&self) -> u64 {
        match self {
            HookRequest::Dump(_, output) => output.written(),
            HookRequest::Restore(_, input) => input.taken(),
            _ => 0,
        }
    }

    /// Why its stream failed on the caller's side.
    pub(crate) fn broken_stream(&self) -> Option<String> {
        match self {
            HookRequest::Dump(_, output) => {
                output.failure().map(|why| format!("what was dumped cannot be written: {why}"))
            }
            HookRequest::Restore(_, input) => {
                input.failure().map(|why| format!("what is to be restored cannot be read: {why}"))
            }
            _ => None,
        }
    }
}

impl Hooks {
    /// Instantiates the component and calls the hook. The outer error is a trap, the inner one the guest's own refusal.
    pub(crate) async fn call(
        &self,
        store: &mut wasmtime::Store<Guest>,
        request: &HookRequest,
    ) -> wasmtime::Result<Result<Answer, GuestError>> {
        let missing = || wasmtime::format_err!("the component does not export `{}`", request.hook());
        Ok(match request {
            HookRequest::Enable => {
                let hooks = self.setup.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_setup().call_enable(store).await?.map(|()| Answer::Done)
            }
            HookRequest::Disable => {
                let hooks = self.setup.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_setup().call_disable(store).await?.map(|()| Answer::Done)
            }
            HookRequest::Provision(asked) => {
                let hooks = self.provider.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_provider().call_provision(store, asked).await?.map(Answer::Provisioned)
            }
            HookRequest::Unprovision(asked) => {
                let hooks = self.provider.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_provider().call_unprovision(store, asked).await?.map(|()| Answer::Done)
            }
            HookRequest::Url(of) => {
                let hooks = self.url.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_url().call_url(store, &of.id, &of.private).await?.map(Answer::Url)
            }
            HookRequest::ConfigVars(of) => {
                let hooks = self.config.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_config().call_config_vars(store, &of.id, &of.private).await?.map(Answer::ConfigVars)
            }
            HookRequest::ChangePlan(asked) => {
                let hooks = self.plans.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_plans().call_change_plan(store, asked).await?.map(Answer::Changed)
            }
            HookRequest::Suspend(of) => {
                let hooks = self.plans.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_plans().call_suspend(store, of).await?.map(Answer::Changed)
            }
            HookRequest::Resume(of) => {
                let hooks = self.plans.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_plans().call_resume(store, of).await?.map(Answer::Changed)
            }
            HookRequest::Usage(of, during) => {
                let hooks = self.usage.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                let usage = hooks.lodger_addon_usage();
                usage.call_usage(store, &of.id, &of.private, *during).await?.map(Answer::Used)
            }
            HookRequest::Dump(of, output) => {
                let hooks = self.backup.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                let to = store.data_mut().hold_output(output.clone())?;
                let dumped = hooks.lodger_addon_backup().call_dump(&mut *store, &of.id, &of.private, to).await?;
                if dumped.is_ok() {
                    output.finish().await;
                }
                dumped.map(|()| Answer::Done)
            }
            HookRequest::Restore(of, input) => {
                let hooks = self.backup.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                let from = store.data_mut().hold_input(input.clone())?;
                hooks.lodger_addon_backup().call_restore(store, &of.id, &of.private, from).await?.map(|()| Answer::Done)
            }
            HookRequest::Health => {
                let hooks = self.health.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_health().call_check(store).await?.map(Answer::Health)
            }
            HookRequest::Schedule(asked, candidates) => {
                let hooks = self.scheduler.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                let scheduler = hooks.lodger_addon_scheduler();
                scheduler.call_schedule(store, asked, candidates).await?.map(Answer::Placed)
            }
            HookRequest::Upgrade(from) => {
                let hooks = self.upgrade.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_upgrade().call_upgrade(store, &from.to_string()).await?.map(|()| Answer::Done)
            }
            HookRequest::Before(event, _) => {
                let hooks = self.events.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_events().call_before(store, event).await?.map(Answer::Decided)
            }
            HookRequest::After(event) => {
                let hooks = self.events.as_ref().ok_or_else(missing)?.instantiate_async(&mut *store).await?;
                hooks.lodger_addon_events().call_after(store, event).await?.map(|()| Answer::Done)
            }
        })
    }
}

/// What a hook that completed has answered. Its line for a person is escaped and redacted.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `enable`, `disable`, `unprovision`, `dump`, `restore`, `upgrade`, `after`.
    Done,
    Provisioned(Provisioned),
    Url(String),
    ConfigVars(Vec<ConfigVar>),
    /// `change-plan`, `suspend`, `resume`.
    Changed(Changed),
    /// `change-plan`, with another private value than before: of a provider elsewhere.
    Reconfigured(Changed, String),
    Used(Vec<Figure>),
    Health(HealthReport),
    /// The name of an engine.
    Placed(String),
    /// `before`.
    Decided(Verdict),
}

/// Longest guest id and private value, in bytes.
pub const ID_MAX: usize = 255;
pub const PRIVATE_MAX: usize = 4096;
/// Longest URL, in bytes.
pub const URL_MAX: usize = 4096;
/// Longest line a guest may say to a person, in bytes; longer ones are cut.
pub const MESSAGE_MAX: usize = 1024;
const VARS_MAX: usize = 64;
const FIGURES_MAX: usize = 256;
const FIGURE_NAME_MAX: usize = 64;
const VALUE_MAX: usize = 32_768;

impl Answer {
    /// Law 6: an answer is hostile until it has passed here. The error says which rule of the WIT package it broke.
    pub(crate) fn accept(&self, request: &HookRequest, allowed_vars: &[String]) -> Result<(), String> {
        match (self, request) {
            (Answer::Placed(engine), HookRequest::Schedule(_, candidates)) => accept_engine(engine, candidates),
            (Answer::Decided(Verdict::Change(details)), HookRequest::Before(_, changeable)) => {
                accept_details(details, changeable)
            }
            (Answer::Done | Answer::Changed(_) | Answer::Health(_) | Answer::Placed(_) | Answer::Decided(_), _) => {
                Ok(())
            }
            (Answer::Provisioned(made), _) => accept_provisioned(made),
            (Answer::Reconfigured(_, private), _) => accept_kept("change-plan", "private value", private, PRIVATE_MAX),
            (Answer::Url(url), _) => accept_url("url", url, &[]),
            (Answer::ConfigVars(vars), _) => accept_vars("config-vars", vars, allowed_vars),
            (Answer::Used(figures), _) => accept_figures(figures),
        }
    }

    /// The line it has for a person.
    pub(crate) fn message_mut(&mut self) -> Option<&mut String> {
        match self {
            Answer::Provisioned(made) => made.message.as_mut(),
            Answer::Changed(changed) | Answer::Reconfigured(changed, _) => changed.message.as_mut(),
            Answer::Health(report) => report.message.as_mut(),
            Answer::Decided(Verdict::Veto(reason)) => Some(reason),
            Answer::Done
            | Answer::Url(_)
            | Answer::ConfigVars(_)
            | Answer::Used(_)
            | Answer::Placed(_)
            | Answer::Decided(_) => None,
        }
    }
}

fn accept_engine(engine: &str, candidates: &[Candidate]) -> Result<(), String> {
    if candidates.iter().any(|candidate| candidate.engine == engine) {
        return Ok(());
    }
    Err(format!("schedule answered `{}`, which is not among the candidates", crate::text::shown(engine, 60)))
}

/// `option:` among the names stands for all that begin so.
fn accept_details(details: &[Pair], changeable: &[String]) -> Result<(), String> {
    if !are_details(details) {
        return Err("before changes more than 64 details, or to more than they hold".to_owned());
    }
    let may = |name: &str| {
        changeable.iter().any(|one| one == name || (one == OPTION && name.strip_prefix(OPTION).is_some_and(is_plain)))
    };
    let mut seen = BTreeSet::new();
    for pair in details {
        let name = crate::text::shown(&pair.name, 60);
        if !may(&pair.name) {
            return Err(format!("before changes `{name}`, which nobody may change"));
        }
        if !seen.insert(&pair.name) {
            return Err(format!("before changes `{name}` twice"));
        }
    }
    Ok(())
}

pub(crate) fn accept_provisioned(made: &Provisioned) -> Result<(), String> {
    if made.id.is_empty() {
        return Err("provision answered an empty id".to_owned());
    }
    accept_kept("provision", "id", &made.id, ID_MAX)?;
    accept_kept("provision", "private value", &made.private, PRIVATE_MAX)?;
    match &made.log_drain_url {
        Some(url) => accept_url("log-drain-url", url, &["https://", "syslog://", "syslog+tls://"]),
        None => Ok(()),
    }
}

fn accept_kept(hook: &str, what: &str, value: &str, most: usize) -> Result<(), String> {
    if value.len() > most {
        return Err(format!("{hook} answered {what} of {} bytes; at most {most}", value.len()));
    }
    if value.contains(':') || !is_plain(value) {
        return Err(format!("{hook} answered {what} with a colon, control or formatting character"));
    }
    Ok(())
}

fn accept_url(what: &str, url: &str, schemes: &[&str]) -> Result<(), String> {
    if url.is_empty() || url.len() > URL_MAX {
        return Err(format!("{what} is {} bytes; 1 to {URL_MAX} are taken", url.len()));
    }
    if !is_plain(url) {
        return Err(format!("{what} holds a control or formatting character"));
    }
    if !schemes.is_empty() && !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!("{what} does not start with {}", schemes.join(" or ")));
    }
    Ok(())
}

fn accept_figures(figures: &[Figure]) -> Result<(), String> {
    if figures.len() > FIGURES_MAX {
        return Err(format!("usage answered {} figures; at most {FIGURES_MAX}", figures.len()));
    }
    let is_name = |name: &str| {
        name.len() <= FIGURE_NAME_MAX
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let mut seen = BTreeSet::new();
    for Figure { what, part, amount } in figures {
        let shown = crate::text::shown(what, 60);
        if !is_name(what) || part.is_empty() || part.len() > ID_MAX || !is_plain(part) {
            return Err(format!("usage answered `{shown}`, which is not named as figures and their parts are"));
        }
        if !(amount.is_finite() && *amount >= 0.0) {
            return Err(format!("usage answered `{shown}` as {amount}"));
        }
        if !seen.insert((what, part)) {
            return Err(format!("usage answered `{shown}` of one part twice"));
        }
    }
    Ok(())
}

pub(crate) fn accept_vars(what: &str, vars: &[ConfigVar], allowed: &[String]) -> Result<(), String> {
    if vars.len() > VARS_MAX {
        return Err(format!("{what} answered {} variables; at most {VARS_MAX}", vars.len()));
    }
    let mut seen = BTreeSet::new();
    for var in vars {
        let name = crate::text::shown(&var.name, 60);
        if !env::is_allowed(&var.name) {
            return Err(format!("{what} answered `{name}`, a name never given to an app"));
        }
        if !allowed.contains(&var.name) {
            return Err(format!(
                "{what} answered `{name}`, which is not among those it may fill: {}",
                allowed.join(", ")
            ));
        }
        if var.value.len() > VALUE_MAX || var.value.contains('\0') {
            return Err(format!("{what} answered `{name}` with NUL or over {VALUE_MAX} bytes"));
        }
        if !seen.insert(&var.name) {
            return Err(format!("{what} answered `{name}` twice"));
        }
    }
    Ok(())
}

//! Addons: what is installed, what it may, what it has done; and the verbs on it.

use std::collections::BTreeMap;

use axum::extract::State;
use lodger::{AddonId, CallRow, Error, Grant, Host, Incoming, Moved, Repair, Settings, Uninstalled, VersionNow};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Answer, Page, WhichPage, made, ok};
use crate::body::{Archive, Asked, Json, OfAddon, OfService};
use crate::gate::Caller;
use crate::problem::Problem;
use crate::shared::App;

/// Calls whose logs are on one page: each may have said much.
const LOGS_MAX: u32 = 100;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The digest of the grant that is accepted.
    accept_grant: Option<String>,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Force {
    force: bool,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepData {
    keep_data: bool,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    retry: bool,
}

impl Accept {
    fn is_of(&self, host: &Host, grant: &Grant) -> bool {
        self.accept_grant.as_ref() == Some(&grant.digest) || host.policy().preapproved.contains(&grant.digest)
    }
}

pub async fn list(State(app): State<App>, caller: Caller) -> Answer {
    ok(&app.look(&caller, async |host| Ok(host.addons()?)).await?)
}

pub async fn details(State(app): State<App>, caller: Caller, OfAddon(id): OfAddon) -> Answer {
    ok(&app.look(&caller, async move |host| Ok(host.details(&id).await?)).await?)
}

pub async fn grant(State(app): State<App>, caller: Caller, OfAddon(id): OfAddon) -> Answer {
    ok(&app.look(&caller, async move |host| Ok(host.explain(&id).await?)).await?)
}

pub async fn calls(State(app): State<App>, caller: Caller, OfAddon(id): OfAddon, page: Asked<WhichPage>) -> Answer {
    page_of_calls(&app, &caller, Some(id), page.0).await
}

pub async fn all_calls(State(app): State<App>, caller: Caller, page: Asked<WhichPage>) -> Answer {
    page_of_calls(&app, &caller, None, page.0).await
}

/// The newest first. A page that is not full is the last.
async fn page_of_calls(app: &App, caller: &Caller, id: Option<AddonId>, which: WhichPage) -> Answer {
    let limit = which.limit();
    let items = app
        .look(caller, async move |host| {
            if let Some(id) = &id {
                host.addon(id)?;
            }
            Ok(match &which.cursor {
                Some(before) => host.calls_before(id.as_ref(), before, limit)?,
                None => host.calls(id.as_ref(), limit)?,
            })
        })
        .await?;
    let next = (items.len() == limit as usize).then(|| items.last().map(|call: &CallRow| call.id.clone())).flatten();
    ok(&Page { items, next })
}

/// The oldest first, a line each; a page is of so many calls. `next` is there as long as anything came, so that new lines
/// can be asked for.
pub async fn logs(State(app): State<App>, caller: Caller, OfAddon(id): OfAddon, page: Asked<WhichPage>) -> Answer {
    let (items, next) = app
        .look(&caller, async move |host| {
            host.addon(&id)?;
            Ok(host.log_lines(&id, page.0.cursor.as_deref().unwrap_or_default(), page.0.limit().min(LOGS_MAX))?)
        })
        .await?;
    ok(&Page { items, next })
}

pub async fn service_logs(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    OfService(service): OfService,
) -> Answer {
    ok(&app.look(&caller, async move |host| Ok(host.service_logs(&id, &service).await?)).await?)
}

pub async fn doctor(State(app): State<App>, caller: Caller) -> Answer {
    ok(&app.look(&caller, async |host| Ok(host.doctor().await?)).await?)
}

/// Only with a grant that somebody has accepted: the policy, or whoever asks by its digest (threat 6).
pub async fn install(
    State(app): State<App>,
    caller: Caller,
    Asked(accept): Asked<Accept>,
    Archive(packed): Archive,
) -> Answer {
    let installed = app
        .change(&caller, async move |host| {
            let incoming = host.inspect_archive(&packed).await?;
            drop(packed);
            let would = host.would_install(std::slice::from_ref(&incoming), false).await?;
            if would.contains(&true) && !accept.is_of(&host, &incoming.grant) {
                return Err(Problem::not_accepted(&Error::GrantNotAccepted, &incoming.grant));
            }
            Ok(host.install(incoming, false).await?)
        })
        .await?;
    made(installed.changed, &installed)
}

pub async fn uninstall(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Json(KeepData { keep_data }): Json<KeepData>,
) -> Answer {
    let uninstalled = app.change(&caller, async move |host| {
        host.uninstall(&id, keep_data).await?;
        Ok(Uninstalled { id, changed: true, kept_data: keep_data })
    });
    ok(&uninstalled.await?)
}

/// With what it needs, as on the command line.
pub async fn enable(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Json(Nothing {}): Json<Nothing>,
) -> Answer {
    let moved = app.change(&caller, async move |host| {
        let mut first = Vec::new();
        let step = host.enable_with_needs(&id, |step| first.push(step.addon.clone())).await?;
        let changed = step.done.changed;
        step.done.completed(&step.addon)?;
        Ok(Moved { enabled_first: first, ..host.moved(&id, changed)? })
    });
    ok(&moved.await?)
}

/// With `force` also those that need it, taken from the apps that use them.
pub async fn disable(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Json(Force { force }): Json<Force>,
) -> Answer {
    let moved = app.change(&caller, async move |host| {
        let (mut first, mut failed_open) = (Vec::new(), Vec::new());
        let (of, done) = if force {
            let step = host
                .disable_with_dependents(&id, |step| {
                    first.push(step.addon.clone());
                    failed_open.extend_from_slice(&step.done.failed_open);
                })
                .await?;
            (step.addon, step.done)
        } else {
            (id.clone(), host.disable(&id, false).await?)
        };
        failed_open.extend_from_slice(&done.failed_open);
        let changed = done.changed;
        done.completed(&of)?;
        Ok(Moved { disabled_first: first, failed_open, ..host.moved(&id, changed)? })
    });
    ok(&moved.await?)
}

pub async fn upgrade(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Asked(accept): Asked<Accept>,
    Archive(packed): Archive,
) -> Answer {
    let upgraded = app.change(&caller, async move |host| {
        let incoming = host.inspect_archive(&packed).await?;
        drop(packed);
        let (plan, changes) = host.would_upgrade(&id, &incoming).await?;
        if changes && !plan.widens.is_empty() && !accept.is_of(&host, &incoming.grant) {
            return Err(widens(&id, &incoming));
        }
        let done = host.upgrade(&id, incoming).await?;
        let changed = done.changed;
        done.completed(&id)?;
        let state = host.now(&id)?.map(|info| info.state);
        Ok(VersionNow { id, from: plan.from, to: plan.to, state, changed })
    });
    ok(&upgraded.await?)
}

fn widens(id: &AddonId, incoming: &Incoming) -> Problem {
    let error = Error::GrantWidens { addon: id.clone(), digest: incoming.grant.digest.clone() };
    Problem::not_accepted(&error, &incoming.grant)
}

pub async fn rollback(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Json(Force { force }): Json<Force>,
) -> Answer {
    let back = app.change(&caller, async move |host| {
        let plan = host.would_rollback(&id, force).await?;
        host.rollback(&id, force).await?.completed(&id)?;
        let state = host.now(&id)?.map(|info| info.state);
        Ok(VersionNow { id, from: plan.from, to: plan.to, state, changed: true })
    });
    ok(&back.await?)
}

/// Names and values; `null` goes back to the default. The first that is refused ends it.
pub async fn set(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Json(settings): Json<BTreeMap<String, Option<String>>>,
) -> Answer {
    let set = app.change(&caller, async move |host| {
        for (name, value) in &settings {
            host.would_set(&id, name, value.as_deref()).await?;
        }
        let mut changed = Vec::new();
        for (name, value) in settings {
            if host.set(&id, &name, value).await? {
                changed.push(name);
            }
        }
        Ok(Settings { id, changed, dry_run: false })
    });
    ok(&set.await?)
}

pub async fn reconcile(
    State(app): State<App>,
    caller: Caller,
    OfAddon(id): OfAddon,
    Json(Retry { retry }): Json<Retry>,
) -> Answer {
    let repairs = app.change(&caller, async move |host| {
        host.addon(&id)?;
        if retry {
            host.retry_services(&id).await?;
        }
        mended(&host, Some(&id)).await
    });
    ok(&repairs.await?)
}

pub async fn reconcile_all(State(app): State<App>, caller: Caller, Json(Nothing {}): Json<Nothing>) -> Answer {
    ok(&app.change(&caller, async |host| mended(&host, None).await).await?)
}

async fn mended(host: &Host, only: Option<&AddonId>) -> Result<Vec<Repair>, Problem> {
    // What could not be measured is told after what could be mended was.
    let measured = host.measure_disks(only).await;
    let repairs = host.reconcile(only).await?;
    measured?;
    Ok(repairs)
}

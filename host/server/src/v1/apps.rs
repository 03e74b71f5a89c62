//! Apps: what each has, its variables, and the verbs on it.

use std::collections::BTreeMap;

use axum::extract::State;
use lodger::{Add, HookFailed, Id, Outcome, Removed};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::operations::Kept;
use super::{Answer, made, ok};
use crate::body::{Asked, Json, OfAddon, OfApp};
use crate::gate::Caller;
use crate::shared::App;

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToAdd {
    alias: Option<Id>,
    plan: Option<String>,
    /// 32 of them, names of 128 bytes, values of 4096, at most.
    options: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToRemove {
    alias: Option<Id>,
    keep_data: bool,
}

/// Which of several, where the app has the addon more than once.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    pub alias: Option<Id>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToPlan {
    plan: String,
    #[serde(default)]
    alias: Option<Id>,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Partial {
    partial: bool,
}

#[derive(Serialize, ToSchema)]
pub struct Url {
    url: String,
}

pub async fn list(State(app): State<App>, caller: Caller) -> Answer {
    ok(&app.look(&caller, async |host| Ok(host.apps()?)).await?)
}

pub async fn resources(State(app): State<App>, OfApp(name): OfApp) -> Answer {
    ok(&app.host.app(&name)?)
}

pub async fn env(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    Asked(Partial { partial }): Asked<Partial>,
) -> Answer {
    ok(&app.look(&caller, async move |host| Ok(host.env(&name).await?.whole(&name, partial)?)).await?)
}

pub async fn url(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Asked(Which { alias }): Asked<Which>,
) -> Answer {
    let url = app.look(&caller, async move |host| match host.url(&name, &addon, alias.as_ref()).await? {
        Outcome::Completed(url) => Ok(url),
        other => Err(HookFailed::of(&addon, "url", &other).into()),
    });
    ok(&Url { url: url.await? })
}

pub async fn add(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Json(ToAdd { alias, plan, options }): Json<ToAdd>,
) -> Answer {
    let added = app.change(&caller, async move |host| {
        let done = host.add(Add { alias, plan, options, ..Add::new(name, addon.clone()) }).await?;
        let created = done.changed;
        // Hooks that gave no value are in the record of calls.
        Ok(host.added(done.completed(&addon)?, created).await?.0)
    });
    let added = added.await?;
    // What the app is to keep in confidence is not for the record.
    let mut kept = json!(added);
    if let Some(kept) = kept.as_object_mut() {
        kept.remove("config");
    }
    let mut answer = made(added.created, &added)?;
    answer.extensions_mut().insert(Kept(kept));
    Ok(answer)
}

pub async fn remove(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Json(ToRemove { alias, keep_data }): Json<ToRemove>,
) -> Answer {
    let removed = app.change(&caller, async move |host| {
        let done = if keep_data {
            host.detach(&name, &addon, alias.as_ref()).await?
        } else {
            host.remove(&name, &addon, alias.as_ref()).await?
        };
        let (changed, failed_open) = (done.changed, done.failed_open.clone());
        done.completed(&addon)?;
        Ok(Removed { app: name, addon, alias, changed, failed_open, kept_data: keep_data })
    });
    ok(&removed.await?)
}

pub async fn plan(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Json(ToPlan { plan, alias }): Json<ToPlan>,
) -> Answer {
    let now = app.change(&caller, async move |host| {
        let done = host.change_plan(&name, &addon, alias.as_ref(), &plan).await?;
        Ok(done.stays(&host, &name, &addon, alias.as_ref())?)
    });
    ok(&now.await?)
}

pub async fn suspend(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Json(Which { alias }): Json<Which>,
) -> Answer {
    let now = app.change(&caller, async move |host| {
        let done = host.suspend(&name, &addon, alias.as_ref()).await?;
        Ok(done.stays(&host, &name, &addon, alias.as_ref())?)
    });
    ok(&now.await?)
}

pub async fn resume(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Json(Which { alias }): Json<Which>,
) -> Answer {
    let now = app.change(&caller, async move |host| {
        let done = host.resume(&name, &addon, alias.as_ref()).await?;
        Ok(done.stays(&host, &name, &addon, alias.as_ref())?)
    });
    ok(&now.await?)
}

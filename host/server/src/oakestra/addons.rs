//! The addons manager: what of the marketplace is installed here, and how it is.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use lodger::{Error, Installation, Standing};
use serde_json::{Map, Value, json};

use super::{Asks, OfId, schema};
use crate::body::given;
use crate::gate::Caller;
use crate::problem::Problem;
use crate::shared::App;
use crate::v1::{Answer, json};

/// With this `status`, or all. Other questions are nobody's.
pub async fn list(State(app): State<App>, caller: Caller, Asks(asked): Asks) -> Answer {
    let mut installations = app.look(&caller, async |host| Ok(host.installations()?)).await?;
    if let Some(status) = asked.get("status") {
        installations.retain(|installation| installation.standing.name() == status);
    }
    json(StatusCode::OK, &installations.into_iter().map(shown).collect::<Vec<_>>())
}

pub async fn one(State(app): State<App>, caller: Caller, OfId(id): OfId) -> Answer {
    json(StatusCode::OK, &shown(app.look(&caller, async move |host| Ok(host.installation(&id)?)).await?))
}

/// `{"marketplace_id": …}`; with `"grant": "sha256:…"` where its grant is not preapproved.
pub async fn install(State(app): State<App>, caller: Caller, request: Request) -> Answer {
    let mut asked = super::json_or_nothing(given(request.headers()), request).await?;
    schema::to_install(&mut asked).map_err(Problem::of_fields)?;
    let text = |name: &str| asked.get(name).and_then(Value::as_str).map(str::to_owned);
    // Who needs no token decides about no grant.
    let named = text("grant").filter(|_| !caller.is_anybody);
    let entry = text("marketplace_id").unwrap_or_default();
    let by = caller.actor();
    let installed = app.change(&caller, async move |host| {
        let accepts = |grant: &lodger::Grant| {
            named.as_ref() == Some(&grant.digest) || host.policy().preapproved.contains(&grant.digest)
        };
        match host.ask_to_install(&entry, accepts, &by).await? {
            Ok(installation) => Ok(installation),
            Err(grant) => Err(Problem::not_accepted_here(&Error::GrantNotAccepted, &grant)),
        }
    });
    json(StatusCode::CREATED, &shown(installed.await?))
}

/// `{"status": …}`: only transitions that somebody may ask for. What else is in it is nobody's to set.
pub async fn patch(State(app): State<App>, caller: Caller, OfId(id): OfId, request: Request) -> Answer {
    let asked = super::json_or_nothing(given(request.headers()), request).await?;
    let mut of = match &asked {
        Value::Object(asked) => {
            json!(asked.get("status").map(|status| ("status", status)).into_iter().collect::<BTreeMap<_, _>>())
        }
        other => other.clone(),
    };
    schema::to_move(&mut of).map_err(Problem::of_fields)?;
    let status = of.get("status").and_then(Value::as_str).unwrap_or_default();
    let wanted = Standing::ALL.into_iter().find(|standing| status == standing.name()).ok_or_else(|| {
        let known = Standing::ALL.map(Standing::name).join(", ");
        Problem::of_fields(json!({ "status": [format!("Must be one of: {known}.")] }))
    })?;
    let moved = app.change(&caller, async move |host| Ok(host.ask_to_be(&id, wanted).await?));
    json(StatusCode::OK, &shown(moved.await?))
}

/// What is not disabled is disabled first.
pub async fn delete(State(app): State<App>, caller: Caller, OfId(id): OfId) -> Answer {
    let removed = app.change(&caller, async move |host| Ok(host.remove_installation(&id).await?));
    match removed.await? {
        Some(installation) => json(StatusCode::OK, &shown(installation)),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// As Oakestra shows it, with what it is here.
fn shown(installation: Installation) -> Map<String, Value> {
    let Installation { id, entry, addon, version, digest, grant, manifest, standing, failure, failed_services, .. } =
        installation;
    let mut shown = manifest;
    schema::with_defaults(&mut shown);
    shown.entry("description").or_insert_with(|| json!(""));
    let names: Vec<String> = failed_services.keys().map(ToString::to_string).collect();
    let logs = failed_services.iter().filter(|(_, log)| !log.is_empty());
    let logs: Vec<String> = logs.map(|(service, log)| format!("Logs for container '{service}':\n{log}")).collect();
    let mut details = Map::new();
    if !names.is_empty() {
        details.insert("failed_services".to_owned(), json!(names));
    }
    if let Some(failure) = failure {
        let name = if failure.waits { "waits_for" } else { "failure" };
        let hint = failure.hint.map(|hint| json!({ "hint": hint }));
        let mut told = json!({ "code": failure.code, "message": failure.message });
        if let (Some(told), Some(Value::Object(hint))) = (told.as_object_mut(), hint) {
            told.extend(hint);
        }
        details.insert(name.to_owned(), told);
    }
    let ours = json!({
        "_id": id,
        "marketplace_id": entry,
        "status": standing.name(),
        "status_details": details,
        "logs": logs.join("\n----------------\n"),
        "namespace": addon.namespace,
        "addon": addon,
        "version": version.to_string(),
        "digest": digest,
        "grant": grant,
    });
    if let Value::Object(ours) = ours {
        shown.extend(ours);
    }
    shown
}

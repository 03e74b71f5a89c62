//! The marketplace: what is published, and publishing.

use std::io::Read as _;

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream::try_unfold;
use lodger::{Entry, Published, Submission};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;

use super::{Asks, OfId, schema};
use crate::body::{Archive, Given, PACKAGE, given, plain};
use crate::gate::Caller;
use crate::problem::{Problem, Refusal};
use crate::shared::App;
use crate::v1::{Answer, json};

/// What is read of an archive at once.
const CHUNK: usize = 64 << 10;

/// Only what is approved: with this `name`, or with `search` in its names or its description. Other questions are nobody's.
pub async fn list(State(app): State<App>, caller: Caller, Asks(asked): Asks) -> Answer {
    let search = asked.get("search").cloned().unwrap_or_default();
    let mut entries = app.look(&caller, async move |host| Ok(host.published(&search)?)).await?;
    if let Some(name) = asked.get("name") {
        entries.retain(|entry| entry.manifest.get("name").and_then(Value::as_str) == Some(name));
    }
    json(StatusCode::OK, &entries.into_iter().map(shown).collect::<Vec<_>>())
}

/// Whatever its status.
pub async fn one(State(app): State<App>, caller: Caller, OfId(id): OfId) -> Answer {
    json(StatusCode::OK, &shown(app.look(&caller, async move |host| Ok(host.entry(&id)?)).await?))
}

/// What is approved, as an archive: for whoever installs it elsewhere. One whose manifest has values that are not shown is only
/// for those who manage this marketplace, since they are in it.
pub async fn package(State(app): State<App>, caller: Caller, OfId(id): OfId) -> Answer {
    let manages = caller.manages();
    let package = app.look(&caller, async move |host| match host.published_package(&id)? {
        Published { hides: true, .. } if !manages => Err(Refusal::OtherScope.into()),
        Published { archive, .. } => Ok(archive),
    });
    let body = try_unfold(package.await?, async |mut archive| {
        let (archive, chunk) = spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = archive.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            (archive, read.map(|_| Bytes::from(chunk)))
        })
        .await?;
        let chunk = chunk?;
        Ok::<_, std::io::Error>((!chunk.is_empty()).then_some((chunk, archive)))
    });
    Ok(plain(PACKAGE, Body::from_stream(body)))
}

/// A descriptor, or a package by its content type.
pub async fn publish(State(app): State<App>, caller: Caller, request: Request) -> Answer {
    let entry = match given(request.headers()) {
        Given::Package => {
            let Archive(packed) = Archive::from_request(request, &app).await?;
            let asks = caller.clone();
            app.change(&caller, async move |host| {
                let submission = host.packed_submission(&packed)?;
                drop(packed);
                asks.may_publish(&submission)?;
                Ok(host.publish(submission, &asks.actor())?)
            })
            .await?
        }
        given => {
            let mut descriptor = super::json_or_nothing(given, request).await?;
            schema::descriptor(&mut descriptor).map_err(Problem::of_fields)?;
            let submission = Submission::descriptor(descriptor.to_string().as_bytes())?;
            caller.may_publish(&submission)?;
            let by = caller.actor();
            app.change(&caller, async move |host| Ok(host.publish(submission, &by)?)).await?
        }
    };
    json(StatusCode::CREATED, &shown(entry))
}

pub async fn delete(State(app): State<App>, caller: Caller, OfId(id): OfId) -> Answer {
    let asks = caller.clone();
    let deleted = app.change(&caller, async move |host| {
        let entry = host.entry(&id)?;
        if !asks.publishes(&entry.addon.namespace) {
            return Err(Refusal::OtherScope.into());
        }
        Ok(host.unpublish(&id)?)
    });
    deleted.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// As Oakestra shows it, with what it is here.
fn shown(entry: Entry) -> Map<String, Value> {
    let Entry { id, addon, version, digest, status, review, manifest, published_at } = entry;
    let mut shown = manifest;
    schema::with_defaults(&mut shown);
    let ours = json!({
        "_id": id,
        "status": status.name(),
        "namespace": addon.namespace,
        "addon": addon,
        "version": version.to_string(),
        "digest": digest,
        "published_at": published_at,
        "verification": review,
    });
    if let Value::Object(ours) = ours {
        shown.extend(ours);
    }
    shown
}

impl Caller {
    fn may_publish(&self, submission: &Submission) -> Result<(), Problem> {
        if self.publishes(&submission.addon.namespace) { Ok(()) } else { Err(Refusal::OtherScope.into()) }
    }
}

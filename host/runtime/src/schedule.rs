//! The scheduler: on which engine services go, where the policy names several.
//!
//! What is recorded stays where it is. What may meet stays together, since networks and volumes are an engine's own: the
//! instances of one resource, and all with those that the addon has for all apps. The rest goes where most is free, as the
//! store has it recorded, unless a plugin fills the slot `scheduler`. Only the host can call a plugin, so it is asked before
//! the hook is entered that may start services ([`Host::placement`]), and its answer goes with that call; whatever it has
//! not decided, the built-in decides when a service is started ([`Services::place`]).

use std::time::Duration;

use crate::bindings::{Candidate, Pair, ServiceRequest, ServiceToPlace};
use crate::engine::{About, Failure, Fault};
use crate::error::{Error, Result};
use crate::hook::{Answer, HookRequest};
use crate::host::Host;
use crate::id::AddonId;
use crate::manifest::StartMode;
use crate::outcome::Outcome;
use crate::policy::EngineAt;
use crate::registry::Addon;
use crate::services::Services;
use crate::slot::SCHEDULER;
use crate::store::{Load, Wanted};

/// How long an engine may take to say how much it has.
const ANSWERS: Duration = Duration::from_secs(5);

impl Host {
    /// The engine that the plugin in the slot chooses for what may be started of `addon`: for one resource, or with an empty
    /// key for all apps. `None` where there is nothing to choose, and where it fails: then the built-in decides.
    pub(crate) async fn placement(&self, addon: &Addon, resource: &str) -> Option<String> {
        self.ask_plugin(addon, resource).await.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(addon = addon.name, error, "the scheduler in the slot cannot be asked");
            None
        })
    }

    /// The same for what a hook may start itself.
    pub(crate) async fn chosen_for(&self, addon: &Addon, request: &HookRequest) -> Option<String> {
        match request {
            _ if !addon.manifest.may_use_services => None,
            HookRequest::Enable => self.placement(addon, "").await,
            HookRequest::Provision(_) | HookRequest::ChangePlan(_) | HookRequest::Resume(_) => {
                self.placement(addon, request.key().unwrap_or_default()).await
            }
            // Hooks that clear up start nothing, as a rule: where one does, the built-in decides.
            _ => None,
        }
    }

    async fn ask_plugin(&self, addon: &Addon, resource: &str) -> Result<Option<String>> {
        let services = to_place(addon, resource);
        if services.is_empty() || self.services.engines.only().is_some() {
            return Ok(None);
        }
        // Its own services are not placed by itself: it could not be asked without them.
        let Some(plugin) = self.filler(SCHEDULER)?.filter(|plugin| *plugin != addon.id) else { return Ok(None) };
        if self.services.companion(&addon.id, resource)?.is_some() {
            return Ok(None);
        }
        let key = Some(resource.to_owned()).filter(|key| !key.is_empty());
        let asked = ServiceRequest { addon: addon.name.clone(), key, services };
        let candidates = self.services.candidates().await?;
        let call = self.call_reading(&plugin, HookRequest::Schedule(asked, candidates)).await?;
        Ok(match call.outcome {
            Outcome::Completed(Answer::Placed(engine)) => Some(engine),
            // It is in the record of calls; `doctor` tells of the last.
            _ => None,
        })
    }
}

/// The services that may be started for a resource, or with an empty key for all apps.
fn to_place(addon: &Addon, resource: &str) -> Vec<ServiceToPlace> {
    let elsewhere = if resource.is_empty() { StartMode::Provision } else { StartMode::Enable };
    let granted = addon.grant.services.iter().filter(|service| service.start != elsewhere);
    let service = granted.map(|service| ServiceToPlace {
        name: service.service.to_string(),
        image: service.image.clone(),
        memory_bytes: service.memory_bytes,
        millicpus: service.millicpus,
        ports: service.ports.clone(),
    });
    service.collect()
}

impl Services {
    /// The engine for an instance that is not recorded yet: `chosen`, unless something decides that it must be another.
    pub async fn place(&self, addon: &AddonId, resource: &str, chosen: Option<&str>) -> Result<String> {
        if let Some(engine) = self.companion(addon, resource)? {
            return Ok(engine);
        }
        match chosen {
            Some(engine) => Ok(engine.to_owned()),
            None => self.roomiest().await,
        }
    }

    /// The built-in scheduler. With one engine nothing is asked.
    pub async fn roomiest(&self) -> Result<String> {
        match self.engines.only() {
            Some(only) => Ok(only),
            None => spread(&self.candidates().await?).ok_or_else(|| unknown("local")),
        }
    }

    /// Where those are recorded that an instance may meet.
    fn companion(&self, addon: &AddonId, resource: &str) -> Result<Option<String>> {
        let mut rows = self.store.instances(addon)?;
        rows.retain(|row| row.wanted != Wanted::Gone);
        let of = |key: &str| rows.iter().find(|row| row.instance.resource == key);
        Ok(of(resource).or_else(|| of("")).map(|row| row.engine.clone()))
    }

    /// The engines that answer, and what is free on them.
    ///
    /// # Errors
    /// When none answers.
    async fn candidates(&self) -> Result<Vec<Candidate>> {
        let loads = self.store.loads()?;
        let asked = self.engines.all().iter().map(async |at| (at, self.about_of(at).await));
        let (mut candidates, mut failed) = (Vec::new(), None);
        for (at, about) in futures_util::future::join_all(asked).await {
            match about {
                Ok(about) => {
                    let load = loads.get(at.name.as_str()).copied().unwrap_or_default();
                    candidates.push(candidate(at, &about, load));
                }
                Err(error) => {
                    let told = &error as &dyn std::error::Error;
                    tracing::warn!(engine = at.name.as_str(), error = told, "no service is placed on this engine");
                    failed = failed.or(Some(error));
                }
            }
        }
        if candidates.is_empty() { Err(failed.unwrap_or_else(|| unknown("local"))) } else { Ok(candidates) }
    }

    async fn about_of(&self, at: &EngineAt) -> Result<About> {
        let engine = self.engines.get(at.name.as_str())?;
        let about = tokio::time::timeout(ANSWERS, engine.about()).await;
        let late = |_| Failure {
            engine: at.name.to_string(),
            action: "reach",
            subject: at.name.to_string(),
            fault: Fault::Unreachable,
            message: format!("no answer within {} s", ANSWERS.as_secs()),
        };
        Ok(about.map_err(late)??)
    }
}

fn unknown(engine: &str) -> Error {
    Error::UnknownEngine { engine: engine.to_owned() }
}

fn candidate(at: &EngineAt, about: &About, load: Load) -> Candidate {
    let labels = at.labels.iter().map(|(name, value)| Pair { name: name.clone(), value: value.clone() });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is what is wanted")]
    let millicpus = (about.cpus * 1000.0) as u64;
    Candidate {
        engine: at.name.to_string(),
        labels: labels.collect(),
        memory_bytes: about.memory_bytes,
        millicpus,
        free_memory_bytes: about.memory_bytes.saturating_sub(load.memory_bytes),
        free_millicpus: millicpus.saturating_sub(load.millicpus),
        instances: load.instances,
    }
}

/// Most memory free, then fewest instances, then the name.
fn spread(candidates: &[Candidate]) -> Option<String> {
    let best = candidates.iter().min_by_key(|candidate| {
        (std::cmp::Reverse(candidate.free_memory_bytes), candidate.instances, candidate.engine.as_str())
    });
    best.map(|candidate| candidate.engine.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_decides_then_how_many_there_are_then_the_name() {
        let engine = |engine: &str, free_memory_bytes, instances| Candidate {
            engine: engine.to_owned(),
            labels: Vec::new(),
            memory_bytes: 8,
            millicpus: 0,
            free_memory_bytes,
            free_millicpus: 0,
            instances,
        };
        let chosen = |candidates: &[Candidate]| spread(candidates).unwrap_or_default();
        assert_eq!(chosen(&[engine("a", 1, 0), engine("b", 2, 9)]), "b");
        assert_eq!(chosen(&[engine("a", 0, 7), engine("b", 0, 6)]), "b");
        assert_eq!(chosen(&[engine("b", 3, 1), engine("a", 3, 1)]), "a");
        assert_eq!(spread(&[]), None);
    }
}

//! Addons whose hooks are requests to a provider elsewhere: a guest of another kind, for the same [`Host::call`].
//!
//! A call is one as any: recorded, within its deadline and limits, through what is granted, and its answer as hostile as a
//! component's. The provider knows a resource by the UUID that our key is, and promises that asking twice under one makes one.
//! What it has answered for the app is the resource's private value, so that `config-vars` asks nobody.
//!
//! A refusal promises that there is nothing. So one counts as that only where the provider has said so itself, or was not
//! reached, and nothing that was asked before may have come through; anything else is a fault, after which the host undoes what
//! may be there.
//!
//! [`Host::call`]: crate::Host::call

mod failure;
mod import;
mod kept;
mod open;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::import::Import;

use self::failure::Failure;
use self::words::{basic, client, named, options, uuid_of, wanted};
use crate::bindings::{
    ChangePlanRequest, Changed, ConfigVar, ProvisionRequest, Provisioned, ResourceInfo, UnprovisionRequest,
};
use crate::guest_log::GuestLog;
use crate::hook::{Answer, HookName, HookRequest, MESSAGE_MAX, ResourceRef, accept_vars};
use crate::limits::Limit;
use crate::manifest::RemoteProvider;
use crate::network::Network;
use crate::outcome::{BAD_ANSWER, Outcome, Refused, Report};
use crate::provider::{
    Ask, PlanChange, ProviderAnswer, ProviderClient, ProviderError, ProviderId, ProviderResource, Provision, Sent,
};
use crate::registry::Addon;
use crate::resources::provision_request;
use crate::sandbox::{Ended, Room};
use crate::store::{ResourceRow, Store};
use crate::text::{redact, shown};

/// Before a provider that is still at it is asked again; twice as long each further time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What is left of the deadline, at least, for whatever is asked last.
const LAST: Duration = Duration::from_millis(500);

/// The status of what was there, and is not any more.
const GONE: u16 = 410;

/// Shortest value of a variable that is redacted from what the provider says, in bytes. Shorter ones are names of plans, regions
/// and the like, without which nothing could be said.
const SECRET_MIN: usize = 12;

/// What the store knows of the resource that a call is about: a provider is told all of it each time.
pub(crate) struct Known {
    pub row: ResourceRow,
    /// It was asked for before, and nobody knows what came of that.
    pub in_doubt: bool,
    pub store: Arc<Store>,
}

/// A call, as far as it has come.
struct Asking<'a> {
    provider: &'a RemoteProvider,
    addon: &'a Addon,
    known: Option<&'a Known>,
    network: &'a Network,
    client: Result<ProviderClient, Failure>,
    log: &'a GuestLog,
    /// Something that was asked may have come through.
    has_sent: bool,
    /// It was answered that something is being made: a refusal after that promises nothing.
    is_pending: bool,
    /// What is not to be told to anybody.
    secrets: Vec<String>,
}

/// Asks a provider for what a hook is to do. Never `Err`: whatever happens is an outcome.
pub(crate) async fn run(provider: &RemoteProvider, addon: &Addon, room: Room, request: &HookRequest) -> Ended<Answer> {
    let began = Instant::now();
    let (deadline, limits) = (room.deadline, room.limits);
    let log = GuestLog::new(limits[Limit::LogBytes]);
    let network = Network::new(room.reach, &limits, tokio::time::Instant::now() + deadline, log.clone());
    let mut asking = Asking {
        provider,
        addon,
        known: room.known.as_ref(),
        network: &network,
        client: client(provider, addon, &network, deadline),
        log: &log,
        has_sent: false,
        is_pending: false,
        secrets: room.private.into_iter().chain(basic(provider, addon)).collect(),
    };
    let ended = tokio::time::timeout(deadline, asking.hook(request)).await;
    let makes = request.hook() == HookName::Provision;
    let in_doubt = makes && (asking.is_pending || room.known.as_ref().is_none_or(|known| known.in_doubt));
    let asked_before = in_doubt || makes && asking.has_sent;
    let secrets = asking.secrets;
    let words = |text: &str| shown(&redact(text, &addon.settings.secrets_and(&secrets)), MESSAGE_MAX);
    let outcome = match ended {
        Err(_) => Outcome::DeadlineExceeded { deadline },
        Ok(Ok(answer)) => Outcome::Completed(answer),
        Ok(Err(Failure::Over(limit))) => Outcome::LimitExceeded { limit, value: limits[limit] },
        Ok(Err(Failure::NotAsked(why))) if !asked_before => refused("unavailable", words(&why)),
        Ok(Err(Failure::Said { code, message })) if !in_doubt => refused(code, words(&message)),
        Ok(Err(Failure::Bad(message))) => refused(BAD_ANSWER, words(&message)),
        Ok(Err(Failure::NotAsked(why) | Failure::Said { message: why, .. } | Failure::Broken(why))) => {
            Outcome::Trapped { reason: words(&why) }
        }
    };
    let mut report = Report { limits, network_bytes: network.traffic.used(), ..Report::default() };
    (report.log_bytes, report.log_dropped_bytes) = log.counts();
    if let Some(quota) = room.mounts.quota {
        let used = quota.lock().used();
        (report.data_bytes, report.data_files) = (used.bytes, used.files);
    }
    report.wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ended { outcome, report, log, secrets }
}

fn refused(code: &str, message: String) -> Outcome<Answer> {
    Outcome::Refused(Refused { code: code.to_owned(), message })
}

impl Asking<'_> {
    async fn hook(&mut self, request: &HookRequest) -> Result<Answer, Failure> {
        match request {
            HookRequest::Provision(asked) => self.provision(asked).await,
            HookRequest::Unprovision(asked) => self.unprovision(asked).await,
            HookRequest::ConfigVars(of) => self.config_vars(of),
            HookRequest::ChangePlan(asked) => self.change_plan(asked).await,
            HookRequest::Suspend(of) => self.suspend_or_resume(of, "suspend").await,
            HookRequest::Resume(of) => self.suspend_or_resume(of, "resume").await,
            _ => Err(Failure::Broken(format!("no provider is asked for `{}`", request.hook()))),
        }
    }

    async fn provision(&mut self, asked: &ProvisionRequest) -> Result<Answer, Failure> {
        let made = self.made(asked).await?;
        self.accept_config("provision", &made.config)?;
        let private = self.keep(&made.config)?;
        let ProviderResource { id, message, log_drain_url, .. } = made;
        Ok(Answer::Provisioned(Provisioned { id: id.to_string(), private, message, log_drain_url }))
    }

    /// Asks for a resource until it is there. Whoever answers that it is at work on it is asked again under the same UUID:
    /// there is no other way for it to tell.
    async fn made(&mut self, asked: &ProvisionRequest) -> Result<ProviderResource, Failure> {
        let wanted = wanted(asked)?;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.ask_to_make(&wanted).await?;
            let made = answer.resource().map_err(|error| self.failed(error))?;
            self.hide(&made.config);
            if !made.is_pending() || !made.config.is_empty() || self.addon.grant.config_vars.is_empty() {
                return Ok(made);
            }
            self.is_pending = true;
            if tokio::time::Instant::now() + pause + LAST > self.network.until {
                return Err(Failure::Bad(format!(
                    "{} answers that it is still at it (202) until the deadline of `provision`: it was asked again under the \
                     same uuid, since Lodger hears of the end in no other way",
                    self.provider.base_url
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask_to_make(&mut self, wanted: &Provision) -> Result<ProviderAnswer, Failure> {
        let body = wanted.body(self.provider.dialect);
        let url = self.client()?.base().clone();
        self.ask(Ask::new("POST", url).json(body)).await
    }

    /// Where the id never came, it is asked for once more: under the same UUID, there is nothing else to find it by.
    async fn unprovision(&mut self, asked: &UnprovisionRequest) -> Result<Answer, Failure> {
        let id = match &asked.id {
            _ if self.provider.by_uuid => uuid_of(&asked.key)?,
            Some(id) => id.clone(),
            None => match self.learn_id().await? {
                Some(id) => id,
                None => return Ok(Answer::Done),
            },
        };
        let url = self.client()?.at(&named(&id)?, "");
        let answer = self.ask(Ask::new("DELETE", url)).await?;
        match answer.status {
            // Or it is gone already.
            200..300 | 404 | 410 => Ok(Answer::Done),
            _ => Err(answer.done().map_or_else(|error| self.failed(error), |()| Failure::Broken(answer.status_line()))),
        }
    }

    /// The provider's id of what it may have under our key; `None` where it has nothing.
    async fn learn_id(&mut self) -> Result<Option<String>, Failure> {
        let Some(known) = self.known else { return Ok(None) };
        let answer = self.ask_to_make(&wanted(&provision_request(self.addon, &known.row))?).await?;
        if answer.status == GONE {
            return Ok(None);
        }
        let made = answer.resource().map_err(|error| match self.failed(error) {
            // There are those that refuse what they have already: it is not to be forgotten here for that.
            Failure::Said { message, .. } => {
                Failure::Broken(format!("{message}; whether it has the resource {} is not known", known.row.key))
            }
            failure => failure,
        })?;
        let id = made.id.to_string();
        match known.store.guest_id_is_taken(&self.addon.id, &id, &known.row.key) {
            Ok(false) => Ok(Some(id)),
            Ok(true) => {
                self.log.note(&format!("`{id}` is the id of another resource, which keeps it"));
                Ok(None)
            }
            Err(error) => Err(Failure::Broken(format!("whose `{id}` is cannot be looked up: {error}"))),
        }
    }

    fn config_vars(&mut self, of: &ResourceRef) -> Result<Answer, Failure> {
        let config = kept::read(&of.private).map_err(Failure::Broken)?;
        self.hide(&config);
        let allowed = self.addon.grant.vars_for_config();
        // Another version of the manifest may name fewer.
        let (given, left): (BTreeMap<_, _>, _) = config.into_iter().partition(|(name, _)| allowed.contains(name));
        for name in left.into_keys().collect::<Vec<_>>() {
            self.log.note(&format!("`{name}` is not among config_vars of addon.json any more"));
        }
        Ok(Answer::ConfigVars(given.into_iter().map(|(name, value)| ConfigVar { name, value }).collect()))
    }

    async fn change_plan(&mut self, asked: &ChangePlanRequest) -> Result<Answer, Failure> {
        let of = &asked.of;
        let mut config = kept::read(&of.private).map_err(Failure::Broken)?;
        self.hide(&config);
        let change = PlanChange {
            plan: asked.plan.clone(),
            options: options(asked.plan_options.iter().chain(&of.options)),
            app: of.app.clone(),
            uuid: uuid_of(&of.key)?,
        };
        let url = self.client()?.at(&self.name_of(of)?, "");
        let answer = self.ask(Ask::new("PUT", url).json(change.body(self.provider.dialect))).await?;
        if matches!(answer.status, 200..300) && answer.body.trim_ascii().is_empty() {
            return Ok(Answer::Changed(Changed { message: None }));
        }
        let changed = answer.change().map_err(|error| self.failed(error))?;
        let (message, more) = (changed.message, changed.config);
        if more.is_empty() {
            return Ok(Answer::Changed(Changed { message }));
        }
        self.hide(&more);
        self.accept_config("change-plan", &more)?;
        config.extend(more);
        Ok(Answer::Reconfigured(Changed { message }, self.keep(&config)?))
    }

    async fn suspend_or_resume(&mut self, of: &ResourceInfo, what: &str) -> Result<Answer, Failure> {
        let url = self.client()?.at(&self.name_of(of)?, what);
        let answer = self.ask(Ask::new("POST", url).json(serde_json::json!({}))).await?;
        answer.done().map_err(|error| self.failed(error))?;
        Ok(Answer::Changed(Changed { message: None }))
    }

    /// One request, and whatever is answered.
    async fn ask(&mut self, ask: Ask) -> Result<ProviderAnswer, Failure> {
        let _slot = self.network.slot().ok_or(Failure::Over(Limit::Connections))?;
        let what = format!("{} {}", ask.method, ask.url);
        if let Sent::Json(body) = &ask.sent {
            self.count(body.to_string().len())?;
        }
        match self.client()?.ask(ask).await {
            Ok(answer) => {
                self.has_sent = true;
                self.log.note(&format!("{what}: {}", answer.status_line()));
                self.count(answer.body.len())?;
                Ok(answer)
            }
            Err(error) => {
                self.log.note(&format!("{what}: {error}"));
                let failure = self.failed(error);
                self.has_sent |= !matches!(failure, Failure::NotAsked(_));
                Err(failure)
            }
        }
    }

    fn client(&self) -> Result<&ProviderClient, Failure> {
        self.client.as_ref().map_err(Failure::clone)
    }

    fn failed(&self, error: ProviderError) -> Failure {
        failure::of(self.provider, self.addon, &error)
    }

    fn count(&self, bytes: usize) -> Result<(), Failure> {
        if self.network.traffic.take(bytes) { Ok(()) } else { Err(Failure::Over(Limit::NetworkBytes)) }
    }

    /// What the provider knows a resource by.
    fn name_of(&self, of: &ResourceInfo) -> Result<ProviderId, Failure> {
        if self.provider.by_uuid { named(&uuid_of(&of.key)?) } else { named(&of.id) }
    }

    /// What `config-vars` would answer is looked at before it is kept.
    fn accept_config(&self, hook: &str, config: &BTreeMap<String, String>) -> Result<(), Failure> {
        let vars: Vec<ConfigVar> =
            config.iter().map(|(name, value)| ConfigVar { name: name.clone(), value: value.clone() }).collect();
        accept_vars(hook, &vars, self.addon.grant.vars_for_config()).map_err(Failure::Bad)
    }

    /// Has no value be told to anybody but the app.
    fn hide(&mut self, config: &BTreeMap<String, String>) {
        self.secrets.extend(config.values().filter(|value| value.len() >= SECRET_MIN).cloned());
    }

    fn keep(&mut self, config: &BTreeMap<String, String>) -> Result<String, Failure> {
        let private = kept::write(config).map_err(|why| Failure::Bad(format!("{} {why}", self.provider.base_url)))?;
        self.secrets.push(private.clone());
        Ok(private)
    }
}

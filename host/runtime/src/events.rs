//! Events: who is asked before something is done, and how those who listen are told afterwards.
//!
//! Asked is before the subject's lock is taken, so that a listener that takes its time holds up nobody else; what it changes
//! is checked as if the caller had asked for it.

mod tell;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bindings::{EventRecord, Pair, Verdict};
use crate::error::{Error, Result};
use crate::event::{
    ADDON_ENABLING, ADDON_UPGRADING, APP_ADDING, APP_PLAN_CHANGING, APP_RESUMING, APP_SUSPENDING, Delivery, OPTION,
    Raised, covers,
};
use crate::failure::FailurePolicy;
use crate::hook::{Answer, HookName, HookRequest};
use crate::host::{Host, new_call_id, now_ms};
use crate::id::{AddonId, Id};
use crate::lifecycle::ResourceState;
use crate::outcome::Outcome;
use crate::plans::known_plan;
use crate::resources::{Add, check_options};
use crate::store::{Noted, ResourceRow};

/// An event that was recorded, and how far it has come.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventInfo {
    pub id: String,
    pub sequence: u64,
    pub kind: String,
    /// Milliseconds since 1970.
    pub at: u64,
    pub actor: String,
    pub addon: Option<String>,
    pub app: Option<String>,
    pub alias: Option<String>,
    /// Our key of the resource.
    pub key: Option<String>,
    pub service: Option<String>,
    pub details: BTreeMap<String, String>,
    /// Those who are to hear of it.
    pub listeners: BTreeMap<AddonId, Delivery>,
}

/// Events in the order in which they have happened.
#[derive(Clone, Debug, Serialize)]
pub struct EventsAfter {
    pub items: Vec<EventInfo>,
    /// The number of the last of them, or where the next begin after.
    pub last: u64,
    /// Others came between what was seen and these, and went by `[retention]`.
    pub lost: bool,
}

impl EventInfo {
    fn of(Noted { event, listeners }: Noted) -> EventInfo {
        EventInfo {
            id: event.id,
            sequence: event.sequence,
            kind: event.kind,
            at: event.at_ms,
            actor: event.actor,
            addon: event.addon,
            app: event.app,
            alias: event.alias,
            key: event.key,
            service: event.service,
            details: event.details.into_iter().map(|pair| (pair.name, pair.value)).collect(),
            listeners,
        }
    }
}

impl Host {
    /// Asks all who may decide about something that the embedder is about to do, and returns its details as they have changed
    /// them. Nothing is recorded but the calls: tell what has become of it by [`Host::raise`].
    ///
    /// # Errors
    /// [`Error::Vetoed`]; [`Error::Listener`] where one cannot tell and its failure policy is not `fail-open`;
    /// [`Error::Event`] for a kind of the host's own.
    pub async fn before(&self, about: Raised) -> Result<Vec<Pair>> {
        about.check()?;
        let mut event = self.about(&about.kind, about.addon.as_ref());
        (event.app, event.details) = (about.app.map(|app| app.to_string()), about.details);
        self.decide(event, &about.changeable).await
    }

    /// Records what has happened in the embedder's program, for those who listen: durable when this returns. They are told by
    /// [`Host::tell_events`].
    ///
    /// # Errors
    /// [`Error::Event`] for a kind of the host's own.
    pub fn raise(&self, what: Raised) -> Result<()> {
        what.check()?;
        self.writable()?;
        let addon = what.addon.map(|addon| addon.to_string());
        let mut event = self.store.event(&what.kind, addon.as_deref(), &self.actor());
        (event.app, event.details) = (what.app.map(|app| app.to_string()), what.details);
        self.store.raise(&event)
    }

    /// The newest events first.
    pub fn events(&self, most: u32) -> Result<Vec<EventInfo>> {
        Ok(self.store.events(most)?.into_iter().map(EventInfo::of).collect())
    }

    /// Has all events of the home kept from now on, as long as `[retention]` says, whether or not an addon listens and
    /// whichever process raises them. Returns since when they are, in milliseconds since 1970.
    pub fn keep_events(&self) -> Result<i64> {
        self.writable()?;
        self.store.keep_events()
    }

    /// The number of the newest event there was; 0: none.
    pub fn last_event(&self) -> Result<u64> {
        Ok(self.store.last_event()?.cast_unsigned())
    }

    /// The events that come after the one with the number `after`, the oldest first. `None`: from the oldest that is kept.
    pub fn events_after(&self, after: Option<u64>, most: u32) -> Result<EventsAfter> {
        let last = self.last_event()?;
        // What came from another log than this goes on where this one is.
        let from = after.map_or(0, |after| after.min(last));
        let items = self.store.events_after(from.cast_signed(), most)?.into_iter().map(EventInfo::of);
        let items: Vec<EventInfo> = items.collect();
        let next = items.first().map_or(last + 1, |first: &EventInfo| first.sequence);
        let lost = after.is_some_and(|after| after != next - 1);
        Ok(EventsAfter { last: items.last().map_or(next - 1, |event| event.sequence), items, lost })
    }

    /// What is another after every change that any process has made to what is kept in this home; `None` while one is being
    /// made. Costs next to nothing: for whoever waits for something to happen.
    pub fn mark(&self) -> Option<[u8; 48]> {
        self.store.mark()
    }

    /// An event that nobody has been told of.
    fn about(&self, kind: &str, addon: Option<&AddonId>) -> EventRecord {
        EventRecord {
            id: new_call_id(),
            sequence: 0,
            kind: kind.to_owned(),
            at_ms: now_ms().cast_unsigned(),
            actor: self.actor(),
            addon: addon.map(ToString::to_string),
            app: None,
            alias: None,
            key: None,
            service: None,
            details: Vec::new(),
        }
    }

    /// The addons that may decide about something, in the order of their names. None about itself.
    fn deciders(&self, kind: &str, subject: Option<&str>) -> Result<Vec<AddonId>> {
        if !self.policy.events.iter().any(|pattern| covers(pattern, kind)) {
            return Ok(Vec::new());
        }
        let listeners = self.registry.listeners(self)?;
        let asked = listeners.iter().filter(|listener| {
            listener.state.is_enabled()
                && listener.patterns.iter().any(|pattern| covers(pattern, kind))
                && subject.is_none_or(|subject| listener.addon.to_string() != subject)
        });
        Ok(asked.map(|listener| listener.addon.clone()).collect())
    }

    /// Asks one after the other, each told what those before it have changed.
    async fn decide(&self, mut event: EventRecord, changeable: &[String]) -> Result<Vec<Pair>> {
        for listener in self.deciders(&event.kind, event.addon.as_deref())? {
            let failed = |how: String| Error::Listener { addon: listener.clone(), kind: event.kind.clone(), how };
            let request = HookRequest::Before(event.clone(), changeable.to_vec());
            let call = match Box::pin(self.call_reading(&listener, request)).await {
                Ok(call) => call,
                // It was disabled, or lost the right to be asked, since it was looked for.
                Err(_) if !self.deciders(&event.kind, event.addon.as_deref())?.contains(&listener) => continue,
                Err(error) if self.policy.failure.of(HookName::Before) == FailurePolicy::FailOpen => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%listener, kind = event.kind, error, "a listener cannot be asked");
                    continue;
                }
                Err(error) => return Err(failed(error.to_string())),
            };
            match call.outcome {
                Outcome::Completed(Answer::Decided(Verdict::Change(details))) => change(&mut event.details, details),
                Outcome::Completed(Answer::Decided(Verdict::Veto(reason))) => {
                    return Err(Error::Vetoed { addon: listener, kind: event.kind, reason });
                }
                Outcome::Completed(_) => {}
                // It is in the record of calls.
                _ if call.failed_open => {}
                outcome => return Err(failed(outcome.to_string())),
            }
        }
        Ok(event.details)
    }

    /// What is to be added after all who may decide were asked; nobody is where it is there already. The plan is the one they
    /// were told of.
    pub(crate) async fn ask_adding(&self, add: Add) -> Result<Add> {
        if self.deciders(APP_ADDING, Some(&add.addon.to_string()))?.is_empty() {
            return Ok(add);
        }
        check_options(&add.options)?;
        let (addon, _) = self.registry.get(self, &add.addon).await?;
        let there = self.find(&add.app, &add.addon, add.alias.as_ref())?;
        let active = |row: &ResourceRow| matches!(row.state, ResourceState::Active | ResourceState::Suspended);
        if there.as_ref().is_some_and(active) {
            return Ok(add);
        }
        let plan = match (&add.plan, &there) {
            (Some(asked), _) => Some(known_plan(&addon, asked)?.name.clone()),
            (None, Some(there)) => there.plan.clone(),
            (None, None) => addon.manifest.plans.first().map(|plan| plan.name.clone()),
        };
        let mut event = self.about(APP_ADDING, Some(&add.addon));
        event.app = Some(add.app.to_string());
        event.alias = add.alias.as_ref().map(ToString::to_string);
        event.key = there.map(|row| row.key);
        let detail = |name: String, value: &str| Pair { name, value: value.to_owned() };
        event.details.extend(plan.as_ref().map(|plan| detail("plan".to_owned(), plan.as_str())));
        event.details.extend(add.options.iter().map(|(name, value)| detail(format!("{OPTION}{name}"), value)));
        let mut add = Add { plan: None, options: BTreeMap::new(), ..add };
        for pair in self.decide(event, &["plan".to_owned(), OPTION.to_owned()]).await? {
            match pair.name.strip_prefix(OPTION) {
                Some(name) => drop(add.options.insert(name.to_owned(), pair.value)),
                None => add.plan = Some(pair.value),
            }
        }
        Ok(add)
    }

    /// The plan that a resource is to have after all who may decide were asked.
    pub(crate) async fn ask_plan(&self, app: &Id, addon: &AddonId, alias: Option<&Id>, plan: &str) -> Result<String> {
        let mut decided = plan.to_owned();
        if self.deciders(APP_PLAN_CHANGING, Some(&addon.to_string()))?.is_empty() {
            return Ok(decided);
        }
        let row = self.only(app, addon, alias)?;
        let (loaded, _) = self.registry.get(self, addon).await?;
        known_plan(&loaded, plan)?;
        let from = row.plan.as_ref().map(ToString::to_string).unwrap_or_default();
        if row.state == ResourceState::Active && from == plan {
            return Ok(decided);
        }
        let mut event = self.about_resource(APP_PLAN_CHANGING, &row);
        for (name, value) in [("from", from.as_str()), ("plan", plan)] {
            event.details.push(Pair { name: name.to_owned(), value: value.to_owned() });
        }
        for pair in self.decide(event, &["plan".to_owned()]).await? {
            if pair.name == "plan" {
                decided = pair.value;
            }
        }
        Ok(decided)
    }

    /// Asks whether a resource may be suspended, or resumed.
    pub(crate) async fn ask_state(&self, hook: HookName, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<()> {
        let (kind, done) = match hook {
            HookName::Suspend => (APP_SUSPENDING, ResourceState::Suspended),
            _ => (APP_RESUMING, ResourceState::Active),
        };
        if self.deciders(kind, Some(&addon.to_string()))?.is_empty() {
            return Ok(());
        }
        let row = self.only(app, addon, alias)?;
        if row.state == done {
            return Ok(());
        }
        self.decide(self.about_resource(kind, &row), &[]).await.map(drop)
    }

    fn about_resource(&self, kind: &str, row: &ResourceRow) -> EventRecord {
        EventRecord {
            app: Some(row.app.to_string()),
            alias: row.alias.as_ref().map(ToString::to_string),
            key: Some(row.key.clone()),
            ..self.about(kind, Some(&row.addon))
        }
    }

    /// Asks whether an addon may be enabled that is not.
    pub(crate) async fn ask_enabling(&self, id: &AddonId) -> Result<()> {
        if self.deciders(ADDON_ENABLING, Some(&id.to_string()))?.is_empty() {
            return Ok(());
        }
        match self.store.addon(id)? {
            Some(row) if !row.state.is_enabled() => {
                self.decide(self.about(ADDON_ENABLING, Some(id)), &[]).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Asks whether an addon may come to another version.
    pub(crate) async fn ask_upgrading(&self, id: &AddonId, to: Option<&semver::Version>, digest: &str) -> Result<()> {
        if self.deciders(ADDON_UPGRADING, Some(&id.to_string()))?.is_empty() {
            return Ok(());
        }
        let Some(row) = self.store.addon(id)?.filter(|row| row.digest != digest) else { return Ok(()) };
        let mut event = self.about(ADDON_UPGRADING, Some(id));
        let counted = || semver::Version { patch: row.version.patch + 1, ..row.version.clone() };
        let to = to.cloned().unwrap_or_else(counted).to_string();
        for (name, value) in [("from", row.version.to_string()), ("version", to)] {
            event.details.push(Pair { name: name.to_owned(), value });
        }
        self.decide(event, &[]).await.map(drop)
    }
}

fn change(details: &mut Vec<Pair>, changes: Vec<Pair>) {
    for new in changes {
        match details.iter_mut().find(|pair| pair.name == new.name) {
            Some(pair) => pair.value = new.value,
            None => details.push(new),
        }
    }
}

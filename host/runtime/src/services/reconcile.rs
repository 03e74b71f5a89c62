//! Reconciling: what is there is compared with what should be, in one list per engine, and what differs is mended.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::converge::Mended;
use super::{GRACE, LOG_KEPT, Services, TooLarge, now_s, with_source};
use crate::engine::{Container, Engine, Failure, Fault, Status};
use crate::error::{Error, Result};
use crate::event::{NOBODY, SERVICE_CRASHED, SERVICE_FAILED};
use crate::hook::HookName;
use crate::id::{AddonId, Id};
use crate::registry::Addon;
use crate::render::{Instance, LABEL_ADDON, LABEL_HOME};
use crate::store::{InstanceRow, Wanted};

/// Crashes in a row before a service is left alone, and how long it must have run for them to be forgiven.
const FAILURES_MAX: u32 = 5;
const FORGIVEN_S: i64 = 600;

/// The word for what comes right by itself.
pub(super) const WAITING: &str = "waiting";

/// What reconciling has done, or could not do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Repair {
    pub addon: AddonId,
    /// The service it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Id>,
    /// The hook that was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookName>,
    /// Our key of the resource it belongs to; absent where it serves all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// `started`, `restarted`, `made`, `made anew`, `removed`; `stands in`, `gave back` for a container of the operator's; of
    /// a hook `finished` or `taken back`; or `waiting`, `failed`, `foreign` where it is not as it should be.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub what: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Repair {
    pub(super) fn of(instance: &Instance, what: &'static str, why: Option<String>) -> Repair {
        let resource = Some(instance.resource.clone()).filter(|key| !key.is_empty());
        let service = Some(instance.service.clone());
        Repair { addon: instance.addon.clone(), service, hook: None, resource, what: what.into(), why }
    }

    pub(crate) fn by(
        hook: HookName,
        id: &AddonId,
        resource: Option<String>,
        what: &'static str,
        why: Option<String>,
    ) -> Repair {
        Repair { addon: id.clone(), service: None, hook: Some(hook), resource, what: what.into(), why }
    }

    /// An addon that cannot be seen to at all.
    pub(crate) fn failed(id: &AddonId, error: &Error) -> Repair {
        let why = Some(with_source(error));
        Repair { addon: id.clone(), service: None, hook: None, resource: None, what: "failed".into(), why }
    }

    /// What was done for an instance, or could not be.
    ///
    /// # Errors
    /// When an engine does not answer: nothing is known then.
    pub(super) fn of_done(instance: &Instance, done: Result<Option<Repair>>) -> Result<Option<Repair>> {
        match done {
            Err(Error::ForeignContainer { name, .. }) => {
                let why = format!("a container named {name} is there that lodger has not made");
                Ok(Some(Repair::of(instance, "foreign", Some(why))))
            }
            Err(error) if !error.is_unreachable() => {
                Ok(Some(Repair::of(instance, "failed", Some(with_source(&error)))))
            }
            done => done,
        }
    }

    /// Whether something is not as it should be.
    pub fn is_problem(&self) -> bool {
        matches!(&*self.what, WAITING | "failed" | "foreign")
    }
}

/// What there is of this home.
#[derive(Default)]
pub(crate) struct Seen {
    /// On all engines, by addon and name.
    containers: BTreeMap<String, BTreeMap<String, Container>>,
    /// The containers that commands are at work in, or were left at work.
    commands: BTreeSet<String>,
}

impl Services {
    /// One list per engine that has anything recorded. Engines that do not answer are left out, with their addons.
    pub async fn see(&self) -> Result<Seen> {
        let mut seen = Seen { commands: self.commands.noted()?, ..Seen::default() };
        for name in self.store.engines()? {
            let Ok(containers) = self.engines.get(&name)?.containers(LABEL_HOME, &self.marks().home_label()).await
            else {
                continue;
            };
            for container in containers {
                let addon = container.labels.get(LABEL_ADDON).cloned().unwrap_or_default();
                seen.containers.entry(addon).or_default().insert(container.name.clone(), container);
            }
        }
        Ok(seen)
    }

    /// Whether an addon was well when all engines were looked at: then nothing more is asked. What was not is looked at
    /// again before anything is done, since others may have been at work meanwhile.
    pub fn was_well(&self, addon: &Addon, seen: &Seen) -> Result<bool> {
        // A container that is not ours is not among what was seen.
        if addon.grant.stands_in.is_some() {
            return Ok(false);
        }
        let none = BTreeMap::new();
        let there = seen.containers.get(&addon.name).unwrap_or(&none);
        let rows = self.store.instances(&addon.id)?;
        let mut expected = 0;
        for row in &rows {
            match row.wanted {
                Wanted::Gone => return Ok(false),
                Wanted::Stopped => {}
                Wanted::Running => {
                    expected += 1;
                    let rendered = self.rendered(addon, row)?;
                    let found = there.get(&rendered.container.name);
                    let well = found.is_some_and(|found| rendered.is(found) && found.status == Status::Running);
                    let at_work = seen.commands.contains(&rendered.container.name);
                    if !well || at_work || row.failures > 0 || row.disk_bytes.is_some() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(there.len() == expected)
    }

    /// Makes everything of an addon be as the store says. `addon` is needed where something of it should run.
    ///
    /// # Errors
    /// When an engine does not answer: nothing is known then. What a single service cannot do is among the repairs.
    pub async fn reconcile(&self, id: &AddonId, addon: Option<&Addon>) -> Result<Vec<Repair>> {
        let mut repairs = Vec::new();
        if let Some(row) = self.store.stand_in(id)?
            && self.stands_in_wrongly(&row, addon)?
        {
            let gave = self.give_back(id, false).await;
            repairs.extend(Repair::of_done(&row.instance(), gave)?);
        }
        repairs.extend(self.reconcile_instances(id, addon).await?);
        Ok(repairs)
    }

    pub(super) async fn reconcile_instances(&self, id: &AddonId, addon: Option<&Addon>) -> Result<Vec<Repair>> {
        let rows = self.store.instances(id)?;
        let engines: BTreeSet<String> = rows.iter().map(|row| row.engine.clone()).collect();
        let recorded: BTreeSet<String> = rows.iter().map(|row| row.instance.container_name(&self.marks())).collect();
        let mut repairs = Vec::new();
        for name in engines {
            let engine = self.engines.get(&name)?;
            let there = self.containers_of(&*engine, id).await?;
            let (mut there, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
                there.into_iter().partition(|(name, _)| recorded.contains(name));
            // What a host that was killed has left: ours, and no row wants it. First, since it may hold a volume that is to
            // go. One engine may have two names in the policy: what is recorded under the other is seen here too.
            for (name, container) in left {
                if self.marks().vouches_for(&name, &container.labels) {
                    engine.remove(&container.id).await?;
                }
            }
            let rows: Vec<&InstanceRow> = rows.iter().filter(|row| row.engine == name).collect();
            let left = self.with_secrets_left(&*engine, id, &rows).await?;
            for row in &rows {
                let container = there.remove(&row.instance.container_name(&self.marks()));
                let stands_in = |addon: &&Addon| addon.grant.stands_in_by(&row.instance.service).is_some();
                if let Some(addon) = addon.filter(stands_in).filter(|_| row.wanted == Wanted::Running) {
                    repairs.extend(self.repair_stand_in(&*engine, addon, row, container.as_ref(), &left).await?);
                } else {
                    let done = self.repair(&*engine, addon, row, container.as_ref(), &left).await;
                    repairs.extend(Repair::of_done(&row.instance, done)?);
                }
            }
        }
        Ok(repairs)
    }

    /// One instance. `None` when it is as it should be.
    pub(super) async fn repair(
        &self,
        engine: &dyn Engine,
        addon: Option<&Addon>,
        row: &InstanceRow,
        there: Option<&Container>,
        secrets_left: &BTreeSet<Instance>,
    ) -> Result<Option<Repair>> {
        let instance = &row.instance;
        if row.wanted == Wanted::Running {
            let Some(addon) = addon else { return Ok(None) };
            if let Some(TooLarge { why, way_on }) = TooLarge::of(addon, row) {
                self.keep_down(engine, row, there).await?;
                return Ok(Some(Repair::of(instance, "failed", Some(format!("{why}; {way_on}")))));
            }
            let rendered = self.rendered(addon, row)?;
            // What was kept down has not ended by itself.
            let ended = there.filter(|there| {
                row.disk_bytes.is_none() && matches!(there.status, Status::Exited(_)) && rendered.is(there)
            });
            if let Some(there) = ended
                && let Some(repair) = self.crashed(engine, addon, row, there).await?
            {
                return Ok(Some(repair));
            }
            if row.failures > 0 && row.failed_at.is_some_and(|at| now_s() - at > FORGIVEN_S) {
                self.store.note_failure(instance, 0, None, None, None)?;
            }
            let ran_beside = self.keep_stopped(engine, addon, row).await?;
            let restarted = self.end_commands(engine, row, there).await?;
            let converged = self.converge(engine, row, &rendered, there).await;
            if converged.is_err() && ended.is_some() {
                // What could not be started has not ended once more.
                self.store.note_failure(instance, row.failures, row.failed_at, None, None)?;
            }
            let done = converged?.or(restarted);
            if row.disk_bytes.is_some() {
                self.store.note_disk(instance, None)?;
            }
            let beside =
                ran_beside.map(|container| format!("the container {container} ran beside it, and was stopped"));
            let done = match done {
                Some(Mended { what, why }) => Some(Mended { what, why: why.or(beside) }),
                None => beside.map(|why| Mended { what: "stands in", why: Some(why) }),
            };
            return Ok(done.map(|done| Repair::of(instance, done.what, done.why)));
        }
        let name = instance.container_name(&self.marks());
        let mut removed = false;
        if let Some(there) = there {
            if !self.marks().vouches_for(&name, &there.labels) {
                return Err(Error::ForeignContainer { name, engine: row.engine.clone() });
            }
            engine.stop(&there.id, GRACE).await?;
            engine.remove(&there.id).await?;
            removed = true;
        }
        self.end_commands(engine, row, None).await?;
        if secrets_left.contains(instance) {
            self.remove_secrets(engine, row).await?;
        }
        if row.wanted == Wanted::Gone {
            self.remove_volumes(engine, row).await?;
            self.store.forget_instance(instance)?;
        }
        Ok(removed.then(|| Repair::of(instance, "removed", None)))
    }

    /// Stops a container, and leaves it as it is.
    async fn keep_down(&self, engine: &dyn Engine, row: &InstanceRow, there: Option<&Container>) -> Result<()> {
        let Some(there) = there else { return Ok(()) };
        if !self.marks().vouches_for(&there.name, &there.labels) {
            return Err(Error::ForeignContainer { name: there.name.clone(), engine: row.engine.clone() });
        }
        if !matches!(there.status, Status::Created | Status::Exited(_)) {
            engine.stop(&there.id, GRACE).await?;
        }
        Ok(())
    }

    /// A container that has ended by itself is started again after a while, longer each time, and at last left alone with
    /// the end of its log. `None` when it is to be started now.
    async fn crashed(
        &self,
        engine: &dyn Engine,
        addon: &Addon,
        row: &InstanceRow,
        there: &Container,
    ) -> Result<Option<Repair>> {
        let instance = &row.instance;
        let given_up = || {
            let why = format!(
                "it has ended {FAILURES_MAX} times in a row; `lodger logs {0} --service {1}` has what it said last, and \
                 `lodger reconcile {0} --retry` starts it again",
                instance.addon, instance.service
            );
            Some(Repair::of(instance, "failed", Some(why)))
        };
        if row.failures >= FAILURES_MAX {
            return Ok(given_up());
        }
        let wait = 1 << row.failures;
        if let Some(at) = row.failed_at.filter(|at| now_s() - at < wait) {
            let why = format!("it has ended; it is started again in {} s", wait - (now_s() - at));
            return Ok(Some(Repair::of(instance, WAITING, Some(why))));
        }
        let log = engine.logs(&there.id, LOG_KEPT).await?;
        let failures = row.failures + 1;
        let kind = if failures >= FAILURES_MAX { SERVICE_FAILED } else { SERVICE_CRASHED };
        let event = self.store.event(kind, Some(&addon.name), NOBODY).of_service(instance);
        let log = self.readable(&log, addon, row)?;
        self.store.note_failure(instance, failures, Some(now_s()), Some(&log), Some(&event))?;
        Ok(if failures >= FAILURES_MAX { given_up() } else { None })
    }

    /// The addon's containers by name, those of this home only.
    pub(super) async fn containers_of(&self, engine: &dyn Engine, id: &AddonId) -> Result<BTreeMap<String, Container>> {
        let found = engine.containers(LABEL_ADDON, &id.to_string()).await?;
        let home = self.marks().home_label();
        let ours = found.into_iter().filter(|container| container.labels.get(LABEL_HOME) == Some(&home));
        Ok(ours.map(|container| (container.name.clone(), container)).collect())
    }

    /// The networks of an addon that is not enabled, on the engines that have anything recorded of it.
    pub async fn clear_networks(&self, id: &AddonId) -> Result<()> {
        for engine in self.store.engines_of(id)? {
            self.remove_networks(&*self.engines.get(&engine)?, id).await?;
        }
        Ok(())
    }

    pub(super) async fn remove_networks(&self, engine: &dyn Engine, id: &AddonId) -> Result<()> {
        for network in engine.networks(LABEL_ADDON, &id.to_string()).await? {
            if self.marks().vouches_for(&network.name, &network.labels) {
                match engine.remove_network(&network.name).await {
                    // Somebody else's container is in it: theirs to take out.
                    Err(Failure { fault: Fault::Conflict, .. }) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// Listens to the engines, from when this returns; what it returns ends when one tells that a container of this home has
    /// ended or gone, or when there is another engine to listen to.
    pub async fn news(&self) -> impl Future<Output = ()> + use<> {
        let mut listening = Vec::new();
        for engine in self.engines.connected() {
            // One that does not answer now is looked at by the timer.
            listening.extend(engine.events(LABEL_HOME, &self.marks().home_label()).await);
        }
        let one_more = self.engines.one_more.clone();
        async move {
            let mut all = futures_util::stream::select_all(listening);
            let told = async {
                while let Some(event) = all.next().await {
                    match event {
                        Ok(event) if !matches!(event.action.as_str(), "die" | "destroy" | "oom" | "kill") => {}
                        _ => return,
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = told => {}
                () = one_more.notified() => {}
            }
        }
    }
}

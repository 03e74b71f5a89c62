//! Standing in for a core container: it is stopped, and a service has its names in its networks until it is started again.
//!
//! The row of the stand-in is committed before the container is stopped, and forgotten after it was started again (law 3):
//! whoever takes the addon's lock in between knows what to do. The container is never removed. The service runs only while
//! the row says that it stands in, and is gone before the container comes back, so that no two answer to one name.

use std::collections::BTreeSet;

use super::reconcile::{Repair, WAITING};
use super::{GRACE, Services};
use crate::engine::{Container, Engine, Status};
use crate::error::{Error, Result};
use crate::grant::StandIn;
use crate::id::AddonId;
use crate::registry::Addon;
use crate::render::{Instance, LABEL_HOME, places};
use crate::store::{InstanceRow, StandInRow, Wanted};

impl Services {
    /// The container that is to be stood in for, as it is now.
    ///
    /// # Errors
    /// [`Error::NotReplaceable`] for one that is not there, that nobody would miss, that stopping would remove, or that lodger
    /// has made: that could be another plugin's.
    pub async fn core_container(&self, part: &StandIn) -> Result<Container> {
        let there = self.engines.get(part.engine.as_str())?.container(&part.container).await?;
        let there = there.ok_or_else(|| {
            refused(part, "is not there", "make it, or correct the line under [[replaceable]] in lodger.toml")
        })?;
        if there.labels.contains_key(LABEL_HOME) {
            let hint = "name one of your own under [[replaceable]] in lodger.toml";
            return Err(refused(part, "is one that lodger has made", hint));
        }
        if there.goes_at_end {
            return Err(refused(part, "would be gone once it is stopped", "make it without `--rm`"));
        }
        if places(&there).is_empty() {
            let hint = "`docker network connect` it to one that was made for it";
            return Err(refused(part, "is in no network where others find it by its name", hint));
        }
        Ok(there)
    }

    /// Stops the core container that a service of the addon is about to stand in for.
    ///
    /// # Errors
    /// With nothing changed, where it cannot be stood in for, and when the engine does not answer.
    pub async fn stand_in(&self, addon: &Addon, part: &StandIn) -> Result<()> {
        let instance = Instance { addon: addon.id.clone(), service: part.service.clone(), resource: String::new() };
        if let Some(row) = self.store.instance(&instance)? {
            part.must_be_on(&row.engine, &addon.id)?;
        }
        let engine = self.engines.get(part.engine.as_str())?;
        let there = self.core_container(part).await?;
        let row = StandInRow {
            addon: addon.id.clone(),
            service: part.service.clone(),
            engine: part.engine.to_string(),
            container: part.container.clone(),
            places: places(&there),
            standing: true,
        };
        if let Err(holder) = self.store.put_stand_in(&row)? {
            let message = format!("is the one that addon `{holder}` stands in for");
            return Err(refused(
                part,
                message,
                format!("`lodger disable {holder}` first, or `lodger reconcile {holder}`"),
            ));
        }
        self.tell(format!("stopping the container {}", part.container));
        Ok(engine.stop(&there.id, GRACE).await?)
    }

    /// Stops the container that an instance is to stand in for, if any.
    pub async fn stand_in_by(&self, addon: &Addon, instance: &Instance) -> Result<()> {
        let Some(part) = addon.grant.stands_in_by(&instance.service) else { return Ok(()) };
        if self.store.stand_in(&addon.id)?.is_some_and(|row| !row.is_as_granted(&addon.grant)) {
            self.give_back(&addon.id, false).await?;
        }
        self.stand_in(addon, part).await
    }

    /// Whether an instance was given up: its service is to stand in for a container, and does not any more.
    pub fn has_given_back(&self, addon: &Addon, instance: &Instance) -> Result<bool> {
        let stands_in = addon.grant.stands_in_by(&instance.service).is_some();
        Ok(stands_in && self.store.stand_in(&addon.id)?.is_none())
    }

    /// Ends what an addon stands in for, if anything: its service is taken away, and the container started again. With
    /// `stop` the service is not wanted any more; without, it shows as failed until somebody has it tried again.
    pub async fn give_back(&self, id: &AddonId, stop: bool) -> Result<Option<Repair>> {
        if self.store.stand_in(id)?.is_none() {
            return Ok(None);
        }
        self.store.end_stand_in(id, stop)?;
        self.go_on_giving_back(id).await
    }

    /// The same for an addon that has failed, of which more is to be told than that. What cannot be done now stays recorded,
    /// and is done when it is reconciled.
    pub async fn give_back_or_tell(&self, id: &AddonId, stop: bool) {
        if let Err(error) = self.give_back(id, stop).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(addon = %id, error, "the container that the addon stood in for is left to be started");
        }
    }

    /// The same from where it was committed, or was cut off.
    pub(super) async fn go_on_giving_back(&self, id: &AddonId) -> Result<Option<Repair>> {
        let Some(row) = self.store.stand_in(id)?.filter(|row| !row.standing) else { return Ok(None) };
        let engine = self.engines.get(&row.engine)?;
        let instance = row.instance();
        if let Some(there) = self.own_container(&*engine, &instance).await? {
            engine.stop(&there.id, GRACE).await?;
            engine.remove(&there.id).await?;
        }
        let container = &row.container;
        let why = match engine.container(container).await? {
            Some(core) => {
                if core.status != Status::Running {
                    engine.start(&core.id).await?;
                }
                format!("the container {container} runs again")
            }
            None => format!("the container {container} is not there any more to be started"),
        };
        self.store.forget_stand_in(id)?;
        if let Some(row) = self.store.instance(&instance)? {
            self.remove_secrets(&*engine, &row).await?;
        }
        Ok(Some(Repair::of(&instance, "gave back", Some(why))))
    }

    /// Whether an addon is recorded to stand in for what it should not, or by a service that is not to run: a container that
    /// nobody stands in for must not stay stopped.
    pub(super) fn stands_in_wrongly(&self, row: &StandInRow, addon: Option<&Addon>) -> Result<bool> {
        if !row.standing || addon.is_some_and(|addon| !row.is_as_granted(&addon.grant)) {
            return Ok(true);
        }
        Ok(self.store.instance(&row.instance())?.is_none_or(|by| by.wanted != Wanted::Running))
    }

    /// A service that stands in and should run. Where it cannot, the container takes over again.
    pub(super) async fn repair_stand_in(
        &self,
        engine: &dyn Engine,
        addon: &Addon,
        row: &InstanceRow,
        there: Option<&Container>,
        secrets_left: &BTreeSet<Instance>,
    ) -> Result<Vec<Repair>> {
        let id = &addon.id;
        let mut repairs = Vec::new();
        if self.store.stand_in(id)?.is_none_or(|row| !row.standing) {
            let ours = there.filter(|there| self.marks().vouches_for(&there.name, &there.labels));
            if let Some(there) = ours.filter(|there| there.status == Status::Running) {
                let stopped = engine.stop(&there.id, GRACE).await.map(|()| None);
                repairs.extend(Repair::of_done(&row.instance, stopped.map_err(Error::from))?);
            }
            let why = format!("it does not stand in any more; `lodger reconcile {id} --retry`");
            repairs.push(Repair::of(&row.instance, "failed", Some(why)));
            return Ok(repairs);
        }
        let done = self.repair(engine, Some(addon), row, there, secrets_left).await;
        repairs.extend(Repair::of_done(&row.instance, done)?);
        if repairs.iter().any(|repair| repair.is_problem() && repair.what != WAITING) {
            let gave = self.give_back(id, false).await;
            repairs.extend(Repair::of_done(&row.instance, gave)?);
        }
        Ok(repairs)
    }

    /// Stops the container that a service stands in for, where somebody else has started it: `Some` with its name.
    pub(super) async fn keep_stopped(
        &self,
        engine: &dyn Engine,
        addon: &Addon,
        row: &InstanceRow,
    ) -> Result<Option<String>> {
        let Some(part) = addon.grant.stands_in_by(&row.instance.service) else { return Ok(None) };
        let core = engine.container(&part.container).await?;
        let may_stop = |core: &Container| !core.goes_at_end && !core.labels.contains_key(LABEL_HOME);
        let Some(core) = core.filter(|core| core.status == Status::Running && may_stop(core)) else { return Ok(None) };
        engine.stop(&core.id, GRACE).await?;
        Ok(Some(part.container.clone()))
    }
}

fn refused(part: &StandIn, message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::NotReplaceable {
        container: part.container.clone(),
        engine: part.engine.to_string(),
        message: message.into(),
        hint: hint.into(),
    }
}

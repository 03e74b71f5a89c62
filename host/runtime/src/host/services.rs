//! When services are looked after: before every mutating hook, after a resource has gone, and when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Host, Locked, now_ms};
use crate::error::{Error, Result};
use crate::event::{ADDON_DEGRADED, ADDON_RECOVERED};
use crate::grant::Grant;
use crate::hook::HookName;
use crate::id::{AddonId, Id};
use crate::lifecycle::AddonState;
use crate::manifest::Manifest;
use crate::registry::Addon;
use crate::render::{Instance, Pin};
use crate::services::{Repair, Seen, Services};
use crate::store::Wanted;

/// What is shown of a service's output, in bytes.
const LOG_SHOWN: usize = 64 << 10;
/// How long nothing may be told before everything is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Between two looks at what services take of the disk, which costs an engine a walk through all that it has.
const MEASURE_AGAIN: Duration = Duration::from_secs(300);
/// What an engine tells comes in flurries; and a round that cannot succeed must not follow another at once.
const SETTLE: Duration = Duration::from_millis(500);

/// How long listeners are told in one round.
const TELL_WITHIN: Duration = Duration::from_secs(60);

/// What an upgrade that was cut off has left.
const CUT_OFF_UPGRADE: AddonState = AddonState::Interrupted(HookName::Upgrade);

/// What one instance of a service has written last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServiceLog {
    /// Our key of the resource it belongs to; absent where it serves all.
    pub resource: Option<String>,
    /// Escaped, line by line.
    pub text: String,
}

impl Host {
    /// Starts what starts with the addon, one after the other, each ready before the next.
    pub(crate) async fn start_services(&self, addon: &Addon) -> Result<()> {
        let part = addon.grant.stands_in.as_ref();
        let chosen = match part {
            Some(part) => Some(part.engine.to_string()),
            None => self.placement(addon, "").await,
        };
        let engine = self.services.place(&addon.id, "", chosen.as_deref()).await?;
        if let Some(part) = part {
            part.must_be_on(&engine, &addon.id)?;
            self.services.core_container(part).await?;
        }
        // Images of services that start later too, so that no app waits for them, or finds that they cannot be.
        for service in &addon.manifest.services {
            self.services.pin(addon, service, &engine).await?;
        }
        self.services.prepare(addon, &engine).await?;
        for service in Services::of_addon(addon) {
            let instance = Instance { addon: addon.id.clone(), service, resource: String::new() };
            self.services.stand_in_by(addon, &instance).await?;
            self.services.run(addon, &instance, None, Some(&engine)).await?;
        }
        Ok(())
    }

    /// At install: the images of services, checked. `None` without an engine that answers, unless it must be those that were
    /// `approved`; `enable` pins them then.
    pub(crate) async fn resolve_images(
        &self,
        manifest: &Manifest,
        grant: &Grant,
        approved: Option<&BTreeMap<Id, String>>,
    ) -> Result<Option<Vec<Pin>>> {
        let mut pins = Vec::new();
        if manifest.services.is_empty() {
            return Ok(Some(pins));
        }
        let may_wait = |error: &Error| approved.is_none() && error.is_unreachable();
        let engine = match &grant.stands_in {
            Some(part) => Ok(part.engine.to_string()),
            None => self.services.roomiest().await,
        };
        let engine = match engine {
            Err(error) if may_wait(&error) => return Ok(None),
            engine => engine?,
        };
        for service in &manifest.services {
            let pin = match approved {
                Some(approved) => self.services.resolve_approved(service, approved, &engine).await,
                None => self.services.resolve(&service.image, &engine).await,
            };
            match pin {
                Err(error) if may_wait(&error) => return Ok(None),
                pin => pins.push(pin?),
            }
        }
        Ok(Some(pins))
    }

    /// Before a mutating hook: what it may rely on is there.
    ///
    /// # Errors
    /// When an engine does not answer. What else is wrong with a service is for the hook to find out.
    pub(crate) async fn repair_services(&self, locked: &Locked, hook: HookName) -> Result<()> {
        if locked.addon.manifest.services.is_empty() {
            return Ok(());
        }
        // Whether a version that is tried stands in is settled when its hook runs.
        let stands_in = locked.state.is_enabled() || matches!(hook, HookName::Enable | HookName::Upgrade);
        self.reconcile_locked(&locked.addon, &locked.state, stands_in).await.map(drop)
    }

    /// After a resource has gone. What cannot be removed now stays recorded, and is removed when its engine answers again.
    pub(crate) async fn clear_services(&self, locked: &Locked) {
        if let Err(error) = self.repair_services(locked, HookName::Unprovision).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                addon = locked.addon.name,
                error,
                "services of a resource that is gone are left to be removed"
            );
        }
    }

    /// Finishes what was cut off, makes the services of all addons, or of one, be as they should, and tells those who listen
    /// what they have not heard of yet. An addon that is at work is left alone.
    ///
    /// # Errors
    /// When an engine does not answer, after the addons on other engines were seen to; and what else keeps the one addon
    /// that is meant from being seen to. Of several it is among the repairs.
    pub async fn reconcile(&self, only: Option<&AddonId>) -> Result<Vec<Repair>> {
        let repairs = Box::pin(self.mend_all(only)).await;
        // A listener does not wait for an engine.
        Box::pin(self.tell_events(only, TELL_WITHIN)).await?;
        repairs
    }

    async fn mend_all(&self, only: Option<&AddonId>) -> Result<Vec<Repair>> {
        let mut repairs = Vec::new();
        let mut unreachable = None;
        let cut_off = self.store.cut_off()?;
        let seen = self.services.see().await?;
        let standing = self.store.stand_ins()?;
        let ids: BTreeSet<AddonId> =
            self.store.addons_with_instances()?.into_iter().chain(cut_off.iter().cloned()).collect();
        for id in ids.into_iter().filter(|id| only.is_none_or(|only| only == id)) {
            let stands = standing.iter().any(|row| row.addon == id);
            match self.mend_one(&id, cut_off.contains(&id), stands, &seen, &mut repairs).await {
                Ok(()) => {}
                Err(error) if error.is_unreachable() => unreachable = Some(error),
                Err(error) if only.is_some() => return Err(error),
                // One that cannot be seen to keeps nobody from seeing to the others.
                Err(error) => repairs.push(Repair::failed(&id, &error)),
            }
        }
        if only.is_none() {
            self.sweep().await?;
        }
        unreachable.map_or(Ok(repairs), Err)
    }

    /// One addon, where nobody is at work on it. What was done before an error is among the repairs all the same.
    async fn mend_one(
        &self,
        id: &AddonId,
        cut_off: bool,
        stands: bool,
        seen: &Seen,
        repairs: &mut Vec<Repair>,
    ) -> Result<()> {
        let upgrading = cut_off && self.store.addon(id)?.is_some_and(|row| row.state.settled() == CUT_OFF_UPGRADE);
        let done = match self.lock(id).await {
            Ok(mut locked) if cut_off => {
                if upgrading {
                    repairs.push(Repair::by(HookName::Upgrade, id, None, "taken back", None));
                }
                let finished = self.finish_cut_off(&mut locked).await.map(|done| repairs.extend(done));
                repairs.extend(self.tidy(&locked).await?);
                return finished;
            }
            Ok(locked) => {
                let well = locked.state == AddonState::Enabled && !stands;
                if well && self.services.was_well(&locked.addon, seen)? {
                    return Ok(());
                }
                self.tidy(&locked).await
            }
            Err(Error::Busy { .. }) => return Ok(()),
            Err(Error::GrantRevoked { .. }) => self.reconcile_revoked(id).await,
            Err(error) => Err(error),
        };
        repairs.extend(done?);
        Ok(())
    }

    /// Makes the services of one addon, whose lock is held, be as they should. What was disabled is left with its data only.
    pub(crate) async fn tidy(&self, locked: &Locked) -> Result<Vec<Repair>> {
        let repairs = self.reconcile_locked(&locked.addon, &locked.state, locked.state.is_enabled()).await?;
        if locked.state == AddonState::Installed {
            self.services.clear_networks(&locked.addon.id).await?;
        }
        Ok(repairs)
    }

    /// Asks engines what services take of the disk, and records which take more than they may: [`Host::reconcile`] stops
    /// these, and starts those again that take less by now. True when there was anything to record. Expensive for the
    /// engine, which is why no other verb does it.
    ///
    /// # Errors
    /// When an engine does not tell, after the services on others were seen to.
    pub async fn measure_disks(&self, only: Option<&AddonId>) -> Result<bool> {
        let mut ids = self.store.addons_with_instances()?;
        ids.retain(|id| only.is_none_or(|only| only == id));
        let mut engines = BTreeSet::new();
        for id in &ids {
            let rows = self.store.instances(id)?.into_iter().filter(|row| row.wanted == Wanted::Running);
            engines.extend(rows.map(|row| row.engine));
        }
        let (usages, failed) = self.services.disk_usages(engines).await;
        let mut any = false;
        for id in ids {
            // Nearly always there is nothing to record, and nobody has to be waited for.
            match self.registry.get(self, &id).await {
                Ok((addon, _)) if self.services.to_note(&addon, &usages)?.is_empty() => continue,
                Ok(_) => {}
                // What it may take is to be decided anew, or it cannot be loaded, of which reconciling tells.
                Err(_) => continue,
            }
            match self.lock(&id).await {
                Ok(locked) => {
                    for (instance, bytes) in self.services.to_note(&locked.addon, &usages)? {
                        self.store.note_disk(&instance, Some(bytes))?;
                        any = true;
                    }
                }
                // It is looked at the next time.
                Err(Error::Busy { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(any), Err)
    }

    /// Forgives the services of an addon what keeps them from running: that they have crashed too often, and for some time
    /// what they take of the disk. What they have given back they stand in for again. [`Host::reconcile`] starts them.
    pub async fn retry_services(&self, id: &AddonId) -> Result<()> {
        let locked = self.lock(id).await?;
        let rows = self.store.instances(&locked.addon.id)?;
        let gave_back = locked.state.is_enabled() && self.store.stand_in(id)?.is_none();
        if let Some(part) = locked.addon.grant.stands_in.as_ref().filter(|_| gave_back)
            && rows.iter().any(|row| row.wanted == Wanted::Running && row.instance.service == part.service)
        {
            self.services.stand_in(&locked.addon, part).await?;
        }
        for row in rows {
            if row.failures > 0 || row.disk_bytes.is_some() || row.spared_at.is_some() {
                self.store.spare(&row.instance, now_ms() / 1000)?;
            }
        }
        Ok(())
    }

    /// The end of what every instance of a service has written.
    pub async fn service_logs(&self, addon: &AddonId, service: &Id) -> Result<Vec<ServiceLog>> {
        let mut rows = self.store.instances(addon)?;
        rows.retain(|row| row.instance.service == *service);
        if rows.is_empty() {
            return Err(Error::UnknownService { addon: addon.clone(), service: service.to_string() });
        }
        let (addon, _) = self.registry.get(self, addon).await?;
        let mut logs = Vec::new();
        for row in rows {
            let text = self.services.logs(&addon, &row, LOG_SHOWN).await?;
            logs.push(ServiceLog { resource: Some(row.instance.resource).filter(|key| !key.is_empty()), text });
        }
        Ok(logs)
    }

    /// Reconciles for ever: when an engine tells of a container of this home, and on a timer, since engines forget to tell.
    /// What each round has done goes to `tell`. Meanwhile disks are measured now and then, so that nothing waits for that, and
    /// those who listen are told what this host raises.
    pub async fn watch_services(&self, only: Option<&AddonId>, tell: impl Fn(Result<Vec<Repair>>)) {
        tokio::join!(self.keep_mending(only, &tell), self.keep_measuring(only, &tell), self.keep_telling(only, &tell));
    }

    /// What this host raises is told soon; what fails, and what others have raised, in the rounds of [`Host::reconcile`].
    async fn keep_telling(&self, only: Option<&AddonId>, tell: &impl Fn(Result<Vec<Repair>>)) {
        loop {
            self.store.next_raised().await;
            // It is committed by then, and others with it.
            tokio::time::sleep(SETTLE).await;
            if let Err(error) = Box::pin(self.tell_events(only, TELL_WITHIN)).await {
                tell(Err(error));
            }
        }
    }

    async fn keep_measuring(&self, only: Option<&AddonId>, tell: &impl Fn(Result<Vec<Repair>>)) {
        loop {
            let round = match self.measure_disks(only).await {
                Ok(true) => self.reconcile(only).await,
                other => other.map(|_| Vec::new()),
            };
            if !matches!(&round, Ok(repairs) if repairs.is_empty()) {
                tell(round);
            }
            tokio::time::sleep(MEASURE_AGAIN).await;
        }
    }

    async fn keep_mending(&self, only: Option<&AddonId>, tell: &impl Fn(Result<Vec<Repair>>)) {
        loop {
            // Listens before it looks, so that nothing in between is missed.
            let news = self.services.news().await;
            match self.reconcile(only).await {
                Ok(repairs) if repairs.is_empty() => {}
                round => tell(round),
            }
            // Whoever waits for a restart, or for an engine, is looked at again soon.
            let _ = tokio::time::timeout(LOOK_AGAIN, news).await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// The services of an addon that may not run as they do: what is to go can go, and it stands in for nothing.
    async fn reconcile_revoked(&self, id: &AddonId) -> Result<Vec<Repair>> {
        let _held = self.hold(id).await?;
        if self.store.stand_in(id)?.is_some() {
            self.store.end_stand_in(id, false)?;
        }
        self.services.reconcile(id, None).await
    }

    pub(crate) fn note_health(&self, addon: &Addon, well: bool) -> Result<()> {
        let kind = if well { ADDON_RECOVERED } else { ADDON_DEGRADED };
        let event = self.store.event(kind, Some(&addon.name), &self.actor());
        self.store.note_health(&addon.id, well, Some(&event))
    }

    /// Notes in the addon's state whether its services are well. One that is not enabled, and is not about to be, stands in
    /// for nothing: where it was cut off while it did, that ends here.
    pub(crate) async fn reconcile_locked(
        &self,
        addon: &Addon,
        state: &AddonState,
        stands_in: bool,
    ) -> Result<Vec<Repair>> {
        let id = &addon.id;
        if !stands_in && self.store.stand_in(id)?.is_some() {
            self.store.end_stand_in(id, true)?;
        }
        let repairs = self.services.reconcile(id, Some(addon)).await?;
        let ill = repairs.iter().any(Repair::is_problem);
        let has_health = addon.grant.hooks.contains(&HookName::Health);
        match state {
            AddonState::Enabled if ill => self.note_health(addon, false)?,
            // Where the addon has a say in it, its own hook tells when it is well again.
            AddonState::Degraded if !ill && !has_health => self.note_health(addon, true)?,
            _ => {}
        }
        Ok(repairs)
    }
}

//! Verbs on versions: upgrade and rollback.
//!
//! ```text
//! check, find images ── nothing has changed
//! leave ── committed: what the store has of the addon, to come back to
//! write the package beside the old, halt services, copy volumes and data
//! saved ── committed: from here on the way is back to the copy
//! services of the new version, `upgrade` on the copied data, `health`
//! change the data directories' places
//! take over ── committed: the new version serves
//! ```
//!
//! Whatever fails, or is cut off and found by whoever takes the addon's lock next, is taken back: volumes are put back from
//! their copies, the data directories into their places, and what the store had is committed again. A rollback is the same
//! from a version that has served. Every step can be taken again.

use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::addons::{Done, Incoming};
use crate::bindings::UnprovisionRequest;
use crate::error::{Error, Result};
use crate::event::{ADDON_ROLLED_BACK, ADDON_UPGRADED};
use crate::grant::Line;
use crate::hook::{Answer, HookName, HookRequest};
use crate::host::{Host, Locked, now_ms};
use crate::id::AddonId;
use crate::lifecycle::{AddonState, ResourceState};
use crate::limits::Limit;
use crate::outcome::{Outcome, Refused};
use crate::package::Package;
use crate::render::Pin;
use crate::resources::Reason;
use crate::sandbox::ProgressEvent;
use crate::services::SavedVolume;
use crate::store::{AddonRow, EarlierRow, Phase, ResourceRow, Successor, Variables};
use crate::{HealthStatus, compiler, registry};

/// The list of a snapshot's volumes.
const VOLUMES: &str = "volumes.json";
/// Largest such list, in bytes.
const VOLUMES_MAX: u64 = 16 << 20;

/// What [`Host::upgrade`] or [`Host::rollback`] has done, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Upgraded {
    pub id: AddonId,
    pub from: Version,
    pub to: Version,
    /// What the addon may do in `to` and may not in `from`.
    pub widens: Vec<Line>,
}

/// A version an addon can go back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Earlier {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub version: Version,
    /// When another took over, in milliseconds since 1970.
    pub left_at: i64,
}

/// What takes over: its row, and the names that variables of apps have in it.
struct Next {
    row: AddonRow,
    variables: Variables,
}

impl Host {
    /// Replaces an addon's version by a later one, with all it has: the caller has accepted what it widens. When it does not
    /// come to serve, everything is as before.
    ///
    /// # Errors
    /// Nothing has changed then, unless taking back failed, too: whoever takes the addon's lock next tries that again.
    pub async fn upgrade(&self, id: &AddonId, incoming: Incoming) -> Result<Done<Upgraded>> {
        self.ask_upgrade(id, &incoming).await?;
        let mut locked = self.lock(id).await?;
        let (next, what) = self.check_upgrade(&locked, &incoming)?;
        let Some(next) = next else { return Ok(Done::already(what)) };
        let manifest = &incoming.package.manifest;
        let pins = self.resolve_images(manifest, &incoming.grant, None).await?;
        let left = self.leave(&locked, &next.row.version)?;
        let put = self.put_beside(&next.row, &incoming.package, pins.as_deref());
        let tried = match put {
            Ok(()) => self.try_out(&mut locked, &left, &next.row).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(done) if done.outcome.is_completed() => {
                if let Err(error) = self.take_over(&locked, &left, &next).await {
                    self.take_back(id).await?;
                    return Err(error);
                }
                Ok(done.map(|()| what))
            }
            failed => {
                self.take_back(id).await?;
                failed.map(|done| Done { changed: false, ..done.map(|()| what) })
            }
        }
    }

    /// What [`Host::upgrade`] would do, and whether that is anything; does nothing.
    pub async fn would_upgrade(&self, id: &AddonId, incoming: &Incoming) -> Result<(Upgraded, bool)> {
        self.ask_upgrade(id, incoming).await?;
        let (next, what) = self.check_upgrade(&self.lock(id).await?, incoming)?;
        Ok((what, next.is_some()))
    }

    async fn ask_upgrade(&self, id: &AddonId, incoming: &Incoming) -> Result<()> {
        let package = &incoming.package;
        self.ask_upgrading(id, package.manifest.version.as_ref(), &package.digest).await
    }

    fn check_upgrade(&self, locked: &Locked, incoming: &Incoming) -> Result<(Option<Next>, Upgraded)> {
        let (addon, package) = (&locked.addon, &incoming.package);
        let id = &addon.id;
        if package.manifest.id != *id {
            return Err(Error::OtherAddon { addon: id.clone(), package: package.manifest.id.clone() });
        }
        let there = self.store.addon(id)?.ok_or_else(|| Error::UnknownAddon(id.to_string()))?;
        let same = there.digest == package.digest;
        let version = match &package.manifest.version {
            Some(version) => version.clone(),
            None if same => there.version.clone(),
            // A descriptor without versions: they are counted.
            None => Version { patch: there.version.patch + 1, ..there.version.clone() },
        };
        let what = Upgraded {
            id: id.clone(),
            from: there.version.clone(),
            to: version.clone(),
            widens: incoming.grant.widens(&addon.grant),
        };
        if version == there.version {
            return if same {
                Ok((None, what))
            } else {
                Err(Error::DigestChanged { addon: id.clone(), version: version.to_string() })
            };
        }
        if version < there.version {
            let (installed, offered) = (there.version.to_string(), version.to_string());
            return Err(Error::Downgrade { addon: id.clone(), installed, offered });
        }
        if !matches!(locked.state, AddonState::Installed | AddonState::Enabled | AddonState::Degraded) {
            return Err(self.not_permitted(addon, &locked.state, "upgrade", "installed or enabled"));
        }
        if locked.state.is_enabled() && incoming.grant.replaces != addon.grant.replaces {
            return Err(self.not_permitted(addon, &locked.state, "an upgrade to another slot", "disabled"));
        }
        let resources = self.store.resources_of_addon(id)?;
        still_there(locked, incoming, &version, &resources)?;
        let variables = self.variables_in(incoming, &resources)?;
        let row = AddonRow {
            version,
            digest: package.digest.clone(),
            component_digest: package.component.as_deref().map(compiler::digest),
            dev: false,
            grant_digest: incoming.grant.digest.clone(),
            events: incoming.grant.events.clone(),
            state: locked.state.clone(),
            installed_at: now_ms() / 1000,
            ..there
        };
        self.check_install_needs(&row, &package.manifest, &[])?;
        Ok((Some(Next { row, variables }), what))
    }

    /// The names that the new version's variables have in apps, none of them taken by another addon.
    fn variables_in(&self, incoming: &Incoming, resources: &[ResourceRow]) -> Result<Variables> {
        let mut all = Variables::new();
        for row in resources {
            let others = self.store.resources_of_app(&row.app)?.into_iter().filter(|other| other.key != row.key);
            let grant = &incoming.grant;
            let names = crate::resources::variables(grant, &row.app, row.alias.as_ref(), &others.collect::<Vec<_>>())?;
            all.insert(row.key.clone(), names);
        }
        Ok(all)
    }

    /// Writes a version beside the one that serves.
    fn put_beside(&self, row: &AddonRow, package: &Package, pins: Option<&[Pin]>) -> Result<()> {
        self.home.put_version(&row.id, &row.version, package)?;
        for (service, pin) in package.manifest.services.iter().zip(pins.into_iter().flatten()) {
            self.store.put_pin(&row.id, &row.version, &service.name, &service.image.to_string(), pin)?;
        }
        Ok(())
    }

    /// Commits that the addon's version is about to be left.
    fn leave(&self, locked: &Locked, to: &Version) -> Result<EarlierRow> {
        let id = &locked.addon.id;
        let resources = self.store.resources_of_addon(id)?;
        let left = EarlierRow {
            addon: id.clone(),
            version: locked.addon.version.clone(),
            state: locked.state.clone(),
            phase: Phase::Saving,
            data_inode: self.home.data_inode(id)?,
            resources: resources.into_iter().map(|row| (row.key, row.variables)).collect(),
            left_for: to.clone(),
            left_at: now_ms(),
        };
        self.store.leave(&left)?;
        Ok(left)
    }

    /// Copies what the version has, and lets the new one have it. Completed when the new version is fit to take over.
    async fn try_out(&self, locked: &mut Locked, left: &EarlierRow, next: &AddonRow) -> Result<Done<()>> {
        let id = &next.id;
        // What it stands in for runs meanwhile, and is stood in for anew by the version that serves in the end.
        self.services.give_back(id, false).await?;
        self.services.halt(id, false).await?;
        self.save(left).await?;
        self.store.saved(left)?;
        let data = self.home.open_snapshot_data(id, &left.version)?;
        locked.addon = Arc::new(registry::load(self, next, data).await?);
        locked.state = AddonState::Upgrading;
        let serves = left.state.is_enabled();
        if serves && !locked.addon.manifest.services.is_empty() {
            self.start_services(&locked.addon).await?;
        }
        if serves {
            self.services.bring_up(&locked.addon).await?;
        }
        let mut done = Done::without_call(());
        if locked.addon.grant.hooks.contains(&HookName::Upgrade) {
            let call = self.call_locked(locked, HookRequest::Upgrade(left.version.clone()), None).await?;
            done = Done::by(HookName::Upgrade, call, drop);
        }
        let room = locked.addon.grant.limits[Limit::DataBytes];
        let refused = match &done.call {
            _ if !done.outcome.is_completed() => None,
            Some(call) if call.report.data_bytes > room => {
                Some(("exhausted", format!("it leaves {} bytes of data and may keep {room}", call.report.data_bytes)))
            }
            _ if serves => self.unfit(locked).await?.map(|why| ("unhealthy", why)),
            _ => None,
        };
        if let Some((code, message)) = refused {
            done.outcome = Outcome::Refused(Refused { code: code.to_owned(), message });
        }
        Ok(done)
    }

    /// What `health` of the version that is tried says against it.
    async fn unfit(&self, locked: &Locked) -> Result<Option<String>> {
        if !locked.addon.grant.hooks.contains(&HookName::Health) {
            return Ok(None);
        }
        let size = crate::tree::Size::default();
        let call = self.call_reading_in(&locked.addon, &locked.state, size, HookRequest::Health).await?;
        Ok(match call.outcome {
            Outcome::Completed(Answer::Health(report)) if report.status == HealthStatus::Healthy => None,
            Outcome::Completed(Answer::Health(report)) => {
                let said = report.message.unwrap_or_default();
                Some(format!("its health is {:?}: {said}", report.status))
            }
            other => Some(format!("its health hook {other}")),
        })
    }

    /// Copies data and volumes of the version that is left. The data comes last, and syncs all.
    async fn save(&self, left: &EarlierRow) -> Result<()> {
        let (id, version) = (&left.addon, &left.version);
        self.home.begin_snapshot(id, version)?;
        let volumes = self.services.data_volumes(id).await?;
        for volume in &volumes {
            let file = self.home.create_saved(id, version, &file_name(volume))?;
            self.services.export(id, volume, file).await?;
        }
        let list = self.home.create_saved(id, version, VOLUMES)?;
        serde_json::to_writer(list, &volumes).map_err(|error| Error::io("write", VOLUMES)(error.into()))?;
        self.tell(|| ProgressEvent::Step("copying the data directory".to_owned()));
        let of = self.store.addon(id)?.map_or(0, |row| row.data.bytes).max(1);
        let mut bytes = 0;
        self.home.copy_data(id, version, &mut |copied| {
            bytes += copied;
            let percent = (bytes.saturating_mul(100) / of).min(100);
            self.tell(|| ProgressEvent::Percent(u8::try_from(percent).unwrap_or(100)));
        })
    }

    /// Lets the version that was tried take over for good.
    async fn take_over(&self, locked: &Locked, left: &EarlierRow, next: &Next) -> Result<()> {
        let id = &left.addon;
        self.home.place_data(id, &left.version, left.data_inode, false)?;
        let services: Vec<_> = locked.addon.manifest.services.iter().map(|service| service.name.clone()).collect();
        let slot = locked.addon.grant.replaces.as_ref();
        let event = self.store.event(ADDON_UPGRADED, Some(&locked.addon.name), &self.actor());
        let event = event.with("from", &left.version).with("version", &next.row.version);
        let keep = self.policy.retention.snapshots;
        let successor = Successor { row: &next.row, variables: &next.variables, services: &services, slot };
        self.store.take_over(&successor, left, keep, Some(&event))?;
        self.registry.forget(id);
        // From here on it serves: what is left to clear up is cleared up by whoever comes next, if not now.
        if let Err(error) = self.clear_up_after(id).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(addon = locked.addon.name, error, "cannot clear up after an upgrade");
        }
        Ok(())
    }

    async fn clear_up_after(&self, id: &AddonId) -> Result<()> {
        let (addon, _) = self.registry.get_under_lock(self, id).await?;
        self.services.reconcile(id, Some(&addon)).await?;
        self.services.remove_strays(&addon).await?;
        self.prune(id)
    }

    /// Makes an addon be as it was in the version it was about to leave, or is to come back to.
    pub(crate) async fn take_back(&self, id: &AddonId) -> Result<()> {
        let under_way = |row: &EarlierRow| matches!(row.phase, Phase::Saving | Phase::Trying);
        let Some(left) = self.store.earlier(id)?.into_iter().find(under_way) else { return Err(Error::TaskLost) };
        self.tell(|| ProgressEvent::Step(format!("taking {id} back to {}", left.version)));
        if left.phase == Phase::Trying {
            self.services.give_back_or_tell(id, false).await;
            self.services.halt(id, true).await?;
            self.put_back_volumes(&left).await?;
            self.home.place_data(id, &left.version, left.data_inode, true)?;
        }
        let event = self.store.event(ADDON_ROLLED_BACK, Some(&id.to_string()), &self.actor());
        self.store.return_to(&left, Some(&event))?;
        self.registry.forget(id);
        let (addon, now) = self.registry.get_under_lock(self, id).await?;
        if now.state.is_enabled() {
            self.services.bring_up(&addon).await?;
        }
        self.prune(id)
    }

    /// Volumes the version has made go, those it was given are as they were. What belongs to a resource that is gone, stays
    /// gone.
    async fn put_back_volumes(&self, left: &EarlierRow) -> Result<()> {
        use std::io::Read as _;
        let (id, version) = (&left.addon, &left.version);
        let list = self.home.open_saved(id, version, VOLUMES)?;
        let saved: Vec<SavedVolume> = serde_json::from_reader(list.take(VOLUMES_MAX))
            .map_err(|error| Error::io("read the list of volumes of", id.to_string())(error.into()))?;
        for volume in self.services.volumes(id).await? {
            if !saved.iter().any(|kept| kept.engine == volume.engine && kept.name == volume.name) {
                self.services.remove_volume(id, &volume).await?;
            }
        }
        for volume in &saved {
            if volume.resource().is_empty() || self.store.resource(id, volume.resource())?.is_some() {
                let file = self.home.open_saved(id, version, &file_name(volume))?;
                self.services.put_back(id, volume, file).await?;
            }
        }
        Ok(())
    }

    /// Goes back to the version before, with what it had when it was left. With `force`, what apps were given since is
    /// taken from them first.
    ///
    /// # Errors
    /// [`Error::NothingEarlier`], [`Error::AddedSince`], [`Error::VariableTaken`]; and as for [`Host::upgrade`].
    pub async fn rollback(&self, id: &AddonId, force: bool) -> Result<Done<Upgraded>> {
        let mut locked = self.lock(id).await?;
        let (left, added, what) = self.check_rollback(&locked, force).await?;
        let mut failed_open = Vec::new();
        for row in &added {
            let done = self.unprovision(&locked, row, Reason::Removed).await?.after(&mut failed_open);
            if !done.outcome.is_completed() {
                return Ok(done.map(|()| what));
            }
            failed_open = done.failed_open;
        }
        let state = match locked.state.is_enabled() {
            true if left.state.is_enabled() => locked.state.clone(),
            // Its data is from before it was enabled: that has to be done again, by whoever comes back to it.
            true => AddonState::Interrupted(HookName::Enable),
            false => AddonState::Installed,
        };
        self.store.begin_to_return(&left, &state)?;
        self.take_back(id).await?;
        self.look_again(&mut locked).await?;
        let mut done = Done::without_call(());
        if locked.state == AddonState::Interrupted(HookName::Enable) {
            done = self.enable_locked(&locked).await?;
            self.look_again(&mut locked).await?;
        }
        self.forget_removed(&locked, &left).await?;
        Ok(Done { changed: true, failed_open, ..done.map(|()| what) })
    }

    /// What [`Host::rollback`] would do; does nothing.
    pub async fn would_rollback(&self, id: &AddonId, force: bool) -> Result<Upgraded> {
        let (_, _, what) = self.check_rollback(&self.lock(id).await?, force).await?;
        Ok(what)
    }

    /// The version to go back to, and what was added since it was left.
    async fn check_rollback(&self, locked: &Locked, force: bool) -> Result<(EarlierRow, Vec<ResourceRow>, Upgraded)> {
        let id = &locked.addon.id;
        let nothing = || Error::NothingEarlier { addon: id.clone() };
        let kept = |row: &EarlierRow| row.phase == Phase::Kept;
        let left = self.store.earlier(id)?.into_iter().find(kept).ok_or_else(nothing)?;
        let mut added = self.store.resources_of_addon(id)?;
        added.retain(|row| !left.resources.contains_key(&row.key));
        if !added.is_empty() && !force {
            let apps = added.into_iter().map(|row| row.app).collect();
            return Err(Error::AddedSince { addon: id.clone(), version: left.version.to_string(), apps });
        }
        // Whether it would be admitted and can be loaded is found out before anything is changed.
        let row = self.store.addon_in(&left)?.ok_or_else(nothing)?;
        let data = self.home.open_snapshot_data(id, &left.version)?;
        let addon = registry::load(self, &row, data).await?;
        let what = Upgraded {
            id: id.clone(),
            from: locked.addon.version.clone(),
            to: left.version.clone(),
            widens: addon.grant.widens(&locked.addon.grant),
        };
        Ok((left, added, what))
    }

    /// What apps had when the version was left, and were relieved of since, its data still has.
    async fn forget_removed(&self, locked: &Locked, left: &EarlierRow) -> Result<()> {
        let addon = &locked.addon;
        if !addon.grant.hooks.contains(&HookName::Unprovision) || !locked.state.is_enabled() {
            return Ok(());
        }
        for key in left.resources.keys() {
            if self.store.resource(&addon.id, key)?.is_some() {
                continue;
            }
            let request = UnprovisionRequest { key: key.clone(), id: None, reason: Reason::Removed };
            let call = self.call_locked(locked, HookRequest::Unprovision(request), None).await?;
            if !call.outcome.is_completed() {
                tracing::warn!(
                    addon = addon.name,
                    key,
                    outcome = call.outcome.name(),
                    "data of a removed resource stays"
                );
            }
        }
        Ok(())
    }

    /// The versions an addon can go back to, the one left last first.
    pub fn earlier(&self, id: &AddonId) -> Result<Vec<Earlier>> {
        let rows = self.store.earlier(id)?.into_iter().filter(|row| row.phase == Phase::Kept);
        Ok(rows.map(|row| Earlier { version: row.version, left_at: row.left_at }).collect())
    }

    /// Removes from the disk what no version of an addon has any more, and then forgets it.
    pub(crate) fn prune(&self, id: &AddonId) -> Result<()> {
        let Some(row) = self.store.addon(id)? else { return Ok(()) };
        let earlier = self.store.earlier(id)?;
        let gone = earlier.iter().any(|row| row.phase == Phase::Gone);
        let kept = earlier.into_iter().filter(|row| row.phase != Phase::Gone);
        let snapshots: Vec<Version> = kept.map(|row| row.version).collect();
        let versions: Vec<Version> = snapshots.iter().cloned().chain([row.version]).collect();
        self.home.sweep(id, &versions, &snapshots)?;
        if gone { self.store.forget_gone(id) } else { Ok(()) }
    }
}

fn file_name(volume: &SavedVolume) -> String {
    format!("{}-{}.tar", volume.engine, volume.name)
}

/// Whether the new version has what resources need that are there: hooks and plans.
fn still_there(locked: &Locked, incoming: &Incoming, version: &Version, resources: &[ResourceRow]) -> Result<()> {
    let addon = &locked.addon;
    let needed = |what: String| Error::StillNeeded { addon: addon.id.clone(), version: version.to_string(), what };
    let in_use = resources.iter().filter(|row| row.state != ResourceState::Deprovisioning);
    for row in in_use {
        for hook in [HookName::Provision, HookName::Unprovision, HookName::Url, HookName::ConfigVars] {
            if addon.grant.hooks.contains(&hook) && !incoming.grant.hooks.contains(&hook) {
                return Err(needed(format!("the hook `{hook}`, which app `{}` needs", row.app)));
            }
        }
        if let Some(plan) = row.plan.as_ref().filter(|plan| incoming.package.manifest.plan(plan).is_none()) {
            return Err(needed(format!("the plan `{plan}`, which app `{}` has", row.app)));
        }
    }
    Ok(())
}

//! Repair: what was cut off is finished, under the key it was begun with; what nobody owns goes.
//!
//! Whoever takes an addon's lock turns what was under way into `interrupted` and takes an upgrade back ([`Host::lock`]).
//! Hooks that were cut off are asked again here, by [`Host::reconcile`], since they may take their time. A hook that is cut
//! off each time it is asked (by a host that dies of it, perhaps) is left alone after some: it stays `interrupted`, and the
//! command that asks once more is for a person to give.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::hook::HookName;
use crate::host::{Host, Locked};
use crate::id::AddonId;
use crate::lifecycle::{AddonState, ResourceState};
use crate::outcome::Outcome;
use crate::resources::{Reason, Resource};
use crate::services::Repair;

/// How often in a row a hook may be cut off before it is left alone.
pub(crate) const CUT_OFF_MAX: u32 = 3;

impl Host {
    /// Finishes what was cut off of an addon. What becomes of the hooks is among the repairs.
    pub(crate) async fn finish_cut_off(&self, locked: &mut Locked) -> Result<Vec<Repair>> {
        let id = locked.addon.id.clone();
        let mut repairs = Vec::new();
        if let AddonState::Interrupted(hook) = locked.state {
            match self.too_often(&id, hook, None)? {
                Some(why) => repairs.push(Repair::by(hook, &id, None, "failed", Some(why))),
                None => {
                    let done = match hook {
                        HookName::Disable => self.disable_locked(locked).await,
                        _ => self.enable_locked(locked).await,
                    };
                    repairs.push(told(hook, &id, None, done.map(|done| done.outcome))?);
                }
            }
            self.look_again(locked).await?;
        }
        for row in self.store.resources_of_addon(&id)? {
            let ResourceState::Interrupted(hook) = row.state.clone().settled() else { continue };
            let key = row.key.clone();
            if let Some(why) = self.too_often(&id, hook, Some(&key))? {
                repairs.push(Repair::by(hook, &id, Some(key), "failed", Some(why)));
                continue;
            }
            if crate::host::permit(&locked.addon, &locked.state, hook).is_err() {
                continue;
            }
            let outcome = match hook {
                // Which plan it is to have is for a person to say.
                HookName::ChangePlan => {
                    let why = Resource { state: ResourceState::Interrupted(hook), ..row.into() }.way_on();
                    repairs.push(Repair::by(hook, &id, Some(key), "failed", Some(why)));
                    continue;
                }
                HookName::Suspend | HookName::Resume => {
                    self.suspend_or_resume_locked(locked, row, hook).await.map(|done| done.outcome.map(drop))
                }
                HookName::Unprovision => self.unprovision(locked, &row, Reason::Removed).await.map(|done| done.outcome),
                _ => self.provision(locked, row).await.map(|done| done.outcome.map(drop)),
            };
            repairs.push(told(hook, &id, Some(key), outcome)?);
        }
        self.store.square(&id)?;
        self.prune(&id)?;
        Ok(repairs)
    }

    /// The addon as it is by now.
    async fn look_again(&self, locked: &mut Locked) -> Result<()> {
        let (addon, now) = self.registry.get_under_lock(self, &locked.addon.id).await?;
        (locked.addon, locked.state) = (addon, now.state.settled());
        Ok(())
    }

    fn too_often(&self, id: &AddonId, hook: HookName, key: Option<&str>) -> Result<Option<String>> {
        let times = self.store.cut_off_in_a_row(id, hook.name(), key, CUT_OFF_MAX)?;
        Ok((times >= CUT_OFF_MAX)
            .then(|| format!("it was cut off {times} times in a row; `lodger doctor` says what to do")))
    }

    /// Removes what uninstalled addons, and installs that were cut off, have left on the disk.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let known: BTreeSet<AddonId> = self.store.addons()?.into_iter().map(|row| row.id).collect();
        for id in self.home.addons_on_disk()?.into_iter().filter(|id| !known.contains(id)) {
            let Ok(_held) = self.hold(&id).await else { continue };
            // Somebody may be installing it.
            if self.store.addon(&id)?.is_none() {
                self.home.remove_versions(&id)?;
            }
        }
        Ok(())
    }
}

/// What became of a hook.
///
/// # Errors
/// That an engine does not answer: nothing became of it.
fn told(hook: HookName, id: &AddonId, key: Option<String>, outcome: Result<Outcome<()>>) -> Result<Repair> {
    let why = match outcome {
        Ok(Outcome::Completed(())) => return Ok(Repair::by(hook, id, key, "finished", None)),
        Ok(outcome) => format!("{}: {}", outcome.name(), outcome.detail().unwrap_or_default()),
        Err(error) if error.is_unreachable() => return Err(error),
        Err(error) => error.to_string(),
    };
    Ok(Repair::by(hook, id, key, "failed", Some(why)))
}

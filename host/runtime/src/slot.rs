//! Slots: parts of the host that an addon may stand in for, and which addon does.
//!
//! `scheduler` is the host's own; an embedder declares more of them in [`Config::slots`](crate::Config), and the policy's
//! `[[replaceable]]` those of the operator's platform, which are containers. An addon whose manifest says `replaces` claims
//! its slot in the transaction that begins to enable it, so that no two ever fill one. It fills it while it is enabled; a
//! claim of an addon that is not is void.

use crate::error::{Error, Result};
use crate::host::{Host, Locked};
use crate::id::{AddonId, Id};
use crate::sandbox::Extension;
use crate::store::Holder;

/// The slot that decides on which engine services go.
pub(crate) const SCHEDULER: &str = "scheduler";

/// A part of the host that an addon may fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What the manifest's `replaces` and the policy's `grant.slots` call it.
    pub name: Id,
    /// The interface that whoever fills it must export, such as `acme:game/rules`, without version.
    pub export: String,
}

/// What a host has for addons beyond its hooks: the embedder's, and the slots.
pub(crate) struct Offers<'a> {
    pub extension: Option<&'a Extension>,
    pub slots: &'a [Slot],
}

/// The host's own slots, then those of the embedder.
pub(crate) fn all(declared: Vec<Slot>) -> Vec<Slot> {
    let scheduler = Id::nearest(SCHEDULER).map(|name| Slot { name, export: "lodger:addon/scheduler".to_owned() });
    scheduler.into_iter().chain(declared).collect()
}

impl Host {
    pub(crate) fn offers(&self) -> Offers<'_> {
        Offers { extension: self.extension.as_ref(), slots: &self.slots }
    }

    /// The addon that fills a slot now: an embedder asks it by [`Host::call_world`]. `None` where the embedder's own code is
    /// to do it, which it should also where the addon fails. An addon of services only cannot be asked.
    pub fn filler(&self, slot: &str) -> Result<Option<AddonId>> {
        Ok(self.enabled_in(slot)?.filter(|holder| holder.has_component).map(|holder| holder.addon))
    }

    /// The addon that is enabled in a slot, whatever it does there.
    pub(crate) fn enabled_in(&self, slot: &str) -> Result<Option<Holder>> {
        Ok(self.store.slot(slot)?.filter(|holder| holder.state.is_enabled()))
    }

    /// Begins to enable an addon, in the slot it fills. False where it fills none; nothing is changed then.
    ///
    /// # Errors
    /// [`Error::SlotTaken`].
    pub(crate) fn claim_slot(&self, locked: &Locked) -> Result<bool> {
        let Some(slot) = &locked.addon.grant.replaces else { return Ok(false) };
        let claimed = self.store.claim_slot(slot.as_str(), &locked.addon.id)?;
        claimed.map(|()| true).map_err(|holder| taken(locked, slot, holder))
    }

    /// Whether [`Host::claim_slot`] would succeed; does nothing.
    pub(crate) fn could_claim_slot(&self, locked: &Locked) -> Result<()> {
        let Some(slot) = &locked.addon.grant.replaces else { return Ok(()) };
        match self.store.slot(slot.as_str())? {
            Some(holder) if holder.addon != locked.addon.id && holder.state.holds_slots() => {
                Err(taken(locked, slot, holder.addon))
            }
            _ => Ok(()),
        }
    }
}

fn taken(locked: &Locked, slot: &Id, holder: AddonId) -> Error {
    Error::SlotTaken { addon: locked.addon.id.clone(), slot: slot.clone(), holder }
}

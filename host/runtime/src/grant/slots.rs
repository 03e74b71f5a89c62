//! The slot of a grant: what an addon fills of the host, and which container of the machine it stands in for.

use serde::{Deserialize, Serialize};

use super::{Facts, Line, refusal};
use crate::error::Error;
use crate::id::{AddonId, Id};
use crate::manifest::{Manifest, Problem, StartMode};
use crate::policy::{Policy, Replaceable};
use crate::slot::{SCHEDULER, Slot};

/// The container that a service of the addon stands in for while it is enabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StandIn {
    pub service: Id,
    pub container: String,
    /// As the policy names it.
    pub engine: Id,
}

/// Admits the slot it fills: one the host has or the policy names a container for, and gives to addons. A component must
/// export what the host's own slot asks; where there is a container, a service is enough.
pub(super) fn replaces(
    manifest: &Manifest,
    policy: &Policy,
    facts: &Facts,
    slots: &[Slot],
    refusals: &mut Vec<Problem>,
    lines: &mut Vec<Line>,
) -> Option<StandIn> {
    let name = manifest.replaces.as_ref()?;
    let slot = slots.iter().find(|slot| slot.name == *name);
    let part = policy.replaceable.iter().find(|part| part.slot == *name);
    if slot.is_none() && part.is_none() {
        refusals.push(unknown(name, policy, slots));
        return None;
    }
    if !policy.slots.contains(name) {
        refusals.push(refusal(
            "replaces",
            format!("asks to fill the slot `{name}`, which the policy gives to no addon"),
            format!("remove it, or add it in lodger.toml under [grant]: `slots = [\"{name}\"]`"),
        ));
    }
    let slot = slot.filter(|_| manifest.component.is_some() || part.is_none());
    if let Some(slot) = slot {
        fills(manifest, slot, facts, refusals, lines);
    }
    let part = part?;
    match stand_in(manifest, name) {
        // The component alone fills the host's own slot.
        Ok(None) if slot.is_some() => None,
        Ok(Some(service)) => {
            let stands_in = StandIn { service, container: part.container.clone(), engine: part.engine.clone() };
            lines.push(stands_in.line(name, policy));
            Some(stands_in)
        }
        unclear => {
            refusals.push(which(name, part, unclear.is_ok()));
            None
        }
    }
}

fn unknown(name: &Id, policy: &Policy, slots: &[Slot]) -> Problem {
    let mut there: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
    for part in &policy.replaceable {
        if !there.contains(&part.slot.as_str()) {
            there.push(part.slot.as_str());
        }
    }
    let hint = format!(
        "remove it, name one of the slots there are: {}, or name a container for it under [[replaceable]] in lodger.toml",
        there.join(", ")
    );
    refusal("replaces", format!("this host has no slot `{name}`"), hint)
}

/// A slot of the host itself.
fn fills(manifest: &Manifest, slot: &Slot, facts: &Facts, refusals: &mut Vec<Problem>, lines: &mut Vec<Line>) {
    let name = &slot.name;
    let looked_at = manifest.component.is_none() || !facts.exports.is_empty();
    if looked_at && !facts.exports.contains(&slot.export) {
        refusals.push(refusal(
            "replaces",
            format!("the component does not export `{}`, which whoever fills the slot `{name}` must", slot.export),
            "export it, or remove `replaces` from addon.json",
        ));
    }
    let what = match name.as_str() {
        SCHEDULER => {
            "decide on which engine the services of all other addons go, told their names, images and limits".to_owned()
        }
        _ => format!("stand in for the `{name}` of this host"),
    };
    let because = format!("addon.json: replaces; lodger.toml: grant.slots has `{name}`");
    lines.push(Line { may: true, what, because });
}

/// The service that stands in for a container: the only one that starts with the addon, or the one named like the slot.
/// `Err` where there are several.
fn stand_in(manifest: &Manifest, slot: &Id) -> Result<Option<Id>, ()> {
    let starting = manifest.services.iter().filter(|service| service.start == StartMode::Enable);
    let names: Vec<&Id> = starting.map(|service| &service.name).collect();
    match &names[..] {
        [] => Ok(None),
        [only] => Ok(Some((*only).clone())),
        several if several.contains(&slot) => Ok(Some(slot.clone())),
        _ => Err(()),
    }
}

fn which(slot: &Id, part: &Replaceable, none: bool) -> Problem {
    let container = &part.container;
    let (message, hint) = if none {
        (
            format!("no service starts with the addon, to stand in for the container `{container}`"),
            "declare one with `\"start\": \"enable\"`".to_owned(),
        )
    } else {
        (
            format!("several services start with the addon: which stands in for the container `{container}`?"),
            format!("name that one `{slot}`"),
        )
    };
    refusal("services", message, hint)
}

impl StandIn {
    /// What an addon has on engines is together on one, and a container cannot be stood in for from another.
    pub(crate) fn must_be_on(&self, engine: &str, addon: &AddonId) -> crate::error::Result<()> {
        if self.engine.as_str() == engine {
            return Ok(());
        }
        Err(Error::Service {
            addon: addon.clone(),
            service: self.service.clone(),
            message: format!("belongs to engine `{engine}`, and the container it is to stand in for to another"),
            hint: format!("`lodger uninstall {addon} --keep-data`, and install it again"),
        })
    }

    fn line(&self, slot: &Id, policy: &Policy) -> Line {
        let StandIn { service, container, engine } = self;
        let of = match &policy.services.engines[..] {
            [only] if !only.is_remote() => "this machine".to_owned(),
            _ => format!("engine {engine}"),
        };
        let what = format!(
            "stand in for the container {container} of {of}, which is stopped meanwhile: its service {service} has the names \
             of that in its networks, and reaches what they reach"
        );
        let because = format!("addon.json: replaces; lodger.toml: [[replaceable]] of slot `{slot}`");
        Line { may: true, what, because }
    }
}

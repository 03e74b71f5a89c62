//! The slot of a grant.

use super::{Facts, Line, refusal};
use crate::manifest::{Manifest, Problem};
use crate::policy::Policy;
use crate::slot::{SCHEDULER, Slot};

/// Admits the slot it fills: one the host has, that the policy gives to addons, and whose interface the component exports.
pub(super) fn replaces(
    manifest: &Manifest,
    policy: &Policy,
    facts: &Facts,
    slots: &[Slot],
    refusals: &mut Vec<Problem>,
    lines: &mut Vec<Line>,
) {
    let Some(name) = &manifest.replaces else { return };
    let Some(slot) = slots.iter().find(|slot| slot.name == *name) else {
        let there: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
        let hint = format!("remove it, or name one of the slots there are: {}", there.join(", "));
        return refusals.push(refusal("replaces", format!("this host has no slot `{name}`"), hint));
    };
    if !policy.slots.contains(name) {
        refusals.push(refusal(
            "replaces",
            format!("asks to fill the slot `{name}`, which the policy gives to no addon"),
            format!("remove it, or add it in lodger.toml under [grant]: `slots = [\"{name}\"]`"),
        ));
    }
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

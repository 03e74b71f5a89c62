//! The events of a grant: what an addon hears of, and may change or refuse beforehand.

use super::{Facts, Line, refusal};
use crate::event::{covers, is_pattern};
use crate::hook::HookName;
use crate::manifest::{Manifest, Problem};
use crate::policy::Policy;

pub(super) fn in_words(pattern: &str) -> String {
    format!("hear of events `{pattern}` of all other addons and apps, and change or refuse them beforehand")
}

pub(super) fn events(
    manifest: &Manifest,
    policy: &Policy,
    facts: &Facts,
    refusals: &mut Vec<Problem>,
    lines: &mut Vec<Line>,
) {
    let exports = facts.hooks.contains(&HookName::Before);
    for (place, asked) in manifest.events.iter().enumerate() {
        let path = format!("capabilities.events[{place}]");
        let shown = crate::text::shown(asked, 80);
        if !is_pattern(asked) {
            let hint = "name a kind, such as `app.added`, or all that begin alike, such as `app.*`";
            refusals.push(refusal(path, format!("`{shown}` names no event"), hint));
            continue;
        }
        match policy.events.iter().find(|pattern| covers(pattern, asked)) {
            Some(pattern) => lines.push(Line {
                may: true,
                what: in_words(asked),
                because: format!("addon.json: {path}; lodger.toml: grant.events has `{pattern}`"),
            }),
            None => refusals.push(refusal(
                path,
                format!("asks for events `{shown}`, which the policy lets no addon hear of"),
                format!("remove it, or add it in lodger.toml under [grant]: `events = [\"{shown}\"]`"),
            )),
        }
    }
    let looked_at = manifest.component.is_none() || !facts.exports.is_empty();
    if !manifest.events.is_empty() && looked_at && !exports {
        refusals.push(refusal(
            "capabilities.events",
            "the component does not export `lodger:addon/events`, by which it would hear of them",
            "export it, or remove `capabilities.events` from addon.json",
        ));
    }
    if manifest.events.is_empty() && exports {
        lines.push(Line {
            may: false,
            what: "hear of any event, although it exports `lodger:addon/events`".to_owned(),
            because: "addon.json: no capabilities.events".to_owned(),
        });
    }
}

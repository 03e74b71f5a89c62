//! Parts of the operator's own platform that a plugin may stand in for: `[[replaceable]]`.

use serde::Deserialize;

use super::EngineAt;
use crate::id::Id;
use crate::text::shown;

/// A container of an engine, not one of lodger's own, that a service of the addon in a slot may stand in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaceable {
    pub slot: Id,
    pub container: String,
    /// As the policy names it.
    pub engine: Id,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    slot: Id,
    container: String,
    /// Left out where there is only one.
    engine: Option<Id>,
}

pub(super) fn read(
    lines: Vec<Line>,
    engines: &[EngineAt],
    looser: &mut Vec<String>,
) -> Result<Vec<Replaceable>, String> {
    let mut all: Vec<Replaceable> = Vec::new();
    for Line { slot, container, engine } in lines {
        if !is_container_name(&container) {
            return Err(format!("replaceable: `{}` is no name of a container", shown(&container, 60)));
        }
        let engine = match (engine, engines) {
            (Some(name), _) if engines.iter().any(|engine| engine.name == name) => name,
            (Some(name), _) => return Err(format!("replaceable: the policy names no engine `{name}`")),
            (None, [only]) => only.name.clone(),
            (None, _) => return Err(format!("replaceable: say which `engine` has the container `{container}`")),
        };
        if all.iter().any(|other| other.slot == slot) {
            return Err(format!("replaceable: the slot `{slot}` stands twice"));
        }
        if all.iter().any(|other| (&other.container, &other.engine) == (&container, &engine)) {
            return Err(format!("replaceable: the container `{container}` stands twice"));
        }
        looser.push(format!("replaceable: a plugin may stand in for the container `{container}`"));
        all.push(Replaceable { slot, container, engine });
    }
    Ok(all)
}

/// What engines take as a name, and not as the beginning of an id.
fn is_container_name(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    plain && starts && text.len() <= 128 && !text.bytes().all(|b| b.is_ascii_hexdigit())
}

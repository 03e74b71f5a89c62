//! What is taken and answered in Oakestra's shapes, for the document of the API.

use lodger::{AddonId, Check, EntryStatus, Grant, Id, Review, Standing};
use serde_json::{Map, Value, json};

use super::schema;
use crate::document::{Schemas, list_of};

fn text(says: &str) -> Value {
    json!({ "type": "string", "description": says })
}

/// What a list of what is approved may be asked for.
pub fn search(_: &mut Schemas) -> Value {
    json!({ "properties": { "name": text("Of this name alone"), "search": text("In its names or its description") } })
}

/// What a list of what was installed may be asked for.
pub fn filter(_: &mut Schemas) -> Value {
    json!({ "properties": { "status": text("In this status alone") } })
}

pub fn descriptor(schemas: &mut Schemas) -> Value {
    schemas.named("Descriptor", schema::of_descriptor())
}

pub fn to_install(schemas: &mut Schemas) -> Value {
    schemas.named("ToInstall", schema::of_installing())
}

pub fn to_move(schemas: &mut Schemas) -> Value {
    let to_move = json!({ "type": "object", "required": ["status"], "properties": { "status": { "enum": Standing::ALL.map(Standing::name) } } });
    schemas.named("ToMove", to_move)
}

/// A descriptor, with what it is here.
fn shown(status: &[&str], ours: Value, schemas: &mut Schemas) -> Value {
    let objects = || json!({ "type": "array", "items": { "type": "object" } });
    let properties = json!({
        "_id": text("24 hex digits"),
        "name": text("As its author has it"),
        "services": objects(),
        "volumes": objects(),
        "networks": objects(),
        "status": { "enum": status },
        "namespace": schemas.of::<Id>(),
        "addon": schemas.of::<AddonId>(),
        "version": text("Of the addon"),
        "digest": text("Of its package"),
    });
    let all: Map<String, Value> =
        [properties, ours].into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect();
    let required: Vec<&String> = all.keys().collect();
    json!({ "type": "object", "required": required, "properties": all })
}

pub fn entry(schemas: &mut Schemas) -> Value {
    schemas.of::<Check>();
    let review = json!({ "oneOf": [{ "type": "null" }, schemas.of::<Review>()] });
    let ours = json!({
        "published_at": { "type": "integer", "description": "Seconds since 1970" },
        "verification": review,
    });
    let entry = shown(&EntryStatus::ALL.map(EntryStatus::name), ours, schemas);
    schemas.named("Entry", entry)
}

pub fn entries(schemas: &mut Schemas) -> Value {
    json!({ "type": "array", "items": entry(schemas) })
}

pub fn installation(schemas: &mut Schemas) -> Value {
    let failure = json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": { "code": text("Stable"), "message": text("Why"), "hint": text("What would help") },
    });
    let details = json!({
        "type": "object",
        "properties": { "failed_services": list_of::<Id>(schemas), "waits_for": failure, "failure": failure },
    });
    let ours = json!({
        "marketplace_id": text("Of what was published"),
        "description": text("As its author has it"),
        "status_details": details,
        "logs": text("The end of what services that do not serve have written"),
        "grant": text("Its digest"),
    });
    let installation = shown(&Standing::ALL.map(Standing::name), ours, schemas);
    schemas.named("Installation", installation)
}

pub fn installations(schemas: &mut Schemas) -> Value {
    json!({ "type": "array", "items": installation(schemas) })
}

pub fn error(schemas: &mut Schemas) -> Value {
    let error = json!({
        "type": "object",
        "required": ["code", "status", "reason"],
        "properties": {
            "code": { "type": "integer" },
            "status": text("What the code says"),
            "reason": text("Stable"),
            "message": text("What is wrong"),
            "errors": { "type": "object", "description": "What is wrong, by where it is" },
            "hint": text("What would help"),
            "grant": schemas.of::<Grant>(),
        },
    });
    schemas.named("OakestraError", error)
}

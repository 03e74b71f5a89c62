//! The schema of Oakestra's descriptors, with its messages: every field that is wrong is told, not only the first. What a
//! manifest has beyond it is let through, for the library to read.

use serde_json::{Map, Value, json};

enum Kind {
    Text,
    /// One line or its words.
    Command,
    Flag,
    Texts,
    /// Names to texts.
    Pairs,
    Objects(&'static [Field]),
    /// The same, where a name alone is an object of that name.
    NamedObjects(&'static [Field]),
    /// Not Oakestra's, of these types: what is in it the library reads.
    Ours(&'static [&'static str]),
}

struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
}

const fn needed(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

const DESCRIPTOR: &[Field] = &[
    needed("name", Kind::Text),
    needed("services", Kind::Objects(SERVICE)),
    field("description", Kind::Text),
    field("volumes", Kind::Objects(VOLUME)),
    field("networks", Kind::NamedObjects(NETWORK)),
    field("_id", Kind::Text),
    field("namespace", Kind::Text),
    field("version", Kind::Text),
    field("display_name", Kind::Text),
    field("component", Kind::Text),
    field("replaces", Kind::Text),
    field("config_vars", Kind::Ours(&["array", "null"])),
    field("plans", Kind::Ours(&["array"])),
    field("settings", Kind::Ours(&["object"])),
    field("capabilities", Kind::Ours(&["object"])),
    field("limits", Kind::Ours(&["object"])),
    field("provider", Kind::Ours(&["object"])),
    field("depends", Kind::Ours(&["array"])),
];

const SERVICE: &[Field] = &[
    needed("service_name", Kind::Text),
    needed("image", Kind::Text),
    field("command", Kind::Command),
    field("networks", Kind::Texts),
    field("volumes", Kind::Texts),
    field("ports", Kind::Pairs),
    field("environment", Kind::Pairs),
    field("labels", Kind::Pairs),
    field("secret_files", Kind::Texts),
    field("start", Kind::Text),
    field("ready", Kind::Ours(&["object", "null"])),
    field("egress", Kind::Ours(&["boolean"])),
    field("writable_root", Kind::Ours(&["boolean"])),
    field("capabilities", Kind::Ours(&["array", "null"])),
    field("limits", Kind::Ours(&["object"])),
];

const VOLUME: &[Field] = &[
    needed("name", Kind::Text),
    field("driver", Kind::Text),
    field("driver_opts", Kind::Pairs),
    field("labels", Kind::Pairs),
];

const NETWORK: &[Field] = &[
    needed("name", Kind::Text),
    field("driver", Kind::Text),
    field("driver_opts", Kind::Pairs),
    field("enable_ipv6", Kind::Flag),
];

const TO_INSTALL: &[Field] = &[needed("marketplace_id", Kind::Text), field("grant", Kind::Text)];

const TO_MOVE: &[Field] = &[needed("status", Kind::Text)];

/// What counts as yes and as no.
const YES: [&str; 14] = ["t", "T", "true", "True", "TRUE", "on", "On", "ON", "y", "Y", "yes", "Yes", "YES", "1"];
const NO: [&str; 14] = ["f", "F", "false", "False", "FALSE", "off", "Off", "OFF", "n", "N", "no", "No", "NO", "0"];

/// Checks a descriptor, and takes out what is not the publisher's to say. The errors are by path.
pub fn descriptor(value: &mut Value) -> Result<(), Value> {
    let wrong = object(value, DESCRIPTOR);
    if let Some(descriptor) = value.as_object_mut() {
        // Whoever publishes again what was answered sends the id it had.
        descriptor.remove("_id");
    }
    wrong.map_or(Ok(()), Err)
}

/// Checks what is asked of the addons manager.
pub fn to_install(value: &mut Value) -> Result<(), Value> {
    object(value, TO_INSTALL).map_or(Ok(()), Err)
}

pub fn to_move(value: &mut Value) -> Result<(), Value> {
    object(value, TO_MOVE).map_or(Ok(()), Err)
}

const MISSING: &str = "Missing data for required field.";
const UNKNOWN: &str = "Unknown field.";

fn invalid_type() -> Value {
    json!({ "_schema": ["Invalid input type."] })
}

fn object(value: &mut Value, fields: &[Field]) -> Option<Value> {
    let Some(given) = value.as_object_mut() else { return Some(invalid_type()) };
    let mut errors = Map::new();
    for field in fields.iter().filter(|field| field.required && !given.contains_key(field.name)) {
        errors.insert(field.name.to_owned(), json!([MISSING]));
    }
    for (name, value) in given {
        let wrong = match fields.iter().find(|field| field.name == name) {
            Some(field) => one(value, &field.kind),
            None => Some(json!([UNKNOWN])),
        };
        errors.extend(wrong.map(|wrong| (lodger::text::shown(name, 60), wrong)));
    }
    (!errors.is_empty()).then_some(Value::Object(errors))
}

fn one(value: &mut Value, kind: &Kind) -> Option<Value> {
    let wrong = |message: &str| Some(json!([message]));
    match (kind, &mut *value) {
        (Kind::Ours(_), _) => None,
        (_, Value::Null) => wrong("Field may not be null."),
        (Kind::Text | Kind::Command, Value::String(_)) => None,
        (Kind::Command, Value::Array(words)) if words.iter().all(Value::is_string) => None,
        (Kind::Text | Kind::Command, _) => wrong("Not a valid string."),
        (Kind::Flag, flag) => match truth(flag) {
            Some(truth) => {
                *flag = Value::Bool(truth);
                None
            }
            None => wrong("Not a valid boolean."),
        },
        (Kind::Texts, Value::Array(items)) => items_of(items, |item| one(item, &Kind::Text)),
        (Kind::Objects(fields), Value::Array(items)) => items_of(items, |item| object(item, fields)),
        (Kind::NamedObjects(fields), Value::Array(items)) => {
            items_of(items, |item| if item.is_string() { None } else { object(item, fields) })
        }
        (Kind::Texts | Kind::Objects(_) | Kind::NamedObjects(_), _) => wrong("Not a valid list."),
        (Kind::Pairs, Value::Object(pairs)) => {
            let of = |(name, value): (&String, &mut Value)| {
                one(value, &Kind::Text).map(|wrong| (lodger::text::shown(name, 60), json!({ "value": wrong })))
            };
            let errors: Map<String, Value> = pairs.iter_mut().filter_map(of).collect();
            (!errors.is_empty()).then_some(Value::Object(errors))
        }
        (Kind::Pairs, _) => wrong("Not a valid mapping type."),
    }
}

/// The same as a JSON schema, for the document of the API.
pub fn of_descriptor() -> Value {
    written(DESCRIPTOR)
}

pub fn of_installing() -> Value {
    written(TO_INSTALL)
}

fn written(fields: &[Field]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.to_owned(), field.kind.written())).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

impl Kind {
    fn written(&self) -> Value {
        let text = || json!({ "type": "string" });
        match self {
            Kind::Text => text(),
            Kind::Command => json!({ "type": ["string", "array"], "items": text() }),
            Kind::Flag => {
                let texts = YES.into_iter().chain(NO).collect::<Vec<_>>().join("|");
                let text = json!({ "type": "string", "pattern": format!("^({texts})$") });
                json!({ "anyOf": [{ "type": "boolean" }, text, { "type": "integer", "enum": [0, 1] }] })
            }
            Kind::Texts => json!({ "type": "array", "items": text() }),
            Kind::Pairs => json!({ "type": "object", "additionalProperties": text() }),
            Kind::Objects(fields) => json!({ "type": "array", "items": written(fields) }),
            Kind::NamedObjects(fields) => json!({ "type": "array", "items": { "anyOf": [text(), written(fields)] } }),
            Kind::Ours(types) => json!({ "type": types, "items": {}, "description": "As in `addon.json`" }),
        }
    }
}

fn items_of(items: &mut [Value], check: impl Fn(&mut Value) -> Option<Value>) -> Option<Value> {
    let wrong = items.iter_mut().enumerate().filter_map(|(place, item)| Some((place.to_string(), check(item)?)));
    let errors: Map<String, Value> = wrong.collect();
    (!errors.is_empty()).then_some(Value::Object(errors))
}

fn truth(value: &Value) -> Option<bool> {
    let text = match value {
        Value::Bool(truth) => return Some(*truth),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if YES.contains(&text.as_str()) {
        return Some(true);
    }
    NO.contains(&text.as_str()).then_some(false)
}

/// Fills in what was left out, as Oakestra answers it.
pub fn with_defaults(descriptor: &mut Map<String, Value>) {
    for list in ["services", "volumes", "networks"] {
        descriptor.entry(list).or_insert_with(|| json!([]));
    }
    let fill = |descriptor: &mut Map<String, Value>, list: &str, defaults: &[(&str, Value)]| {
        let items = descriptor.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for item in items {
            if let Value::String(name) = item {
                *item = json!({ "name": name });
            }
            if let Some(item) = item.as_object_mut() {
                for (name, value) in defaults {
                    item.entry(*name).or_insert_with(|| value.clone());
                }
            }
        }
    };
    let (none, empty) = (|| json!({}), || json!([]));
    let of_service =
        [("networks", empty()), ("volumes", empty()), ("ports", none()), ("environment", none()), ("labels", none())];
    fill(descriptor, "services", &of_service);
    fill(descriptor, "volumes", &[("driver", json!("local")), ("driver_opts", none()), ("labels", none())]);
    fill(descriptor, "networks", &[("driver", json!("bridge")), ("enable_ipv6", json!(false))]);
}

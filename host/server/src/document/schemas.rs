//! What values look like: schemas, by their names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// What a value looks like. Parts that have a name are put among the schemas.
pub type Shape = fn(&mut Schemas) -> Value;

/// The same in place, and not among the schemas: for queries, of which only the properties are used.
pub fn fields_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    schemas.put_parts_of::<T>();
    json!(T::schema())
}

pub fn one<T: ToSchema>(schemas: &mut Schemas) -> Value {
    schemas.of::<T>()
}

pub fn list_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    json!({ "type": "array", "items": schemas.of::<T>() })
}

/// By their names.
pub fn map_of(values: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

pub fn page_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let next =
        json!({ "type": ["string", "null"], "description": "The `cursor` of the next page, where there is one" });
    let properties = json!({ "items": list_of::<T>(schemas), "next": next });
    let page = json!({ "type": "object", "required": ["items", "next"], "properties": properties });
    schemas.named(&format!("PageOf{}", T::name()), page)
}

/// Of parts, by their names; more than one where they contradict each other.
#[derive(Default)]
pub struct Schemas(BTreeMap<String, Vec<Value>>);

impl Schemas {
    pub fn of<T: ToSchema>(&mut self) -> Value {
        self.put_parts_of::<T>();
        self.named(&T::name(), json!(T::schema()))
    }

    /// Under a name.
    pub fn named(&mut self, name: &str, schema: Value) -> Value {
        self.put(name, schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn put_parts_of<T: ToSchema>(&mut self) {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        parts.into_iter().for_each(|(name, schema)| self.put(&name, json!(schema)));
    }

    fn put(&mut self, name: &str, schema: Value) {
        let known = self.0.entry(name.to_owned()).or_default();
        if !known.contains(&schema) {
            known.push(schema);
        }
    }

    pub(super) fn extend(&mut self, other: Schemas) {
        for (name, schemas) in other.0 {
            schemas.into_iter().for_each(|schema| self.put(&name, schema));
        }
    }

    pub(super) fn all(&self) -> Map<String, Value> {
        self.0.iter().filter_map(|(name, known)| Some((name.clone(), known.first()?.clone()))).collect()
    }

    #[cfg(test)]
    pub(super) fn contradictions(&self) -> Vec<&String> {
        self.0.iter().filter(|(_, known)| known.len() > 1).map(|(name, _)| name).collect()
    }
}

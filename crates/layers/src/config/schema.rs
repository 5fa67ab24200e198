//! JSON Schema of config structs (feature `schemars`).
//!
//! A schema describes a config as a file has it. JSON Schema has no limits for durations: they are in the
//! extensions `x-minimum`, `x-exclusiveMinimum` and `x-maximum`, as text such as `10ms`.

use std::{borrow::Cow, ops::RangeInclusive};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::duration::written;

/// The schema of a duration, for `#[schemars(with = "…")]`: text with a unit, such as `300ms`. Its `format` is
/// `duration`.
#[derive(Debug)]
pub enum Duration {}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

/// Replaces null by the word `off` in the schemas of the fields, for `#[schemars(transform = …)]`. `off` is the
/// text of [`None`](super::option).
pub fn off(schema: &mut Schema) {
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(Map::values_mut) {
        let Some(field) = field.as_object_mut() else {
            continue;
        };
        let nullable = |types: &Value| {
            types
                .as_array()
                .is_some_and(|types| types.contains(&json!("null")))
        };
        if field.get("type").is_some_and(nullable) {
            // The annotations of the field stay where they are, and its type moves.
            let annotations = ["description", "default", "examples", "title"];
            let (kept, mut value): (Map<_, _>, Map<_, _>) = std::mem::take(field)
                .into_iter()
                .partition(|(key, _)| annotations.contains(&&**key));
            if let Some(Value::Array(types)) = value.remove("type") {
                value.extend(
                    types
                        .into_iter()
                        .find(|one| one != "null")
                        .map(|one| ("type".to_owned(), one)),
                );
            }
            *field = kept;
            field.insert("anyOf".into(), json!([value, { "const": "off" }]));
        } else if let Some(Value::Array(alternatives)) = field.get_mut("anyOf") {
            for null in alternatives.iter_mut().filter(|one| one["type"] == "null") {
                *null = json!({ "const": "off" });
            }
        }
    }
}

/// Gives each field that `T` has too the schema of that field with its limits, for `#[schemars(transform = …)]`.
/// Descriptions stay.
pub fn fields_of<T: JsonSchema>(schema: &mut Schema) {
    let known = schemars::schema_for!(T);
    let known = known.get("properties").and_then(Value::as_object);
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, field) in fields.into_iter().flatten() {
        if let Some(known) = known.and_then(|known| known.get(name)) {
            let description = field["description"].take();
            field.clone_from(known);
            field["description"] = description;
        }
    }
}

/// A config struct whose single fields have limits.
pub trait Limits {
    /// Adds the limits to the schema of a map, for `#[schemars(transform = …)]`. A field that the map does not have
    /// is left out.
    fn add_limits(schema: &mut Schema);
}

/// Returns the schema of the field `name`.
#[doc(hidden)]
pub fn field<'s>(schema: &'s mut Schema, name: &str) -> Option<&'s mut Map<String, Value>> {
    let fields = schema.get_mut("properties")?;
    fields.get_mut(name)?.as_object_mut()
}

/// A value that can be the limit of a field.
#[doc(hidden)]
pub trait Limit {
    /// Prefix of the keys of the limit.
    const PREFIX: &'static str;
    fn to_json(self) -> Value;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Limit for $number {
            const PREFIX: &'static str = "";

            fn to_json(self) -> Value {
                json!(self)
            }
        }
    )*};
}
numbers!(i32, u32, usize, f64);

impl Limit for std::time::Duration {
    const PREFIX: &'static str = "x-";

    fn to_json(self) -> Value {
        written(self).to_string().into()
    }
}

fn set<T: Limit>(field: &mut Map<String, Value>, key: &str, limit: T) {
    let key = match T::PREFIX {
        "" => key.to_owned(),
        prefix => format!("{prefix}{key}"),
    };
    field.insert(key, limit.to_json());
}

/// Requires that the field is within `range`.
#[doc(hidden)]
pub fn within<T: Limit + Copy>(field: &mut Map<String, Value>, range: RangeInclusive<T>) {
    set(field, "minimum", *range.start());
    set(field, "maximum", *range.end());
}

/// Requires that the field is at least `low`.
#[doc(hidden)]
pub fn at_least<T: Limit>(field: &mut Map<String, Value>, low: T) {
    set(field, "minimum", low);
}

/// Requires a duration above zero.
pub(crate) fn positive(field: &mut Map<String, Value>) {
    set(field, "exclusiveMinimum", std::time::Duration::ZERO);
}

/// Requires a share of calls: above 0, at most 1.
pub(crate) fn share(field: &mut Map<String, Value>) {
    set(field, "exclusiveMinimum", 0);
    set(field, "maximum", 1);
}

/// Requires a growth factor: at least 1.
pub(crate) fn factor(field: &mut Map<String, Value>) {
    set(field, "minimum", 1);
}

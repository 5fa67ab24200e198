//! The JSON Schema of the file.
//!
//! The schema is generated from the structs of [`file`](super::file), so a key with its type, default, range and
//! description is stated once. The reader checks the file against it ([`check`](mod@check)), and editors get it in the
//! form that other programs understand ([`print`](mod@print)).

mod check;
mod describe;
mod facts;
mod habit;
#[cfg(test)]
mod mutation_tests;
mod place;
mod print;
#[cfg(test)]
mod reference;
mod spelling;
#[cfg(test)]
mod tests;
mod unknown;

use std::{collections::HashSet, fmt::Display, sync::LazyLock};

use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Value, json};

pub(crate) use self::print::json_schema;
pub(super) use self::{
    check::check,
    habit::{marks, variable},
    place::Place,
    spelling::{correct_keys, correct_keys_of_file},
};
use super::{
    file::File,
    text::{self, Size, Text},
};

/// Name of the schema extension that holds the keys of features that are not implemented yet.
const PLANNED: &str = "x-planned";

/// Name of the schema extension of a struct that is read also if required keys are missing, so that the mistakes of
/// the other keys are found too.
const PARTIAL: &str = "x-partial";

/// Name of the schema extension of a struct that must have exactly one of several keys.
const EXACTLY_ONE: &str = "x-exactly-one";

/// Name of the schema extension with the version that a key came with. A key without it came with the first version.
const SINCE: &str = "x-since";

/// Returns the JSON Schema (draft 7) of `T`.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07()
        .with_transform(remove_null)
        .with_transform(remove_defaults)
        .with_transform(write_sizes);
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Returns the JSON Schema of the file, which is generated once.
pub(super) fn of_file() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let mut schema = of::<File>();
        require_key(&mut schema["definitions"]["PerKeyPolicy"]);
        require_unique(&mut schema["definitions"]["ClassifyConfig"]);
        schema
    });
    &SCHEMA
}

/// Returns the keys of the file, and the words that are values of them.
pub(super) fn vocabulary() -> &'static HashSet<&'static str> {
    static VOCABULARY: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let mut all = HashSet::from(["true", "false", "null"]);
        all.extend(text::words());
        add_vocabulary(of_file(), &mut all);
        all
    });
    &VOCABULARY
}

/// Adds the keys and words of a schema and of the schemas in it.
fn add_vocabulary<'s>(schema: &'s Value, all: &mut HashSet<&'s str>) {
    all.extend(words(schema));
    let keys = schema.get("properties").and_then(Value::as_object);
    all.extend(keys.into_iter().flatten().map(|(key, _)| key.as_str()));
    match schema {
        Value::Object(inside) => inside.values().for_each(|one| add_vocabulary(one, all)),
        Value::Array(inside) => inside.iter().for_each(|one| add_vocabulary(one, all)),
        _ => {}
    }
}

/// Requires the key of limits per key, which the library takes from the call, and one of the limits.
fn require_key(per_key: &mut Value) {
    per_key["required"] = json!(["key"]);
    per_key[PARTIAL] = true.into();
    per_key["if"] = json!({ "not": { "required": ["concurrency"] } });
    per_key["then"] = json!({ "required": ["circuit_breaker"] });
}

/// Requires that each list of the map has an item only once.
fn require_unique(lists: &mut Value) {
    let lists = lists["properties"].as_object_mut();
    for list in lists.into_iter().flat_map(serde_json::Map::values_mut) {
        list["uniqueItems"] = true.into();
    }
}

/// Removes null from the types of optional keys. A file leaves out a key that it does not set.
fn remove_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
        alternatives.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
        if let [only] = alternatives.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            schema.insert("allOf".into(), Value::Array(vec![only]));
        }
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    transform_subschemas(&mut remove_null, schema);
}

/// Removes the defaults of required keys, which the structs have for the rest of a map that lacks such a key.
fn remove_defaults(schema: &mut Schema) {
    let required = schema.get("required").and_then(Value::as_array).cloned();
    if let Some(keys) = schema.get_mut("properties") {
        for name in required.iter().flatten().filter_map(Value::as_str) {
            if let Some(key) = keys.get_mut(name).and_then(Value::as_object_mut) {
                key.remove("default");
            }
        }
    }
    transform_subschemas(&mut remove_defaults, schema);
}

/// Writes the limits of sizes, which config structs have in bytes, as the file has them. A limit that the file states
/// itself is stricter, and stays.
fn write_sizes(schema: &mut Schema) {
    if schema
        .get("format")
        .is_some_and(|format| format == Size::FORMAT)
    {
        for (key, written) in [("minimum", "x-minimum"), ("maximum", "x-maximum")] {
            let bytes = schema.remove(key).and_then(|bytes| bytes.as_u64());
            if let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok())
                && schema.get(written).is_none()
            {
                schema.insert(written.to_owned(), Size(bytes).written().to_string().into());
            }
        }
    }
    transform_subschemas(&mut write_sizes, schema);
}

/// Follows references from a part of `root`, until the schema has a type or alternatives of its own.
fn resolve<'s>(root: &'s Value, mut schema: &'s Value) -> &'s Value {
    loop {
        let reference = schema.get("$ref").and_then(Value::as_str);
        let target = match (reference, schema.get("allOf").and_then(Value::as_array)) {
            (Some(reference), _) => reference
                .strip_prefix("#/definitions/")
                .and_then(|name| root.get("definitions")?.get(name)),
            (None, Some(all)) => all.first(),
            (None, None) => None,
        };
        match target {
            Some(target) => schema = target,
            None => return schema,
        }
    }
}

/// Returns the schemas of which a value must match one, or `None` if the schema has no such choice.
fn alternatives(schema: &Value) -> Option<&[Value]> {
    let choice = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    choice.as_array().map(Vec::as_slice)
}

/// Returns the alternatives, with those of nested choices in their place.
fn flatten<'s>(root: &'s Value, choice: &'s [Value]) -> Vec<&'s Value> {
    let resolved = choice.iter().map(|one| resolve(root, one));
    let flat = resolved.flat_map(|one| match alternatives(one) {
        Some(nested) => flatten(root, nested),
        None => vec![one],
    });
    flat.collect()
}

/// Returns the words of a schema that accepts only them, and nothing for other schemas.
fn words(schema: &Value) -> Vec<&str> {
    let several = schema.get("enum").and_then(Value::as_array);
    let words = several.into_iter().flatten().chain(schema.get("const"));
    words.filter_map(Value::as_str).collect()
}

/// Returns the largest value of an integer type, which schemars states as the `format` only.
fn largest(schema: &Value) -> Option<u32> {
    match schema.get("format")?.as_str()? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX),
        _ => None,
    }
}

/// Returns the message for a value that is not within its limits.
pub(super) fn rule(
    low: Option<impl Display>,
    above: Option<impl Display>,
    high: Option<impl Display>,
) -> String {
    match (low, above, high) {
        (Some(low), _, Some(high)) => format!("must be within {low} to {high}"),
        (Some(low), ..) => format!("must be >= {low}"),
        (None, Some(above), Some(high)) => format!("must be > {above} and <= {high}"),
        (None, Some(above), None) => format!("must be > {above}"),
        (None, None, Some(high)) => format!("must be <= {high}"),
        (None, None, None) => "must be within its limits".to_owned(),
    }
}

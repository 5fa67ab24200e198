//! Checks a value of the file against the JSON Schema of the struct that it is read into.
//!
//! The schema is generated from the structs of [`file`](super::file), so a key with its type, default, range
//! and description is stated once. The check reports every mistake, and returns the part of the value that has
//! none. That part is what the struct is deserialized from.

use std::fmt::Display;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Number, Value};

use super::{
    reader::ValueReader,
    text,
    tree::{Kind, Tree},
    value::did_you_mean,
};

/// Name of the schema extension that holds the keys of features that are not implemented yet.
pub(super) const PLANNED: &str = "x-planned";

/// Name of the schema extension of a struct that is read also if required keys are missing, so that the mistakes of
/// the other keys are found too.
const PARTIAL: &str = "x-partial";

/// Returns the JSON Schema (draft 7) of `T`.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07()
        .with_transform(remove_null)
        .with_transform(remove_defaults);
    settings.into_generator().into_root_schema_for::<T>().into()
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

/// Checks the value at `reader` against the root schema `schema`. Returns the valid part of the value, or `None`
/// if nothing of it is valid.
pub(super) fn check(schema: &Value, reader: &ValueReader<'_>) -> Option<Tree> {
    Checker { root: schema }.check(schema, reader)
}

struct Checker<'s> {
    root: &'s Value,
}

impl<'s> Checker<'s> {
    fn check(&self, schema: &'s Value, reader: &ValueReader<'_>) -> Option<Tree> {
        // Is beside a reference if a key limits a type of its own.
        if schema.get("minItems").is_some() {
            reader.nonempty()?;
        }
        let schema = self.resolve(schema);
        if let Some(alternatives) = alternatives(schema) {
            return self.check_choice(&self.flatten(alternatives), reader);
        }
        if !accepts_type(schema, reader.tree) {
            reader.wrong_type(&type_name(schema));
            return None;
        }
        match &reader.tree.kind {
            Kind::Map { .. } if schema.get("type").is_some() => self.check_map(schema, reader),
            Kind::List(_) => self.check_list(schema, reader),
            _ => check_scalar(schema, reader).then(|| reader.tree.clone()),
        }
    }

    /// Follows references, until the schema has a type or alternatives of its own.
    fn resolve(&self, mut schema: &'s Value) -> &'s Value {
        loop {
            let reference = schema.get("$ref").and_then(Value::as_str);
            let target = match (reference, schema.get("allOf").and_then(Value::as_array)) {
                (Some(reference), _) => self.root.pointer(reference.trim_start_matches('#')),
                (None, Some(all)) => all.first(),
                (None, None) => None,
            };
            match target {
                Some(target) => schema = target,
                None => return schema,
            }
        }
    }

    /// Returns the alternatives, with those of nested choices in their place.
    fn flatten(&self, choice: &'s [Value]) -> Vec<&'s Value> {
        let resolved = choice.iter().map(|one| self.resolve(one));
        let flat = resolved.flat_map(|one| match alternatives(one) {
            Some(nested) => self.flatten(nested),
            None => vec![one],
        });
        flat.collect()
    }

    /// Checks a value that may have one of several types, or be one of several words.
    fn check_choice(&self, choice: &[&'s Value], reader: &ValueReader<'_>) -> Option<Tree> {
        let known: Vec<&str> = choice.iter().flat_map(|one| words(one)).collect();
        let text = reader.tree.as_text();
        if text.is_some_and(|text| known.contains(&text)) {
            return Some(reader.tree.clone());
        }
        let types = choice.iter().filter(|one| words(one).is_empty());
        let fitting = types.clone().find(|one| accepts_type(one, reader.tree));
        match (fitting, text) {
            (Some(fitting), Some(text)) if is_of_format(fitting, text) => {
                self.check(fitting, reader)
            }
            (Some(fitting), None) => self.check(fitting, reader),
            (_, Some(text)) => {
                let help = did_you_mean(text, known.iter().copied());
                let expected = any_of(types.map(|one| type_name(one)).collect(), &known);
                reader.error_with_help("invalid", reader.expected(expected), help);
                None
            }
            (None, None) => {
                let expected = any_of(types.map(|one| type_name(one)).collect(), &known);
                let written = reader.tree.as_written();
                if known.contains(&&*written) {
                    let help = Some(format!("write \"{written}\", in quotes"));
                    reader.error_with_help("type", reader.expected(expected), help);
                } else {
                    reader.wrong_type(&expected);
                }
                None
            }
        }
    }

    fn check_map(&self, schema: &'s Value, reader: &ValueReader<'_>) -> Option<Tree> {
        let given = reader.tree.members()?;
        let keys = schema.get("properties").and_then(Value::as_object);
        let any = schema
            .get("additionalProperties")
            .filter(|any| any.is_object());
        let mut members = IndexMap::new();
        for (name, (position, value)) in given {
            let Some(schema) = keys.and_then(|keys| keys.get(name)).or(any) else {
                report_unknown(schema, name, &reader.key(name, *position, value));
                continue;
            };
            if let Some(value) = self.check(schema, &reader.member(name, value)) {
                members.insert(name.clone(), (*position, value));
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let mut is_complete = true;
        for key in required.filter(|key| !members.contains_key(*key)) {
            is_complete = false;
            if !given.contains_key(key) {
                reader.error("missing", format!("missing key \"{key}\""));
            }
        }
        let is_usable = is_complete || schema.get(PARTIAL).is_some();
        is_usable.then(|| reader.tree.with_members(members))
    }

    fn check_list(&self, schema: &'s Value, reader: &ValueReader<'_>) -> Option<Tree> {
        let items = reader.list();
        let valid = items.iter().filter_map(|item| match schema.get("items") {
            Some(schema) => self.check(schema, item),
            None => Some(item.tree.clone()),
        });
        Some(reader.tree.with_items(valid.collect()))
    }
}

/// Reports a key that `schema` does not have, and says so if it is planned.
fn report_unknown(schema: &Value, name: &str, key: &ValueReader<'_>) {
    let planned = schema.get(PLANNED).and_then(Value::as_object);
    let feature = planned.and_then(|planned| planned.get(name));
    if let Some(feature) = feature.and_then(Value::as_str) {
        return key.not_built(feature);
    }
    let known = schema.get("properties").and_then(Value::as_object);
    let known = known.into_iter().chain(planned);
    let known = known.flat_map(Map::keys).map(String::as_str);
    let help = did_you_mean(name, known);
    key.error_with_help("unknown_key", format!("unknown key \"{name}\""), help);
}

/// Returns the schemas of which a value must match one, or `None` if the schema has no such choice.
fn alternatives(schema: &Value) -> Option<&[Value]> {
    let choice = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    choice.as_array().map(Vec::as_slice)
}

/// Returns the words of a schema that accepts only them, and nothing for other schemas.
fn words(schema: &Value) -> Vec<&str> {
    let several = schema.get("enum").and_then(Value::as_array);
    let words = several.into_iter().flatten().chain(schema.get("const"));
    words.filter_map(Value::as_str).collect()
}

/// Returns `true` if the type of `tree` is that of the schema. A schema without a type accepts every value.
fn accepts_type(schema: &Value, tree: &Tree) -> bool {
    let Some(expected) = schema.get("type").and_then(Value::as_str) else {
        return true;
    };
    match (&tree.kind, expected) {
        (Kind::Map { .. }, "object") | (Kind::List(_), "array") => true,
        (Kind::Scalar(Value::String(_)), "string") | (Kind::Scalar(Value::Bool(_)), "boolean") => {
            true
        }
        (Kind::Scalar(Value::Number(number)), "integer") => !number.is_f64(),
        (Kind::Scalar(Value::Number(_)), "number") => true,
        _ => false,
    }
}

/// Returns a description of the values that a schema accepts, with its article.
fn type_name(schema: &Value) -> String {
    let format = schema.get("format").and_then(Value::as_str);
    if let Some(format) = format.and_then(text::format) {
        return format.expected.to_owned();
    }
    let name = match schema.get("type").and_then(Value::as_str) {
        Some("object") => return map_name(schema),
        Some("array") => "a list",
        Some("string") => "a string",
        Some("boolean") => "a boolean",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        _ => "a value",
    };
    name.to_owned()
}

/// Returns a description of a map, with its keys if they are few.
fn map_name(schema: &Value) -> String {
    let keys = schema.get("properties").and_then(Value::as_object);
    match keys.filter(|keys| keys.len() <= 2) {
        Some(keys) if !keys.is_empty() => {
            let keys: Vec<_> = keys.keys().map(|key| format!("{key}: …")).collect();
            format!("a map {{ {} }}", keys.join(", "))
        }
        _ => "a map".to_owned(),
    }
}

/// Returns `true` unless the schema has a text format that `text` does not have. Limits do not count.
fn is_of_format(schema: &Value, text: &str) -> bool {
    let format = schema.get("format").and_then(Value::as_str);
    let format = format.and_then(text::format);
    format.is_none_or(|format| (format.check)(text, &Value::Null).is_ok())
}

/// Joins descriptions of types and words: `a map or "off"`, `one of "a", "b"`.
fn any_of(types: Vec<String>, words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("\"{word}\""));
    match types.as_slice() {
        [] => format!("one of {}", words.collect::<Vec<_>>().join(", ")),
        _ => {
            let mut all: Vec<_> = types.into_iter().chain(words).collect();
            match all.pop() {
                Some(last) if all.is_empty() => last,
                Some(last) => format!("{} or {last}", all.join(", ")),
                None => String::new(),
            }
        }
    }
}

/// Returns `true` if a scalar of the right type is within the limits of its schema. Reports it otherwise.
fn check_scalar(schema: &Value, reader: &ValueReader<'_>) -> bool {
    let known = words(schema);
    match (
        &reader.tree.kind,
        schema
            .get("format")
            .and_then(Value::as_str)
            .and_then(text::format),
    ) {
        (Kind::Scalar(Value::String(text)), _)
            if !known.is_empty() && !known.contains(&&**text) =>
        {
            let expected = any_of(Vec::new(), &known);
            let help = did_you_mean(text, known);
            reader.error_with_help("invalid", reader.expected(expected), help);
            false
        }
        (Kind::Scalar(Value::String(text)), Some(format)) => match (format.check)(text, schema) {
            Ok(()) => true,
            Err(fault) => {
                reader.error_with_help(fault.code, fault.message, fault.help);
                false
            }
        },
        (Kind::Scalar(Value::Number(number)), _) => check_number(number, schema, reader),
        _ => true,
    }
}

fn check_number(number: &Number, schema: &Value, reader: &ValueReader<'_>) -> bool {
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    let value = number.as_f64().unwrap_or(f64::NAN);
    let (low, above) = (limit("minimum"), limit("exclusiveMinimum"));
    // The largest value of the type is a limit too, but is named only if it is exceeded.
    let largest = largest(schema).filter(|largest| *largest < value);
    let high = limit("maximum").or(largest);
    let is_within = low.is_none_or(|low| low <= value)
        && high.is_none_or(|high| value <= high)
        && above.is_none_or(|above| above < value);
    if is_within {
        return true;
    }
    let low = low.map(|low| low.to_string());
    let high = high.map(|high| high.to_string());
    let expected = rule(low, above.map(|above| above.to_string()), high);
    reader.error("range", format!("{expected}, got {number}"));
    false
}

/// Returns the largest value of an integer type, which schemars states as the `format` only.
fn largest(schema: &Value) -> Option<f64> {
    match schema.get("format")?.as_str()? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
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

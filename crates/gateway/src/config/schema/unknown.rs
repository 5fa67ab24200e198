//! Reports keys that a map does not have, and those that it lacks: one error for one key in place of another.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{
    super::{diagnostic::Position, reader::ValueReader, tree::Tree, value::did_you_mean},
    PLANNED, alternatives,
    check::{accepts_type, any_of},
    flatten, habit, resolve,
};

/// Maximum number of keys that are listed for an unknown one.
const FEW: usize = 16;

/// Returns the keys that a map must have.
pub(super) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    let keys = schema.get("required").and_then(Value::as_array);
    keys.into_iter().flatten().filter_map(Value::as_str)
}

/// Reports required keys that are missing, each with an example of a text, but not the one that another key is `renamed`
/// from.
pub(super) fn check_required<T>(
    schema: &Value,
    given: &IndexMap<String, T>,
    renamed: Option<&str>,
    reader: &ValueReader<'_>,
) {
    let known = |key: &str| schema.get("properties")?.get(key);
    let missing = required(schema).filter(|key| !given.contains_key(*key));
    for key in missing.filter(|key| Some(*key) != renamed) {
        let is_misspelt =
            |name: &String| known(name).is_none() && did_you_mean(name, [key]).is_some();
        // The report of a misspelt key suggests the missing one.
        if !given.keys().any(is_misspelt) {
            let example = known(key).and_then(|schema| schema.get("examples")?.get(0)?.as_str());
            let help = example.map(|example| format!("for example, {key}: \"{example}\""));
            reader.error_with_help("missing", format!("missing key \"{key}\""), help);
        }
    }
}

/// Returns `true` if a map has several keys, and none of those that `schema` has, so that another map is meant.
pub(super) fn is_other<T>(schema: &Value, given: &IndexMap<String, T>) -> bool {
    let keys = schema.get("properties").and_then(Value::as_object);
    let has = |map: Option<&Map<String, Value>>, name: &str| {
        map.is_some_and(|map| map.contains_key(name))
    };
    let planned = schema.get(PLANNED).and_then(Value::as_object);
    let is_known = |name: &String| {
        let near = || {
            did_you_mean(
                name,
                keys.into_iter().flat_map(Map::keys).map(String::as_str),
            )
        };
        has(keys, name) || has(planned, name) || near().is_some()
    };
    let has_names = schema
        .get("additionalProperties")
        .is_some_and(Value::is_object);
    (2..=FEW).contains(&given.len())
        && !has_names
        && required(schema).count() > 1
        && !given.keys().any(is_known)
}

/// Reports a map with none of the keys of `schema`.
pub(super) fn report_other(
    schema: &Value,
    given: &IndexMap<String, (Position, Tree)>,
    reader: &ValueReader<'_>,
) {
    let quoted = |names: Vec<String>| {
        let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
        names.join(", ")
    };
    let expected = quoted(required(schema).map(str::to_owned).collect());
    let got = given.iter();
    let got = got.map(|(name, _)| reader.redactor().key(name));
    let got = quoted(got.collect());
    let message = format!("expected a map with the keys {expected}, got one with {got}");
    let help = "move it to the key that it belongs to, or correct its keys".to_owned();
    reader.error_with_help("unknown_key", message, Some(help));
}

/// Returns the only required key that is missing, if the map has exactly one unknown key, which may be meant to be it.
pub(super) fn renamed<'s>(
    root: &Value,
    schema: &'s Value,
    given: &IndexMap<String, (Position, Tree)>,
) -> Option<&'s str> {
    let keys = schema.get("properties").and_then(Value::as_object)?;
    let planned = schema.get(PLANNED).and_then(Value::as_object);
    let mut missing = required(schema).filter(|key| !given.contains_key(*key));
    let key = missing.next().filter(|_| missing.next().is_none())?;
    let mut unknown = given.iter().filter(|(name, _)| !keys.contains_key(*name));
    let (name, (_, value)) = unknown.next().filter(|_| unknown.next().is_none())?;
    let is_planned = planned.is_some_and(|planned| planned.contains_key(name));
    let is_near = did_you_mean(name, keys.keys().map(String::as_str)).is_some();
    let meant = resolve(root, keys.get(key)?);
    let is_inside = || inside(root, schema, name).is_some_and(|way| way.first == key);
    let fits = meant.get("type").is_some() && accepts_type(meant, value) || is_inside();
    (!is_planned && !is_near && fits).then_some(key)
}

/// The way to a key inside one of the keys of a map.
pub(super) struct Way<'s> {
    first: &'s str,
    is_list: bool,
}

impl Way<'_> {
    pub(super) fn example(&self, name: &str) -> String {
        match self.is_list {
            true => format!("{}: [{{ {name}: … }}]", self.first),
            false => format!("{}: {{ {name}: … }}", self.first),
        }
    }
}

/// Returns the only key of `schema` whose value has the key `name`.
pub(super) fn inside<'s>(root: &'s Value, schema: &'s Value, name: &str) -> Option<Way<'s>> {
    let keys = schema.get("properties").and_then(Value::as_object)?;
    let ways = keys.iter().filter_map(|(first, value)| {
        let value = resolve(root, value);
        let schemas = alternatives(value).map_or_else(|| vec![value], |all| flatten(root, all));
        let has = |schema: &Value| {
            schema
                .get("properties")
                .is_some_and(|keys| keys.get(name).is_some())
        };
        let items = |schema: &&'s Value| schema.get("items").map(|items| resolve(root, items));
        let is_list = schemas.iter().filter_map(items).any(has);
        (is_list || schemas.iter().any(|one| has(one))).then_some(Way { first, is_list })
    });
    let mut ways = ways.fuse();
    ways.next().filter(|_| ways.next().is_none())
}

/// Reports a key that `schema` does not have, and says so if it is planned.
///
/// The key may be `renamed` from one that is missing.
pub(super) fn report<'s>(
    root: &'s Value,
    schema: &'s Value,
    (name, renamed): (&str, Option<&str>),
    key: &ValueReader<'_>,
) {
    let planned = schema.get(PLANNED).and_then(Value::as_object);
    let feature = planned.and_then(|planned| planned.get(name));
    if let Some(feature) = feature.and_then(Value::as_str) {
        return key.not_built(feature);
    }
    let keys = schema.get("properties").and_then(Value::as_object);
    let names = |map: Option<&'s Map<String, Value>>| map.into_iter().flat_map(Map::keys);
    let keys: Vec<&str> = names(keys).map(String::as_str).collect();
    let near = habit::marks(name)
        .or_else(|| habit::key(schema, name))
        .or_else(|| did_you_mean(name, keys.iter().copied()));
    let near = near.or_else(|| {
        let near = did_you_mean(name, names(planned).map(String::as_str))?;
        Some(format!("{near} It is not supported yet"))
    });
    let near = near.or_else(|| {
        let way =
            inside(root, schema, name).filter(|way| renamed.is_none_or(|key| key == way.first));
        let way = way.map(|way| {
            format!(
                "write it inside \"{}\", as in {}",
                way.first,
                way.example(name)
            )
        });
        way.or_else(|| Some(format!("did you mean \"{}\", which is missing?", renamed?)))
    });
    let help = near.or_else(|| {
        let are_few = (1..=FEW).contains(&keys.len());
        are_few.then(|| format!("expected {}", any_of(Vec::new(), &keys)))
    });
    let name = key.redactor().key(name);
    key.error_with_help("unknown_key", format!("unknown key \"{name}\""), help);
}

//! Checks a value of the file against the JSON Schema of the struct that it is read into.
//!
//! The check reports every mistake, and returns the part of the value that has none. That part is what the struct is
//! deserialized from.

use std::{borrow::Cow, collections::HashMap};

use indexmap::IndexMap;
use serde_json::{Number, Value};

use super::{
    super::{
        reader::ValueReader,
        text::{self, Fault, Format},
        tree::{Kind, Tree},
        value::did_you_mean,
    },
    EXACTLY_ONE, alternatives,
    facts::{AllFacts, Facts},
    flatten, habit, largest, rule, unknown, words,
};

/// Checks the value at `reader` against the root schema `schema`. Returns the valid part of the value, or `None`
/// if nothing of it is valid.
pub(in super::super) fn check<'t>(
    schema: &Value,
    reader: &ValueReader<'t>,
) -> Option<Cow<'t, Tree>> {
    let facts = AllFacts::new(schema);
    Checker {
        root: schema,
        facts,
    }
    .check(schema, reader)
}

struct Checker<'s> {
    root: &'s Value,
    facts: AllFacts<'s>,
}

impl<'s> Checker<'s> {
    fn check<'t>(&self, schema: &'s Value, reader: &ValueReader<'t>) -> Option<Cow<'t, Tree>> {
        // Nothing is known of an ambiguous number, which is reported already.
        if reader.tree.ambiguous_number().is_some() {
            return None;
        }
        let facts = self.facts.of(schema);
        if facts.needs_items && matches!(reader.tree.kind, Kind::List(_)) {
            reader.nonempty()?;
        }
        let schema = facts.schema;
        if reader.tree.unset().is_some() {
            self.check_unset(schema, reader);
            return None;
        }
        if let Some(choice) = &facts.choice {
            return self.check_choice(choice, reader);
        }
        if !accepts_type(schema, reader.tree) {
            reader.wrong_type(&type_name(schema), habit::value(schema, reader));
            return None;
        }
        match &reader.tree.kind {
            Kind::Map { .. } if facts.has_type => self.check_map(&facts, reader),
            Kind::List(_) => self.check_list(schema, reader),
            _ => check_scalar(schema, reader).then_some(Cow::Borrowed(reader.tree)),
        }
    }

    /// Reports a value with missing variables if no text is valid in its place. Variables are texts, and nothing else is
    /// known of them.
    fn check_unset(&self, schema: &'s Value, reader: &ValueReader<'_>) {
        let choice = alternatives(schema).filter(|_| schema.get("type").is_none());
        let types = choice.map_or_else(|| vec![schema], |choice| flatten(self.root, choice));
        let accepts_text = |one: &&Value| !words(one).is_empty() || accepts_type(one, reader.tree);
        if !types.iter().any(accepts_text) {
            let expected = any_of(types.into_iter().map(type_name).collect(), &[]);
            reader.wrong_type(&expected, habit::value(schema, reader));
        }
    }

    /// Checks a value that may have one of several types, or be one of several words.
    fn check_choice<'t>(
        &self,
        choice: &[&'s Value],
        reader: &ValueReader<'t>,
    ) -> Option<Cow<'t, Tree>> {
        let known: Vec<&str> = choice.iter().flat_map(|one| words(one)).collect();
        let text = reader.tree.as_text();
        if text.is_some_and(|text| known.contains(&text)) {
            return Some(Cow::Borrowed(reader.tree));
        }
        let types = choice.iter().copied().filter(|one| words(one).is_empty());
        let types: Vec<&Value> = types.collect();
        let (fitting, others): (Vec<_>, Vec<_>) =
            (types.iter().copied()).partition(|one| accepts_type(one, reader.tree));
        match (fitting.first(), &reader.tree.kind) {
            (Some(fitting), Kind::Scalar(Value::Number(number))) => {
                let has_others = !others.is_empty() || !known.is_empty();
                let others = any_of(others.into_iter().map(type_name).collect(), &known);
                let help = has_others.then(|| format!("or write {others}"));
                check_number(number, fitting, reader, help).then_some(Cow::Borrowed(reader.tree))
            }
            (Some(fitting), _) if text.is_none_or(|text| is_of_format(fitting, text)) => {
                self.check(fitting, reader)
            }
            _ => {
                report_choice(&types, &known, reader);
                None
            }
        }
    }

    fn check_map<'t>(&self, facts: &Facts<'s>, reader: &ValueReader<'t>) -> Option<Cow<'t, Tree>> {
        let (given, schema) = (reader.tree.members()?, facts.schema);
        let mut valid = Vec::new();
        let lacks = |key: &&str| !given.contains_key(*key);
        let is_lacking = facts.required.iter().any(lacks);
        if is_lacking && unknown::is_other(schema, given) {
            unknown::report_other(schema, given, reader);
            return None;
        }
        let renamed = is_lacking.then(|| unknown::renamed(self.root, schema, given));
        let renamed = renamed.flatten();
        for (name, (position, value)) in given {
            let known = facts.keys.and_then(|keys| keys.get(name));
            let Some(schema) = known.or(facts.any) else {
                let key = reader.key(name, *position, value);
                unknown::report(self.root, schema, (name, renamed), &key);
                continue;
            };
            // A member with an invalid name still exists, so that references to it are not unknown.
            if let Some(names) = facts.names {
                let key = reader.key(name, *position, value);
                check_text(names, name, &key);
            }
            if let Some(value) = self.check(schema, &reader.member(name, value)) {
                valid.push((&**name, (*position, value)));
            }
        }
        if facts.has_relations {
            check_exactly_one(schema, given, reader);
            check_dependencies(schema, given, reader);
        }
        if is_lacking {
            unknown::check_required(schema, given, renamed, reader);
        }
        let mut required = facts.required.iter();
        let is_complete = required.all(|key| valid.iter().any(|(name, _)| name == key));
        if !is_complete && !facts.is_partial {
            return None;
        }
        let is_whole = |(_, (_, value)): &(_, (_, Cow<'_, _>))| matches!(value, Cow::Borrowed(_));
        if valid.len() == given.len() && valid.iter().all(is_whole) {
            return Some(Cow::Borrowed(reader.tree));
        }
        let valid = valid
            .into_iter()
            .map(|(name, (position, value))| (name.to_owned(), (position, value.into_owned())));
        Some(Cow::Owned(reader.tree.with_members(valid.collect())))
    }

    fn check_list<'t>(&self, schema: &'s Value, reader: &ValueReader<'t>) -> Option<Cow<'t, Tree>> {
        let items = reader.list();
        let valid = items.iter().filter_map(|item| match schema.get("items") {
            Some(schema) => self.check(schema, item),
            None => Some(Cow::Borrowed(item.tree)),
        });
        let valid: Vec<_> = valid.collect();
        if schema
            .get("uniqueItems")
            .is_some_and(|unique| *unique == true)
        {
            check_unique(&items);
        }
        let is_whole = |value: &Cow<'_, _>| matches!(value, Cow::Borrowed(_));
        if valid.len() == items.len() && valid.iter().all(is_whole) {
            return Some(Cow::Borrowed(reader.tree));
        }
        let valid = valid.into_iter().map(Cow::into_owned);
        Some(Cow::Owned(reader.tree.with_items(valid.collect())))
    }
}

/// Reports items that an earlier one is equal to.
fn check_unique(items: &[ValueReader<'_>]) {
    let mut firsts = HashMap::new();
    for item in items {
        let value = item.tree.to_json().to_string();
        let first = *firsts.entry(value).or_insert(item.position);
        if first != item.position {
            let message = format!("duplicate item \"{}\"", item.shown());
            item.duplicate(message, first);
        }
    }
}

/// Reports a value that has none of the types, and is not one of the words `known`.
fn report_choice(types: &[&Value], known: &[&str], reader: &ValueReader<'_>) {
    let expected = any_of(types.iter().map(|one| type_name(one)).collect(), known);
    let written = reader.tree.as_written();
    if let Some(text) = reader.tree.as_text() {
        let mut faults = types.iter();
        let fault = faults.find_map(|one| format_fault(one, text, &Value::Null));
        let off = habit::off(reader.tree, known);
        let near = off.or_else(|| did_you_mean(text, known.iter().copied()));
        let help = near.or_else(|| fault?.help);
        // Other types may have a word for it.
        let is_switch = types.len() > 1 && habit::boolean(text).is_some();
        let habit = |one: &&Value| {
            let of_text = habit::text(one, text, reader);
            of_text.or_else(|| habit::value(one, reader).filter(|_| !is_switch))
        };
        let help = help.or_else(|| types.iter().find_map(habit));
        reader.error_with_help("invalid", reader.expected(expected), help);
    } else if known.contains(&&*written) {
        let help = Some(format!("write \"{written}\", in quotes"));
        let got = reader.tree.type_name().replacen("a ", "the ", 1);
        let message = format!("expected {expected}, got {got} {written}");
        reader.error_with_help("type", message, help);
    } else {
        let habit = || types.iter().find_map(|one| habit::value(one, reader));
        let help = habit::off(reader.tree, known).or_else(habit);
        reader.wrong_type(&expected, help);
    }
}

/// Reports a map that has none or several of the keys of which `schema` requires exactly one.
fn check_exactly_one<T>(schema: &Value, given: &IndexMap<String, T>, reader: &ValueReader<'_>) {
    let keys = schema.get(EXACTLY_ONE).and_then(Value::as_array);
    let keys = keys.into_iter().flatten().filter_map(Value::as_str);
    let keys: Vec<_> = keys.collect();
    let found: Vec<_> = given.keys().filter(|key| keys.contains(&&***key)).collect();
    if !keys.is_empty() && found.len() != 1 {
        let expected = any_of(Vec::new(), &keys);
        // An environment variable may have added the last one.
        let last = found.last().map(|key| reader.at_key(key));
        let message = format!("expected exactly {expected}");
        last.as_ref().unwrap_or(reader).error("invalid", message);
    }
}

/// Reports keys that are missing although another key requires them.
fn check_dependencies<T>(schema: &Value, given: &IndexMap<String, T>, reader: &ValueReader<'_>) {
    let dependencies = schema.get("dependencies").and_then(Value::as_object);
    let dependencies = dependencies.into_iter().flatten();
    for (key, required) in dependencies.filter(|(key, _)| given.contains_key(*key)) {
        let required = required.as_array().into_iter().flatten();
        let required = required.filter_map(Value::as_str);
        for missing in required.filter(|required| !given.contains_key(*required)) {
            let message = format!("\"{key}\" requires \"{missing}\", which is missing");
            reader.error("missing", message);
        }
    }
}

/// Returns `true` if the type of `tree` is that of the schema. A schema without a type accepts every value.
pub(super) fn accepts_type(schema: &Value, tree: &Tree) -> bool {
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
    if let Some(format) = format_of(schema) {
        return format.expected.to_owned();
    }
    let name = match schema.get("type").and_then(Value::as_str) {
        Some("object") => return map_name(schema),
        Some("array") => "a list",
        Some("string") => "a string",
        Some("boolean") => "true or false",
        Some("integer") => return number_name(schema),
        Some("number") => "a number",
        _ => "a value",
    };
    name.to_owned()
}

/// Returns a description of whole numbers, with their limits if these make sense only together.
fn number_name(schema: &Value) -> String {
    let limit = |key: &str| {
        schema
            .get(key)
            .and_then(Value::as_u64)
            .filter(|limit| *limit > 1)
    };
    match (limit("minimum"), limit("maximum")) {
        (Some(low), Some(high)) => format!("a whole number from {low} to {high}"),
        _ => "a whole number".to_owned(),
    }
}

/// Returns a description of a map, with its keys if they are few.
fn map_name(schema: &Value) -> String {
    let keys = schema.get("properties").and_then(Value::as_object);
    match keys.filter(|keys| keys.len() <= 4) {
        Some(keys) if !keys.is_empty() => {
            let keys: Vec<_> = keys.keys().map(|key| format!("{key}: …")).collect();
            format!("a map {{ {} }}", keys.join(", "))
        }
        _ => "a map".to_owned(),
    }
}

/// Returns `true` unless the schema has a text format that `text` does not have. Limits do not count.
fn is_of_format(schema: &Value, text: &str) -> bool {
    format_fault(schema, text, &Value::Null).is_none()
}

/// Returns the reason why `text` does not have the text format of the schema, if there is one, or is not within
/// `limits`.
fn format_fault(schema: &Value, text: &str, limits: &Value) -> Option<Fault> {
    (format_of(schema)?.check)(text, limits).err()
}

/// Returns the text format of the schema, if there is one.
fn format_of(schema: &Value) -> Option<&'static Format> {
    let format = schema.get("format").and_then(Value::as_str);
    format.and_then(text::format)
}

/// Joins descriptions of types and words: `a map or "off"`, `one of "a", "b"`.
pub(super) fn any_of(types: Vec<String>, words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let one_of = format!("one of {}", quoted.join(", "));
    // A comma ends an example, and the items of a list.
    let is_long = types.len() > 1 || types.iter().any(|name| name.contains(" such as "));
    let comma = if is_long { "," } else { "" };
    let mut all = types;
    match quoted.as_slice() {
        [] => {}
        [only] => all.push(only.clone()),
        [_, _, ..] if all.is_empty() => return one_of,
        [_, _, ..] => return format!("{}, or {one_of}", all.join(", ")),
    }
    match all.pop() {
        Some(last) if all.is_empty() => last,
        Some(last) => format!("{}{comma} or {last}", all.join(", ")),
        None => String::new(),
    }
}

/// Returns `true` if a scalar of the right type is within the limits of its schema. Reports it otherwise.
fn check_scalar(schema: &Value, reader: &ValueReader<'_>) -> bool {
    let known = words(schema);
    match &reader.tree.kind {
        Kind::Scalar(Value::String(text)) if !known.is_empty() && !known.contains(&&**text) => {
            let expected = any_of(Vec::new(), &known);
            let help = did_you_mean(text, known);
            reader.error_with_help("invalid", reader.expected(expected), help);
            false
        }
        Kind::Scalar(Value::String(text)) => check_text(schema, text, reader),
        Kind::Scalar(Value::Number(number)) => check_number(number, schema, reader, None),
        _ => true,
    }
}

/// Returns `true` if `text` has the text format of the schema, if there is one. Reports it otherwise.
fn check_text(schema: &Value, text: &str, reader: &ValueReader<'_>) -> bool {
    let Some(format) = format_of(schema) else {
        return true;
    };
    let mut faults = (format.faults)(text);
    if faults.is_empty() {
        faults.extend((format.check)(text, schema).err());
    }
    let is_valid = faults.is_empty();
    for fault in faults {
        let habit = || habit::text(schema, text, reader);
        let help = fault.help.or_else(habit);
        reader.report_fault(Fault { help, ..fault });
    }
    is_valid
}

/// Returns `true` if `number` is within the limits of the schema. Reports it otherwise, with a suggestion.
fn check_number(
    number: &Number,
    schema: &Value,
    reader: &ValueReader<'_>,
    help: Option<String>,
) -> bool {
    if let Some(only) = schema.get("const").and_then(Value::as_number) {
        let is_valid = only == number;
        if !is_valid {
            reader.error(
                "invalid",
                format!("expected {only}, got {}", reader.shown()),
            );
        }
        return is_valid;
    }
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    let value = number.as_f64().unwrap_or(f64::NAN);
    let (low, above) = (limit("minimum"), limit("exclusiveMinimum"));
    // The largest value of the type is a limit too, but is named only if it is exceeded.
    let largest = largest(schema).map(f64::from);
    let largest = largest.filter(|largest| *largest < value);
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
    let message = format!("{expected}, got {}", reader.shown());
    reader.error_with_help("range", message, help);
    false
}

//! The schema in the form that editors and other programs understand.

use std::collections::HashMap;

use schemars::{
    Schema,
    transform::{RecursiveTransform, Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

use super::{
    super::text::{self, Shape},
    EXACTLY_ONE, SINCE, describe, largest, words,
};

/// Keys of the plain description and of that in Markdown.
const DESCRIPTIONS: [&str; 2] = ["description", "markdownDescription"];

/// Name of the definition of a text with a variable.
const VARIABLE: &str = "Variable";

/// Name of the definition of a text whose references to variables are valid.
const TEXT: &str = "Text";

/// Name of the extension of a schema of names, in which the reader expands no variables.
const NAME: &str = "x-name";

/// Regular expression of parts of a text without variables. A pair of dollar signs before a brace is one.
macro_rules! literal {
    () => {
        r"([^$]|\$+(?![${])|(\$\$)+\{)*"
    };
}

/// Regular expression of a variable, as the reader expands it.
macro_rules! reference {
    () => {
        r"(\$\$)*\$\{[A-Za-z0-9_]+(:-([^$}]|\$(?!\{))*|:\?[^}]*)?\}"
    };
}

/// Regular expression of a text with variables.
const VARIABLE_PATTERN: &str = concat!("^", literal!(), "(", reference!(), literal!(), ")+$");

/// Regular expression of a text with or without variables.
const TEXT_PATTERN: &str = concat!("^", literal!(), "(", reference!(), literal!(), ")*$");

/// Returns the JSON Schema (draft 7) of the file, for other programs.
///
/// Text formats are regular expressions. Where the file may have one of several words, it may also have a variable, such
/// as `${LEVEL}`. Extensions of the reader are left out, and a planned key is an unknown one. Three extensions are for
/// editors that show them: `markdownDescription`, `enumDescriptions` and `patternErrorMessage`.
#[must_use]
pub(crate) fn json_schema() -> Value {
    let mut schema =
        Schema::try_from(super::of_file().clone()).expect("the schema of a struct is a map");
    publish(&mut schema);
    move_descriptions(&mut schema);
    schema.insert("title".into(), "fanout".into());
    schema.insert("anyOf".into(), something_to_serve());
    if let Some(Value::Object(definitions)) = schema.get_mut("definitions") {
        let variable = json!({ "type": "string", "pattern": VARIABLE_PATTERN });
        definitions.insert(VARIABLE.to_owned(), variable);
        let message = "expected a variable such as ${NAME}; write $${ for a literal ${";
        let text = json!({ "pattern": TEXT_PATTERN, "patternErrorMessage": message });
        definitions.insert(TEXT.to_owned(), text);
    }
    schema.into()
}

fn publish(schema: &mut Schema) {
    if let Some(schema) = schema.as_object_mut() {
        describe(schema);
        let names = schema.get_mut("propertyNames");
        if let Some(names) = names.and_then(Value::as_object_mut) {
            names.insert(NAME.to_owned(), true.into());
        }
    }
    transform_subschemas(&mut publish, schema);
    if let Some(schema) = schema.as_object_mut() {
        state_format(schema);
        check_references(schema);
        gather_words(schema);
        accept_variables(schema);
        require_exactly_one(schema);
        schema.retain(|key, _| !key.starts_with("x-"));
    }
}

/// Moves the descriptions of definitions to the items and the named values that they define. An editor would show them
/// in place of the description of a key.
fn move_descriptions(schema: &mut Schema) {
    let mut descriptions = HashMap::new();
    let definitions = schema.get_mut("definitions").and_then(Value::as_object_mut);
    for (name, definition) in definitions.into_iter().flatten() {
        if let Some(definition) = definition.as_object_mut() {
            let moved = DESCRIPTIONS.map(|key| Some((key, definition.remove(key)?)));
            descriptions.insert(format!("#/definitions/{name}"), moved);
        }
    }
    let describe = |schema: &mut Schema| {
        for key in ["items", "additionalProperties"] {
            let Some(value) = schema.get_mut(key).and_then(Value::as_object_mut) else {
                continue;
            };
            let reference = value.get("$ref").and_then(Value::as_str);
            let Some(moved) = reference.and_then(|reference| descriptions.get(reference)) else {
                continue;
            };
            let definition = Value::Object(std::mem::take(value));
            value.insert("allOf".to_owned(), json!([definition]));
            for (key, text) in moved.iter().flatten() {
                value.insert((*key).to_owned(), text.clone());
            }
        }
    };
    RecursiveTransform(describe).transform(schema);
}

/// Writes the description for a reader of the file, with the default and the range, which editors do not show.
fn describe(schema: &mut Map<String, Value>) {
    let raw = Value::Object(schema.clone());
    let Some(mut text) = describe::description(&raw) else {
        return;
    };
    schema.remove("default");
    if let Some(default) = describe::default(&raw) {
        let written = describe::written(&default);
        schema.insert("default".into(), default.into_owned());
        text += &format!("\n\nDefault: `{written}`.");
    }
    if let Some(range) = describe::range(&raw) {
        text += &format!("\n\nRange: {range}.");
    }
    if let Some(version) = raw.get(SINCE).and_then(Value::as_str) {
        text += &format!("\n\nSince {version}.");
    }
    let plain = text.replace('`', "");
    for (key, text) in DESCRIPTIONS.into_iter().zip([plain, text]) {
        schema.insert(key.to_owned(), text.into());
    }
}

/// Replaces a format that only the reader knows by what other programs know, and accepts a variable beside a regular
/// expression.
fn state_format(schema: &mut Map<String, Value>) {
    if let Some(largest) = largest(&Value::Object(schema.clone())) {
        schema.entry("maximum").or_insert(largest.into());
    }
    let format = schema.remove("format");
    let format = format
        .as_ref()
        .and_then(Value::as_str)
        .and_then(text::format);
    let (pattern, expected) = match (
        format.map(|format| (format.shape, format.expected)),
        schema.get("pattern"),
    ) {
        (Some((Shape::Words(words), _)), _) => {
            schema.insert("enum".into(), words().into());
            return;
        }
        // A key may allow fewer texts than its format.
        (format, Some(Value::String(own))) => (own.clone(), format.map(|(_, expected)| expected)),
        (Some((Shape::Pattern(pattern), expected)), _) => (pattern.to_owned(), Some(expected)),
        (None, _) => return,
    };
    let pattern = match schema.contains_key(NAME) {
        true => pattern,
        false => format!("{pattern}|{VARIABLE_PATTERN}"),
    };
    schema.insert("pattern".into(), pattern.into());
    if let Some(expected) = expected {
        let expected = format!("expected {expected}");
        schema.insert("patternErrorMessage".into(), expected.into());
    }
}

/// Refuses texts with references to variables that the reader cannot expand.
fn check_references(schema: &mut Map<String, Value>) {
    let is_text = schema.get("type").is_some_and(|kind| kind == "string");
    if is_text && !schema.contains_key(NAME) && !schema.contains_key("enum") {
        let text = json!([{ "$ref": format!("#/definitions/{TEXT}") }]);
        schema.entry("allOf").or_insert(text);
    }
}

/// Joins alternatives that are one word each, and accepts a text with a variable beside them. Each value matches one
/// alternative at most.
fn gather_words(schema: &mut Map<String, Value>) {
    let choice = schema.remove("anyOf").or_else(|| schema.remove("oneOf"));
    let Some(Value::Array(choice)) = choice else {
        return;
    };
    let (listed, mut others): (Vec<_>, Vec<_>) =
        choice.into_iter().partition(|one| !words(one).is_empty());
    let mut joined =
        json!({ "type": "string", "enum": listed.iter().flat_map(words).collect::<Vec<_>>() });
    let texts: Vec<_> = listed
        .iter()
        .filter_map(|one| one.get("description"))
        .collect();
    if !texts.is_empty() && texts.len() == listed.len() {
        joined["enumDescriptions"] = json!(texts);
    }
    match joined {
        Value::Object(joined) if others.is_empty() => return schema.extend(joined),
        joined if !listed.is_empty() => {
            // The regular expression of a text format accepts a variable too.
            if !others.iter().any(|one| one.get("pattern").is_some()) {
                others.push(variable());
            }
            others.push(joined);
        }
        _ => {}
    }
    schema.insert("oneOf".to_owned(), others.into());
}

/// Accepts a text with a variable where a value inside the schema must be one of several words.
fn accept_variables(schema: &mut Map<String, Value>) {
    for (key, value) in schema {
        let inside: Vec<&mut Value> = match (&**key, value) {
            ("properties" | "definitions", Value::Object(values)) => values.values_mut().collect(),
            ("items" | "additionalProperties", value) => vec![value],
            _ => continue,
        };
        for value in inside.into_iter().filter(|value| !words(value).is_empty()) {
            if let Some(value) = value.as_object_mut() {
                let words = ["type", "enum", "enumDescriptions"];
                let words = words.into_iter().filter_map(|key| value.remove_entry(key));
                let words: Map<_, _> = words.collect();
                value.insert("oneOf".to_owned(), json!([words, variable()]));
            }
        }
    }
}

/// Says in the words of JSON Schema that a map must have exactly one of several keys.
fn require_exactly_one(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(keys)) = schema.get(EXACTLY_ONE) {
        let one: Vec<_> = keys
            .iter()
            .map(|key| json!({ "required": [key] }))
            .collect();
        schema.insert("oneOf".to_owned(), one.into());
    }
}

/// Returns the choice of what a file must have to serve anything.
fn something_to_serve() -> Value {
    json!([
        { "required": ["routes"], "properties": { "routes": { "minItems": 1 } } },
        { "required": ["orchestrate"] },
    ])
}

/// Returns the schema of a text with a variable.
fn variable() -> Value {
    json!({ "$ref": format!("#/definitions/{VARIABLE}") })
}

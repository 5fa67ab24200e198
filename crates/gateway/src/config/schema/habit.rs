//! Suggestions for values as other products write them.

use serde_json::Value;

use super::{
    super::{
        number::is_ambiguous,
        reader::ValueReader,
        syntax::HELM,
        tree::{Kind, Tree},
        value::nearest,
    },
    unknown,
};

/// Quotes of printed text.
const PRINTED_QUOTES: [char; 6] = ['“', '”', '„', '‘', '’', '‚'];

/// Keys of other products, and what the file has in their place.
const FOREIGN_KEYS: [(&str, &str); 2] = [
    ("jwks_uri", "keys: [{ jwks: { url: … } }]"),
    ("jwks_url", "keys: [{ jwks: { url: … } }]"),
];

/// Returns a suggestion for a text with quotes of printed text, or for a template of Helm.
pub(in super::super) fn marks(text: &str) -> Option<String> {
    if text.starts_with(PRINTED_QUOTES) {
        return Some("write straight quotes, as in \"text\" or 'text'".to_owned());
    }
    HELM.is_in(text).then(|| HELM.help.to_owned())
}

/// Returns a suggestion for a text with a variable such as `$NAME`.
pub(in super::super) fn variable(tree: &Tree) -> Option<String> {
    let text = tree.as_text().filter(|_| tree.variables().is_none())?;
    let begins_name = |rest: &str| rest.starts_with(|one: char| one.is_ascii_alphabetic());
    let names = text.split('$').skip(1).filter(|rest| begins_name(rest));
    Some(match names.count() {
        0 => return None,
        1 => "write a variable with braces, as in ${NAME}".to_owned(),
        _ => "write variables with braces, as in ${HOST}:${PORT}".to_owned(),
    })
}

/// Returns a suggestion for an unknown key that is one of another product, if `schema` has what is meant.
pub(super) fn key(schema: &Value, name: &str) -> Option<String> {
    let meant = foreign(schema, name)?;
    Some(format!("write {meant}"))
}

/// Returns what a map of `schema` has in place of the key `name` of another product.
fn foreign(schema: &Value, name: &str) -> Option<&'static str> {
    let (_, meant) = FOREIGN_KEYS.iter().find(|(foreign, _)| *foreign == name)?;
    let key = meant.split(':').next()?;
    schema.get("properties")?.get(key)?;
    Some(meant)
}

/// Returns a suggestion for a value in place of a map, whose name is a key of that map: the name of the map is missing.
fn without_name(schema: &Value, reader: &ValueReader<'_>) -> Option<String> {
    let (before, name) = reader.path.rsplit_once('.')?;
    let map = before.rsplit('.').next()?;
    let keys = schema.get("properties")?.as_object()?;
    let key = nearest(name, keys.keys().map(String::as_str));
    let meant = match (foreign(schema, name), key) {
        (Some(meant), _) => meant.to_owned(),
        (None, Some(key)) => format!("{key}: …"),
        (None, None) => return None,
    };
    Some(format!(
        "write it in a map with a name, as in {map}: {{ main: {{ {meant} }} }}"
    ))
}

/// Returns a suggestion for a boolean, or a word for one, in place of a map.
fn switch(schema: &Value, is_on: bool) -> String {
    let required: Vec<_> = unknown::required(schema)
        .map(|key| format!("{key}: …"))
        .collect();
    let has_names = schema
        .get("additionalProperties")
        .is_some_and(Value::is_object);
    match (is_on, required.is_empty()) {
        (true, _) if has_names => "write a map with names of your choice: { name: … }".to_owned(),
        (false, _) => "leave out the key".to_owned(),
        (true, true) => "write {} for the defaults, or a map with keys of your own".to_owned(),
        (true, false) => format!("write a map: {{ {} }}", required.join(", ")),
    }
}

/// Returns a suggestion for a URL in place of a map.
fn url(schema: &Value) -> Option<String> {
    let key = schema.get("properties")?.get("url");
    let inside = || unknown::inside(super::of_file(), schema, "url").map(|way| way.example("url"));
    let example = key.map(|_| "url: …".to_owned()).or_else(inside)?;
    Some(format!("write a map: {{ {example} }}"))
}

/// Returns `true` or `false` for a word that means it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match &*text.to_lowercase() {
        "yes" | "on" | "y" | "true" | "enabled" => Some(true),
        "no" | "off" | "n" | "false" | "disabled" => Some(false),
        _ => None,
    }
}

/// Returns a suggestion for a value that means "off", where the file can have that word.
pub(super) fn off(tree: &Tree, known: &[&str]) -> Option<String> {
    let is_off = match &tree.kind {
        Kind::Scalar(Value::Bool(is_on)) => !is_on,
        Kind::Scalar(Value::String(text)) => boolean(text) == Some(false),
        _ => false,
    };
    (is_off && known.contains(&"off")).then(|| "write off".to_owned())
}

/// Returns a suggestion for a value of another type than that of the schema.
pub(super) fn value(schema: &Value, reader: &ValueReader<'_>) -> Option<String> {
    let tree = reader.tree;
    let expected = schema.get("type")?.as_str()?;
    let format = schema.get("format").and_then(Value::as_str);
    if tree.variables().is_some() {
        // No other value of a file is at its start. A variable that overrides one has any type.
        let is_override = (tree.position.line, tree.position.column) == (1, 1);
        let help = "write the value here, as a variable is always a string";
        return (!is_override).then(|| help.to_owned());
    }
    if expected == "object"
        && let Some(help) = without_name(schema, reader)
    {
        return Some(help);
    }
    let is_shown = is_shown(reader);
    let help = match (expected, &tree.kind) {
        ("boolean", Kind::Scalar(Value::String(text))) => match boolean(text)? {
            true => "write true",
            false => "write false",
        },
        ("integer" | "number", Kind::Scalar(Value::String(text))) => {
            return number(text).filter(|_| is_shown);
        }
        ("string", Kind::Scalar(Value::Number(number))) if format == Some("duration") => {
            let help = format!("write a unit, as in {number}s or {number}ms");
            return Some(help).filter(|_| is_shown);
        }
        ("string", Kind::Scalar(Value::Number(port))) if format == Some("address") => {
            let help = format!("write an address too, as in \"0.0.0.0:{port}\"");
            return Some(help).filter(|_| is_shown);
        }
        ("string", Kind::Scalar(Value::Number(_) | Value::Bool(_))) if format.is_none() => {
            "write it in quotes"
        }
        ("string", Kind::List(_)) => "write one value, without brackets",
        ("array", Kind::Scalar(Value::String(_) | Value::Number(_))) => {
            return Some(in_brackets(schema, reader));
        }
        ("array", Kind::Map { .. }) => "begin each item of the list with \"- \"",
        ("object", Kind::Scalar(Value::Bool(is_on))) => return Some(switch(schema, *is_on)),
        ("object", Kind::Scalar(Value::String(text))) => {
            if let Some(is_on) = boolean(text) {
                return Some(switch(schema, is_on));
            }
            if let Some(url) = url(schema).filter(|_| text.contains("://")) {
                return Some(url);
            }
            let keys = schema.get("properties")?.as_object()?;
            let only = keys.keys().next().filter(|_| keys.len() == 1);
            let key = keys.get_key_value(text).map(|(key, _)| key).or(only)?;
            return Some(format!("write a map: {{ {key}: … }}"));
        }
        _ => return None,
    };
    Some(help.to_owned())
}

/// Returns a suggestion for a value in place of a list of `schema`.
fn in_brackets(schema: &Value, reader: &ValueReader<'_>) -> String {
    let items = schema.get("items").map(std::slice::from_ref);
    let items = super::flatten(super::of_file(), items.unwrap_or_default());
    let has = |name: &str| items.iter().any(|one| one["type"] == name);
    let written = reader.tree.as_written();
    let is_sign = |one: char| one.is_ascii_alphanumeric() || "_-., ".contains(one);
    if !has("string") && has("object") {
        let is_url = written.contains("://") && items.iter().any(|one| url(one).is_some());
        if is_url {
            return "write a list of maps: [{ url: … }]".to_owned();
        }
        return "begin each item of the list with \"- \"".to_owned();
    }
    let is_name = has("string") && is_shown(reader) && written.chars().all(is_sign);
    match is_name {
        true => format!("put it in brackets: [{written}]"),
        false => "put it in brackets, as in [a, b]".to_owned(),
    }
}

/// Returns a suggestion for a number that is a text.
fn number(text: &str) -> Option<String> {
    let is_plain = |text: &str| text.bytes().all(|one| one.is_ascii_digit() || one == b'.');
    if let Some(percent) = text.strip_suffix('%').filter(|text| is_plain(text)) {
        let percent: f64 = percent.trim().parse().ok()?;
        return Some(format!("write {}", percent / 100.0));
    }
    let is_number = is_plain(text) && text.parse::<f64>().is_ok();
    // Some YAML readers read another number after a zero.
    let is_ambiguous = is_ambiguous(text);
    (is_number && !is_ambiguous).then(|| format!("write {text}, without quotes"))
}

/// Returns `true` if no part of the value may be a secret.
fn is_shown(reader: &ValueReader<'_>) -> bool {
    reader.shown() == reader.tree.as_written()
}

/// Returns a suggestion for a text that has not the format of the schema.
pub(super) fn text(schema: &Value, text: &str, reader: &ValueReader<'_>) -> Option<String> {
    // The text may be a key.
    let is_value = reader.tree.as_text() == Some(text);
    if !is_value || reader.tree.variables().is_some() {
        return None;
    }
    let help = match schema.get("format")?.as_str()? {
        "duration" if text.starts_with('-') => "a duration cannot be negative".to_owned(),
        "duration" if text.starts_with('P') => "write it with units, as in 1m 30s".to_owned(),
        "address" if is_shown(reader) => {
            let (host, port) = text.rsplit_once(':')?;
            let is_port = port.parse::<u16>().is_ok();
            match host {
                "localhost" if is_port => format!("write \"127.0.0.1:{port}\""),
                "" | "*" if is_port => format!("write \"0.0.0.0:{port}\""),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(help)
}

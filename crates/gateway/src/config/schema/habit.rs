//! Suggestions for values as other products write them.

use serde_json::Value;

use super::super::{number::is_ambiguous, reader::ValueReader, tree::Kind};

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
    let is_shown = is_shown(reader);
    let help = match (expected, &tree.kind) {
        ("boolean", Kind::Scalar(Value::String(text))) => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => "write true",
            "no" | "off" | "n" | "false" => "write false",
            _ => return None,
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
        ("object", Kind::Scalar(Value::String(text))) => {
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
    let is_name = |name: &str| {
        let is_part = |one: char| one.is_ascii_alphanumeric() || one == '_';
        name.starts_with(|one: char| one.is_ascii_alphabetic()) && name.chars().all(is_part)
    };
    if text.strip_prefix('$').is_some_and(is_name) {
        return Some("write a variable with braces, as in ${NAME}".to_owned());
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

//! Descriptions of a key for people: text, default and range.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{alternatives, largest, rule};

/// Returns the first paragraph of the description, without links. The doc comment of a library's config struct says
/// there what the key does, and after that what concerns Rust code.
pub(super) fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    let paragraph = text.split("\n\n").next()?;
    Some(without_links(&paragraph.replace('\n', " ")))
}

/// Replaces links such as ``[`open`](Self::open)`` by their text.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        out.push_str(before);
        let is_code = out.matches('`').count() % 2 == 1;
        match link.split_once(']') {
            Some((text, after)) if !is_code => {
                out.push_str(text);
                rest = after_target(after);
            }
            _ => {
                out.push('[');
                rest = link;
            }
        }
    }
    out + rest
}

/// Skips the target of a link, such as `(Self::open)`.
fn after_target(text: &str) -> &str {
    let target = match text.chars().next() {
        Some('(') => text.split_once(')'),
        Some('[') => text.split_once(']'),
        _ => None,
    };
    target.map_or(text, |(_, after)| after)
}

/// Returns the default as it is written in the file, or `None` for a map whose keys have defaults of their own.
pub(super) fn default(schema: &Value) -> Option<Cow<'_, Value>> {
    match schema.get("default")? {
        // A part that can be off is on by default, as with an empty map.
        Value::Object(_) if alternatives(schema).is_some() => Some(Cow::Owned(Map::new().into())),
        Value::Object(_) => None,
        default => Some(Cow::Borrowed(default)),
    }
}

/// Characters with which no text without quotes begins.
const INDICATORS: &[char] = &[
    '!', '"', '#', '%', '&', '\'', '*', ',', '>', '@', '[', ']', '`', '{', '|', '}',
];

/// Returns a value as text, as it is written in the file.
pub(super) fn written(value: &Value) -> String {
    match value {
        // Without quotes, YAML would read another type.
        Value::String(text) if text.parse::<f64>().is_ok() || text.starts_with(INDICATORS) => {
            format!("\"{text}\"")
        }
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(written).collect();
            format!("[{}]", items.join(", "))
        }
        // A library's float 2.0 is written as 2.
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        other => other.to_string(),
    }
}

/// Returns the limits of the values, such as `within 1 to 6`.
pub(super) fn range(schema: &Value) -> Option<String> {
    if let Some(choice) = alternatives(schema) {
        let ranges: Vec<_> = choice.iter().filter_map(range).collect();
        return (!ranges.is_empty()).then(|| ranges.join(", or "));
    }
    if let Some(items) = schema.get("items") {
        return range(items).map(|range| format!("each {range}"));
    }
    if schema.get("const").is_some() {
        return None;
    }
    let limit = |names: [&str; 2]| {
        let value = names.iter().find_map(|name| schema.get(*name))?;
        Some(written(value))
    };
    let low = limit(["minimum", "x-minimum"]);
    let above = limit(["exclusiveMinimum", "x-exclusiveMinimum"]);
    let largest = || largest(schema).map(|largest| largest.to_string());
    let high = limit(["maximum", "x-maximum"]).or_else(largest);
    // Zero alone is the limit of a type without signs.
    if low.as_deref().is_none_or(|low| low == "0") && above.is_none() && high.is_none() {
        return None;
    }
    let rule = rule(low, above, high);
    Some(rule.trim_start_matches("must be ").to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn descriptions_end_at_the_first_paragraph_and_have_no_links() {
        let text = "Time of an\nattempt, at most\n[`cap`](Self::cap). [Envoy] and [this][that], not `[a, b]`.\n\n[Rust](x) only.";
        assert_eq!(
            description(&json!({ "description": text })).unwrap(),
            "Time of an attempt, at most `cap`. Envoy and this, not `[a, b]`."
        );
        assert_eq!(description(&json!(true)), None);
    }

    #[test]
    fn ranges_are_those_of_alternatives_items_and_types() {
        let above = json!({ "exclusiveMinimum": 0.0, "maximum": 1 });
        let either =
            json!({ "anyOf": [{ "const": "off" }, { "x-minimum": "10ms", "x-maximum": "1h" }] });
        let window =
            json!({ "anyOf": [{ "x-exclusiveMinimum": "0s" }, { "minimum": 1, "maximum": 9 }] });
        let list =
            json!({ "items": { "anyOf": [{ "const": "a" }, { "minimum": 2, "maximum": 5 }] } });
        let port = json!({ "format": "uint16", "minimum": 0 });
        for (schema, expected) in [
            (above, Some("> 0 and <= 1")),
            (either, Some("within 10ms to 1h")),
            (window, Some("> 0s, or within 1 to 9")),
            (list, Some("each within 2 to 5")),
            (port, Some("within 0 to 65535")),
            (json!({ "minimum": 0 }), None),
            (json!({ "type": "string" }), None),
        ] {
            assert_eq!(range(&schema).as_deref(), expected);
        }
    }

    #[test]
    fn text_that_yaml_reads_as_a_number_has_quotes() {
        for (value, expected) in [
            (json!("1.2"), "\"1.2\""),
            (json!("10ms"), "10ms"),
            (json!(["1", "a"]), "[\"1\", a]"),
        ] {
            assert_eq!(written(&value), expected);
        }
    }
}

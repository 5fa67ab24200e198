//! The reference of the file, `docs/configuration.md`, written from the schema.
//!
//! With `UPDATE_GOLDEN=1` in the environment, the test rewrites the page.

use std::{collections::HashMap, fmt::Write, fs};

use serde_json::{Map, Value};

use super::{
    super::text::{self, Shape},
    SINCE, alternatives, describe, of_file, resolve, words,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

const FIRST_VERSION: &str = "0.1.0";

/// The first keys of the file on the page. Others follow.
const PARTS: [&str; 9] = [
    "version",
    "server",
    "telemetry",
    "auth",
    "tiers",
    "policies",
    "downstreams",
    "routes",
    "orchestrate",
];

const INTRODUCTION: &str = "# The configuration file

<!-- Generated from the structs in crates/gateway/src/config/file. After a change, run
UPDATE_GOLDEN=1 cargo test -p tower-fanout-gateway --bin fanout reference -->

The file is YAML or JSON, of at most 4 MiB. `fanout init` writes one to start from, `fanout schema` prints its JSON Schema
for editors, and `fanout check` reports all of its mistakes. An unknown key is an error.

| value | written as |
|---|---|
| duration | numbers with units: `300ms`, `1m 30s`. Units are `ns`, `us` or `µs`, `ms`, `s`, `m`, `h`, `d` and `w`, and their names, such as `5 minutes`. `\"0\"` needs no unit. |
| size | a whole number with a unit: `512B`, `64KiB`, `1MiB`, `1GiB` |
| variable | `${NAME}`, `${NAME:-default}` or `${NAME:?message}` in any text: the value of the environment variable. A message is shown if it consists of words. The value of a variable is always text, so a number or a boolean cannot be one. `$${` is the text `${`. |
| number | in decimal, without underscores and leading zeros: YAML 1.1 and YAML 1.2 read `017` and `1_000` differently |
| `off` | turns a part of a policy off |

`NAME` in a path stands for a name that you choose, and `[]` for the items of a list.
";

/// Writes the page, section by section.
struct Page<'s> {
    root: &'s Value,
    text: String,
    /// Paths of the sections so far, by their schemas. A map with the same keys refers to the first one.
    sections: HashMap<*const Value, String>,
    /// Paths of the keys that have no example.
    without_example: Vec<String>,
}

impl<'s> Page<'s> {
    /// Writes the section of a map with the path `path`, and those of the maps in its `keys`.
    fn section(&mut self, path: &str, schema: &'s Value, keys: &[&'s str]) {
        let description = describe::description(schema).unwrap_or_default();
        let heading = if path.is_empty() {
            "Keys"
        } else {
            &format!("`{path}`")
        };
        let _ = writeln!(self.text, "\n## {heading}\n\n{description}\n");
        let values = schema["properties"]
            .as_object()
            .expect("a section has keys");
        let inner = keys
            .iter()
            .filter_map(|key| self.inner(&join(path, key), &values[*key]));
        let inner: Vec<_> = inner.collect();
        for (path, schema) in &inner {
            self.sections.entry(*schema).or_insert_with(|| path.clone());
        }
        self.table(path, schema, keys);
        self.words(values);
        for (path, schema) in inner {
            if self.sections[&std::ptr::from_ref(schema)] == path {
                let keys = schema["properties"]
                    .as_object()
                    .expect("a section has keys");
                let keys: Vec<_> = keys.keys().map(String::as_str).collect();
                self.section(&path, schema, &keys);
            }
        }
    }

    /// Returns the path and the schema of the map in a key, if the key has one.
    fn inner(&self, path: &str, key: &'s Value) -> Option<(String, &'s Value)> {
        let schema = resolve(self.root, key);
        if let Some(choice) = alternatives(schema) {
            let mut maps = choice.iter().filter(|one| written_word(one).is_none());
            return maps.find_map(|one| self.inner(path, one));
        }
        if let Some(items) = schema.get("items") {
            return self.inner(&format!("{path}[]"), items);
        }
        if let Some(values) = schema
            .get("additionalProperties")
            .filter(|values| values.is_object())
        {
            return self.inner(&join(path, "NAME"), values);
        }
        schema.get("properties").map(|_| (path.to_owned(), schema))
    }

    fn table(&mut self, path: &str, schema: &'s Value, keys: &[&'s str]) {
        let required = schema.get("required").and_then(Value::as_array);
        let is_required =
            |key: &str| required.is_some_and(|keys| keys.iter().any(|one| one == key));
        self.text += "| key | type | default | range | example | since | description |\n|---|---|---|---|---|---|---|\n";
        for name in keys {
            let key = &schema["properties"][*name];
            let default = match describe::default(key).as_deref() {
                _ if is_required(name) => "required".to_owned(),
                None => String::new(),
                Some(default) => code(default),
            };
            let example = example(key).map(code);
            if example.is_none() && self.inner("", key).is_none() {
                self.without_example.push(join(path, name));
            }
            let cells = [
                format!("`{name}`"),
                self.type_of(key),
                default,
                describe::range(key).unwrap_or_default(),
                example.unwrap_or_default(),
                key.get(SINCE)
                    .and_then(Value::as_str)
                    .unwrap_or(FIRST_VERSION)
                    .to_owned(),
                describe::description(key).unwrap_or_default(),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(self.text, "| {} |", cells.join(" | "));
        }
    }

    /// Describes the words that the keys of a section may have.
    fn words(&mut self, keys: &'s Map<String, Value>) {
        for (name, key) in keys {
            let schema = resolve(self.root, key);
            let schema = schema.get("items").unwrap_or(schema);
            let described = alternatives(schema)
                .into_iter()
                .flatten()
                .filter_map(|one| {
                    let meaning = describe::description(one)?;
                    Some((written_word(one)?, meaning))
                });
            let lines: Vec<_> = described
                .map(|(word, meaning)| format!("- {}: {meaning}\n", code(&word.into())))
                .collect();
            if !lines.is_empty() {
                let _ = write!(self.text, "\nValues of `{name}`:\n\n{}", lines.concat());
            }
        }
    }

    /// Returns the type of a value, with a link to the section with its keys.
    fn type_of(&self, schema: &'s Value) -> String {
        let schema = resolve(self.root, schema);
        if let Some(section) = self.sections.get(&std::ptr::from_ref(schema)) {
            return format!("[map](#{})", slug(section));
        }
        if let Some(choice) = alternatives(schema) {
            let types: Vec<_> = choice.iter().map(|one| self.type_of(one)).collect();
            return types.join(" or ");
        }
        let words = words(schema);
        if !words.is_empty() {
            return words_of(&words);
        }
        let format = schema.get("format").and_then(Value::as_str);
        if let Some((name, format)) = format.and_then(|name| Some((name, text::format(name)?))) {
            return match format.shape {
                Shape::Words(words) => words_of(&words()),
                Shape::Pattern(_) => name.replace('-', " "),
            };
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("array") => format!("list: {}", self.type_of(&schema["items"])),
            Some("object") => match schema.get("additionalProperties") {
                Some(values) if values.is_object() => {
                    format!("map by name: {}", self.type_of(values))
                }
                _ => {
                    written_word(schema).map_or("map".to_owned(), |key| format!("`{{ {key}: … }}`"))
                }
            },
            Some("integer") => "whole number".to_owned(),
            Some(name) => name.to_owned(),
            None => "any value".to_owned(),
        }
    }
}

/// Returns the word of an alternative, or the key of a map with one key.
fn written_word(alternative: &Value) -> Option<&str> {
    if let [word, ..] = words(alternative)[..] {
        return Some(word);
    }
    let keys = alternative.get("properties")?.as_object()?;
    let mut names = keys.keys().map(String::as_str);
    names.next().filter(|_| keys.len() == 1)
}

/// Returns the words, of which a value is one.
fn words_of(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| code(&(*word).into())).collect();
    words.join(" or ")
}

/// Returns the example of a key, or its default if that shows how a value is written.
fn example(key: &Value) -> Option<&Value> {
    let examples = key.get("examples").and_then(Value::as_array);
    let default = key.get("default").filter(|default| match default {
        Value::Object(_) => false,
        Value::Array(items) => !items.is_empty(),
        default => *default != "off",
    });
    examples
        .and_then(|examples| examples.first())
        .or(default)
        .or(key.get("const"))
}

fn code(value: &Value) -> String {
    format!("`{}`", describe::written(value))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Returns the anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || "_-".contains(*letter));
    kept.collect::<String>().to_lowercase()
}

fn page(root: &Value) -> String {
    let mut page = Page {
        root,
        text: INTRODUCTION.to_owned(),
        sections: HashMap::new(),
        without_example: Vec::new(),
    };
    let keys = root["properties"].as_object().unwrap();
    let mut parts: Vec<_> = keys.keys().map(String::as_str).collect();
    parts.sort_by_key(|key| {
        PARTS
            .iter()
            .position(|part| part == key)
            .unwrap_or(PARTS.len())
    });
    page.section("", root, &parts);
    assert_eq!(
        page.without_example, [""; 0],
        "keys that need `#[schemars(example = …)]`"
    );
    page.text
}

#[test]
fn the_reference_of_the_file_is_up_to_date() {
    let page = page(of_file());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(PAGE, page).unwrap();
    }
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    let stale = page
        .lines()
        .zip(written.lines())
        .find(|(expected, written)| expected != written);
    assert!(
        page == written,
        "docs/configuration.md is stale, first at {stale:?}; run with UPDATE_GOLDEN=1 and review the diff"
    );
}

#[test]
fn a_later_key_states_its_version_once() {
    let key = serde_json::json!({ "type": "boolean", "default": true, "description": "A key.", SINCE: "0.2.0" });
    let root = serde_json::json!({ "properties": { "a": key } });
    let mut page = Page {
        root: &root,
        text: String::new(),
        sections: HashMap::new(),
        without_example: Vec::new(),
    };
    page.table("", &root, &["a"]);
    assert!(
        page.text
            .ends_with("| `a` | boolean | `true` |  | `true` | 0.2.0 | A key. |\n"),
        "{}",
        page.text
    );
}

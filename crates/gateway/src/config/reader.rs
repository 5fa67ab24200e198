//! Reads a [`Tree`] key by key and collects a diagnostic for every mistake found on the way.

use std::{cell::RefCell, fmt::Display};

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::Value;
use tower_fanout::layers::config::Validate;

use super::{
    diagnostic::{Diagnostic, Position, Severity},
    tree::{Kind, Tree},
    value::did_you_mean,
};

/// The diagnostics of a file, collected while the file is read.
#[derive(Default)]
pub(super) struct Diagnostics(RefCell<Vec<Diagnostic>>);

impl Diagnostics {
    pub(super) fn add(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    /// Returns the positions of all diagnostics so far.
    pub(super) fn positions(&self) -> Vec<Position> {
        self.0.borrow().iter().map(|known| known.position).collect()
    }

    pub(super) fn into_inner(self) -> Vec<Diagnostic> {
        self.0.into_inner()
    }
}

/// A reader of one value of the file. Knows the path of the value and reports its mistakes.
#[derive(Clone)]
pub(super) struct ValueReader<'t> {
    pub(super) tree: &'t Tree,
    pub(super) path: String,
    diagnostics: &'t Diagnostics,
}

impl<'t> ValueReader<'t> {
    pub(super) fn root(tree: &'t Tree, diagnostics: &'t Diagnostics) -> Self {
        Self {
            tree,
            path: String::new(),
            diagnostics,
        }
    }

    fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        message: impl Display,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            message: self.tree.redact(message.to_string()),
            path: self.path.clone(),
            position: self.tree.position,
            help: None,
        }
    }

    pub(super) fn error(&self, code: &'static str, message: impl Display) {
        self.diagnostics
            .add(self.diagnostic(Severity::Error, code, message));
    }

    pub(super) fn error_with_help(
        &self,
        code: &'static str,
        message: impl Display,
        help: Option<String>,
    ) {
        let diagnostic = self.diagnostic(Severity::Error, code, message);
        self.diagnostics.add(Diagnostic { help, ..diagnostic });
    }

    pub(super) fn warning(&self, code: &'static str, message: impl Display, help: &str) {
        let diagnostic = self.diagnostic(Severity::Warning, code, message);
        let help = Some(help.to_owned());
        self.diagnostics.add(Diagnostic { help, ..diagnostic });
    }

    /// Reports a key that is reserved for `feature`, which is not implemented yet.
    pub(super) fn not_built(&self, feature: &str) {
        let help = Some("remove it for now".to_owned());
        self.error_with_help("not_built", format!("{feature} is not supported yet"), help);
    }

    /// Returns `true` if no error is reported so far for this value or a value inside it.
    pub(super) fn is_sound(&self) -> bool {
        let inside = |path: &str| {
            // Paths are compared as text: `a` contains `a.b` and `a[0]`, but not `ab`.
            let rest = path.strip_prefix(&self.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let known = self.diagnostics.0.borrow();
        let mut errors = known.iter().filter(|one| one.severity == Severity::Error);
        !errors.any(|one| inside(&one.path))
    }

    /// Deserializes the value. Returns `None` after reporting an error.
    pub(super) fn get<T: DeserializeOwned>(&self) -> Option<T> {
        match serde_json::from_value(self.tree.to_json()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error("invalid", error);
                None
            }
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        match &self.tree.kind {
            Kind::Scalar(Value::String(text)) => Some(text.clone()),
            _ => {
                self.error(
                    "type",
                    format!("expected a string, got {}", self.tree.type_name()),
                );
                None
            }
        }
    }

    /// Parses a string with `parse`. Reports that `expected` is missing if it returns `None`.
    pub(super) fn parse<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(&self.text()?);
        if parsed.is_none() {
            let got = self.tree.as_written();
            self.error("invalid", format!("expected {expected}, got \"{got}\""));
        }
        parsed
    }

    pub(super) fn list(&self) -> Vec<ValueReader<'t>> {
        match &self.tree.kind {
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.child(item, &format!("[{index}]")))
                .collect(),
            _ => {
                self.error(
                    "type",
                    format!("expected a list, got {}", self.tree.type_name()),
                );
                Vec::new()
            }
        }
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(ValueReader::text).collect()
    }

    /// Returns the members of a map whose keys the user chooses. Reports duplicate keys and keeps the
    /// first of them.
    pub(super) fn named(&self) -> Vec<(String, ValueReader<'t>)> {
        let Kind::Map(members) = &self.tree.kind else {
            self.error(
                "type",
                format!("expected a map, got {}", self.tree.type_name()),
            );
            return Vec::new();
        };
        let mut named: Vec<(String, ValueReader<'t>)> = Vec::new();
        for (name, position, value) in members {
            let reader = self.child(value, &format!(".{name}"));
            if named.iter().any(|(known, _)| known == name) {
                reader.error_at(*position, "duplicate", format!("duplicate key \"{name}\""));
            } else {
                named.push((name.clone(), reader));
            }
        }
        named
    }

    /// Returns a reader for a map with a fixed set of keys. Reports any other value, and then reads it
    /// as an empty map.
    pub(super) fn as_map(&self) -> MapReader<'t> {
        let Kind::Map(members) = &self.tree.kind else {
            self.error(
                "type",
                format!("expected a map, got {}", self.tree.type_name()),
            );
            return MapReader {
                reader: self.clone(),
                entries: None,
                known: Vec::new(),
            };
        };
        MapReader {
            reader: self.clone(),
            entries: Some(members),
            known: Vec::new(),
        }
    }

    /// Deserializes a configuration struct. Returns `None` after reporting an error.
    ///
    /// Each key is deserialized on its own, so that one mistake does not hide the others. The caller
    /// validates the values of a struct that is returned.
    pub(super) fn config<T: Validate + DeserializeOwned>(&self) -> Option<T> {
        let mut map = self.as_map();
        let mut sound = matches!(self.tree.kind, Kind::Map(_));
        let mut values = serde_json::Map::new();
        for key in keys_of::<T>() {
            let Some(reader) = map.take(key) else {
                continue;
            };
            let value = reader.tree.to_json();
            // Every other field takes its default, so only the mistakes of this key show up.
            let alone: Value = [((*key).to_owned(), value.clone())].into_iter().collect();
            match serde_json::from_value::<T>(alone) {
                Ok(_) => drop(values.insert((*key).to_owned(), value)),
                Err(error) => {
                    sound = false;
                    reader.error("invalid", error);
                }
            }
        }
        // Unknown keys are errors too.
        sound &= map.finish();
        let config = serde_json::from_value(values.into()).ok()?;
        // The caller gets `None` and cannot validate, so the readable fields are validated here.
        if !sound {
            self.check(&config);
        }
        sound.then_some(config)
    }

    /// Returns `true` if the value is the string `word`.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.tree.kind, Kind::Scalar(Value::String(text)) if text == word)
    }

    /// Reports every error of `config` at its key. Returns `true` if none is found.
    pub(super) fn check(&self, config: &impl Validate) -> bool {
        let errors = config.errors();
        for error in &errors {
            let reader = self.at(error.field());
            reader.error("invalid", reader.tree.quote_in(error.message()));
        }
        errors.is_empty()
    }

    /// Returns the item `index` of the list `key`, or the closest enclosing value in the file.
    pub(super) fn item(&self, key: &str, index: usize) -> ValueReader<'t> {
        let list = self.at(key);
        match &list.tree.kind {
            Kind::List(items) if index < items.len() => {
                list.child(&items[index], &format!("[{index}]"))
            }
            _ => list,
        }
    }

    /// Returns the value at a dotted path below this one, or the closest enclosing value in the file.
    pub(super) fn at(&self, path: &str) -> ValueReader<'t> {
        let mut reader = self.clone();
        for step in path.split('.') {
            let Kind::Map(members) = &reader.tree.kind else {
                break;
            };
            match members.iter().find(|(name, _, _)| name == step) {
                Some((_, _, value)) => reader = reader.child(value, &format!(".{step}")),
                // A missing key has no position. The path names it, and the enclosing map is underlined.
                None => reader.path = format!("{}.{step}", reader.path),
            }
        }
        reader
    }

    fn error_at(&self, position: Position, code: &'static str, message: impl Display) {
        let diagnostic = self.diagnostic(Severity::Error, code, message);
        self.diagnostics.add(Diagnostic {
            position,
            ..diagnostic
        });
    }

    fn child(&self, tree: &'t Tree, step: &str) -> Self {
        let path = format!("{}{step}", self.path);
        Self {
            tree,
            path: path.trim_start_matches('.').to_owned(),
            diagnostics: self.diagnostics,
        }
    }
}

/// A reader of a map with a fixed set of keys. [`finish`](Self::finish) reports every key that was
/// not read.
pub(super) struct MapReader<'t> {
    pub(super) reader: ValueReader<'t>,
    // `None` if the value is not a map, which is already reported.
    entries: Option<&'t [(String, Position, Tree)]>,
    known: Vec<&'static str>,
}

impl<'t> MapReader<'t> {
    /// Returns the value of `key`, or `None` if the map does not have it.
    pub(super) fn take(&mut self, key: &'static str) -> Option<ValueReader<'t>> {
        self.known.push(key);
        let (_, _, value) = self.entries?.iter().find(|(name, _, _)| name == key)?;
        Some(self.reader.child(value, &format!(".{key}")))
    }

    /// Returns the value of `key`. Reports a missing key.
    pub(super) fn require(&mut self, key: &'static str) -> Option<ValueReader<'t>> {
        let found = self.take(key);
        if found.is_none() && self.entries.is_some() {
            self.reader
                .error("missing", format!("missing key \"{key}\""));
        }
        found
    }

    /// Returns the items of the list `key`. A missing key is an empty list.
    pub(super) fn items(&mut self, key: &'static str) -> Vec<ValueReader<'t>> {
        self.take(key)
            .map(|reader| reader.list())
            .unwrap_or_default()
    }

    /// Returns the strings of the list `key`. A missing key is an empty list.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        self.take(key)
            .map(|reader| reader.texts())
            .unwrap_or_default()
    }

    /// Returns the members of the map `key`, whose keys the user chooses. A missing key is an empty map.
    pub(super) fn members(&mut self, key: &'static str) -> Vec<(String, ValueReader<'t>)> {
        self.take(key)
            .map(|reader| reader.named())
            .unwrap_or_default()
    }

    /// Returns `true` if the boolean `key` is `true`. A missing key is `false`.
    pub(super) fn is_on(&mut self, key: &'static str) -> bool {
        self.take(key).and_then(|reader| reader.get()) == Some(true)
    }

    /// Reports those of `keys` that the map has. Each is reserved for the feature beside it.
    pub(super) fn not_built(&mut self, keys: &[(&'static str, &str)]) {
        for (key, feature) in keys {
            if let Some(reader) = self.take(key) {
                reader.not_built(feature);
            }
        }
    }

    /// Reports unknown and duplicate keys. Returns `true` if there are none.
    pub(super) fn finish(self) -> bool {
        let members = self.entries.unwrap_or_default();
        let mut sound = true;
        for (index, (name, position, value)) in members.iter().enumerate() {
            let reader = self.reader.child(value, &format!(".{name}"));
            let is_known = self.known.contains(&name.as_str());
            // A repeated key is reported where it is repeated, not where it is first used.
            let is_first = !members[..index].iter().any(|(other, _, _)| other == name);
            sound &= is_known && is_first;
            if !is_first {
                reader.error_at(*position, "duplicate", format!("duplicate key \"{name}\""));
            } else if !is_known {
                let help = did_you_mean(name, self.known.iter().copied());
                let message = format!("unknown key \"{name}\"");
                let diagnostic = reader.diagnostic(Severity::Error, "unknown_key", message);
                self.reader.diagnostics.add(Diagnostic {
                    help,
                    position: *position,
                    ..diagnostic
                });
            }
        }
        sound
    }
}

/// Returns the keys that `T` is deserialized from.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // `Keys` holds no data, so deserialization always fails. By then it has recorded the keys.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

/// A deserializer that records the keys of the struct that is requested.
struct Keys<'k>(&'k mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("expected a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = keys;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

//! Reads a tree key by key and collects everything that is wrong on the way.

use std::{cell::RefCell, fmt::Display};

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::Value;
use tower_fanout::{layers::config::Validate, nearest_name};

use super::{
    diagnostic::{Diagnostic, Position, Severity},
    tree::{Kind, Tree},
};

/// Where diagnostics are collected.
#[derive(Default)]
pub(super) struct Diagnostics(RefCell<Vec<Diagnostic>>);

impl Diagnostics {
    pub(super) fn add(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    /// Where something is wrong so far.
    pub(super) fn places(&self) -> Vec<Position> {
        self.0.borrow().iter().map(|known| known.place).collect()
    }

    pub(super) fn into_inner(self) -> Vec<Diagnostic> {
        self.0.into_inner()
    }
}

/// A value of the file: where it stands, what leads to it, and where to complain about it.
#[derive(Clone)]
pub(super) struct ValueReader<'t> {
    pub(super) tree: &'t Tree,
    pub(super) path: String,
    sink: &'t Diagnostics,
}

impl<'t> ValueReader<'t> {
    pub(super) fn root(tree: &'t Tree, sink: &'t Diagnostics) -> Self {
        Self {
            tree,
            path: String::new(),
            sink,
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
            place: self.tree.place,
            help: None,
        }
    }

    pub(super) fn error(&self, code: &'static str, message: impl Display) {
        self.sink
            .add(self.diagnostic(Severity::Error, code, message));
    }

    pub(super) fn error_with_help(
        &self,
        code: &'static str,
        message: impl Display,
        help: Option<String>,
    ) {
        let diagnostic = self.diagnostic(Severity::Error, code, message);
        self.sink.add(Diagnostic { help, ..diagnostic });
    }

    pub(super) fn warning(&self, code: &'static str, message: impl Display, help: &str) {
        let diagnostic = self.diagnostic(Severity::Warning, code, message);
        let help = Some(help.to_owned());
        self.sink.add(Diagnostic { help, ..diagnostic });
    }

    /// It is meant for later.
    pub(super) fn not_built(&self, what: &str) {
        let help = Some("leave it out for now".to_owned());
        self.error_with_help("not_built", format!("{what} is not built yet"), help);
    }

    /// Whether nothing is wrong with it so far, nor with what is in it.
    pub(super) fn is_sound(&self) -> bool {
        let inside = |path: &str| {
            let rest = path.strip_prefix(&self.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let known = self.sink.0.borrow();
        let mut errors = known.iter().filter(|one| one.severity == Severity::Error);
        !errors.any(|one| inside(&one.path))
    }

    /// The value as a `T`.
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
                self.error("type", format!("this is {}, not a string", self.tree.is()));
                None
            }
        }
    }

    pub(super) fn list(&self) -> Vec<ValueReader<'t>> {
        match &self.tree.kind {
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(place, item)| self.child(item, &format!("[{place}]")))
                .collect(),
            _ => {
                self.error("type", format!("this is {}, not a list", self.tree.is()));
                Vec::new()
            }
        }
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(ValueReader::text).collect()
    }

    /// The members of a map with names of the user's choice; one that stands twice is an error.
    pub(super) fn named(&self) -> Vec<(String, ValueReader<'t>)> {
        let Kind::Map(members) = &self.tree.kind else {
            self.error("type", format!("this is {}, not a map", self.tree.is()));
            return Vec::new();
        };
        let mut named: Vec<(String, ValueReader<'t>)> = Vec::new();
        for (name, place, value) in members {
            let field = self.child(value, &format!(".{name}"));
            if named.iter().any(|(known, _)| known == name) {
                field.error_at(*place, "duplicate", format!("\"{name}\" stands twice"));
            } else {
                named.push((name.clone(), field));
            }
        }
        named
    }

    /// The members of a map with known keys.
    pub(super) fn section(&self) -> MapReader<'t> {
        let Kind::Map(members) = &self.tree.kind else {
            self.error("type", format!("this is {}, not a map", self.tree.is()));
            return MapReader {
                field: self.clone(),
                entries: None,
                known: Vec::new(),
            };
        };
        MapReader {
            field: self.clone(),
            entries: Some(members),
            known: Vec::new(),
        }
    }

    /// Plain settings, each of which is read by itself, so that every mistake is found.
    pub(super) fn settings<T: Validate + DeserializeOwned>(&self) -> Option<T> {
        let mut section = self.section();
        let mut sound = matches!(self.tree.kind, Kind::Map(_));
        let mut values = serde_json::Map::new();
        for key in keys_of::<T>() {
            let Some(field) = section.take(key) else {
                continue;
            };
            let value = field.tree.to_json();
            let alone: Value = [((*key).to_owned(), value.clone())].into_iter().collect();
            match serde_json::from_value::<T>(alone) {
                Ok(_) => drop(values.insert((*key).to_owned(), value)),
                Err(error) => {
                    sound = false;
                    field.error("invalid", error);
                }
            }
        }
        sound &= section.finish();
        let settings = serde_json::from_value(values.into()).ok()?;
        if !sound {
            self.check(&settings);
        }
        sound.then_some(settings)
    }

    /// Whether it is this word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.tree.kind, Kind::Scalar(Value::String(text)) if text == word)
    }

    /// Complains about everything that is wrong with settings, each at its key.
    pub(super) fn check(&self, settings: &impl Validate) -> bool {
        let problems = settings.errors();
        for problem in &problems {
            self.at(problem.field()).error("invalid", problem.message());
        }
        problems.is_empty()
    }

    /// The item at `place` of the list `key`, or as near to it as the file goes.
    pub(super) fn item(&self, key: &str, place: usize) -> ValueReader<'t> {
        let list = self.at(key);
        match &list.tree.kind {
            Kind::List(items) if place < items.len() => {
                list.child(&items[place], &format!("[{place}]"))
            }
            _ => list,
        }
    }

    /// The value at this dotted path, or as near to it as the file goes.
    pub(super) fn at(&self, path: &str) -> ValueReader<'t> {
        let mut field = self.clone();
        for step in path.split('.') {
            let Kind::Map(members) = &field.tree.kind else {
                break;
            };
            match members.iter().find(|(name, _, _)| name == step) {
                Some((_, _, value)) => field = field.child(value, &format!(".{step}")),
                None => field.path = format!("{}.{step}", field.path),
            }
        }
        field
    }

    fn error_at(&self, place: Position, code: &'static str, message: impl Display) {
        let diagnostic = self.diagnostic(Severity::Error, code, message);
        self.sink.add(Diagnostic {
            place,
            ..diagnostic
        });
    }

    fn child(&self, tree: &'t Tree, step: &str) -> Self {
        let path = format!("{}{step}", self.path);
        Self {
            tree,
            path: path.trim_start_matches('.').to_owned(),
            sink: self.sink,
        }
    }
}

/// A map with known keys. Keys that nobody asked for are mistakes.
pub(super) struct MapReader<'t> {
    pub(super) field: ValueReader<'t>,
    // None if there is something else instead of a map, which was complained about.
    entries: Option<&'t [(String, Position, Tree)]>,
    known: Vec<&'static str>,
}

impl<'t> MapReader<'t> {
    /// The value of `key`, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<ValueReader<'t>> {
        self.known.push(key);
        let (_, _, value) = self.entries?.iter().find(|(name, _, _)| name == key)?;
        Some(self.field.child(value, &format!(".{key}")))
    }

    /// The value of `key`, which must be there.
    pub(super) fn require(&mut self, key: &'static str) -> Option<ValueReader<'t>> {
        let found = self.take(key);
        if found.is_none() && self.entries.is_some() {
            self.field.error("missing", format!("\"{key}\" is missing"));
        }
        found
    }

    /// The items of the list `key`; none if it is not there.
    pub(super) fn items(&mut self, key: &'static str) -> Vec<ValueReader<'t>> {
        self.take(key).map(|field| field.list()).unwrap_or_default()
    }

    /// The members of the map `key`, by names of the user's choice; none if it is not there.
    pub(super) fn members(&mut self, key: &'static str) -> Vec<(String, ValueReader<'t>)> {
        self.take(key)
            .map(|field| field.named())
            .unwrap_or_default()
    }

    /// Whether the switch `key` is on; off if it is not there.
    pub(super) fn is_on(&mut self, key: &'static str) -> bool {
        self.take(key).and_then(|field| field.get()) == Some(true)
    }

    /// Keys that are meant for later.
    pub(super) fn not_built(&mut self, keys: &[(&'static str, &str)]) {
        for (key, what) in keys {
            if let Some(field) = self.take(key) {
                field.not_built(what);
            }
        }
    }

    /// Complains about keys that nobody asked for, or that stand twice; whether there are none.
    pub(super) fn finish(self) -> bool {
        let members = self.entries.unwrap_or_default();
        let mut sound = true;
        for (index, (name, place, value)) in members.iter().enumerate() {
            let field = self.field.child(value, &format!(".{name}"));
            let is_known = self.known.contains(&name.as_str());
            let is_first = !members[..index].iter().any(|(other, _, _)| other == name);
            sound &= is_known && is_first;
            if !is_first {
                field.error_at(*place, "duplicate", format!("\"{name}\" stands twice"));
            } else if !is_known {
                let help = nearest_name(name, self.known.iter().copied())
                    .map(|key| format!("did you mean \"{key}\"?"));
                let message = format!("there is no key \"{name}\" here");
                let diagnostic = field.diagnostic(Severity::Error, "unknown_key", message);
                self.field.sink.add(Diagnostic {
                    help,
                    place: *place,
                    ..diagnostic
                });
            }
        }
        sound
    }
}

/// The keys that a struct is read from.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // It has nothing to read from, so it fails as soon as it has said what it wants.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

/// A source that notes which keys it is asked for.
struct Keys<'k>(&'k mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("only structs have keys"))
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

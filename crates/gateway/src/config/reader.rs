//! Reads a [`Tree`] key by key and collects a diagnostic for every mistake found on the way.

use std::{cell::RefCell, fmt::Display};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_fanout::layers::config::Validate;

use super::{
    diagnostic::{Diagnostic, Position, Severity},
    schema,
    tree::{Kind, Tree},
    value::did_you_mean,
};

/// The diagnostics of a file, collected while the file is read.
pub(super) type Diagnostics = RefCell<Vec<Diagnostic>>;

/// A reader of one value of the file. Knows the path of the value and reports its mistakes.
#[derive(Clone)]
pub(super) struct ValueReader<'t> {
    pub(super) tree: &'t Tree,
    pub(super) path: String,
    /// Where mistakes are reported.
    position: Position,
    diagnostics: &'t Diagnostics,
}

impl<'t> ValueReader<'t> {
    pub(super) fn root(tree: &'t Tree, diagnostics: &'t Diagnostics) -> Self {
        Self {
            tree,
            path: String::new(),
            position: tree.position,
            diagnostics,
        }
    }

    fn report(
        &self,
        severity: Severity,
        code: &'static str,
        message: impl Display,
        help: Option<String>,
    ) {
        self.diagnostics.borrow_mut().push(Diagnostic {
            severity,
            code,
            message: self.tree.redact(message.to_string()),
            path: self.path.clone(),
            position: self.position,
            help,
        });
    }

    pub(super) fn error(&self, code: &'static str, message: impl Display) {
        self.error_with_help(code, message, None);
    }

    pub(super) fn error_with_help(
        &self,
        code: &'static str,
        message: impl Display,
        help: Option<String>,
    ) {
        self.report(Severity::Error, code, message, help);
    }

    pub(super) fn warning(&self, code: &'static str, message: impl Display, help: &str) {
        self.report(Severity::Warning, code, message, Some(help.to_owned()));
    }

    /// Reports a value that is not of the type `expected`.
    pub(super) fn wrong_type(&self, expected: &str) {
        let got = match &self.tree.kind {
            Kind::Scalar(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => self.tree.type_name().to_owned(),
        };
        self.error("type", format!("expected {expected}, got {got}"));
    }

    /// Reports the repeated keys of all maps in the value. Only the first of them is read.
    pub(super) fn report_duplicates(&self) {
        match &self.tree.kind {
            Kind::Scalar(_) => {}
            Kind::List(_) => self.list().iter().for_each(Self::report_duplicates),
            Kind::Map { members, repeated } => {
                for (name, position) in repeated {
                    let key = self.key(name, *position, &members[name].1);
                    key.error("duplicate", format!("duplicate key \"{name}\""));
                }
                let members = self.named();
                members
                    .iter()
                    .for_each(|(_, value)| value.report_duplicates());
            }
        }
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
        let known = self.diagnostics.borrow();
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

    /// Reads the valid part of the value. Reports every mistake in it.
    pub(super) fn read<T: DeserializeOwned + JsonSchema>(&self) -> Option<T> {
        let valid = schema::check(&schema::of::<T>(), self)?;
        let read = T::deserialize(&valid);
        read.map_err(|error| self.error("invalid", error)).ok()
    }

    pub(super) fn text(&self) -> Option<String> {
        match &self.tree.kind {
            Kind::Scalar(Value::String(text)) => return Some(text.clone()),
            _ => self.wrong_type("a string"),
        }
        None
    }

    /// Returns the message for a value that is not what `expected` says.
    pub(super) fn expected(&self, expected: impl Display) -> String {
        format!("expected {expected}, got \"{}\"", self.tree.as_written())
    }

    pub(super) fn list(&self) -> Vec<ValueReader<'t>> {
        let Kind::List(items) = &self.tree.kind else {
            self.wrong_type("a list");
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items
            .map(|(index, item)| self.child(item, &format!("[{index}]")))
            .collect()
    }

    /// Returns `None` after reporting an empty list. Where a list restricts something, an empty one would restrict
    /// nothing, in contrast to what it says.
    pub(super) fn nonempty(&self) -> Option<&Self> {
        if matches!(&self.tree.kind, Kind::List(items) if items.is_empty()) {
            let message = "expected at least one item, got an empty list";
            self.error_with_help(
                "invalid",
                message,
                Some("add an item, or remove the key".into()),
            );
            return None;
        }
        Some(self)
    }

    /// Reads the items of a list, except invalid ones.
    pub(super) fn each<T>(&self, read: impl Fn(&Self) -> Option<T>) -> Vec<T> {
        self.list().iter().filter_map(read).collect()
    }

    /// Returns the members of a map whose keys the user chooses.
    pub(super) fn named(&self) -> Vec<(String, ValueReader<'t>)> {
        if self.tree.members().is_none() {
            self.wrong_type("a map");
        }
        self.entries()
    }

    /// Returns the members of a map, or none if the value is not a map.
    pub(super) fn entries(&self) -> Vec<(String, ValueReader<'t>)> {
        let members = self.tree.members().into_iter().flatten();
        members
            .map(|(name, (_, value))| (name.clone(), self.member(name, value)))
            .collect()
    }

    /// Returns a reader for a map with a fixed set of keys. Reports any other value, and then reads it
    /// as an empty map.
    pub(super) fn as_map(&self) -> MapReader<'t> {
        let members = self.tree.members();
        if members.is_none() {
            self.wrong_type("a map");
        }
        MapReader {
            reader: self.clone(),
            members,
            known: Vec::new(),
        }
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
            // An invalid value is replaced by its default, which the file does not say.
            if self.has(error.field()) && !reader.is_sound() {
                continue;
            }
            let mut message = reader.tree.quote_in(error.message());
            // Another key of the file may forbid the default of a key that it does not have.
            if !self.has(error.field()) && message.contains(", got ") {
                message += ", the default";
            }
            reader.error("invalid", message);
        }
        errors.is_empty()
    }

    /// Returns the items of the list `key`, or none if the value has no such list.
    pub(super) fn items(&self, key: &str) -> Vec<ValueReader<'t>> {
        let list = self.at(key);
        match &list.tree.kind {
            Kind::List(_) if self.has(key) => list.list(),
            _ => Vec::new(),
        }
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

    /// Returns `true` if the file has a value at a dotted path below this one.
    pub(super) fn has(&self, path: &str) -> bool {
        let value = path.split('.').try_fold(self.tree, |tree, step| {
            let (_, value) = tree.members()?.get(step)?;
            Some(value)
        });
        value.is_some()
    }

    /// Returns the value at a dotted path below this one, or the closest enclosing value in the file.
    pub(super) fn at(&self, path: &str) -> ValueReader<'t> {
        let mut reader = self.clone();
        for step in path.split('.') {
            let Some(members) = reader.tree.members() else {
                break;
            };
            match members.get(step) {
                Some((_, value)) => reader = reader.child(value, &format!(".{step}")),
                // A missing key has no position. The path names it, and the enclosing map is underlined.
                None => reader.path = format!("{}.{step}", reader.path),
            }
        }
        reader
    }

    /// Returns a reader of a string that reports mistakes at one of its characters, counted from 1.
    pub(super) fn at_character(&self, character: usize) -> Self {
        Self {
            position: self.tree.position_of(character),
            ..self.clone()
        }
    }

    /// Returns a reader of the member `name`, whose value is `value`.
    pub(super) fn member(&self, name: &str, value: &'t Tree) -> Self {
        self.child(value, &format!(".{name}"))
    }

    /// Returns a reader of the member `name` that reports mistakes at the position of its key.
    pub(super) fn key(&self, name: &str, position: Position, value: &'t Tree) -> Self {
        Self {
            position,
            ..self.child(value, &format!(".{name}"))
        }
    }

    fn child(&self, tree: &'t Tree, step: &str) -> Self {
        let path = format!("{}{step}", self.path);
        Self {
            tree,
            path: path.trim_start_matches('.').to_owned(),
            position: tree.position,
            diagnostics: self.diagnostics,
        }
    }
}

/// A reader of a map with a fixed set of keys. [`finish`](Self::finish) reports every key that was
/// not read.
pub(super) struct MapReader<'t> {
    pub(super) reader: ValueReader<'t>,
    /// `None` if the value is not a map, which is already reported.
    members: Option<&'t IndexMap<String, (Position, Tree)>>,
    known: Vec<&'static str>,
}

impl<'t> MapReader<'t> {
    /// Returns the value of `key`, or `None` if the map does not have it.
    pub(super) fn take(&mut self, key: &'static str) -> Option<ValueReader<'t>> {
        self.known.push(key);
        let (_, value) = self.members?.get(key)?;
        Some(self.reader.child(value, &format!(".{key}")))
    }

    /// Returns the value of `key`. Reports a missing key.
    pub(super) fn require(&mut self, key: &'static str) -> Option<ValueReader<'t>> {
        let found = self.take(key);
        if found.is_none() && self.members.is_some() {
            self.reader
                .error("missing", format!("missing key \"{key}\""));
        }
        found
    }

    /// Reads the value of `key`. Reports a missing key.
    pub(super) fn get_required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&ValueReader<'t>) -> Option<T>,
    ) -> Option<T> {
        self.require(key).and_then(|reader| read(&reader))
    }

    /// Reads the value of `key`. Returns `None` if the key is missing or its value is invalid.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&ValueReader<'t>) -> Option<T>,
    ) -> Option<T> {
        self.take(key).and_then(|reader| read(&reader))
    }

    /// Replaces `field` by the value of `key`, unless the key is missing or its value is invalid.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        field: &mut T,
        read: impl FnOnce(&ValueReader<'t>) -> Option<T>,
    ) {
        if let Some(value) = self.get(key, read) {
            *field = value;
        }
    }

    /// Reads the items of the list `key`, except invalid ones. A missing key is an empty list.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&ValueReader<'t>) -> Option<T>,
    ) -> Vec<T> {
        self.take(key)
            .map(|reader| reader.each(read))
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
        self.get(key, ValueReader::get).unwrap_or_default()
    }

    /// Reports those of `keys` that the map has. Each is reserved for the feature beside it.
    pub(super) fn not_built(&mut self, keys: &[(&'static str, &str)]) {
        for (key, feature) in keys {
            if let Some(reader) = self.take(key) {
                reader.not_built(feature);
            }
        }
    }

    /// Reports unknown keys. Returns `true` if there are none.
    pub(super) fn finish(self) -> bool {
        let members = self.members.into_iter().flatten();
        let unknown = members.filter(|(name, _)| !self.known.contains(&name.as_str()));
        let mut sound = true;
        for (name, (position, value)) in unknown {
            sound = false;
            let key = self.reader.key(name, *position, value);
            let help = did_you_mean(name, self.known.iter().copied());
            key.error_with_help("unknown_key", format!("unknown key \"{name}\""), help);
        }
        sound
    }
}

//! Reads a [`Tree`] key by key and collects a diagnostic for every mistake found on the way.

use std::{cell::RefCell, fmt::Display};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_fanout::layers::config::Validate;

use super::{
    diagnostic::{Diagnostic, Position, Severity},
    schema,
    tree::{Kind, Tree},
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
        let written = self.tree.as_written();
        // A longer value may be a secret.
        let got = match &self.tree.kind {
            Kind::Scalar(Value::String(_)) if written.len() < 6 => format!("\"{written}\""),
            Kind::Scalar(_) if written.len() < 6 => written,
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
                let members = self.entries();
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

    /// Reads the valid part of the value. Reports every mistake in it.
    pub(super) fn read<T: DeserializeOwned + JsonSchema>(&self) -> Option<T> {
        let valid = schema::check(&schema::of::<T>(), self)?;
        let read = T::deserialize(&valid);
        read.map_err(|error| self.error("invalid", error)).ok()
    }

    /// Returns the text of a string.
    pub(super) fn text(&self) -> Option<String> {
        self.tree.as_text().map(str::to_owned)
    }

    /// Returns the message for a value that is not what `expected` says.
    pub(super) fn expected(&self, expected: impl Display) -> String {
        format!("expected {expected}, got \"{}\"", self.tree.as_written())
    }

    /// Returns the items of a list, or none if the value is not a list.
    pub(super) fn list(&self) -> Vec<ValueReader<'t>> {
        let Kind::List(items) = &self.tree.kind else {
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

    /// Returns the members of a map, or none if the value is not a map.
    pub(super) fn entries(&self) -> Vec<(String, ValueReader<'t>)> {
        let members = self.tree.members().into_iter().flatten();
        members
            .map(|(name, (_, value))| (name.clone(), self.member(name, value)))
            .collect()
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

    /// Returns the members of the map `key`, or none if the value has no such map.
    pub(super) fn members(&self, key: &str) -> Vec<(String, ValueReader<'t>)> {
        if self.has(key) {
            self.at(key).entries()
        } else {
            Vec::new()
        }
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

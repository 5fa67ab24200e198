//! Reads a [`Tree`] key by key and collects a diagnostic for every mistake found on the way.

mod diagnostics;
mod library_errors;

use std::{fmt::Display, path::PathBuf};

use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_fanout_json::template::Root;

pub(super) use self::{diagnostics::Diagnostics, library_errors::split_advice};
use super::{
    diagnostic::{Diagnostic, Position, Severity},
    number::decimal,
    redact::Redactor,
    schema::{self, Place},
    source::Unset,
    text::Fault,
    tree::{Kind, Tree},
    value::{did_you_mean, known_names},
};

/// A reader of one value of the file. Knows the path of the value and reports its mistakes.
#[derive(Clone)]
pub(super) struct ValueReader<'t> {
    pub(super) tree: &'t Tree,
    pub(super) path: String,
    /// Where mistakes are reported.
    pub(super) position: Position,
    diagnostics: &'t Diagnostics,
    /// Folders of the sources, by their index in positions.
    folders: &'t [PathBuf],
    /// The whole file.
    root: &'t Tree,
    /// Length of the key at the end of the path, if its mistakes are reported and not those of the value.
    key_length: usize,
}

impl<'t> ValueReader<'t> {
    pub(super) fn root(tree: &'t Tree, diagnostics: &'t Diagnostics) -> Self {
        Self {
            tree,
            path: String::new(),
            position: tree.position,
            diagnostics,
            folders: &[],
            root: tree,
            key_length: 0,
        }
    }

    /// Returns the reader with the folders of the sources, to which the names of files are relative.
    pub(super) fn in_folders(self, folders: &'t [PathBuf]) -> Self {
        Self { folders, ..self }
    }

    fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        message: impl Display,
        help: Option<String>,
    ) -> Diagnostic {
        let redactor = self.redactor();
        let mut message = redactor.without_values(message.to_string(), self.tree);
        if self.tree.variables().is_some() {
            // The text of the file would be valid.
            let quoted = format!("\"{}\"", self.shown());
            let is_got = |message: &str, got: &str| message.ends_with(&format!(", got {got}"));
            let got = [&*quoted, quoted.trim_matches('"')];
            if let Some(got) = got.into_iter().find(|got| is_got(&message, got)) {
                message.truncate(message.len() - got.len());
                message = message + "the value of " + &quoted;
            }
        }
        Diagnostic {
            severity,
            code,
            message,
            path: self.path.clone(),
            position: self.position,
            first: None,
            help,
        }
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
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
        let help = self.help_of_text().or(help);
        let help = help.or_else(|| schema::variable(self.tree).filter(|_| self.is_at_text()));
        self.report(self.diagnostic(Severity::Error, code, message, help));
    }

    /// Returns `true` if errors are reported in a text, and not at its key.
    fn is_at_text(&self) -> bool {
        let (own, value) = (self.position, self.tree.position);
        self.tree.as_text().is_some() && (own.line, own.column) >= (value.line, value.column)
    }

    /// Returns the help for an error in a text with marks of another language, which explain the error.
    fn help_of_text(&self) -> Option<String> {
        let text = self.tree.as_text().filter(|_| self.is_at_text())?;
        schema::marks(text)
    }

    pub(super) fn warning(&self, code: &'static str, message: impl Display, help: &str) {
        self.report(self.to_warning(code, message, help));
    }

    /// Returns a warning at this value, without reporting it.
    pub(super) fn to_warning(
        &self,
        code: &'static str,
        message: impl Display,
        help: &str,
    ) -> Diagnostic {
        self.diagnostic(Severity::Warning, code, message, Some(help.to_owned()))
    }

    /// Reports a value that repeats the one at `first`.
    pub(super) fn duplicate(&self, message: impl Display, first: Position) {
        let diagnostic = self.diagnostic(Severity::Error, "duplicate", message, None);
        self.report(Diagnostic {
            first: Some(first),
            ..diagnostic
        });
    }

    /// Reports a text that does not have its format.
    pub(super) fn report_fault(&self, fault: Fault) {
        let message = fault.message + &self.masked(&fault.got);
        let help = fault.help.map(|help| self.masked(&help));
        let at = fault.column.map(|column| self.at_character(column));
        let at = at.as_ref().unwrap_or(self);
        at.error_with_help(fault.code, message, help);
    }

    /// Returns what of the file may be shown.
    pub(super) fn redactor(&self) -> &'t Redactor {
        self.diagnostics.redactor(self.root)
    }

    /// Returns the value as the file has it, with stars in place of what may be a secret, or its type.
    pub(super) fn shown(&self) -> String {
        self.redactor().shown(self.tree)
    }

    /// Returns what a library says about the value, with stars in place of what may be a secret.
    pub(super) fn masked(&self, text: &str) -> String {
        let text = self.redactor().masked(text, self.tree);
        let key = &self.path[self.path.len() - self.key_length..];
        match self.redactor().key(key) {
            shown if shown == key => text,
            shown => text.replace(key, &shown),
        }
    }

    /// Reports a value that is not of the type `expected`, with a suggestion.
    pub(super) fn wrong_type(&self, expected: &str, help: Option<String>) {
        let is_null = matches!(&self.tree.kind, Kind::Scalar(Value::Null));
        if is_null && self.path.is_empty() {
            let help = Some("begin with \"version: 1\"".to_owned());
            return self.error_with_help("type", "the file is empty", help);
        }
        let help = help.or_else(|| written_without(self.tree, expected));
        // Only the items of a list can be without a key.
        let is_empty_item = self.path.ends_with(']') && self.tree.is_nothing();
        let item = || "write an item after the \"-\", or remove the \"-\"".to_owned();
        let help = is_empty_item.then(item).or(help);
        let written = self.tree.as_written();
        // A longer value may be a secret.
        let is_shown = written.len() < 6 && self.shown() == written;
        let got = match &self.tree.kind {
            Kind::Scalar(Value::String(_)) if is_shown => format!("\"{written}\""),
            Kind::Scalar(_) if is_shown => written,
            _ => self.tree.type_name().to_owned(),
        };
        self.error_with_help("type", format!("expected {expected}, got {got}"), help);
    }

    /// Returns the values, of this one and those inside it, for which `holds` returns `true`.
    fn find(&self, holds: &dyn Fn(&Tree) -> bool) -> Vec<Self> {
        if !self.tree.any(holds) {
            return Vec::new();
        }
        let own = holds(self.tree).then(|| self.clone());
        let members = self.entries().into_iter().map(|(_, value)| value);
        let inside = self.list().into_iter().chain(members);
        let inside = inside.flat_map(|value| value.find(holds));
        own.into_iter().chain(inside).collect()
    }

    /// Reports the repeated keys of all maps in the value. Only the first of them is read.
    pub(super) fn report_duplicates(&self) {
        for map in self.find(&|tree| !tree.repeated().is_empty()) {
            for (name, position) in map.tree.repeated() {
                let (first, value) = &map.tree.members().expect("a map has the key")[name];
                let key = map.key(name, *position, value);
                let name = self.redactor().key(name);
                key.duplicate(format!("duplicate key \"{name}\""), *first);
            }
        }
    }

    /// Reports the values with variables that have no value. Returns their positions, each with `true` if a variable is
    /// not set.
    pub(super) fn report_unset(&self) -> Vec<(Position, bool)> {
        let unset = self.find(&|tree| tree.unset().is_some()).into_iter();
        let unset = unset.filter_map(|value| {
            let unset = value.tree.unset()?;
            let help = value.help_of_variable(unset);
            value.error_with_help("variable", &unset.message, help);
            Some((value.position, unset.missing.is_some()))
        });
        unset.collect()
    }

    /// Returns the help for a variable without a value, which may be meant to be a condition or the parameter of a path.
    fn help_of_variable(&self, unset: &Unset) -> Option<String> {
        let written = self.tree.as_written();
        let code = written
            .strip_prefix("${")
            .and_then(|code| code.strip_suffix('}'));
        if let Some(code) = code.filter(|_| unset.missing.is_none() && self.path.ends_with(".when"))
        {
            let code = self.redactor().condition(code.trim());
            return Some(format!("write {code}, without \"${{\" and \"}}\""));
        }
        let is_parameter = |name: &&str| !name.contains(|one: char| one.is_ascii_uppercase());
        let parameter = unset.missing.as_deref().filter(is_parameter);
        let help = unset.help.as_deref()?;
        let parameter = match parameter {
            Some(name) if self.path.ends_with("match.path") => format!("{{{name}}}"),
            Some(name) if self.path.ends_with("request.path") => format!("{{route.{name}}}"),
            _ => return Some(help.to_owned()),
        };
        Some(format!(
            "write {parameter} for a parameter; for a variable, {help}"
        ))
    }

    /// Reports numbers that other YAML readers read as another number, or as text.
    pub(super) fn report_ambiguous_numbers(&self) {
        for value in self.find(&|tree| tree.ambiguous_number().is_some()) {
            let Some(written) = value.tree.ambiguous_number() else {
                continue;
            };
            if value.shown() != value.tree.as_written() {
                let message = "YAML readers disagree about this number: for some of them, it is another one or text";
                value.error_with_help("invalid", message, Some("put it in quotes".to_owned()));
                continue;
            }
            let message = format!(
                "YAML readers disagree about {written}: for some of them, it is another number or text"
            );
            let has_prefix = written.contains(['o', 'b', 'x', 'e', 'E']);
            let number = match &value.tree.kind {
                Kind::Scalar(Value::Number(number)) if has_prefix => number.to_string(),
                _ => decimal(written),
            };
            let help = format!("write {number}, or \"{written}\" in quotes for text");
            value.error_with_help("invalid", message, Some(help));
        }
    }

    /// Reports a key that is reserved for `feature`, which is not implemented yet.
    pub(super) fn not_built(&self, feature: &str) {
        let help = Some("remove it for now".to_owned());
        self.error_with_help("not_built", format!("{feature} is not supported yet"), help);
    }

    /// Returns `true` if no error is reported so far for this value or a value inside it.
    pub(super) fn is_sound(&self) -> bool {
        !self.diagnostics.has_error_in(&self.path)
    }

    /// Reads the part of the value that `schema`, that of `T`, accepts. Reports every mistake in the value.
    pub(super) fn read<T: DeserializeOwned>(&self, schema: &Value) -> Option<T> {
        let valid = schema::check(schema, self)?;
        let read = T::deserialize(&*valid);
        read.map_err(|error| self.library_error("invalid", &error.to_string()))
            .ok()
    }

    /// Returns a suggestion for a name that is not in `known`, which has at most `count` names, as [`known_names`] does. In a
    /// file with very many unknown names, only the first ones are compared with the known ones.
    pub(super) fn known_names<'n>(
        &self,
        name: &str,
        count: usize,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Option<String> {
        match count == 0 || self.diagnostics.can_compare(count) {
            true => known_names(name, known),
            false => Some("expected a name that the file defines".to_owned()),
        }
    }

    /// Returns a suggestion with the name in `known` that is most similar to `name`. In a file with very many unknown names,
    /// only the first ones are compared with the known ones.
    pub(super) fn did_you_mean(&self, name: &str, known: &[&str]) -> Option<String> {
        let can_compare = self.diagnostics.can_compare(known.len());
        can_compare.then(|| did_you_mean(name, known.iter().copied()))?
    }

    /// Returns the text of a string.
    pub(super) fn text(&self) -> Option<String> {
        self.tree.as_text().map(str::to_owned)
    }

    /// Returns the path of the file that the value names. A relative path is relative to the folder of the source that
    /// has the value.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let name = self.tree.as_text()?;
        let folder = self.folders.get(self.tree.position.source);
        Some(folder.map_or_else(|| name.into(), |folder| folder.join(name)))
    }

    /// Returns the message for a value that is not what `expected` says.
    pub(super) fn expected(&self, expected: impl Display) -> String {
        format!("expected {expected}, got \"{}\"", self.shown())
    }

    /// Returns the items of a list, or none if the value is not a list.
    pub(super) fn list(&self) -> Vec<ValueReader<'t>> {
        let Kind::List(items) = &self.tree.kind else {
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items
            .map(|(index, item)| self.child(item, ["[", &index.to_string(), "]"]))
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
                Some("add an item, or leave out the key if it is optional".into()),
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

    /// Returns a reader of the member `name` that reports mistakes at the position of its key.
    pub(super) fn at_key(&self, name: &str) -> Self {
        // A name may have a dot.
        match self.tree.members().and_then(|members| members.get(name)) {
            Some((position, value)) => self.key(name, *position, value),
            None => self.at(name),
        }
    }

    fn key_position(&self, name: &str) -> Option<Position> {
        let (position, _) = self.tree.members()?.get(name)?;
        Some(*position)
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
                list.child(&items[index], ["[", &index.to_string(), "]"])
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

    /// Returns `true` if the section of the file at the dotted path `section` may define `name`: it has the name, or is no
    /// map, or an unknown key in its place has the name. An error of the definition is reported there.
    pub(super) fn may_define(&self, section: &str, name: &str) -> bool {
        let (mut value, mut place) = (self.root, Some(Place::root(schema::of_file())));
        for step in section.split('.') {
            match value.members().map(|members| members.get(step)) {
                Some(Some((_, member))) => value = member,
                Some(None) => {
                    let misplaced = || {
                        let names = unknown(value, place).filter_map(Tree::members);
                        names.flat_map(IndexMap::keys).cloned().collect()
                    };
                    return self.diagnostics.is_misplaced(section, name, misplaced);
                }
                None => return true,
            }
            place = place.and_then(|place| place.member(step));
        }
        value
            .members()
            .is_none_or(|members| members.contains_key(name))
    }

    /// Returns `true` if an unknown key of the file has a list.
    pub(super) fn has_unknown_list(&self) -> bool {
        let place = Some(Place::root(schema::of_file()));
        unknown(self.root, place).any(|tree| matches!(tree.kind, Kind::List(_)))
    }

    /// Returns the value at a dotted path below this one, or the closest enclosing value in the file.
    pub(super) fn at(&self, path: &str) -> ValueReader<'t> {
        let (step, rest) = path
            .split_once('.')
            .map_or((path, None), |(step, rest)| (step, Some(rest)));
        let Some(members) = self.tree.members() else {
            return self.clone();
        };
        let reader = match members.get(step) {
            Some((_, value)) => self.member(step, value),
            // A missing key has no position. The path names it, and the enclosing map is underlined.
            None => Self {
                position: self.position,
                ..self.member(step, self.tree)
            },
        };
        match rest {
            Some(rest) => reader.at(rest),
            None => reader,
        }
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
        self.child(value, [".", name, ""])
    }

    /// Returns a reader of the member `name` that reports mistakes at the position of its key.
    pub(super) fn key(&self, name: &str, position: Position, value: &'t Tree) -> Self {
        Self {
            position,
            key_length: name.len(),
            ..self.child(value, [".", name, ""])
        }
    }

    fn child(&self, tree: &'t Tree, [before, step, after]: [&str; 3]) -> Self {
        let before = if self.path.is_empty() && before == "." {
            ""
        } else {
            before
        };
        let length = self.path.len() + before.len() + step.len() + after.len();
        let mut path = String::with_capacity(length);
        for part in [&*self.path, before, step, after] {
            path.push_str(part);
        }
        Self {
            tree,
            path,
            position: tree.position,
            diagnostics: self.diagnostics,
            folders: self.folders,
            root: self.root,
            key_length: 0,
        }
    }
}

/// Returns the values of the keys of `map` that have no meaning at `place`.
fn unknown<'t>(map: &'t Tree, place: Option<Place<'static>>) -> impl Iterator<Item = &'t Tree> {
    let members = map.members().into_iter().flatten();
    let known = place.map(Place::members);
    let is_unknown = move |name: &str| known.as_ref().is_some_and(|known| known(name).is_none());
    let unknown = members.filter(move |(name, _)| is_unknown(name));
    unknown.map(|(_, (_, value))| value)
}

/// Returns a suggestion for a value of a wrong type that lacks quotes, a space after a colon, or any text.
fn written_without(tree: &Tree, expected: &str) -> Option<String> {
    let is_map = expected.starts_with("a map");
    match &tree.kind {
        Kind::Scalar(Value::Null) => Some("add a value, or remove the key".to_owned()),
        Kind::List(_) if is_map => {
            Some("write each item as \"name: …\", without \"- \"".to_owned())
        }
        Kind::Map { .. } if !is_map => {
            let name = tree.text_in_braces()?;
            let root = name.split(['.', '|']).next().unwrap_or_default();
            // Other text may be a secret.
            let is_placeholder = Root::RESERVED.contains(&root);
            let example = if is_placeholder { name } else { "…" };
            Some(format!(
                "put a text with braces in quotes: \"{{{example}}}\""
            ))
        }
        Kind::Scalar(Value::String(text)) if is_map && tree.is_plain() => {
            let key = text.split_once(':').map(|(key, _)| key);
            let is_word = |one: char| one.is_ascii_alphanumeric() || one == '_';
            let is_key = key.is_some_and(|key| !key.is_empty() && key.chars().all(is_word));
            // The ":" of a URL separates no key.
            let is_key = is_key && !text.contains("://");
            is_key.then(|| "write a space after the \":\" of a key".to_owned())
        }
        _ => None,
    }
}

//! The file as a tree of values with their positions.

mod depth;
mod lines;
mod parse;
mod quoted;
mod tag;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

pub(super) use self::lines::Lines;

use super::{
    diagnostic::Position,
    source::{Environment, Expanded, Unset, expand},
};

/// A value and its position in the file.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) position: Position,
    pub(super) kind: Kind,
    /// `true` if the value may be a secret although its key cannot hold one.
    is_suspect: bool,
    /// Number of characters before the text of a string: 1 for a quote. `None` if the file has the text in another form,
    /// such as with escapes or on several lines.
    indent: Option<usize>,
    /// The quote around a string.
    quote: Option<char>,
    /// `true` for a null that the file does not write.
    is_nothing: bool,
    /// `None` for most values, of which a file has many.
    details: Option<Box<Details>>,
}

/// Facts that few values have.
#[derive(Clone, Debug, Default)]
struct Details {
    /// The text in the file, if it has variables.
    written: Option<String>,
    /// The reason why the variables in the text have no value.
    unset: Option<Unset>,
    /// The text of a number in the file, if YAML 1.1 and YAML 1.2 read different values.
    ambiguous_number: Option<String>,
    /// The position of the anchor elsewhere in the file whose value this is.
    anchor: Option<Position>,
    /// Where the lines of a text on several lines start, or the parts of a quoted text with escapes: the number of
    /// characters before each, and its position.
    starts: Vec<(usize, Position)>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A string, number, boolean or null.
    Scalar(Value),
    List(Vec<Tree>),
    Map {
        /// Members in the order of the file, each with the position of its key.
        members: IndexMap<String, (Position, Tree)>,
        /// Keys that occur again, and the positions where they do.
        repeated: Vec<(String, Position)>,
    },
}

impl Tree {
    /// Returns the value of an environment variable, which diagnostics quote as the variable.
    pub(super) fn of_variable(value: Value, name: &str, position: Position) -> Self {
        Self {
            position,
            kind: Kind::Scalar(value),
            is_suspect: false,
            indent: None,
            quote: None,
            is_nothing: false,
            details: Some(Box::new(Details {
                written: Some(format!("${{{name}}}")),
                ..Details::default()
            })),
        }
    }

    /// Makes `source` the source of the value and of all values inside it.
    pub(super) fn set_source(&mut self, source: usize) {
        self.position.source = source;
        let details = self.details.as_mut();
        if let Some(anchor) = details.and_then(|details| details.anchor.as_mut()) {
            anchor.source = source;
        }
        match &mut self.kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter_mut().for_each(|item| item.set_source(source)),
            Kind::Map { members, repeated } => {
                for (key, value) in members.values_mut() {
                    key.source = source;
                    value.set_source(source);
                }
                for (_, key) in repeated {
                    key.source = source;
                }
            }
        }
    }

    /// Returns `true` if `holds` does for this value or a value inside it.
    pub(super) fn any(&self, holds: &dyn Fn(&Self) -> bool) -> bool {
        let inside = || match &self.kind {
            Kind::Scalar(_) => false,
            Kind::List(items) => items.iter().any(|item| item.any(holds)),
            Kind::Map { members, .. } => members.values().any(|(_, value)| value.any(holds)),
        };
        holds(self) || inside()
    }

    /// Returns the members of a map, each with the position of its key. Returns `None` for other values.
    pub(super) fn members(&self) -> Option<&IndexMap<String, (Position, Tree)>> {
        match &self.kind {
            Kind::Map { members, .. } => Some(members),
            _ => None,
        }
    }

    /// Returns the items of a list, or none of other values.
    pub(super) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the keys that occur again in a map, and the positions where they do.
    pub(super) fn repeated(&self) -> &[(String, Position)] {
        match &self.kind {
            Kind::Map { repeated, .. } => repeated,
            _ => &[],
        }
    }

    /// Returns the text of a string, or `None` for other values.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the map with other members, at the same position.
    pub(super) fn with_members(&self, members: IndexMap<String, (Position, Self)>) -> Self {
        self.with_kind(Kind::Map {
            members,
            repeated: Vec::new(),
        })
    }

    /// Returns the list with other items, at the same position.
    pub(super) fn with_items(&self, items: Vec<Self>) -> Self {
        self.with_kind(Kind::List(items))
    }

    /// Returns another scalar at `position`.
    pub(super) fn with_scalar(&self, value: Value, position: Position) -> Self {
        Self {
            position,
            indent: None,
            ..self.with_kind(Kind::Scalar(value))
        }
    }

    fn with_kind(&self, kind: Kind) -> Self {
        let details = self.details.clone().map(|mut details| {
            details.ambiguous_number = None;
            details.starts.clear();
            details
        });
        Self {
            kind,
            position: self.position,
            is_suspect: self.is_suspect,
            indent: self.indent,
            quote: self.quote,
            is_nothing: false,
            details,
        }
    }

    fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Returns the reason why the value is not known: variables in it that have no value.
    pub(super) fn unset(&self) -> Option<&Unset> {
        self.details.as_ref()?.unset.as_ref()
    }

    /// Returns the text of a number in the file, such as `017`, if YAML 1.1 and YAML 1.2 read different values.
    pub(super) fn ambiguous_number(&self) -> Option<&str> {
        self.details.as_ref()?.ambiguous_number.as_deref()
    }

    /// Returns the position of the anchor elsewhere in the file whose value this is.
    pub(super) fn anchor(&self) -> Option<Position> {
        self.details.as_ref()?.anchor
    }

    /// Returns where the lines or the parts of a text start, as [`Details::starts`] has them.
    fn starts(&self) -> &[(usize, Position)] {
        let details = self.details.as_ref();
        details.map_or(&[], |details| &details.starts)
    }

    /// Returns `true` if the value may be a secret although its key cannot hold one.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Marks values at which `is_suspect` returns `true`, and all values inside them, as possible secrets.
    pub(super) fn mark_suspects(&mut self, is_suspect: &dyn Fn(&Self) -> bool) {
        self.is_suspect |= is_suspect(self);
        let all: &dyn Fn(&Self) -> bool = if self.is_suspect {
            &|_| true
        } else {
            is_suspect
        };
        match &mut self.kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter_mut().for_each(|item| item.mark_suspects(all)),
            Kind::Map { members, .. } => members
                .values_mut()
                .for_each(|(_, value)| value.mark_suspects(all)),
        }
    }

    /// Returns `true` if this value and all values inside it are known.
    pub(super) fn is_known(&self) -> bool {
        self.unset().is_none()
            && match &self.kind {
                Kind::Scalar(_) => true,
                Kind::List(items) => items.iter().all(Self::is_known),
                Kind::Map { members, .. } => members.values().all(|(_, value)| value.is_known()),
            }
    }

    /// Returns `true` for a null that the file does not write.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_nothing
    }

    /// Returns `true` for a string that is written without quotes on one line.
    pub(super) fn is_plain(&self) -> bool {
        self.indent == Some(0)
    }

    /// Returns the quote around a string, or `None` for a value without quotes.
    pub(super) fn quote(&self) -> Option<char> {
        self.quote
    }

    /// Returns the key of a map such as `{route.id}`, which is a text in braces without quotes.
    pub(super) fn text_in_braces(&self) -> Option<&str> {
        match self.members()?.first() {
            Some((name, (_, value))) if value.is_nothing && self.members()?.len() == 1 => {
                Some(name)
            }
            _ => None,
        }
    }

    /// Returns `true` if a file can have `text` without quotes, also in a map in braces.
    pub(super) fn is_plain_text(text: &str) -> bool {
        let is_same = |file: String| {
            let file = Self::parse(&file);
            let value = file.as_ref().ok().and_then(|file| file.members()?.get("a"));
            value.is_some_and(|(_, value)| value.is_plain() && value.as_text() == Some(text))
        };
        is_same(format!("a: {text}")) && is_same(format!("{{ a: {text} }}"))
    }

    /// Returns the text in the file, such as `${NAME}`, if it has variables.
    pub(super) fn variables(&self) -> Option<&str> {
        self.details.as_ref()?.written.as_deref()
    }

    /// Returns the position of a character of a string, counted from 1. Returns the position of the value if the file has
    /// the text in another form.
    pub(super) fn position_of(&self, character: usize) -> Position {
        let (is_written, starts) = (self.variables().is_none(), self.starts());
        let before = character.saturating_sub(1);
        let after = starts.partition_point(|(start, _)| *start <= before);
        let last = after.checked_sub(1).map(|last| &starts[last]);
        if let Some((start, position)) = last.filter(|_| is_written) {
            return Position {
                column: position.column + before - start,
                source: self.position.source,
                ..*position
            };
        }
        let indent = self.indent.filter(|_| is_written);
        let offset = indent.map_or(0, |indent| indent + before);
        Position {
            column: self.position.column + offset,
            ..self.position
        }
    }

    /// Returns the value without positions.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map { members, .. } => members
                .iter()
                .map(|(name, (_, value))| (name.clone(), value.to_json()))
                .collect(),
        }
    }

    /// Returns the name of the value's type, with its article.
    pub(super) fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(Value::Null) => "null",
            Kind::Scalar(Value::Bool(_)) => "a boolean",
            Kind::Scalar(Value::Number(_)) => "a number",
            Kind::Scalar(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Map { .. } => "a map",
        }
    }

    /// Returns a scalar as the file has it, without quotes, and the type of any other value.
    pub(super) fn as_written(&self) -> String {
        match (&self.kind, self.variables()) {
            (_, Some(written)) => written.to_owned(),
            (Kind::Scalar(Value::String(text)), None) => text.clone(),
            (Kind::Scalar(value), None) if !value.is_null() => value.to_string(),
            _ => self.type_name().to_owned(),
        }
    }

    /// Ends a message such as `must be >= 1ms, got 0s` with the value as the file has it: `0ms`.
    pub(super) fn quote_in(&self, message: &str, written: &str) -> String {
        match (&self.kind, message.rsplit_once(", got ")) {
            (Kind::Scalar(value), Some((expected, got)))
                if !value.is_null() && got.split(' ').all(is_word_of_a_value) =>
            {
                format!("{expected}, got {written}")
            }
            _ => message.to_owned(),
        }
    }

    /// Replaces `${VAR}` in all strings by the variable's value in `env`. The value is not expanded
    /// again and not parsed as YAML. A string whose variables have no value is marked as unset.
    pub(super) fn interpolate(&mut self, env: &Environment) {
        match &mut self.kind {
            Kind::Scalar(Value::String(text)) if text.contains("${") => match expand(text, env) {
                Ok(Expanded {
                    value,
                    has_variables,
                }) => {
                    let written = std::mem::replace(text, value);
                    self.indent = self.indent.filter(|_| has_variables);
                    let details = self.details_mut();
                    details.written = has_variables.then_some(written);
                    details.starts.clear();
                }
                Err(unset) => {
                    let written = text.clone();
                    let details = self.details_mut();
                    details.written = Some(written);
                    details.unset = Some(unset);
                }
            },
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter_mut().for_each(|item| item.interpolate(env)),
            Kind::Map { members, .. } => members
                .values_mut()
                .for_each(|(_, value)| value.interpolate(env)),
        }
    }
}

/// Writes the value without positions. Texts such as `${NAME}` are as the file has them.
impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.kind, self.variables()) {
            (Kind::Scalar(_), Some(written)) => serializer.serialize_str(written),
            (Kind::Scalar(value), None) => value.serialize(serializer),
            (Kind::List(items), _) => serializer.collect_seq(items),
            (Kind::Map { members, .. }, _) => {
                let members = members.iter();
                serializer.collect_map(members.map(|(name, (_, value))| (name, value)))
            }
        }
    }
}

/// Returns `true` for a number, or a number with a unit, of which messages about values consist.
fn is_word_of_a_value(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        || word == "NaN"
        || word == "inf"
}

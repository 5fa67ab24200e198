//! The file as a tree of values with their positions.

use std::fmt;

use indexmap::{IndexMap, map::Entry};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::diagnostic::Position;

/// A value and its position in the file.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) position: Position,
    pub(super) kind: Kind,
    /// The text in the file, if variables were substituted in it.
    written: Option<String>,
    /// Number of characters before the text of a string: 1 for a quote. `None` if the file has the text in another form,
    /// such as with escapes or on several lines.
    indent: Option<usize>,
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
    /// Parses YAML or JSON.
    ///
    /// # Errors
    /// Returns the position and the message of the first syntax error.
    pub(super) fn parse(text: &str) -> Result<Self, (Position, String)> {
        let options = serde_saphyr::options! {
            // `no` and `off` are strings, as in YAML 1.2. Duplicate keys pass here, so that the reader
            // reports them along with other mistakes.
            strict_booleans: true,
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
        };
        let read = serde_saphyr::from_str_with_options(text, options);
        let spanned: Spanned<Kind> = read.map_err(|error: serde_saphyr::Error| {
            let position = error.location().map_or(Position::START, position);
            let message = UserMessageFormatter.format_message(error.without_snippet());
            // A message may quote the file, which must not inject terminal sequences.
            (position, message.replace(char::is_control, " "))
        })?;
        Ok(spanned.into())
    }

    /// Returns the members of a map, each with the position of its key. Returns `None` for other values.
    pub(super) fn members(&self) -> Option<&IndexMap<String, (Position, Tree)>> {
        match &self.kind {
            Kind::Map { members, .. } => Some(members),
            _ => None,
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

    fn with_kind(&self, kind: Kind) -> Self {
        Self {
            kind,
            position: self.position,
            written: self.written.clone(),
            indent: self.indent,
        }
    }

    /// Returns the text in the file, such as `${NAME}`, if variables were substituted in it.
    pub(super) fn variables(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// Returns the position of a character of a string, counted from 1. Returns the position of the value if the file has
    /// the text in another form.
    pub(super) fn position_of(&self, character: usize) -> Position {
        let indent = self.indent.filter(|_| self.written.is_none());
        let offset = indent.map_or(0, |indent| indent + character.saturating_sub(1));
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

    /// Replaces the values of variables in `message` by the text of the file, such as `${NAME}`,
    /// because a value may be a secret.
    pub(super) fn redact(&self, message: String) -> String {
        match (&self.kind, &self.written) {
            // A shorter value is unlikely to be a secret, and would match unrelated text.
            (Kind::Scalar(Value::String(value)), Some(written)) if value.len() >= 6 => message
                // Messages of serde quote strings in their escaped form.
                .replace(&value.escape_debug().to_string(), written)
                .replace(value, written),
            (Kind::Scalar(_), _) => message,
            (Kind::List(items), _) => items
                .iter()
                .fold(message, |message, item| item.redact(message)),
            (Kind::Map { members, .. }, _) => members
                .values()
                .fold(message, |message, (_, value)| value.redact(message)),
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
        match (&self.kind, &self.written) {
            (_, Some(written)) => written.clone(),
            (Kind::Scalar(Value::String(text)), None) => text.clone(),
            (Kind::Scalar(value), None) if !value.is_null() => value.to_string(),
            _ => self.type_name().to_owned(),
        }
    }

    /// Ends a message such as `must be >= 1ms, got 0s` with the value as the file has it: `0ms`.
    pub(super) fn quote_in(&self, message: &str) -> String {
        match (&self.kind, message.rsplit_once(", got ")) {
            (Kind::Scalar(value), Some((expected, got)))
                if !value.is_null() && got.split(' ').all(is_word_of_a_value) =>
            {
                format!("{expected}, got {}", self.as_written())
            }
            _ => message.to_owned(),
        }
    }

    /// Replaces `${VAR}` in all strings by the variable's value in `env`. The value is not expanded
    /// again and not parsed as YAML. Errors go to `report`.
    pub(super) fn interpolate(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
        report: &mut dyn FnMut(Position, String),
    ) {
        match &mut self.kind {
            Kind::Scalar(Value::String(text)) if text.contains("${") => {
                match interpolate(text, env) {
                    Ok(value) => self.written = Some(std::mem::replace(text, value)),
                    Err(message) => report(self.position, message),
                }
            }
            Kind::Scalar(_) => {}
            Kind::List(items) => items
                .iter_mut()
                .for_each(|item| item.interpolate(env, report)),
            Kind::Map { members, .. } => members
                .values_mut()
                .for_each(|(_, value)| value.interpolate(env, report)),
        }
    }
}

/// Expands `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in one pass.
fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let (inside, after) = rest[start + 2..]
            .split_once('}')
            .ok_or("\"${\" without a closing \"}\"")?;
        let (name, otherwise) = match inside.split_once(':') {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (inside, None),
        };
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err("a variable name must consist of ASCII letters, digits and \"_\"".into());
        }
        let otherwise = match otherwise.map(|otherwise| otherwise.split_at_checked(1)) {
            None => Err(format!("environment variable {name} is not set")),
            Some(Some(("-", default))) => Ok(default),
            Some(Some(("?", message))) => {
                Err(format!("environment variable {name} is not set: {message}"))
            }
            Some(_) => {
                return Err(format!(
                    "expected \"-default\" or \"?message\" after \"${{{name}:\""
                ));
            }
        };
        match env(name) {
            Some(value) => out.push_str(&value),
            None => out.push_str(otherwise?),
        }
        // Continues after the reference, so a value is never expanded itself.
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn position(location: Location) -> Position {
    Position {
        line: usize::try_from(location.line()).unwrap_or(1),
        column: usize::try_from(location.column()).unwrap_or(1),
    }
}

/// Returns the number of characters before the text of a string that fills `location`, apart from two quotes.
fn indent(kind: &Kind, location: Location) -> Option<usize> {
    let Kind::Scalar(Value::String(text)) = kind else {
        return None;
    };
    let around = location
        .span()
        .len()
        .checked_sub(text.chars().count() as u64)?;
    match around {
        0 => Some(0),
        2 => Some(1),
        _ => None,
    }
}

impl From<Spanned<Kind>> for Tree {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            position: position(spanned.referenced),
            indent: indent(&spanned.value, spanned.referenced),
            kind: spanned.value,
            written: None,
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Kinds)
    }
}

struct Kinds;

impl<'de> Visitor<'de> for Kinds {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Kind>>()? {
            items.push(item.into());
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let (mut members, mut repeated) = (IndexMap::new(), Vec::new());
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Spanned<Kind>>()? {
            let position = position(name.referenced);
            match members.entry(name.value) {
                Entry::Occupied(first) => repeated.push((first.key().clone(), position)),
                Entry::Vacant(new) => drop(new.insert((position, value.into()))),
            }
        }
        Ok(Kind::Map { members, repeated })
    }
}
/// Returns `true` for a number, or a number with a unit, of which messages about values consist.
fn is_word_of_a_value(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        || word == "NaN"
        || word == "inf"
}

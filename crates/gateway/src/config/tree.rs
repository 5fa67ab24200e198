//! The file as a tree of values that know where they stand.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::diagnostic::Position;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) place: Position,
    pub(super) kind: Kind,
    /// What stands in the file, if variables were put in.
    written: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A string, number, boolean or null.
    Scalar(Value),
    List(Vec<Tree>),
    /// In order; a name may stand twice.
    Map(Vec<(String, Position, Tree)>),
}

impl Tree {
    /// Reads YAML or JSON.
    pub(super) fn parse(text: &str) -> Result<Self, (Position, String)> {
        let options = serde_saphyr::options! {
            // `no` and `off` are words; a key that stands twice is reported beside other mistakes.
            strict_booleans: true,
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
        };
        let read = serde_saphyr::from_str_with_options(text, options);
        let spanned: Spanned<Kind> = read.map_err(|error: serde_saphyr::Error| {
            let place = error.location().map_or(Position::START, place);
            let message = UserMessageFormatter.format_message(error.without_snippet());
            (place, message.replace(char::is_control, " "))
        })?;
        Ok(spanned.into())
    }

    /// The value without its places.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(members) => members
                .iter()
                .map(|(name, _, value)| (name.clone(), value.to_json()))
                .collect(),
        }
    }

    /// A message about this value, with what stands in the file instead of what a variable has: it
    /// may be a secret.
    pub(super) fn redact(&self, message: String) -> String {
        match (&self.kind, &self.written) {
            // What is shorter is no secret, and would be found by chance.
            (Kind::Scalar(Value::String(value)), Some(written)) if value.len() >= 6 => message
                .replace(&value.escape_debug().to_string(), written)
                .replace(value, written),
            (Kind::Scalar(_), _) => message,
            (Kind::List(items), _) => items.iter().fold(message, |said, item| item.redact(said)),
            (Kind::Map(members), _) => members
                .iter()
                .fold(message, |said, (_, _, value)| value.redact(said)),
        }
    }

    /// What it is, in words.
    pub(super) fn is(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(Value::Null) => "nothing",
            Kind::Scalar(Value::Bool(_)) => "a boolean",
            Kind::Scalar(Value::Number(_)) => "a number",
            Kind::Scalar(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// Replaces `${VAR}` in all strings, by what `env` knows. A value that is put in is never looked
    /// into: it stays one string.
    pub(super) fn interpolate(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
        complain: &mut dyn FnMut(Position, String),
    ) {
        match &mut self.kind {
            Kind::Scalar(Value::String(text)) if text.contains("${") => {
                match interpolate(text, env) {
                    Ok(value) => self.written = Some(std::mem::replace(text, value)),
                    Err(message) => complain(self.place, message),
                }
            }
            Kind::Scalar(_) => {}
            Kind::List(items) => items
                .iter_mut()
                .for_each(|item| item.interpolate(env, complain)),
            Kind::Map(members) => members
                .iter_mut()
                .for_each(|(_, _, value)| value.interpolate(env, complain)),
        }
    }
}

/// `${VAR}`, `${VAR:-default}` and `${VAR:?message}`, in one pass.
fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let (inside, after) = rest[start + 2..]
            .split_once('}')
            .ok_or("a \"${\" is not closed")?;
        let (name, otherwise) = match inside.split_once(':') {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (inside, None),
        };
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err("a variable is named by letters, digits and \"_\"".into());
        }
        let otherwise = match otherwise.map(|otherwise| otherwise.split_at_checked(1)) {
            None => Err(format!("the variable {name} is not set")),
            Some(Some(("-", default))) => Ok(default),
            Some(Some(("?", message))) => Err(format!("the variable {name} is not set: {message}")),
            Some(_) => {
                return Err(format!(
                    "after \"${{{name}:\" comes \"-default\" or \"?message\""
                ));
            }
        };
        match env(name) {
            Some(value) => out.push_str(&value),
            None => out.push_str(otherwise?),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn place(location: Location) -> Position {
    Position {
        line: usize::try_from(location.line()).unwrap_or(1),
        column: usize::try_from(location.column()).unwrap_or(1),
    }
}

impl From<Spanned<Kind>> for Tree {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            place: place(spanned.referenced),
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

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
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
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Spanned<Kind>>()? {
            members.push((name.value, place(name.referenced), value.into()));
        }
        Ok(Kind::Map(members))
    }
}

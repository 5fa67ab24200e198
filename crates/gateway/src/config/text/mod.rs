//! Values that the file has as text, such as durations and addresses. Each has a name in the JSON Schema, as its
//! `format`.

mod pattern;
mod size;
mod url;
mod values;

use std::{borrow::Cow, fmt::Display};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::Value;

pub(super) use self::{
    pattern::{host, name, placeholder, port, request_value},
    size::Size,
    url::{Url, report_url},
    values::{BaggageKey, ClaimPath, LogFilter, Scope, TOKEN, TokenType, VisibleText, WarningRule},
};
use super::schema::rule;

/// A type whose values the file has as text.
pub(super) trait Text: Sized {
    /// Name of the format in the schema.
    const FORMAT: &'static str;
    /// Description of the values with an example, such as `an address such as "0.0.0.0:8080"`.
    const EXPECTED: &'static str;
    /// Shape of the texts, for editors. Each valid text has it, and as few others as possible.
    const SHAPE: Shape;

    /// Parses the text.
    ///
    /// # Errors
    /// Returns the reason why the text is not valid.
    fn parse(text: &str) -> Result<Self, Fault>;

    /// Returns all reasons why the text is not valid, each at its character if it has one.
    fn faults(text: &str) -> Vec<Fault> {
        Self::parse(text).err().into_iter().collect()
    }

    /// Returns the text of the value, for the defaults in the schema.
    fn written(&self) -> impl Display;

    /// Checks the value against the limits of its key, which are `x-minimum`, `x-exclusiveMinimum` and
    /// `x-maximum` in the schema.
    ///
    /// # Errors
    /// Returns an error if the value is not within them.
    fn check_limits(&self, schema: &Value) -> Result<(), String> {
        let _ = schema;
        Ok(())
    }
}

/// The shape of the texts of a format.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A regular expression that matches them.
    Pattern(&'static str),
    /// The texts themselves.
    Words(fn() -> Vec<&'static str>),
}

/// The reason why a text is not valid.
pub(super) struct Fault {
    pub(super) code: &'static str,
    /// The message up to what it quotes.
    pub(super) message: String,
    /// The rest of the message, with parts of the text.
    pub(super) got: String,
    pub(super) help: Option<String>,
    /// Number of the character at which the mistake begins, counted from 1. `None` if the whole text is wrong.
    pub(super) column: Option<usize>,
}

impl Fault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            got: String::new(),
            help: None,
            column: None,
        }
    }

    /// A fault whose message ends with `text` in quotes.
    fn quoting(code: &'static str, message: impl Into<String>, text: &str) -> Self {
        Self {
            got: format!(" \"{text}\""),
            ..Self::new(code, message)
        }
    }

    /// A text that is not what `T` expects.
    fn unexpected<T: Text>(text: &str) -> Self {
        Self::quoting("invalid", format!("expected {}, got", T::EXPECTED), text)
    }
}

/// A text format, for the check of values that are not read yet.
pub(super) struct Format {
    name: &'static str,
    pub(super) expected: &'static str,
    pub(super) shape: Shape,
    pub(super) check: fn(&str, &Value) -> Result<(), Fault>,
    /// Returns all reasons why a text does not have the format.
    pub(super) faults: fn(&str) -> Vec<Fault>,
}

impl Format {
    pub(super) const fn of<T: Text>() -> Self {
        Self {
            name: T::FORMAT,
            expected: T::EXPECTED,
            shape: T::SHAPE,
            check: |text, schema| {
                let value = T::parse(text)?;
                let limits = value.check_limits(schema);
                limits.map_err(|limits| Fault {
                    got: text.to_owned(),
                    ..Fault::new("range", format!("{limits}, got "))
                })
            },
            faults: T::faults,
        }
    }
}

/// Returns the text format that the schema calls `name`.
pub(super) fn format(name: &str) -> Option<&'static Format> {
    values::FORMATS.iter().find(|format| format.name == name)
}

/// Returns the words of all formats that accept only words.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    let words = values::FORMATS
        .iter()
        .filter_map(|format| match format.shape {
            Shape::Words(words) => Some(words()),
            Shape::Pattern(_) => None,
        });
    words.flatten()
}

/// A value that the file has as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: Text> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let parsed = T::parse(&text);
        parsed
            .map(Self)
            .map_err(|fault| D::Error::custom(fault.message))
    }
}

impl<T: Text> Serialize for Parsed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.written())
    }
}

impl<T: Text> JsonSchema for Parsed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::FORMAT })
    }
}

/// Checks `value` against the limits that the schema has as text.
fn check_limits<T: Text + PartialOrd>(value: &T, schema: &Value) -> Result<(), String> {
    let limit = |key: &str| {
        let text = schema.get(key)?.as_str()?;
        Some((text, T::parse(text).ok()?))
    };
    let (low, high) = (limit("x-minimum"), limit("x-maximum"));
    let above = limit("x-exclusiveMinimum");
    let is_within = low.as_ref().is_none_or(|(_, low)| low <= value)
        && high.as_ref().is_none_or(|(_, high)| value <= high)
        && above.as_ref().is_none_or(|(_, above)| above < value);
    if is_within {
        return Ok(());
    }
    let written = |limit: Option<(_, T)>| limit.map(|(text, _): (&str, T)| text.to_owned());
    Err(rule(written(low), written(above), written(high)))
}

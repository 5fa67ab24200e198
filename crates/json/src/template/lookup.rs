//! Where the values of placeholders come from.

use std::{borrow::Cow, fmt};

use super::{Reference, Root};

/// Knows the values of placeholders.
pub trait Lookup {
    /// The value; none if there is none.
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>>;
}

/// The value of a placeholder, as its source has it. It is not in its `Debug`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Found<'v> {
    /// Text, such as a parameter of a path.
    Text(Cow<'v, str>),
    /// A value in JSON that is kept as it was written, such as a member of a body.
    Json(crate::Value<'v>),
    /// A value in JSON that was read into a tree, such as a claim of a token.
    Tree(&'v serde_json::Value),
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(…)",
            Self::Json(_) => "Json(…)",
            Self::Tree(_) => "Tree(…)",
        })
    }
}

impl<'v> Found<'v> {
    /// The value where text is written: a string without its quotes, a number or boolean as it is
    /// written; none for null, objects and arrays.
    #[must_use]
    pub fn into_text(self) -> Option<Cow<'v, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(value) => value.as_text(),
            Self::Tree(serde_json::Value::String(text)) => Some(text.into()),
            Self::Tree(value) if value.is_number() || value.is_boolean() => {
                Some(value.to_string().into())
            }
            Self::Tree(_) => None,
        }
    }

    /// The value where JSON is written: text as a string, everything else as what it is, byte for
    /// byte where it was kept as it was written.
    #[must_use]
    pub fn into_json(self) -> Cow<'v, str> {
        match self {
            Self::Text(text) => serde_json::Value::from(text).to_string().into(),
            Self::Json(value) => value.as_raw().into(),
            Self::Tree(value) => value.to_string().into(),
        }
    }
}

/// What the caller sent, before any node has answered: a placeholder for the answer of a node has
/// the value `v`.
pub(super) struct BeforeNodes<'s, S>(pub(super) &'s S);

impl<S: Lookup> Lookup for BeforeNodes<'_, S> {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        match reference.root {
            Root::Node(_) => Some(Found::Text("v".into())),
            _ => self.0.lookup(reference),
        }
    }
}

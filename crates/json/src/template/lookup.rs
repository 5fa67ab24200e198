//! Sources of placeholder values.

use std::{borrow::Cow, error::Error, fmt};

use serde_json::value::RawValue;
use tower_fanout::BranchError;

use super::{Reference, Root};

/// A source of placeholder values, such as the request of a caller.
///
/// The [module](super#use-in-a-plan) has an example that also reads the answers of nodes.
pub trait Lookup {
    /// Returns the value that `reference` names, or `None` if the value is missing. The default of
    /// the reference is not considered.
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>>;
}

/// The value of a placeholder, in the form in which its source holds it.
///
/// The `Debug` output omits the value.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Found<'v> {
    /// Text, such as a path parameter.
    Text(Cow<'v, str>),
    /// Unparsed JSON, such as a member of a body: a part of a [`Json`](crate::Json), which is inserted
    /// byte for byte.
    Json(crate::Value<'v>),
    /// Parsed JSON, such as a claim of a token, as a [`serde_json::Value`]. `serde_json` writes the
    /// value again, so the form of a number may change.
    Tree(&'v serde_json::Value),
    /// A value that exists but cannot be expressed in UTF-8, such as a header with bytes beyond ASCII. It is
    /// not allowed in any position.
    Unusable,
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(…)",
            Self::Json(_) => "Json(…)",
            Self::Tree(_) => "Tree(…)",
            Self::Unusable => "Unusable",
        })
    }
}

impl<'v> Found<'v> {
    /// Returns the value as text: a string without its quotes, and a number or boolean as written.
    ///
    /// Returns `None` for `null`, objects, arrays, a string with a lone surrogate, and
    /// [`Unusable`](Self::Unusable).
    #[must_use]
    pub fn into_text(self) -> Option<Cow<'v, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Json(value) => value.as_text(),
            Self::Tree(serde_json::Value::String(text)) => Some(text.into()),
            Self::Tree(value) if value.is_number() || value.is_boolean() => {
                Some(value.to_string().into())
            }
            Self::Tree(_) | Self::Unusable => None,
        }
    }

    /// Returns `true` for `null`, which counts as missing in a position for text.
    fn is_null(&self) -> bool {
        match self {
            Self::Json(value) => value.as_raw() == "null",
            Self::Tree(value) => value.is_null(),
            Self::Text(_) | Self::Unusable => false,
        }
    }

    /// Returns the value as JSON: text as a string, and any other value with its type. Unparsed
    /// JSON is returned byte for byte.
    ///
    /// Returns `None` for [`Unusable`](Self::Unusable).
    #[must_use]
    pub fn into_json(self) -> Option<Cow<'v, str>> {
        match self {
            Self::Text(text) => Some(serde_json::Value::from(text).to_string().into()),
            Self::Json(value) => Some(value.as_raw().into()),
            Self::Tree(value) => Some(value.to_string().into()),
            Self::Unusable => None,
        }
    }
}

/// The error returned if a request cannot be rendered from the given values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenderError {
    /// A value is missing, and its placeholder has no default.
    Missing(Reference),
    /// A value makes a segment of the path empty or a dot segment (`.` or `..`), or contains characters
    /// other than visible ASCII and spaces in a header, or is not text where text is needed, or is
    /// [`Found::Unusable`]. Holds the placeholders of that segment, those of the header with such values, or
    /// the one with that value.
    Unusable(Vec<Reference>),
    /// A part of the request would be too large.
    ///
    /// | part | maximum in bytes |
    /// |---|---|
    /// | `the path` | 8192 |
    /// | `the path with its query` | 65,534 |
    /// | `a header` | 8192 for its value |
    /// | `the body` | 1,048,576 |
    /// | `the text` | as given to [`TextTemplate::render`](super::TextTemplate::render) |
    TooLarge {
        /// Name of the part, as in the table.
        what: &'static str,
        /// Maximum size of the part in bytes.
        max: usize,
        /// The placeholder whose value exceeds the maximum. `None` if literal text does.
        value: Option<Reference>,
    },
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reference) => write!(f, "missing value for {{{reference}}}"),
            Self::Unusable(_) => f.write_str(
                "a value would change the path, is not allowed in a header, or is no text",
            ),
            Self::TooLarge { what, max, .. } => {
                write!(f, "{what} is larger than {max} bytes")
            }
        }
    }
}

impl Error for RenderError {}

/// The kind is [`Template`](tower_fanout::ErrorKind::Template), and the message is the text of the
/// error. The branch error has no source.
impl From<RenderError> for BranchError {
    fn from(error: RenderError) -> Self {
        Self::template(error.to_string())
    }
}

/// The placeholders of a request, and the source of their values.
pub(super) struct Values<'v, S> {
    pub(super) references: &'v [Reference],
    pub(super) source: &'v S,
}

impl<S: Lookup> Values<'_, S> {
    /// Adds the placeholder at `index` to an error about the size of a part.
    pub(super) fn name_cause(
        &self,
        index: usize,
        written: Result<(), RenderError>,
    ) -> Result<(), RenderError> {
        written.map_err(|error| match error {
            RenderError::TooLarge { what, max, .. } => RenderError::TooLarge {
                what,
                max,
                value: Some(self.references[index].clone()),
            },
            error => error,
        })
    }

    /// Returns the value of the placeholder at `index` as text, or its default. An object, an array and a
    /// string with a lone surrogate are unusable.
    pub(super) fn text(&self, index: usize) -> Result<Cow<'_, str>, RenderError> {
        let reference = &self.references[index];
        let found = self.source.lookup(reference);
        match found.filter(|found| !found.is_null()) {
            Some(found) => found.into_text().ok_or_else(|| unusable(reference)),
            None => (reference.default.as_deref().map(Cow::Borrowed))
                .ok_or_else(|| RenderError::Missing(reference.clone())),
        }
    }

    /// Returns the value of the placeholder at `index` as JSON, or its default: a number, `true`,
    /// `false` or `null` with its type, and any other text as a string.
    pub(super) fn json(&self, index: usize) -> Result<Cow<'_, str>, RenderError> {
        let reference = &self.references[index];
        if let Some(found) = self.source.lookup(reference) {
            return found.into_json().ok_or_else(|| unusable(reference));
        }
        let Some(text) = &reference.default else {
            return Err(RenderError::Missing(reference.clone()));
        };
        match serde_json::from_str::<&RawValue>(text).map(RawValue::get) {
            Ok(json) if !json.starts_with(['"', '{', '[']) => Ok(json.into()),
            _ => Ok(serde_json::Value::from(text.as_str()).to_string().into()),
        }
    }
}

/// Returns the error for a value of `reference` that is not allowed in its position. A default does not replace
/// such a value.
fn unusable(reference: &Reference) -> RenderError {
    RenderError::Unusable(vec![reference.clone()])
}

/// A source for checks before any node has responded: placeholders for responses of nodes have the
/// value `v`, and all others have their value in the wrapped source.
pub(super) struct BeforeNodes<'s, S>(pub(super) &'s S);

impl<S: Lookup> Lookup for BeforeNodes<'_, S> {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        match reference.root {
            Root::Node(_) => Some(Found::Text("v".into())),
            _ => self.0.lookup(reference),
        }
    }
}

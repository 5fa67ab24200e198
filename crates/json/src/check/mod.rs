//! JSON values that are validated once and then copied without parsing.
//!
//! Numbers and strings keep the exact bytes they were written with.
//!
//! ```
//! use tower_fanout_json::Json;
//!
//! let json = Json::parse("{\"id\": 7, \"big\": 1E400, \"tags\": [\"a\", \"b\"]}".into()).unwrap();
//! assert_eq!(json.get(&["big"]).unwrap().as_raw(), "1E400");
//! assert_eq!(json.get(&["tags", "1"]).unwrap().as_text().unwrap(), "b");
//! assert!(Json::parse("{\"id\": NaN}".into()).is_err());
//! ```

mod parse;
mod scan;
mod token;
mod word;

use std::{borrow::Cow, error::Error, fmt};

use bytes::{Buf, Bytes};

use self::scan::Long;
pub(crate) use self::scan::{
    Items, depth, is_plain, is_white, members, quoted, string_end, unescaped, value_end,
};

/// Maximum nesting depth of a [`Json`] value: the largest number of brackets and braces that are open at
/// once. `1` has depth 0, `[]` and `[1]` have depth 1, and `[[]]` has depth 2.
///
/// Real documents nest far less deeply, and code that recurses over a value of this depth does not
/// come near the end of its stack.
pub const MAX_DEPTH: usize = 64;

/// A valid JSON value ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)).
///
/// Clones share the memory of the text.
#[derive(Clone)]
pub struct Json {
    text: Bytes,
    /// Upper bound of the nesting depth.
    depth: usize,
    /// Long parts found while the text was checked, by position. Empty if the text was not checked.
    long: Vec<Long>,
}

/// The error returned by [`Json::parse`] for text that is not a valid JSON value, or that is nested
/// deeper than [`MAX_DEPTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadJson {
    /// The text is not exactly one valid value in UTF-8.
    Invalid,
    /// The value is nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("not a valid JSON value"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
        }
    }
}

impl Error for BadJson {}

impl Json {
    /// The value `null`.
    pub const NULL: Self = Self::new(Bytes::from_static(b"null"), 0);

    /// Wraps `text`, which must be one valid value without white space around it. `depth` must not
    /// be less than its nesting depth.
    pub(crate) const fn new(text: Bytes, depth: usize) -> Self {
        Self {
            text,
            depth,
            long: Vec::new(),
        }
    }

    /// Validates `text` and removes the white space around the value.
    ///
    /// The text must be UTF-8. Members with duplicate names are accepted and kept as written.
    ///
    /// # Errors
    /// Returns [`BadJson`] if `text` is not exactly one valid value, or if the value is nested
    /// deeper than [`MAX_DEPTH`].
    pub fn parse(mut text: Bytes) -> Result<Self, BadJson> {
        let value = parse::check(&text)?;
        text.truncate(value.range.end);
        text.advance(value.range.start);
        Ok(Self {
            text,
            depth: value.depth,
            long: value.long,
        })
    }

    /// Returns the text of the value.
    #[must_use]
    pub fn as_raw(&self) -> &str {
        self.value().as_raw()
    }

    /// Returns the text of the value in UTF-8. Clones of the returned `Bytes` share its memory.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// Returns an upper bound of the nesting depth.
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn value(&self) -> Value<'_> {
        Value {
            text: &self.text,
            at: 0,
            long: &self.long,
        }
    }

    /// Returns the value at `path`, or `None` if the path leads to no value.
    ///
    /// Each step is the name of a member or the index of an item, from 0. If an object has several
    /// members with one name, the last of them is used. An empty path returns the whole value.
    #[must_use]
    pub fn get(&self, path: &[impl AsRef<str>]) -> Option<Value<'_>> {
        self.value().at(path.iter().map(AsRef::as_ref))
    }

    /// Returns the value at `path` as a `Json` that shares this one's memory.
    pub(crate) fn cut<'p>(&self, path: impl Iterator<Item = &'p str>) -> Option<Self> {
        let text = self.value().at(path)?.text;
        Some(Self::new(self.text.slice_ref(text), depth(text)))
    }
}

/// Compares the text byte for byte: `1` and `1.0` differ, and so do `{"a":1}` and `{"a": 1}`.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.text.len())
    }
}

/// A value within a [`Json`].
#[derive(Clone, Copy)]
pub struct Value<'j> {
    text: &'j [u8],
    /// Offset of `text` in the text of the `Json`.
    at: usize,
    /// Long parts of the `Json` that start at `at` or later.
    long: &'j [Long],
}

impl<'j> Value<'j> {
    /// Wraps `text`, which must be one valid value.
    pub(crate) const fn of(text: &'j [u8]) -> Self {
        Self {
            text,
            at: 0,
            long: &[],
        }
    }

    /// Returns the text of the value.
    #[must_use]
    pub const fn as_raw(self) -> &'j str {
        // The text was checked to be UTF-8, and values begin and end at ASCII characters.
        match std::str::from_utf8(self.text) {
            Ok(text) => text,
            Err(_) => "null",
        }
    }

    /// Returns the text of the value in UTF-8.
    pub(crate) const fn as_bytes(self) -> &'j [u8] {
        self.text
    }

    pub(crate) fn is_object(self) -> bool {
        self.text.starts_with(b"{")
    }

    /// Returns the value as text: a string without its quotes and escapes, and a number or boolean
    /// as written.
    ///
    /// Returns `None` for `null`, objects and arrays, and for a string with a lone surrogate, which
    /// cannot be expressed in UTF-8.
    #[must_use]
    pub fn as_text(self) -> Option<Cow<'j, str>> {
        match self.text.first()? {
            b'"' => match unescaped(self.text) {
                Cow::Borrowed(text) => std::str::from_utf8(text).ok().map(Cow::Borrowed),
                Cow::Owned(text) => String::from_utf8(text).ok().map(Cow::Owned),
            },
            b'{' | b'[' | b'n' => None,
            _ => Some(Cow::Borrowed(self.as_raw())),
        }
    }

    fn at<'p>(self, mut path: impl Iterator<Item = &'p str>) -> Option<Self> {
        path.try_fold(self, Self::get)
    }

    /// Returns the member with the name `step` (the last if several have it), or the item with the
    /// index `step`.
    pub(crate) fn get(self, step: &str) -> Option<Self> {
        match self.text.first()? {
            b'{' => members(self)
                .filter(|(name, _)| *unescaped(name) == *step.as_bytes())
                .last()
                .map(|(_, value)| value),
            b'[' => Items::new(self).nth(step.parse().ok()?),
            _ => None,
        }
    }
}

/// Compares the text byte for byte, as for [`Json`].
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Value<'_> {}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests;

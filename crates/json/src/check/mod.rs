//! JSON that is checked once and then only copied: numbers and text stay byte for byte what they were.
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

use std::{borrow::Cow, error::Error, fmt};

use bytes::{Buf, Bytes};

use self::scan::Long;
pub(crate) use self::scan::{Items, Members, depth, quoted, unescaped};

/// The deepest that values may nest: deep enough for people, and far from the end of the stack.
pub const MAX_DEPTH: usize = 64;

/// One JSON value ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)), known to be valid; cheap to
/// clone.
#[derive(Clone)]
pub struct Json {
    text: Bytes,
    /// How deep it nests, at most.
    depth: usize,
    /// The long parts that it is known to have.
    long: Vec<Long>,
}

/// The text is no JSON value, or nests too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadJson;

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a valid JSON value")
    }
}

impl Error for BadJson {}

impl Json {
    /// The value `null`.
    pub const NULL: Self = Self::new(Bytes::from_static(b"null"), 0);

    /// Only for text that is known to be one value.
    pub(crate) const fn new(text: Bytes, depth: usize) -> Self {
        Self {
            text,
            depth,
            long: Vec::new(),
        }
    }

    /// Accepts `text` if it is one valid value in UTF-8, white space around it aside. Members that
    /// stand twice are left as they are.
    ///
    /// # Errors
    /// It is not, or nests deeper than [`MAX_DEPTH`].
    pub fn parse(mut text: Bytes) -> Result<Self, BadJson> {
        let value = parse::check(&text).ok_or(BadJson)?;
        text.truncate(value.range.end);
        text.advance(value.range.start);
        Ok(Self {
            text,
            depth: value.depth,
            long: value.long,
        })
    }

    /// The text of the value.
    #[must_use]
    pub fn as_raw(&self) -> &str {
        self.value().as_raw()
    }

    /// The text of the value, in UTF-8; copies of it share the same memory.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// How deep it nests, at most.
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

    /// The value at `path`: names of members, and indexes of items. Of a member that stands twice,
    /// the last.
    #[must_use]
    pub fn get(&self, path: &[impl AsRef<str>]) -> Option<Value<'_>> {
        self.value().at(path.iter().map(AsRef::as_ref))
    }

    /// The value at `path` by itself, in the same memory.
    pub(crate) fn cut<'p>(&self, path: impl Iterator<Item = &'p str>) -> Option<Self> {
        let text = self.value().at(path)?.text;
        Some(Self::new(self.text.slice_ref(text), depth(text)))
    }
}

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
    /// Where it begins in that.
    at: usize,
    /// The long parts of that from there on.
    long: &'j [Long],
}

impl<'j> Value<'j> {
    /// The text of the value.
    #[must_use]
    pub const fn as_raw(self) -> &'j str {
        match std::str::from_utf8(self.text) {
            Ok(text) => text,
            Err(_) => "null",
        }
    }

    /// The text of the value, in UTF-8.
    pub(crate) const fn as_bytes(self) -> &'j [u8] {
        self.text
    }

    pub(crate) fn is_object(self) -> bool {
        self.text.starts_with(b"{")
    }

    /// A string without its quotes and escapes, a number or boolean as it is written; none for
    /// null, objects and arrays, and for a string that is no text: with half a surrogate pair.
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

    /// A member by its name, or an item by its index.
    fn get(self, step: &str) -> Option<Self> {
        match self.text.first()? {
            b'{' => Members::new(self)
                .filter(|(name, _)| *unescaped(name) == *step.as_bytes())
                .last()
                .map(|(_, value)| value),
            b'[' => Items::new(self).nth(step.parse().ok()?),
            _ => None,
        }
    }
}

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

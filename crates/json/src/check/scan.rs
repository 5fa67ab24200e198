//! Iterates over the parts of valid JSON text. Strings and numbers are skipped, never parsed.
//!
//! The functions do not panic on other text, but their results are meaningless for it. They examine
//! eight bytes at a time.

use std::{borrow::Cow, fmt, iter};

use serde::{Deserializer, de::Visitor};

use super::{Value, word};

/// Returns the first eight bytes of `text`, the first in the lowest bits. Shorter text is padded
/// with `0`, which no search matches.
#[inline]
fn load(text: &[u8]) -> u64 {
    let word = text.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [b'0'; 8];
        word[..text.len()].copy_from_slice(text);
        word
    });
    u64::from_le_bytes(word)
}

/// Returns the index of the first byte from `at` on that `marks` marks by its high bit, or the
/// length of `text`. `marks` is called with words of eight bytes and may mark later bytes wrongly.
#[inline(always)]
fn find(text: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let found = marks(load(rest));
        if found != 0 {
            return at + word::first(found);
        }
        at += 8;
    }
    text.len()
}

/// Returns the index of the first byte from `at` on that ends a plain run within a string: a quote,
/// a backslash or a control character. Returns the length of `text` if it has no such byte.
#[inline(always)]
fn plain_end(text: &[u8], at: usize) -> usize {
    find(text, at, |word| word::special(word) & !word)
}

/// Returns `true` if `text` is the same within a JSON string, without escapes.
#[inline]
pub(crate) fn is_plain(text: &str) -> bool {
    plain_end(text.as_bytes(), 0) == text.len()
}

/// Returns the index after the closing quote of the string whose first character is at `at`.
#[inline]
pub(crate) fn string_end(text: &[u8], mut at: usize) -> usize {
    loop {
        at = plain_end(text, at);
        match text.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// Iterator over the brackets outside of strings. Yields the index of each, and `true` if it opens.
struct Brackets<'t> {
    text: &'t [u8],
    /// Index of the first byte of `word`.
    at: usize,
    word: u64,
    /// High bits of the brackets in `word` that have not been yielded.
    left: u64,
    /// All bits are set if `word` ends within a string, otherwise none.
    inside: u64,
    /// `true` if the last byte of `word` is a backslash that escapes the byte after it.
    escaping: bool,
}

impl<'t> Brackets<'t> {
    const fn new(text: &'t [u8], at: usize) -> Self {
        Self {
            text,
            // The first `advance` adds 8.
            at: at.wrapping_sub(8),
            word: 0,
            left: 0,
            inside: 0,
            escaping: false,
        }
    }

    /// Loads the next word. Returns `None` at the end of the text.
    #[inline]
    fn advance(&mut self) -> Option<()> {
        self.at = self.at.wrapping_add(8);
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        self.word = load(rest);
        let mut quotes = word::equal(self.word, b'"');
        let backslashes = word::equal(self.word, b'\\');
        if backslashes != 0 || self.escaping {
            quotes &= !self.escaped(backslashes);
        }
        // A byte is within a string if the number of quotes up to it is odd (a prefix XOR).
        let mut inside = quotes ^ (quotes << 8);
        inside ^= inside << 16;
        inside ^= inside << 32;
        inside ^= self.inside;
        self.inside = (inside.cast_signed() >> 63).cast_unsigned();
        self.left = word::bracket(self.word) & !inside;
        Some(())
    }

    /// Returns the high bits of the bytes that are escaped by `backslashes`.
    #[cold]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        (0..8)
            .map(|byte| 0x80 << (byte * 8))
            .fold(0, |escaped, bit| {
                let this = std::mem::take(&mut self.escaping);
                self.escaping = !this && backslashes & bit != 0;
                escaped | if this { bit } else { 0 }
            })
    }
}

impl Iterator for Brackets<'_> {
    type Item = (usize, bool);

    #[inline]
    fn next(&mut self) -> Option<(usize, bool)> {
        while self.left == 0 {
            self.advance()?;
        }
        let bit = self.left.trailing_zeros();
        self.left &= self.left - 1;
        // Bit 1 of a byte is set in `[` and `{`, and clear in `]` and `}`.
        let opens = self.word >> (bit - 6) & 1 == 1;
        Some((self.at + bit as usize / 8, opens))
    }
}

/// Returns the nesting depth of the brackets outside of strings. Accepts any text, and uses one
/// pass without a stack.
pub(crate) fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for (_, opens) in Brackets::new(text, 0) {
        if opens {
            depth += 1;
            deepest = deepest.max(depth);
        } else {
            depth = depth.saturating_sub(1);
        }
    }
    deepest
}

/// Returns the index after the value that begins at `at`.
#[inline]
pub(crate) fn value_end(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(b'"') => string_end(text, at + 1),
        Some(b'{' | b'[') => {
            let mut depth = 0usize;
            let closing = Brackets::new(text, at).find(|(_, opens)| {
                depth = if *opens { depth + 1 } else { depth - 1 };
                depth == 0
            });
            closing.map_or(text.len(), |(closing, _)| closing + 1)
        }
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || is_white(*byte);
            let length = text[at..].iter().position(ends);
            length.map_or(text.len(), |length| at + length)
        }
    }
}

/// Returns `true` for the white space of JSON
/// ([RFC 8259 §2](https://www.rfc-editor.org/rfc/rfc8259#section-2)).
#[inline]
pub(crate) const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Minimum length of a [`Long`] part in bytes. From this length on, scanning for the end costs more
/// than recording it.
pub(super) const LONG: usize = 256;

/// The range of a nested object or array of at least [`LONG`] bytes that is contained in objects
/// only.
///
/// The check of a value records these ranges, so that later iterations skip the contents.
#[derive(Clone, Debug)]
pub(super) struct Long {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Iterator over the items of an array. For an object, it yields names and values alternately.
pub(crate) struct Items<'j> {
    /// The array or object. Its `long` is advanced past the parts that start before the last item.
    of: Value<'j>,
    /// Index in its text at which the search for the next item starts.
    at: usize,
}

impl<'j> Items<'j> {
    pub(crate) const fn new(of: Value<'j>) -> Self {
        Self { of, at: 1 }
    }
}

impl<'j> Iterator for Items<'j> {
    type Item = Value<'j>;

    #[inline]
    fn next(&mut self) -> Option<Value<'j>> {
        let Value { text, at, .. } = self.of;
        let between = |byte: &u8| matches!(byte, b',' | b':') || is_white(*byte);
        while text.get(self.at).is_some_and(between) {
            self.at += 1;
        }
        if matches!(text.get(self.at)?, b'}' | b']') {
            return None;
        }
        let start = self.at;
        // Parts within earlier items were not visited, so several may have to be dropped.
        while let [passed, long @ ..] = self.of.long
            && passed.start < at + start
        {
            self.of.long = long;
        }
        self.at = match self.of.long {
            [long, ..] if long.start == at + start => long.end - at,
            _ => value_end(text, start),
        };
        Some(Value {
            text: &text[start..self.at],
            at: at + start,
            long: self.of.long,
        })
    }
}

/// Iterates over the members of `object`. Yields each name as written, with quotes, and its value.
pub(crate) fn members(object: Value<'_>) -> impl Iterator<Item = (&[u8], Value<'_>)> {
    let mut items = Items::new(object);
    iter::from_fn(move || Some((items.next()?.text, items.next()?)))
}

/// Returns the content of a JSON string: without its quotes and with its escapes decoded.
///
/// The result is UTF-8, except that lone surrogates, which JSON allows, are encoded like other code
/// points.
pub(crate) fn unescaped(string: &[u8]) -> Cow<'_, [u8]> {
    let inner = string
        .get(1..string.len().saturating_sub(1))
        .unwrap_or_default();
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let plain = serde_json::Deserializer::from_slice(string).deserialize_bytes(Unescaped);
    plain.map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Visitor that takes a string as bytes, because `serde_json` rejects lone surrogates in text.
struct Unescaped;

impl Visitor<'_> for Unescaped {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, plain: &[u8]) -> Result<Vec<u8>, E> {
        Ok(plain.to_vec())
    }
}

/// Returns `text` as a JSON string, with quotes and the necessary escapes.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    if plain_end(text.as_bytes(), 0) == text.len() {
        return [b"\"", text.as_bytes(), b"\""].concat();
    }
    // A string has a JSON form, and the buffer in memory takes it.
    serde_json::to_vec(text).expect("a str always serializes to a JSON string")
}

//! Walks text that is known to be JSON: strings and numbers are passed over, never parsed.
//!
//! Nothing here panics on other text, it only finds nothing of use there. Eight bytes are looked at
//! together ([Bit Twiddling Hacks](https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord)).

use std::{borrow::Cow, fmt};

use serde::{Deserializer, de::Visitor};

use super::Value;

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The high bit of the first byte of `word` that is `byte`. Later ones may be wrong.
#[inline]
const fn first(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * byte as u64);
    zero.wrapping_sub(ONES) & !zero & HIGH
}

/// The high bits of all bytes of `word` that are `byte`.
#[inline]
const fn all(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * byte as u64);
    !(((zero & !HIGH) + !HIGH) | zero) & HIGH
}

/// The first eight bytes of `text`, filled up with some that mean nothing here.
#[inline]
fn load(text: &[u8]) -> u64 {
    let word = text.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [b'0'; 8];
        word[..text.len()].copy_from_slice(text);
        word
    });
    u64::from_le_bytes(word)
}

/// The first place from `at` on where `marks` marks a byte of the word that begins there; the end of
/// `text` if there is none.
#[inline(always)]
fn find(text: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let found = marks(load(rest));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    text.len()
}

/// The first byte from `at` on that is not plain within a string: its end, an escape, or a control
/// character.
#[inline(always)]
pub(super) fn plain_end(text: &[u8], at: usize) -> usize {
    find(text, at, |word| {
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        control | first(word, b'"') | first(word, b'\\')
    })
}

/// Where the string ends whose first character is at `at`: after its closing quote.
#[inline]
fn string_end(text: &[u8], mut at: usize) -> usize {
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

/// The brackets outside of strings: where each is, and whether it opens.
struct Brackets<'t> {
    text: &'t [u8],
    /// Where the word begins that is looked at.
    at: usize,
    word: u64,
    /// The high bits of those brackets in it that were not given out.
    left: u64,
    /// All bits are set if the word ends within a string.
    inside: u64,
    /// Whether the word ends after a backslash that escapes.
    escaping: bool,
}

impl<'t> Brackets<'t> {
    const fn new(text: &'t [u8], at: usize) -> Self {
        Self {
            text,
            at: at.wrapping_sub(8),
            word: 0,
            left: 0,
            inside: 0,
            escaping: false,
        }
    }

    /// Looks at the next word, if there is one.
    #[inline]
    fn advance(&mut self) -> Option<()> {
        self.at = self.at.wrapping_add(8);
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        self.word = load(rest);
        let mut quotes = all(self.word, b'"');
        let backslashes = all(self.word, b'\\');
        if backslashes != 0 || self.escaping {
            quotes &= !self.escaped(backslashes);
        }
        // A byte is within a string if an odd number of quotes stands before it.
        let mut inside = quotes ^ (quotes << 8);
        inside ^= inside << 16;
        inside ^= inside << 32;
        inside ^= self.inside;
        self.inside = (inside.cast_signed() >> 63).cast_unsigned();
        // Brackets differ in these bits alone, and what else is like them is in strings only.
        self.left = all(self.word | (ONES * 0x26), 0x7f) & !inside;
        Some(())
    }

    /// The high bits of the bytes that backslashes escape.
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
        // This bit of a bracket says whether it opens.
        let opens = self.word >> (bit - 6) & 1 == 1;
        Some((self.at + bit as usize / 8, opens))
    }
}

/// How deep brackets nest outside of strings, in any text, found in one pass without a stack.
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

/// Where the value ends that begins at `at`.
#[inline]
fn value_end(text: &[u8], at: usize) -> usize {
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

/// White space of JSON.
#[inline]
pub(super) const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// How many bytes of an object or array make it long: to pass over as many costs more than to note
/// where they end.
pub(super) const LONG: usize = 256;

/// An object or array of some length within a value, that only objects are around. Where it ends is
/// noted when the value is checked, so that nobody need look at what is in it again.
#[derive(Clone, Debug)]
pub(super) struct Long {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The items of an array; of an object, names and values in turns.
#[derive(Clone)]
pub(crate) struct Items<'j> {
    /// What they are in; its long parts are those that were not passed.
    of: Value<'j>,
    /// Where in it the next is looked for.
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

/// The members of an object: the string that names each, as it is written, and the value.
#[derive(Clone)]
pub(crate) struct Members<'j>(Items<'j>);

impl<'j> Members<'j> {
    pub(crate) const fn new(object: Value<'j>) -> Self {
        Self(Items::new(object))
    }
}

impl<'j> Iterator for Members<'j> {
    type Item = (&'j [u8], Value<'j>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?.text, self.0.next()?))
    }
}

/// What a string says, without its quotes and escapes: UTF-8, but for surrogates without a partner,
/// which JSON allows.
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

/// Takes a string as bytes, which leaves surrogates alone.
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

/// `text` as a string, with quotes and the escapes that it needs.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    if plain_end(text.as_bytes(), 0) == text.len() {
        return [b"\"", text.as_bytes(), b"\""].concat();
    }
    serde_json::to_vec(text).expect("text is always JSON")
}

//! Validates JSON text ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259#section-2)) without
//! recursion and without a copy.

use std::ops::Range;

use super::{
    BadJson, MAX_DEPTH,
    scan::{LONG, Long},
    token::{after, name, negative, number, scalar, short_name, skip, string, white},
};

/// The result of [`check`] for valid text.
pub(super) struct Checked {
    /// Range of the value. The text around it is white space.
    pub(super) range: Range<usize>,
    /// Nesting depth of the value.
    pub(super) depth: usize,
    /// Long parts, in the order of their starts, with offsets from the start of the value.
    pub(super) long: Vec<Long>,
}

/// Checks that `text` is exactly one valid value with white space around it.
///
/// # Errors
/// Returns an error if the text is invalid, is not UTF-8, or is nested deeper than [`MAX_DEPTH`].
pub(super) fn check(text: &[u8]) -> Result<Checked, BadJson> {
    simdutf8::basic::from_utf8(text).map_err(|_| BadJson::Invalid)?;
    let value = white(text);
    let mut reader = Reader::new(value);
    let rest = reader.value(value).ok_or_else(|| reader.error())?;
    if !white(rest).is_empty() {
        return Err(BadJson::Invalid);
    }
    // Parts were recorded when they closed, so inner ones come before outer ones.
    reader.long.sort_unstable_by_key(|long| long.start);
    Ok(Checked {
        range: text.len() - value.len()..text.len() - rest.len(),
        depth: reader.deepest,
        long: reader.long,
    })
}

/// `Reader::arrays` has one bit for each open bracket.
const _: () = assert!(MAX_DEPTH <= u64::BITS as usize);

struct Reader {
    /// Length of the text.
    length: usize,
    /// One bit for each open bracket, 1 for an array and 0 for an object. The lowest bit is the
    /// innermost.
    arrays: u64,
    depth: usize,
    deepest: usize,
    /// Index of each open bracket, outermost first.
    starts: [usize; MAX_DEPTH],
    long: Vec<Long>,
    /// `true` after an attempt to open more than [`MAX_DEPTH`] brackets.
    too_deep: bool,
}

impl Reader {
    const fn new(text: &[u8]) -> Self {
        Self {
            length: text.len(),
            arrays: 0,
            depth: 0,
            deepest: 0,
            starts: [0; MAX_DEPTH],
            long: Vec::new(),
            too_deep: false,
        }
    }

    /// Returns the reason why the last read failed.
    const fn error(&self) -> BadJson {
        if self.too_deep {
            BadJson::TooDeep
        } else {
            BadJson::Invalid
        }
    }

    /// Reads a value from its first byte on.
    // Not inlined, because with its caller it would not fit in the registers.
    #[inline(never)]
    fn value<'t>(&mut self, text: &'t [u8]) -> Option<&'t [u8]> {
        let mut first = *text.first()?;
        let mut rest = text;
        if !matches!(first, b'{' | b'[') {
            return scalar(text);
        }
        loop {
            let step = match self.begin(first, rest)? {
                Step::Scalar(rest) => self.proceed(rest)?,
                Step::Closed(rest) if self.depth > 0 => self.proceed(rest)?,
                step => step,
            };
            (first, rest) = match step {
                Step::Value(first, rest) => (first, rest),
                Step::Scalar(rest) | Step::Closed(rest) => return Some(rest),
            }
        }
    }

    /// Reads a scalar value, an opening bracket, or an empty object or array.
    #[inline(always)]
    fn begin<'t>(&mut self, first: u8, text: &'t [u8]) -> Option<Step<'t>> {
        let rest = if first == b'"' {
            string(&text[1..])?
        } else {
            match first {
                b'0'..=b'9' => number(text)?,
                b'{' => return self.open_object(text),
                b'[' => return self.open_array(text),
                b'n' => after(text, b"null")?,
                b't' => after(text, b"true")?,
                b'f' => after(text, b"false")?,
                b'-' => negative(text)?,
                _ => return Step::next(skip(text)?),
            }
        };
        Some(Step::Scalar(rest))
    }

    /// Reads an opening brace and the name of the first member, or an empty object.
    #[inline(always)]
    fn open_object<'t>(&mut self, text: &'t [u8]) -> Option<Step<'t>> {
        self.open(text, false)?;
        if let Some((first, rest)) = short_name(text, b"{\"") {
            return Some(Step::Value(first, rest));
        }
        match white(&text[1..]) {
            [b'}', rest @ ..] => {
                self.close(rest);
                Some(Step::Closed(rest))
            }
            rest => Step::next(name(rest)?),
        }
    }

    /// Reads an opening bracket, or an empty array.
    #[inline(always)]
    fn open_array<'t>(&mut self, text: &'t [u8]) -> Option<Step<'t>> {
        self.open(text, true)?;
        match white(&text[1..]) {
            [b']', rest @ ..] => {
                self.close(rest);
                Some(Step::Closed(rest))
            }
            rest => Step::next(rest),
        }
    }

    /// Reads on after a value within an object or array, up to the next value or to the end of the
    /// outermost one.
    #[inline(always)]
    fn proceed<'t>(&mut self, mut text: &'t [u8]) -> Option<Step<'t>> {
        loop {
            let array = self.arrays & 1 == 1;
            if !array {
                if let Some((first, rest)) = short_name(text, b",\"") {
                    return Some(Step::Value(first, rest));
                }
                // The next object of an array leaves the open brackets as they are, and is not recorded.
                if self.arrays & 2 == 2
                    && let Some((first, rest)) = short_name(text, b"},{\"")
                {
                    return Some(Step::Value(first, rest));
                }
            }
            text = match (text, array) {
                ([b',', rest @ ..], true) => return Step::next(rest),
                ([b',', rest @ ..], false) => return Step::next(name(rest)?),
                ([b']', rest @ ..], true) | ([b'}', rest @ ..], false) => {
                    self.close(rest);
                    if self.depth == 0 {
                        return Some(Step::Closed(rest));
                    }
                    rest
                }
                _ => skip(text)?,
            };
        }
    }

    /// Enters the object or array at the start of `text`.
    #[inline(always)]
    fn open(&mut self, text: &[u8], array: bool) -> Option<()> {
        let Some(start) = self.starts.get_mut(self.depth) else {
            self.too_deep = true;
            return None;
        };
        *start = self.length - text.len();
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.arrays = self.arrays << 1 | u64::from(array);
        Some(())
    }

    /// Leaves the object or array that ends before `rest`.
    #[inline(always)]
    fn close(&mut self, rest: &[u8]) {
        self.depth -= 1;
        self.arrays >>= 1;
        let (start, end) = (self.starts[self.depth], self.length - rest.len());
        if end - start >= LONG {
            self.note(start, end);
        }
    }

    /// Records a part, if it is nested and all brackets around it are objects.
    #[cold]
    #[inline(never)]
    fn note(&mut self, start: usize, end: usize) {
        if self.depth > 0 && self.arrays == 0 {
            self.long.push(Long { start, end });
        }
    }
}

/// The part that was read last, with the text after it.
enum Step<'t> {
    /// The part before a value, with the first byte of the value.
    Value(u8, &'t [u8]),
    /// A scalar value within an object or array.
    Scalar(&'t [u8]),
    /// An object or array.
    Closed(&'t [u8]),
}

impl<'t> Step<'t> {
    /// A value follows.
    #[inline(always)]
    fn next(text: &'t [u8]) -> Option<Self> {
        Some(Self::Value(*text.first()?, text))
    }
}

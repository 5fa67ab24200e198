//! Validates JSON text ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259#section-2)) without
//! recursion and without a copy.

use std::ops::Range;

use super::{
    BadJson, MAX_DEPTH,
    scan::{LONG, Long, is_white, plain_end},
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
    std::str::from_utf8(text).map_err(|_| BadJson::Invalid)?;
    let start = text.iter().position(|byte| !is_white(*byte));
    let start = start.ok_or(BadJson::Invalid)?;
    let mut reader = Reader {
        text: &text[start..],
        at: 0,
        objects: 0,
        depth: 0,
        deepest: 0,
        starts: [0; MAX_DEPTH],
        long: Vec::new(),
    };
    let end = reader.value().ok_or_else(|| reader.error())?;
    // Parts were recorded when they closed, so inner ones come before outer ones.
    reader.long.sort_unstable_by_key(|long| long.start);
    Ok(Checked {
        range: start..start + end,
        depth: reader.deepest,
        long: reader.long,
    })
}

/// `Reader::objects` has one bit for each open bracket.
const _: () = assert!(MAX_DEPTH <= u64::BITS as usize);

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    /// One bit for each open bracket, 1 for an object and 0 for an array. The lowest bit is the
    /// innermost.
    objects: u64,
    depth: usize,
    deepest: usize,
    /// Index of each open bracket, outermost first.
    starts: [usize; MAX_DEPTH],
    long: Vec<Long>,
}

// `inline(always)` keeps the whole loop of `check` in one function. Without it, the bench `merge` took
// 3 to 28 % longer per case (least of four runs each, in turns).
impl Reader<'_> {
    /// Reads the only value of the text. Returns its end, or `None` if the text is not valid.
    #[inline(always)]
    fn value(&mut self) -> Option<usize> {
        loop {
            let mut more = self.begin()?;
            while !more && self.depth > 0 {
                more = self.proceed()?;
            }
            if !more {
                break;
            }
        }
        let end = self.at;
        self.token().is_none().then_some(end)
    }

    /// Returns the reason why the last read failed.
    #[cold]
    fn error(&self) -> BadJson {
        let last = self
            .at
            .checked_sub(1)
            .map(|last| self.text[last.min(self.text.len() - 1)]);
        match last {
            Some(b'[' | b'{') if self.depth == MAX_DEPTH => BadJson::TooDeep,
            _ => BadJson::Invalid,
        }
    }

    /// Reads a scalar value or an opening bracket. Returns `true` if another value must follow,
    /// which is the first of a non-empty object or array.
    #[inline(always)]
    fn begin(&mut self) -> Option<bool> {
        match self.token()? {
            b'"' => self.string()?,
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'-' => {
                let first = self.take()?;
                self.number(first)?;
            }
            first @ b'0'..=b'9' => self.number(first)?,
            b't' => self.word(b"rue")?,
            b'f' => self.word(b"alse")?,
            b'n' => self.word(b"ull")?,
            _ => return None,
        }
        Some(false)
    }

    /// Enters an object or array. Returns `false` if it is empty and has been left again.
    #[inline(always)]
    fn open(&mut self, object: bool) -> Option<bool> {
        *self.starts.get_mut(self.depth)? = self.at - 1;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.objects = self.objects << 1 | u64::from(object);
        match (self.token()?, object) {
            (b'}', true) | (b']', false) => {
                self.close();
                return Some(false);
            }
            (b'"', true) => self.name()?,
            (_, true) => return None,
            (_, false) => self.at -= 1,
        }
        Some(true)
    }

    /// Reads on after a value in an object or array. Returns `true` after a comma, when another
    /// value must follow, and `false` after a closing bracket.
    #[inline(always)]
    fn proceed(&mut self) -> Option<bool> {
        let object = self.objects & 1 == 1;
        match (self.token()?, object) {
            (b',', false) => return Some(true),
            (b',', true) if self.token()? == b'"' => {
                self.name()?;
                return Some(true);
            }
            (b'}', true) | (b']', false) => self.close(),
            _ => return None,
        }
        Some(false)
    }

    #[inline(always)]
    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        let start = self.starts[self.depth];
        if self.at - start >= LONG {
            self.note(start);
        }
    }

    /// Records the part from `start` to here, if it is nested and all brackets around it are
    /// objects.
    #[cold]
    fn note(&mut self, start: usize) {
        let by_names = self.objects == (1 << self.depth) - 1;
        if self.depth > 0 && by_names {
            let end = self.at;
            self.long.push(Long { start, end });
        }
    }

    /// Reads the rest of a member name after its opening quote, and the colon.
    #[inline(always)]
    fn name(&mut self) -> Option<()> {
        self.string()?;
        (self.token()? == b':').then_some(())
    }

    /// Reads the rest of a string after its opening quote.
    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        loop {
            self.at = plain_end(self.text, self.at);
            match self.take()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    /// Reads the rest of an escape after its backslash. Lone surrogates are accepted.
    #[cold]
    fn escape(&mut self) -> Option<()> {
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// Reads the rest of a number after its first digit, which is `first`.
    #[inline(always)]
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return None,
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Some(())
    }

    /// Reads one or more digits.
    #[inline(always)]
    fn digits(&mut self) -> Option<()> {
        let first = self.take()?;
        self.skip_digits();
        first.is_ascii_digit().then_some(())
    }

    #[inline(always)]
    fn skip_digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// Reads the rest of `true`, `false` or `null`.
    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.at += rest.len();
        (self.text.get(self.at - rest.len()..self.at)? == rest).then_some(())
    }

    #[inline(always)]
    fn take(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    #[inline(always)]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Takes the next byte that is not white space.
    #[inline(always)]
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = self.take()?;
            // The first test decides for most bytes.
            if byte > b' ' || !is_white(byte) {
                return Some(byte);
            }
        }
    }
}

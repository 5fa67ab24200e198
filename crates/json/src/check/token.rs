//! Reads single tokens of JSON text. Each function takes the text from a token on and returns the text
//! after it, or `None` if the token is not valid.
//!
//! The inlined functions read the usual tokens. All other cases are in functions of their own that are
//! never inlined: this way the loop of [`parse`](super::parse) fits in the registers, which makes it
//! faster by a quarter.

use super::{is_white, word};

/// Removes `token` from the start of `text`.
#[inline]
pub(super) fn after<'t, const N: usize>(text: &'t [u8], token: &[u8; N]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_first_chunk()?;
    (start == token).then_some(rest)
}

/// Removes white space from the start of `text`.
#[inline(always)]
pub(super) fn white(text: &[u8]) -> &[u8] {
    match text {
        // The first test decides for most bytes.
        [..=b' ', ..] => spaces(text),
        _ => text,
    }
}

/// Removes white space, of which there usually is some.
#[cold]
#[inline(never)]
fn spaces(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_white(*first)
    {
        text = rest;
        // Lines are indented by many spaces.
        while let Some((block, rest)) = text.split_first_chunk() {
            let others = word::not_space(u64::from_le_bytes(*block));
            if others != 0 {
                text = &text[word::first(others)..];
                break;
            }
            text = rest;
        }
    }
    text
}

/// Removes white space from the start of `text`, of which there must be some.
#[inline(always)]
pub(super) fn skip(text: &[u8]) -> Option<&[u8]> {
    let rest = white(text);
    (rest.len() < text.len()).then_some(rest)
}

/// Reads `start`, which ends with a quote, and the rest of a member name with its colon. Also returns
/// the first byte after the colon.
///
/// Returns `None` also for names of more than seven bytes, names with escapes, with bytes other than
/// ASCII or with white space around them, and near the end of the text. All other names are within 16
/// bytes, so that one check of the length is enough.
#[inline(always)]
pub(super) fn short_name<'t, const N: usize>(
    text: &'t [u8],
    start: &[u8; N],
) -> Option<(u8, &'t [u8])> {
    const { assert!(N + 7 + 2 < 16) }
    let block: &[u8; 16] = text.first_chunk()?;
    let (found, inner) = block.split_first_chunk()?;
    if found != start {
        return None;
    }
    let marks = word::special(u64::from_le_bytes(*inner.first_chunk()?));
    if marks == 0 {
        return None;
    }
    let length = word::first(marks);
    let next = N + length + 2;
    (inner[length..length + 2] == *b"\":").then(|| (block[next], &text[next..]))
}

/// Reads a member name with its quotes, the colon, and white space around both.
#[cold]
#[inline(never)]
pub(super) fn name(text: &[u8]) -> Option<&[u8]> {
    let rest = string(after(white(text), b"\"")?)?;
    Some(white(after(white(rest), b":")?))
}

/// Reads a value that is no object and no array.
#[cold]
#[inline(never)]
pub(super) fn scalar(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'"' => string(&text[1..]),
        b'-' => negative(text),
        b'n' => after(text, b"null"),
        b't' => after(text, b"true"),
        b'f' => after(text, b"false"),
        _ => any_number(text),
    }
}

/// Reads a string after its opening quote.
#[inline(always)]
pub(super) fn string(text: &[u8]) -> Option<&[u8]> {
    let rest = plain(text);
    match after(rest, b"\"") {
        Some(rest) => Some(rest),
        None => escaped(rest),
    }
}

/// Removes bytes that are not special from the start of `text`. Stops also at a byte that is not ASCII,
/// and at the last bytes of the text, which do not fill a word.
#[inline(always)]
fn plain(mut text: &[u8]) -> &[u8] {
    while let Some((block, rest)) = text.split_first_chunk() {
        let marks = word::special(u64::from_le_bytes(*block));
        if marks != 0 {
            return &text[word::first(marks)..];
        }
        text = rest;
    }
    text
}

/// Reads the rest of a string that [`plain`] does not read to its end. Lone surrogates are accepted.
#[cold]
#[inline(never)]
fn escaped(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'u', a, b, c, d, rest @ ..]
                if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                rest
            }
            [
                b'\\',
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                rest @ ..,
            ] => rest,
            [b'\\' | ..=0x1f, ..] | [] => return None,
            [_, rest @ ..] => rest,
        };
        while let Some((block, rest)) = text.split_first_chunk() {
            let word = u64::from_le_bytes(*block);
            // Bytes that are not ASCII are no ends of a run here.
            let marks = word::special(word) & !word;
            if marks != 0 {
                text = &text[word::first(marks)..];
                break;
            }
            text = rest;
        }
    }
}

/// Reads a number from its first digit on, which the caller has checked.
#[inline(always)]
pub(super) fn number(text: &[u8]) -> Option<&[u8]> {
    match short_number(text) {
        Some(rest) => Some(rest),
        None => any_number(text),
    }
}

/// Reads a number without an exponent and of at most seven bytes. Returns `None` also for other
/// numbers, and near the end of the text.
#[inline(always)]
fn short_number(text: &[u8]) -> Option<&[u8]> {
    let number = u64::from_le_bytes(*text.first_chunk()?);
    let mut marks = word::not_digit(number);
    if marks == 0 {
        return None;
    }
    let mut length = word::first(marks);
    if number as u8 == b'0' && length > 1 {
        return None;
    }
    if text[length] == b'.' {
        marks &= marks - 1;
        if marks == 0 {
            return None;
        }
        let fraction = length + 1;
        length = word::first(marks);
        if length == fraction {
            return None;
        }
    }
    if text[length] | 0x20 == b'e' {
        return None;
    }
    Some(&text[length..])
}

/// Reads a number after its sign, if it has one.
#[cold]
#[inline(never)]
fn any_number(text: &[u8]) -> Option<&[u8]> {
    let mut rest = match text {
        [b'0', rest @ ..] => rest,
        [b'1'..=b'9', rest @ ..] => digits(rest),
        _ => return None,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = match fraction {
            [b'0'..=b'9', rest @ ..] => digits(rest),
            _ => return None,
        };
    }
    match rest {
        [b'e' | b'E', rest @ ..] => exponent(rest),
        _ => Some(rest),
    }
}

/// Reads an exponent after its `e`.
fn exponent(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'+' | b'-', b'0'..=b'9', rest @ ..] | [b'0'..=b'9', rest @ ..] => Some(digits(rest)),
        _ => None,
    }
}

/// Reads a negative number.
#[inline]
pub(super) fn negative(text: &[u8]) -> Option<&[u8]> {
    any_number(after(text, b"-")?)
}

/// Removes digits from the start of `text`.
fn digits(mut text: &[u8]) -> &[u8] {
    while let Some((block, rest)) = text.split_first_chunk() {
        let marks = word::not_digit(u64::from_le_bytes(*block));
        if marks != 0 {
            return &text[word::first(marks)..];
        }
        text = rest;
    }
    while let [b'0'..=b'9', rest @ ..] = text {
        text = rest;
    }
    text
}

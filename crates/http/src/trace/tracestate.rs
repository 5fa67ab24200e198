//! The header `tracestate` with vendor-specific trace data.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

/// Maximum number of list members.
const MAX_MEMBERS: usize = 32;
/// Maximum length of a key and of a value, in bytes.
const MAX_PART: usize = 256;
/// Maximum length of a propagated list, in bytes.
const MAX_LENGTH: usize = 512;
/// Length in bytes above which a member is removed first from a list that is too long.
const LARGE: usize = 128;

/// The members of `tracestate`, the most recent first
/// ([Trace Context Level 2 §3.3](https://www.w3.org/TR/trace-context-2/#tracestate-header)). Contains at
/// least one member.
///
/// A list with an invalid member or with more than 32 members is dropped as a whole. The standard
/// allows each key only once. Of a repeated key the first member is kept, because it is the most
/// recent. A list of more than 512 bytes is shortened from the end: first by members of more than
/// 128 bytes, then by others.
#[derive(Clone, PartialEq, Eq)]
pub struct Tracestate(HeaderValue);

impl fmt::Debug for Tracestate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracestate({} bytes)", self.0.len())
    }
}

impl Tracestate {
    /// Parses the header lines in their order. Returns `None` if a line is invalid or no member
    /// remains.
    #[must_use]
    pub fn parse<'h>(lines: impl IntoIterator<Item = &'h HeaderValue>) -> Option<Self> {
        let texts = lines.into_iter().flat_map(|line| members(line.as_bytes()));
        let mut list: Vec<&[u8]> = Vec::new();
        for (index, text) in texts.enumerate() {
            // One invalid member, or one too many, drops the whole list.
            let own = key_of(text).filter(|_| index < MAX_MEMBERS)?;
            if !list.iter().any(|other| has_key(own, other)) {
                list.push(text);
            }
        }
        Self::write(list)
    }

    /// Returns the header value.
    #[must_use]
    pub const fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// Joins as many members as fit.
    fn write(mut list: Vec<&[u8]>) -> Option<Self> {
        // Each member counts with its comma, of which the last one is not written.
        while list.iter().map(|member| member.len() + 1).sum::<usize>() > MAX_LENGTH + 1 {
            let large = list.iter().rposition(|member| member.len() > LARGE);
            // A list that is too long is not empty, so `len() - 1` does not underflow.
            list.remove(large.unwrap_or(list.len() - 1));
        }
        let value = HeaderValue::from_maybe_shared(Bytes::from(list.join(&b','))).ok();
        value.filter(|value| !value.is_empty()).map(Self)
    }
}

/// Returns the members of a line without surrounding spaces. Empty members are omitted.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let texts = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    texts.filter(|text| !text.is_empty())
}

/// Returns the key of `member` if the member is valid.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let end = member.iter().position(|byte| *byte == b'=')?;
    // `end` is an index of `member`, so both ranges are valid.
    let (key, value) = (&member[..end], &member[end + 1..]);
    (is_key(key) && is_value(value)).then_some(key)
}

/// Returns `true` if the valid member `member` has this key.
fn has_key(key: &[u8], member: &[u8]) -> bool {
    let rest = member.strip_prefix(key);
    rest.is_some_and(|rest| rest.starts_with(b"="))
}

/// Returns `true` for a valid key. Level 2 has one grammar for keys with and without a tenant.
fn is_key(key: &[u8]) -> bool {
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let other = |byte: &u8| first(byte) || b"_-*/@".contains(byte);
    key.len() <= MAX_PART && key.first().is_some_and(first) && key.iter().all(other)
}

fn is_value(value: &[u8]) -> bool {
    let allowed = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    let ends = value.last().is_some_and(|last| *last != b' ');
    value.len() <= MAX_PART && ends && value.iter().all(allowed)
}

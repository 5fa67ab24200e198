//! The header `tracestate`: what tracing systems tell each other along a trace.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

/// The most members of a list.
const MAX_MEMBERS: usize = 32;
/// The longest key, and the longest value, in bytes.
const MAX_PART: usize = 256;
/// How much of a list is sent on, in bytes.
const MAX_LENGTH: usize = 512;
/// Members that are longer are left out first where a list is too long, in bytes.
const LARGE: usize = 128;

/// The members of `tracestate`, the latest first
/// ([Trace Context Level 2 §3.3](https://www.w3.org/TR/trace-context-2/#tracestate-header)). There is
/// at least one.
///
/// A list with an invalid member, or with more than 32, is dropped whole. Where a key stands twice
/// the first one is kept, since that is the latest; the standard only says that there may be one. Of
/// a list that is longer than 512 bytes, members of more than 128 bytes are left out, from the end
/// and as far as need be, and then others from the end.
#[derive(Clone, PartialEq, Eq)]
pub struct Tracestate(HeaderValue);

impl fmt::Debug for Tracestate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracestate({} bytes)", self.0.len())
    }
}

impl Tracestate {
    /// Reads the lines of the header, in their order; none if they are invalid or have no member.
    #[must_use]
    pub fn parse<'h>(lines: impl IntoIterator<Item = &'h HeaderValue>) -> Option<Self> {
        let texts = lines.into_iter().flat_map(|line| members(line.as_bytes()));
        let mut list: Vec<&[u8]> = Vec::new();
        for (place, text) in texts.enumerate() {
            let own = key_of(text).filter(|_| place < MAX_MEMBERS)?;
            if !list.iter().any(|other| is_of(own, other)) {
                list.push(text);
            }
        }
        Self::write(list)
    }

    /// The list with the member `key` in front, in place of the one it had; none if the key or the
    /// value is not valid. A list that is full loses its last; one that is too long is cut as any other
    /// is, and may so lose the new member if that has more than 128 bytes.
    #[must_use]
    pub fn with_member(&self, key: &str, value: &str) -> Option<Self> {
        let text = format!("{key}={value}");
        let own = key_of(text.as_bytes())?;
        let others = members(self.0.as_bytes()).filter(|other| !is_of(own, other));
        let list = std::iter::once(text.as_bytes()).chain(others);
        Self::write(list.take(MAX_MEMBERS).collect())
    }

    /// The value of the header.
    #[must_use]
    pub const fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// As much of the list as fits.
    fn write(mut list: Vec<&[u8]>) -> Option<Self> {
        while list.iter().map(|member| member.len() + 1).sum::<usize>() > MAX_LENGTH + 1 {
            let large = list.iter().rposition(|member| member.len() > LARGE);
            // What is longer than allowed is not empty.
            list.remove(large.unwrap_or(list.len() - 1));
        }
        let value = HeaderValue::from_maybe_shared(Bytes::from(list.join(&b','))).ok();
        value.filter(|value| !value.is_empty()).map(Self)
    }
}

/// The members in a line, without the spaces around them; those that are empty are left out.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let texts = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    texts.filter(|text| !text.is_empty())
}

/// The key of a member, if that is valid.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let end = member.iter().position(|byte| *byte == b'=')?;
    // `end` is in the member, so what follows it is at most empty.
    let (key, value) = (&member[..end], &member[end + 1..]);
    (is_key(key) && is_value(value)).then_some(key)
}

/// Whether a valid member has this key.
fn is_of(key: &[u8], member: &[u8]) -> bool {
    let rest = member.strip_prefix(key);
    rest.is_some_and(|rest| rest.starts_with(b"="))
}

/// Level 2 has one grammar for the keys of vendors with and without tenants.
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

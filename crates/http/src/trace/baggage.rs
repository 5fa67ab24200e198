//! The header `baggage` with application-defined properties.

use bytes::Bytes;
use http::{HeaderValue, header::GetAll};

/// Maximum length of the header, in bytes, over all lines.
const MAX_LENGTH: usize = 8192;
/// Maximum number of members.
const MAX_MEMBERS: usize = 64;

/// Returns the members of `baggage` whose keys are in `allowed`, with their properties
/// ([W3C Baggage §3.3](https://www.w3.org/TR/baggage/#baggage-http-header-format)), or `None` if no member
/// remains.
///
/// Baggage of more than 8192 bytes or 64 members is dropped as a whole. These are the amounts that the
/// standard requires every participant to propagate. Invalid members are omitted.
pub(super) fn filter(lines: &GetAll<'_, HeaderValue>, allowed: &[Box<str>]) -> Option<HeaderValue> {
    // Each line counts with the comma that joins it to the next.
    let length: usize = lines.iter().map(|line| line.len() + 1).sum();
    let texts = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let members = texts
        .map(<[u8]>::trim_ascii)
        .filter(|text| !text.is_empty());
    // One member above the limit is enough to see that it is exceeded.
    let mut members: Vec<_> = members.take(MAX_MEMBERS + 1).collect();
    if length > MAX_LENGTH + 1 || members.len() > MAX_MEMBERS {
        return None;
    }
    members.retain(|member| {
        key_of(member).is_some_and(|key| allowed.iter().any(|own| own.as_bytes() == key))
    });
    let value = HeaderValue::from_maybe_shared(Bytes::from(members.join(&b','))).ok();
    value.filter(|value| !value.is_empty())
}

/// Returns the key of a valid member, which is `key = value` with any number of properties.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let (own, value) = pair(parts.next()?);
    let is_property = |property| {
        let (key, value) = pair(property);
        is_token(key) && value.is_none_or(is_value)
    };
    (is_token(own) && is_value(value?) && parts.all(is_property)).then_some(own)
}

/// Splits `text` at the first equals sign.
fn pair(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
    (parts.next().unwrap_or_default(), parts.next())
}

/// Returns `true` for a token of [RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2).
fn is_token(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(allowed)
}

/// Returns `true` if `text` is visible ASCII without quotes, commas, semicolons and backslashes.
fn is_value(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_graphic() && !b"\",;\\".contains(byte);
    text.iter().all(allowed)
}

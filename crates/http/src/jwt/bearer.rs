//! Extraction of the bearer token from a request.

use http::{HeaderMap, header::AUTHORIZATION};

use super::{jose::MAX_TOKEN, reason::Reason};

/// Returns the token of `Authorization: Bearer`
/// ([RFC 6750 §2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)). Tokens in cookies, queries and forms are
/// ignored.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Reason> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Reason::Missing)?.as_bytes();
    if values.next().is_some() {
        return Err(Reason::Duplicate);
    }
    let rest = credentials(value).ok_or_else(|| other_scheme_reason(value))?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = &rest[spaces..]; // `spaces` was counted in `rest`, so the range is valid.
    if token.is_empty() {
        return Err(Reason::EmptyToken);
    }
    if token.len() > MAX_TOKEN {
        return Err(Reason::Oversize);
    }
    match std::str::from_utf8(token) {
        Ok(text) if is_b64token(token) => Ok(text),
        _ => Err(bad_token_reason(token)),
    }
}

/// Returns `true` if all bytes are of the alphabet of `b64token`.
fn is_b64token(token: &[u8]) -> bool {
    // Without an early end and without `&&`, the compiler checks many bytes at a time.
    token.iter().fold(true, |all, byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        let other = b"-._~+/="
            .iter()
            .fold(false, |any, other| any | (byte == other));
        all & (letter | digit | other)
    })
}

/// Returns the reason for refusing a token with a character that no token has.
fn bad_token_reason(token: &[u8]) -> Reason {
    if !is_printable(token) {
        Reason::Syntax
    } else if token.starts_with(b"{") {
        // A JWS in JSON serialization is a well-formed header value, but not an accepted token.
        Reason::NotThreeParts
    } else if token.contains(&b',') {
        // A comma separates several credentials in one header value.
        Reason::Duplicate
    } else {
        Reason::Syntax
    }
}

/// Returns the rest of `value` after the scheme if the scheme is `Bearer`.
fn credentials(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("bearer".len())?;
    // `Bearer` without a token is still this scheme, but `Bearer2` is another one.
    let ends = rest.first().is_none_or(|byte| *byte == b' ');
    (ends && scheme.eq_ignore_ascii_case(b"bearer")).then_some(rest)
}

/// Returns the reason for refusing a value that does not begin with `Bearer`.
fn other_scheme_reason(value: &[u8]) -> Reason {
    let mut further = value.split(|byte| *byte == b',').skip(1);
    if !is_printable(value) {
        Reason::Syntax
    } else if further.any(|part| credentials(part.trim_ascii()).is_some()) {
        Reason::Duplicate
    } else if value.contains(&b' ') {
        Reason::Scheme
    } else {
        Reason::MissingScheme
    }
}

fn is_printable(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

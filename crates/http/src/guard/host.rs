//! Checks of the `Host` header and of the authority in the request target.

use std::net::Ipv6Addr;

use http::{Request, Version, header::HOST};

use super::HeadError;

/// Maximum length of a DNS name in characters.
const MAX_NAME: usize = 253;

/// Checks that the request has exactly one valid host, in `Host` or in the target, and the same one
/// if both have it ([RFC 9112 §3.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2),
/// [RFC 9113 §8.3.1](https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1)). HTTP/1.0 needs none.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), HeadError> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = lines.next().map(http::HeaderValue::as_bytes);
    if lines.next().is_some() {
        return Err(HeadError::DuplicateHost);
    }
    let authority = request.uri().authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    if ![line, authority].into_iter().flatten().all(is_authority) {
        return Err(HeadError::HostSyntax);
    }
    match (line, authority) {
        (Some(line), Some(authority)) if !line.eq_ignore_ascii_case(authority) => {
            Err(HeadError::HostMismatch)
        }
        (Some(_), _) => Ok(()),
        (None, _) if request.version() <= Version::HTTP_10 => Ok(()),
        // HTTP/2 and later have the host in `:authority`.
        (None, Some(_)) if request.version() > Version::HTTP_11 => Ok(()),
        (None, _) => Err(HeadError::HostMissing),
    }
}

/// Returns `true` if `text` is `host[:port]`.
///
/// The host is a name of letters, digits, `-`, `.`, `_` and `~`, an IPv4 address, or an IPv6
/// address in brackets. The port is 1 to 65535. This is stricter than
/// [RFC 3986 §3.2](https://www.rfc-editor.org/rfc/rfc3986#section-3.2), which also allows escapes,
/// commas, and an empty host or port. No DNS name has those.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    // The colon is within the text, so `colon + 1` is at most its length.
    let (host, port) = match text.iter().rposition(|&byte| byte == b':') {
        Some(colon) if text.last() != Some(&b']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    is_host(host) && port.is_none_or(is_port)
}

fn is_host(host: &[u8]) -> bool {
    if let Some(address) = host.strip_prefix(b"[") {
        let address = address.strip_suffix(b"]").unwrap_or_default();
        return std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    (1..=MAX_NAME).contains(&host.len()) && host.iter().all(is_name)
}

fn is_port(port: &[u8]) -> bool {
    let digits = port.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(port)
        .ok()
        .and_then(|port| port.parse::<u16>().ok());
    digits && number.is_some_and(|number| number > 0)
}

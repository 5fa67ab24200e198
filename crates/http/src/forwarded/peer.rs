//! The peer of a connection, as the next server learns about it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED, uri::Scheme};

use super::{X_FORWARDED_FOR, X_FORWARDED_PROTO};

/// The other end of the connection, in the extensions of each request that has a
/// [`PeerAddr`](super::PeerAddr). Added by [`ForwardedLayer`](super::ForwardedLayer).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its address. An IPv4-mapped IPv6 address is given as IPv4.
    pub addr: IpAddr,
    /// `https` if the connection uses TLS. `None` if the server does not say.
    pub scheme: Option<Scheme>,
    /// `true` if the peer is a trusted proxy.
    pub is_trusted: bool,
}

impl Peer {
    /// Appends the peer to the list in the header `name` of `headers`.
    ///
    /// | header | appended |
    /// |---|---|
    /// | `X-Forwarded-For` | the address |
    /// | `X-Forwarded-Proto` | the scheme, if it is known |
    /// | `Forwarded` | `for` with the address, and `proto` with the scheme ([RFC 7239 §4](https://www.rfc-editor.org/rfc/rfc7239#section-4)) |
    ///
    /// Several lines of the header become one, without empty elements. Other headers are left unchanged.
    pub(crate) fn append(&self, name: &HeaderName, headers: &mut HeaderMap) {
        let Some(own) = self.element(name) else {
            return;
        };
        let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let elements = lines.flat_map(split).filter(|element| !element.is_empty());
        let list = elements.chain([own.as_bytes()]).collect::<Vec<_>>();
        // Header values, joined by ASCII, form a header value.
        if let Ok(list) = HeaderValue::from_bytes(&list.join(&b", "[..])) {
            headers.insert(name, list);
        }
    }

    /// Returns the peer as an element of the list in the header `name`.
    fn element(&self, name: &HeaderName) -> Option<String> {
        let scheme = self.scheme.as_ref().map(Scheme::as_str);
        if *name == X_FORWARDED_FOR {
            Some(self.addr.to_string())
        } else if *name == X_FORWARDED_PROTO {
            scheme.map(str::to_owned)
        } else if *name == FORWARDED {
            let node = match self.addr {
                IpAddr::V4(addr) => format!("for={addr}"),
                // Colons and brackets occur only in quoted strings.
                IpAddr::V6(addr) => format!("for=\"[{addr}]\""),
            };
            Some(match scheme {
                Some(scheme) => format!("{node};proto={scheme}"),
                None => node,
            })
        } else {
            None
        }
    }
}

/// Splits a list at the commas outside of quoted strings
/// ([RFC 9110 §5.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.1)). The elements have no spaces around
/// them.
fn split(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = move |byte: &u8| {
        let is_escape = quoted && !escaped && *byte == b'\\';
        quoted ^= *byte == b'"' && !escaped;
        escaped = is_escape;
        *byte == b',' && !quoted
    };
    list.split(is_separator).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_d52_sends_no_empty_elements() {
        let peer = Peer {
            addr: [10, 0, 0, 1].into(),
            scheme: Some(Scheme::HTTP),
            is_trusted: true,
        };
        for (name, lines, expected) in [
            (X_FORWARDED_FOR, &[""][..], "10.0.0.1"),
            (
                X_FORWARDED_FOR,
                &[" , 203.0.113.7,,203.0.113.8 ,", ""],
                "203.0.113.7, 203.0.113.8, 10.0.0.1",
            ),
            (X_FORWARDED_PROTO, &["", "https"], "https, http"),
            (
                FORWARDED,
                &[r#"for="a, ,\", ,b\\", , for=c"#, "for=\"d, ,"],
                r#"for="a, ,\", ,b\\", for=c, for="d, ,, for=10.0.0.1;proto=http"#,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(&name, line.parse().unwrap());
            }
            peer.append(&name, &mut headers);
            let values: Vec<_> = headers.get_all(&name).iter().collect();
            assert_eq!(values, [expected]);
        }
    }
}

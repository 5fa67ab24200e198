//! Hop-by-hop headers ([RFC 9110 §7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)).

#[cfg(feature = "jwt")]
use http::HeaderValue;
use http::{
    HeaderMap, HeaderName,
    header::{self, CONNECTION},
};

/// Hop-by-hop headers, which must not be forwarded to another connection.
static HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the hop-by-hop headers and those that `Connection` nominates.
///
/// The hop-by-hop headers are `connection`, `keep-alive`, `proxy-connection`, `proxy-authenticate`,
/// `proxy-authentication-info`, `proxy-authorization`, `te`, `trailer`, `transfer-encoding` and `upgrade`.
pub fn strip(headers: &mut HeaderMap) {
    let known = headers.keys().filter(|name| HOP_BY_HOP.contains(name));
    // Empty for most messages, and then not allocated.
    let names: Vec<HeaderName> = known.cloned().chain(nominated(headers)).collect();
    for name in names {
        headers.remove(name);
    }
}

/// Returns `true` if `name` is one of the fixed hop-by-hop headers.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Sets a header for the next server. Removes its name from `Connection`, where it refers to the header of the
/// previous hop.
#[cfg(feature = "jwt")]
pub(crate) fn set(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    headers.insert(name, value);
    if nominated(headers).any(|nominated| nominated == *name) {
        let others: Vec<_> = nominated(headers)
            .filter(|other| other != name)
            .map(HeaderValue::from)
            .collect();
        headers.remove(CONNECTION);
        for other in others {
            headers.append(CONNECTION, other);
        }
    }
}

/// Returns the headers that `Connection` nominates. Invalid header names are skipped.
pub(super) fn nominated(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// Header names in mixed case. The first ten are hop-by-hop headers.
    const NAMES: [&str; 14] = [
        "Connection",
        "keep-alive",
        "Proxy-Connection",
        "proxy-authenticate",
        "proxy-authentication-info",
        "Proxy-Authorization",
        "TE",
        "trailer",
        "Transfer-Encoding",
        "upgrade",
        "X-Hop",
        "x-other",
        "accept",
        "cookie",
    ];

    fn parsed(name: &str) -> HeaderName {
        name.parse().unwrap()
    }

    proptest! {
        #[test]
        fn fault_i8_strip_removes_hop_by_hop_and_nominated_headers(
            sent in prop::collection::vec((0..NAMES.len(), "[ -~]{0,8}"), 0..12),
            named in prop::collection::vec(
                prop::collection::vec((10..NAMES.len(), "[ \t]{0,2}"), 0..4), 0..3,
            ),
            junk in "[ -~\u{80}-\u{ff}]{0,8}",
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &sent {
                if let Ok(value) = HeaderValue::from_str(value) && *name > 0 {
                    headers.append(parsed(NAMES[*name]), value);
                }
            }
            // `Connection` comes in several lines, with invalid names in between.
            for line in &named {
                let names = line.iter().map(|(name, blank)| format!("{blank}{}{blank}", NAMES[*name]));
                let line = names.chain([format!("({junk}")]).collect::<Vec<_>>().join(",");
                if let Ok(line) = HeaderValue::from_bytes(line.as_bytes()) {
                    headers.append(CONNECTION, line);
                }
            }
            let gone: HashSet<_> = NAMES[..10].iter().map(|name| parsed(name))
                .chain(nominated(&headers)).collect();
            let kept: Vec<_> = headers.iter()
                .filter(|(name, _)| !gone.contains(*name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            for name in named.iter().flatten() {
                prop_assert!(gone.contains(&parsed(NAMES[name.0])));
            }
            strip(&mut headers);
            let left: Vec<_> = headers.iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let sorted = |mut all: Vec<(HeaderName, HeaderValue)>| {
                all.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
                all
            };
            prop_assert_eq!(sorted(left), sorted(kept));
        }
    }
}

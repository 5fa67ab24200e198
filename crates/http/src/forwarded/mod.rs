//! Client addresses and schemes behind trusted proxies. For the headers of requests to downstreams, see
//! [`forward`](crate::forward).
//!
//! A client can send any `X-Forwarded-For` or `Forwarded` ([RFC 7239]) header, and each proxy appends
//! to its right. The list is therefore read from the right. The first address that is not a trusted
//! proxy is the client.
//!
//! ```
//! use http::HeaderMap;
//! use tower_fanout_http::forwarded::ForwardedLayer;
//!
//! let proxies = ForwardedLayer::new(["10.0.0.0/8".parse().unwrap()]);
//! let mut headers = HeaderMap::new();
//! headers.insert("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.0.0.2".parse().unwrap());
//! let proxy = "10.0.0.1".parse().unwrap();
//! assert_eq!(proxies.client(proxy, &headers).to_string(), "203.0.113.7");
//! let other = "198.51.100.1".parse().unwrap();
//! assert_eq!(proxies.client(other, &headers), other);
//! ```
//!
//! [RFC 7239]: https://www.rfc-editor.org/rfc/rfc7239

mod peer;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, Request, header::FORWARDED, uri::Scheme};
use ipnet::IpNet;
use tower::Layer;

pub use self::peer::Peer;
use crate::{
    headers::remove_all,
    service::{EditRequest, RequestEdit},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// All headers in which proxies describe their client.
static PROXY_HEADERS: [HeaderName; 6] = [
    FORWARDED,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-real-ip"),
];

/// The header that the trusted proxies write. Only this one is read, because proxies pass on headers
/// that they do not write, whatever the client sent in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schemars",
    derive(schemars::JsonSchema, serde::Deserialize, serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, which most proxies write, with `X-Forwarded-Proto`. The default.
    #[default]
    XForwardedFor,
    /// `Forwarded` with its parameters `for` and `proto`.
    Forwarded,
}

impl ForwardedHeader {
    const fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }

    /// Returns the address in one element of the list, or `None` if it has none.
    fn hop(self, element: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => address(element.trim()),
            Self::Forwarded => parameter(element, "for").and_then(address),
        }
    }

    /// Returns the scheme in one element of the list, or `None` if it has none that is known.
    fn scheme(self, element: &str) -> Option<Scheme> {
        let scheme = match self {
            Self::XForwardedFor => element.trim(),
            Self::Forwarded => parameter(element, "proto")?,
        };
        [Scheme::HTTP, Scheme::HTTPS]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(scheme))
    }

    /// Returns the name of the header that lists the schemes.
    const fn scheme_name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_PROTO,
            Self::Forwarded => FORWARDED,
        }
    }
}

/// The client's address, in the extensions of each request: the address that trusted proxies report, or
/// else that of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// The scheme that the client uses, in the extensions of a request if it is known: the one that trusted
/// proxies report, or else `https` if the connection uses TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientScheme(pub Scheme);

/// Adds the [`ClientAddr`], the [`ClientScheme`] and the [`Peer`] to every request that has a [`PeerAddr`]
/// from the server. See the [module docs](self).
///
/// The layer also removes headers that a client could have made up. They are `Forwarded`,
/// `X-Forwarded-For`, `X-Forwarded-Host`, `X-Forwarded-Port`, `X-Forwarded-Proto` and `X-Real-IP`.
///
/// | request | effect |
/// |---|---|
/// | from a trusted proxy, with [`ForwardedHeader::XForwardedFor`] | removes `Forwarded`, keeps the others |
/// | from a trusted proxy, with [`ForwardedHeader::Forwarded`] | removes `X-Forwarded-For`, keeps the others |
/// | from another peer | removes all of them |
/// | without a [`PeerAddr`] | removes all of them and adds nothing |
///
/// Cheap to clone. No proxy is trusted by default.
#[derive(Clone, Debug, Default)]
pub struct ForwardedLayer {
    networks: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl ForwardedLayer {
    /// Creates a layer that trusts the proxies in `networks`, which write `X-Forwarded-For`.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            networks: networks.into_iter().collect(),
            header: ForwardedHeader::default(),
        }
    }

    /// Sets the header that the proxies write.
    #[must_use]
    pub fn header(mut self, header: ForwardedHeader) -> Self {
        self.header = header;
        self
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Returns the client's address for a request with `headers` over a connection from `peer`: the
    /// first address that is not a trusted proxy, read from the right, beginning with `peer`.
    ///
    /// If all are trusted, or an element cannot be parsed, returns the last address read (`peer` if
    /// none was read from the headers).
    ///
    /// Several lines of the header form one list. A port in an element is ignored. IPv4-mapped IPv6
    /// addresses are treated as IPv4.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.trace(peer, headers).0
    }

    /// Returns the client's address, and the number of trusted proxies in front of it.
    fn trace(&self, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, usize) {
        let mut client = peer.to_canonical();
        let mut elements = elements(headers, &self.header.name());
        let mut proxies = 0;
        // Each address was added by the hop to its right, so it counts only if that hop is trusted.
        while self.trusts(client) {
            match elements
                .next()
                .flatten()
                .and_then(|element| self.header.hop(element))
            {
                Some(hop) => client = hop.to_canonical(),
                None => break,
            }
            proxies += 1;
        }
        (client, proxies)
    }

    /// Returns the scheme that the trusted proxy next to the client reports. `proxies` is the number of
    /// trusted proxies. A list with fewer elements was set by the proxy that is nearest to the client.
    fn reported_scheme(&self, proxies: usize, headers: &HeaderMap) -> Option<Scheme> {
        elements(headers, &self.header.scheme_name())
            .take(proxies.max(1))
            .last()
            .flatten()
            .and_then(|element| self.header.scheme(element))
    }

    /// Adds the facts about the client and the peer to the extensions.
    fn describe<B>(&self, peer: IpAddr, request: &mut Request<B>) {
        let (client, proxies) = self.trace(peer, request.headers());
        let peer = Peer {
            addr: peer.to_canonical(),
            scheme: request.extensions().get().cloned(),
            is_trusted: self.trusts(peer.to_canonical()),
        };
        let reported = peer
            .is_trusted
            .then(|| self.reported_scheme(proxies, request.headers()));
        let scheme = reported.flatten().or_else(|| peer.scheme.clone());
        let extensions = request.extensions_mut();
        extensions.insert(ClientAddr(client));
        if let Some(scheme) = scheme {
            extensions.insert(ClientScheme(scheme));
        }
        extensions.insert(peer);
    }

    /// Removes the headers of proxies, except those of a trusted peer. Of these, the list header that
    /// is not read is removed as well.
    fn clean(&self, peer: Option<IpAddr>, headers: &mut HeaderMap) {
        let is_trusted = peer.is_some_and(|peer| self.trusts(peer.to_canonical()));
        let other = match self.header {
            ForwardedHeader::XForwardedFor => FORWARDED,
            ForwardedHeader::Forwarded => X_FORWARDED_FOR,
        };
        if is_trusted {
            headers.remove(other);
        } else {
            remove_all(headers, &PROXY_HEADERS);
        }
    }
}

/// Parses an address with or without a port. An IPv6 address with a port is in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
    };
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let plain = text.parse().ok();
    plain
        .or_else(with_port)
        .or_else(|| bracketed().map(IpAddr::V6))
}

/// Returns the elements of the list in the header `name`, from the right. An element that is not UTF-8 is
/// `None`.
fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Option<&'h str>> + use<'h> {
    // Several lines form one list, so lines and elements are both read from the right.
    let lines = headers.get_all(name).iter().rev();
    let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    elements.map(|element| std::str::from_utf8(element).ok())
}

/// Returns the unquoted value of the only parameter `wanted` in an element of `Forwarded`.
///
/// Returns `None` if any value of the element has an unbalanced quote. The comma before the element was
/// then within a quoted string, and the apparent element is part of a value that a client chose.
fn parameter<'e>(element: &'e str, wanted: &str) -> Option<&'e str> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim().split_once('=')?;
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// Strips the quotes of a quoted value. Returns `None` for unbalanced quotes and for escapes, which are
/// not supported.
fn unquoted(value: &str) -> Option<&str> {
    let bare = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    // An address never needs an escape.
    (!bare.contains(['"', '\\'])).then_some(bare)
}

/// The remote address of the connection, in the extensions of each request.
///
/// The server of this crate adds it. Under another server add it yourself, in a layer outside
/// [`ForwardedLayer`]. With `axum::serve`, copy it from the `ConnectInfo<SocketAddr>` that
/// `into_make_service_with_connect_info` adds to the extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

impl<S> Layer<S> for ForwardedLayer {
    type Service = EditRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        EditRequest { layer, inner }
    }
}

impl<B> RequestEdit<Request<B>> for ForwardedLayer {
    fn edit(&self, request: &mut Request<B>) {
        let peer = request.extensions().get();
        let peer = peer.map(|PeerAddr(peer)| peer.ip());
        if let Some(peer) = peer {
            self.describe(peer, request);
        }
        self.clean(peer, request.headers_mut());
    }
}

#[cfg(test)]
mod tests;

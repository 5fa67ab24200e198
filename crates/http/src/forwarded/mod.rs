//! Who the client is, behind proxies of ours.
//!
//! Whatever a client writes into `X-Forwarded-For` or `Forwarded` ([RFC 7239]) arrives, with what
//! proxies add to its right. So it is read from the right, and only as far as proxies are ours: the
//! first that is not is the client.
//!
//! ```
//! use http::HeaderMap;
//! use tower_fanout_http::forwarded::TrustedProxies;
//!
//! let proxies = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()]);
//! let mut headers = HeaderMap::new();
//! headers.insert("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.0.0.2".parse().unwrap());
//! let ours = "10.0.0.1".parse().unwrap();
//! assert_eq!(proxies.client(ours, &headers).to_string(), "203.0.113.7");
//! let other = "198.51.100.1".parse().unwrap();
//! assert_eq!(proxies.client(other, &headers), other);
//! ```
//!
//! [RFC 7239]: https://www.rfc-editor.org/rfc/rfc7239

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Request, header::FORWARDED};
use ipnet::IpNet;
use tower::{Layer, Service};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// All that a proxy says of its client.
const SAID_BY_PROXIES: [HeaderName; 6] = [
    FORWARDED,
    X_FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// Where proxies write whom they serve. Only one is read: what a proxy does not write itself, it
/// passes on from anyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, which most proxies write.
    #[default]
    XForwardedFor,
    /// `Forwarded`, by its `for`.
    Forwarded,
}

impl ForwardedHeader {
    const fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }

    /// The address that one element of the header's list says.
    fn hop(self, element: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => address(element.trim()),
            Self::Forwarded => forwarded_for(element).and_then(address),
        }
    }
}

/// The client's address as far as it is known, in the extensions of each request: the peer's, or
/// what trusted proxies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// The proxies that are believed, by their networks; cheap to clone. By default there are none.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Believes the proxies in `networks`, which write `X-Forwarded-For`.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            networks: networks.into_iter().collect(),
            header: ForwardedHeader::default(),
        }
    }

    /// Reads `header` instead.
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

    /// Who sent a request with `headers` over a connection from `peer`: the first from the right that
    /// is no trusted proxy. Where the list cannot be read any further, the last proxy that could.
    ///
    /// An IPv4 address in IPv6 is an IPv4 address.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = headers.get_all(self.header.name()).iter().rev();
        let mut elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
        while self.trusts(client) {
            let element = elements
                .next()
                .and_then(|element| std::str::from_utf8(element).ok());
            match element.and_then(|element| self.header.hop(element)) {
                Some(hop) => client = hop.to_canonical(),
                None => break,
            }
        }
        client
    }

    /// Leaves of what proxies say only what is read and may be believed.
    fn clean(&self, peer: Option<IpAddr>, headers: &mut HeaderMap) {
        let ours = peer.is_some_and(|peer| self.trusts(peer.to_canonical()));
        let other = |name: &HeaderName| match self.header {
            ForwardedHeader::XForwardedFor => *name == FORWARDED,
            ForwardedHeader::Forwarded => *name == X_FORWARDED_FOR,
        };
        for name in SAID_BY_PROXIES {
            if !ours || other(&name) {
                headers.remove(name);
            }
        }
    }
}

/// An address, with or without a port; one of IPv6 that has a port is in brackets.
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

/// The value of the one `for` in an element of `Forwarded`, without its quotes; none if any value of
/// the element is half a one: then the comma before it was within quotes, and what looks like an
/// element is a part of what a client wrote.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim().split_once('=')?;
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// A value without its quotes, if they stand around all of it; escapes are not read.
fn unquoted(value: &str) -> Option<&str> {
    let bare = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => value,
    };
    (!bare.contains(['"', '\\'])).then_some(bare)
}

/// The address of the client's end of the connection, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Gives every request its [`ClientAddr`], if the server told its [`PeerAddr`]; see the
/// [module docs](self).
///
/// What others than trusted proxies say of the client is removed, so that nothing below believes it
/// or sends it on.
#[derive(Clone, Debug, Default)]
pub struct ForwardedLayer {
    proxies: TrustedProxies,
}

impl ForwardedLayer {
    /// Believes `proxies`.
    #[must_use]
    pub const fn new(proxies: TrustedProxies) -> Self {
        Self { proxies }
    }
}

impl<S> Layer<S> for ForwardedLayer {
    type Service = Forwarded<S>;

    fn layer(&self, inner: S) -> Forwarded<S> {
        Forwarded {
            proxies: self.proxies.clone(),
            inner,
        }
    }
}

/// The service of [`ForwardedLayer`].
#[derive(Clone, Debug)]
pub struct Forwarded<S> {
    proxies: TrustedProxies,
    inner: S,
}

impl<S, B> Service<Request<B>> for Forwarded<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let peer = request.extensions().get();
        let peer = peer.map(|PeerAddr(peer)| peer.ip());
        if let Some(peer) = peer {
            let client = self.proxies.client(peer, request.headers());
            request.extensions_mut().insert(ClientAddr(client));
        }
        self.proxies.clean(peer, request.headers_mut());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests;

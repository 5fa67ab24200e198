//! A client for one downstream: pooled connections, one attempt, the whole body within it.
//!
//! The body is collected inside the call, up to a cap, so that an attempt's timeout covers it.
//! Redirects are not followed, and nothing of a service's address is in an error.

mod answer;
mod error;
mod future;
mod shape;

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Uri,
    header::{self, ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::Service;
use tower_fanout::layers::With;

pub use self::{
    answer::{Accept, AcceptLayer, JsonLayer, JsonService},
    error::ClientError,
    future::ResponseFuture,
    shape::{ShapeLayer, Shaped},
};

/// Headers of one connection, which no message may carry on to another
/// ([RFC 9110 §7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)).
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that are set for each message anew.
static OURS: [HeaderName; 3] = [HOST, header::CONTENT_LENGTH, header::EXPECT];

/// Where a downstream is, and what it may send.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// How long connecting may take; 1 s by default.
    pub connect_timeout: Duration,
    /// The largest body, in bytes; 2 MiB by default.
    pub max_response: usize,
    /// How long an unused connection is kept; 90 s by default.
    pub idle_timeout: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            max_response: 2 << 20,
            idle_timeout: Duration::from_secs(90),
        }
    }
}

/// An address that cannot be one of a downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEndpoint(&'static str);

impl fmt::Display for BadEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadEndpoint {}

/// A client for one downstream; see the [module docs](self). Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool<HttpConnector, Full<Bytes>>,
    authority: Authority,
    /// The authority as a header, without a port that goes without saying.
    host: HeaderValue,
    /// What stands before the path of every request; without a slash at its end.
    prefix: String,
    max_response: usize,
}

impl Client {
    /// A client for the service at `endpoint`, such as `http://users:8080` or `http://gw/users`.
    ///
    /// # Errors
    /// The address has no host, carries credentials or a query, or is not `http`.
    pub fn new(endpoint: &Uri, settings: &ClientSettings) -> Result<Self, BadEndpoint> {
        let authority = check(endpoint)?.clone();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.connect_timeout));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .build(connector);
        Ok(Self {
            shared: Arc::new(Shared {
                pool,
                host: host(&authority).ok_or(BadEndpoint("an endpoint has a host"))?,
                authority,
                prefix: endpoint.path().trim_end_matches('/').to_owned(),
                max_response: settings.max_response,
            }),
        })
    }
}

/// What a request to `authority` bears as its host
/// ([RFC 9110 §7.2](https://www.rfc-editor.org/rfc/rfc9110#section-7.2)).
fn host(authority: &Authority) -> Option<HeaderValue> {
    let host = match authority.port_u16() {
        None | Some(80) => authority.host().to_owned(),
        Some(port) => format!("{}:{port}", authority.host()),
    };
    HeaderValue::try_from(host).ok()
}

/// Whether `endpoint` can be the address of a downstream; gives its host and port.
///
/// # Errors
/// As [`Client::new`].
pub fn check(endpoint: &Uri) -> Result<&Authority, BadEndpoint> {
    if endpoint.scheme() == Some(&Scheme::HTTPS) {
        return Err(BadEndpoint(
            "TLS to downstreams is not built yet: use http://",
        ));
    }
    if endpoint.scheme() != Some(&Scheme::HTTP) {
        return Err(BadEndpoint("an endpoint begins with http://"));
    }
    match endpoint.authority() {
        _ if endpoint.query().is_some() => Err(BadEndpoint("an endpoint has no query")),
        Some(authority) if authority.as_str().contains('@') => {
            Err(BadEndpoint("an endpoint carries no credentials"))
        }
        Some(authority) if !authority.host().is_empty() => Ok(authority),
        _ => Err(BadEndpoint("an endpoint has a host")),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The request has a path and a query; host and scheme are the client's.
impl Service<Request<Bytes>> for Client {
    type Response = Response<Bytes>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> ResponseFuture {
        let shared = &self.shared;
        match shared.address(request) {
            Ok(request) => ResponseFuture::new(shared.pool.request(request), shared.max_response),
            Err(error) => ResponseFuture::refused(error),
        }
    }
}

/// The facts of the call are not sent.
impl Service<With<Request<Bytes>>> for Client {
    type Response = Response<Bytes>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: With<Request<Bytes>>) -> ResponseFuture {
        self.call(request.into_inner())
    }
}

impl Shared {
    /// The request as it goes on the wire.
    fn address(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = request.map(Full::new);
        let target = mem::take(request.uri_mut());
        *request.uri_mut() = self.uri(target).ok_or(ClientError::BadHead)?;
        let headers = request.headers_mut();
        strip(headers);
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        Ok(request)
    }

    /// Where `target` is to be found.
    fn uri(&self, target: Uri) -> Option<Uri> {
        let mut parts = target.into_parts();
        let target = parts.path_and_query.take();
        let target = target.unwrap_or(PathAndQuery::from_static("/"));
        parts.path_and_query = Some(if self.prefix.is_empty() {
            target
        } else {
            format!("{}{target}", self.prefix).try_into().ok()?
        });
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.try_into().ok()
    }
}

/// Takes out what belongs to the caller's connection, and what is set anew.
fn strip(headers: &mut HeaderMap) {
    let known = |name: &&HeaderName| HOP_BY_HOP.contains(name) || OURS.contains(name);
    let known = headers.keys().filter(known).cloned();
    let nominated = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok());
    // Most messages have none of them.
    let names: Vec<HeaderName> = known.chain(nominated).collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_http_goes_without_saying() {
        for (endpoint, expected) in [
            ("http://users", "users"),
            ("http://users:80/x", "users"),
            ("http://users:8080", "users:8080"),
            ("http://[::1]:443", "[::1]:443"),
            ("http://[::1]", "[::1]"),
        ] {
            let endpoint: Uri = endpoint.parse().unwrap();
            assert_eq!(host(check(&endpoint).unwrap()).unwrap(), expected);
        }
    }
}

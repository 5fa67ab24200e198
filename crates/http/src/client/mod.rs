//! An HTTP client for one downstream, with pooled connections.
//!
//! A call is one attempt. The client collects the whole response body inside the call, up to
//! [`ClientConfig::max_response`], so that a timeout layer above covers the body too. The client
//! does not follow redirects, and its errors contain no part of the downstream's address.
//!
//! The downstream may have closed a pooled connection. If hyper notices before any part of the
//! request was sent, it sends the request on another connection within the same attempt. If the
//! connection breaks later, the attempt fails with [`ClientError::Reset`], and the layers above
//! decide about a retry.
//!
//! Dropping the future of a call cancels it. Over HTTP/1 this closes the connection of the call.

mod config;
mod connect;
mod endpoint;
mod error;
mod future;
mod interim;
mod pool;
mod resolve;
#[cfg(feature = "tls")]
mod tls;

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, EXPECT, HOST},
};
use http_body_util::Full;
use tower::Service;
use tower_fanout_layers::{ConfigError, WithCall};

#[cfg(feature = "tls")]
pub use self::tls::{ClientTlsConfig, Identity, TlsVersion, Verify};
pub use self::{
    config::{ClientConfig, Http2},
    endpoint::check,
    error::ClientError,
    future::ResponseFuture,
    resolve::{AddressPolicy, Resolve, Resolving},
};
use self::{endpoint::Endpoint, pool::Pool};
use crate::{bounds::valid, forward::strip};

/// A client for one downstream. See the [module docs](self).
///
/// The client is cheap to clone, and clones share the connection pool.
#[derive(Clone)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    pool: Arc<Pool>,
}

impl Client {
    /// Creates a client for the service at `endpoint`, such as `http://users:8080` or
    /// `https://gw/users`.
    ///
    /// # Errors
    /// Returns an error if `endpoint` is not valid (see [`check`]), a value of `config` is out of
    /// range, or its certificates or keys cannot be used.
    pub fn new(endpoint: &Uri, config: ClientConfig) -> Result<Self, ConfigError> {
        let (endpoint, config) = (Endpoint::new(endpoint)?, valid(config)?);
        Ok(Self {
            pool: Arc::new(Pool::new(&endpoint, &config)?),
            endpoint: Arc::new(endpoint),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Only path, query, headers and body of the request are used. The client sets scheme and host.
impl Service<Request<Bytes>> for Client {
    type Response = Response<Bytes>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> ResponseFuture {
        let request = prepare(request, &self.endpoint);
        ResponseFuture::new(&self.pool, request)
    }
}

/// Sends the request only; the metadata of the call stays in the process.
impl Service<WithCall<Request<Bytes>>> for Client {
    type Response = Response<Bytes>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: WithCall<Request<Bytes>>) -> ResponseFuture {
        self.call(request.into_inner())
    }
}

/// Returns `request` as it is sent: without hop-by-hop headers, `Content-Length` and `Expect`, and
/// with the URI, `Host` and `Accept-Encoding` of this client. `Accept` defaults to JSON.
///
/// # Errors
/// [`ClientError::BadHead`] if the prefix of the endpoint and the target do not form a valid URI.
fn prepare(
    request: Request<Bytes>,
    endpoint: &Endpoint,
) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = request.map(Full::new);
    let target = mem::take(request.uri_mut());
    *request.uri_mut() = endpoint.uri(target).ok_or(ClientError::BadHead)?;
    let headers = request.headers_mut();
    strip(headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    headers.insert(HOST, endpoint.host());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json"));
    Ok(request)
}

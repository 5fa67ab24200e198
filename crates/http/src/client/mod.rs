//! A client for one downstream: pooled connections, one attempt, the whole body within it.
//!
//! The body is collected inside the call, up to a cap, so that an attempt's timeout covers it.
//! Redirects are not followed, and nothing of a service's address is in an error.
//!
//! A kept connection may have been closed by the other side. If that is noticed before anything of a
//! request was sent, the request goes out on another connection, within the same attempt. Afterwards the
//! attempt ends with [`ClientError::Reset`], and a retry is up to the layers above.

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

/// A client for one downstream; see the [module docs](self). Cheap to clone; clones share the pool.
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
    /// As [`check`]; or a value of `config` is out of its range, or cannot be used for TLS.
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

/// The request has a path and a query; host and scheme are the client's.
impl Service<Request<Bytes>> for Client {
    type Response = Response<Bytes>;
    type Error = ClientError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> ResponseFuture {
        let request = address(request, &self.endpoint);
        ResponseFuture::new(&self.pool, request)
    }
}

/// The facts of the call are not sent.
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

/// The request as it goes on the wire: what belongs to the caller's connection is taken out, and what is
/// of each message is made anew.
fn address(
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

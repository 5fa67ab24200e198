//! An HTTP client for one downstream, with pooled connections (feature `client`).
//!
//! A call is one attempt. The client collects the whole response body inside the call, up to
//! [`ClientConfig::max_response`], so that a timeout layer above covers the body too. The client
//! does not follow redirects, and its errors contain no part of the downstream's address.
//!
//! The downstream may have closed a pooled connection. If hyper detects this before any part of the
//! request was sent, it sends the request on another connection within the same attempt. If the
//! connection breaks later, the attempt fails with [`ClientErrorKind::Reset`]. Retries belong to the layers
//! above.
//!
//! Dropping the future of a call cancels it. Over HTTP/1 this closes the connection of the call.
//!
//! # Timeouts
//!
//! The client limits only the time to connect ([`ClientConfig::connect_timeout`]). It has no timeout
//! for a call: without a layer such as [`TimeoutLayer`](tower_fanout_layers::TimeoutLayer) above, a call
//! can wait forever for a response, or for a connection at [`ClientConfig::max_connections`].
//!
//! # Calls on behalf of a caller
//!
//! The layers in front of your service take the trace context and the hop count out of the headers of
//! a request and keep them in its extensions. No layer adds them to the requests that your service
//! sends. Build these requests with the following steps yourself:
//!
//! ```no_run
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Uri};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_fanout_http::{
//!     attempt_headers::AttemptHeadersLayer,
//!     client::{Client, ClientConfig},
//!     correlation::{CORRELATION_ID, CorrelationId},
//!     forward::{ForwardHeaders, HopCount},
//!     trace::TraceContext,
//! };
//! use tower_fanout_layers::{
//!     CallContext, ClassifyHttp, DeadlineLayer, RetryConfig, RetryLayer, TimeoutLayer,
//! };
//!
//! /// Creates the downstream request that is sent on behalf of `inbound`.
//! fn outgoing<B>(
//!     inbound: &Request<B>,
//!     allowed: &ForwardHeaders,
//!     path: &str,
//! ) -> Result<Request<Bytes>, http::Error> {
//!     let mut request = Request::get(path).body(Bytes::new())?;
//!     let (extensions, headers) = (inbound.extensions(), request.headers_mut());
//!     allowed.copy(inbound.headers(), extensions.get(), headers); // only the listed headers of the caller
//!     if let Some(id) = extensions.get::<CorrelationId>() {
//!         headers.insert(CORRELATION_ID, id.header_value());
//!     }
//!     if let Some(trace) = extensions.get::<TraceContext>() {
//!         trace.write(headers); // the attempts get parent ids of their own below
//!     }
//!     extensions.get::<HopCount>().copied().unwrap_or_default().write(headers);
//!     if let Some(call) = request.call_mut() {
//!         call.deadline = inbound.call().deadline; // the time that the caller has left
//!     }
//!     Ok(request)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let users = ServiceBuilder::new()
//!     .layer(DeadlineLayer::new(Duration::from_secs(2))?) // or the caller's deadline, if earlier
//!     .layer(RetryLayer::new(RetryConfig::new(), ClassifyHttp::new())?)
//!     .layer(TimeoutLayer::new(Duration::from_millis(500))?) // per attempt, including the body
//!     .layer(AttemptHeadersLayer::new()) // below the retry: its headers differ per attempt
//!     .service(Client::new(&Uri::from_static("http://users:8080/v1"), ClientConfig::default())?);
//!
//! # let inbound = Request::new(());
//! let request = outgoing(&inbound, &ForwardHeaders::default(), "/users/7")?;
//! let response = users.oneshot(request).await?; // GET http://users:8080/v1/users/7
//! # drop(response);
//! # Ok(())
//! # }
//! ```
//!
//! # Other clients
//!
//! Layers work with any client. [`failure`] determines the kind of failure of an error of hyper-util's client, or
//! of a client on hyper such as reqwest. `ClassifyHttp` reads the statuses of their responses too.
//!
//! The client itself calls [`strip`] on the headers of the request and of the
//! response. A proxy that sends with another client must call it for both.

mod body;
mod config;
mod connect;
mod endpoint;
mod error;
mod future;
mod http1;
mod http2;
mod hyper_error;
mod interim;
mod pool;
mod resolve;
#[cfg(feature = "tls")]
mod tls;
mod wire;

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
use tower_fanout_layers::{ConfigError, WithCall, config::Validate};

#[cfg(feature = "tls")]
pub use self::tls::{ClientTlsConfig, Identity, TlsVersion, Verify};
pub use self::{
    config::{ClientConfig, Http2},
    endpoint::validate_endpoint,
    error::{ClientError, ClientErrorKind},
    future::ResponseFuture,
    hyper_error::failure,
    resolve::{AddressPolicy, Resolve, Resolving},
};
use self::{endpoint::Endpoint, pool::Pool};
pub use crate::tls_error::TlsErrorKind;
use crate::{forward::strip, headers::remove_all};

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
    /// The path of `endpoint` is the prefix of every request: the target `/7?full=1` is sent to
    /// `https://gw/users/7?full=1`. A slash at the end of the prefix is ignored.
    ///
    /// # Errors
    /// Returns an error if `endpoint` is not valid (see [`validate_endpoint`]), a value of `config` is out of
    /// range, or its certificates or keys cannot be used.
    pub fn new(endpoint: &Uri, config: ClientConfig) -> Result<Self, ConfigError> {
        let (endpoint, config) = (Endpoint::new(endpoint)?, config.validated()?);
        Ok(Self {
            pool: Arc::new(Pool::new(&endpoint, &config)?),
            endpoint: Arc::new(endpoint),
        })
    }

    /// Replaces the TLS settings of this client and its clones for new connections (feature `tls`). Open
    /// connections are not affected. Has no effect if the endpoint does not begin with `https://`.
    ///
    /// # Errors
    /// Returns an error if a certificate or a key cannot be used. The client then keeps its settings.
    #[cfg(feature = "tls")]
    pub fn replace_tls(&self, tls: ClientTlsConfig) -> Result<(), ConfigError> {
        self.pool.connector.replace_tls(tls)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Sends the method, path, query, headers and body of the request.
///
/// The client sets the scheme, the host and the path prefix of its endpoint. It removes hop-by-hop
/// headers, `Content-Length` and `Expect`, replaces `Host`, and sets `Accept-Encoding: identity`,
/// because it does not decode responses. `Accept` defaults to `application/json`.
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
/// [`ClientErrorKind::BadHead`] if the prefix of the endpoint and the target do not form a valid URI.
fn prepare(
    request: Request<Bytes>,
    endpoint: &Endpoint,
) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = request.map(Full::new);
    let target = mem::take(request.uri_mut());
    let target = endpoint.target(target).ok_or_else(|| {
        ClientError::new(ClientErrorKind::BadHead).caused_by("the URI of the request is not valid")
    })?;
    *request.uri_mut() = target.into();
    let headers = request.headers_mut();
    strip(headers);
    remove_all(headers, &[CONTENT_LENGTH, EXPECT]);
    headers.insert(HOST, endpoint.host());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json"));
    Ok(request)
}

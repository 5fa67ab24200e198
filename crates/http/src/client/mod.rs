//! A client for one downstream: pooled connections, one attempt, the whole body within it.
//!
//! The body is collected inside the call, up to a cap, so that an attempt's timeout covers it.
//! Redirects are not followed, and nothing of a service's address is in an error.

mod answer;
mod error;
mod shape;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{self, ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING},
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::Service;

pub use self::{
    answer::{Accept, AcceptLayer, JsonLayer, JsonService},
    error::ClientError,
    shape::{ShapeLayer, Shaped},
};

/// Headers of one connection, which no message may carry on to another
/// ([RFC 9110 §7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

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
                authority,
                prefix: endpoint.path().trim_end_matches('/').to_owned(),
                max_response: settings.max_response,
            }),
        })
    }
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
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        // hyper-util's client boxes its future too; naming this one would not save an allocation.
        Box::pin(async move { shared.send(request).await })
    }
}

impl Shared {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let response = self.pool.request(self.address(request)?).await?;
        check_head(&response)?;
        let (parts, body) = response.into_parts();
        let body = self.collect(body).await?;
        Ok(Response::from_parts(parts, body))
    }

    /// The request as it goes on the wire.
    fn address(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, ClientError> {
        let (mut parts, body) = request.into_parts();
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(format!("{}{target}", self.prefix));
        parts.uri = uri.build().map_err(|_| ClientError::BadHead)?;
        strip(&mut parts.headers);
        parts
            .headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        parts
            .headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        if body.size_hint().lower() > self.max_response as u64 {
            return Err(ClientError::TooLarge);
        }
        match Limited::new(body, self.max_response).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge),
            Err(_) => Err(ClientError::BadBody),
        }
    }
}

/// Takes out what belongs to the caller's connection, and what hyper sets itself.
fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in nominated.iter().chain(&HOP_BY_HOP).chain(&[
        header::HOST,
        header::CONTENT_LENGTH,
        header::EXPECT,
    ]) {
        headers.remove(name);
    }
}

fn check_head(response: &Response<Incoming>) -> Result<(), ClientError> {
    let status = response.status();
    let encoded = response
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    match status {
        StatusCode::NOT_MODIFIED => Err(ClientError::BadStatus),
        _ if status.is_redirection() => Err(ClientError::Redirect),
        _ if status.is_informational() => Err(ClientError::BadStatus),
        _ if encoded => Err(ClientError::BadBody),
        _ => Ok(()),
    }
}

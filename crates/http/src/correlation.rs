//! Give every request an id that all logs, answers and downstream calls bear.
//!
//! An inbound id is kept if it is 1 to 128 of `[A-Za-z0-9._:-]`; else the request gets a new one
//! (UUID version 7) and goes on. The id is echoed on the response.
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_http::correlation::{CorrelationId, CorrelationLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = CorrelationLayer::new().layer(service_fn(|request: Request<()>| async move {
//!     let id: &CorrelationId = request.extensions().get().unwrap();
//!     Ok::<_, Infallible>(Response::new(id.to_string()))
//! }));
//! let request = Request::builder().header("x-correlation-id", "order-7").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["x-correlation-id"], "order-7");
//! assert_eq!(response.body(), "order-7");
//! # }
//! ```

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use uuid::Uuid;

/// The header of the id, in requests and responses.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: safe in a header, in a log line and in JSON as it is. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(Bytes);

impl CorrelationId {
    /// Accepts `id`, or not.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let valid = (1..=128).contains(&id.len()) && id.bytes().all(safe);
        valid.then(|| Self(Bytes::copy_from_slice(id.as_bytes())))
    }

    /// A new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as the value of a header.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.0.clone())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Gives every request a [`CorrelationId`], in its extensions and as its only id header, and echoes
/// it on the response; see the [module docs](self).
#[derive(Clone, Copy, Debug)]
pub struct CorrelationLayer {
    trust: bool,
}

impl CorrelationLayer {
    /// Keeps valid ids of callers: of `x-correlation-id`, else of `x-request-id`.
    #[must_use]
    pub const fn new() -> Self {
        Self { trust: true }
    }

    /// Gives every request a new id.
    #[must_use]
    pub const fn untrusting() -> Self {
        Self { trust: false }
    }
}

impl Default for CorrelationLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CorrelationLayer {
    type Service = Correlation<S>;

    fn layer(&self, inner: S) -> Correlation<S> {
        Correlation {
            layer: *self,
            inner,
        }
    }
}

/// The service of [`CorrelationLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Correlation<S> {
    layer: CorrelationLayer,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Correlation<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let headers = request.headers_mut();
        let inbound = self.layer.trust.then(|| inbound(headers)).flatten();
        let id = inbound.unwrap_or_else(CorrelationId::generate);
        headers.remove(REQUEST_ID);
        headers.insert(CORRELATION_ID, id.header_value());
        request.extensions_mut().insert(id.clone());
        ResponseFuture {
            inner: self.inner.call(request),
            id,
        }
    }
}

/// The caller's id, if it sent exactly one that is valid.
fn inbound(headers: &HeaderMap) -> Option<CorrelationId> {
    let name = [CORRELATION_ID, REQUEST_ID]
        .into_iter()
        .find(|name| headers.contains_key(name))?;
    let mut values = headers.get_all(&name).iter();
    let value = values.next()?;
    let id = value.to_str().ok().and_then(CorrelationId::parse);
    if id.is_none() || values.any(|other| other != value) {
        tracing::debug!("the caller's correlation id is not usable");
        return None;
    }
    id
}

pin_project! {
    /// The future of [`Correlation`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        id: CorrelationId,
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let Ok(response) = &mut result {
            response
                .headers_mut()
                .insert(CORRELATION_ID, this.id.header_value());
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// The id that the request is seen with, and the one that is answered.
    async fn ids(layer: CorrelationLayer, headers: &[(HeaderName, &[u8])]) -> (String, String) {
        let mut request = Request::new(());
        for (name, value) in headers {
            request
                .headers_mut()
                .append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let service = layer.layer(service_fn(|request: Request<()>| async move {
            assert_eq!(request.headers().get_all(CORRELATION_ID).iter().count(), 1);
            assert!(!request.headers().contains_key(REQUEST_ID));
            Ok::<_, Infallible>(Response::new(request.headers()[CORRELATION_ID].clone()))
        }));
        let response = service.oneshot(request).await.unwrap();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        (
            text(response.body()),
            text(&response.headers()[CORRELATION_ID]),
        )
    }

    #[tokio::test]
    async fn fault_c1_a_request_without_an_id_gets_a_new_one() {
        let (seen, answered) = ids(CorrelationLayer::new(), &[]).await;
        assert_eq!(seen, answered);
        assert_eq!(Uuid::parse_str(&seen).unwrap().get_version_num(), 7);
        assert_ne!(seen, ids(CorrelationLayer::new(), &[]).await.0);
    }

    #[tokio::test]
    async fn fault_c2_c6_a_valid_id_is_kept_and_its_own_header_goes_first() {
        let both = [
            (REQUEST_ID, b"other".as_slice()),
            (CORRELATION_ID, b"order:7"),
        ];
        assert_eq!(ids(CorrelationLayer::new(), &both).await.0, "order:7");
        assert_eq!(ids(CorrelationLayer::new(), &both[..1]).await.0, "other");
    }

    #[tokio::test]
    async fn fault_c3_an_unusable_id_is_replaced() {
        let long = [b'a'; 129];
        let ids_of = |id| async move {
            ids(CorrelationLayer::new(), &[(CORRELATION_ID, id)])
                .await
                .0
        };
        for id in [
            &b""[..],
            &long,
            b"a b",
            b"<script>",
            b"%0d%0a",
            b"a\tb",
            b"\xff\xfe",
            b"\"",
            b"a,b",
        ] {
            assert!(Uuid::parse_str(&ids_of(id).await).is_ok(), "{id:?}");
        }
        assert_eq!(ids_of(&long[..128]).await.len(), 128);
    }

    #[tokio::test]
    async fn fault_c5_two_different_ids_are_replaced() {
        let two = [(CORRELATION_ID, b"a".as_slice()), (CORRELATION_ID, b"b")];
        assert!(Uuid::parse_str(&ids(CorrelationLayer::new(), &two).await.0).is_ok());
        let same = [(CORRELATION_ID, b"a".as_slice()), (CORRELATION_ID, b"a")];
        assert_eq!(ids(CorrelationLayer::new(), &same).await.0, "a");
    }

    #[tokio::test]
    async fn fault_c7_without_trust_every_id_is_new() {
        let valid = [(CORRELATION_ID, b"order-7".as_slice())];
        assert!(Uuid::parse_str(&ids(CorrelationLayer::untrusting(), &valid).await.0).is_ok());
    }

    proptest! {
        #[test]
        fn fault_c15_what_is_accepted_is_a_header_and_a_word(id in "\\PC{0,200}") {
            if let Some(accepted) = CorrelationId::parse(&id) {
                let header = accepted.header_value();
                prop_assert_eq!(header.to_str().unwrap(), &id);
                prop_assert!(id.len() <= 128 && !id.contains(|c: char| c.is_whitespace() || "\"'<>%\\".contains(c)));
            }
        }

        #[test]
        fn fault_c2_every_valid_id_is_kept(id in "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}") {
            let kept = CorrelationId::parse(&id).unwrap();
            prop_assert_eq!(kept.as_str(), id);
        }
    }
}

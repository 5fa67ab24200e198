//! The layer that assigns correlation ids.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderName, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_fanout_layers::config;

use super::{
    CORRELATION_ID, CorrelationId, REQUEST_ID, Replaced,
    inbound::{inbound, untrusted},
};

config! {
    /// Configuration of [`CorrelationLayer`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CorrelationConfig {
        /// Keeps valid ids of callers. If `false`, every request gets a new id, and the caller's id is
        /// added to the extensions as a [`ClientRequestId`](super::ClientRequestId) for the log. Defaults
        /// to `true`.
        pub trust: bool = true,
        /// Prefers `x-request-id` if a caller sends both headers. If `false`, `x-correlation-id` is
        /// preferred. Defaults to `false`.
        ///
        /// The other header is dropped without being read: if the preferred id is not valid, the request
        /// gets a new id.
        pub request_id_first: bool = false,
    }
}

/// Assigns a [`CorrelationId`] to every request, in its extensions and as its only id header, and
/// echoes the id on the response. See the [module docs](super).
#[derive(Clone, Copy, Debug, Default)]
pub struct CorrelationLayer {
    config: CorrelationConfig,
    on_replaced: Option<fn(Replaced)>,
}

impl CorrelationLayer {
    /// Creates a layer. Every config is valid.
    #[must_use]
    pub const fn new(config: CorrelationConfig) -> Self {
        Self {
            config,
            on_replaced: None,
        }
    }

    /// Calls `count` for each id of a caller that is replaced because it is not valid. No callback is
    /// set by default.
    ///
    /// The callback is not called if [`CorrelationConfig::trust`] is `false`: the ids of callers are
    /// then not validated.
    #[must_use]
    pub const fn on_replaced(mut self, count: fn(Replaced)) -> Self {
        self.on_replaced = Some(count);
        self
    }

    const fn precedence(self) -> [HeaderName; 2] {
        if self.config.request_id_first {
            [REQUEST_ID, CORRELATION_ID]
        } else {
            [CORRELATION_ID, REQUEST_ID]
        }
    }

    /// Returns the caller's id if it can be kept, and else a new one. An untrusted id is added to the
    /// extensions.
    fn identify<B>(self, request: &mut Request<B>) -> CorrelationId {
        let precedence = self.precedence();
        if !self.config.trust {
            if let Some(id) = untrusted(request.headers(), &precedence) {
                request.extensions_mut().insert(id);
            }
            return CorrelationId::generate();
        }
        match inbound(request.headers(), &precedence) {
            Some(Ok(id)) => return id,
            Some(Err(reason)) => self.replaced(reason),
            None => {}
        }
        CorrelationId::generate()
    }

    fn replaced(self, reason: Replaced) {
        tracing::debug!(reason = reason.as_str(), "caller's correlation id replaced");
        if let Some(count) = self.on_replaced {
            count(reason);
        }
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
        let id = self.layer.identify(&mut request);
        let headers = request.headers_mut();
        // Inner services and downstream calls must see only this id.
        headers.remove(REQUEST_ID);
        headers.insert(CORRELATION_ID, id.header_value());
        request.extensions_mut().insert(id.clone());
        ResponseFuture {
            inner: self.inner.call(request),
            id,
        }
    }
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
        // Also replaces an id that the inner service has set on the response.
        if let Ok(response) = &mut result {
            response
                .headers_mut()
                .insert(CORRELATION_ID, this.id.header_value());
        }
        Poll::Ready(result)
    }
}

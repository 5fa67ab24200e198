//! The layer that gives every request its id.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderName, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_fanout_layers::setters;

use super::{
    CORRELATION_ID, CorrelationId, REQUEST_ID, Replaced,
    inbound::{inbound, untrusted},
};

/// Which ids of callers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CorrelationConfig {
    /// Keeps valid ids of callers, as is the default. Otherwise every request gets a new id, and the
    /// caller's is in the extensions, as a [`ClientRequestId`](super::ClientRequestId) for the log.
    pub trust: bool,
    /// Prefers `x-request-id` where a caller sends both headers; by default `x-correlation-id` is
    /// preferred. The other one is dropped.
    pub request_id_first: bool,
}

setters! {
    CorrelationConfig {
        trust: bool,
        request_id_first: bool,
    }
}

impl Default for CorrelationConfig {
    fn default() -> Self {
        Self {
            trust: true,
            request_id_first: false,
        }
    }
}

/// Gives every request a [`CorrelationId`], in its extensions and as its only id header, and echoes
/// it on the response; see the [module docs](super).
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

    /// Calls `count` for each id that is replaced; nobody is told by default.
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

    /// The id of `request`: its own, if that can be kept.
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
        tracing::debug!(
            reason = reason.as_str(),
            "the caller's correlation id was replaced"
        );
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
        if let Ok(response) = &mut result {
            response
                .headers_mut()
                .insert(CORRELATION_ID, this.id.header_value());
        }
        Poll::Ready(result)
    }
}

//! The tracing span of a request.

use std::{
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Extensions, Request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field, instrument::Instrumented};

use super::LogValue;
use crate::{
    correlation::{ClientRequestId, CorrelationId},
    forwarded::{ClientAddr, PeerAddr},
    trace::TraceContext,
};

/// Creates a span for each request, so that all of its log lines have `correlation_id` and `trace_id`.
///
/// Apply it inside the layers that assign the ids. The span is called `request`. Its level is `ERROR`,
/// so that it is enabled whenever any line is logged. If logging is off, no span is created.
///
/// | field | value |
/// |---|---|
/// | `correlation_id` | the [`CorrelationId`] |
/// | `trace_id` | the trace id of the [`TraceContext`] |
/// | `client_request_id` | the [`ClientRequestId`], if the caller sent an id that is not trusted |
/// | `method`, `path` | method and path of the request, as [`LogValue`]s |
/// | `peer` | the [`PeerAddr`] |
/// | `client` | the [`ClientAddr`], if it differs from that of the peer |
///
/// A field whose value is not in the extensions of the request is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSpanLayer(());

impl RequestSpanLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for RequestSpanLayer {
    type Service = RequestSpan<S>;

    fn layer(&self, inner: S) -> RequestSpan<S> {
        RequestSpan { inner }
    }
}

/// The service of [`RequestSpanLayer`].
#[derive(Clone, Copy, Debug)]
pub struct RequestSpan<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for RequestSpan<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = span(&request);
        // The inner `call` may log before its future is polled.
        span.in_scope(|| self.inner.call(request)).instrument(span)
    }
}

pin_project! {
    /// A response body whose log lines also belong to the span of its request.
    ///
    /// The span otherwise ends when the response head is returned, before a streamed body is produced.
    /// [`RequestSpanLayer`] does not wrap bodies, so that it keeps the type of the response. Wrap a
    /// streamed body in your service, with `response.map(InstrumentedBody::current)`.
    #[derive(Debug)]
    pub struct InstrumentedBody<B> {
        #[pin]
        inner: B,
        span: Span,
    }
}

impl<B> InstrumentedBody<B> {
    /// Wraps `body` in the current span.
    #[must_use]
    pub fn current(body: B) -> Self {
        Self {
            inner: body,
            span: Span::current(),
        }
    }
}

impl<B: Body> Body for InstrumentedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        // Log lines of the body are written while it is polled.
        let _entered = this.span.enter();
        this.inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Creates the span with all fields at once, because a JSON formatter makes fields that are added later
/// costly.
fn span<B>(request: &Request<B>) -> Span {
    let extensions = request.extensions();
    tracing::error_span!(
        "request",
        correlation_id = extensions.get().map(CorrelationId::as_str),
        trace_id = extensions.get().map(|trace: &TraceContext| field::display(trace.trace_id())),
        client_request_id = extensions.get::<ClientRequestId>().map(field::display),
        method = %LogValue::new(request.method().as_str()),
        path = %LogValue::new(request.uri().path()),
        peer = extensions.get().map(|PeerAddr(peer)| field::display(peer)),
        client = client(extensions).map(field::display),
    )
}

/// Returns the client's address if it differs from the peer's.
fn client(extensions: &Extensions) -> Option<IpAddr> {
    let (PeerAddr(peer), ClientAddr(client)) = (extensions.get()?, extensions.get()?);
    (*client != peer.ip().to_canonical()).then_some(*client)
}

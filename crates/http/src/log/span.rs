//! The span of a request.

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

/// Puts each request into a span, so that all its log lines bear `correlation_id` and `trace_id`.
///
/// It goes below the layers that give the request its ids. The span is of the level `ERROR`, so that
/// it is there for each line that is logged at all; where nothing is, no span is made. It is called
/// `request`, and has beside the ids the method, the path and the address of the peer; `client` if
/// the peer is a proxy that is [believed](ClientAddr) to speak for another, and `client_request_id` if
/// the caller sent an id that is [not trusted](ClientRequestId).
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSpanLayer(());

impl RequestSpanLayer {
    /// The layer.
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
        span.in_scope(|| self.inner.call(request)).instrument(span)
    }
}

pin_project! {
    /// A body that is made while it is sent: what it logs meanwhile bears the ids of its request too.
    ///
    /// The span of a request ends for its answer with the head.
    #[derive(Debug)]
    pub struct InSpan<B> {
        #[pin]
        inner: B,
        span: Span,
    }
}

impl<B> InSpan<B> {
    /// `body`, in the span in which it is called for.
    #[must_use]
    pub fn current(body: B) -> Self {
        Self {
            inner: body,
            span: Span::current(),
        }
    }
}

impl<B: Body> Body for InSpan<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
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

/// All fields are there from the beginning: to add one later costs the JSON of a log more than a span.
fn span<B>(request: &Request<B>) -> Span {
    let facts = request.extensions();
    tracing::error_span!(
        "request",
        correlation_id = facts.get().map(CorrelationId::as_str),
        trace_id = facts.get().map(|trace: &TraceContext| field::display(trace.trace_id())),
        client_request_id = facts.get::<ClientRequestId>().map(field::display),
        method = %LogValue::new(request.method().as_str()),
        path = %LogValue::new(request.uri().path()),
        peer = facts.get().map(|PeerAddr(peer)| field::display(peer)),
        client = client(facts).map(field::display),
    )
}

/// Whom the peer speaks for, if it is not the client itself.
fn client(facts: &Extensions) -> Option<IpAddr> {
    let (PeerAddr(peer), ClientAddr(client)) = (facts.get()?, facts.get()?);
    (*client != peer.ip().to_canonical()).then_some(*client)
}

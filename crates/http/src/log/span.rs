//! The tracing span of a request.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use http::{Extensions, Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::{Instrument, Span, instrument::Instrumented};

use super::LogValue;
use crate::{
    correlation::{ClientRequestId, CorrelationId},
    forwarded::{ClientAddr, PeerAddr},
    trace::{TraceContext, TraceId},
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
        let span = RequestFields::of(&request).span();
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

/// The values of the fields of a request's span, for a program that writes them into log lines itself. A span costs more,
/// and most requests log nothing.
#[derive(Clone, Debug)]
pub struct RequestFields {
    correlation_id: Option<CorrelationId>,
    trace_id: Option<TraceId>,
    client_request_id: Option<ClientRequestId>,
    method: Method,
    uri: Uri,
    peer: Option<SocketAddr>,
    client: Option<IpAddr>,
}

impl RequestFields {
    /// Reads the values from the request, its extensions included. See [`RequestSpanLayer`].
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        Self {
            correlation_id: extensions.get().cloned(),
            trace_id: extensions.get().map(TraceContext::trace_id),
            client_request_id: extensions.get().cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            peer: extensions.get().map(|PeerAddr(peer)| *peer),
            client: client(extensions),
        }
    }

    /// Creates the span with all fields.
    fn span(&self) -> Span {
        tracing::error_span!(
            "request",
            correlation_id = self.correlation_id.as_ref().map(CorrelationId::as_str),
            trace_id = self.trace_id.map(display),
            client_request_id = self.client_request_id.as_ref().map(display),
            method = %self.method(),
            path = %self.path(),
            peer = self.peer.map(display),
            client = self.client.map(display),
        )
    }

    /// Passes the name and the value of each field to `visit`, in the order of the table.
    pub fn visit(&self, mut visit: impl FnMut(&'static str, &dyn fmt::Display)) {
        let optional: [(_, Option<&dyn fmt::Display>); 7] = [
            (
                "correlation_id",
                self.correlation_id.as_ref().map(|id| id as _),
            ),
            ("trace_id", self.trace_id.as_ref().map(|id| id as _)),
            (
                "client_request_id",
                self.client_request_id.as_ref().map(|id| id as _),
            ),
            ("method", Some(&self.method())),
            ("path", Some(&self.path())),
            ("peer", self.peer.as_ref().map(|peer| peer as _)),
            ("client", self.client.as_ref().map(|client| client as _)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                visit(name, value);
            }
        }
    }

    fn method(&self) -> LogValue<'_> {
        LogValue::new(self.method.as_str())
    }

    fn path(&self) -> LogValue<'_> {
        LogValue::new(self.uri.path())
    }
}

/// Returns the client's address if it differs from the peer's.
fn client(extensions: &Extensions) -> Option<IpAddr> {
    let (PeerAddr(peer), ClientAddr(client)) = (extensions.get()?, extensions.get()?);
    (*client != peer.ip().to_canonical()).then_some(*client)
}

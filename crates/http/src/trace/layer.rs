//! The layer that reads the trace context of requests.

use std::sync::Arc;

use http::Request;
use tower::Layer;

use super::{BAGGAGE, TRACEPARENT, TRACESTATE, TraceContext};
use crate::{
    headers::remove_all,
    service::{EditRequest, RequestEdit},
};

/// Adds a [`TraceContext`] to the extensions of every request and removes the headers it was read from.
/// See the [module docs](super).
///
/// This layer is not `tower_http::trace::TraceLayer`, which logs requests and responses.
///
/// No layer writes the headers of downstream requests. Call [`TraceContext::write`] when you build one.
#[derive(Clone, Debug, Default)]
pub struct TraceLayer {
    restart: bool,
    baggage: Option<Arc<[Box<str>]>>,
}

impl TraceLayer {
    /// Creates a layer that continues the traces of callers. No baggage is propagated.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues the traces of callers and propagates their baggage, which is the default.
    ///
    /// With `false` the layer starts a new trace for every request and propagates no baggage. Use it at
    /// the edge, where callers must not control sampling (Trace Context §3.4, restart trace).
    #[must_use]
    pub const fn trust(mut self, trust: bool) -> Self {
        self.restart = !trust;
        self
    }

    /// Propagates the baggage members with these keys, if callers are [trusted](Self::trust).
    #[must_use]
    pub fn baggage(mut self, keys: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.baggage = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    fn context<B>(&self, request: &Request<B>) -> TraceContext {
        if self.restart {
            return TraceContext::generate();
        }
        let context = TraceContext::read(request.headers());
        match &self.baggage {
            Some(keys) => context.with_baggage(request.headers(), keys),
            None => context,
        }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = EditRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        EditRequest { layer, inner }
    }
}

impl<B> RequestEdit<Request<B>> for TraceLayer {
    fn edit(&self, request: &mut Request<B>) {
        let context = self.context(request);
        let headers = request.headers_mut();
        // Downstream calls get these headers from the context, with a new parent id.
        remove_all(headers, &[TRACEPARENT, TRACESTATE, BAGGAGE]);
        request.extensions_mut().insert(context);
    }
}

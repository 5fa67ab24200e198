//! The layer that finds a request's place in its trace.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use tower::{Layer, Service};

use super::{BAGGAGE, TRACEPARENT, TRACESTATE, TraceContext};

/// Puts a [`TraceContext`] into the extensions of every request, in place of the headers; see the
/// [module docs](super).
#[derive(Clone, Debug)]
pub struct TraceLayer {
    trust: bool,
    baggage: Option<Arc<[Box<str>]>>,
}

impl TraceLayer {
    /// Goes on with the traces of callers. None of their baggage is sent on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            trust: true,
            baggage: None,
        }
    }

    /// Begins a new trace with every request: at the edge, where callers are not to choose what is
    /// recorded (Trace Context §3.4, restart trace). Nor is any baggage of theirs sent on.
    #[must_use]
    pub const fn untrusting() -> Self {
        Self {
            trust: false,
            baggage: None,
        }
    }

    /// Sends on the baggage of callers with these keys, if they are trusted.
    #[must_use]
    pub fn baggage(mut self, keys: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.baggage = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    fn context<B>(&self, request: &Request<B>) -> TraceContext {
        if !self.trust {
            return TraceContext::generate();
        }
        let context = TraceContext::read(request.headers());
        match &self.baggage {
            Some(keys) => context.with_baggage(request.headers(), keys),
            None => context,
        }
    }
}

impl Default for TraceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    layer: TraceLayer,
    inner: S,
}

impl<S, B> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let context = self.layer.context(&request);
        let headers = request.headers_mut();
        for name in [TRACEPARENT, TRACESTATE, BAGGAGE] {
            headers.remove(name);
        }
        request.extensions_mut().insert(context);
        self.inner.call(request)
    }
}

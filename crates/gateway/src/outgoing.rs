//! Requests to downstreams.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use tower_fanout::layers::{CallContext, WithCall};
use tower_fanout_http::{
    correlation::{CORRELATION_ID, CorrelationId},
    forward::{ForwardHeaders, HopCount},
    forwarded::Peer,
    trace::TraceContext,
};

use crate::call_keys::FallbackKeys;

/// The parts of a caller's request that requests to downstreams take over.
pub(crate) struct Caller {
    /// Correlation id.
    pub(crate) correlation_id: CorrelationId,
    /// Trace context.
    pub(crate) trace: TraceContext,
    /// Number of gateways that the request has passed through.
    pub(crate) hops: HopCount,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// The peer of the connection. `None` for a hypothetical request.
    pub(crate) peer: Option<Peer>,
}

/// A request to a downstream or its fallback, with the metadata of the call.
pub(crate) type DownstreamRequest = WithCall<Outgoing>;

/// A request to a downstream or its fallback. Its parts are shared by all attempts, so that it costs little to move
/// and to clone.
#[derive(Clone)]
pub(crate) struct Outgoing {
    request: Arc<Request<Bytes>>,
    caller: Arc<Caller>,
    /// The keys of the call at the services that answer as fallbacks.
    pub(crate) fallback_keys: Option<FallbackKeys>,
}

impl Outgoing {
    /// Creates the call of `request` on behalf of `caller`.
    pub(crate) fn call(request: Arc<Request<Bytes>>, caller: Arc<Caller>) -> DownstreamRequest {
        // Not that of the `Arc`, which is not idempotent.
        let is_idempotent = CallContext::is_idempotent(&*request);
        let call = WithCall::new(Self {
            request,
            caller,
            fallback_keys: None,
        });
        if is_idempotent {
            call.idempotent()
        } else {
            call
        }
    }

    /// Returns the request as one attempt sends it to a service that may receive the headers `allowed` of the caller.
    pub(crate) fn attempt(&self, allowed: &ForwardHeaders) -> Request<Bytes> {
        // The headers that are added here and by the client.
        const ADDED: usize = 7;
        let (own, caller) = (&self.request, &*self.caller);
        let mut headers = HeaderMap::with_capacity(own.headers().len() + ADDED);
        for (name, value) in own.headers() {
            headers.append(name, value.clone());
        }
        // Added after those of the template, which cannot replace them.
        headers.insert(CORRELATION_ID, caller.correlation_id.header_value());
        caller.trace.write(&mut headers);
        caller.hops.write(&mut headers);
        allowed.copy(&caller.headers, caller.peer.as_ref(), &mut headers);
        let mut request = Request::new(own.body().clone());
        *request.method_mut() = own.method().clone();
        *request.uri_mut() = own.uri().clone();
        *request.headers_mut() = headers;
        request
    }
}

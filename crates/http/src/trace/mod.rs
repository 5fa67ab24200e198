//! Propagation of trace context, from the caller to every attempt of every downstream call.
//!
//! This module only propagates: it exports no spans and makes no sampling decision. The
//! [`TraceLayer`] is not that of `tower_http`, which logs requests.
//!
//! Implements W3C [Trace Context Level 2](https://www.w3.org/TR/trace-context-2/) and
//! [Baggage](https://www.w3.org/TR/baggage/). A request whose `traceparent` is missing or invalid
//! starts a new trace, and its `tracestate` is ignored. No value of these headers makes a request fail.
//! Baggage is propagated only for allowed keys, by default for none.
//!
//! ```
//! use std::convert::Infallible;
//! use http::{HeaderMap, Request};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_http::trace::{TRACEPARENT, TraceContext, TraceLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = TraceLayer::new().layer(service_fn(|request: Request<()>| async move {
//!     let trace: &TraceContext = request.extensions().get().unwrap();
//!     let mut sent = HeaderMap::new();
//!     trace.write(&mut sent);
//!     Ok::<_, Infallible>(sent)
//! }));
//! let inbound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
//! let request = Request::builder().header(TRACEPARENT, inbound).body(()).unwrap();
//! let sent = service.oneshot(request).await.unwrap();
//! let sent = sent[TRACEPARENT].to_str().unwrap();
//! assert_eq!(sent[..35], inbound[..35], "the same trace");
//! assert_ne!(sent[36..52], inbound[36..52], "but a new parent id");
//! # }
//! ```
//!
//! Call [`TraceContext::write`] for each downstream call, as above. Each call gets a new parent id. With
//! [`attempt_headers`](crate::attempt_headers) each attempt of a call gets its own.

mod baggage;
mod layer;
mod traceparent;
mod tracestate;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::remove_all;

pub use self::{
    layer::TraceLayer,
    traceparent::{Flags, ParentId, TraceId, Traceparent},
    tracestate::Tracestate,
};

/// `traceparent`: the header with the trace id, the parent id and the trace flags.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`: the header with vendor-specific trace data.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `baggage`: the header with application-defined properties.
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The trace context of a request, and the baggage to propagate. `Debug` shows no baggage.
#[derive(Clone)]
pub struct TraceContext {
    trace_id: TraceId,
    parent_id: Option<ParentId>,
    flags: Flags,
    tracestate: Option<Tracestate>,
    baggage: Option<HeaderValue>,
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext")
            .field("trace_id", &self.trace_id)
            .field("parent_id", &self.parent_id)
            .field("flags", &self.flags)
            .field("tracestate", &self.tracestate)
            .finish_non_exhaustive()
    }
}

impl TraceContext {
    /// Creates the context of a new trace. The context has no parent id. The flag `sampled` is never set,
    /// because this crate makes no sampling decision. Only a context from a caller can have it.
    #[must_use]
    pub fn generate() -> Self {
        let Traceparent {
            trace_id, flags, ..
        } = Traceparent::generate();
        Self {
            trace_id,
            parent_id: None,
            flags,
            tracestate: None,
            baggage: None,
        }
    }

    /// Reads `traceparent` and `tracestate`, but not the baggage. Starts a new trace if `traceparent`
    /// is missing, invalid or repeated.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let (first, second) = (lines.next(), lines.next());
        let only = first.filter(|_| second.is_none());
        let Some(parent) = only.and_then(|value| Traceparent::parse(value.as_bytes())) else {
            return Self::generate();
        };
        Self {
            trace_id: parent.trace_id,
            parent_id: Some(parent.parent_id),
            flags: parent.flags,
            tracestate: Tracestate::parse(headers.get_all(TRACESTATE)),
            baggage: None,
        }
    }

    /// Adds the members of the caller's baggage whose keys are in `keys`. Baggage of more than
    /// 8192 bytes or 64 members is dropped as a whole. Invalid members are omitted.
    #[must_use]
    pub fn with_baggage(mut self, headers: &HeaderMap, keys: &[Box<str>]) -> Self {
        self.baggage = baggage::filter(&headers.get_all(BAGGAGE), keys);
        self
    }

    /// Returns the trace id.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Returns the parent id from the caller, or `None` if the trace starts here.
    #[must_use]
    pub const fn parent_id(&self) -> Option<ParentId> {
        self.parent_id
    }

    /// Returns the trace flags.
    #[must_use]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// Returns the vendor-specific trace data, or `None` if the request has none.
    #[must_use]
    pub const fn tracestate(&self) -> Option<&Tracestate> {
        self.tracestate.as_ref()
    }

    /// Returns the caller's baggage to propagate, or `None` if no member is allowed.
    #[must_use]
    pub const fn baggage(&self) -> Option<&HeaderValue> {
        self.baggage.as_ref()
    }

    /// Writes the three headers of a downstream call, with a new parent id. A header without a value is
    /// removed.
    pub fn write(&self, headers: &mut HeaderMap) {
        let parent = Traceparent {
            trace_id: self.trace_id,
            parent_id: ParentId::generate(),
            flags: self.flags,
        };
        headers.insert(TRACEPARENT, parent.header_value());
        remove_all(headers, &[TRACESTATE, BAGGAGE]);
        let tracestate = self.tracestate.as_ref().map(Tracestate::header_value);
        for (name, value) in [(TRACESTATE, tracestate), (BAGGAGE, self.baggage.as_ref())] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;

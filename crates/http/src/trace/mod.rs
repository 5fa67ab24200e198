//! Keep a request's place in its trace, from the caller to every attempt of every call it makes.
//!
//! W3C [Trace Context Level 2](https://www.w3.org/TR/trace-context-2/) and
//! [Baggage](https://www.w3.org/TR/baggage/). A request whose `traceparent` is missing or invalid
//! begins a new trace, and its `tracestate` is ignored; nothing that a caller sends here is ever an
//! error. Baggage goes on only as far as its keys are allowed: by default not at all.
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
//! assert_ne!(sent[36..52], inbound[36..52], "but a parent of its own");
//! # }
//! ```
//!
//! Each call is sent with a parent id of its own, and so is each attempt of it: the
//! [stamp](crate::attempt_headers) gives attempts theirs.

mod baggage;
mod layer;
mod traceparent;
mod tracestate;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::{
    layer::{Trace, TraceLayer},
    traceparent::{Flags, ParentId, TraceId, Traceparent},
    tracestate::Tracestate,
};

/// The header of the trace and the parent.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header of what tracing systems tell each other.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The header of what callers want to be known along the way.
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Where a request stands in its trace, and what goes on along it. Its `Debug` has no baggage.
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
    /// A new trace, which begins here.
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

    /// What the caller says in its headers, without its baggage; a new trace if that is nothing, or
    /// not valid.
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

    /// With the members of the caller's baggage that have these keys. More than 8192 bytes or 64
    /// members are dropped whole, and members that are not valid are left out.
    #[must_use]
    pub fn with_baggage(mut self, headers: &HeaderMap, keys: &[Box<str>]) -> Self {
        self.baggage = baggage::pick(&headers.get_all(BAGGAGE), keys);
        self
    }

    /// With what else is told along the trace.
    #[must_use]
    pub fn with_tracestate(mut self, tracestate: Option<Tracestate>) -> Self {
        self.tracestate = tracestate;
        self
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The request of the caller, if it named one.
    #[must_use]
    pub const fn parent_id(&self) -> Option<ParentId> {
        self.parent_id
    }

    /// What is said of the trace.
    #[must_use]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// What tracing systems tell each other.
    #[must_use]
    pub const fn tracestate(&self) -> Option<&Tracestate> {
        self.tracestate.as_ref()
    }

    /// The caller's baggage that goes on.
    #[must_use]
    pub const fn baggage(&self) -> Option<&HeaderValue> {
        self.baggage.as_ref()
    }

    /// Writes all of it into the headers of a call that this request makes, with a new parent id.
    pub fn write(&self, headers: &mut HeaderMap) {
        let parent = Traceparent {
            trace_id: self.trace_id,
            parent_id: ParentId::generate(),
            flags: self.flags,
        };
        headers.insert(TRACEPARENT, parent.header_value());
        let tracestate = self.tracestate.as_ref().map(Tracestate::header_value);
        for (name, value) in [(TRACESTATE, tracestate), (BAGGAGE, self.baggage.as_ref())] {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
    }
}

#[cfg(test)]
mod tests;

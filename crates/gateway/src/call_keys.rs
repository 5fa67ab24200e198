//! The keys of the calls of a node, by which downstreams keep separate limits and circuit breakers.

use std::sync::Arc;

use tower_fanout::layers::{CallContext, CallKey};

use crate::{backend::Backend, inbound::Inbound, outgoing::DownstreamRequest};

/// The downstreams that a node calls: its own and those of its fallbacks. Each has keys of its own.
pub(crate) struct CallKeys {
    own: Arc<Backend>,
    /// The downstreams of fallbacks that have keys.
    fallbacks: Vec<Arc<Backend>>,
}

impl CallKeys {
    /// Creates the keys of a node that calls `own`, and `fallbacks` after a failure.
    #[must_use]
    pub(crate) fn new(own: Arc<Backend>, fallbacks: impl Iterator<Item = Arc<Backend>>) -> Self {
        let fallbacks = fallbacks.filter(|other| other.key.is_some()).collect();
        Self { own, fallbacks }
    }

    /// Adds the keys for `inbound` to a request for the downstream of the node.
    pub(crate) fn add(
        &self,
        mut request: DownstreamRequest,
        inbound: &Inbound,
    ) -> DownstreamRequest {
        // Allocates nothing without keys.
        if !self.fallbacks.is_empty() {
            let others = self.fallbacks.iter();
            let keys = others.map(|other| (Arc::clone(other), other.call_key(inbound)));
            request.get_mut().fallback_keys = Some(FallbackKeys(keys.collect()));
        }
        match self.own.call_key(inbound) {
            Some(key) => request.key(key),
            None => request,
        }
    }
}

/// The keys of a call at its fallback services.
#[derive(Clone)]
pub(crate) struct FallbackKeys(Arc<[(Arc<Backend>, Option<CallKey>)]>);

/// Replaces the key of `request`, which is that of the node, by the key at the fallback service `backend`.
pub(crate) fn use_key_of(backend: &Arc<Backend>, request: &mut DownstreamRequest) {
    if backend.key.is_none() {
        return;
    }
    let keys = &request.get().fallback_keys;
    let mut keys = keys.iter().flat_map(|keys| keys.0.iter());
    let own = keys.find(|(other, _)| Arc::ptr_eq(other, backend));
    let key = own.and_then(|(_, key)| key.clone());
    if let Some(call) = request.call_mut() {
        call.key = key;
    }
}

//! Rules for forwarding headers to the next server.
//!
//! - [`strip`] removes hop-by-hop headers, in either direction.
//! - [`ForwardHeaders`] is the allow list of caller headers for a service. It is empty by default.
//! - [`LoopDetectionLayer`] refuses a request that has passed too many gateways, counted by [`HopCount`].

mod headers;
mod hop_by_hop;
mod hop_count;

pub use self::{
    headers::{ForwardConfig, ForwardHeaders, is_managed},
    hop_by_hop::strip,
    hop_count::{HOP_COUNT, HopCount, LoopDetection, LoopDetectionLayer, MAX_HOPS},
};

//! What of a message goes on to the next server, and what belongs to one connection only.
//!
//! - [`strip`] takes out the headers of one connection, in either direction.
//! - [`ForwardHeaders`] lists the headers of a caller that a service may see; there are none by default.
//! - [`LoopDetectionLayer`] turns away a request that has come through too often, and [`HopCount`] counts.

mod headers;
mod hop_by_hop;
mod hop_count;

pub use self::{
    headers::{ForwardConfig, ForwardHeaders, is_managed},
    hop_by_hop::strip,
    hop_count::{HOP_COUNT, HopCount, LoopDetection, LoopDetectionLayer, MAX_HOPS},
};

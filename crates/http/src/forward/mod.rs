//! What of a message goes on to the next server, and what belongs to one connection only.
//!
//! - [`strip`] takes out the headers of one connection, in either direction.
//! - [`ForwardHeaders`] lists the headers of a caller that a service may see; there are none by default.
//! - [`LoopLayer`] turns away a request that has come through too often, and [`Depth`] counts.

mod depth;
mod headers;
mod hop_by_hop;

pub use self::{
    depth::{DEPTH, Depth, LoopGuard, LoopLayer, MAX_DEPTH},
    headers::{ForwardConfig, ForwardHeaders, is_managed},
    hop_by_hop::strip,
};

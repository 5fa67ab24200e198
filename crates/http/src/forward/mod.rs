//! Rules for forwarding headers to the next server. For the client address in `X-Forwarded-For`, see
//! [`forwarded`](crate::forwarded).
//!
//! Only [`LoopDetectionLayer`] is a layer. Call [`ForwardHeaders::copy`] and [`HopCount::write`]
//! yourself when you build a request to a downstream. The module `client` calls [`strip`]; call it
//! yourself if you send with another client. The docs of that module have a complete example.
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
    hop_count::{HOP_COUNT, HopCount, LoopDetectionLayer, MAX_HOPS},
};
#[cfg(feature = "jwt")]
pub(crate) use self::{
    headers::{is_credential, is_per_message},
    hop_by_hop::set,
};

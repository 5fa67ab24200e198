//! Break calls on purpose, innermost of all, to see what the layers above make of it.
//!
//! Each attempt draws once per [`Rule`], in this order whatever the order of the rules: an error,
//! which saves the wait; a hang or a latency; a made-up answer. What is injected is classified as
//! if it were real, and is told by [`Event::Chaos`](crate::Event::Chaos). A call that is dropped
//! before its first poll has drawn nothing.
//!
//! It needs the feature `chaos` *and* [`enabled`](ChaosSettings::enabled).

mod future;
mod layer;
mod settings;

pub use self::{
    future::ResponseFuture,
    layer::{Chaos, ChaosHandle, ChaosLayer},
    settings::{ChaosPolicy, ChaosSettings, Injection, Rule},
};

//! Answer from somewhere else when the call failed.
//!
//! A chain of steps is tried in order: a fixed answer, the last good one, a function, another
//! service. The first one that [is for the failure](FallbackLayer::on) *and succeeds* wins. If none
//! does, the call ends with its original failure, never with one of a fallback; of those
//! [`Event::FallbackFailed`] tells. What the layers below saw is not changed by it: the breaker has
//! recorded the failure.
//!
//! | the call ended with | fixed answer, last good one | function, service |
//! |---|---|---|
//! | failure, 408, 425, 429, 501, 505, a local refusal | yes | yes, if there is time |
//! | the deadline passed | yes | if some of it was [kept back](FallbackLayer::reserve) |
//! | another 4xx | only if its status is [listed](FallbackLayer::on_status) | likewise |
//!
//! A panic of the call is a failure too, and goes on if no step succeeds.
//!
//! A call may say in its [`Call`](crate::Call) that it wants no fallback.
//!
//! [`Event::FallbackFailed`]: crate::Event::FallbackFailed

mod chain;
mod future;
mod layer;
mod outcomes;
mod stale;

pub use self::{
    future::ResponseFuture,
    layer::{Fallback, FallbackLayer},
    outcomes::OutcomeSet,
    stale::{MemoryStore, StaleStore},
};

//! Ask a second time when the first answer is late, and take whichever comes first.
//!
//! Only requests that may be sent twice are hedged. After the [delay](HedgeDelay) without an answer,
//! or as soon as an attempt fails in a way that is worth another try, a further attempt is sent
//! beside the ones that run. The first success wins and the others are dropped, which is nobody's
//! failure ([`Cause::HedgeLost`]); an answer that would be the same again ([`Class::NonRetryable`], say)
//! ends the call too. If all fail, the call ends
//! with the failure of the *first* attempt.
//!
//! A hedge is paid for from a [budget](crate::retry::Budget), as a retry is, so that hedges add at
//! most its share to the load. When it is empty, when the breaker that is
//! [asked](HedgeLayer::breaker) is open, when a service asks to be left alone (`Retry-After`) or
//! when too little time is left, no further attempt is sent and the ones that run are awaited. A
//! hedge that a layer below refuses is forgotten and costs nothing; a first attempt that is refused
//! leaves the call to the hedges that run.
//!
//! Tail latency and its cure: Dean and Barroso, [The Tail at Scale], 2013.
//!
//! [`Cause::HedgeLost`]: crate::Cause::HedgeLost
//! [`Class::NonRetryable`]: crate::Class::NonRetryable
//! [The Tail at Scale]: https://research.google/pubs/the-tail-at-scale/

mod config;
mod future;
mod layer;
mod service;

pub use self::{
    config::{HedgeConfig, HedgeDelay, Quantile},
    future::ResponseFuture,
    layer::HedgeLayer,
    service::Hedge,
};

//! A layer that sends further attempts while the response is late, and takes the first success.
//!
//! By default, at most one further attempt is sent ([`max_hedges`](field@HedgeConfig::max_hedges)). Only
//! idempotent requests are hedged. Another attempt starts beside the running ones after the
//! [delay](HedgeDelay) without a response, or as soon as an attempt fails with a result in
//! [`hedge_on`](HedgeConfig::hedge_on). The first success wins. The other attempts are dropped
//! ([`Cause::HedgeLost`]), which a breaker counts as a failure only after
//! [`unanswered`](field@crate::BreakerConfig::unanswered). A result that another attempt would only repeat, such
//! as [`Class::NonRetryable`], ends the call too. If all attempts fail, the call ends with the failure of
//! the *first* attempt.
//!
//! Each hedge is paid from a [budget](crate::retry::Budget), as a retry is, so hedges add at most the
//! budget's share and its floor to the load. In these cases no further attempt is sent, and the running
//! ones are awaited:
//!
//! - All hedges of the [configuration](field@HedgeConfig::max_hedges) or of the call are used up.
//! - The budget is empty, or the [allowance](crate::RetryAllowance) of the request is used up.
//! - The request body cannot be sent again.
//! - The [breaker](HedgeLayer::breaker) is open.
//! - A response requested a pause (`Retry-After`).
//! - Too little time is left before the deadline.
//!
//! If a layer below rejects a hedge, the hedge costs nothing and does not count. If a layer below rejects
//! the first attempt, the running hedges decide the result of the call.
//!
//! Background on tail latency and hedging: Dean and Barroso, [The Tail at Scale], 2013.
//!
//! [`Cause::HedgeLost`]: crate::Cause::HedgeLost
//! [`Class::NonRetryable`]: crate::Class::NonRetryable
//! [The Tail at Scale]: https://research.google/pubs/the-tail-at-scale/

mod config;
mod future;
mod layer;

pub use self::{
    config::{HedgeConfig, HedgeDelay, Quantile},
    future::ResponseFuture,
    layer::{Hedge, HedgeLayer},
};

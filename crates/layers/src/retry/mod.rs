//! Try again, but not too soon, not too often, and not when it is in vain.
//!
//! | result | request idempotent | not idempotent |
//! |---|---|---|
//! | nothing was sent ([`Failure::Connect`], [`Failure::NotProcessed`], [`Rejection::NoEndpoint`]) | again | again |
//! | 408, 425, 500, 502, 504, reset, broken body, attempt timeout | again | no |
//! | 429, 503 | again, if the pause it asks for fits | no, unless [it is said](RetryConfig::retry_503_unsafe) |
//! | anything else | no | no |
//!
//! After a result that is retried, these rules are asked in turn: are the attempts used up, has the
//! request as a whole used up its retries, is the budget empty, could the next attempt still be
//! made before the deadline? The first that says no ends the call *at once*, with the last real
//! failure and never with an error about retrying. See [`RetryStopReason`](crate::event::RetryStopReason). So
//! does a layer below that refuses an attempt after the first before it is sent (an open breaker, a
//! full limit): the call ends with the error of the attempt before. Only where that attempt's result
//! was a response is it the refusal, since the response is dropped before the next attempt is made.
//!
//! A request that was certainly not taken ([`Failure::NotProcessed`]) is sent again at once and for free,
//! the first time in a call, if there is time for it: it has cost the service nothing. A service that
//! fails to become ready for an attempt has failed in that attempt.
//!
//! The pause before attempt *n + 1* is `min(cap, base · multiplier^(n−1))`, spread evenly over
//! (0, *d*] by default ("full jitter", [AWS Architecture Blog 2015]). A `Retry-After` is a floor:
//! the next attempt never comes earlier than asked.
//!
//! [`Failure::Connect`]: crate::Failure::Connect
//! [`Failure::NotProcessed`]: crate::Failure::NotProcessed
//! [`Rejection::NoEndpoint`]: crate::Rejection::NoEndpoint
//! [AWS Architecture Blog 2015]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

mod backoff;
mod budget;
mod config;
mod decide;
mod future;
mod layer;
mod service;
mod tokens;

pub(crate) use self::budget::{Reserved, Spent};
pub use self::{
    backoff::Jitter,
    budget::{Budget, BudgetConfig},
    config::{RetryConfig, RetryOn},
    future::ResponseFuture,
    layer::RetryLayer,
    service::Retry,
};

//! A layer that retries failed calls, with backoff, jitter and a budget.
//!
//! | result | idempotent request | other request |
//! |---|---|---|
//! | nothing was sent ([`Failure::Connect`], [`Failure::NotProcessed`], [`Rejection::NoEndpoint`]) | retried | retried |
//! | 408, 425, 500, 502, 504, connection reset, truncated body, attempt timeout, [`Failure::Other`] | retried | not retried |
//! | 429, 503 | retried if the requested pause fits | not retried, unless [configured](RetryConfig::retry_503_unsafe) |
//! | any other result | not retried | not retried |
//!
//! These are the defaults. [`RetryConfig::retry_on`] selects other results.
//!
//! A result that may be retried passes these checks, in this order:
//!
//! 1. The call has attempts left.
//! 2. The request body can be sent again.
//! 3. The request as a whole has retries left.
//! 4. The retry budget is not empty.
//! 5. The `Retry-After` of the response is not too long.
//! 6. The next attempt can still be useful before the deadline.
//!
//! The first check that fails ends the call *at once*. The call then returns the last real failure, never
//! an error about retrying. [`RetryStopReason`](crate::event::RetryStopReason) names the check.
//!
//! A layer below can also reject an attempt after the first before it is sent: a breaker that is open
//! or a limit that is full. The call then ends with the error of the previous attempt. If the previous
//! attempt ended with a response, the call returns the rejection instead, because a response is dropped
//! before the next attempt starts.
//!
//! The first [`Failure::NotProcessed`] of a call is retried at once and without cost, if there is time
//! for another attempt: the request has cost the service nothing. If the service fails to become ready
//! for an attempt, that attempt has failed.
//!
//! The pause before attempt *n + 1* is `d = min(cap, base · multiplier^(n−1))`, spread evenly over
//! (0, *d*] by default ("full jitter", [AWS Architecture Blog 2015]). A `Retry-After` is a lower bound:
//! the next attempt never starts earlier than the service requested.
//!
//! [`Failure::Connect`]: crate::Failure::Connect
//! [`Failure::Other`]: crate::Failure::Other
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

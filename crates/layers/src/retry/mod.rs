//! A layer that retries failed calls, with backoff, jitter and a budget.
//!
//! | result | idempotent request | other request |
//! |---|---|---|
//! | nothing was sent ([`Failure::Connect`], [`Failure::NotProcessed`], [`Rejection::NoEndpoint`]) | retried | retried |
//! | 408, 425, 500, 502, 504, connection reset, truncated body, attempt timeout, [`Failure::Other`] | retried | not retried |
//! | 429 | retried if the requested pause fits | not retried, unless [`retry_429_unsafe`] is set |
//! | 503 | retried if the requested pause fits | not retried, unless [`retry_503_unsafe`] is set |
//! | any other result | not retried | not retried |
//!
//! These are the defaults. [`RetryOn`] selects other results. A 429 or 503 without `Retry-After` has the
//! usual pause.
//!
//! A result passes these checks, in this order. [`RetryStopReason`](crate::event::RetryStopReason) names
//! the check that failed:
//!
//! | check | reason if it fails |
//! |---|---|
//! | 1. The table above says that the result is retried. | `NotRetryable` |
//! | 2. The call has attempts left. | `Attempts` |
//! | 3. The request body can be sent again. | `Body` |
//! | 4. The request as a whole has retries left. | `RequestAllowance` |
//! | 5. The retry budget is not empty. | `Budget` |
//! | 6. The `Retry-After` of the response is not too long. | `RetryAfter` |
//! | 7. The next attempt can still be useful before the deadline. | `Deadline` |
//! | 8. After the pause, the [breaker below](RetryLayer::breaker) would admit a call. | `BreakerOpen` |
//!
//! The first check that fails ends the call *at once*. The call then returns the result of its last
//! attempt. The retry layer creates no error of its own.
//!
//! A layer below can also reject an attempt after the first before it is sent: a breaker that is open
//! or a limit that is full. The reason is then `BreakerOpen` for an open circuit, `Deadline` for
//! [`Rejection::DeadlineBeforeSend`], and `Rejected` for all others. The call then returns the result of the
//! previous attempt, be it an error or a response. A response is therefore kept until the next attempt has
//! ended, unless [`RetryLayer::release_responses`] is set.
//!
//! The first [`Failure::NotProcessed`] of a call is retried at once and without cost, because the request
//! has cost the service nothing. Checks 2, 3 and 7 hold for this retry too, so it counts as one of the
//! [`max_attempts`](field@RetryConfig::max_attempts). If the service fails to become ready for an attempt,
//! that attempt has failed.
//!
//! The pause before attempt *n + 1* is `d = min(cap, base · multiplier^(n−1))`, spread evenly over
//! (0, *d*] by default ("full jitter", [AWS Architecture Blog 2015]). A `Retry-After` is a lower bound:
//! the next attempt never starts earlier than the service requested.
//!
//! [`Failure::Connect`]: crate::Failure::Connect
//! [`Failure::Other`]: crate::Failure::Other
//! [`Failure::NotProcessed`]: crate::Failure::NotProcessed
//! [`Rejection::NoEndpoint`]: crate::Rejection::NoEndpoint
//! [`Rejection::DeadlineBeforeSend`]: crate::Rejection::DeadlineBeforeSend
//! [`retry_429_unsafe`]: field@RetryConfig::retry_429_unsafe
//! [`retry_503_unsafe`]: field@RetryConfig::retry_503_unsafe
//! [AWS Architecture Blog 2015]: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

mod backoff;
mod budget;
mod config;
mod decide;
mod future;
mod layer;
mod tokens;

pub(crate) use self::budget::{Reserved, Spent};
pub use self::{
    backoff::Jitter,
    budget::{Budget, BudgetConfig},
    config::{RetryConfig, RetryOn},
    future::ResponseFuture,
    layer::{Retry, RetryLayer},
};

//! End a call in time: one attempt, or the whole call.
//!
//! [`TimeoutLayer`] bounds one attempt and goes *below* everything that waits for a turn, so that
//! queueing is not blamed on the service. [`DeadlineLayer`] gives the whole call one absolute
//! deadline, which every layer below spends from, and goes *above* retries.
//!
//! Which of the two ended a call matters: [`Rejection::AttemptTimeout`] is a failure of the service
//! and may be retried, [`Rejection::Deadline`] is nobody's failure and is final. An answer that is
//! ready in the same poll as the timer wins.
//!
//! The body of an answer that is streamed has limits of its own, those of `BodyTimeoutLayer`
//! (feature `http`). While an attempt waits for the caller to go on with the request's body, its
//! time does not run; it begins anew when the caller has gone on. An [`UploadLayer`](crate::upload)
//! tells. Of a body that is there, or that the service does not read, nothing is excused.
//!
//! [`Rejection::AttemptTimeout`]: crate::Rejection::AttemptTimeout
//! [`Rejection::Deadline`]: crate::Rejection::Deadline

mod attempt;
#[cfg(feature = "http")]
mod body;
mod future;
mod whole;

use std::time::Duration;

#[cfg(feature = "http")]
pub use self::body::{BodyResponseFuture, BodyTimeout, BodyTimeoutLayer, TimedBody};
pub use self::{
    attempt::{Timeout, TimeoutConfig, TimeoutLayer},
    future::ResponseFuture,
    whole::{DeadlineConfig, DeadlineLayer, WithDeadline},
};

/// The least time with which a call is still worth sending, 10 ms by default.
pub(crate) const MIN_USEFUL: Duration = Duration::from_millis(10);

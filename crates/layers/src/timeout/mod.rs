//! Layers that limit the duration of an attempt or a call.
//!
//! [`TimeoutLayer`] limits one attempt. Its timer starts when the service below is ready and is called. So
//! the wait for a tower service that queues by its readiness, such as a `Buffer`, does not count as time of
//! the service. Put the layer *below* every other layer that queues calls. [`DeadlineLayer`] gives the whole call one absolute
//! deadline, which all layers below share. Put it *above* the retry.
//!
//! The error says which of the two ended the call. [`Rejection::AttemptTimeout`] is a failure of the
//! service and may be retried. [`Rejection::Deadline`] is not a failure of the service, and is final. If
//! the response and the timer are ready in the same poll, the response wins.
//!
//! The body of a streamed response has limits of its own, set by `BodyTimeoutLayer` (feature `http`).
//!
//! While an attempt waits for the caller to send more of the request body, the attempt timeout does not
//! run. When the caller continues, the timeout does not resume, but restarts: the service has the whole
//! timeout from the end of the last wait. An [`UploadLayer`](crate::upload) reports these waits. A body
//! that is complete, or that the service does not read, does not extend the timeout. The deadline is never
//! extended.
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

/// Minimum remaining time for an attempt or a call to be sent, unless configured otherwise.
pub(crate) const MIN_USEFUL: Duration = Duration::from_millis(10);

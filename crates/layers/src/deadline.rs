//! The absolute time at which a call ends.

use std::time::Duration;

use tokio::time::Instant;

/// The absolute time by which all work for one request must end: queueing, attempts, pauses between
/// attempts, and fallbacks.
///
/// The clock is tokio's [`Instant`], not that of `std`, so that tests can pause the time.
///
/// [`Instant`]: https://docs.rs/tokio/1/tokio/time/struct.Instant.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// Creates a deadline at `instant`.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// Creates a deadline `timeout` after `now`. Returns `None` if the sum exceeds the range of
    /// tokio's `Instant`.
    #[must_use]
    pub fn after(now: Instant, timeout: Duration) -> Option<Self> {
        now.checked_add(timeout).map(Self)
    }

    /// Returns the time of the deadline.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// Returns the time that remains at `now`, or zero if the deadline has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Returns a deadline that is `margin` earlier. If that time cannot be represented, the
    /// deadline stays as it is.
    #[must_use]
    pub fn before(self, margin: Duration) -> Self {
        Self(self.0.checked_sub(margin).unwrap_or(self.0))
    }
}

/// Returns `now + duration`, or a time 30 years ahead if the sum exceeds the range of [`Instant`].
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);
    now.checked_add(duration).unwrap_or_else(|| now + NEVER)
}

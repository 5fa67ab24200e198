//! A concurrency limit with a short bounded queue.
//!
//! At most `n` calls run at once. A call gets its permit in `call`, or after a wait in the queue. The
//! permit ends when the response or the error arrives, when the service panics, or when the call's
//! future is dropped before. With `until_body_end` (feature `http`), a response keeps the permit until
//! its body has ended, failed, or was dropped.
//!
//! A call that finds the limit reached waits in the queue, if the queue has room. By default the
//! queue has no room, so the call is rejected at once. A call without a permit is rejected for one of
//! these reasons:
//!
//! | reason | rejection |
//! |---|---|
//! | The call's own [`max_wait`](crate::Call::max_wait) is zero. | [`AtCapacity`] |
//! | The estimated wait ends after the call's deadline. | [`QueueTimeout`], at once |
//! | The queue is full, and the call cannot evict a waiter. | [`AtCapacity`] |
//! | The wait has reached [`max_wait`](ConcurrencyConfig::max_wait), the call's own `max_wait`, or the deadline, whichever is first. | [`QueueTimeout`] |
//! | A call of a higher level took the place in the queue. | [`Evicted`] |
//! | The circuit of the [breaker below](ConcurrencyLayer::breaker) is open, or has opened during the wait. | [`CircuitOpen`] |
//!
//! The estimated wait is `average duration · calls ahead in the queue / limit`. The duration is a moving
//! average over the calls that found no free permit on arrival, and over all calls if the limit is
//! adaptive. Before the first of these calls has ended, or without a queue, no wait is estimated.
//!
//! [`AtCapacity`]: crate::Rejection::AtCapacity
//! [`CircuitOpen`]: crate::Rejection::CircuitOpen
//! [`Evicted`]: crate::Rejection::Evicted
//! [`QueueTimeout`]: crate::Rejection::QueueTimeout
//!
//! Waiting calls are ordered by [priority](Order), and calls of the same priority by arrival. A new
//! call never takes a permit past waiting calls. A waiter gains one level of priority per
//! [`aging`](ConcurrencyConfig::aging), so that no waiter starves. If the queue is full, a call of
//! a higher level evicts the last waiter of a lower level.
//!
//! # With a circuit breaker
//!
//! A breaker *below* the limit measures the service alone, because a call reaches the breaker with
//! its permit. To keep calls from queueing while the circuit is open, give the breaker's handle to
//! the limit: see [`ConcurrencyLayer::breaker`]. The limit then checks the breaker before a call
//! takes a permit or a place in the queue, and again after a wait.
//!
//! The check uses no probe slot. Only a call with a permit becomes a probe, so queued calls hold no
//! probe slot, and the wait is not part of a probe's lease. If the open time ends while the limit
//! is full, calls queue as usual. The first call with a permit is the probe, and the others are
//! rejected when they get their permits.
//!
//! Without the handle, both layers work in either order. A breaker *above* the limit counts the
//! time in the queue as time of the service. The breaker never counts a rejection by the limit as a
//! failure of the service.
//!
//! # Variable limits
//!
//! The limit may be [changed](ConcurrencyLayer::set_limit) while calls run, or [adapt](adaptive) to
//! the service.
//!
//! [`ConcurrencyLayer`] has examples.

pub mod adaptive;
mod future;
mod keyed;
mod layer;
mod limiter;
#[cfg(all(test, shuttle))]
mod schedules;

use std::{ops::RangeInclusive, time::Duration};

use self::adaptive::AdaptiveConfig;
pub use self::{
    future::ResponseFuture,
    layer::{Concurrency, ConcurrencyLayer},
    limiter::Permit,
};
use crate::config::{ConfigError, Validate};

/// The order in which waiting calls get permits.
///
/// In a file: `priority` or `fifo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Order {
    /// Higher [priority](crate::Call::priority) first, calls of the same priority by arrival. A call that
    /// sets no priority has the lowest level, 0.
    #[default]
    Priority,
    /// By arrival, whatever the priority. No waiter is evicted.
    Fifo,
}

crate::config! {
    serde
    /// Configuration of a [concurrency limit](ConcurrencyLayer).
    ///
    /// The time when a permit is returned is not configured here, because it changes the type of the
    /// response: see `ConcurrencyLayer::until_body_end` (feature `http`).
    pub struct ConcurrencyConfig {
        /// Maximum number of concurrent calls. Must be at least 1; defaults to 100.
        pub max: u32 = 100,
        /// Maximum number of waiting calls. Defaults to 0: calls above the limit are rejected at once.
        pub queue: u32 = 0,
        /// Maximum time in the queue. Must be above 0; defaults to 100 ms. The deadline of the call and its
        /// own [`max_wait`](crate::Call::max_wait) may shorten it.
        pub max_wait: Duration = Duration::from_millis(100),
        /// Order of the waiting calls. Defaults to [`priority`](Order::Priority).
        pub order: Order = Order::default(),
        /// Time in the queue that raises a waiter by one level of priority. Must be within 1 ms to 1 h;
        /// defaults to 1 s. If off, a waiter waits for as long as calls of a higher level are
        /// waiting.
        pub aging: Option<Duration> = Some(Duration::from_secs(1)),
        /// Adaptive limit, which replaces [`max`](Self::max). Off by default: the limit is fixed.
        pub adaptive: Option<AdaptiveConfig> = None,
    }
    limits {
        max: at_least(1),
        max_wait: positive(),
        aging: within(Duration::from_millis(1)..=Duration::from_secs(3600)),
    }
}

impl ConcurrencyConfig {
    /// Returns the lowest and the highest limit: `max` for both, or `min` and `max` of the adaptive limit.
    ///
    /// ```
    /// use tower_fanout_layers::{ConcurrencyConfig, concurrency::adaptive::AdaptiveConfig};
    ///
    /// let fixed = ConcurrencyConfig::new().max(50);
    /// assert_eq!(fixed.bounds(), 50..=50);
    /// let adaptive = fixed.adaptive(AdaptiveConfig::new().min(5).max(80));
    /// assert_eq!(adaptive.bounds(), 5..=80);
    /// ```
    #[must_use]
    pub fn bounds(&self) -> RangeInclusive<u32> {
        match &self.adaptive {
            None => self.max..=self.max,
            Some(adaptive) => adaptive.min..=adaptive.max,
        }
    }
}

impl Validate for ConcurrencyConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits()
            .nested("adaptive", &self.adaptive)
            .into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_field_is_checked_against_its_range() {
        check_ranges::<ConcurrencyConfig>(
            &[
                |limit| limit.max = 1,
                |limit| limit.max_wait = Duration::MAX,
                |limit| limit.order = Order::Fifo,
                |limit| limit.aging = None,
                |limit| limit.aging = Some(Duration::from_millis(1)),
                |limit| limit.aging = Some(Duration::from_secs(3600)),
                |limit| limit.adaptive = Some(AdaptiveConfig::default()),
            ],
            &[
                ("max", |limit| limit.max = 0),
                ("max_wait", |limit| limit.max_wait = Duration::ZERO),
                ("aging", |limit| limit.aging = Some(Duration::ZERO)),
                ("aging", |limit| {
                    limit.aging = Some(Duration::from_micros(999))
                }),
                ("aging", |limit| {
                    limit.aging = Some(Duration::from_secs(3601))
                }),
                ("adaptive.min", |limit| {
                    let adaptive = limit.adaptive.insert(AdaptiveConfig::default());
                    adaptive.min = 0;
                }),
            ],
        );
    }
}

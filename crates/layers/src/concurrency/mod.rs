//! At most *n* calls at once, and a short bounded queue for the rest.
//!
//! The permit is taken in `call` and given back when the call's future is dropped. A call that
//! finds the limit reached waits, if the queue has room, no longer than
//! [`max_wait`](ConcurrencyConfig::max_wait), nor than [it says itself](crate::Call::max_wait), and
//! never past its deadline; by default there is no queue, and it is refused at once. So is a call that
//! would most likely wait past its deadline.
//!
//! Waiting calls go by [priority](Order), equal ones by arrival, and nobody overtakes them. A level
//! of priority is worth so much time of waiting as [`aging`](ConcurrencyConfig::aging) says, so
//! that nobody starves. If the queue is full, the last of a lower level gives its place to a call of
//! a higher one.
//!
//! # With a circuit breaker
//!
//! A breaker *below* the limit measures the service alone, since a call reaches it with the permit in
//! hand. So that no call queues for an open circuit, give the limit the breaker's handle:
//! [`recheck`](ConcurrencyLayer::breaker). The limit then asks the breaker before it takes a permit or
//! a place in the queue, and again after a wait. Asking takes no probe: a probe is only taken with the
//! permit in hand, so a full queue holds no probe's slot, and the wait is no part of its lease. When
//! the time has come to probe and the limit is full, calls queue as usual; the first to get a permit
//! is the probe, and the others are rejected when their turn comes.
//!
//! Without the handle both layers work in either order. A breaker *above* the limit takes the time in
//! the queue for the service's time. A call that a limit rejects never counts against the service.
//!
//! # Limits that change
//!
//! The limit may be [changed](ConcurrencyLayer::set_limit) while calls run, or
//! [follow the service](adaptive) by itself. An `http::Response` may keep its permit until its body
//! ends: see `ConcurrencyLayer::until_body_end` (feature `http`). [`ConcurrencyLayer`] has examples.

pub mod adaptive;
mod future;
mod layer;
mod limiter;
#[cfg(all(test, shuttle))]
mod schedules;
mod service;

use std::time::Duration;

use self::adaptive::AdaptiveConfig;
pub use self::{
    future::ResponseFuture, layer::ConcurrencyLayer, limiter::Permit, service::Concurrency,
};
use crate::config::{ConfigError, Errors, Validate};

/// Whose turn comes first among the calls that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Order {
    /// That of the highest [priority](crate::Call::priority), and among equals of the first to
    /// arrive. Where no call has one, all are equals.
    #[default]
    Priority,
    /// That of the first to arrive, whatever its priority; nobody loses a place to another.
    Fifo,
}

/// Configuration of a [`ConcurrencyLayer`].
///
/// The end of a call is not configured here, because it changes the type of the response: see
/// `ConcurrencyLayer::until_body_end` (feature `http`).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct ConcurrencyConfig {
    /// Calls at once, at least 1; 100 by default.
    pub max: u32,
    /// Calls that may wait for their turn, 0 or more; 0 by default.
    pub queue: u32,
    /// How long a call may wait, above 0 s; 100 ms by default. Its deadline may cut this short.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub max_wait: Duration,
    /// Whose turn comes first; by priority by default.
    pub order: Order,
    /// How long a call must have waited to be worth one level of priority more, 1 ms to 1 h; 1 s by
    /// default. If off, a lower level waits for as long as there is a higher one.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration::option"))]
    pub aging: Option<Duration>,
    /// Moves the limit by itself, instead of [`max`](Self::max); off by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::option"))]
    pub adaptive: Option<AdaptiveConfig>,
}

crate::setters! {
    ConcurrencyConfig {
        max: u32,
        queue: u32,
        max_wait: Duration,
        order: Order,
        aging: Option<Duration>,
        adaptive: Option<AdaptiveConfig>,
    }
}

impl Default for ConcurrencyConfig {
    fn default() -> Self {
        Self {
            max: 100,
            queue: 0,
            max_wait: Duration::from_millis(100),
            order: Order::default(),
            aging: Some(Duration::from_secs(1)),
            adaptive: None,
        }
    }
}

impl Validate for ConcurrencyConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(3600));
        let problems = Errors::default()
            .at_least("max", self.max, 1)
            .positive("max_wait", self.max_wait)
            .within("aging", self.aging.unwrap_or(short), short, long);
        match &self.adaptive {
            Some(adaptive) => problems.nested("adaptive", adaptive).into_vec(),
            None => problems.into_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_setting_has_its_range() {
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

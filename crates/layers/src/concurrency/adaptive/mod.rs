//! A limit that adapts to the service. It grows while latencies are as usual, and shrinks when
//! latencies rise or the service throttles.
//!
//! The controller divides calls into windows. A window closes after at least 1 s (or twice its lowest
//! latency, if that is longer) and at least 50 calls. It closes after 30 s in any case, at the end of
//! the next call. When a window closes, the first rule that applies sets the limit:
//!
//! 1. If a call ended with a drop signal, the limit is multiplied by 0.9, however many drop signals and
//!    calls the window has.
//! 2. If the window has fewer than 50 calls, it is discarded and the limit stays.
//! 3. If less than half of the limit was in use at the peak, the limit stays, because the window
//!    shows nothing about the service's capacity.
//! 4. Otherwise the [`Algorithm`] computes the limit. It grows to at most five times the peak of
//!    the calls in flight.
//!
//! The new limit is always within [`min`](field@AdaptiveConfig::min) to
//! [`max`](field@AdaptiveConfig::max).
//!
//! | result of a call | counts as |
//! |---|---|
//! | [`Class::Throttled`] (429), status 503, attempt timeout, panic | drop signal |
//! | success, any other response, error in the response body or any other error | latency |
//! | [`Class::Unanswered`], or the call is dropped | latency if the call had run for [`unanswered`](field@AdaptiveConfig::unanswered), else nothing |
//! | not connected, [not processed](Failure::NotProcessed), connection reset, rejected by a layer below | nothing |
//!
//! The [classifier](super::ConcurrencyLayer::classify) of the layer determines the class of a result. The
//! default, [`ClassifyResult`](crate::ClassifyResult), does not read statuses, so it never reports a 429
//! or 503: set `ClassifyHttp` (feature `http`) for HTTP.

mod algorithm;
mod config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::algorithm::{LimitAlgorithm, WindowLatencies};
pub use self::config::{AdaptiveConfig, Algorithm};
use crate::{
    classify::{Class, Failure},
    histogram::{Histogram, quantile},
};

/// Minimum length of a window.
const MIN_LENGTH: Duration = Duration::from_secs(1);
/// Maximum length of a window, after which it ends with any number of calls.
const MAX_LENGTH: Duration = Duration::from_secs(30);
/// Minimum number of calls from which a new limit is computed.
const MIN_CALLS: u32 = 50;
/// Factor of the limit after a window with a drop signal.
const BACKOFF: f64 = 0.9;
/// Maximum of the limit, as a multiple of the peak of the calls in flight.
const MAX_GROWTH: f64 = 5.0;

/// The information about the load that the result of a call contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The latency of the call.
    Latency(Duration),
    /// The service is overloaded.
    Drop,
}

impl Signal {
    /// Returns the signal of a result, or `None` if the result has no information about the load.
    ///
    /// A call that ended without a response counts as a latency if it had run for `unanswered`.
    pub(super) fn of(
        class: Class,
        elapsed: Duration,
        unanswered: Option<Duration>,
    ) -> Option<Self> {
        match class {
            Class::Success | Class::NonRetryable(_) | Class::Transient(_) => {
                Some(Self::Latency(elapsed))
            }
            Class::Throttled { .. }
            | Class::Failure(
                Failure::Status { code: 503, .. } | Failure::AttemptTimeout | Failure::Panic,
            ) => Some(Self::Drop),
            Class::Failure(Failure::Connect | Failure::NotProcessed | Failure::ConnectionReset)
            | Class::Rejected(_) => None,
            Class::Failure(_) => Some(Self::Latency(elapsed)),
            Class::Unanswered { elapsed, .. } => unanswered
                .is_some_and(|threshold| elapsed >= threshold)
                .then_some(Self::Latency(elapsed)),
        }
    }
}

/// Collects the calls of a window, and moves the limit at its end.
pub(super) struct Controller {
    config: AdaptiveConfig,
    algorithm: Box<dyn LimitAlgorithm>,
    limit: f64,
    window: Window,
}

struct Window {
    since: Instant,
    latencies: Histogram,
    fastest: Duration,
    calls: u32,
    peak: u32,
    dropped: bool,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            latencies: Histogram::new(),
            fastest: Duration::MAX,
            calls: 0,
            peak: 0,
            dropped: false,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        // The lowest latency is `MAX` while the window has only drop signals.
        let min_length = if self.calls > 0 && self.fastest < Duration::MAX {
            (self.fastest * 2).clamp(MIN_LENGTH, MAX_LENGTH)
        } else {
            MIN_LENGTH
        };
        age >= MAX_LENGTH || (age >= min_length && self.calls >= MIN_CALLS)
    }
}

impl Controller {
    pub(super) fn new(config: AdaptiveConfig, now: Instant) -> Self {
        Self {
            limit: config.initial.into(),
            algorithm: config.algorithm.build(&config),
            config,
            window: Window::new(now),
        }
    }

    pub(super) fn config(&self) -> &AdaptiveConfig {
        &self.config
    }

    /// Records a call that ended while `in_flight` calls ran, including this one.
    ///
    /// Returns the new limit if the call ends a window.
    pub(super) fn record(&mut self, signal: Signal, in_flight: u32, now: Instant) -> Option<u32> {
        let window = &mut self.window;
        window.calls += 1;
        window.peak = window.peak.max(in_flight);
        match signal {
            Signal::Drop => window.dropped = true,
            Signal::Latency(latency) => {
                window.latencies.add(latency);
                window.fastest = window.fastest.min(latency);
            }
        }
        if !window.is_over(now) {
            return None;
        }
        let window = std::mem::replace(window, Window::new(now));
        let limit = self.next(&window);
        let (min, max) = (self.config.min.into(), self.config.max.into());
        self.limit = limit.clamp(min, max);
        // `self.limit` keeps its fraction, so that small steps add up.
        Some(self.limit as u32)
    }

    fn next(&mut self, window: &Window) -> f64 {
        let limit = self.limit;
        if window.dropped {
            return limit * BACKOFF;
        }
        if window.calls < MIN_CALLS || f64::from(window.peak) < limit / 2.0 {
            return limit;
        }
        let latencies = WindowLatencies {
            slow: quantile(0.9, std::slice::from_ref(&window.latencies)),
            fastest: window.fastest,
        };
        let next = self.algorithm.next(limit, &latencies);
        // The cap limits growth only: a limit above it may stay.
        next.min(limit.max(MAX_GROWTH * f64::from(window.peak)))
    }
}

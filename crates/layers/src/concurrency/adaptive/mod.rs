//! A limit that follows the service: it grows while answers come as fast as ever, and shrinks when
//! they get slower or the service asks for less.
//!
//! Calls are looked at in windows. A window lasts a second, or twice the fastest answer, and has 50
//! calls at least; one that has too few after 30 s is thrown away. Then, in this order:
//!
//! 1. a call that was told to come later (429, 503) or timed out: the limit is multiplied by 0.9;
//! 2. fewer than half of the limit were in flight at most: nobody can tell, the limit stays;
//! 3. else the [`Algorithm`] says, but never more than five times of what was in flight.
//!
//! Pure: the time is an argument.

mod algorithm;
mod config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::algorithm::{Adapt, Seen};
pub use self::config::{AdaptiveConfig, Algorithm};
use crate::{
    classify::{Class, Failure},
    histogram::{Histogram, quantile},
};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const FEWEST: u32 = 50;
const BACKOFF: f64 = 0.9;
const GROWTH: f64 = 5.0;

/// What the end of a call tells of the load on the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// It took this long.
    Latency(Duration),
    /// The service has too much to do.
    Drop,
}

impl Signal {
    /// The signal of a call that ended as `class`, if it is any. A call that was cut off tells how
    /// slow the service is only if it had run for `unanswered`.
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

/// Looks at calls window by window and moves the limit.
pub(super) struct Controller {
    settings: AdaptiveConfig,
    algorithm: Box<dyn Adapt>,
    limit: f64,
    window: Window,
}

struct Window {
    since: Instant,
    latencies: Histogram,
    least: Duration,
    calls: u32,
    peak: u32,
    dropped: bool,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            latencies: Histogram::new(),
            least: Duration::MAX,
            calls: 0,
            peak: 0,
            dropped: false,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        let wanted = if self.calls > 0 && self.least < Duration::MAX {
            (self.least * 2).clamp(SHORTEST, LONGEST)
        } else {
            SHORTEST
        };
        age >= LONGEST || (age >= wanted && self.calls >= FEWEST)
    }
}

impl Controller {
    pub(super) fn new(settings: AdaptiveConfig, now: Instant) -> Self {
        Self {
            limit: settings.initial.into(),
            algorithm: settings.algorithm.build(&settings),
            settings,
            window: Window::new(now),
        }
    }

    pub(super) fn settings(&self) -> &AdaptiveConfig {
        &self.settings
    }

    /// Takes note of a call that ended while `in_flight` ran, itself among them. Where that ends a
    /// window it says the limit from now on.
    pub(super) fn record(&mut self, signal: Signal, in_flight: u32, now: Instant) -> Option<u32> {
        let window = &mut self.window;
        window.calls += 1;
        window.peak = window.peak.max(in_flight);
        match signal {
            Signal::Drop => window.dropped = true,
            Signal::Latency(latency) => {
                window.latencies.add(latency);
                window.least = window.least.min(latency);
            }
        }
        if !window.is_over(now) {
            return None;
        }
        let window = std::mem::replace(window, Window::new(now));
        let limit = self.next(&window);
        let (min, max) = (self.settings.min.into(), self.settings.max.into());
        self.limit = limit.clamp(min, max);
        Some(self.limit as u32)
    }

    fn next(&mut self, window: &Window) -> f64 {
        let limit = self.limit;
        if window.dropped {
            return limit * BACKOFF;
        }
        if window.calls < FEWEST || f64::from(window.peak) < limit / 2.0 {
            return limit;
        }
        let seen = Seen {
            slow: quantile(0.9, std::slice::from_ref(&window.latencies)),
            fastest: window.least,
        };
        let next = self.algorithm.next(limit, &seen);
        next.min(limit.max(GROWTH * f64::from(window.peak)))
    }
}

//! Quantiles of recent latencies, from log-linear buckets that slide with time.
//!
//! The caller passes the current time to each function.
//!
//! ```
//! use std::time::Duration;
//! use tokio::time::Instant;
//! use tower_fanout_layers::latencies::Latencies;
//!
//! let now = Instant::now();
//! let mut latencies = Latencies::new(Duration::from_secs(30), now);
//! (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms), now));
//! let p95 = latencies.quantile(0.95, 20, now).unwrap();
//! assert!((95..=101).contains(&p95.as_millis()));
//! assert_eq!(latencies.quantile(0.95, 20, now + Duration::from_secs(31)), None);
//! ```

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::histogram::{Histogram, quantile};

/// Number of slots that the window is divided into. The newest one is still being filled.
const SLOTS: usize = 6;

/// Time for which a computed quantile is reused, so that not every call sums up the buckets.
const FRESH: Duration = Duration::from_millis(100);

/// Latencies of the calls in a window of time, with a resolution of one microsecond.
pub struct Latencies {
    slots: [Histogram; SLOTS],
    width: Duration,
    newest: usize,
    anchor: Instant,
    cached: Option<(Instant, Duration)>,
}

impl Latencies {
    /// Creates an empty window. A latency is dropped after `window`, or up to one sixth of `window`
    /// earlier.
    #[must_use]
    pub fn new(window: Duration, now: Instant) -> Self {
        let width = window / SLOTS as u32;
        Self {
            slots: std::array::from_fn(|_| Histogram::new()),
            width: width.max(Duration::from_millis(1)),
            newest: 0,
            anchor: now,
            cached: None,
        }
    }

    /// Records the latency of a call.
    pub fn record(&mut self, latency: Duration, now: Instant) {
        self.advance(now);
        // In bounds: `newest` is a remainder of `SLOTS`.
        self.slots[self.newest].add(latency);
    }

    /// Returns the latency that a share `q` of the calls did not exceed, or `None` if the window
    /// holds fewer than `min` calls.
    ///
    /// The result is at most one sixteenth above the exact value, and at most 100 ms old. Because
    /// it is cached, `q` must be the same in all calls.
    pub fn quantile(&mut self, q: f64, min: u32, now: Instant) -> Option<Duration> {
        self.advance(now);
        let total: u64 = self.slots.iter().map(Histogram::total).sum();
        if total < u64::from(min) {
            return None;
        }
        let cached = self
            .cached
            .filter(|(at, _)| now.saturating_duration_since(*at) < FRESH);
        let (at, quantile) = cached.unwrap_or_else(|| (now, quantile(q, &self.slots)));
        self.cached = Some((at, quantile));
        Some(quantile)
    }

    fn advance(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.anchor);
        let steps = gap.as_nanos() / self.width.as_nanos();
        // All slots are too old. This bounds the cost, however long the gap.
        if steps >= SLOTS as u128 {
            *self = Self::new(self.width * SLOTS as u32, now);
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = Histogram::new();
        }
        self.anchor += self.width * steps as u32;
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies")
            .field("window", &(self.width * SLOTS as u32))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn drops_latencies_older_than_the_window() {
        let start = Instant::now();
        let mut latencies = Latencies::new(MINUTE, start);
        latencies.record(Duration::from_millis(1), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(latencies.quantile(1.0, 1, at(59)).is_some());
        assert_eq!(latencies.quantile(1.0, 1, at(60)), None);
        latencies.record(Duration::from_millis(1), at(90));
        assert_eq!(latencies.quantile(1.0, 1, at(86_400 * 50)), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_exact_to_a_sixteenth(
            mut micros in prop::collection::vec(0u64..100_000_000, 1..200),
            q in 0.01f64..=1.0,
        ) {
            let now = Instant::now();
            let mut latencies = Latencies::new(MINUTE, now);
            for &micros in &micros {
                latencies.record(Duration::from_micros(micros), now);
            }
            micros.sort_unstable();
            let rank = (q * micros.len() as f64).ceil() as usize;
            let exact = micros[rank.max(1) - 1];
            let found = latencies.quantile(q, 1, now).unwrap().as_micros() as u64;
            prop_assert!((exact..=exact + exact / 16).contains(&found), "{exact} {found}");
            prop_assert_eq!(latencies.quantile(q, micros.len() as u32 + 1, now), None);
        }
    }
}

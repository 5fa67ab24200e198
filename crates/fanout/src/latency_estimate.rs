//! How long a downstream is expected to take.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_fanout_layers::latencies::Latencies;

/// The share of answers that came within the time that is expected.
const QUANTILE: f64 = 0.95;
/// A quantile of fewer answers would say nothing.
const MIN_SAMPLES: u32 = 20;
/// How long an estimate holds without new answers.
const LIFETIME: Duration = Duration::from_secs(30);

/// How long a downstream takes, learnt from its answers: the time within which 95 of 100 came.
///
/// It is known from 20 answers on, and forgotten when there was none for 30 seconds. All nodes that
/// ask the same downstream share one of these, and so do its clones.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_fanout::LatencyEstimate;
///
/// let (expected, now) = (LatencyEstimate::new(), Instant::now());
/// assert_eq!(expected.at(now), None);
/// (0..20).for_each(|_| expected.record(Duration::from_millis(40), now));
/// assert!(expected.at(now).unwrap() >= Duration::from_millis(40));
/// assert_eq!(expected.at(now + Duration::from_secs(31)), None);
/// ```
#[derive(Clone)]
pub struct LatencyEstimate(Arc<Mutex<Latencies>>);

impl LatencyEstimate {
    /// Nothing was learnt yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Latencies::new(
            LIFETIME,
            Instant::now(),
        ))))
    }

    /// Takes note of an answer that took `elapsed` and came at `now`.
    pub fn record(&self, elapsed: Duration, now: Instant) {
        self.with(|latencies| latencies.record(elapsed, now));
    }

    /// How long the next answer is expected to take; none if too little is known.
    #[must_use]
    pub fn at(&self, now: Instant) -> Option<Duration> {
        self.with(|latencies| latencies.quantile(QUANTILE, MIN_SAMPLES, now))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Latencies) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for LatencyEstimate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LatencyEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LatencyEstimate")
            .field(&self.at(Instant::now()))
            .finish()
    }
}

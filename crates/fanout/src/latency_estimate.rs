//! Estimates the latency of a downstream from its recent answers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_fanout_layers::latencies::Latencies;

/// The quantile of recent latencies that is used as the estimate.
const QUANTILE: f64 = 0.95;
/// Minimum number of answers for an estimate.
const MIN_SAMPLES: u32 = 20;
/// Time after which an estimate without new answers expires.
const LIFETIME: Duration = Duration::from_secs(30);

/// The expected latency of a downstream: the 95th percentile of the latencies of its recent answers.
///
/// Recent answers are those of the last 25 to 30 seconds: the window advances in steps of five seconds.
/// The estimate exists while at least 20 recent answers are known. A run records the duration of each
/// branch with the status [`Success`](crate::Status::Success).
///
/// Clones share their state, so all nodes that call the same downstream share one estimate. A downstream with a
/// [policy per key](field@crate::Policy::per_key) has none, because slow calls of one key would take time from the
/// calls of all keys.
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
pub struct LatencyEstimate(Option<Arc<Mutex<Latencies>>>);

impl LatencyEstimate {
    /// Creates an estimate without answers.
    #[must_use]
    pub fn new() -> Self {
        let latencies = Latencies::new(LIFETIME, Instant::now());
        Self(Some(Arc::new(Mutex::new(latencies))))
    }

    /// Creates an estimate that records nothing, and so is always unknown.
    pub(crate) const fn unknown() -> Self {
        Self(None)
    }

    /// Returns `true` unless the estimate is always unknown.
    pub(crate) const fn learns(&self) -> bool {
        self.0.is_some()
    }

    /// Records an answer that took `elapsed` and arrived at `now`.
    pub fn record(&self, elapsed: Duration, now: Instant) {
        self.with(|latencies| latencies.record(elapsed, now));
    }

    /// Returns the expected latency as of `now`, or `None` if too few recent answers are known.
    #[must_use]
    pub fn at(&self, now: Instant) -> Option<Duration> {
        self.with(|latencies| latencies.quantile(QUANTILE, MIN_SAMPLES, now))
            .flatten()
    }

    fn with<T>(&self, access: impl FnOnce(&mut Latencies) -> T) -> Option<T> {
        let latencies = self.0.as_ref()?.lock();
        Some(access(
            &mut latencies.unwrap_or_else(PoisonError::into_inner),
        ))
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

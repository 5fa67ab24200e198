//! Three algorithms that derive a new limit from latencies.

use std::{collections::VecDeque, time::Duration};

/// The latencies of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowLatencies {
    /// The 90th percentile.
    pub(super) slow: Duration,
    /// The lowest latency.
    pub(super) fastest: Duration,
}

/// An algorithm that computes the limit of the next window.
///
/// The controller calls an algorithm only after a window in which at least half of the limit was in
/// use, and without a drop signal.
pub(super) trait LimitAlgorithm: Send {
    /// Returns the limit that follows `limit`, given the latencies of the last window.
    fn next(&mut self, limit: f64, latencies: &WindowLatencies) -> f64;
}

/// Compares the latency of a window with the usual latency of the last 600 windows or so (at least
/// ten minutes), after [Netflix's Gradient2](https://github.com/Netflix/concurrency-limits) with
/// Envoy's headroom of √limit.
///
/// After the warm-up, the usual latency rises only while the limit is well below its usual value.
/// If it rose with every slow window, the queue inside a busy service would become part of the
/// usual latency, and the limit would grow for as long as the service is busy.
#[derive(Clone, Debug)]
pub(super) struct Gradient2 {
    tolerance: f64,
    /// The usual latency in seconds, and the usual limit.
    usual: Option<(f64, f64)>,
    windows: u32,
}

impl Gradient2 {
    /// Number of windows in the moving average.
    const WINDOWS: u32 = 600;
    /// Number of windows whose mean starts the average.
    const WARM_UP: u32 = 10;
    /// Weight of the computed limit against the current one.
    const SMOOTHING: f64 = 0.2;
    /// Share of the usual limit below which the usual latency may rise.
    const WELL_BELOW: f64 = 0.8;

    /// Creates the algorithm. The latency may rise by the factor `tolerance` before the limit
    /// shrinks.
    pub(super) const fn new(tolerance: f64) -> Self {
        Self {
            tolerance,
            usual: None,
            windows: 0,
        }
    }

    /// Adds a window, and returns the usual latency: the mean of the first windows, then a moving
    /// average. After an overload it falls fast.
    fn learn(&mut self, latency: f64, limit: f64) -> f64 {
        self.windows = self.windows.saturating_add(1);
        let weight = if self.windows <= Self::WARM_UP {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / f64::from(Self::WINDOWS + 1)
        };
        let (mut usual, mut usual_limit) = self.usual.unwrap_or((latency, limit));
        let warm = self.windows > Self::WARM_UP;
        let limited = warm && limit < usual_limit * Self::WELL_BELOW;
        // A lower latency is always learned, a higher one only in the warm-up or below the usual
        // limit.
        if latency < usual || limited || !warm {
            usual += (latency - usual) * weight;
        }
        if !limited {
            usual_limit += (limit - usual_limit) * weight;
        }
        // After an overload, the usual latency falls fast.
        if usual / latency > 2.0 {
            usual *= 0.9;
        }
        self.usual = Some((usual, usual_limit));
        usual
    }
}

impl LimitAlgorithm for Gradient2 {
    fn next(&mut self, limit: f64, latencies: &WindowLatencies) -> f64 {
        // At least 1 µs, to avoid a division by zero.
        let latency = latencies.slow.as_secs_f64().max(1e-6);
        let usual = self.learn(latency, limit);
        let gradient = (self.tolerance * usual / latency).clamp(0.5, 1.0);
        let next = limit * gradient + limit.sqrt();
        limit + (next - limit) * Self::SMOOTHING
    }
}

/// Adds 1 per window. Only drop signals (429, 503, timeouts, panics) make the limit shrink.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aimd;

impl LimitAlgorithm for Aimd {
    fn next(&mut self, limit: f64, _: &WindowLatencies) -> f64 {
        limit + 1.0
    }
}

/// Estimates the number of calls that queue inside the service from the lowest latency, and keeps
/// that number small, after [Netflix's Vegas](https://github.com/Netflix/concurrency-limits).
#[derive(Clone, Debug, Default)]
pub(super) struct Vegas {
    fastest: VecDeque<Duration>,
}

impl Vegas {
    /// Number of windows whose lowest latency is taken as that of an idle service.
    const WINDOWS: usize = 30;

    fn idle_latency(&mut self, fastest: Duration) -> f64 {
        if self.fastest.len() == Self::WINDOWS {
            self.fastest.pop_front();
        }
        self.fastest.push_back(fastest);
        let idle = self.fastest.iter().min().copied().unwrap_or_default();
        idle.as_secs_f64()
    }
}

impl LimitAlgorithm for Vegas {
    fn next(&mut self, limit: f64, latencies: &WindowLatencies) -> f64 {
        let step = limit.log10().max(1.0);
        let idle = self.idle_latency(latencies.fastest);
        let queued = limit * (1.0 - idle / latencies.slow.as_secs_f64().max(1e-6));
        // The thresholds of Netflix: log10(limit), and 3 and 6 times as much.
        if queued <= step {
            limit + 6.0 * step
        } else if queued < 3.0 * step {
            limit + step
        } else if queued > 6.0 * step {
            limit - step
        } else {
            limit
        }
    }
}

//! Three ways to tell from latencies whether a service could take more calls.

use std::{collections::VecDeque, time::Duration};

/// How long the calls of one window took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What nine of ten did not exceed.
    pub(super) slow: Duration,
    /// The fastest.
    pub(super) fastest: Duration,
}

/// Says the limit for the next window. It is asked only where most of the limit was in use and the
/// service has not asked for less.
pub(super) trait Adapt: Send {
    /// The limit after one of `limit`, under which calls took as long as `seen`.
    fn next(&mut self, limit: f64, seen: &Seen) -> f64;
}

/// Compares the latencies of the window with those of the last ten minutes or so, after
/// [Netflix's Gradient2](https://github.com/Netflix/concurrency-limits) with Envoy's headroom of
/// √limit.
///
/// What it compares with rises only while the limit is well below its usual value: if it rose with
/// every slow window, it would come to take for normal what waits inside a busy service, and the
/// limit would grow for as long as the service is busy.
#[derive(Clone, Debug)]
pub(super) struct Gradient2 {
    tolerance: f64,
    /// The usual latency in seconds, and the usual limit.
    usual: Option<(f64, f64)>,
    windows: u32,
}

impl Gradient2 {
    const WINDOWS: u32 = 600;
    const WARM_UP: u32 = 10;
    const SMOOTHING: f64 = 0.2;
    const WELL_BELOW: f64 = 0.8;

    /// Lets latencies rise by the factor `tolerance` before the limit shrinks.
    pub(super) const fn new(tolerance: f64) -> Self {
        Self {
            tolerance,
            usual: None,
            windows: 0,
        }
    }

    /// The mean of the first windows, then a smoothed one; after an overload it falls fast.
    fn learn(&mut self, latency: f64, limit: f64) -> f64 {
        self.windows = self.windows.saturating_add(1);
        let weight = if self.windows <= Self::WARM_UP {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / f64::from(Self::WINDOWS + 1)
        };
        let (mut usual, mut usual_limit) = self.usual.unwrap_or((latency, limit));
        let warm = self.windows > Self::WARM_UP;
        let cut = warm && limit < usual_limit * Self::WELL_BELOW;
        if latency < usual || cut || !warm {
            usual += (latency - usual) * weight;
        }
        if !cut {
            usual_limit += (limit - usual_limit) * weight;
        }
        if usual / latency > 2.0 {
            usual *= 0.9;
        }
        self.usual = Some((usual, usual_limit));
        usual
    }
}

impl Adapt for Gradient2 {
    fn next(&mut self, limit: f64, seen: &Seen) -> f64 {
        let latency = seen.slow.as_secs_f64().max(1e-6);
        let usual = self.learn(latency, limit);
        let gradient = (self.tolerance * usual / latency).clamp(0.5, 1.0);
        let next = limit * gradient + limit.sqrt();
        limit + (next - limit) * Self::SMOOTHING
    }
}

/// Adds one; only what the service refuses or times out makes it shrink.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aimd;

impl Adapt for Aimd {
    fn next(&mut self, limit: f64, _: &Seen) -> f64 {
        limit + 1.0
    }
}

/// Estimates from the fastest answer how many calls wait inside the service, and keeps that number
/// small, after [Netflix's Vegas](https://github.com/Netflix/concurrency-limits).
#[derive(Clone, Debug, Default)]
pub(super) struct Vegas {
    fastest: VecDeque<Duration>,
}

impl Vegas {
    /// Windows whose fastest answer stands for an idle service.
    const WINDOWS: usize = 30;

    fn idle(&mut self, fastest: Duration) -> f64 {
        if self.fastest.len() == Self::WINDOWS {
            self.fastest.pop_front();
        }
        self.fastest.push_back(fastest);
        let idle = self.fastest.iter().min().copied().unwrap_or_default();
        idle.as_secs_f64()
    }
}

impl Adapt for Vegas {
    fn next(&mut self, limit: f64, seen: &Seen) -> f64 {
        let step = limit.log10().max(1.0);
        let idle = self.idle(seen.fastest);
        let waiting = limit * (1.0 - idle / seen.slow.as_secs_f64().max(1e-6));
        if waiting <= step {
            limit + 6.0 * step
        } else if waiting < 3.0 * step {
            limit + step
        } else if waiting > 6.0 * step {
            limit - step
        } else {
            limit
        }
    }
}

//! A histogram of durations in log-linear buckets, from which quantiles are computed.

use std::time::Duration;

/// Number of buckets per doubling. A duration is exact to one sixteenth.
const LINEAR: u32 = 16;
/// Number of doublings above the linear range. The last bucket holds all durations above an hour.
const DOUBLINGS: u32 = 28;
const BUCKETS: usize = ((DOUBLINGS + 1) * LINEAR) as usize;

/// Counts of durations. Resolution is one microsecond.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
        }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        // In bounds: `bucket` maps all longer durations to the last bucket.
        let count = &mut self.counts[bucket(duration)];
        *count = count.saturating_add(1);
        self.total += 1;
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }
}

/// Returns the duration that a share `q` of all durations does not exceed.
///
/// The result is at most one sixteenth above the exact value. It is zero if the histograms are
/// empty.
pub(crate) fn quantile(q: f64, histograms: &[Histogram]) -> Duration {
    let total: u64 = histograms.iter().map(Histogram::total).sum();
    let rank = ((q * total as f64).ceil() as u64).max(1);
    let mut below = 0;
    let reached = (0..BUCKETS).find(|&bucket| {
        let here = histograms.iter().map(|one| u64::from(one.counts[bucket]));
        below += here.sum::<u64>();
        below >= rank
    });
    match total {
        0 => Duration::ZERO,
        _ => upper(reached.unwrap_or(BUCKETS - 1)),
    }
}

/// Returns the index of the bucket. Durations below 16 µs have one bucket per microsecond; each
/// doubling above has sixteen.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < u64::from(LINEAR) {
        return micros as usize;
    }
    let doubling = micros.ilog2() - LINEAR.ilog2();
    let within = (micros >> doubling) as u32 - LINEAR;
    (((doubling + 1) * LINEAR + within) as usize).min(BUCKETS - 1)
}

/// Returns the longest duration of a bucket.
fn upper(bucket: usize) -> Duration {
    let (doubling, within) = (bucket as u32 / LINEAR, bucket as u32 % LINEAR);
    let micros = match doubling {
        0 => u64::from(within),
        _ => (u64::from(LINEAR + within + 1) << (doubling - 1)) - 1,
    };
    Duration::from_micros(micros)
}

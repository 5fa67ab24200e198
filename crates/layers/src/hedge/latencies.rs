//! How long answers took lately: counts in log-linear buckets, which slide with time. Pure: the
//! time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A minute in six parts: what is older than five of them and the begun one is forgotten.
const SLOTS: usize = 6;
const WIDTH: Duration = Duration::from_secs(10);

/// Buckets per doubling, so that a latency is known to one part in sixteen.
const LINEAR: u32 = 16;
/// Doublings above the linear range; the last bucket is for anything beyond an hour.
const DOUBLINGS: u32 = 28;
const BUCKETS: usize = ((DOUBLINGS + 1) * LINEAR) as usize;

/// A quantile is looked for again after this long: the buckets are not counted for every call.
const FRESH: Duration = Duration::from_millis(100);

/// Latencies of the last minute, in microseconds.
pub(super) struct Latencies {
    slots: [Slot; SLOTS],
    newest: usize,
    anchor: Instant,
    known: Option<(Instant, Duration)>,
}

#[derive(Clone)]
struct Slot {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Slot {
    fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
        }
    }
}

impl Latencies {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slots: std::array::from_fn(|_| Slot::new()),
            newest: 0,
            anchor: now,
            known: None,
        }
    }

    pub(super) fn record(&mut self, latency: Duration, now: Instant) {
        self.advance(now);
        let slot = &mut self.slots[self.newest];
        let count = &mut slot.counts[bucket(latency)];
        *count = count.saturating_add(1);
        slot.total += 1;
    }

    /// The latency that a share `q` of the answers did not exceed, if there are `min` at least: up to
    /// a sixteenth more than it was, a tenth of a second ago at most. `q` is always the same.
    pub(super) fn quantile(&mut self, q: f64, min: u32, now: Instant) -> Option<Duration> {
        self.advance(now);
        let total: u64 = self.slots.iter().map(|slot| slot.total).sum();
        if total < u64::from(min) {
            return None;
        }
        let known = self
            .known
            .filter(|(at, _)| now.saturating_duration_since(*at) < FRESH);
        let (at, quantile) = known.unwrap_or_else(|| (now, self.find(q, total)));
        self.known = Some((at, quantile));
        Some(quantile)
    }

    fn find(&self, q: f64, total: u64) -> Duration {
        let rank = ((q * total as f64).ceil() as u64).max(1);
        let mut below = 0;
        let reached = (0..BUCKETS).find(|&bucket| {
            let here = self.slots.iter().map(|slot| u64::from(slot.counts[bucket]));
            below += here.sum::<u64>();
            below >= rank
        });
        upper(reached.unwrap_or(BUCKETS - 1))
    }

    fn advance(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.anchor);
        let steps = gap.as_nanos() / WIDTH.as_nanos();
        if steps >= SLOTS as u128 {
            *self = Self::new(now);
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = Slot::new();
        }
        self.anchor += WIDTH * steps as u32;
    }
}

/// Up to sixteen microseconds each has its own bucket; above, each doubling has sixteen.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < u64::from(LINEAR) {
        return micros as usize;
    }
    let doubling = micros.ilog2() - LINEAR.ilog2();
    let within = (micros >> doubling) as u32 - LINEAR;
    (((doubling + 1) * LINEAR + within) as usize).min(BUCKETS - 1)
}

/// The longest latency of a bucket.
fn upper(bucket: usize) -> Duration {
    let (doubling, within) = (bucket as u32 / LINEAR, bucket as u32 % LINEAR);
    let micros = match doubling {
        0 => u64::from(within),
        _ => (u64::from(LINEAR + within + 1) << (doubling - 1)) - 1,
    };
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let start = Instant::now();
        let mut latencies = Latencies::new(start);
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
            let mut latencies = Latencies::new(now);
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

//! What became of the latest calls: counts that slide with time or with calls.
//!
//! Pure: the time is an argument.

use std::{
    collections::VecDeque,
    ops::{AddAssign, SubAssign},
    time::Duration,
};

use tokio::time::Instant;

const BUCKETS: usize = 10;

/// What became of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
}

impl Tally {
    pub(crate) fn one(failed: bool, slow: bool) -> Self {
        Self {
            total: 1,
            failed: u32::from(failed),
            slow: u32::from(slow),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.failed += other.failed;
        self.slow += other.slow;
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Self) {
        self.total -= other.total;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

#[derive(Debug)]
pub(crate) enum Slide {
    /// Ten buckets, each a tenth of the span; `newest` began at `anchor`.
    Time {
        width: Duration,
        anchor: Instant,
        newest: usize,
        buckets: [Tally; BUCKETS],
    },
    Count {
        size: usize,
        calls: VecDeque<Tally>,
    },
}

/// A sliding window over calls, with its running sum.
#[derive(Debug)]
pub(crate) struct Calls {
    slide: Slide,
    sum: Tally,
}

impl Calls {
    pub(crate) fn new(window: crate::breaker::Window, now: Instant) -> Self {
        let slide = match window {
            crate::breaker::Window::Time(span) => Slide::Time {
                width: (span / BUCKETS as u32).max(Duration::from_nanos(1)),
                anchor: now,
                newest: 0,
                buckets: [Tally::default(); BUCKETS],
            },
            crate::breaker::Window::Count(size) => Slide::Count {
                size,
                calls: VecDeque::with_capacity(size),
            },
        };
        Self {
            slide,
            sum: Tally::default(),
        }
    }

    pub(crate) fn clear(&mut self, now: Instant) {
        self.sum = Tally::default();
        match &mut self.slide {
            Slide::Time {
                anchor, buckets, ..
            } => {
                *anchor = now;
                *buckets = Default::default();
            }
            Slide::Count { calls, .. } => calls.clear(),
        }
    }

    pub(crate) fn add(&mut self, call: Tally, now: Instant) {
        self.advance(now);
        match &mut self.slide {
            Slide::Time {
                newest, buckets, ..
            } => buckets[*newest] += call,
            Slide::Count { size, calls } => {
                if calls.len() == *size {
                    self.sum -= calls.pop_front().unwrap_or_default();
                }
                calls.push_back(call);
            }
        }
        self.sum += call;
    }

    /// What is in the window at `now`.
    pub(crate) fn sum(&mut self, now: Instant) -> Tally {
        self.advance(now);
        self.sum
    }

    /// Forgets what is older than the window. Its cost is bounded, however long the gap.
    fn advance(&mut self, now: Instant) {
        let Slide::Time {
            width,
            anchor,
            newest,
            buckets,
        } = &mut self.slide
        else {
            return;
        };
        let gap = now.saturating_duration_since(*anchor);
        let steps = gap.as_nanos() / width.as_nanos();
        if steps >= BUCKETS as u128 {
            self.clear(now);
            return;
        }
        for _ in 0..steps {
            *newest = (*newest + 1) % BUCKETS;
            self.sum -= std::mem::take(&mut buckets[*newest]);
        }
        *anchor += *width * steps as u32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::breaker::Window;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn cb_04_calls_leave_a_time_window_with_time() {
        let start = Instant::now();
        let mut calls = Calls::new(Window::Time(ms(10_000)), start);
        calls.add(Tally::one(true, false), start);
        assert_eq!(calls.sum(start + ms(8_999)).failed, 1);
        calls.add(Tally::one(true, false), start + ms(11_000));
        assert_eq!(calls.sum(start + ms(11_000)), Tally::one(true, false));
    }

    #[test]
    fn cb_05_an_idle_gap_of_fifty_days_empties_the_window() {
        let start = Instant::now();
        let mut calls = Calls::new(Window::Time(ms(1)), start);
        calls.add(Tally::one(true, true), start);
        let later = start + Duration::from_secs(50 * 86_400);
        assert_eq!(calls.sum(later), Tally::default());
        calls.add(Tally::one(true, false), later + ms(3));
        assert_eq!(calls.sum(later + ms(3)).total, 1);
    }

    proptest! {
        #[test]
        fn a_count_window_is_the_last_calls(size in 1usize..20, failed in prop::collection::vec(any::<bool>(), 0..60)) {
            let now = Instant::now();
            let mut calls = Calls::new(Window::Count(size), now);
            for &failed in &failed {
                calls.add(Tally::one(failed, false), now);
            }
            let last = &failed[failed.len().saturating_sub(size)..];
            let expected = last.iter().filter(|failed| **failed).count();
            prop_assert_eq!(calls.sum(now).failed as usize, expected);
            prop_assert_eq!(calls.sum(now).total as usize, last.len());
        }

        #[test]
        fn a_time_window_holds_at_least_nine_tenths_and_at_most_its_span(
            gaps in prop::collection::vec(0u64..400, 1..80),
        ) {
            let mut now = Instant::now();
            let mut calls = Calls::new(Window::Time(ms(1_000)), now);
            let mut ends = Vec::new();
            for gap in gaps {
                now += ms(gap);
                ends.push(now);
                calls.add(Tally::one(false, false), now);
                let within = |span| ends.iter().filter(|end| now - **end < ms(span)).count();
                let total = calls.sum(now).total as usize;
                prop_assert!((within(900)..=within(1_000)).contains(&total), "{total}");
            }
        }
    }
}

//! What became of the latest calls: counts that slide with time or with calls.
//!
//! Pure: the time is an argument.

use std::{
    collections::VecDeque,
    ops::{AddAssign, SubAssign},
    time::Duration,
};

use tokio::time::Instant;

use crate::breaker::Window;

const SLOTS: usize = 10;

/// What became of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

impl Tally {
    pub(crate) fn good(total: u64) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    pub(crate) fn one(failed: bool, slow: bool) -> Self {
        Self {
            total: 1,
            failed: u64::from(failed),
            slow: u64::from(slow),
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

/// Time in stretches of the same length, which are numbered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretches {
    origin: Instant,
    nanos: u64,
}

impl Stretches {
    /// Stretches of `length` from `origin` on.
    pub(crate) fn new(length: Duration, origin: Instant) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            origin,
            nanos: nanos.max(1),
        }
    }

    /// The number of the one at `now`.
    #[inline]
    pub(crate) fn number(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        // Beyond 584 years all are the last.
        let nanos = since.as_secs().saturating_mul(1_000_000_000);
        nanos.saturating_add(since.subsec_nanos().into()) / self.nanos
    }
}

/// Ten slots, each for a stretch of time, that slide with it.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    stretches: Stretches,
    newest: u64,
    slots: [T; SLOTS],
}

impl<T: Copy + Default> Ring<T> {
    /// Empty slots that last `span` together.
    pub(crate) fn new(span: Duration, now: Instant) -> Self {
        Self {
            stretches: Self::stretches(span, now),
            newest: 0,
            slots: [T::default(); SLOTS],
        }
    }

    /// The stretches of time of a ring that begins at `now`.
    pub(crate) fn stretches(span: Duration, now: Instant) -> Stretches {
        Stretches::new(span / SLOTS as u32, now)
    }

    /// Empties the slots that are older than the span and tells `gone` of each. The cost is bounded,
    /// however long the gap.
    pub(crate) fn advance(&mut self, now: Instant, mut gone: impl FnMut(T)) {
        let number = self.stretches.number(now);
        let steps = number.saturating_sub(self.newest).min(SLOTS as u64);
        self.newest = self.newest.max(number);
        for step in 0..steps {
            gone(std::mem::take(&mut self.slots[place(self.newest - step)]));
        }
    }

    /// Empties all slots.
    pub(crate) fn clear(&mut self, now: Instant) {
        self.advance(now, |_| {});
        self.slots = [T::default(); SLOTS];
    }

    pub(crate) fn newest(&mut self) -> &mut T {
        &mut self.slots[place(self.newest)]
    }

    /// The slot whose number ends in `low`, of so many bits, if it is not too old.
    pub(crate) fn ending_in(&mut self, low: u64, bits: u32) -> Option<&mut T> {
        let mask = (1 << bits) - 1;
        let age = self.newest.wrapping_sub(low) & mask;
        // It may be a little ahead, by the clock of another thread.
        let age = if age > mask - SLOTS as u64 { 0 } else { age };
        let kept = age < SLOTS as u64 && age <= self.newest;
        kept.then(|| &mut self.slots[place(self.newest - age)])
    }

    pub(crate) fn slots(&self) -> &[T] {
        &self.slots
    }
}

/// Where the slot `number` is kept.
const fn place(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[derive(Debug)]
enum Slide {
    Time(Box<Ring<Tally>>),
    Count { size: usize, calls: VecDeque<Tally> },
}

/// A sliding window over calls, with its running sum.
#[derive(Debug)]
pub(crate) struct Calls {
    slide: Slide,
    sum: Tally,
}

impl Calls {
    pub(crate) fn new(window: Window, now: Instant) -> Self {
        let slide = match window {
            Window::Time(span) => Slide::Time(Box::new(Ring::new(span, now))),
            Window::Count(size) => Slide::Count {
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
            Slide::Time(ring) => ring.clear(now),
            Slide::Count { calls, .. } => calls.clear(),
        }
    }

    pub(crate) fn add(&mut self, call: Tally, now: Instant) {
        self.advance(now);
        match &mut self.slide {
            Slide::Time(ring) => *ring.newest() += call,
            Slide::Count { size, calls } => {
                if calls.len() == *size {
                    self.sum -= calls.pop_front().unwrap_or_default();
                }
                calls.push_back(call);
            }
        }
        self.sum += call;
    }

    /// Adds so many good calls, which ended while the slot was the newest whose number ends in `low`,
    /// of so many bits. Time windows alone have slots.
    pub(crate) fn add_good(&mut self, count: u64, low: u64, bits: u32, now: Instant) {
        self.advance(now);
        match &mut self.slide {
            Slide::Time(ring) => {
                if let Some(slot) = ring.ending_in(low, bits) {
                    *slot += Tally::good(count);
                    self.sum += Tally::good(count);
                }
            }
            Slide::Count { size, .. } => {
                for _ in 0..count.min(*size as u64) {
                    self.add(Tally::good(1), now);
                }
            }
        }
    }

    /// What is in the window at `now`.
    pub(crate) fn sum(&mut self, now: Instant) -> Tally {
        self.advance(now);
        self.sum
    }

    fn advance(&mut self, now: Instant) {
        if let Slide::Time(ring) = &mut self.slide {
            ring.advance(now, |gone| self.sum -= gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn good_calls_are_added_to_the_bucket_in_which_they_ended() {
        let start = Instant::now();
        let mut calls = Calls::new(Window::Time(ms(10_000)), start);
        let at = |seconds: u64| start + ms(1_000 * seconds);
        calls.add_good(3, 2, 8, at(5));
        assert_eq!((calls.sum(at(11)).total, calls.sum(at(12)).total), (3, 0));
        calls.add_good(3, 2, 8, at(12));
        assert_eq!(calls.sum(at(12)).total, 0, "they are too old already");
        calls.add_good(3, 13, 8, at(12));
        assert_eq!(calls.sum(at(12)).total, 3, "a moment ahead is now");
        calls.add_good(3, 100, 8, at(12));
        assert_eq!(calls.sum(at(12)).total, 3, "far ahead is long ago");
        // The numbers of both buckets end in 1 if only four bits are kept.
        calls.add_good(2, 1, 4, at(17));
        assert_eq!((calls.sum(at(26)).total, calls.sum(at(27)).total), (2, 0));
        let mut calls = Calls::new(Window::Count(5), start);
        calls.add(Tally::one(true, false), start);
        calls.add_good(3, 0, 8, start);
        assert_eq!((calls.sum(start).total, calls.sum(start).failed), (4, 1));
        calls.add_good(u64::MAX, 0, 8, start);
        assert_eq!(calls.sum(start), Tally::good(5));
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

//! Sliding windows of call results, over time or over a number of calls.
//!
//! No type here reads the clock: the time is an argument.

use std::{
    collections::VecDeque,
    ops::{AddAssign, SubAssign},
    time::Duration,
};

use tokio::time::Instant;

use crate::breaker::Window;

/// Number of buckets of a time window.
const SLOTS: usize = 10;

/// Numbers of calls, by result.
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

    /// Returns `true` if no call failed or was slow.
    pub(crate) fn is_good(self) -> bool {
        (self.failed, self.slow) == (0, 0)
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

/// Time, divided into numbered intervals of equal length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretches {
    origin: Instant,
    nanos: u64,
}

impl Stretches {
    /// Creates intervals of `length`, the first of which begins at `origin`.
    pub(crate) fn new(length: Duration, origin: Instant) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            origin,
            nanos: nanos.max(1),
        }
    }

    /// Returns the number of the interval at `now`.
    #[inline]
    pub(crate) fn number(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        // After 584 years the nanoseconds exceed a `u64`, and the number stays the same.
        let nanos = since.as_secs().saturating_mul(1_000_000_000);
        nanos.saturating_add(since.subsec_nanos().into()) / self.nanos
    }
}

/// A ring of ten slots, one per interval of time, that slides as time passes.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    stretches: Stretches,
    newest: u64,
    slots: [T; SLOTS],
}

impl<T: Copy + Default> Ring<T> {
    /// Creates empty slots that cover `span` together.
    pub(crate) fn new(span: Duration, now: Instant) -> Self {
        Self {
            stretches: Self::stretches(span, now),
            newest: 0,
            slots: [T::default(); SLOTS],
        }
    }

    /// Returns the intervals of a ring that begins at `now`.
    pub(crate) fn stretches(span: Duration, now: Instant) -> Stretches {
        Stretches::new(span / SLOTS as u32, now)
    }

    /// Empties the slots that are older than the span, and passes the content of each to `gone`.
    ///
    /// The cost is bounded by the number of slots, however long the ring was idle.
    pub(crate) fn advance(&mut self, now: Instant, mut gone: impl FnMut(T)) {
        let number = self.stretches.number(now);
        let steps = number.saturating_sub(self.newest).min(SLOTS as u64);
        self.newest = self.newest.max(number);
        for step in 0..steps {
            gone(std::mem::take(
                &mut self.slots[slot_index(self.newest - step)],
            ));
        }
    }

    /// Empties all slots.
    pub(crate) fn clear(&mut self, now: Instant) {
        self.advance(now, |_| {});
        self.slots = [T::default(); SLOTS];
    }

    pub(crate) fn newest(&mut self) -> &mut T {
        &mut self.slots[slot_index(self.newest)]
    }

    /// Returns the slot whose number has the low `bits` bits `low`, or `None` if it is too old.
    pub(crate) fn ending_in(&mut self, low: u64, bits: u32) -> Option<&mut T> {
        let mask = (1 << bits) - 1;
        let age = self.newest.wrapping_sub(low) & mask;
        // The clock of another thread may be slightly ahead; such a slot counts as the newest.
        let age = if age > mask - SLOTS as u64 { 0 } else { age };
        let is_kept = age < SLOTS as u64 && age <= self.newest;
        is_kept.then(|| &mut self.slots[slot_index(self.newest - age)])
    }

    pub(crate) fn slots(&self) -> &[T] {
        &self.slots
    }
}

/// Returns the index of the slot with this number.
const fn slot_index(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

#[derive(Debug)]
enum WindowKind {
    Time(Box<Ring<Tally>>),
    Count { size: usize, calls: VecDeque<Tally> },
}

/// A sliding window of call results, with its running sum.
#[derive(Debug)]
pub(crate) struct Calls {
    kind: WindowKind,
    sum: Tally,
}

impl Calls {
    pub(crate) fn new(window: Window, now: Instant) -> Self {
        let kind = match window {
            Window::Time(span) => WindowKind::Time(Box::new(Ring::new(span, now))),
            Window::Count(size) => WindowKind::Count {
                size,
                calls: VecDeque::with_capacity(size),
            },
        };
        Self {
            kind,
            sum: Tally::default(),
        }
    }

    pub(crate) fn clear(&mut self, now: Instant) {
        self.sum = Tally::default();
        match &mut self.kind {
            WindowKind::Time(ring) => ring.clear(now),
            WindowKind::Count { calls, .. } => calls.clear(),
        }
    }

    pub(crate) fn add(&mut self, call: Tally, now: Instant) {
        self.advance(now);
        match &mut self.kind {
            WindowKind::Time(ring) => *ring.newest() += call,
            WindowKind::Count { size, calls } => {
                if calls.len() == *size {
                    self.sum -= calls.pop_front().unwrap_or_default();
                }
                calls.push_back(call);
            }
        }
        self.sum += call;
    }

    /// Adds `count` successes that ended in the slot whose number has the low `bits` bits `low`.
    ///
    /// A count window has no slots and ignores `low` and `bits`.
    pub(crate) fn add_good(&mut self, count: u64, low: u64, bits: u32, now: Instant) {
        self.advance(now);
        match &mut self.kind {
            WindowKind::Time(ring) => {
                if let Some(slot) = ring.ending_in(low, bits) {
                    *slot += Tally::good(count);
                    self.sum += Tally::good(count);
                }
            }
            WindowKind::Count { size, .. } => {
                for _ in 0..count.min(*size as u64) {
                    self.add(Tally::good(1), now);
                }
            }
        }
    }

    /// Returns the sum of the window at `now`.
    pub(crate) fn sum(&mut self, now: Instant) -> Tally {
        self.advance(now);
        self.sum
    }

    fn advance(&mut self, now: Instant) {
        if let WindowKind::Time(ring) = &mut self.kind {
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
    fn a_slot_that_is_slightly_ahead_counts_as_the_newest() {
        let start = Instant::now();
        let mut ring = Ring::<u32>::new(ms(10), start);
        ring.advance(start + ms(40), |_| {});
        *ring.newest() = 7;
        for (number, slot) in [
            (40, Some(7)),
            (50, Some(7)),
            (51, None),
            (31, Some(0)),
            (30, None),
        ] {
            assert_eq!(ring.ending_in(number, 8).copied(), slot, "slot {number}");
        }
        // No slot is older than the ring.
        let mut young = Ring::<u32>::new(ms(10), start);
        young.advance(start + ms(2), |_| {});
        assert!(young.ending_in(0, 8).is_some() && young.ending_in(255, 8).is_none());
    }

    #[test]
    fn cb_04_calls_leave_a_time_window() {
        let start = Instant::now();
        let mut calls = Calls::new(Window::Time(ms(10_000)), start);
        calls.add(Tally::one(true, false), start);
        assert_eq!(calls.sum(start + ms(8_999)).failed, 1);
        calls.add(Tally::one(true, false), start + ms(11_000));
        assert_eq!(calls.sum(start + ms(11_000)), Tally::one(true, false));
    }

    #[test]
    fn cb_05_fifty_idle_days_empty_the_window() {
        let start = Instant::now();
        let mut calls = Calls::new(Window::Time(ms(1)), start);
        calls.add(Tally::one(true, true), start);
        let later = start + Duration::from_secs(50 * 86_400);
        assert_eq!(calls.sum(later), Tally::default());
        calls.add(Tally::one(true, false), later + ms(3));
        assert_eq!(calls.sum(later + ms(3)).total, 1);
    }

    #[test]
    fn adds_successes_to_the_bucket_in_which_they_ended() {
        let start = Instant::now();
        let mut calls = Calls::new(Window::Time(ms(10_000)), start);
        let at = |seconds: u64| start + ms(1_000 * seconds);
        calls.add_good(3, 2, 8, at(5));
        assert_eq!((calls.sum(at(11)).total, calls.sum(at(12)).total), (3, 0));
        calls.add_good(3, 2, 8, at(12));
        assert_eq!(calls.sum(at(12)).total, 0, "the bucket has left the window");
        calls.add_good(3, 13, 8, at(12));
        assert_eq!(
            calls.sum(at(12)).total,
            3,
            "a bucket slightly ahead counts as the newest"
        );
        calls.add_good(3, 100, 8, at(12));
        assert_eq!(
            calls.sum(at(12)).total,
            3,
            "a bucket far ahead counts as an old one"
        );
        // With four bits, the numbers 1 and 17 both have the low bits 1. The newer slot gets the
        // calls.
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
        fn a_count_window_holds_the_last_calls(size in 1usize..20, failed in prop::collection::vec(any::<bool>(), 0..60)) {
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

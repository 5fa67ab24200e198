//! A counter that all threads add to without waiting for each other: each thread has a part of its
//! own.
//!
//! Each count has a tag, such as the number of an interval of time. A part counts one tag at a
//! time. A thread that finds another tag in its part moves all counts to the main counter behind a
//! lock, with [`take`](Sharded::take).

use std::sync::LazyLock;

use crate::sync::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 24;
/// Maximum count of one part.
const FULL: u32 = (1 << COUNT_BITS) - 1;

/// Width of a tag in bits. Higher bits are dropped.
pub(crate) const TAG_BITS: u32 = u64::BITS - COUNT_BITS;

/// Aligned to two cache lines, because processors fetch lines in pairs.
#[repr(align(128))]
struct Part(AtomicU64);

pub(crate) struct Sharded {
    parts: Box<[Part]>,
}

/// Returns the number of this thread, which counts from 0.
#[cfg(not(all(test, shuttle)))]
#[inline]
pub(crate) fn thread() -> usize {
    use std::{cell::Cell, sync::atomic::AtomicUsize};

    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    THREAD.get().unwrap_or_else(|| {
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        THREAD.set(Some(number));
        number
    })
}

#[cfg(all(test, shuttle))]
pub(crate) fn thread() -> usize {
    shuttle::current::me().into()
}

/// Returns the number of parts: the number of processors, rounded up to a power of two, at most 64.
pub(crate) fn parts() -> usize {
    if cfg!(all(test, shuttle)) {
        return 2;
    }
    // The system reads several files to find the number, and a process may have thousands of counters.
    static PARTS: LazyLock<usize> = LazyLock::new(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.next_power_of_two().min(64)
    });
    *PARTS
}

fn tag(word: u64) -> u64 {
    word >> COUNT_BITS
}

fn count(word: u64) -> u32 {
    (word & u64::from(FULL)) as u32
}

impl Sharded {
    pub(crate) fn new() -> Self {
        Self::with_parts(parts())
    }

    /// Creates a counter with `count` parts, a power of two. Fewer parts take less memory.
    pub(crate) fn with_parts(count: usize) -> Self {
        Self {
            parts: (0..count).map(|_| Part(AtomicU64::new(0))).collect(),
        }
    }

    /// Adds 1 to the count of `tag`, unless the count has reached `limit` already.
    ///
    /// Returns `false` if the part of this thread counts another tag, or is full. The caller must
    /// then [`take`](Self::take) all counts.
    #[inline]
    pub(crate) fn add(&self, wanted: u64, limit: u32) -> bool {
        // In bounds: the number of parts is a power of two.
        let Part(part) = &self.parts[thread() & (self.parts.len() - 1)];
        let wanted = wanted & ((1 << TAG_BITS) - 1);
        // Relaxed ordering suffices, because a part guards no other memory.
        let mut word = part.load(Ordering::Relaxed);
        loop {
            let next = match count(word) {
                0 => wanted << COUNT_BITS | 1,
                _ if tag(word) != wanted => return false,
                counted if counted >= limit => return true,
                FULL => return false,
                _ => word + 1,
            };
            match part.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(current) => word = current,
            }
        }
    }

    /// Takes all counts, and calls `each` with the tag and the count of each part.
    pub(crate) fn take(&self, mut each: impl FnMut(u64, u32)) {
        for Part(part) in &self.parts {
            if part.load(Ordering::Relaxed) != 0 {
                let word = part.swap(0, Ordering::Relaxed);
                each(tag(word), count(word));
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    fn taken(sharded: &Sharded) -> Vec<(u64, u32)> {
        let mut all = Vec::new();
        sharded.take(|tag, count| all.push((tag, count)));
        all
    }

    #[test]
    fn a_part_counts_one_tag_at_a_time() {
        let sharded = Sharded::new();
        assert!(sharded.add(3, FULL) && sharded.add(3, FULL) && !sharded.add(4, FULL));
        assert_eq!(taken(&sharded), [(3, 2)]);
        assert!(sharded.add(4, FULL) && taken(&sharded) == [(4, 1)]);
        assert_eq!(taken(&sharded), []);
    }

    #[test]
    fn stops_at_the_limit_and_fails_when_a_part_is_full() {
        let sharded = Sharded::new();
        assert!((0..9).all(|_| sharded.add(0, 5)));
        assert_eq!(taken(&sharded), [(0, 5)]);
        assert!((0..FULL).all(|_| sharded.add(7, u32::MAX)));
        assert!(!sharded.add(7, u32::MAX));
    }

    #[test]
    fn concurrent_adds_are_all_counted() {
        let (sharded, total) = (Sharded::new(), AtomicU64::new(0));
        let take = || {
            sharded.take(|_, count| {
                total.fetch_add(count.into(), Ordering::Relaxed);
            });
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..20_000_u64 {
                        while !sharded.add(number / 1_000, u32::MAX) {
                            take();
                        }
                    }
                });
            }
        });
        take();
        assert_eq!(total.into_inner(), 80_000);
    }
}

#[cfg(all(test, shuttle))]
mod schedules {
    use super::*;
    use crate::sync::{Arc, check, join, thread};

    #[test]
    fn takes_each_count_exactly_once() {
        check(|| {
            let counter = Arc::new(Sharded::new());
            let add = |tag: u64| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    let mut taken = 0;
                    for step in 0..3 {
                        while !counter.add(tag + step, u32::MAX) {
                            counter.take(|_, count| taken += count);
                        }
                    }
                    taken
                })
            };
            let taken: u32 = join([add(1), add(2), add(3)]).into_iter().sum();
            let mut left = 0;
            counter.take(|_, count| left += count);
            assert_eq!(taken + left, 9);
        });
    }
}

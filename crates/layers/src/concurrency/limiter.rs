//! Counts permits and keeps those who wait for one in order.
//!
//! The counts of running and of waiting calls share one atomic word, so that a call that need not
//! wait takes no lock. The queue behind the lock is only touched while somebody waits.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use crate::context::Priority;

/// The two counts: calls that run (or were granted their turn), and calls that wait.
#[derive(Clone, Copy)]
struct Counts {
    running: u32,
    waiting: u32,
}

impl Counts {
    fn read(word: u64) -> Self {
        Self {
            running: word as u32,
            waiting: (word >> 32) as u32,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.waiting) << 32 | u64::from(self.running)
    }
}

/// The place of a waiter: higher priority first, then order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    rank: u8,
    arrival: u64,
}

#[derive(Default)]
struct Queue {
    arrivals: u64,
    /// Who waits. A waiter that is no longer here was granted its turn.
    waiters: BTreeMap<Place, Waker>,
}

pub(super) struct Limiter {
    counts: AtomicU64,
    max: u32,
    max_queue: u32,
    queue: Mutex<Queue>,
}

impl Limiter {
    pub(super) fn new(max: u32, max_queue: u32) -> Self {
        Self {
            counts: AtomicU64::new(0),
            max,
            max_queue,
            queue: Mutex::default(),
        }
    }

    /// Takes a permit if one is free and nobody waits for it.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        self.change(|counts| {
            (counts.waiting == 0 && counts.running < self.max).then_some(Counts {
                running: counts.running + 1,
                ..counts
            })
        })
        .then(|| Permit {
            limiter: Arc::clone(self),
        })
    }

    /// Takes a permit or a place in the queue; nothing if both are full.
    pub(super) fn acquire(self: &Arc<Self>, priority: Priority, waker: &Waker) -> Option<Turn> {
        let mut queue = self.queue();
        // Under the lock, so that a permit freed meanwhile is either seen here or handed to us.
        loop {
            if let Some(permit) = self.try_acquire() {
                return Some(Turn::Now(permit));
            }
            let joined = self.change(|counts| {
                let full = counts.running >= self.max || counts.waiting > 0;
                (full && counts.waiting < self.max_queue).then_some(Counts {
                    waiting: counts.waiting + 1,
                    ..counts
                })
            });
            if joined {
                break;
            }
            if self.counts().waiting >= self.max_queue {
                return None;
            }
        }
        queue.arrivals += 1;
        let place = Place {
            rank: Priority::MAX.level() - priority.level(),
            arrival: queue.arrivals,
        };
        queue.waiters.insert(place, waker.clone());
        Some(Turn::Later(Waiter {
            limiter: Arc::clone(self),
            place,
            left: false,
        }))
    }

    fn release(&self) {
        let freed = self.change(|counts| {
            (counts.waiting == 0).then(|| Counts {
                running: counts.running - 1,
                ..counts
            })
        });
        if !freed {
            self.hand_over(self.queue());
        }
    }

    /// Gives the permit of a call that ended to the first who waits, if anybody still does.
    fn hand_over(&self, mut queue: MutexGuard<'_, Queue>) {
        let next = queue.waiters.pop_first();
        self.change(|counts| {
            Some(match &next {
                Some(_) => Counts {
                    waiting: counts.waiting - 1,
                    ..counts
                },
                None => Counts {
                    running: counts.running - 1,
                    ..counts
                },
            })
        });
        drop(queue);
        if let Some((_, waker)) = next {
            waker.wake();
        }
    }

    /// Applies `next` until it was applied to the current counts or declined.
    fn change(&self, next: impl Fn(Counts) -> Option<Counts>) -> bool {
        self.counts
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                next(Counts::read(word)).map(Counts::word)
            })
            .is_ok()
    }

    fn counts(&self) -> Counts {
        Counts::read(self.counts.load(Ordering::Acquire))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn max(&self) -> u32 {
        self.max
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.counts().running
    }

    pub(super) fn queued(&self) -> u32 {
        self.counts().waiting
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("max", &self.max)
            .field("in_flight", &self.in_flight())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

/// A permit, or a place in the queue.
pub(super) enum Turn {
    Now(Permit),
    Later(Waiter),
}

/// The right to run; given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: Arc<Limiter>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.release();
    }
}

/// A place in the queue; left on drop.
pub(super) struct Waiter {
    limiter: Arc<Limiter>,
    place: Place,
    /// The permit went to its `Permit`, or the place was given up.
    left: bool,
}

impl Waiter {
    /// The permit, once it is this waiter's turn.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Permit> {
        match self.limiter.queue().waiters.get_mut(&self.place) {
            Some(current) => {
                current.clone_from(waker);
                Poll::Pending
            }
            None => {
                self.left = true;
                Poll::Ready(Permit {
                    limiter: Arc::clone(&self.limiter),
                })
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut queue = self.limiter.queue();
        if queue.waiters.remove(&self.place).is_some() {
            self.limiter.change(|counts| {
                Some(Counts {
                    waiting: counts.waiting - 1,
                    ..counts
                })
            });
        } else {
            // Granted but never seen: the next in line gets it.
            self.limiter.hand_over(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(limiter: &Arc<Limiter>, level: u8) -> Waiter {
        match limiter.acquire(Priority::new(level).unwrap(), Waker::noop()) {
            Some(Turn::Later(waiter)) => waiter,
            Some(Turn::Now(_)) => panic!("a permit was free"),
            None => panic!("the queue was full"),
        }
    }

    fn has_turn(waiter: &mut Waiter) -> Option<Permit> {
        match waiter.poll(Waker::noop()) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn cl_03_a_dropped_waiter_frees_its_place_at_once() {
        let limiter = Arc::new(Limiter::new(1, 1));
        let _running = limiter.try_acquire().unwrap();
        let waiter = wait(&limiter, 0);
        assert!(
            limiter
                .acquire(Priority::default(), Waker::noop())
                .is_none()
        );
        drop(waiter);
        assert_eq!(limiter.queued(), 0);
        drop(wait(&limiter, 0));
    }

    #[test]
    fn cl_04_a_permit_granted_to_a_dropped_waiter_goes_to_the_next() {
        let limiter = Arc::new(Limiter::new(1, 2));
        let running = limiter.try_acquire().unwrap();
        let first = wait(&limiter, 0);
        let mut second = wait(&limiter, 0);
        drop(running);
        assert!(has_turn(&mut second).is_none());
        drop(first);
        let permit = has_turn(&mut second).expect("the permit is handed on");
        assert_eq!((limiter.in_flight(), limiter.queued()), (1, 0));
        drop(permit);
        assert_eq!(limiter.in_flight(), 0);
    }

    #[test]
    fn cl_09_higher_priority_first_and_equal_ones_in_order() {
        let limiter = Arc::new(Limiter::new(1, 4));
        let mut permit = limiter.try_acquire();
        let mut waiters = [(1, "a"), (9, "b"), (5, "c"), (9, "d")]
            .map(|(level, name)| (wait(&limiter, level), name));
        let mut order = String::new();
        while order.len() < 4 {
            permit.take();
            for (waiter, name) in &mut waiters {
                if !waiter.left && permit.is_none() {
                    permit = has_turn(waiter);
                    order.push_str(if permit.is_some() { name } else { "" });
                }
            }
        }
        assert_eq!(order, "bdca");
    }

    #[test]
    fn a_newcomer_does_not_overtake_those_who_wait() {
        let limiter = Arc::new(Limiter::new(1, 1));
        let running = limiter.try_acquire().unwrap();
        let mut waiter = wait(&limiter, 0);
        drop(running);
        assert!(limiter.try_acquire().is_none());
        assert!(has_turn(&mut waiter).is_some());
    }

    #[test]
    fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let limiter = Arc::new(Limiter::new(3, 0));
        let peak = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let permit = limiter.try_acquire();
                        peak.fetch_max(u64::from(limiter.in_flight()), Ordering::Relaxed);
                        drop(permit);
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 3);
        assert_eq!(limiter.in_flight(), 0);
    }
}

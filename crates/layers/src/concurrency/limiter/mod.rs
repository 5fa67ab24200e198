//! Counts permits and keeps those who wait for one in order.
//!
//! The counts of running and of waiting calls share one atomic word, so that a call that need not
//! wait takes no lock. The queue behind the lock is only touched while somebody waits, or when the
//! limit changes.

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::OnceLock,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ConcurrencyConfig, Order,
    adaptive::{Controller, Signal},
};
use crate::{
    breaker,
    call::Priority,
    classify::{Cause, Class, Failure},
    permit_scope::Guard,
    rejection::Rejection,
    sync::{Arc, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
};

/// The two counts: calls that run (or were granted their turn), and calls that wait.
#[derive(Clone, Copy)]
struct Counts {
    running: u32,
    waiting: u32,
}

const ONE_RUNNING: u64 = 1;

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

/// The place of a waiter; the least is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QueuePosition {
    /// Without aging, levels below the highest. With aging, when a call of the highest level would
    /// have had to arrive to stand here: each level is worth so much time of waiting.
    rank: u64,
    arrival: u64,
    level: u8,
}

#[derive(Default)]
struct Queue {
    arrivals: u64,
    /// Who waits. A waiter that is in neither set was granted its turn.
    waiters: BTreeMap<QueuePosition, Waker>,
    /// Who lost its place and has not seen it yet.
    evicted: BTreeSet<QueuePosition>,
    /// How long calls ran lately that had to ask for their turn, smoothed.
    typical: Option<Duration>,
}

pub(super) struct Limiter {
    counts: AtomicU64,
    /// Written under the queue's lock.
    max: AtomicU32,
    max_queue: u32,
    pub(super) max_wait: Duration,
    order: Order,
    aging: Option<Duration>,
    born: Instant,
    /// The breaker below, which is asked before a call begins or waits, and again after the wait.
    pub(super) breaker: OnceLock<breaker::Handle>,
    queue: Mutex<Queue>,
    /// Moves the limit.
    controller: Option<Mutex<Controller>>,
}

impl Limiter {
    pub(super) fn new(settings: &ConcurrencyConfig) -> Self {
        let now = Instant::now();
        let adaptive = settings.adaptive.as_ref();
        Self {
            counts: AtomicU64::new(0),
            max: AtomicU32::new(adaptive.map_or(settings.max, |adaptive| adaptive.initial)),
            max_queue: settings.queue,
            max_wait: settings.max_wait,
            breaker: OnceLock::new(),
            order: settings.order,
            aging: settings.aging,
            born: now,
            queue: Mutex::default(),
            controller: adaptive.map(|adaptive| Mutex::new(Controller::new(adaptive.clone(), now))),
        }
    }

    /// Returns the rejection of a call that the breaker below would not let through.
    #[inline]
    pub(super) fn reject(&self) -> Option<Rejection> {
        self.breaker.get()?.reject()
    }

    /// Takes a permit if one is free and nobody waits for it.
    #[inline(always)]
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max();
        self.change(|counts| {
            (counts.waiting == 0 && counts.running < max).then_some(Counts {
                running: counts.running + 1,
                ..counts
            })
        })
        .then(|| Permit {
            since: self.controller.is_some().then(Instant::now),
            limiter: Arc::clone(self),
        })
    }

    /// Takes a permit or a place in the queue. The call is refused if both are full, and if it would
    /// most likely wait until after `end`.
    pub(super) fn acquire(
        self: &Arc<Self>,
        priority: Priority,
        end: Option<Instant>,
        waker: &Waker,
        now: Instant,
    ) -> Result<Turn, Rejection> {
        let mut queue = self.queue();
        let place = self.place(priority, &mut queue, now);
        let mut evicted = None;
        // Under the lock, so that a permit freed meanwhile is either seen here or handed to us.
        loop {
            if let Some(permit) = self.try_acquire() {
                return Ok(Turn::Now(permit.timed(now)));
            }
            if end.is_some_and(|end| self.expected(&queue, place, now) > Some(end)) {
                return Err(Rejection::QueueTimeout);
            }
            if self.join() {
                break;
            }
            if self.counts().waiting >= self.max_queue {
                evicted = Some(queue.evict_for(place).ok_or(Rejection::AtCapacity)?);
                break;
            }
        }
        queue.waiters.insert(place, waker.clone());
        drop(queue);
        if let Some(evicted) = evicted {
            evicted.wake();
        }
        Ok(Turn::Later(Waiter {
            limiter: Arc::clone(self),
            place,
            generation: self.breaker.get().map(breaker::Handle::generation),
            left: false,
        }))
    }

    fn place(&self, priority: Priority, queue: &mut Queue, now: Instant) -> QueuePosition {
        queue.arrivals += 1;
        let level = match self.order {
            Order::Priority => priority.level(),
            Order::Fifo => 0,
        };
        let below = u64::from(Priority::MAX.level() - level);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let rank = self.aging.map_or(below, |aging| {
            let waited_for = nanos(now.saturating_duration_since(self.born));
            waited_for.saturating_add(nanos(aging).saturating_mul(below))
        });
        QueuePosition {
            rank,
            arrival: queue.arrivals,
            level,
        }
    }

    /// When a call at `place` will most likely have its turn, if there is any experience.
    fn expected(&self, queue: &Queue, place: QueuePosition, now: Instant) -> Option<Instant> {
        let typical = queue.typical?;
        let ahead = queue.waiters.range(..place).count() as u32;
        now.checked_add(typical.saturating_mul(ahead) / self.max())
    }

    /// Adds one to those who wait, if the permits are taken and the queue has room.
    fn join(&self) -> bool {
        let max = self.max();
        self.change(|counts| {
            let full = counts.running >= max || counts.waiting > 0;
            (full && counts.waiting < self.max_queue).then_some(Counts {
                waiting: counts.waiting + 1,
                ..counts
            })
        })
    }

    /// From now on `max` calls may run. More than that are not stopped, but no turn is granted until
    /// there are fewer; if it is more than before, those who wait get their turns.
    pub(super) fn set_max(&self, max: u32) {
        let max = max.max(1);
        let queue = self.queue();
        self.max.store(max, Ordering::Release);
        self.grant(queue);
    }

    /// Gives their turns to as many of those who wait as the limit has room for.
    fn grant(&self, mut queue: MutexGuard<'_, Queue>) {
        let mut granted = Vec::new();
        while self.in_flight() < self.max()
            && let Some((_, waker)) = queue.waiters.pop_first()
        {
            self.change(|counts| {
                Some(Counts {
                    running: counts.running + 1,
                    waiting: counts.waiting - 1,
                })
            });
            granted.push(waker);
        }
        drop(queue);
        granted.into_iter().for_each(Waker::wake);
    }

    /// One fewer runs. If somebody waited by then, nobody else can have taken the turn.
    #[inline(always)]
    fn release(&self) {
        let word = self.counts.fetch_sub(ONE_RUNNING, Ordering::AcqRel);
        if Counts::read(word).waiting > 0 {
            self.grant(self.queue());
        }
    }

    /// A call that ran for `elapsed` and was measured ended as `class`.
    fn learn(&self, class: Class, elapsed: Duration) {
        // A call that a layer below rejected says nothing of how long the service takes.
        if let Class::Rejected(_) = class {
            return;
        }
        if self.max_queue > 0 {
            self.queue().learn(elapsed);
        }
        let Some(controller) = &self.controller else {
            return;
        };
        let mut controller = controller.lock().unwrap_or_else(PoisonError::into_inner);
        let signal = Signal::of(class, elapsed, controller.settings().unanswered);
        let max = signal
            .and_then(|signal| controller.record(signal, self.in_flight(), Instant::now()))
            .filter(|max| *max != self.max());
        drop(controller);
        if let Some(max) = max {
            self.set_max(max);
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
        self.max.load(Ordering::Acquire)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.counts().running
    }

    pub(super) fn queued(&self) -> u32 {
        self.counts().waiting
    }
}

impl Queue {
    /// Takes the place of the last who waits, if that one is of a lower level.
    fn evict_for(&mut self, place: QueuePosition) -> Option<Waker> {
        let (last, _) = self.waiters.last_key_value()?;
        if last.level >= place.level || *last < place {
            return None;
        }
        let (last, waker) = self.waiters.pop_last()?;
        self.evicted.insert(last);
        Some(waker)
    }

    /// A call that had to ask for its turn ran for `time`.
    fn learn(&mut self, time: Duration) {
        let typical = self.typical.unwrap_or(time);
        self.typical = Some(typical - typical / 8 + time / 8);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("max", &self.max())
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
pub struct Permit {
    limiter: Arc<Limiter>,
    /// Since when it runs, where somebody learns from how long calls take.
    since: Option<Instant>,
}

impl Permit {
    fn timed(mut self, now: Instant) -> Self {
        self.since = Some(now);
        self
    }

    /// The call is not made after all: there is nothing to learn from it.
    pub(super) fn unsent(&mut self) {
        self.since = None;
    }

    /// Whether the limit learns from how the call ends.
    pub(super) fn is_measured(&self) -> bool {
        self.since.is_some()
    }

    /// The call ended as `class` says of one that took so long.
    pub(super) fn record(&mut self, class: impl FnOnce(Duration) -> Class) {
        if let Some(since) = self.since.take() {
            let elapsed = since.elapsed();
            self.limiter.learn(class(elapsed), elapsed);
        }
    }
}

impl Guard for Permit {
    fn failed(self, _: Option<Rejection>) {}
}

impl Drop for Permit {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_measured() {
            self.record(|elapsed| match std::thread::panicking() {
                true => Class::Failure(Failure::Panic),
                false => Class::Unanswered {
                    elapsed,
                    cause: Cause::CallerGone,
                },
            });
        }
        self.limiter.release();
    }
}

/// A place in the queue; left on drop.
pub(super) struct Waiter {
    limiter: Arc<Limiter>,
    place: QueuePosition,
    /// The generation of the breaker below when the wait began.
    generation: Option<u64>,
    /// It got its permit or its refusal.
    left: bool,
}

impl Waiter {
    /// Returns the rejection of the breaker below, if the circuit has opened while the call waited.
    pub(super) fn reject(&self) -> Option<Rejection> {
        self.limiter.breaker.get()?.reject_since(self.generation?)
    }

    /// The permit once it is this waiter's turn, or the refusal if its place went to another.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Result<Permit, Rejection>> {
        let mut queue = self.limiter.queue();
        if let Some(current) = queue.waiters.get_mut(&self.place) {
            current.clone_from(waker);
            return Poll::Pending;
        }
        self.left = true;
        if queue.evicted.remove(&self.place) {
            return Poll::Ready(Err(Rejection::Evicted));
        }
        let permit = Permit {
            limiter: Arc::clone(&self.limiter),
            since: None,
        };
        Poll::Ready(Ok(permit.timed(Instant::now())))
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
        } else if !queue.evicted.remove(&self.place) {
            // Granted but never seen: the next in line gets it.
            drop(queue);
            self.limiter.release();
        }
    }
}

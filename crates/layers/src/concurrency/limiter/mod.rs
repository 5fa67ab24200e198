//! The limiter, which counts permits and orders the waiting calls.
//!
//! The counts of running and waiting calls share one atomic word, so a call that need not wait
//! takes no lock. The queue behind the lock is used only while calls wait, and when the limit
//! changes.

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
    clock,
    permit_scope::Guard,
    rejection::Rejection,
    sync::{Arc, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, lock},
};

/// The two counts: running calls, including granted waiters that have not been polled since, and
/// waiting calls.
#[derive(Clone, Copy)]
struct Counts {
    running: u32,
    waiting: u32,
}

/// One running call, and one waiting call, in the word of [`Counts`].
const ONE_RUNNING: u64 = 1;
const ONE_WAITING: u64 = 1 << 32;

impl Counts {
    fn read(word: u64) -> Self {
        Self {
            running: word as u32,
            waiting: (word >> 32) as u32,
        }
    }
}

/// The position of a waiter in the queue. The lowest position is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QueuePosition {
    /// Without aging: number of levels below the highest. With aging: the arrival time in
    /// nanoseconds, plus the aging time for each level below the highest.
    rank: u64,
    arrival: u64,
    level: u8,
}

#[derive(Default)]
struct Queue {
    arrivals: u64,
    /// Waiting calls. A waiter that is in neither collection was granted a permit.
    waiters: BTreeMap<QueuePosition, Waker>,
    /// Evicted waiters that have not been polled since.
    evicted: BTreeSet<QueuePosition>,
    /// Moving average of the duration of measured calls, with weight 1/8. Calls that got a permit
    /// at once are measured only under an adaptive limit.
    typical_duration: Option<Duration>,
}

pub(super) struct Limiter {
    counts: AtomicU64,
    /// Written only under the queue's lock.
    max: AtomicU32,
    max_queue: u32,
    pub(super) max_wait: Duration,
    order: Order,
    aging: Option<Duration>,
    created: Instant,
    /// The breaker below, which is checked before a call runs or waits, and again after the wait.
    pub(super) breaker: OnceLock<breaker::Handle>,
    queue: Mutex<Queue>,
    /// Adapts the limit.
    controller: Option<Mutex<Controller>>,
}

impl Limiter {
    pub(super) fn new(config: &ConcurrencyConfig) -> Self {
        let now = Instant::now();
        let adaptive = config.adaptive.as_ref();
        Self {
            counts: AtomicU64::new(0),
            max: AtomicU32::new(adaptive.map_or(config.max, |adaptive| adaptive.initial)),
            max_queue: config.queue,
            max_wait: config.max_wait,
            breaker: OnceLock::new(),
            order: config.order,
            aging: config.aging,
            created: now,
            queue: Mutex::default(),
            controller: adaptive.map(|adaptive| Mutex::new(Controller::new(adaptive.clone(), now))),
        }
    }

    /// Returns the rejection of a call that the breaker below would reject.
    #[inline]
    pub(super) fn reject(&self) -> Option<Rejection> {
        self.breaker.get()?.reject()
    }

    /// Takes a permit if one is free and no call is waiting.
    #[inline(always)]
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max();
        let is_free = |counts: Counts| counts.waiting == 0 && counts.running < max;
        self.add_if(ONE_RUNNING, is_free).then(|| Permit {
            since: self.controller.is_some().then(clock::now),
            limiter: Arc::clone(self),
        })
    }

    /// Takes a permit or a position in the queue.
    ///
    /// The call is rejected if both are full, or if its estimated wait ends after `end`.
    pub(super) fn acquire(
        self: &Arc<Self>,
        priority: Priority,
        end: Option<Instant>,
        waker: &Waker,
        now: Instant,
    ) -> Result<Admission, Rejection> {
        let mut queue = lock(&self.queue);
        let position = self.position(priority, &mut queue, now);
        let mut evicted = None;
        // Under the lock, a permit that is freed meanwhile is either seen here or granted to this
        // waiter.
        loop {
            if let Some(permit) = self.try_acquire() {
                return Ok(Admission::Granted(permit.timed(now)));
            }
            // `None` compares below `Some`: without an estimate, the call may wait.
            if end.is_some_and(|end| self.estimated_start(&queue, position, now) > Some(end)) {
                return Err(Rejection::QueueTimeout);
            }
            if self.try_enqueue() {
                break;
            }
            // The counts may have changed since `try_enqueue`, so the loop tries again if the queue
            // has room.
            if self.counts().waiting >= self.max_queue {
                evicted = Some(queue.evict_for(position).ok_or(Rejection::AtCapacity)?);
                break;
            }
        }
        queue.waiters.insert(position, waker.clone());
        drop(queue);
        if let Some(evicted) = evicted {
            // Wakers run foreign code, so they are called without the lock.
            evicted.wake();
        }
        Ok(Admission::Queued(Waiter {
            limiter: Arc::clone(self),
            position,
            generation: self.breaker.get().map(breaker::Handle::generation),
            is_done: false,
        }))
    }

    fn position(&self, priority: Priority, queue: &mut Queue, now: Instant) -> QueuePosition {
        queue.arrivals += 1;
        let level = match self.order {
            Order::Priority => priority.level(),
            Order::Fifo => 0,
        };
        // A lower rank is served first, so each missing level adds one aging time to the arrival.
        let below = u64::from(Priority::MAX.level() - level);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let rank = self.aging.map_or(below, |aging| {
            let arrived = nanos(now.saturating_duration_since(self.created));
            arrived.saturating_add(nanos(aging).saturating_mul(below))
        });
        QueuePosition {
            rank,
            arrival: queue.arrivals,
            level,
        }
    }

    /// Returns the estimated time at which a call at `position` gets its permit, or `None` before
    /// the first measured call.
    fn estimated_start(
        &self,
        queue: &Queue,
        position: QueuePosition,
        now: Instant,
    ) -> Option<Instant> {
        let typical_duration = queue.typical_duration?;
        let ahead = queue.waiters.range(..position).count() as u32;
        now.checked_add(typical_duration.saturating_mul(ahead) / self.max())
    }

    /// Adds one waiting call, if all permits are taken and the queue has room.
    fn try_enqueue(&self) -> bool {
        let max = self.max();
        self.add_if(ONE_WAITING, |counts| {
            let full = counts.running >= max || counts.waiting > 0;
            full && counts.waiting < self.max_queue
        })
    }

    /// Sets the limit. Running calls are not cancelled. An increase grants permits to waiting
    /// calls.
    pub(super) fn set_max(&self, max: u32) {
        let max = max.max(1);
        let queue = lock(&self.queue);
        self.max.store(max, Ordering::Release);
        self.grant(queue);
    }

    /// Grants permits to waiting calls, as far as the limit allows.
    fn grant(&self, mut queue: MutexGuard<'_, Queue>) {
        // While calls wait, only this method adds running calls, and only under the lock.
        let mut granted = Vec::new();
        while self.in_flight() < self.max() {
            let Some((_, waker)) = queue.waiters.pop_first() else {
                break;
            };
            // The call moves from the waiting to the running calls.
            self.counts
                .fetch_sub(ONE_WAITING - ONE_RUNNING, Ordering::AcqRel);
            granted.push(waker);
        }
        drop(queue);
        granted.into_iter().for_each(Waker::wake);
    }

    /// Returns one permit. While calls wait, new calls cannot take it, so it can be granted to a
    /// waiter.
    #[inline(always)]
    fn release(&self) {
        let word = self.counts.fetch_sub(ONE_RUNNING, Ordering::AcqRel);
        if Counts::read(word).waiting > 0 {
            self.grant(lock(&self.queue));
        }
    }

    /// Records the result of a measured call that ran for `elapsed`.
    fn record(&self, class: Class, elapsed: Duration) {
        // A rejection by a layer below is not a measurement of the service.
        if let Class::Rejected(_) = class {
            return;
        }
        if self.max_queue > 0 {
            lock(&self.queue).record_duration(elapsed);
        }
        let Some(controller) = &self.controller else {
            return;
            // The queue's lock is released here, because `set_max` takes it again.
        };
        let mut controller = lock(controller);
        let signal = Signal::of(class, elapsed, controller.config().unanswered);
        let max = signal
            .and_then(|signal| controller.record(signal, self.in_flight(), clock::now()))
            .filter(|max| *max != self.max());
        drop(controller);
        if let Some(max) = max {
            self.set_max(max);
        }
    }

    /// Adds `call` to the counts atomically, if `condition` holds for them. Returns `false` otherwise.
    fn add_if(&self, call: u64, condition: impl Fn(Counts) -> bool) -> bool {
        self.counts
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                condition(Counts::read(word)).then_some(word + call)
            })
            .is_ok()
    }

    fn counts(&self) -> Counts {
        Counts::read(self.counts.load(Ordering::Acquire))
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
    /// Evicts the last waiter, if it has a lower level than the call at `position` and comes after
    /// it.
    fn evict_for(&mut self, position: QueuePosition) -> Option<Waker> {
        let (last, _) = self.waiters.last_key_value()?;
        if last.level >= position.level || *last < position {
            return None;
        }
        let (last, waker) = self.waiters.pop_last()?;
        self.evicted.insert(last);
        Some(waker)
    }

    /// Adds the duration of a measured call to the moving average.
    fn record_duration(&mut self, time: Duration) {
        let typical_duration = self.typical_duration.unwrap_or(time);
        self.typical_duration = Some(typical_duration - typical_duration / 8 + time / 8);
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

/// The outcome of [`Limiter::acquire`]: a permit, or a position in the queue.
pub(super) enum Admission {
    Granted(Permit),
    Queued(Waiter),
}

/// The right to run one call. Appears only in type signatures, for example of a response body.
///
/// Dropping the permit returns it.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    /// Start of the call. `None` if its duration is not measured.
    since: Option<Instant>,
}

impl Permit {
    fn timed(mut self, now: Instant) -> Self {
        self.since = Some(now);
        self
    }

    /// Discards the measurement, because the call is not sent.
    pub(super) fn discard_measurement(&mut self) {
        self.since = None;
    }

    /// Returns `true` if the limiter learns from the result of the call.
    pub(super) fn is_measured(&self) -> bool {
        self.since.is_some()
    }

    /// Records the result of the call. `class` gets the duration of the call.
    pub(super) fn record(&mut self, class: impl FnOnce(Duration) -> Class) {
        if let Some(since) = self.since.take() {
            let elapsed = clock::now().saturating_duration_since(since);
            self.limiter.record(class(elapsed), elapsed);
        }
    }
}

impl Guard for Permit {
    fn failed(self, _: Option<Rejection>) {}

    fn panicked(mut self) {
        self.record(|_| Class::Failure(Failure::Panic));
    }
}

impl Drop for Permit {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_measured() {
            self.record(|elapsed| Class::Unanswered {
                elapsed,
                cause: Cause::CallerGone,
            });
        }
        self.limiter.release();
    }
}

/// A position in the queue. Dropping the waiter frees the position.
pub(super) struct Waiter {
    limiter: Arc<Limiter>,
    position: QueuePosition,
    /// The generation of the breaker below when the wait began.
    generation: Option<u64>,
    /// The waiter got its permit or its rejection.
    is_done: bool,
}

impl Waiter {
    /// Returns the rejection of the breaker below, if the circuit has opened while the call waited.
    pub(super) fn reject(&self) -> Option<Rejection> {
        self.limiter.breaker.get()?.reject_since(self.generation?)
    }

    /// Returns the permit once it is granted, or the rejection if the waiter was evicted.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Result<Permit, Rejection>> {
        let mut queue = lock(&self.limiter.queue);
        if let Some(current) = queue.waiters.get_mut(&self.position) {
            current.clone_from(waker);
            return Poll::Pending;
        }
        self.is_done = true;
        if queue.evicted.remove(&self.position) {
            return Poll::Ready(Err(Rejection::Evicted));
        }
        let permit = Permit {
            limiter: Arc::clone(&self.limiter),
            since: None,
        };
        Poll::Ready(Ok(permit.timed(clock::now())))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut queue = lock(&self.limiter.queue);
        if queue.waiters.remove(&self.position).is_some() {
            self.limiter.counts.fetch_sub(ONE_WAITING, Ordering::AcqRel);
        } else if !queue.evicted.remove(&self.position) {
            // The permit was granted, but not taken. The next waiter gets it.
            drop(queue);
            self.limiter.release();
        }
    }
}

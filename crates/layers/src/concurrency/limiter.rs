//! Counts permits and keeps those who wait for one in order.
//!
//! The counts of running and of waiting calls share one atomic word, so that a call that need not
//! wait takes no lock. The queue behind the lock is only touched while somebody waits, or when the
//! limit changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::OnceLock,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ConcurrencySettings, Order,
    adaptive::{Adapt, Controller, Signal},
};
use crate::{
    breaker,
    classify::{Cause, Class, Failure},
    context::Priority,
    reject::Reject,
    sync::{Arc, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
    until::Guard,
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
struct Place {
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
    waiters: BTreeMap<Place, Waker>,
    /// Who lost its place and has not seen it yet.
    evicted: BTreeSet<Place>,
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
    /// Asked again when a waiting call's turn has come.
    pub(super) breaker: OnceLock<breaker::Handle>,
    queue: Mutex<Queue>,
    /// Moves the limit.
    controller: Option<Mutex<Controller>>,
}

impl Limiter {
    pub(super) fn new(settings: &ConcurrencySettings) -> Self {
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

    /// Moves the limit by `algorithm`, in the bounds of the settings.
    pub(super) fn adapt(&mut self, settings: &ConcurrencySettings, algorithm: Box<dyn Adapt>) {
        let adaptive = settings.adaptive.clone().unwrap_or_default();
        self.max = AtomicU32::new(adaptive.initial);
        let controller = Controller::with(adaptive, algorithm, self.born);
        self.controller = Some(Mutex::new(controller));
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
    ) -> Result<Turn, Reject> {
        let mut queue = self.queue();
        let place = self.place(priority, &mut queue, now);
        let mut evicted = None;
        // Under the lock, so that a permit freed meanwhile is either seen here or handed to us.
        loop {
            if let Some(permit) = self.try_acquire() {
                return Ok(Turn::Now(permit.timed(now)));
            }
            if end.is_some_and(|end| self.expected(&queue, place, now) > Some(end)) {
                return Err(Reject::QueueTimeout);
            }
            if self.join() {
                break;
            }
            if self.counts().waiting >= self.max_queue {
                evicted = Some(queue.evict_for(place).ok_or(Reject::AtCapacity)?);
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
            admitting: self.breaker.get().map(breaker::Handle::admitting),
            left: false,
        }))
    }

    fn place(&self, priority: Priority, queue: &mut Queue, now: Instant) -> Place {
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
        Place {
            rank,
            arrival: queue.arrivals,
            level,
        }
    }

    /// When a call at `place` will most likely have its turn, if there is any experience.
    fn expected(&self, queue: &Queue, place: Place, now: Instant) -> Option<Instant> {
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
    fn evict_for(&mut self, place: Place) -> Option<Waker> {
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
    fn broken(self, _: Option<Reject>) {}
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
    place: Place,
    /// What the breaker was like when the wait began.
    admitting: Option<breaker::Admitting>,
    /// It got its permit or its refusal.
    left: bool,
}

impl Waiter {
    /// The refusal of the breaker, if the circuit has opened while the call waited.
    pub(super) fn refusal(&self) -> Option<Reject> {
        let (breaker, then) = self.limiter.breaker.get().zip(self.admitting)?;
        breaker.refusal_since(then)
    }

    /// Tells the breaker above that the call still waits.
    pub(super) fn waits(&self) {
        if let Some(breaker) = self.limiter.breaker.get() {
            breaker.waits();
        }
    }

    /// The permit once it is this waiter's turn, or the refusal if its place went to another.
    pub(super) fn poll(&mut self, waker: &Waker) -> Poll<Result<Permit, Reject>> {
        let mut queue = self.limiter.queue();
        if let Some(current) = queue.waiters.get_mut(&self.place) {
            current.clone_from(waker);
            return Poll::Pending;
        }
        self.left = true;
        if queue.evicted.remove(&self.place) {
            return Poll::Ready(Err(Reject::Evicted));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(max: u32, queue: u32) -> Arc<Limiter> {
        let settings = ConcurrencySettings {
            max,
            queue,
            ..ConcurrencySettings::default()
        };
        Arc::new(Limiter::new(&settings))
    }

    fn try_wait(limiter: &Arc<Limiter>, level: u8, now: Instant) -> Result<Waiter, Reject> {
        let priority = Priority::new(level).unwrap();
        match limiter.acquire(priority, None, Waker::noop(), now)? {
            Turn::Later(waiter) => Ok(waiter),
            Turn::Now(_) => panic!("a permit was free"),
        }
    }

    fn wait(limiter: &Arc<Limiter>, level: u8) -> Waiter {
        try_wait(limiter, level, Instant::now()).expect("the queue has room")
    }

    fn has_turn(waiter: &mut Waiter) -> Option<Permit> {
        match waiter.poll(Waker::noop()) {
            Poll::Ready(permit) => Some(permit.expect("it was not evicted")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn cl_03_a_dropped_waiter_frees_its_place_at_once() {
        let limiter = limiter(1, 1);
        let _running = limiter.try_acquire().unwrap();
        let waiter = wait(&limiter, 0);
        let refused = try_wait(&limiter, 0, Instant::now());
        assert_eq!(refused.err(), Some(Reject::AtCapacity));
        drop(waiter);
        assert_eq!(limiter.queued(), 0);
        drop(wait(&limiter, 0));
    }

    #[test]
    fn cl_04_a_permit_granted_to_a_dropped_waiter_goes_to_the_next() {
        let limiter = limiter(1, 2);
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
        let limiter = limiter(1, 4);
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
    fn cl_07_nobody_gets_a_turn_until_fewer_run_than_the_smaller_limit() {
        let limiter = limiter(10, 5);
        let mut running: Vec<_> = (0..8).filter_map(|_| limiter.try_acquire()).collect();
        limiter.set_max(2);
        let mut waiter = wait(&limiter, 0);
        while running.len() > 2 {
            running.pop();
            assert!(has_turn(&mut waiter).is_none(), "{} run", running.len());
        }
        running.pop();
        let _permit = has_turn(&mut waiter).expect("one of two runs");
        assert_eq!((limiter.in_flight(), limiter.queued()), (2, 0));
    }

    #[test]
    fn cl_08_a_larger_limit_lets_just_the_difference_in_and_in_order() {
        let limiter = limiter(1, 9);
        let _running = limiter.try_acquire().unwrap();
        let mut waiters: Vec<_> = (0..5).map(|_| wait(&limiter, 0)).collect();
        limiter.set_max(4);
        let permits: Vec<_> = waiters.iter_mut().map(has_turn).collect();
        let granted: Vec<_> = permits.iter().map(Option::is_some).collect();
        assert_eq!(granted, [true, true, true, false, false]);
        assert_eq!((limiter.in_flight(), limiter.queued()), (4, 2));
    }

    #[test]
    fn cl_09_aging_lets_the_least_important_through_in_bounded_time() {
        // Each level is worth a second by default, so the highest is ahead for nine.
        for (after, first) in [(8_900, 9), (9_100, 0)] {
            let limiter = limiter(1, 9);
            let running = limiter.try_acquire();
            let start = Instant::now();
            let mut low = try_wait(&limiter, 0, start).unwrap();
            let later = start + Duration::from_millis(after);
            let mut high = try_wait(&limiter, 9, later).unwrap();
            drop(running);
            let low_is_first = has_turn(&mut low).is_some();
            assert_eq!(low_is_first, first == 0);
            // It gave its permit back, or the other has it.
            assert!(has_turn(&mut high).is_some());
        }
    }

    #[test]
    fn cl_10_in_a_full_queue_high_evicts_low_and_equal_does_not() {
        let limiter = limiter(1, 3);
        let _running = limiter.try_acquire().unwrap();
        let (mut old, mut young, mut high) =
            (wait(&limiter, 1), wait(&limiter, 1), wait(&limiter, 5));
        let equal = try_wait(&limiter, 1, Instant::now());
        assert_eq!(equal.err(), Some(Reject::AtCapacity));
        let _higher = wait(&limiter, 3);
        let evicted = young.poll(Waker::noop());
        assert!(matches!(evicted, Poll::Ready(Err(Reject::Evicted))));
        assert!(has_turn(&mut old).is_none() && has_turn(&mut high).is_none());
        assert_eq!(limiter.queued(), 3);
        drop(young);
        assert_eq!(limiter.queued(), 3, "its place was taken already");
    }

    #[test]
    fn a_newcomer_does_not_overtake_those_who_wait() {
        let limiter = limiter(1, 1);
        let running = limiter.try_acquire().unwrap();
        let mut waiter = wait(&limiter, 0);
        drop(running);
        assert!(limiter.try_acquire().is_none());
        assert!(has_turn(&mut waiter).is_some());
    }

    #[test]
    fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
        let limiter = limiter(3, 0);
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

//! The hand-over of permits under many thread schedules. See [`crate::sync`].

use std::task::{Poll, Waker};

use tokio::time::Instant;

use super::{
    ConcurrencyConfig,
    limiter::{Admission, Limiter, Permit},
};
use crate::{
    Priority,
    sync::{Arc, AtomicU32, Ordering, check, join, thread},
};

/// A limiter, with an independent count of the running calls.
#[derive(Clone)]
struct CountedLimiter {
    limiter: Arc<Limiter>,
    running: Arc<AtomicU32>,
    peak: Arc<AtomicU32>,
}

impl CountedLimiter {
    fn new(max: u32, queue: u32) -> Self {
        let config = ConcurrencyConfig {
            max,
            queue,
            ..ConcurrencyConfig::default()
        };
        Self {
            limiter: Arc::new(Limiter::new(&config)),
            running: Arc::default(),
            peak: Arc::default(),
        }
    }

    /// Acquires a permit. A queued call polls for it at most `polls` times, and then leaves the
    /// queue.
    fn wait(&self, polls: u32) -> Option<Permit> {
        let limiter = &self.limiter;
        let now = Instant::now();
        let admission = limiter.acquire(Priority::default(), None, Waker::noop(), now);
        match admission.ok()? {
            Admission::Granted(permit) => Some(permit),
            Admission::Queued(mut waiter) => (0..polls).find_map(|_| {
                thread::yield_now();
                match waiter.poll(Waker::noop()) {
                    Poll::Ready(permit) => {
                        Some(permit.expect("calls of equal priority do not evict each other"))
                    }
                    Poll::Pending => None,
                }
            }),
        }
    }

    /// Makes a call in its own thread.
    fn call(&self, polls: u32) -> thread::JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || {
            let permit = this.limiter.try_acquire().or_else(|| this.wait(polls));
            if permit.is_some() {
                let running = this.running.fetch_add(1, Ordering::SeqCst) + 1;
                this.peak.fetch_max(running, Ordering::SeqCst);
                thread::yield_now();
                this.running.fetch_sub(1, Ordering::SeqCst);
            }
        })
    }

    /// Asserts that all permits are free, and that at most `most` calls ran at once.
    fn assert_all_returned(&self, most: u32) {
        let limiter = &self.limiter;
        assert_eq!((limiter.in_flight(), limiter.queued()), (0, 0));
        assert!(self.peak.load(Ordering::SeqCst) <= most);
        assert!(limiter.try_acquire().is_some());
    }
}

#[test]
fn cl_15_never_exceeds_the_limit_or_loses_a_permit() {
    check(|| {
        let limit = CountedLimiter::new(1, 2);
        join([2, 0, 5, 1].map(|polls| limit.call(polls)));
        limit.assert_all_returned(1);
    });
}

#[test]
fn cl_07_changes_of_the_limit_lose_no_permit() {
    check(|| {
        let limit = CountedLimiter::new(2, 3);
        let calls = [3, 0, 3].map(|polls| limit.call(polls));
        for max in [1, 3, 1] {
            limit.limiter.set_max(max);
        }
        join(calls);
        limit.assert_all_returned(3);
    });
}

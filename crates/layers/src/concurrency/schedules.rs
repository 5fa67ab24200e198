//! The hand-over of permits under many schedules of threads; see [`crate::sync`].

use std::task::{Poll, Waker};

use tokio::time::Instant;

use super::{
    ConcurrencyConfig,
    limiter::{Limiter, Permit, Turn},
};
use crate::{
    Priority,
    sync::{Arc, AtomicU32, Ordering, check, join, thread},
};

/// A limit, with the calls that run by their own count.
#[derive(Clone)]
struct Watched {
    limiter: Arc<Limiter>,
    running: Arc<AtomicU32>,
    peak: Arc<AtomicU32>,
}

impl Watched {
    fn new(max: u32, queue: u32) -> Self {
        let settings = ConcurrencyConfig {
            max,
            queue,
            ..ConcurrencyConfig::default()
        };
        Self {
            limiter: Arc::new(Limiter::new(&settings)),
            running: Arc::default(),
            peak: Arc::default(),
        }
    }

    /// A permit, for which it asks so often while it waits; then it leaves the queue.
    fn wait(&self, patience: u32) -> Option<Permit> {
        let limiter = &self.limiter;
        let now = Instant::now();
        let turn = limiter.acquire(Priority::default(), None, Waker::noop(), now);
        match turn.ok()? {
            Turn::Now(permit) => Some(permit),
            Turn::Later(mut waiter) => (0..patience).find_map(|_| {
                thread::yield_now();
                match waiter.poll(Waker::noop()) {
                    Poll::Ready(permit) => Some(permit.expect("equals do not evict each other")),
                    Poll::Pending => None,
                }
            }),
        }
    }

    /// A call in a thread of its own.
    fn call(&self, patience: u32) -> thread::JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || {
            let permit = this.limiter.try_acquire().or_else(|| this.wait(patience));
            if permit.is_some() {
                let running = this.running.fetch_add(1, Ordering::SeqCst) + 1;
                this.peak.fetch_max(running, Ordering::SeqCst);
                thread::yield_now();
                this.running.fetch_sub(1, Ordering::SeqCst);
            }
        })
    }

    /// Nothing is left, and there were never more than `most`.
    fn ended(&self, most: u32) {
        let limiter = &self.limiter;
        assert_eq!((limiter.in_flight(), limiter.queued()), (0, 0));
        assert!(self.peak.load(Ordering::SeqCst) <= most);
        assert!(limiter.try_acquire().is_some());
    }
}

#[test]
fn cl_15_a_limit_is_never_exceeded_and_no_permit_is_lost() {
    check(|| {
        let limit = Watched::new(1, 2);
        join([2, 0, 5, 1].map(|patience| limit.call(patience)));
        limit.ended(1);
    });
}

#[test]
fn cl_07_a_limit_that_changes_meanwhile_loses_no_permit() {
    check(|| {
        let limit = Watched::new(2, 3);
        let calls = [3, 0, 3].map(|patience| limit.call(patience));
        for max in [1, 3, 1] {
            limit.limiter.set_max(max);
        }
        join(calls);
        limit.ended(3);
    });
}

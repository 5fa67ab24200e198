//! [`Permit`], the right to one call, which records the call's result.

use std::{task::Poll, time::Duration};

use tokio::time::Instant;

use super::{
    shared::{Shared, Word},
    state::{Effect, Ticket},
};
use crate::{
    classify::{Class, Failure},
    clock::{self, Stopwatch},
    event::Events,
    permit_scope::Guard,
    rejection::Rejection,
    sync::{Arc, AtomicU64, Ordering},
};

/// The part of a breaker that the threads of one processor use.
///
/// Aligned to its own cache lines, so that reference counting on one processor does not slow down
/// the others.
#[repr(align(128))]
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    /// Number of rejected calls since the breaker was created.
    pub(super) rejected: AtomicU64,
}

impl Local {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            rejected: AtomicU64::new(0),
        }
    }

    /// Counts a rejection, and returns it.
    pub(super) fn count_rejection(&self, rejection: Rejection) -> Rejection {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        rejection
    }
}

/// The right to one call. Appears only in type signatures, for example of a response body.
///
/// The result is recorded when the permit is dropped. If the call has not ended by then, it counts
/// as unanswered.
pub struct Permit {
    local: Arc<Local>,
    word: Word,
    /// Number of the probe in its generation. `None` if the call is not a probe.
    probe: Option<u64>,
    stopwatch: Stopwatch,
    events: Events,
    outcome: Outcome,
}

/// State of the result that a permit records.
enum Outcome {
    /// The call has not ended.
    Pending,
    /// The call has ended, and the result is not recorded yet.
    Ended { effect: Effect, elapsed: Duration },
    /// The result is recorded.
    Recorded,
}

impl Permit {
    #[inline(always)]
    pub(super) fn new(local: &Arc<Local>, events: &Events) -> Result<Self, Rejection> {
        let shared = &local.shared;
        let (word, probe) = shared
            .admit(events)
            .map_err(|rejection| local.count_rejection(rejection))?;
        Ok(Self {
            local: Arc::clone(local),
            word,
            probe,
            stopwatch: Stopwatch::default(),
            events: events.clone(),
            outcome: Outcome::Pending,
        })
    }

    /// Polls the call of this permit, and measures its time.
    #[inline(always)]
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        // The stopwatch starts when a call is first pending, so a call that is ready at once needs
        // no clock read. Slow calls must be detected in the first poll too, so `slow_call` starts
        // it earlier.
        if self.local.shared.config().slow_call.is_some() {
            self.stopwatch.start();
        }
        self.stopwatch.watch(poll)
    }

    /// Sets the class of a call that has ended in the current poll. `class` gets the duration of
    /// the call.
    #[inline(always)]
    pub(super) fn ended(&mut self, class: impl FnOnce(Duration) -> Class) {
        // The cached time lacks the time that the service used after it polled a nested stack. The
        // comparison with `slow_call` needs the exact time.
        let elapsed = match self.local.shared.config().slow_call {
            Some(_) => self.stopwatch.so_far(),
            None => self.stopwatch.elapsed(),
        };
        let effect = Effect::of(class(elapsed), self.local.shared.config());
        self.outcome = Outcome::Ended { effect, elapsed };
    }

    /// Records a call that has ended in the current poll, whose cached time may therefore be used.
    #[inline(always)]
    pub(super) fn record(&mut self) {
        self.record_once(clock::polled);
    }

    #[inline(always)]
    fn record_once(&mut self, now: impl FnOnce() -> Instant) {
        let shared = &self.local.shared;
        let (effect, elapsed) = match self.outcome {
            Outcome::Recorded => return,
            Outcome::Ended { effect, elapsed } => (effect, elapsed),
            Outcome::Pending => self.unanswered(),
        };
        self.outcome = Outcome::Recorded;
        let slow = shared.config().slow_call;
        let slow = slow.is_some_and(|slow| elapsed >= slow);
        if self.probe.is_some() || !shared.record_fast(self.word, effect, slow, now) {
            self.record_locked(effect, elapsed);
        }
    }

    /// Returns the effect and the duration of a call that was dropped.
    #[cold]
    fn unanswered(&self) -> (Effect, Duration) {
        let elapsed = self.stopwatch.so_far();
        let effect = Effect::unanswered(elapsed, self.local.shared.config());
        (effect, elapsed)
    }

    /// Sets the class of a call that failed after its response had begun, or that panicked.
    fn fail(&mut self, class: Class, elapsed: Duration) {
        let effect = Effect::of(class, self.local.shared.config());
        // The duration remains the time to the response headers, if there was a response.
        let elapsed = match self.outcome {
            Outcome::Ended { elapsed, .. } => elapsed,
            _ => elapsed,
        };
        self.outcome = Outcome::Ended { effect, elapsed };
    }

    #[cold]
    fn record_locked(&self, effect: Effect, elapsed: Duration) {
        let shared = &self.local.shared;
        let ticket = Ticket {
            generation: self.word.generation(),
            probe: self.probe,
        };
        shared.record(&self.events, |machine, now| {
            machine.record(ticket, effect, elapsed, now, fastrand::f64)
        });
    }
}

impl Drop for Permit {
    #[inline(always)]
    fn drop(&mut self) {
        self.record_once(clock::now);
    }
}

impl Guard for Permit {
    fn failed(mut self, rejection: Option<Rejection>) {
        let elapsed = self.stopwatch.so_far();
        let class = match rejection {
            Some(rejection) => rejection.class(elapsed),
            None => Class::Failure(Failure::TruncatedBody),
        };
        self.fail(class, elapsed);
    }

    fn panicked(mut self) {
        let elapsed = self.stopwatch.so_far();
        self.fail(Class::Failure(Failure::Panic), elapsed);
    }
}

//! The right to one call, and the record of how it ended.

use std::{task::Poll, time::Duration};

use tokio::time::Instant;

use super::{
    shared::{Shared, Word},
    state::{Effect, Ticket},
};
use crate::{
    classify::{Class, Failure},
    event::Events,
    permit_scope::Guard,
    poll_clock::{self, Stopwatch},
    rejection::Rejection,
    sync::{Arc, AtomicU64, Ordering},
};

/// One breaker, as the threads of one processor hold it: on a line of its own, so that counting
/// holders does not make processors wait for each other.
#[repr(align(128))]
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    /// Calls that were refused, ever.
    pub(super) rejected: AtomicU64,
}

impl Local {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            rejected: AtomicU64::new(0),
        }
    }

    /// Counts a rejection.
    pub(super) fn refuse(&self, rejection: Rejection) -> Rejection {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        rejection
    }
}

/// The right to one call. It is recorded on drop: as it ended, or else as a call that went
/// unanswered.
pub struct Permit {
    local: Arc<Local>,
    word: Word,
    /// Its number among the probes, if it is one.
    probe: Option<u64>,
    watch: Stopwatch,
    events: Events,
    end: End,
}

enum End {
    None,
    As { effect: Effect, elapsed: Duration },
    Recorded,
}

impl Permit {
    #[inline(always)]
    pub(super) fn new(local: &Arc<Local>, events: &Events) -> Result<Self, Rejection> {
        let shared = &local.shared;
        let (word, probe) = shared
            .admit(events)
            .map_err(|rejection| local.refuse(rejection))?;
        Ok(Self {
            local: Arc::clone(local),
            word,
            probe,
            watch: Stopwatch::default(),
            events: events.clone(),
            end: End::None,
        })
    }

    /// Polls the call that the permit was given for.
    #[inline(always)]
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        // The poll_clock starts when a call is first pending, which saves a look at the clock for a call
        // that never is. A breaker that looks for slow calls also needs the time of that first poll.
        if self.local.shared.settings().slow_call.is_some() {
            self.watch.start();
        }
        self.watch.watch(poll)
    }

    /// The call ended in the poll that it comes back from, as `class` says of one that took so long.
    #[inline(always)]
    pub(super) fn ended(&mut self, class: impl FnOnce(Duration) -> Class) {
        // Where slowness counts, so does what the service did after it polled another stack.
        let elapsed = match self.local.shared.settings().slow_call {
            Some(_) => self.watch.so_far(),
            None => self.watch.elapsed(),
        };
        let effect = Effect::of(class(elapsed), self.local.shared.settings());
        self.end = End::As { effect, elapsed };
    }

    /// Records the end of a call that is over in the same poll, so that the time of that poll may be used.
    #[inline(always)]
    pub(super) fn record(&mut self) {
        self.settle(poll_clock::now);
    }

    #[inline(always)]
    fn settle(&mut self, now: impl FnOnce() -> Instant) {
        let shared = &self.local.shared;
        let (effect, elapsed) = match self.end {
            End::Recorded => return,
            End::As { effect, elapsed } => (effect, elapsed),
            End::None => self.unanswered(),
        };
        self.end = End::Recorded;
        let slow = shared.settings().slow_call;
        let slow = slow.is_some_and(|slow| elapsed >= slow);
        if self.probe.is_some() || !shared.record_fast(self.word, effect, slow, now) {
            self.record_slowly(effect, elapsed);
        }
    }

    /// The call was dropped, or panicked.
    #[cold]
    fn unanswered(&self) -> (Effect, Duration) {
        let elapsed = self.watch.so_far();
        let effect = if std::thread::panicking() {
            Effect::Bad
        } else {
            Effect::unanswered(elapsed, self.local.shared.settings())
        };
        (effect, elapsed)
    }

    #[cold]
    fn record_slowly(&self, effect: Effect, elapsed: Duration) {
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
        self.settle(Instant::now);
    }
}

impl Guard for Permit {
    fn broken(mut self, rejection: Option<Rejection>) {
        let elapsed = self.watch.so_far();
        let class = match rejection {
            Some(rejection) => rejection.class(elapsed),
            None => Class::Failure(Failure::TruncatedBody),
        };
        let effect = Effect::of(class, self.local.shared.settings());
        if let End::As { elapsed, .. } = self.end {
            self.end = End::As { effect, elapsed };
        }
    }
}

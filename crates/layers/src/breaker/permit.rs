//! The right to one call, and the record of how it ended.

use std::{task::Poll, time::Duration};

use super::{
    settings::BreakerSettings,
    shared::{Shared, Word},
    state::{Ticket, Verdict},
};
use crate::{
    classify::{Class, Failure},
    observe::Observer,
    reject::Reject,
    stopwatch::Stopwatch,
    sync::Arc,
    until::Guard,
};

/// One breaker, as the threads of one processor hold it: on a line of its own, so that counting
/// holders does not make processors wait for each other.
#[repr(align(128))]
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
}

/// The right to one call. Dropped without a record, the call went unanswered.
pub(super) struct Permit {
    local: Arc<Local>,
    word: Word,
    ticket: Ticket,
    watch: Stopwatch,
    observer: Observer,
    recorded: bool,
}

impl Permit {
    pub(super) fn new(local: &Arc<Local>, observer: &Observer) -> Result<Self, Reject> {
        let shared = &local.shared;
        let (word, ticket) = shared.admit(observer)?;
        // Only whoever looks for slow calls needs to know of the time before it was pending.
        let slow_matters = shared.settings().slow_call.is_some();
        Ok(Self {
            local: Arc::clone(local),
            word,
            ticket,
            watch: if slow_matters {
                Stopwatch::running(tokio::time::Instant::now())
            } else {
                Stopwatch::default()
            },
            observer: observer.clone(),
            recorded: false,
        })
    }

    /// Polls the call that it was given for.
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.watch.watch(poll)
    }

    /// The call ended as `class` says of one that took so long.
    pub(super) fn ended(self, class: impl FnOnce(Duration) -> Class) -> Ended {
        let elapsed = self.watch.elapsed();
        Ended {
            class: class(elapsed),
            elapsed,
            permit: self,
        }
    }

    fn end(&mut self, elapsed: Duration, verdict: impl FnOnce(&BreakerSettings) -> Verdict) {
        self.recorded = true;
        let shared = &self.local.shared;
        let verdict = verdict(shared.settings());
        let slow = shared.settings().slow_call;
        let slow = slow.is_some_and(|slow| elapsed >= slow);
        let ticket = self.ticket;
        let fast = ticket.probe.is_none() && shared.record_fast(self.word, verdict, slow);
        if !fast {
            shared.record(&self.observer, |machine, now| {
                machine.record(ticket, verdict, elapsed, now, fastrand::f64)
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        let elapsed = self.watch.elapsed();
        self.end(elapsed, |settings| {
            if std::thread::panicking() {
                Verdict::Bad
            } else {
                Verdict::unanswered(elapsed, settings)
            }
        });
    }
}

/// A call that was answered, or failed. It is recorded on drop; for an answer with a body that may
/// be when the body has ended.
pub struct Ended {
    permit: Permit,
    class: Class,
    elapsed: Duration,
}

impl Guard for Ended {
    fn broken(mut self, reject: Option<Reject>) {
        self.class = match reject {
            Some(reject) => reject.class(self.permit.watch.elapsed()),
            None => Class::Failure(Failure::Body),
        };
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let class = self.class;
        self.permit
            .end(self.elapsed, |settings| Verdict::of(class, settings));
    }
}

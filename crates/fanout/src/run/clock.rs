//! The clock and the deadlines of a run.

use std::{future::Future, mem, pin::Pin, sync::Arc, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};
use tower_fanout_layers::{Call, Deadline, RetryAllowance};

use crate::time_budget::{merge_margin, shared_retries};

/// The clock of a run, and the times at which the run or its nodes must end.
///
/// A reading of the clock is reused within a turn. The clock is read again if a call was polled
/// since and the next time must be exact.
#[derive(Debug)]
pub(super) struct RunClock {
    started: Instant,
    now: Option<Now>,
    /// `true` if a call was polled since the clock was read. The poll may have taken long.
    polled: bool,
    /// End of the run. `None` means no deadline.
    deadline: Option<Instant>,
    /// End of the grace period. `None` until the period begins.
    grace: Option<Instant>,
    /// Earliest time at which a node must end before the run does.
    due: Option<Instant>,
    /// Start of the current period without nodes in flight. `None` while a node is in flight.
    idle: Option<Instant>,
    /// `true` if the clock was read for the start of a node in this turn.
    read_for_start: bool,
    /// Total time without nodes in flight, up to `idle`.
    overhead: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    instant: Instant,
    /// Time since the start of the run.
    since: Duration,
}

impl RunClock {
    pub(super) fn new(started: Instant, deadline: Option<Deadline>) -> Self {
        Self {
            started,
            now: Some(Now {
                instant: started,
                since: Duration::ZERO,
            }),
            polled: false,
            deadline: deadline.map(Deadline::instant),
            grace: None,
            due: None,
            idle: Some(started),
            read_for_start: false,
            overhead: Duration::ZERO,
            timer: None,
        }
    }

    /// Discards the reading, at the beginning of a turn and when the timer has fired.
    pub(super) const fn invalidate(&mut self) {
        self.now = None;
        self.read_for_start = false;
    }

    /// Records that a call is polled.
    pub(super) const fn mark_polled(&mut self) {
        self.polled = true;
    }

    fn read(&mut self) -> Now {
        if let Some(now) = self.now {
            return now;
        }
        let instant = Instant::now();
        let since = instant.saturating_duration_since(self.started);
        self.polled = false;
        *self.now.insert(Now { instant, since })
    }

    /// Returns the current time, as of the last reading.
    pub(super) fn now(&mut self) -> Instant {
        self.read().instant
    }

    /// Records the start of a node, and returns its time relative to the start of the run. `first`
    /// is `true` if no other node is in flight.
    pub(super) fn start(&mut self, first: bool) -> Duration {
        if let Some(idle) = self.idle.take_if(|_| first) {
            // The time since then was not spent by a service, so it counts as overhead and must be
            // exact. If several nodes start and end within one turn, only the first start is worth
            // a reading. A reading of this turn is exact until a call is polled.
            if !mem::replace(&mut self.read_for_start, true) && self.polled {
                self.now = None;
            }
            let now = self.now();
            self.overhead += now.saturating_duration_since(idle);
        }
        self.read().since
    }

    /// Records the end of a node, and returns its time relative to the start of the run. `last` is
    /// `true` if no other node is in flight.
    pub(super) fn end(&mut self, last: bool) -> Duration {
        if self.polled {
            self.now = None;
        }
        let now = self.read();
        if last {
            self.idle = Some(now.instant);
        }
        now.since
    }

    /// Returns the duration of the run, and how much of it no node was in flight.
    pub(super) fn totals(&mut self) -> (Duration, Duration) {
        self.invalidate();
        let now = self.now();
        let idle = self.idle.map(|idle| now.saturating_duration_since(idle));
        let elapsed = now.saturating_duration_since(self.started);
        (elapsed, self.overhead + idle.unwrap_or_default())
    }

    /// Starts the grace period, unless it has started before.
    pub(super) fn start_grace(&mut self, grace: Duration) {
        if self.grace.is_none() {
            self.grace = self.now().checked_add(grace);
        }
    }

    /// Returns `true` if the grace period has started and is over.
    pub(super) fn grace_is_over(&mut self) -> bool {
        self.grace.is_some_and(|grace| grace <= self.now())
    }

    /// Returns `true` if the run has a deadline and it has passed.
    pub(super) fn deadline_passed(&mut self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// Adds the due time of a node that starts.
    pub(super) fn add_due(&mut self, due: Option<Instant>) {
        self.due = earlier(self.due, due);
    }

    /// Sets the earliest due time of the nodes in flight.
    pub(super) const fn set_due(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// Polls for the next time at which a node or the run must end. Returns `true` if that time has
    /// passed.
    ///
    /// The timer is created when the run is pending for the first time, so that a run that never
    /// waits has none.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = earlier(self.deadline, earlier(self.grace, self.due)) else {
            return false;
        };
        let timer = (self.timer).get_or_insert_with(|| Box::pin(sleep_until(next)));
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        // The reading of the clock is older than the timer.
        self.invalidate();
        true
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Returns the call metadata that all branches start from: the limits of `call`, the metadata of the request.
/// Its deadline is earlier than that of the request by the merge margin, and all branches share one retry
/// allowance.
pub(super) fn branch_call(call: &Call, now: Instant, branches: usize) -> Call {
    let deadline = call
        .deadline
        .map(|deadline| deadline.before(merge_margin(deadline.remaining(now))));
    let allowance = call
        .max_retries
        .map(|retries| Arc::new(RetryAllowance::new(shared_retries(retries, branches))));
    // Attempt and upload are those of the call of the fan-out. A branch makes attempts and requests of its own.
    let mut branch = Call::NONE;
    branch.deadline = deadline;
    branch.allowance = allowance;
    branch.max_retries = call.max_retries;
    branch.max_wait = call.max_wait;
    branch.fallback = call.fallback;
    branch.key = call.key.clone();
    branch
}

//! The clock and the deadlines of a run.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_fanout_layers::{Call, Deadline, RetryAllowance};

use crate::time_budget::{merge_margin, shared_retries};

/// The clock of a run and the times at which the run ends nodes. A reading of the clock is reused until
/// something was polled and the next time must be exact.
#[derive(Debug)]
pub(super) struct RunClock {
    started: Instant,
    now: Option<Now>,
    /// Something was polled since the clock was read, which may have taken long.
    polled: bool,
    deadline: Option<Instant>,
    grace: Option<Instant>,
    /// When the first of those nodes must end that have less time than the run.
    due: Option<Instant>,
    /// Since when nothing has been in flight.
    idle: Option<Instant>,
    /// The clock was read for a start in this turn.
    started_one: bool,
    overhead: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    instant: Instant,
    /// The same, counted from the start.
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
            started_one: false,
            overhead: Duration::ZERO,
        }
    }

    /// Time has passed: a turn begins, or a timer has rung.
    pub(super) const fn forget(&mut self) {
        self.now = None;
        self.started_one = false;
    }

    /// Something is polled.
    pub(super) const fn poll(&mut self) {
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

    /// The time when the turn began, or when something last ended in it.
    pub(super) fn now(&mut self) -> Instant {
        self.read().instant
    }

    /// A node starts, the first in flight or beside others: when, counted from the start.
    pub(super) fn start(&mut self, first: bool) -> Duration {
        if first && let Some(idle) = self.idle.take() {
            // What was done since is not the services' time. Of nodes that start and end within one
            // turn, only the first is worth a look at the clock.
            if !mem::replace(&mut self.started_one, true) {
                self.now = None;
            }
            let now = self.now();
            self.overhead += now.saturating_duration_since(idle);
        }
        self.read().since
    }

    /// A node has ended, the last in flight or beside others: when, counted from the start.
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

    /// How long it took as a whole, and for how much of that nothing was in flight.
    pub(super) fn total(&mut self) -> (Duration, Duration) {
        self.forget();
        let now = self.now();
        let idle = self.idle.map(|idle| now.saturating_duration_since(idle));
        let elapsed = now.saturating_duration_since(self.started);
        (elapsed, self.overhead + idle.unwrap_or_default())
    }

    /// What is still in flight has so long from now on, if it was not told before.
    pub(super) fn give(&mut self, grace: Duration) {
        if self.grace.is_none() {
            self.grace = self.now().checked_add(grace);
        }
    }

    pub(super) fn grace_is_over(&mut self) -> bool {
        self.grace.is_some_and(|grace| grace <= self.now())
    }

    pub(super) fn deadline_passed(&mut self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// A node was started that must end by `due`.
    pub(super) fn due(&mut self, due: Option<Instant>) {
        self.due = earlier(self.due, due);
    }

    pub(super) const fn set_due(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// When something is to be ended next.
    pub(super) fn next(&self) -> Option<Instant> {
        earlier(self.deadline, earlier(self.grace, self.due))
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// The facts that every branch gets: time for merging is kept back, and retries are shared.
pub(super) fn branch_call(call: &Call, now: Instant, branches: usize) -> Call {
    let deadline = call
        .deadline
        .map(|deadline| deadline.before(merge_margin(deadline.remaining(now))));
    let allowance = call
        .max_retries
        .map(|retries| Arc::new(RetryAllowance::new(shared_retries(retries, branches))));
    let mut call = call.clone();
    call.deadline = deadline;
    call.allowance = allowance;
    call
}

//! How long a call takes, at the least expense.

use std::{cell::Cell, task::Poll, time::Duration};

use tokio::time::Instant;

/// Tells how long a call takes. A call that is never pending takes no time, and the clock is not
/// read for it: that costs more than most of what a layer does.
///
/// The time that the call waited for its turn at a limit below does not count: it is not the
/// service's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopwatch {
    since: Option<Instant>,
}

thread_local! {
    /// The time that calls have waited for their turns, told to whoever polls them on this thread.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A call has had its turn after it waited for so long.
pub(crate) fn waited(time: Duration) {
    WAITED.set(WAITED.get().saturating_add(time));
}

impl Stopwatch {
    /// It runs from `since`.
    pub(crate) const fn running(since: Instant) -> Self {
        Self { since: Some(since) }
    }

    /// Polls the call, and runs from the first time that it is pending.
    pub(crate) fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let before = WAITED.get();
        let result = poll();
        let waited = WAITED.get() - before;
        if result.is_pending() && self.since.is_none() {
            self.since = Some(Instant::now());
        } else if !waited.is_zero() {
            self.since = self.since.and_then(|since| since.checked_add(waited));
        }
        result
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

//! What time it is and how long a call takes, at the least expense.
//!
//! A look at the clock costs as much as the rest of what most layers do. So the layers that a poll
//! comes back through share one: each [forgets](forget) the time before it polls what is below it,
//! which may take long, and on the way back the first that [asks](now) looks at the clock for all.
//! Nobody else may ask here: what was seen may be old. What a service does after it has polled
//! another stack in the same poll is not seen, so whoever must know of it looks for itself.

use std::{cell::Cell, task::Poll, time::Duration};

use tokio::time::Instant;

thread_local! {
    /// What the clock said on the way back from a poll.
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Forgets what the clock said: something is polled that may take long.
#[inline(always)]
pub(crate) fn forget() {
    SEEN.set(None);
}

/// The time, on the way back from a poll before which it was [forgotten](forget).
#[inline(always)]
pub(crate) fn now() -> Instant {
    SEEN.get().unwrap_or_else(|| {
        let now = Instant::now();
        SEEN.set(Some(now));
        now
    })
}

/// Tells how long a call takes. A call that is never pending takes no time, and the clock is not
/// read for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopwatch {
    since: Option<Instant>,
}

impl Stopwatch {
    /// Starts the stopwatch, unless it runs.
    pub(crate) fn start(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Polls the call, and runs from the first time that it is pending.
    #[inline(always)]
    pub(crate) fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        forget();
        let result = poll();
        if result.is_pending() && self.since.is_none() {
            self.since = Some(now());
        }
        result
    }

    /// How long it took, on the way back from the poll that it was watched in.
    #[inline(always)]
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| {
            now().saturating_duration_since(since)
        })
    }

    /// How long it has taken at any other moment.
    pub(crate) fn so_far(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_read_once_on_the_way_back_and_again_after_each_poll() {
        forget();
        let first = now();
        tokio::time::advance(SECOND).await;
        assert_eq!(now(), first);
        let mut watch = Stopwatch::default();
        assert!(watch.watch(|| Poll::<()>::Pending).is_pending());
        assert_eq!(now(), first + SECOND);
        tokio::time::advance(SECOND).await;
        assert!(watch.watch(|| Poll::Ready(())).is_ready());
        assert_eq!((watch.elapsed(), watch.so_far()), (SECOND, SECOND));
    }
}

//! Measures how long calls take, with few reads of the clock.
//!
//! A read of the clock costs as much as the rest of what most layers do. So the layers that a poll
//! returns through share one read, which is cached per thread:
//!
//! 1. Before a layer polls what is below it, it calls [`forget`].
//! 2. After that poll and before the layer polls anything else, it may call [`now`]. The first layer
//!    on the way back reads the clock, and the layers above get the same time.
//!
//! The cached time is valid only until the end of the current `poll`, and only in code that runs
//! directly after a poll before which the time was forgotten. All other code reads `Instant::now()`:
//! a constructor, `call`, `drop`, and code that runs after a service that polled *another* stack in the
//! same poll, since the time may be one that was cached on the way back through that stack. No layer
//! passes information to another through this cache: a layer that is taken away changes no result, only
//! the number of reads.

use std::{cell::Cell, task::Poll, time::Duration};

use tokio::time::Instant;

thread_local! {
    /// The time on the way back from a poll, if it was read.
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Forgets the cached time. Called before a poll, which may take long.
#[inline(always)]
pub(crate) fn forget() {
    SEEN.set(None);
}

/// Returns the time. Only to be called on the way back from a poll before which the time was
/// [forgotten](forget): see the [module docs](self).
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
    /// Starts the poll_clock, unless it runs.
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

    /// Returns how long the call took. Only to be called on the way back from [`watch`](Self::watch).
    #[inline(always)]
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| {
            now().saturating_duration_since(since)
        })
    }

    /// Returns how long the call has taken. May be called at any time: it reads the clock.
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

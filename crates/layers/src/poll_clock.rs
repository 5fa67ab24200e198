//! A clock that is read once per poll, and a [`Stopwatch`] for calls.
//!
//! Reading the clock costs about as much as all other work of a typical layer. Therefore the layers
//! that a poll returns through share one reading, which is cached per thread:
//!
//! 1. Before a layer polls the service below, it calls [`forget`].
//! 2. After that poll, and before the layer polls anything else, it may call [`now`]. The innermost
//!    layer that does so reads the clock, and the layers above get the same time.
//!
//! The cached time is valid only until the end of the current `poll`, and only in code that runs
//! directly after a poll before which the time was forgotten. All other code reads
//! `Instant::now()`: constructors, `call`, `drop`, and code that runs after a service has polled
//! *another* stack in the same poll, because that stack may have cached an older time.
//!
//! The cache passes no information between layers. If a layer is removed, only the number of clock
//! readings changes.

use std::{cell::Cell, task::Poll, time::Duration};

use tokio::time::Instant;

thread_local! {
    /// The time of the current poll, if a layer has read it.
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Clears the cached time. Must be called before a poll, which may take long.
#[inline(always)]
pub(crate) fn forget() {
    SEEN.set(None);
}

/// Returns the time of the current poll.
///
/// Must be called only after a poll before which the time was [forgotten](forget): see the [module
/// docs](self).
#[inline(always)]
pub(crate) fn now() -> Instant {
    SEEN.get().unwrap_or_else(|| {
        let now = Instant::now();
        SEEN.set(Some(now));
        now
    })
}

/// Measures the duration of a call.
///
/// A call that is never pending has the duration zero, and needs no clock reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stopwatch {
    since: Option<Instant>,
}

impl Stopwatch {
    /// Starts the stopwatch, unless it is running.
    pub(crate) fn start(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Polls the call. The stopwatch starts when the call is pending for the first time.
    #[inline(always)]
    pub(crate) fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        forget();
        let result = poll();
        if result.is_pending() && self.since.is_none() {
            self.since = Some(now());
        }
        result
    }

    /// Returns the duration of the call. Must be called only directly after [`watch`](Self::watch).
    #[inline(always)]
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| {
            now().saturating_duration_since(since)
        })
    }

    /// Returns the duration of the call so far. May be called at any time, because it reads the
    /// clock.
    pub(crate) fn so_far(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn reads_the_clock_once_per_poll() {
        forget();
        let first = now();
        tokio::time::advance(SECOND).await;
        assert_eq!(now(), first);
        let mut stopwatch = Stopwatch::default();
        assert!(stopwatch.watch(|| Poll::<()>::Pending).is_pending());
        assert_eq!(now(), first + SECOND);
        tokio::time::advance(SECOND).await;
        assert!(stopwatch.watch(|| Poll::Ready(())).is_ready());
        assert_eq!((stopwatch.elapsed(), stopwatch.so_far()), (SECOND, SECOND));
    }
}

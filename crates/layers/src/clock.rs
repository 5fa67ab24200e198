//! A clock that is read once per poll.
//!
//! A reading of the clock costs about as much as all other work of a typical layer. A server that runs many
//! layers can therefore let them share one reading per poll of a connection: see [`share`].
//!
//! Without [`share`], the layers that a poll returns through share one reading, which is cached per
//! thread:
//!
//! 1. Before a layer polls the service below, it calls `forget`.
//! 2. After that poll, and before the layer polls anything else, it may call `polled`. The innermost
//!    layer that does so reads the clock, and the layers above get the same time.
//!
//! That time is valid only until the end of the current `poll`, and only in code that runs directly after
//! a poll before which the time was forgotten. All other code calls [`now`]: constructors, `call`, `drop`, and
//! code that runs after a service has polled *another* stack in the same poll, because that stack may
//! have cached an older time.
//!
//! The cache passes no information between layers. If a layer is removed, only the number of clock
//! readings changes.

use std::{cell::Cell, task::Poll, time::Duration};

use tokio::time::Instant;

thread_local! {
    /// The time of the current poll, if a layer has read it.
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// `true` within [`share`].
    static SHARED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `poll`, in which all calls of [`now`] on this thread return the time of the first one.
///
/// Use this function for the poll of a connection or a request: such a poll does not wait, so the time passes
/// by microseconds. If `poll` computes for long, times that are measured in it are too short by that. Calls may
/// be nested; the outermost one decides.
///
/// # Examples
/// ```
/// use tower_fanout_layers::clock;
///
/// clock::share(|| assert_eq!(clock::now(), clock::now()));
/// ```
#[inline]
pub fn share<T>(poll: impl FnOnce() -> T) -> T {
    if SHARED.get() {
        return poll();
    }
    SEEN.set(None);
    SHARED.set(true);
    let _end = EndOfShare;
    poll()
}

/// Ends the sharing on drop, also if the poll panics.
struct EndOfShare;

impl Drop for EndOfShare {
    fn drop(&mut self) {
        SHARED.set(false);
        SEEN.set(None);
    }
}

/// Returns the current time of tokio's clock. Within [`share`], returns that of the first call.
#[inline]
#[must_use]
pub fn now() -> Instant {
    match SHARED.get() {
        true => polled(),
        false => Instant::now(),
    }
}

/// Clears the cached time, unless it is shared. Must be called before a poll, which may take long.
#[inline(always)]
pub(crate) fn forget() {
    if !SHARED.get() {
        SEEN.set(None);
    }
}

/// Returns the time of the current poll.
///
/// Must be called only after a poll before which the time was [forgotten](forget): see the [module
/// docs](self).
#[inline(always)]
pub(crate) fn polled() -> Instant {
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
        self.since.get_or_insert_with(now);
    }

    /// Polls the call. The stopwatch starts when the call is pending for the first time.
    #[inline(always)]
    pub(crate) fn watch<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        forget();
        let result = poll();
        if result.is_pending() && self.since.is_none() {
            self.since = Some(polled());
        }
        result
    }

    /// Returns the duration of the call. Must be called only directly after [`watch`](Self::watch).
    #[inline(always)]
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| {
            polled().saturating_duration_since(since)
        })
    }

    /// Returns the duration of the call so far. May be called at any time.
    pub(crate) fn so_far(&self) -> Duration {
        (self.since).map_or(Duration::ZERO, |since| {
            now().saturating_duration_since(since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn reads_the_clock_once_per_poll() {
        forget();
        let first = polled();
        tokio::time::advance(SECOND).await;
        assert_eq!(polled(), first);
        let mut stopwatch = Stopwatch::default();
        assert!(stopwatch.watch(|| Poll::<()>::Pending).is_pending());
        assert_eq!(polled(), first + SECOND);
        tokio::time::advance(SECOND).await;
        assert!(stopwatch.watch(|| Poll::Ready(())).is_ready());
        assert_eq!((stopwatch.elapsed(), stopwatch.so_far()), (SECOND, SECOND));
    }

    #[test]
    fn shares_one_reading() {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be built");
        let advance = || clock.block_on(tokio::time::advance(SECOND));
        let _entered = clock.enter();
        let start = now();
        let caught = std::panic::catch_unwind(|| {
            share(|| {
                assert_eq!(now(), start);
                advance();
                forget();
                share(|| assert_eq!((now(), polled()), (start, start)));
                panic!("ends the sharing");
            })
        });
        assert!(caught.is_err());
        assert_eq!(now(), start + SECOND);
        advance();
        assert_eq!(now(), start + 2 * SECOND);
    }
}

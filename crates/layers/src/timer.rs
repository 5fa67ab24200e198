//! A timer that takes no memory for its `Sleep` until it is set.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

type SleepBox = Pin<Box<Option<Sleep>>>;

/// Maximum number of unused allocations that a thread keeps.
const MAX_UNUSED: usize = 256;

thread_local! {
    /// Allocations of dropped timers, reused by the next ones, so that setting a timer rarely
    /// allocates.
    static UNUSED: RefCell<Vec<SleepBox>> = const { RefCell::new(Vec::new()) };
}

/// A timer that never fires until it is [set](Self::set).
///
/// A [`Sleep`] would be the largest part of most futures here, and a future is moved from layer to
/// layer when a call begins. Therefore the `Sleep` is allocated, and the thread keeps the
/// allocation for the next timer.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<SleepBox>);

impl Timer {
    /// Creates a timer that fires at `at`.
    pub(crate) fn at(at: Instant) -> Self {
        let mut timer = Self::default();
        timer.set(at);
        timer
    }

    /// Sets the timer to `at`, replacing an earlier time.
    pub(crate) fn set(&mut self, at: Instant) {
        let sleep_box = self.0.get_or_insert_with(|| {
            let reused = UNUSED.try_with(|boxes| boxes.borrow_mut().pop());
            reused.ok().flatten().unwrap_or_else(|| Box::pin(None))
        });
        match sleep_box.as_mut().as_pin_mut() {
            Some(sleep) => sleep.reset(at),
            None => sleep_box.set(Some(sleep_until(at))),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Returns `Ready` once the set time has come. A timer that is not set is always pending.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self
            .0
            .as_mut()
            .and_then(|sleep_box| sleep_box.as_mut().as_pin_mut())
        {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }

    #[cold]
    fn recycle(mut sleep_box: SleepBox) {
        sleep_box.set(None);
        // Fails only while the thread ends, when its cache is gone already.
        let _ = UNUSED.try_with(|boxes| {
            let mut boxes = boxes.borrow_mut();
            if boxes.len() < MAX_UNUSED {
                boxes.push(sleep_box);
            }
        });
    }
}

impl Drop for Timer {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(sleep_box) = self.0.take() {
            Self::recycle(sleep_box);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_time_that_was_set_last() {
        let start = Instant::now();
        let mut timer = Timer::at(start + SECOND);
        timer.set(start + 2 * SECOND);
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed(), 2 * SECOND);
        assert!(timer.is_set() && !Timer::default().is_set());
    }

    #[tokio::test(start_paused = true)]
    async fn reuses_the_allocation_of_a_dropped_timer() {
        let unused = || UNUSED.with(|boxes| boxes.borrow().len());
        drop([1, 2, 3].map(|seconds| Timer::at(Instant::now() + seconds * SECOND)));
        assert_eq!(unused(), 3);
        let timer = Timer::at(Instant::now() + SECOND);
        assert_eq!(unused(), 2);
        drop(timer);
        assert_eq!(unused(), 3);
    }
}

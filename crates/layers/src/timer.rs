//! A timer that takes no room and no time until it is set.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

type Room = Pin<Box<Option<Sleep>>>;

/// How many rooms a thread keeps.
const KEPT: usize = 256;

thread_local! {
    /// Rooms of timers that are over, for the next ones: setting a timer need not allocate.
    static EMPTY: RefCell<Vec<Room>> = const { RefCell::new(Vec::new()) };
}

/// A timer that is off until it is [set](Self::set).
///
/// A [`Sleep`] would be the largest part of most futures here, and these are moved from layer to
/// layer when a call begins; so it has a room elsewhere, which the thread keeps for another timer.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Room>);

impl Timer {
    /// A timer that is set.
    pub(crate) fn at(at: Instant) -> Self {
        let mut timer = Self::default();
        timer.set(at);
        timer
    }

    /// Sets it to `at`, instead of what it was set to before.
    pub(crate) fn set(&mut self, at: Instant) {
        let room = self.0.get_or_insert_with(|| {
            let kept = EMPTY.try_with(|rooms| rooms.borrow_mut().pop());
            kept.ok().flatten().unwrap_or_else(|| Box::pin(None))
        });
        match room.as_mut().as_pin_mut() {
            Some(sleep) => sleep.reset(at),
            None => room.set(Some(sleep_until(at))),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Ready when its time has come; never if it is not set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.as_mut().and_then(|room| room.as_mut().as_pin_mut()) {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }

    #[cold]
    fn leave(mut room: Room) {
        room.set(None);
        // A thread that ends keeps nothing.
        let _ = EMPTY.try_with(|rooms| {
            let mut rooms = rooms.borrow_mut();
            if rooms.len() < KEPT {
                rooms.push(room);
            }
        });
    }
}

impl Drop for Timer {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(room) = self.0.take() {
            Self::leave(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_is_over_at_the_instant_it_was_last_set_to() {
        let start = Instant::now();
        let mut timer = Timer::at(start + SECOND);
        timer.set(start + 2 * SECOND);
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed(), 2 * SECOND);
        assert!(timer.is_set() && !Timer::default().is_set());
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_timer_gets_the_room_of_the_last() {
        let kept = || EMPTY.with(|rooms| rooms.borrow().len());
        drop([1, 2, 3].map(|seconds| Timer::at(Instant::now() + seconds * SECOND)));
        assert_eq!(kept(), 3);
        let timer = Timer::at(Instant::now() + SECOND);
        assert_eq!(kept(), 2);
        drop(timer);
        assert_eq!(kept(), 3);
    }
}

//! Branches that go on when the answer has left.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Sleep, sleep_until};

use super::{
    Run,
    scratch::{State, scratch_of},
};
use crate::call::{BoxErasedCall, discard};

/// Branches that nobody waits for any more, until they end or their time is over.
struct Detached {
    cells: Vec<BoxErasedCall>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Future for Detached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut place = 0;
        while let Some(cell) = self.cells.get_mut(place) {
            match catch_unwind(AssertUnwindSafe(|| cell.as_mut().poll(cx))) {
                Ok(Poll::Pending) => place += 1,
                _ => discard(self.cells.swap_remove(place)),
            }
        }
        let late = |timer: &mut Pin<Box<Sleep>>| timer.as_mut().poll(cx).is_ready();
        if self.cells.is_empty() || self.deadline.as_mut().is_some_and(late) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.cells.drain(..).for_each(discard);
    }
}

impl<Req> Run<Req> {
    /// Gives what still runs away, if somebody takes it.
    pub(super) fn detach_late(&mut self) {
        let Some(spawn) = &self.options.detach else {
            return;
        };
        let slots = &scratch_of(&mut self.scratch).slots;
        let late = (0..slots.len()).filter(|&node| slots[node].state == State::Running);
        let cells: Vec<_> = late
            .filter_map(|node| self.answers.cells[node].take())
            .collect();
        if !cells.is_empty() {
            let deadline = self.call.deadline;
            // Without a runtime there is neither a timer nor somebody to spawn: then they are dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                spawn(Box::pin(Detached {
                    cells,
                    deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline.instant()))),
                }));
            }));
        }
    }
}

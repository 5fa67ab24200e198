//! Branches that continue after the response was returned.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Sleep, sleep_until};
use tower_fanout_layers::{Deadline, panic};

use super::{
    Run,
    scratch::{Phase, scratch_of},
};
use crate::call::{BoxErasedCall, discard};

/// Spawns the branches that continue after the response was returned.
pub(crate) type Detach = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// A future that polls detached calls until they end or the deadline passes. Their answers are
/// dropped.
struct Detached {
    cells: Vec<BoxErasedCall>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Future for Detached {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut index = 0;
        while let Some(cell) = self.cells.get_mut(index) {
            match panic::catch(|| cell.as_mut().poll(cx)) {
                Ok(Poll::Pending) => index += 1,
                _ => discard(self.cells.swap_remove(index)),
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
    /// Hands the calls in flight to the spawn function, if one is set. Otherwise they stay in the
    /// run, which drops them.
    pub(super) fn detach_late(&mut self) {
        let Some(spawn) = &self.options.detach else {
            return;
        };
        let nodes = &scratch_of(&mut self.scratch).nodes;
        // The wakers of the run are not used from here on: a detached call registers the waker of
        // its new task when it is polled there.
        let late = (0..nodes.len()).filter(|&node| nodes[node].phase == Phase::Running);
        let cells: Vec<_> = late
            .filter_map(|node| self.answers.cells[node].take())
            .collect();
        if !cells.is_empty() {
            let deadline = self.call.deadline;
            // Outside a tokio runtime, the timer or the spawn panics. Then the calls are dropped.
            let mut detached = Detached {
                cells,
                deadline: None,
            };
            let _ = panic::catch(|| {
                let timer = |deadline: Deadline| Box::pin(sleep_until(deadline.instant()));
                detached.deadline = deadline.map(timer);
                spawn(Box::pin(detached));
            });
        }
    }
}

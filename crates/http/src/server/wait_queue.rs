//! Tasks that wait for a condition, without polling for it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Tasks that wait for a condition, in the order of their arrival.
///
/// Only the first one checks the condition, and only after [`wake`](Self::wake). So a change wakes one task,
/// however many wait. A task that stops waiting leaves its place to the next one.
#[derive(Debug)]
pub(super) struct WaitQueue {
    place: Semaphore,
    changed: Notify,
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self {
            place: Semaphore::new(1),
            changed: Notify::new(),
        }
    }
}

impl WaitQueue {
    /// Waits to become the first, which the caller is until the returned value is dropped.
    pub(super) async fn first(&self) -> First<'_> {
        First {
            // Never fails, because the semaphore is never closed.
            _place: self.place.acquire().await.ok(),
            changed: &self.changed,
        }
    }

    /// Becomes the first if no other task is.
    pub(super) fn try_first(&self) -> Option<First<'_>> {
        let place = self.place.try_acquire().ok()?;
        Some(First {
            _place: Some(place),
            changed: &self.changed,
        })
    }

    /// Waits until `condition` is `true` and the caller is the first.
    pub(super) async fn until(&self, condition: impl Fn() -> bool) {
        self.first().await.until(condition).await;
    }

    /// Lets the first task check its condition. If it does not wait now, it checks once more when it does.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }
}

/// The first place in a [`WaitQueue`].
#[derive(Debug)]
pub(super) struct First<'a> {
    _place: Option<SemaphorePermit<'a>>,
    changed: &'a Notify,
}

impl First<'_> {
    /// Waits for the next [`WaitQueue::wake`]. One that nothing has waited for counts too.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until `condition` is `true`.
    pub(super) async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            self.changed().await;
        }
    }
}

/// A wait within a named future. Allocates only if there is something to wait for.
#[derive(Default)]
pub(super) struct Wait(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Wait {
    /// Waits for the future of `wait`, unless `now` returns `true` before the wait has begun.
    pub(super) fn poll<F>(
        &mut self,
        cx: &mut Context<'_>,
        now: impl FnOnce() -> bool,
        wait: impl FnOnce() -> F,
    ) -> Poll<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.0.is_none() && now() {
            return Poll::Ready(());
        }
        let future = self.0.get_or_insert_with(|| Box::pin(wait()));
        ready!(future.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(())
    }
}

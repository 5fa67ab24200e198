//! Polls services and futures by hand, within bounds of time and polls.

use std::{
    fmt::Display,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, timeout},
};
use tower_service::Service;

/// Maximum time that a law waits for a call to complete.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for other tasks to run, too short to reach a time limit of a layer.
pub(super) const SETTLE_TIME: Duration = Duration::from_millis(1);

/// Time after which a layer must have ended its own delay before the inner call. The docs of the
/// laws allow 2 ms.
pub(super) const MAX_LAYER_DELAY: Duration = Duration::from_millis(3);

/// Maximum number of polls of one call, more than any call has await points.
///
/// The paused clock does not advance while a call keeps waking itself, so `CALL_TIMEOUT` cannot end
/// such a call and only this bound can.
pub(super) const MAX_POLLS: usize = 1000;

/// The name of a law, which begins the message of each violation.
#[derive(Clone, Copy)]
pub(super) struct Law(pub(super) &'static str);

impl Law {
    /// Panics with `violation` if the law is not kept.
    pub(super) fn require(self, kept: bool, violation: impl Display) {
        assert!(kept, "law: {}: {violation}", self.0);
    }

    /// Returns the output of `future`, which must complete within [`CALL_TIMEOUT`] and [`MAX_POLLS`].
    pub(super) async fn complete<F: Future>(self, future: F) -> F::Output {
        let start = Instant::now();
        let mut future = pin!(future);
        // `unconstrained`: tokio's cooperative budget would wake the task too, and each wake must be the
        // layer's own.
        let polled = unconstrained(poll_times(future.as_mut(), MAX_POLLS));
        let limit = match timeout(CALL_TIMEOUT, polled).await {
            Ok(Poll::Pending) => format!("{MAX_POLLS} polls"),
            // `timeout` polls once more when it elapses. That poll can complete a call whose wakeup was
            // lost, so an output is valid only before the deadline.
            Ok(Poll::Ready(output)) if start.elapsed() < CALL_TIMEOUT => return output,
            _ => format!("{CALL_TIMEOUT:?}"),
        };
        panic!("law: {}: a call did not complete within {limit}", self.0)
    }
}

pub(super) async fn ready<S: Service<Req>, Req>(service: &mut S) -> Result<(), S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await
}

/// Polls `service` ready and calls it. All await points of the call are await points of this future.
pub(super) async fn oneshot<S: Service<Req>, Req>(
    mut service: S,
    request: Req,
) -> Result<S::Response, S::Error> {
    ready(&mut service).await?;
    service.call(request).await
}

/// Polls `future` when it is woken, at most `polls` times. Returns `Pending` if that was not enough.
pub(super) async fn poll_times<F: Future>(
    mut future: Pin<&mut F>,
    polls: usize,
) -> Poll<F::Output> {
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(Poll::Pending);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if left > 0 => Poll::Pending,
            end => Poll::Ready(end),
        }
    })
    .await
}

/// A waker that counts its wakeups.
#[derive(Default)]
pub(super) struct WakeCounter(AtomicUsize);

impl WakeCounter {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    pub(super) fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        future.poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

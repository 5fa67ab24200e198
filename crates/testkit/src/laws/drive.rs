//! Drives services and futures by hand.

use std::{
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

/// How long a law waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for other tasks to run, too short for a time limit.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// A pause that a layer makes by itself before a call is over by then.
pub(super) const PAUSE: Duration = Duration::from_millis(3);

/// More await points than a call has. The clock does not advance beside a call that wakes itself, so
/// that only this ends it.
pub(super) const MANY: usize = 1000;

pub(super) fn require(law: &str, kept: bool, what_happened: &str) {
    assert!(kept, "law: {law}: {what_happened}");
}

/// The output of `future`, which must come within [`PATIENCE`] and [`MANY`] polls.
pub(super) async fn within<F: Future>(law: &str, future: F) -> F::Output {
    let start = Instant::now();
    let mut future = pin!(future);
    // Without tokio's cooperative budget every wake is the layer's own.
    let polled = unconstrained(poll_times(future.as_mut(), MANY));
    match timeout(PATIENCE, polled).await {
        Ok(Poll::Pending) => panic!("law: {law}: a call did not end in a thousand polls"),
        // The timer polls `future` once more, which may end a call whose wake was lost.
        Ok(Poll::Ready(output)) if start.elapsed() < PATIENCE => output,
        _ => panic!("law: {law}: a call did not end within a minute"),
    }
}

pub(super) async fn ready<S: Service<Req>, Req>(service: &mut S) -> Result<(), S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await
}

/// Waits until `service` is ready and calls it; every await point of a call is one of this future.
pub(super) async fn oneshot<S: Service<Req>, Req>(
    mut service: S,
    request: Req,
) -> Result<S::Response, S::Error> {
    ready(&mut service).await?;
    service.call(request).await
}

/// Polls `future` when it is woken, `polls` times at most.
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

/// A waker that counts how often it is woken.
#[derive(Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wakes {
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

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

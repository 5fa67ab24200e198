//! Bounds one attempt.

use std::{
    task::{self, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    MIN_USEFUL,
    future::{Bound, End, ResponseFuture, Uploading, nearer},
    positive,
};
use crate::{
    context::Context,
    reject::{AsReject, Reject},
};

/// Bounds one attempt.
///
/// The time runs from the moment the layer is called. It never exceeds what is left of the call's
/// deadline; where that is less than [`min_useful`](Self::min_useful), the attempt is not sent.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::{Instant, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsReject, BoxError, Deadline, Reject, TimeoutLayer, With};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = TimeoutLayer::new(Duration::from_millis(300));
/// let service = layer.layer(service_fn(|_: With<()>| async {
///     sleep(Duration::from_secs(5)).await;
///     Ok::<_, BoxError>(())
/// }));
/// let error = service.clone().oneshot(With::new(())).await.unwrap_err();
/// assert_eq!(error.as_reject(), Some(&Reject::AttemptTimeout));
/// // The nearer end names the error.
/// let deadline = Deadline::at(Instant::now() + Duration::from_millis(100));
/// let error = service.oneshot(With::new(()).deadline(deadline)).await.unwrap_err();
/// assert_eq!(error.as_reject(), Some(&Reject::Deadline));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    timeout: Option<Duration>,
    min_useful: Duration,
    last_attempt_uses_deadline: bool,
}

impl TimeoutLayer {
    /// Attempts may take `timeout`, above zero; with none only the call's deadline ends them.
    ///
    /// # Panics
    ///
    /// Panics if it is zero, with which no call could be in time; no timeout is `None`.
    #[must_use]
    #[track_caller]
    pub fn new(timeout: impl Into<Option<Duration>>) -> Self {
        Self {
            timeout: positive(timeout.into()),
            min_useful: MIN_USEFUL,
            last_attempt_uses_deadline: false,
        }
    }

    /// Sets the least time of a deadline with which an attempt is still sent, 10 ms by default; zero
    /// sends every one. An attempt that has all of its timeout is sent, however short that is.
    #[must_use]
    pub const fn min_useful(mut self, min_useful: Duration) -> Self {
        self.min_useful = min_useful;
        self
    }

    /// Lifts the timeout from a call's [last attempt](crate::Call::last_attempt), which nothing comes
    /// after that could use the time: only the call's deadline ends it. By default the timeout holds,
    /// so that an attempt that hangs gives its permits back.
    #[must_use]
    pub const fn last_attempt_uses_deadline(mut self) -> Self {
        self.last_attempt_uses_deadline = true;
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout {
            layer: *self,
            inner,
        }
    }
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Timeout<S> {
    layer: TimeoutLayer,
    inner: S,
}

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req> + Clone,
    S::Error: From<Reject> + AsReject,
    Req: Context,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let TimeoutLayer {
            timeout,
            min_useful,
            last_attempt_uses_deadline,
        } = self.layer;
        let call = request.call();
        let lifted = last_attempt_uses_deadline && call.last_attempt && call.deadline.is_some();
        let timeout = timeout.filter(|_| !lifted);
        let bound = match (call.deadline, timeout) {
            (None, None) => (Bound::Never, End::Attempt),
            (None, Some(after)) => (Bound::After(after), End::Attempt),
            (Some(deadline), timeout) => {
                let now = Instant::now();
                let useful = timeout.map_or(min_useful, |timeout| timeout.min(min_useful));
                if deadline.remaining(now) < useful {
                    return ResponseFuture::late(&request);
                }
                nearer(deadline, timeout, now)
            }
        };
        let upload = Uploading::of(call, timeout);
        ResponseFuture::new(&mut self.inner, request, bound, upload)
    }
}

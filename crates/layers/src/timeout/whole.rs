//! Gives the whole call one deadline.

use std::{
    task::{self, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    MIN_USEFUL,
    future::{Bound, End, ResponseFuture},
    positive,
};
use crate::{
    context::Context,
    deadline::Deadline,
    reject::{AsReject, Reject},
};
use tokio::time::Instant;

/// Gives the whole call one absolute deadline.
///
/// The deadline is the nearer of the call's own and the total timeout. The layers below find it in
/// the request; what they have not done by then ends with [`Reject::Deadline`].
///
/// ```
/// use std::time::Duration;
/// use tokio::time::{Instant, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsReject, BoxError, Context, DeadlineLayer, Reject, With};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let total = Duration::from_millis(800);
/// let service = DeadlineLayer::new(total).layer(service_fn(|request: With<Duration>| async move {
///     sleep(*request.get()).await;
///     Ok::<_, BoxError>(request.call().deadline.unwrap().remaining(Instant::now()))
/// }));
/// let quick = With::new(Duration::from_millis(300));
/// assert_eq!(service.clone().oneshot(quick).await.unwrap(), Duration::from_millis(500));
/// let slow = With::new(Duration::from_secs(5));
/// let error = service.oneshot(slow).await.unwrap_err();
/// assert_eq!(error.as_reject(), Some(&Reject::Deadline));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    total: Option<Duration>,
    min_useful: Duration,
}

impl DeadlineLayer {
    /// Calls may take `total`, above zero; with none only their own deadline ends them.
    ///
    /// # Panics
    ///
    /// Panics if it is zero, with which no call could be in time; no timeout is `None`.
    #[must_use]
    #[track_caller]
    pub fn new(total: impl Into<Option<Duration>>) -> Self {
        Self {
            total: positive(total.into()),
            min_useful: MIN_USEFUL,
        }
    }

    /// Sets the least time of the call's own deadline with which it is still sent, 10 ms by default;
    /// zero sends every one. A call that has all of the total timeout is sent, however short that is:
    /// below it, a [`TimeoutLayer`](super::TimeoutLayer) has a least time of its own.
    #[must_use]
    pub const fn min_useful(mut self, min_useful: Duration) -> Self {
        self.min_useful = min_useful;
        self
    }

    /// The nearer deadline, and whether there is too little time until then.
    fn deadline(&self, call: Option<Deadline>) -> Option<(Deadline, bool)> {
        if (self.total, call) == (None, None) {
            return None;
        }
        let now = Instant::now();
        let own = self.total.and_then(|total| Deadline::after(now, total));
        let deadline = match (own, call) {
            (Some(own), Some(call)) => own.min(call),
            (own, call) => own.or(call)?,
        };
        let useful = (self.total).map_or(self.min_useful, |total| total.min(self.min_useful));
        Some((deadline, deadline.remaining(now) < useful))
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline {
            layer: *self,
            inner,
        }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Copy, Debug)]
pub struct WithDeadline<S> {
    layer: DeadlineLayer,
    inner: S,
}

impl<S, Req> Service<Req> for WithDeadline<S>
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
    fn call(&mut self, mut request: Req) -> Self::Future {
        let Some((deadline, late)) = self.layer.deadline(request.call().deadline) else {
            let bound = (Bound::Never, End::Deadline);
            return ResponseFuture::new(&mut self.inner, request, bound, None);
        };
        if late {
            return ResponseFuture::late(&request);
        }
        if let Some(call) = request.call_mut() {
            call.deadline = Some(deadline);
        }
        let bound = (Bound::At(deadline.instant()), End::Deadline);
        ResponseFuture::new(&mut self.inner, request, bound, None)
    }
}

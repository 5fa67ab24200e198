//! End a call in time: one attempt, or the whole call.
//!
//! [`TimeoutLayer`] bounds one attempt and goes *below* everything that waits for a turn, so that
//! queueing is not blamed on the service. [`DeadlineLayer`] gives the whole call one absolute
//! deadline, which every layer below spends from, and goes *above* retries.
//!
//! Which of the two ended a call matters: [`Reject::AttemptTimeout`] is a failure of the service
//! and may be retried, [`Reject::Deadline`] is nobody's failure and is final. An answer that is
//! ready in the same poll as the timer wins.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    context::Context,
    deadline::Deadline,
    observe::Observer,
    oneshot::Oneshot,
    reject::{AsReject, Reject},
};

/// The least time with which a call is still worth sending, 10 ms by default.
pub const MIN_USEFUL: Duration = Duration::from_millis(10);

/// Bounds one attempt.
///
/// The time runs from the moment the layer is called. It never exceeds what is left of the call's
/// deadline; where that is less than [`min_useful`](Self::min_useful), the attempt is not sent.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    timeout: Option<Duration>,
    min_useful: Duration,
}

impl TimeoutLayer {
    /// Attempts may take `timeout`; with none only the call's deadline ends them.
    #[must_use]
    pub fn new(timeout: impl Into<Option<Duration>>) -> Self {
        Self {
            timeout: timeout.into(),
            min_useful: MIN_USEFUL,
        }
    }

    /// Sets the least time with which an attempt is still sent.
    #[must_use]
    pub const fn min_useful(mut self, min_useful: Duration) -> Self {
        self.min_useful = min_useful;
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

    fn call(&mut self, request: Req) -> Self::Future {
        let TimeoutLayer {
            timeout,
            min_useful,
        } = self.layer;
        let bound = match request.call().deadline {
            None => timeout.map_or(Bound::None, |after| {
                Bound::After(after, Reject::AttemptTimeout)
            }),
            Some(deadline) => Bound::until(deadline, timeout),
        };
        ResponseFuture::new(self.inner.clone(), request, bound, min_useful)
    }
}

/// Gives the whole call one absolute deadline.
///
/// The deadline is the nearer of the call's own and the total timeout. The layers below find it in
/// the request; what they have not done by then ends with [`Reject::Deadline`].
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    total: Option<Duration>,
    reserve: Duration,
    min_useful: Duration,
}

impl DeadlineLayer {
    /// Calls may take `total`; with none only their own deadline ends them.
    #[must_use]
    pub fn new(total: impl Into<Option<Duration>>) -> Self {
        Self {
            total: total.into(),
            reserve: Duration::ZERO,
            min_useful: MIN_USEFUL,
        }
    }

    /// Keeps this much of the call's deadline back for what comes after: a fallback, say.
    #[must_use]
    pub const fn reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// Sets the least time with which a call is still sent.
    #[must_use]
    pub const fn min_useful(mut self, min_useful: Duration) -> Self {
        self.min_useful = min_useful;
        self
    }

    fn deadline(&self, call: Option<Deadline>) -> Option<Deadline> {
        let own = self
            .total
            .and_then(|total| Deadline::after(Instant::now(), total));
        let call = call.map(|deadline| deadline.before(self.reserve));
        match (own, call) {
            (Some(own), Some(call)) => Some(own.min(call)),
            (own, call) => own.or(call),
        }
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

    fn call(&mut self, mut request: Req) -> Self::Future {
        let deadline = self.layer.deadline(request.call().deadline);
        if let (Some(_), Some(call)) = (deadline, request.call_mut()) {
            call.deadline = deadline;
        }
        let bound = deadline.map_or(Bound::None, |deadline| {
            Bound::At(deadline.instant(), Reject::Deadline)
        });
        ResponseFuture::new(self.inner.clone(), request, bound, self.layer.min_useful)
    }
}

/// What ends a call, and as what.
#[derive(Clone, Copy, Debug)]
enum Bound {
    None,
    /// So long after it was first pending: a call that is ready at once never reads the clock.
    After(Duration, Reject),
    At(Instant, Reject),
}

impl Bound {
    /// The nearer of the call's deadline and an attempt that starts now.
    fn until(deadline: Deadline, timeout: Option<Duration>) -> Self {
        match timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
            Some(attempt) if attempt < deadline.instant() => {
                Self::At(attempt, Reject::AttemptTimeout)
            }
            _ => Self::At(deadline.instant(), Reject::Deadline),
        }
    }

    /// Whether the call has less than `min_useful` left before its deadline.
    fn too_late(self, min_useful: Duration) -> bool {
        match self {
            Self::At(at, Reject::Deadline) => {
                at.saturating_duration_since(Instant::now()) < min_useful
            }
            _ => false,
        }
    }

    fn arm(self) -> Option<(Instant, Reject)> {
        match self {
            Self::None => None,
            Self::After(after, reject) => Instant::now().checked_add(after).map(|at| (at, reject)),
            Self::At(at, reject) => Some((at, reject)),
        }
    }
}

pin_project! {
    /// The future of [`Timeout`] and [`WithDeadline`].
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        inner: Option<Oneshot<S, Req>>,
        bound: Bound,
        #[pin]
        timer: Option<Sleep>,
        reject: Reject,
        observer: Observer,
    }
}

impl<S: Service<Req>, Req: Context> ResponseFuture<S, Req> {
    fn new(service: S, request: Req, bound: Bound, min_useful: Duration) -> Self {
        Self {
            observer: request.call().observer.clone(),
            inner: (!bound.too_late(min_useful)).then(|| Oneshot::new(service, request)),
            bound,
            timer: None,
            reject: Reject::DeadlineBeforeSend,
        }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: From<Reject>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(this.observer.reject(*this.reject)));
        };
        if let Poll::Ready(result) = inner.poll(cx) {
            return Poll::Ready(result);
        }
        if this.timer.is_none() {
            let Some((at, reject)) = std::mem::replace(this.bound, Bound::None).arm() else {
                return Poll::Pending;
            };
            *this.reject = reject;
            this.timer.set(Some(sleep_until(at)));
        }
        match this.timer.as_pin_mut().map(|timer| timer.poll(cx)) {
            Some(Poll::Ready(())) => {
                this.inner.set(None);
                Poll::Ready(Err(this.observer.reject(*this.reject)))
            }
            _ => Poll::Pending,
        }
    }
}

//! The call beside its timer.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::{
    context::{Call, Context},
    deadline::{Deadline, later},
    observe::Observer,
    oneshot::Oneshot,
    reject::Reject,
    upload::{Progress, Upload},
};

/// What ends a call, and as what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    None,
    /// So long after it was first pending: a call that is ready at once never reads the clock.
    After(Duration, Reject),
    At(Instant, Reject),
}

impl Bound {
    /// The nearer of the call's deadline and the end of an attempt that starts `now`.
    pub(super) fn until(deadline: Deadline, timeout: Option<Duration>, now: Instant) -> Self {
        match timeout.and_then(|timeout| now.checked_add(timeout)) {
            Some(attempt) if attempt < deadline.instant() => {
                Self::At(attempt, Reject::AttemptTimeout)
            }
            _ => Self::At(deadline.instant(), Reject::Deadline),
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
        upload: Option<Uploading>,
        observer: Observer,
    }
}

/// A request whose body the caller may still be sending.
pub(super) struct Uploading {
    upload: Arc<Upload>,
    timeout: Duration,
    deadline: Option<Deadline>,
}

impl Uploading {
    pub(super) fn of(call: &Call, timeout: Option<Duration>) -> Option<Self> {
        Some(Self {
            upload: Arc::clone(call.upload.as_ref()?),
            timeout: timeout?,
            deadline: call.deadline,
        })
    }

    /// What bounds the attempt instead, if the service's time has not begun when it was called.
    fn extend(&self) -> Option<(Instant, Reject)> {
        let now = Instant::now();
        let begun = match self.upload.progress() {
            Progress::Waiting => return None,
            Progress::Sending => now,
            Progress::Sent(at) => at,
        };
        let end = later(begun, self.timeout);
        let deadline = self.deadline.map(Deadline::instant);
        match deadline.filter(|deadline| *deadline <= end) {
            Some(deadline) => Some((deadline, Reject::Deadline)),
            None => (now < end).then_some((end, Reject::AttemptTimeout)),
        }
    }
}

impl<S: Service<Req>, Req: Context> ResponseFuture<S, Req> {
    #[inline(always)]
    pub(super) fn new(service: &mut S, request: Req, bound: Bound) -> Self
    where
        S: Clone,
    {
        Self {
            observer: request.call().observer.clone(),
            inner: Some(Oneshot::start(service, request)),
            bound,
            timer: None,
            reject: Reject::DeadlineBeforeSend,
            upload: None,
        }
    }

    /// A call that is not sent, since there is too little time.
    pub(super) fn late(request: &Req) -> Self {
        Self {
            observer: request.call().observer.clone(),
            inner: None,
            bound: Bound::None,
            timer: None,
            reject: Reject::DeadlineBeforeSend,
            upload: None,
        }
    }

    /// Leaves the time of an upload out of the attempt's.
    #[inline(always)]
    pub(super) fn uploading(self, upload: Option<Uploading>) -> Self {
        Self { upload, ..self }
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
        while let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
            let upload = this
                .upload
                .as_ref()
                .filter(|_| *this.reject == Reject::AttemptTimeout);
            let Some((at, reject)) = upload.and_then(Uploading::extend) else {
                break;
            };
            *this.reject = reject;
            this.timer.set(Some(sleep_until(at)));
        }
        this.inner.set(None);
        Poll::Ready(Err(this.observer.reject(*this.reject)))
    }
}

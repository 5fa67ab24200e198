//! The call beside its timer.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    call::{Call, CallContext},
    deadline::{Deadline, later},
    event::Events,
    oneshot::Oneshot,
    poll_clock,
    rejection::Rejection,
    timer::Timer,
    upload::{Upload, Wait},
};

/// When a call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Never,
    /// So long after it was first pending: a call that is ready at once never reads the clock.
    After(Duration),
    At(Instant),
    /// It has begun to be waited for.
    Set,
}

/// As what a call ends that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Attempt,
    Deadline,
    /// It is not even sent.
    TooLate,
}

impl End {
    const fn reject(self) -> Rejection {
        match self {
            Self::Attempt => Rejection::AttemptTimeout,
            Self::Deadline => Rejection::Deadline,
            Self::TooLate => Rejection::DeadlineBeforeSend,
        }
    }
}

/// The nearer of the call's deadline and the end of an attempt that starts `now`.
pub(super) fn nearer(deadline: Deadline, timeout: Option<Duration>, now: Instant) -> (Bound, End) {
    match timeout.and_then(|timeout| now.checked_add(timeout)) {
        Some(attempt) if attempt < deadline.instant() => (Bound::At(attempt), End::Attempt),
        _ => (Bound::At(deadline.instant()), End::Deadline),
    }
}

pin_project! {
    /// The future of [`Timeout`] and [`WithDeadline`].
    #[project = Projection]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        inner: Option<Oneshot<S, Req>>,
        bound: Bound,
        end: End,
        timer: Timer,
        // Kept apart, since there is seldom one.
        upload: Option<Box<Uploading>>,
        events: Events,
    }
}

/// An attempt that may wait for the caller to send the body: that time does not count.
pub(super) struct Uploading {
    upload: Upload,
    timeout: Duration,
    deadline: Option<Deadline>,
}

impl Uploading {
    pub(super) fn of(call: &Call, timeout: Option<Duration>) -> Option<Box<Self>> {
        Some(Box::new(Self {
            upload: call.upload.as_ref()?.same(),
            timeout: timeout?,
            deadline: call.deadline,
        }))
    }

    /// What bounds the attempt instead, if it has waited for the caller: the service's time begins
    /// when the caller has gone on.
    fn extend(&self) -> Option<(Instant, End)> {
        let now = Instant::now();
        let begun = match self.upload.wait() {
            Wait::Never => return None,
            Wait::Now => now,
            Wait::Until(at) => at,
        };
        let end = later(begun, self.timeout);
        let deadline = self.deadline.map(Deadline::instant);
        match deadline.filter(|deadline| *deadline <= end) {
            Some(deadline) => Some((deadline, End::Deadline)),
            None => (now < end).then_some((end, End::Attempt)),
        }
    }
}

impl<S: Service<Req>, Req: CallContext> ResponseFuture<S, Req> {
    #[inline(always)]
    pub(super) fn new(
        service: &mut S,
        request: Req,
        (bound, end): (Bound, End),
        upload: Option<Box<Uploading>>,
    ) -> Self
    where
        S: Clone,
    {
        Self {
            events: request.call().events.clone(),
            inner: Some(Oneshot::start(service, request)),
            bound,
            end,
            timer: Timer::default(),
            upload,
        }
    }

    /// A call that is not sent, since there is too little time.
    #[cold]
    pub(super) fn late(request: &Req) -> Self {
        Self {
            events: request.call().events.clone(),
            inner: None,
            bound: Bound::Never,
            end: End::TooLate,
            timer: Timer::default(),
            upload: None,
        }
    }
}

impl<S: Service<Req>, Req> Projection<'_, S, Req> {
    /// Waits beside the call, which is pending, for its time to be over.
    fn wait(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match std::mem::replace(self.bound, Bound::Set) {
            Bound::Never => *self.bound = Bound::Never,
            Bound::Set => {}
            Bound::At(at) => self.timer.set(at),
            Bound::After(after) => {
                if let Some(at) = poll_clock::now().checked_add(after) {
                    self.timer.set(at);
                }
            }
        }
        loop {
            ready!(self.timer.poll(cx));
            let upload = self.upload.as_ref().filter(|_| *self.end == End::Attempt);
            let Some((at, end)) = upload.and_then(|upload| upload.extend()) else {
                return Poll::Ready(());
            };
            *self.end = end;
            self.timer.set(at);
        }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: From<Rejection>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            poll_clock::forget();
            if let Poll::Ready(result) = inner.poll(cx) {
                return Poll::Ready(result);
            }
            ready!(this.wait(cx));
            this.inner.set(None);
        }
        Poll::Ready(Err(this.events.reject(this.end.reject())))
    }
}

//! The future that runs a call and its timer side by side.

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
    clock,
    deadline::{Deadline, later},
    event::{CallEvents, Sinks},
    oneshot::Oneshot,
    rejection::Rejection,
    timer::Timer,
    upload::{Upload, Wait},
};

/// The time at which a call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Never,
    At(Instant),
    /// The timer has been started.
    Set,
}

/// The reason why a call ends, which selects the rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Attempt,
    Deadline,
    /// The call is not sent, because too little time is left.
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

/// The limits of one attempt, whose time starts when its service is ready and called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) timeout: Option<Duration>,
    pub(super) min_useful: Duration,
    pub(super) deadline: Option<Deadline>,
}

impl Limits {
    /// Returns the end of an attempt that starts at `now`, or `None` if too little time is left to send it.
    #[inline(always)]
    fn start(&self, now: Instant) -> Option<(Bound, End)> {
        // An attempt with its whole timeout is sent, even if the timeout is below `min_useful`.
        let useful = (self.timeout).map_or(self.min_useful, |timeout| timeout.min(self.min_useful));
        if (self.deadline).is_some_and(|deadline| deadline.remaining(now) < useful) {
            return None;
        }
        let attempt = self.timeout.and_then(|timeout| now.checked_add(timeout));
        Some(match (attempt, self.deadline) {
            (Some(attempt), Some(deadline)) if attempt < deadline.instant() => {
                (Bound::At(attempt), End::Attempt)
            }
            (_, Some(deadline)) => (Bound::At(deadline.instant()), End::Deadline),
            (Some(attempt), None) => (Bound::At(attempt), End::Attempt),
            (None, None) => (Bound::Never, End::Attempt),
        })
    }

    /// Returns the end of the wait for a service that is not ready.
    fn wait(&self) -> (Bound, End) {
        let deadline = self.deadline.map(Deadline::instant);
        (deadline.map_or(Bound::Never, Bound::At), End::TooLate)
    }
}

pin_project! {
    /// The response future of [`Timeout`](super::Timeout) and [`WithDeadline`](super::WithDeadline).
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
        // The limits of an attempt whose service is not ready. Boxed, because most services are ready.
        unstarted: Option<Box<Limits>>,
        // Boxed, because few calls have an upload.
        upload: Option<Box<Uploading>>,
        events: CallEvents,
    }
}

/// State of an attempt that may wait for the caller's body. This time does not count.
pub(super) struct Uploading {
    upload: Upload,
    timeout: Duration,
    deadline: Option<Deadline>,
}

/// Creates the state if the call has an upload and the attempt has a timeout.
impl Uploading {
    pub(super) fn of(call: &Call, timeout: Option<Duration>) -> Option<Box<Self>> {
        Some(Box::new(Self {
            upload: call.upload.as_ref()?.share(),
            timeout: timeout?,
            deadline: call.deadline,
        }))
    }

    /// Returns the new end of an attempt that has waited for the caller, or `None` if its time is over.
    ///
    /// The time of the service starts again when the caller continues with the body.
    fn extend(&self) -> Option<(Instant, End)> {
        let now = Instant::now();
        let started = match self.upload.wait() {
            Wait::Never => return None,
            Wait::Now => now,
            Wait::Until(at) => at,
        };
        let end = later(started, self.timeout);
        let deadline = self.deadline.map(Deadline::instant);
        match deadline.filter(|deadline| *deadline <= end) {
            Some(deadline) => Some((deadline, End::Deadline)),
            None => (now < end).then_some((end, End::Attempt)),
        }
    }
}

impl<S: Service<Req>, Req: CallContext> ResponseFuture<S, Req> {
    /// Runs a call that ends at `bound`.
    #[inline(always)]
    pub(super) fn new(
        service: &mut S,
        request: Req,
        (bound, end): (Bound, End),
        events: &Sinks,
    ) -> Self
    where
        S: Clone,
    {
        Self {
            events: CallEvents::new(events, request.call()),
            inner: Some(Oneshot::start(service, request)),
            bound,
            end,
            timer: Timer::default(),
            unstarted: None,
            upload: None,
        }
    }

    /// Runs an attempt within `limits`, unless too little time is left.
    #[inline(always)]
    pub(super) fn attempt(service: &mut S, request: Req, limits: Limits, events: &Sinks) -> Self
    where
        S: Clone,
    {
        let Some(bound) = limits.start(Instant::now()) else {
            return Self::late(&request, events);
        };
        let upload = Uploading::of(request.call(), limits.timeout);
        let mut attempt = Self::new(service, request, bound, events);
        attempt.upload = upload;
        if attempt.inner.as_ref().is_some_and(Oneshot::is_waiting) {
            (attempt.bound, attempt.end) = limits.wait();
            attempt.unstarted = Some(Box::new(limits));
        }
        attempt
    }

    /// Creates the future of a call that is not sent, because too little time is left.
    #[cold]
    pub(super) fn late(request: &Req, events: &Sinks) -> Self {
        Self {
            events: CallEvents::new(events, request.call()),
            inner: None,
            bound: Bound::Never,
            end: End::TooLate,
            timer: Timer::default(),
            unstarted: None,
            upload: None,
        }
    }
}

impl<S: Service<Req>, Req> Projection<'_, S, Req> {
    /// Waits until the service is ready, and then starts the time of the attempt. Drops the call if too
    /// little time is left by then.
    #[cold]
    fn poll_start(&mut self, limits: Limits, cx: &mut task::Context<'_>) -> Poll<()> {
        let inner = self.inner.as_mut().as_pin_mut();
        let bound = if inner.is_some_and(|inner| inner.poll_ready(cx).is_pending()) {
            ready!(self.wait(cx));
            None
        } else {
            limits.start(Instant::now())
        };
        match bound {
            Some(bound) => (*self.bound, *self.end) = bound,
            None => {
                self.inner.set(None);
                *self.end = End::TooLate;
            }
        }
        *self.unstarted = None;
        Poll::Ready(())
    }

    /// Waits until the time of the call, which is pending, is over.
    fn wait(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match std::mem::replace(self.bound, Bound::Set) {
            Bound::Never => *self.bound = Bound::Never,
            Bound::Set => {}
            Bound::At(at) => self.timer.set(at),
        }
        loop {
            ready!(self.timer.poll(cx));
            // Only the attempt timeout can be extended. The deadline counts the caller's time too.
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
        if let Some(limits) = this.unstarted.as_deref().copied() {
            ready!(this.poll_start(limits, cx));
        }
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            // The call is polled before the timer, so a response that is ready wins.
            clock::forget();
            if let Poll::Ready(result) = inner.poll(cx) {
                return Poll::Ready(result);
            }
            ready!(this.wait(cx));
            this.inner.set(None);
        }
        Poll::Ready(Err(this.events.reject(this.end.reject())))
    }
}

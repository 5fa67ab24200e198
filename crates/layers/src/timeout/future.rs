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
    deadline::{Deadline, later},
    event::Events,
    oneshot::Oneshot,
    poll_clock,
    rejection::Rejection,
    timer::Timer,
    upload::{Upload, Wait},
};

/// The time at which a call ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Never,
    /// A time after the first pending poll. A call that is ready at once never reads the clock.
    After(Duration),
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

/// Returns the earlier of the call's deadline and the end of an attempt that starts at `now`.
pub(super) fn nearer(deadline: Deadline, timeout: Option<Duration>, now: Instant) -> (Bound, End) {
    match timeout.and_then(|timeout| now.checked_add(timeout)) {
        Some(attempt) if attempt < deadline.instant() => (Bound::At(attempt), End::Attempt),
        _ => (Bound::At(deadline.instant()), End::Deadline),
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
        // Boxed, because few calls have an upload.
        upload: Option<Box<Uploading>>,
        events: Events,
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

    /// Creates the future of a call that is not sent, because too little time is left.
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
    /// Waits until the time of the call, which is pending, is over.
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
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            // The call is polled before the timer, so a response that is ready wins.
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

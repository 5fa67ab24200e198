//! The response future of the concurrency limit, which waits for a permit and then runs the call.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    layer::ConcurrencyLayer,
    limiter::{Admission, Limiter, Permit, Waiter},
};
use crate::{
    call::CallContext,
    classify::Classify,
    clock,
    deadline::later,
    event::{CallEvents, Event},
    oneshot::Oneshot,
    permit_scope::{PermitScope, report_panic},
    rejection::Rejection,
    sync::Arc,
    timer::Timer,
};

pin_project! {
    /// The response future of [`Concurrency`](super::Concurrency).
    ///
    /// The future holds the permit, or the place in the queue. Dropping it returns either.
    #[project = Projection]
    pub struct ResponseFuture<S, C, U, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
        classify: C,
        until: PhantomData<fn() -> U>,
        events: CallEvents,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        Rejected { rejection: Rejection },
        Queued {
            service: S,
            request: Req,
            waiter: Waiter,
            since: Instant,
            end: Instant,
            timer: Timer,
        },
        // Fields are dropped in order: the call must end before its permit is free.
        Running {
            #[pin]
            call: Oneshot<S, Req>,
            permit: Option<Permit>,
        },
        Done,
    }
}

impl<S, C, U, Req> ResponseFuture<S, C, U, Req>
where
    S: Service<Req> + Clone,
    C: Clone,
    Req: CallContext,
{
    #[inline(always)]
    pub(super) fn new(layer: &ConcurrencyLayer<C, U>, inner: &mut S, request: Req) -> Self {
        let events = CallEvents::new(&layer.events, request.call());
        Self {
            state: State::begin(&layer.limiter, inner, request, &events),
            classify: layer.classify.clone(),
            until: PhantomData,
            events,
        }
    }
}

impl<S, Req> State<S, Req>
where
    S: Service<Req> + Clone,
    Req: CallContext,
{
    /// Runs the call if a permit is free, else queues it. Rejects it if the circuit below is open.
    #[inline]
    fn begin(limiter: &Arc<Limiter>, inner: &mut S, request: Req, events: &CallEvents) -> Self {
        if let Some(rejection) = limiter.reject() {
            return Self::Rejected { rejection };
        }
        match limiter.try_acquire() {
            None => Self::queue(limiter, inner, request, events),
            Some(permit) => Self::run(inner, request, permit, events),
        }
    }

    /// Runs a call that got a permit without waiting.
    #[inline(always)]
    fn run(inner: &mut S, request: Req, permit: Permit, events: &CallEvents) -> Self {
        events.emit(Event::PermitAcquired {
            waited: Duration::ZERO,
        });
        let mut permit = Some(permit);
        Self::Running {
            call: report_panic(&mut permit, |_| Oneshot::start(inner, request)),
            permit,
        }
    }

    /// Queues the call. The waker is set by the first poll.
    #[cold]
    fn queue(limiter: &Arc<Limiter>, inner: &mut S, request: Req, events: &CallEvents) -> Self {
        let call = request.call();
        let max_wait = call.max_wait.unwrap_or(limiter.max_wait);
        if max_wait.is_zero() {
            // A call that must not wait is rejected as if the queue had no room.
            let rejection = Rejection::AtCapacity;
            return Self::Rejected { rejection };
        }
        let deadline = call.deadline.map(crate::Deadline::instant);
        let now = clock::now();
        match limiter.acquire(call.priority, deadline, task::Waker::noop(), now) {
            Err(rejection) => Self::Rejected { rejection },
            Ok(Admission::Granted(permit)) => Self::run(inner, request, permit, events),
            Ok(Admission::Queued(waiter)) => {
                events.emit(Event::Queued);
                let wait_end = later(now, max_wait.min(limiter.max_wait));
                Self::Queued {
                    service: inner.clone(),
                    request,
                    waiter,
                    since: now,
                    end: deadline.map_or(wait_end, |deadline| deadline.min(wait_end)),
                    timer: Timer::default(),
                }
            }
        }
    }
}

impl<S, C, U, Req> Projection<'_, S, C, U, Req>
where
    S: Service<Req>,
{
    /// Polls a queued call for its permit, and then runs or rejects the call.
    fn wait(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Projected::Queued {
            waiter,
            timer,
            since,
            end,
            ..
        } = self.state.as_mut().project()
        else {
            // Only `poll` calls this method, and only in this state.
            unreachable!("only a queued call waits for a permit");
        };
        let result = ready!(poll_permit(waiter, timer, *end, cx));
        let waited = clock::now().saturating_duration_since(*since);
        let Replaced::Queued {
            service, request, ..
        } = self.state.as_mut().project_replace(State::Done)
        else {
            // Nothing has changed the state since it was matched above.
            unreachable!("the call is still queued");
        };
        self.state.set(match result {
            Err(rejection) => State::Rejected { rejection },
            Ok(permit) => {
                self.events.emit(Event::PermitAcquired { waited });
                State::Running {
                    call: Oneshot::new(service, request),
                    permit: Some(permit),
                }
            }
        });
        Poll::Ready(())
    }
}

/// Returns the permit when it is granted, or a rejection at `end` or if the circuit has opened
/// during the wait.
fn poll_permit(
    waiter: &mut Waiter,
    timer: &mut Timer,
    end: Instant,
    cx: &mut task::Context<'_>,
) -> Poll<Result<Permit, Rejection>> {
    let Poll::Ready(result) = waiter.poll(cx.waker()) else {
        // Set in the first poll, because `call` may run outside of a tokio runtime.
        if !timer.is_set() {
            timer.set(end);
        }
        if timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        return Poll::Ready(Err(Rejection::QueueTimeout));
    };
    Poll::Ready(result.and_then(|mut permit| match waiter.reject() {
        Some(rejection) => {
            // The call is not sent, so it must not count as a fast one.
            permit.discard_measurement();
            Err(rejection)
        }
        None => Ok(permit),
    }))
}

impl<S, C, U, Req> Future for ResponseFuture<S, C, U, Req>
where
    S: Service<Req>,
    S::Error: From<Rejection>,
    C: Classify<S::Response, S::Error>,
    U: PermitScope<S::Response>,
{
    type Output = Result<U::Response<Permit>, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                Projected::Running { call, permit } => {
                    let result = ready!(report_panic(permit, |_| call.poll(cx)));
                    let result = finish::<U, _, _>(result, permit, this.classify);
                    this.state.set(State::Done);
                    return Poll::Ready(result);
                }
                Projected::Rejected { rejection } => {
                    return Poll::Ready(Err(this.events.reject(*rejection)));
                }
                Projected::Queued { .. } => ready!(this.wait(cx)),
                // By the contract of `Future`, a caller does not poll again after completion.
                Projected::Done => panic!("polled after completion"),
            }
        }
    }
}

/// Reports the result to an adaptive limit, and moves the permit into the response if its scope is
/// longer.
fn finish<U: PermitScope<Res>, Res, E>(
    result: Result<Res, E>,
    permit: &mut Option<Permit>,
    classify: &impl Classify<Res, E>,
) -> Result<U::Response<Permit>, E> {
    if let Some(permit) = permit.as_mut().filter(|permit| permit.is_measured()) {
        permit.record(|elapsed| classify.classify(result.as_ref(), elapsed));
    }
    result.map(|response| U::hold(permit, response))
}

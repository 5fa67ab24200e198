//! Waits for a permit, then runs the call while holding it.

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
    limiter::{Limiter, Permit, Turn, Waiter},
    service::Concurrency,
};
use crate::{
    call::CallContext,
    classify::Classify,
    deadline::later,
    event::{Event, Events},
    oneshot::Oneshot,
    permit_scope::{DropOnPanic, PermitScope},
    rejection::Rejection,
    sync::Arc,
    timer::Timer,
};

pin_project! {
    /// The future of [`Concurrency`].
    ///
    /// It holds the permit, or the place in the queue; either is given back when it is dropped.
    #[project = Projection]
    pub struct ResponseFuture<S, C, U, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
        classify: C,
        until: PhantomData<fn() -> U>,
        events: Events,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        Refused { rejection: Rejection },
        Queued {
            service: S,
            request: Req,
            waiter: Waiter,
            since: Instant,
            end: Instant,
            timer: Timer,
        },
        // The call comes before its permit, so that it is dropped before the permit is free.
        Running {
            #[pin]
            call: Oneshot<S, Req>,
            permit: Option<Permit>,
        },
        Gone,
    }
}

impl<S, C, U, Req> ResponseFuture<S, C, U, Req>
where
    S: Service<Req> + Clone,
    C: Clone,
    Req: CallContext,
{
    #[inline(always)]
    pub(super) fn new(service: &mut Concurrency<S, C, U>, request: Req) -> Self {
        let events = request.call().events.clone();
        Self {
            state: begin(&service.layer.limiter, &mut service.inner, request, &events),
            classify: service.layer.classify.clone(),
            until: PhantomData,
            events,
        }
    }
}

/// Runs the call if a permit is free, else queues it, unless the circuit below is open.
#[inline]
fn begin<S, Req>(
    limiter: &Arc<Limiter>,
    inner: &mut S,
    request: Req,
    events: &Events,
) -> State<S, Req>
where
    S: Service<Req> + Clone,
    Req: CallContext,
{
    if let Some(rejection) = limiter.reject() {
        return State::Refused { rejection };
    }
    match limiter.try_acquire() {
        None => queue(limiter, inner, request, events),
        Some(permit) => run(inner, request, permit, events),
    }
}

/// A call that need not wait.
#[inline(always)]
fn run<S, Req>(inner: &mut S, request: Req, permit: Permit, events: &Events) -> State<S, Req>
where
    S: Service<Req> + Clone,
{
    events.emit(Event::PermitAcquired {
        waited: Duration::ZERO,
    });
    State::Running {
        call: Oneshot::start(inner, request),
        permit: Some(permit),
    }
}

/// Joins the queue, with the first poll's waker to follow.
#[cold]
fn queue<S, Req>(
    limiter: &Arc<Limiter>,
    inner: &mut S,
    request: Req,
    events: &Events,
) -> State<S, Req>
where
    S: Service<Req> + Clone,
    Req: CallContext,
{
    let call = request.call();
    let own = call.max_wait.unwrap_or(limiter.max_wait);
    if own.is_zero() {
        let rejection = Rejection::AtCapacity;
        return State::Refused { rejection };
    }
    let deadline = call.deadline.map(crate::Deadline::instant);
    let now = Instant::now();
    match limiter.acquire(call.priority, deadline, task::Waker::noop(), now) {
        Err(rejection) => State::Refused { rejection },
        Ok(Turn::Now(permit)) => run(inner, request, permit, events),
        Ok(Turn::Later(waiter)) => {
            let patience = later(now, own.min(limiter.max_wait));
            let end = deadline.map_or(patience, |deadline| deadline.min(patience));
            State::Queued {
                service: inner.clone(),
                request,
                waiter,
                since: now,
                end,
                timer: Timer::default(),
            }
        }
    }
}

impl<S, C, U, Req> Projection<'_, S, C, U, Req>
where
    S: Service<Req>,
{
    /// Waits for the turn of a call that is queued, and begins it.
    fn wait(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Projected::Queued {
            waiter,
            timer,
            since,
            end,
            ..
        } = self.state.as_mut().project()
        else {
            // Called by `poll` in this state only.
            unreachable!("only a queued call waits for its turn");
        };
        let turn = ready!(poll_turn(waiter, timer, *end, cx));
        let waited = since.elapsed();
        let Replaced::Queued {
            service, request, ..
        } = self.state.as_mut().project_replace(State::Gone)
        else {
            // Nothing has changed the state since it was matched above.
            unreachable!("it is still queued");
        };
        self.state.set(match turn {
            Err(rejection) => State::Refused { rejection },
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

/// The permit once it is the call's turn, unless it is `end` before, or the circuit has opened.
fn poll_turn(
    waiter: &mut Waiter,
    timer: &mut Timer,
    end: Instant,
    cx: &mut task::Context<'_>,
) -> Poll<Result<Permit, Rejection>> {
    let Poll::Ready(turn) = waiter.poll(cx.waker()) else {
        if !timer.is_set() {
            timer.set(end);
        }
        if timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        return Poll::Ready(Err(Rejection::QueueTimeout));
    };
    Poll::Ready(turn.and_then(|mut permit| match waiter.reject() {
        Some(rejection) => {
            permit.unsent();
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
                    let guard = DropOnPanic(permit);
                    let result = ready!(call.poll(cx));
                    drop(guard);
                    let result = end::<U, _, _>(result, permit, this.classify);
                    this.state.set(State::Gone);
                    return Poll::Ready(result);
                }
                Projected::Refused { rejection } => {
                    return Poll::Ready(Err(this.events.reject(*rejection)));
                }
                Projected::Queued { .. } => ready!(this.wait(cx)),
                // A caller never polls a future again after it was ready: the contract of `Future`.
                Projected::Gone => panic!("polled after completion"),
            }
        }
    }
}

/// Tells an adaptive limit how the call ended, and hands the permit to whatever remains of it.
fn end<U: PermitScope<Res>, Res, E>(
    result: Result<Res, E>,
    permit: &mut Option<Permit>,
    classify: &impl Classify<Res, E>,
) -> Result<U::Response<Permit>, E> {
    if let Some(permit) = permit.as_mut().filter(|permit| permit.is_measured()) {
        permit.record(|elapsed| classify.classify(result.as_ref(), elapsed));
    }
    result.map(|response| U::hold(permit, response))
}

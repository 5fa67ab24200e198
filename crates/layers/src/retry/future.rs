//! The future that sends attempts and pauses between them.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    budget::{Reserved, Spent},
    decide::{Attempts, Next},
    layer::{Retry, Shared},
};
use crate::{
    breaker,
    call::CallContext,
    classify::{Class, Classify},
    clock::{self, Stopwatch},
    deadline::later,
    event::{Event, Events, RetryStopReason},
    rejection::Rejection,
    shared_service::SharedService,
    sync::Arc,
    timer::Timer,
};

pin_project! {
    /// The response future of [`Retry`](super::Retry).
    #[project = Projection]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        core: Arc<SharedService<Shared, S>>,
        // The call's share has been added to the budget, here or by a layer above.
        has_deposited: bool,
        classify: C,
        attempts: Attempts,
        events: Events,
        // The request of the next attempt. `None` once no attempt can follow.
        next: Option<Req>,
        #[pin]
        state: State<S, S::Future, S::Response, S::Error>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<S, F, T, E> {
        Calling {
            #[pin]
            future: F,
            watch: Stopwatch,
            // Boxed, because most calls make one attempt only.
            earlier: Option<Box<Earlier<T, E>>>,
        },
        Pausing {
            // `None` for an immediate retry, because a timer rounds up to its next tick.
            pause: Option<Timer>,
            paid: Option<Reserved>,
            // The result of the call if the next attempt is refused.
            last: Option<Result<T, E>>,
        },
        Readying {
            service: S,
            paid: Option<Reserved>,
            last: Option<Result<T, E>>,
        },
        Done,
    }
}

/// The cost of an attempt after the first, and the result of the attempt before it.
struct Earlier<T, E> {
    spent: Option<Spent>,
    // `None` for a response that is not kept: see `RetryLayer::release_responses`.
    last: Option<Result<T, E>>,
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    Req: CallContext + Clone,
{
    /// Sends the first attempt to the inner service of `retry`, which is ready.
    #[inline]
    pub(super) fn new(retry: &mut Retry<S, C>, mut request: Req) -> Self
    where
        C: Clone,
    {
        let call = request.call();
        let attempts = Attempts::new(call, request.is_idempotent(), &retry.core.config);
        let events = call.events.clone();
        retry
            .core
            .events
            .emit(&events, Event::Attempt { number: 1 });
        let last = attempts.is_last(call);
        if call.last_attempt != last {
            if let Some(call) = request.call_mut() {
                call.last_attempt = last;
            }
        }
        let core = &retry.core;
        // Without retries, the budget is not used.
        let deposits =
            core.config.max_attempts > 1 && core.budget.counts(&mut request, core.shares_budget);
        Self {
            core: Arc::clone(core),
            has_deposited: !deposits,
            classify: retry.classify.clone(),
            events,
            next: (!attempts.are_used_up()).then(|| request.clone()),
            state: State::Calling {
                watch: Stopwatch::default(),
                future: retry.inner.call(request),
                earlier: None,
            },
            attempts,
        }
    }
}

impl<S, C, Req> Projection<'_, S, C, Req>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
    Req: CallContext + Clone,
{
    /// Classifies the result of an attempt and decides the next step.
    ///
    /// Returns the class and the pause before the next attempt, or `None` if the result is final.
    #[inline(always)]
    fn ended(
        &mut self,
        result: Result<&S::Response, &S::Error>,
        elapsed: Duration,
        spent: Option<Spent>,
    ) -> (Class, Option<(Duration, Option<Reserved>)>) {
        let class = self.classify.classify(result, elapsed);
        // A layer below rejected the retry, so the retry was never sent and costs nothing. `NoEndpoint`
        // is retried, so it keeps its cost and the budget bounds these retries.
        if let (Class::Rejected(rejection), Some(spent)) = (class, spent) {
            if rejection != Rejection::NoEndpoint {
                spent.refund();
            }
        }
        self.core
            .events
            .emit(self.events, Event::AttemptEnded { class, elapsed });
        let call = self.next.as_ref().map(CallContext::call);
        let next = match (self.attempts).after(class, result.is_ok(), call, self.core) {
            Next::Again { pause, paid } => {
                self.core
                    .events
                    .emit(self.events, Event::Backoff { delay: pause });
                Some((pause, paid))
            }
            Next::Stop(by) => {
                if let Some(by) = by {
                    self.core
                        .events
                        .emit(self.events, Event::RetryStopped { by });
                }
                None
            }
        };
        (class, next)
    }

    /// Handles the end of an attempt. Returns the result of the call, or `None` if another attempt follows.
    #[inline(always)]
    fn settle(
        &mut self,
        mut result: Result<S::Response, S::Error>,
        elapsed: Duration,
        mut earlier: Option<Box<Earlier<S::Response, S::Error>>>,
    ) -> Option<Result<S::Response, S::Error>> {
        let spent = earlier.as_mut().and_then(|earlier| earlier.spent.take());
        let (class, next) = self.ended(result.as_ref(), elapsed, spent);
        // The rejected attempt was never sent, so the call ends with the result of the one before.
        if let Class::Rejected(_) = class {
            if let Some(last) = earlier.and_then(|earlier| earlier.last) {
                result = last;
            }
        }
        let Some((pause, paid)) = next else {
            self.state.set(State::Done);
            return Some(result);
        };
        self.pause(pause, paid, result);
        None
    }

    /// Starts the pause after an attempt that ended with `last`, and drops a response that is not kept.
    fn pause(
        &mut self,
        pause: Duration,
        paid: Option<Reserved>,
        last: Result<S::Response, S::Error>,
    ) {
        let is_kept = last.is_err() || !self.core.releases_responses;
        self.state.set(State::Pausing {
            pause: (!pause.is_zero()).then(|| Timer::at(later(clock::now(), pause))),
            paid,
            last: is_kept.then_some(last),
        });
    }

    /// Ends a pause. Returns the last result if it is kept and the breaker has opened meanwhile.
    #[cold]
    fn resumed(&mut self) -> Option<Result<S::Response, S::Error>> {
        let Replaced::Pausing { last, paid, .. } = self.state.as_mut().project_replace(State::Done)
        else {
            // Called by `poll` in this state only.
            unreachable!("`resumed` requires the state `Pausing`");
        };
        let breaker = self.core.breaker.as_ref();
        let is_open = breaker.and_then(breaker::Handle::rejection).is_some();
        // Without a result to return, the breaker itself rejects the attempt.
        if is_open && last.is_some() {
            let by = RetryStopReason::BreakerOpen;
            self.core
                .events
                .emit(self.events, Event::RetryStopped { by });
            return last;
        }
        let service = self.core.spare();
        self.state.set(State::Readying {
            service,
            paid,
            last,
        });
        None
    }

    /// Sends the next attempt to its service, or ends the attempt if the service failed to become ready.
    #[cold]
    fn send(&mut self, ready: Result<(), S::Error>) -> Option<Result<S::Response, S::Error>> {
        let Replaced::Readying {
            mut service,
            paid,
            last,
        } = self.state.as_mut().project_replace(State::Done)
        else {
            // Called by `poll` in this state only.
            unreachable!("`send` requires the state `Readying`");
        };
        self.attempts.number += 1;
        let number = self.attempts.number;
        self.core
            .events
            .emit(self.events, Event::Attempt { number });
        let earlier = Some(Box::new(Earlier {
            spent: paid.map(Reserved::spend),
            last,
        }));
        if let Err(error) = ready {
            return self.settle(Err(error), Duration::ZERO, earlier);
        }
        let request = self.next_request();
        self.state.set(State::Calling {
            watch: Stopwatch::default(),
            future: service.call(request),
            earlier,
        });
        None
    }

    /// Returns the request of the next attempt. The request is cloned unless the attempt is the last.
    fn next_request(&mut self) -> Req {
        let request = if self.attempts.are_used_up() {
            self.next.take()
        } else {
            self.next.clone()
        };
        // `Attempts::after` allows another attempt only while the request is kept.
        let mut request = request.expect("no request kept for the next attempt");
        if let Some(call) = request.call_mut() {
            self.attempts.mark(call, &self.core.config);
        }
        request
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
    Req: CallContext + Clone,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let end = match this.state.as_mut().project() {
                Projected::Calling {
                    future,
                    watch,
                    earlier,
                } => {
                    // A layer below with the same budget may need the deposit in this poll.
                    if this.core.shares_budget && !mem::replace(this.has_deposited, true) {
                        this.core.budget.deposit(clock::now());
                    }
                    let poll = watch.watch(|| future.poll(cx));
                    // The cached time is valid directly after the inner poll.
                    if !mem::replace(this.has_deposited, true) {
                        this.core.budget.deposit(clock::polled());
                    }
                    let result = ready!(poll);
                    let (elapsed, earlier) = (watch.elapsed(), earlier.take());
                    this.settle(result, elapsed, earlier)
                }
                Projected::Pausing { pause, .. } => {
                    if let Some(pause) = pause {
                        ready!(pause.poll(cx));
                    }
                    this.resumed()
                }
                Projected::Readying { service, .. } => {
                    let ready = ready!(service.poll_ready(cx));
                    this.send(ready)
                }
                // Polling a future after completion violates the contract of `Future`.
                Projected::Done => panic!("polled after completion"),
            };
            if let Some(result) = end {
                return Poll::Ready(result);
            }
        }
    }
}

//! Attempts and the pauses between them.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    budget::{Reserved, Spent},
    decide::{Attempts, Next},
    layer::Shared,
    service::Retry,
};
use crate::{
    breaker,
    call::CallContext,
    classify::{Class, Classify},
    deadline::later,
    event::{Event, Events, RetryStopReason},
    poll_clock::{self, Stopwatch},
    rejection::Rejection,
    shared_service::SharedService,
    sync::Arc,
    timer::Timer,
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    #[project = Projection]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        core: Arc<SharedService<Shared, S>>,
        has_deposited: bool,
        classify: C,
        attempts: Attempts,
        events: Events,
        // The request of the next attempt, as long as there may be one.
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
            // Kept apart: most calls make one attempt.
            earlier: Option<Box<Earlier<E>>>,
        },
        Pausing {
            // None for a retry at once: a timer rounds up.
            pause: Option<Timer>,
            paid: Option<Reserved>,
            // What the call ends with if the breaker has opened by then.
            last: Option<Result<T, E>>,
        },
        Readying {
            service: S,
            paid: Option<Reserved>,
            failed: Option<E>,
        },
        Done,
    }
}

/// What an attempt after the first has cost, and what the one before it had failed of.
///
/// Of a result only an error is kept beside the next attempt: a response must be gone by then, since
/// its body may hold the connection that the attempt needs.
struct Earlier<E> {
    spent: Option<Spent>,
    failed: Option<E>,
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    Req: CallContext + Clone,
{
    /// Makes the first attempt on the service within `retry`, which is ready.
    #[inline]
    pub(super) fn new(retry: &mut Retry<S, C>, mut request: Req) -> Self
    where
        C: Clone,
    {
        let call = request.call();
        let attempts = Attempts::new(call, request.is_idempotent(), &retry.core.policy);
        let events = call.events.clone();
        events.emit(Event::Attempt { number: 1 });
        let last = attempts.is_sink(call);
        if call.last_attempt != last
            && let Some(facts) = request.call_mut()
        {
            facts.last_attempt = last;
        }
        Self {
            core: Arc::clone(&retry.core),
            // Calls that are never retried need no budget.
            has_deposited: retry.core.policy.max_attempts == 1,
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
    /// An attempt ended: its class, and the pause before the next, or nothing if its result is final.
    fn ended(
        &mut self,
        result: Result<&S::Response, &S::Error>,
        elapsed: Duration,
        spent: Option<Spent>,
    ) -> (Class, Option<(Duration, Option<Reserved>)>) {
        let class = self.classify.classify(result, elapsed);
        // A retry that a layer below rejected was not sent, and costs nothing.
        if let (Class::Rejected(rejection), Some(spent)) = (class, spent)
            && rejection != Rejection::NoEndpoint
        {
            spent.refund();
        }
        self.events.emit(Event::AttemptEnded { class, elapsed });
        let call = self.next.as_ref().map(CallContext::call);
        let next = match (self.attempts).after(class, result.is_ok(), call, self.core) {
            Next::Again { pause, paid } => {
                self.events.emit(Event::Backoff { delay: pause });
                Some((pause, paid))
            }
            Next::Stop(by) => {
                if let Some(by) = by {
                    self.events.emit(Event::RetryStopped { by });
                }
                None
            }
        };
        (class, next)
    }

    /// An attempt ended: what the call ends with, unless it is to be followed by another.
    #[inline]
    fn settle(
        &mut self,
        mut result: Result<S::Response, S::Error>,
        elapsed: Duration,
        mut earlier: Option<Box<Earlier<S::Error>>>,
    ) -> Option<Result<S::Response, S::Error>> {
        let spent = earlier.as_mut().and_then(|earlier| earlier.spent.take());
        let (class, next) = self.ended(result.as_ref(), elapsed, spent);
        // What a layer below refused was not sent: the call still fails of what it had failed of.
        if let Class::Rejected(_) = class
            && let Some(failed) = earlier.and_then(|earlier| earlier.failed)
        {
            result = Err(failed);
        }
        let Some((pause, paid)) = next else {
            self.state.set(State::Done);
            return Some(result);
        };
        self.pause(pause, paid, result);
        None
    }

    /// Begins a pause.
    ///
    /// Whatever a response holds until its body ends, a permit say, it would hold in vain: another
    /// attempt follows. Only where a breaker is asked after the pause it may be that none does, and
    /// the response is what the call ends with, so there it is kept.
    fn pause(
        &mut self,
        pause: Duration,
        paid: Option<Reserved>,
        last: Result<S::Response, S::Error>,
    ) {
        let may_end = last.is_err() || self.core.breaker.is_some();
        self.state.set(State::Pausing {
            pause: (!pause.is_zero()).then(|| Timer::at(later(Instant::now(), pause))),
            paid,
            last: may_end.then_some(last),
        });
    }

    /// A pause is over: the last result is dropped, or final if the breaker has opened meanwhile.
    fn resumed(&mut self) -> Option<Result<S::Response, S::Error>> {
        let Replaced::Pausing { last, paid, .. } = self.state.as_mut().project_replace(State::Done)
        else {
            // Called by `poll` in this state only.
            unreachable!("only a pause ends");
        };
        let breaker = self.core.breaker.as_ref();
        if breaker.and_then(breaker::Handle::refusal).is_some() {
            let by = RetryStopReason::BreakerOpen;
            self.events.emit(Event::RetryStopped { by });
            return last;
        }
        let failed = last.and_then(Result::err);
        let service = self.core.spare();
        self.state.set(State::Readying {
            service,
            paid,
            failed,
        });
        None
    }

    /// The service of the next attempt never became ready: the attempt has ended with that.
    fn unready(&mut self, error: S::Error) -> Option<Result<S::Response, S::Error>> {
        let Replaced::Readying { paid, failed, .. } =
            self.state.as_mut().project_replace(State::Done)
        else {
            // Called by `poll` in this state only.
            unreachable!("only a service that is asked is not ready");
        };
        self.count();
        let earlier = Earlier {
            spent: paid.map(Reserved::spend),
            failed,
        };
        self.settle(Err(error), Duration::ZERO, Some(Box::new(earlier)))
    }

    /// Sends the next attempt on the service, which is ready.
    fn send(&mut self) {
        let request = self.next_request();
        let Replaced::Readying {
            mut service,
            paid,
            failed,
        } = self.state.as_mut().project_replace(State::Done)
        else {
            // Called by `poll` in this state only.
            unreachable!("only a service that is ready is sent to");
        };
        self.state.set(State::Calling {
            watch: Stopwatch::default(),
            future: service.call(request),
            earlier: Some(Box::new(Earlier {
                spent: paid.map(Reserved::spend),
                failed,
            })),
        });
    }

    /// Another attempt is made.
    fn count(&mut self) {
        self.attempts.number += 1;
        let number = self.attempts.number;
        self.events.emit(Event::Attempt { number });
    }

    /// The request of the next attempt.
    fn next_request(&mut self) -> Req {
        self.count();
        let request = if self.attempts.are_used_up() {
            self.next.take()
        } else {
            self.next.clone()
        };
        // `Attempts::after` allows another attempt only while the request is kept.
        let mut request = request.expect("an attempt is only made while its request is kept");
        if let Some(facts) = request.call_mut() {
            self.attempts.mark(facts, &self.core.policy);
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
                    let poll = watch.watch(|| future.poll(cx));
                    // On the way back from the poll: the cached time is valid.
                    if !mem::replace(this.has_deposited, true) {
                        this.core.budget.deposit(poll_clock::now());
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
                Projected::Readying { service, .. } => match ready!(service.poll_ready(cx)) {
                    Err(error) => this.unready(error),
                    Ok(()) => {
                        this.send();
                        None
                    }
                },
                // A caller never polls a future again after it was ready: the contract of `Future`.
                Projected::Done => panic!("polled after completion"),
            };
            if let Some(result) = end {
                return Poll::Ready(result);
            }
        }
    }
}

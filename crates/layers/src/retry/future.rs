//! Attempts and the pauses between them.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::{
    budget::{Reserved, Spent},
    decide::{Attempts, Next},
    layer::RetryLayer,
};
use crate::{
    breaker,
    classify::{Class, Classify, Local},
    context::Context,
    observe::{Event, StoppedBy},
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    #[project = Projection]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        retry: RetryLayer<C>,
        service: S,
        attempts: Attempts,
        // The request of the next attempt, as long as there may be one.
        next: Option<Req>,
        #[pin]
        state: State<S::Future, S::Response, S::Error>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<F, T, E> {
        Calling {
            #[pin]
            future: F,
            since: Instant,
            spent: Option<Spent>,
        },
        Pausing {
            #[pin]
            pause: Sleep,
            paid: Option<Reserved>,
            last: Result<T, E>,
        },
        Readying { paid: Option<Reserved> },
        Done,
    }
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    Req: Context + Clone,
{
    /// Makes the first attempt on `service`, which is ready.
    pub(super) fn new(retry: RetryLayer<C>, mut service: S, request: Req) -> Self {
        let attempts = Attempts::new(request.call(), request.is_idempotent(), &retry.policy);
        if retry.policy.max_attempts > 1 {
            retry.budget.deposit();
        }
        attempts.call.observer.emit(Event::Attempt { number: 1 });
        Self {
            next: (!attempts.are_used_up()).then(|| request.clone()),
            state: State::Calling {
                since: Instant::now(),
                future: service.call(request),
                spent: None,
            },
            attempts,
            retry,
            service,
        }
    }
}

impl<S, C, Req> Projection<'_, S, C, Req>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Req: Context + Clone,
{
    fn emit(&self, event: Event) {
        self.attempts.call.observer.emit(event);
    }

    /// An attempt ended: the result is final, or a pause begins.
    fn ended(
        &mut self,
        result: Result<S::Response, S::Error>,
        since: Instant,
        spent: Option<Spent>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let elapsed = since.elapsed();
        let class = self.retry.classify.classify(result.as_ref(), elapsed);
        if let (Some(spent), true) = (spent, was_not_sent(class)) {
            self.retry.budget.refund(spent);
        }
        self.emit(Event::AttemptEnded { class, elapsed });
        let RetryLayer { policy, budget, .. } = &*self.retry;
        match self.attempts.after(class, result.is_ok(), policy, budget) {
            Next::Again { pause, paid } => {
                self.emit(Event::Backoff { delay: pause });
                self.state.set(State::Pausing {
                    pause: sleep(pause),
                    paid,
                    last: result,
                });
                Poll::Pending
            }
            Next::Stop(by) => {
                self.state.set(State::Done);
                if let Some(by) = by {
                    self.emit(Event::RetryStopped { by });
                }
                Poll::Ready(result)
            }
        }
    }

    /// A pause is over: the last result is dropped, unless the breaker has opened meanwhile.
    fn resumed(&mut self) -> Poll<Result<S::Response, S::Error>> {
        let Replaced::Pausing { last, paid, .. } = self.state.as_mut().project_replace(State::Done)
        else {
            unreachable!("only a pause ends");
        };
        let breaker = self.retry.breaker.as_ref();
        if breaker.and_then(breaker::Handle::refusal).is_some() {
            let by = StoppedBy::BreakerOpen;
            self.emit(Event::RetryStopped { by });
            return Poll::Ready(last);
        }
        drop(last);
        self.state.set(State::Readying { paid });
        Poll::Pending
    }

    /// Sends the next attempt on the service, which is ready.
    fn send(&mut self, paid: Option<Reserved>) {
        self.attempts.call.attempt += 1;
        let number = self.attempts.call.attempt;
        let request = if self.attempts.are_used_up() {
            self.next.take()
        } else {
            self.next.clone()
        };
        let mut request = request.expect("an attempt is only made while its request is kept");
        if let Some(facts) = request.call_mut() {
            facts.attempt = number;
        }
        self.emit(Event::Attempt { number });
        self.state.set(State::Calling {
            since: Instant::now(),
            future: self.service.call(request),
            spent: paid.map(Reserved::spend),
        });
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Req: Context + Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let step = match this.state.as_mut().project() {
                Projected::Calling {
                    future,
                    since,
                    spent,
                } => {
                    let result = ready!(future.poll(cx));
                    let (since, spent) = (*since, spent.take());
                    this.ended(result, since, spent)
                }
                Projected::Pausing { pause, .. } => {
                    ready!(pause.poll(cx));
                    this.resumed()
                }
                Projected::Readying { paid } => {
                    ready!(this.service.poll_ready(cx))?;
                    let paid = paid.take();
                    this.send(paid);
                    Poll::Pending
                }
                Projected::Done => panic!("polled after completion"),
            };
            if step.is_ready() {
                return step;
            }
        }
    }
}

/// A retry that was refused before it was sent has cost nothing.
fn was_not_sent(class: Class) -> bool {
    matches!(class, Class::Local(local) if local != Local::NoEndpoint)
}

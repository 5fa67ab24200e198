//! Attempts and the pauses between them.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::{
    budget::{AttemptEnd, Begun, HasBudget, Reserved, Spent},
    decide::{Attempts, Next},
    layer::{RetryLayer, Shared},
};
use crate::{
    breaker,
    classify::{Class, Classify, Local},
    context::Context,
    observe::{Event, StoppedBy},
    stopwatch::Stopwatch,
    sync::Arc,
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    #[project = Projection]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        shared: Begun<Arc<Shared>>,
        classify: C,
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
            watch: Stopwatch,
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
    #[inline(always)]
    pub(super) fn new(retry: &RetryLayer<C>, mut service: S, request: Req) -> Self
    where
        C: Clone,
    {
        let RetryLayer { shared, classify } = retry;
        let attempts = Attempts::new(request.call(), request.is_idempotent(), &shared.policy);
        attempts.call.observer.emit(Event::Attempt { number: 1 });
        Self {
            shared: Begun::new(Arc::clone(shared)),
            classify: classify.clone(),
            next: (!attempts.are_used_up()).then(|| request.clone()),
            state: State::Calling {
                watch: Stopwatch::default(),
                future: service.call(request),
                spent: None,
            },
            attempts,
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

    /// Tells the budget how an attempt ended. A retry that was refused before it was sent has cost
    /// nothing.
    fn account(&self, class: Class, spent: Option<Spent>) {
        let Some(budget) = self.shared.budget() else {
            return;
        };
        let how = AttemptEnd::of(class, &self.shared.policy.retry_on);
        match (spent, class) {
            (None, _) => budget.attempt_ended(how, None),
            (Some(spent), Class::Local(local)) if local != Local::NoEndpoint => spent.refund(),
            (Some(spent), _) => spent.ended(how),
        }
    }

    /// An attempt ended: the result is final, or a pause begins.
    fn ended(
        &mut self,
        result: Result<S::Response, S::Error>,
        elapsed: Duration,
        spent: Option<Spent>,
    ) -> Poll<Result<S::Response, S::Error>> {
        let class = self.classify.classify(result.as_ref(), elapsed);
        self.account(class, spent);
        self.emit(Event::AttemptEnded { class, elapsed });
        match self.attempts.after(class, result.is_ok(), self.shared) {
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
        let breaker = self.shared.breaker.as_ref();
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
            watch: Stopwatch::default(),
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
                    watch,
                    spent,
                } => {
                    let result = ready!(watch.watch(|| future.poll(cx)));
                    let (elapsed, spent) = (watch.elapsed(), spent.take());
                    this.ended(result, elapsed, spent)
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

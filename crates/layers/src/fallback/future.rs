//! The future of the call, and of the fallback steps after its failure.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::timeout_at;

use super::{
    chain::{Chain, Step, StepFuture},
    layer::FallbackLayer,
};
use crate::{
    classify::{Class, Classify, Failure},
    clock::{self, Stopwatch},
    deadline::Deadline,
    event::{Event, Events},
    panic,
    rejection::{BoxError, Rejection},
    timeout::MIN_USEFUL,
};

pin_project! {
    /// The response future of [`Fallback`](super::Fallback).
    pub struct ResponseFuture<F, C, Req, Res, E> {
        #[pin]
        state: State<F, C, Req, Res, E>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<F, C, Req, Res, E> {
        // Without a chain, the layer only forwards the call.
        Calling {
            #[pin]
            future: F,
            chain: Option<ChainRun<C, Req, Res, E>>,
        },
        FallingBack {
            chain: ChainRun<C, Req, Res, E>,
            step_future: Option<StepFuture<Res, E>>,
            step: usize,
            class: Class,
            original: End<Res, E>,
        },
        Done,
    }
}

/// The result of a call, or its panic.
type End<Res, E> = Result<Result<Res, E>, panic::Caught>;

/// A chain with the state of the call that may need it.
struct ChainRun<C, Req, Res, E> {
    classify: C,
    chain: Arc<Chain<Req, Res, E>>,
    request: Option<Req>,
    deadline: Option<Deadline>,
    events: Events,
    watch: Stopwatch,
}

impl<F, C, Req, Res, E> ResponseFuture<F, C, Req, Res, E> {
    #[inline(always)]
    pub(super) fn transparent(future: F) -> Self {
        let chain = None;
        Self {
            state: State::Calling { future, chain },
        }
    }

    #[inline(always)]
    pub(super) fn new(
        future: F,
        layer: &FallbackLayer<C, Req, Res, E>,
        request: Option<Req>,
        deadline: Option<Deadline>,
        events: Events,
    ) -> Self
    where
        C: Clone,
    {
        let chain = Some(ChainRun {
            classify: layer.classify.clone(),
            chain: Arc::clone(&layer.chain),
            request,
            deadline,
            events,
            watch: Stopwatch::default(),
        });
        Self {
            state: State::Calling { future, chain },
        }
    }
}

impl<C, Req, Res, E> ChainRun<C, Req, Res, E>
where
    C: Classify<Res, E>,
    Res: Send + 'static,
    E: From<Rejection> + Send + 'static,
{
    #[inline(always)]
    fn class(&self, result: &Result<Res, E>) -> Class {
        let elapsed = self.watch.elapsed();
        self.classify.classify(result.as_ref(), elapsed)
    }

    /// Returns the class of the call's result if a step covers that class. Passes a success to the stores.
    #[inline(always)]
    fn judge(&self, original: &Result<Res, E>) -> Option<Class> {
        let class = self.class(original);
        if let (Class::Success, Ok(answer)) = (class, original) {
            self.remember(answer);
            return None;
        }
        let mut steps = self.chain.steps_for(class, 0);
        steps.next().map(|_| class)
    }

    /// Starts the first usable step from index `step` on. Returns the future and index of the started step.
    fn begin(&self, step: usize, class: Class) -> Option<(usize, StepFuture<Res, E>)> {
        let mut steps = self.chain.steps_for(class, step);
        steps.find_map(|(index, step)| Some((index, self.start(index, step, class)?)))
    }

    /// Starts the step at `index`, limited by the deadline. Returns `None` if the step cannot be used.
    fn start(
        &self,
        index: usize,
        step: &Step<Req, Res, E>,
        class: Class,
    ) -> Option<StepFuture<Res, E>> {
        let (kind, call) = match step {
            Step::Static(response) => {
                let answer = self.catch_panic(index, || response(class))?;
                return Some(Box::pin(std::future::ready(Ok(answer))));
            }
            Step::Stale(stale) => {
                let recall = || stale.recall(self.request.as_ref()?, clock::now());
                let answer = self.catch_panic(index, recall)??;
                return Some(Box::pin(std::future::ready(Ok(answer))));
            }
            Step::Call { .. } if !self.has_time() => return None,
            Step::Call { kind, call } => (*kind, call),
        };
        let request = self.request.as_ref()?;
        self.emit(Event::FallbackStarted { step: index, kind });
        let step_future = self.catch_panic(index, || call(request, class))?;
        Some(match self.deadline {
            None => step_future,
            Some(deadline) => Box::pin(async move {
                let answer = timeout_at(deadline.instant(), step_future).await;
                answer.unwrap_or_else(|_| Err(Rejection::Deadline.into()))
            }),
        })
    }

    /// Runs a function of the user. Reports a panic as a failure of the step and returns `None`.
    fn catch_panic<T>(&self, step: usize, function: impl FnOnce() -> T) -> Option<T> {
        let result = panic::catch(function).ok();
        if result.is_none() {
            self.failed(step, Class::Failure(Failure::Panic));
        }
        result
    }

    fn failed(&self, step: usize, class: Class) {
        self.emit(Event::FallbackFailed { step, class });
    }

    fn emit(&self, event: Event) {
        self.chain.events.emit(&self.events, event);
    }

    /// Passes a good response to the steps with a store.
    fn remember(&self, answer: &Res) {
        // Without a store, the request is not kept.
        let Some(request) = &self.request else { return };
        for step in self.chain.steps() {
            if let Step::Stale(stale) = step {
                let remember = || stale.remember(request, answer, clock::now());
                // A panic of the store must not fail a call that has succeeded.
                let _ = panic::catch(remember);
            }
        }
    }

    fn has_time(&self) -> bool {
        (self.deadline).is_none_or(|deadline| deadline.remaining(clock::now()) >= MIN_USEFUL)
    }

    /// Returns the response of a step if it is a success, else `None`. An `answer` of `None` is a panic.
    fn accept(
        &self,
        step: usize,
        answer: Option<Result<Res, E>>,
        replaced: (Class, &End<Res, E>),
    ) -> Option<Result<Res, E>> {
        let panicked = Class::Failure(Failure::Panic);
        let class = answer
            .as_ref()
            .map_or(panicked, |answer| self.class(answer));
        if class != Class::Success {
            self.failed(step, class);
            return None;
        }
        // In bounds, because `begin` returned this index.
        let kind = self.chain.steps[step].step.kind();
        let error = || self.describe(replaced);
        self.chain.events.replaced(&self.events, &error);
        self.emit(Event::FallbackUsed { step, kind });
        answer
    }

    /// Returns the error of the result that a step replaces.
    fn describe(&self, (class, original): (Class, &End<Res, E>)) -> BoxError {
        match (&self.chain.describe, original) {
            (Some(describe), Ok(result)) => describe(result.as_ref()),
            _ => match class {
                Class::Rejected(rejection) => rejection.into(),
                Class::Unanswered { .. } => Rejection::Deadline.into(),
                Class::Failure(failure) => failure.into(),
                Class::NonRetryable(code) | Class::Transient(code) => of_status(code, None),
                Class::Throttled { retry_after } => of_status(429, retry_after),
                Class::Success => Failure::Other.into(),
            },
        }
    }
}

fn of_status(code: u16, retry_after: Option<Duration>) -> BoxError {
    Failure::Status { code, retry_after }.into()
}

impl<F, C, Req, Res, E> State<F, C, Req, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    Res: Send + 'static,
    E: From<Rejection> + Send + 'static,
{
    /// Polls the call and catches its panic.
    ///
    /// Returns the final result, or `None` once the first step has started or a step runs already.
    #[inline(always)]
    fn poll_call(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Res, E>>> {
        let Projected::Calling { future, chain } = self.as_mut().project() else {
            return Poll::Ready(None);
        };
        let Some(run) = chain else {
            let result = ready!(future.poll(cx));
            self.set(Self::Done);
            return Poll::Ready(Some(result));
        };
        let watch = &mut run.watch;
        let poll = panic::catch(|| watch.watch(|| future.poll(cx)));
        let (class, original) = match poll {
            Ok(poll) => {
                let result = ready!(poll);
                let Some(class) = run.judge(&result) else {
                    self.set(Self::Done);
                    return Poll::Ready(Some(result));
                };
                (class, Ok(result))
            }
            Err(panic) => (Class::Failure(Failure::Panic), Err(panic)),
        };
        self.fall_back(class, original);
        Poll::Ready(None)
    }

    /// Leaves the call, which ended as `class`, and starts the first step.
    #[cold]
    fn fall_back(mut self: Pin<&mut Self>, class: Class, original: End<Res, E>) {
        let Projected::Calling { chain, .. } = self.as_mut().project() else {
            // Only `poll_call` calls this function, in this state.
            unreachable!("`fall_back` requires the state `Calling`");
        };
        // `poll_call` has returned already if there is no chain. The chain is taken here only.
        let chain = chain.take().expect("`fall_back` requires a chain");
        // Drops the call, so that a permit it holds is free while the steps run.
        self.set(Self::Done);
        let (step, step_future) = chain.begin(0, class).unzip();
        self.set(Self::FallingBack {
            chain,
            step_future,
            step: step.unwrap_or_default(),
            class,
            original,
        });
    }

    /// Polls the steps one after the other until one succeeds or no step is left.
    #[cold]
    fn poll_steps(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<Res, E>> {
        loop {
            let Projected::FallingBack {
                chain,
                step_future,
                step,
                class,
                original,
            } = self.as_mut().project()
            else {
                // Polling a future after completion violates the contract of `Future`.
                panic!("polled after completion");
            };
            let Some(current) = step_future else { break };
            clock::forget();
            let poll = panic::catch(|| current.as_mut().poll(cx));
            // `None` is a panic, which the chain treats as a failure of the step.
            let answer = ready!(poll.map_or(Poll::Ready(None), |poll| poll.map(Some)));
            if let Some(answer) = chain.accept(*step, answer, (*class, original)) {
                self.set(Self::Done);
                return Poll::Ready(answer);
            }
            *step_future = chain.begin(*step + 1, *class).map(|(next, step_future)| {
                *step = next;
                step_future
            });
        }
        match self.project_replace(Self::Done) {
            Replaced::FallingBack { original, .. } => {
                Poll::Ready(original.unwrap_or_else(|panic| panic.resume()))
            }
            // The loop leaves this state only by returning.
            _ => unreachable!("the state changed while steps ran"),
        }
    }
}

impl<F, C, Req, Res, E> Future for ResponseFuture<F, C, Req, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    Res: Send + 'static,
    E: From<Rejection> + Send + 'static,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match ready!(state.as_mut().poll_call(cx)) {
            Some(result) => Poll::Ready(result),
            None => state.poll_steps(cx),
        }
    }
}

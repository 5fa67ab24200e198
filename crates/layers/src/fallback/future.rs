//! The call, and after its failure the steps of the chain.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    thread,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, timeout_at};

use super::{
    chain::{Answering, Chain, Step},
    layer::FallbackLayer,
};
use crate::{
    classify::{Class, Classify, Failure},
    deadline::Deadline,
    event::{Event, Events},
    poll_clock::{self, Stopwatch},
    rejection::Rejection,
    timeout::MIN_USEFUL,
};

pin_project! {
    /// The future of [`Fallback`](super::Fallback).
    pub struct ResponseFuture<F, C, Req, Res, E> {
        #[pin]
        state: State<F, C, Req, Res, E>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<F, C, Req, Res, E> {
        // Without a chain the call is all there is.
        Calling {
            #[pin]
            future: F,
            chain: Option<Falling<C, Req, Res, E>>,
        },
        Asking {
            chain: Falling<C, Req, Res, E>,
            asking: Option<Answering<Res, E>>,
            step: usize,
            class: Class,
            original: End<Res, E>,
        },
        Done,
    }
}

/// What a call ended with: a result, or a panic.
type End<Res, E> = thread::Result<Result<Res, E>>;

/// A chain, and the call that may need it.
struct Falling<C, Req, Res, E> {
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
        let chain = Some(Falling {
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

impl<C, Req, Res, E> Falling<C, Req, Res, E>
where
    C: Classify<Res, E>,
    Res: Send + 'static,
    E: From<Rejection> + Send + 'static,
{
    fn class(&self, result: &Result<Res, E>) -> Class {
        let elapsed = self.watch.elapsed();
        self.classify.classify(result.as_ref(), elapsed)
    }

    /// The class of the call's result, if it is one to fall back for. A good answer is given to the
    /// steps that remember.
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

    /// Begins the first step from `step` on that can be taken, and says which it is.
    fn begin(&self, step: usize, class: Class) -> Option<(usize, Answering<Res, E>)> {
        let mut steps = self.chain.steps_for(class, step);
        steps.find_map(|(place, step)| Some((place, self.ask(place, step, class)?)))
    }

    /// Asks the step at `place`, until the deadline.
    fn ask(
        &self,
        place: usize,
        step: &Step<Req, Res, E>,
        class: Class,
    ) -> Option<Answering<Res, E>> {
        let (kind, ask) = match step {
            Step::Answer(answer) => {
                let answer = self.guard(place, answer)?;
                return Some(Box::pin(std::future::ready(Ok(answer))));
            }
            Step::Stale(stale) => {
                let recall = || stale.recall(self.request.as_ref()?, Instant::now());
                let answer = self.guard(place, recall)??;
                return Some(Box::pin(std::future::ready(Ok(answer))));
            }
            Step::Ask { .. } if !self.has_time() => return None,
            Step::Ask { kind, ask } => (*kind, ask),
        };
        let request = self.request.as_ref()?;
        self.events.emit(Event::FallbackAsked { step: place, kind });
        let asking = self.guard(place, || ask(request, class))?;
        Some(match self.deadline {
            None => asking,
            Some(deadline) => Box::pin(async move {
                let answer = timeout_at(deadline.instant(), asking).await;
                answer.unwrap_or_else(|_| Err(Rejection::Deadline.into()))
            }),
        })
    }

    /// Runs a function of the user's. Its panic is a failure of the step.
    fn guard<T>(&self, step: usize, function: impl FnOnce() -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(function)).ok();
        if result.is_none() {
            self.failed(step, Class::Failure(Failure::Panic));
        }
        result
    }

    fn failed(&self, step: usize, class: Class) {
        let failed = Event::FallbackFailed { step, class };
        self.events.emit(failed);
    }

    /// Gives a good answer to the steps that remember.
    fn remember(&self, answer: &Res) {
        // Where none remembers, no request is kept.
        let Some(request) = &self.request else { return };
        for step in self.chain.steps() {
            if let Step::Stale(stale) = step {
                let remember = || stale.remember(request, answer, Instant::now());
                // The call has succeeded, whatever becomes of this.
                let _ = catch_unwind(AssertUnwindSafe(remember));
            }
        }
    }

    fn has_time(&self) -> bool {
        (self.deadline).is_none_or(|deadline| deadline.remaining(Instant::now()) >= MIN_USEFUL)
    }

    /// The answer of step `step`, if it is one; none if it panicked.
    fn accept(&self, step: usize, answer: Option<Result<Res, E>>) -> Option<Result<Res, E>> {
        let panicked = Class::Failure(Failure::Panic);
        let class = answer
            .as_ref()
            .map_or(panicked, |answer| self.class(answer));
        if class != Class::Success {
            self.failed(step, class);
            return None;
        }
        // In bounds: `begin` took `step` from these links.
        let kind = self.chain.links[step].step.kind();
        self.events.emit(Event::FallbackUsed { step, kind });
        answer
    }
}

impl<F, C, Req, Res, E> State<F, C, Req, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    Res: Send + 'static,
    E: From<Rejection> + Send + 'static,
{
    /// Polls the call, whose panic is an end of it too. It is over if that is ready with a result; if
    /// it is ready with none, its first step is asked.
    #[inline(always)]
    fn poll_call(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Res, E>>> {
        let Projected::Calling { future, chain } = self.as_mut().project() else {
            return Poll::Ready(None);
        };
        let Some(falling) = chain else {
            let result = ready!(future.poll(cx));
            self.set(Self::Done);
            return Poll::Ready(Some(result));
        };
        let watch = &mut falling.watch;
        let poll = catch_unwind(AssertUnwindSafe(|| watch.watch(|| future.poll(cx))));
        let (class, original) = match poll {
            Ok(poll) => {
                let result = ready!(poll);
                let Some(class) = falling.judge(&result) else {
                    self.set(Self::Done);
                    return Poll::Ready(Some(result));
                };
                (class, Ok(result))
            }
            Err(panic) => (Class::Failure(Failure::Panic), Err(panic)),
        };
        self.fall(class, original);
        Poll::Ready(None)
    }

    /// The call ended as `class`: its first step is asked.
    fn fall(mut self: Pin<&mut Self>, class: Class, original: End<Res, E>) {
        let Projected::Calling { chain, .. } = self.as_mut().project() else {
            // `poll_call` calls it in this state only.
            unreachable!("only a call falls");
        };
        // `poll_call` returns before if there is no chain, and the chain is taken here only.
        let chain = chain.take().expect("only a call with a chain falls");
        // What the call holds, a permit say, it does not hold for the steps too.
        self.set(Self::Done);
        let (step, asking) = chain.begin(0, class).unzip();
        self.set(Self::Asking {
            chain,
            asking,
            step: step.unwrap_or_default(),
            class,
            original,
        });
    }

    /// Polls one step after the other until one has answered, or there are no more.
    fn poll_steps(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<Res, E>> {
        loop {
            let Projected::Asking {
                chain,
                asking,
                step,
                class,
                ..
            } = self.as_mut().project()
            else {
                // A caller never polls a future again after it was ready: the contract of `Future`.
                panic!("polled after completion");
            };
            let Some(current) = asking else { break };
            let answer = ready!(poll_step(current, cx));
            if let Some(answer) = chain.accept(*step, answer) {
                self.set(Self::Done);
                return Poll::Ready(answer);
            }
            *asking = chain.begin(*step + 1, *class).map(|(next, asking)| {
                *step = next;
                asking
            });
        }
        match self.project_replace(Self::Done) {
            Replaced::Asking { original, .. } => {
                Poll::Ready(original.unwrap_or_else(|panic| resume_unwind(panic)))
            }
            // The loop leaves this state only by returning.
            _ => unreachable!("the chain was asked to its end"),
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

/// Polls one step; its panic is its failure.
fn poll_step<Res, E>(
    asking: &mut Answering<Res, E>,
    cx: &mut task::Context<'_>,
) -> Poll<Option<Result<Res, E>>> {
    poll_clock::forget();
    match catch_unwind(AssertUnwindSafe(|| asking.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    }
}

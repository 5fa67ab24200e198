//! The future that runs several attempts side by side and returns the first success.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::layer::{Hedge, Shared};
use crate::{
    breaker,
    call::{Call, CallContext},
    classify::{Cause, Class, Classify},
    clock,
    deadline::later,
    event::Event,
    oneshot::Oneshot,
    retry::{Reserved, Spent},
    shared_service::SharedService,
    sync::Arc,
    timer::Timer,
};

pin_project! {
    /// The response future of [`Hedge`](super::Hedge). Dropping it drops all attempts.
    #[project = Projection]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        core: Arc<SharedService<Shared, S>>,
        // The call's share has been added to the budget, here or by a layer above.
        has_deposited: bool,
        classify: C,
        // The request of further attempts. `None` once no attempt can follow.
        spare: Option<Req>,
        call: Call,
        // Attempts that were sent, the first included, and the maximum number of hedges.
        sent: u8,
        max_hedges: u8,
        // Start of the primary attempt.
        since: Instant,
        #[pin]
        primary: Option<S::Future>,
        // On the heap, because hedges are rare.
        hedges: Vec<Running<S, Req>>,
        // The result of the call if all attempts fail.
        first_failure: Option<Result<S::Response, S::Error>>,
        // `first_failure` is a rejection, which the failure of a later attempt replaces.
        is_rejected: bool,
        // Time of the next attempt. Learned when a response is first awaited, not in `call`.
        due: Due,
        timer: Timer,
    }
}

/// The end of an attempt.
struct End<T, E> {
    result: Result<T, E>,
    elapsed: Duration,
    // The cost of a hedge. `None` for the primary attempt.
    hedge: Option<Spent>,
}

/// A hedge in flight.
struct Running<S: Service<Req>, Req> {
    future: Pin<Box<Oneshot<S, Req>>>,
    since: Instant,
    spent: Spent,
}

/// Time of the next attempt.
#[derive(Clone, Copy)]
enum Due {
    Unknown,
    At(Instant),
    Now,
    Never,
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req> + Clone,
    Req: CallContext + Clone,
{
    /// Sends the first attempt to the inner service of `hedge`, which is ready.
    #[inline]
    pub(super) fn new(hedge: &mut Hedge<S, C>, mut request: Req) -> Self
    where
        C: Clone,
    {
        let Shared {
            config,
            budget,
            shares_budget,
            events,
            ..
        } = &**hedge.core;
        let deposits = budget.counts(&mut request, *shares_budget);
        let call = request.call().clone();
        let may_repeat = config.idempotent || request.is_idempotent();
        let max_hedges = call.max_retries.unwrap_or(u8::MAX).min(config.max_hedges);
        let spare = (may_repeat && max_hedges > 0).then(|| request.clone());
        events.emit(&call.events, Event::Attempt { number: 1 });
        Self {
            core: Arc::clone(&hedge.core),
            has_deposited: !deposits,
            classify: hedge.classify.clone(),
            due: if spare.is_some() {
                Due::Unknown
            } else {
                Due::Never
            },
            spare,
            call,
            sent: 1,
            max_hedges,
            since: clock::now(),
            primary: Some(hedge.inner.call(request)),
            hedges: Vec::new(),
            first_failure: None,
            is_rejected: false,
            timer: Timer::default(),
        }
    }
}

impl<S, C, Req> Projection<'_, S, C, Req>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
    Req: CallContext + Clone,
{
    fn emit(&self, event: Event) {
        self.core.events.emit(&self.call.events, event);
    }

    /// Handles the end of an attempt. Returns the result of the call, or `None` if the call goes on.
    fn ended(&mut self, end: End<S::Response, S::Error>) -> Option<Result<S::Response, S::Error>> {
        let End {
            result,
            elapsed,
            hedge,
        } = end;
        let class = self.classify.classify(result.as_ref(), elapsed);
        self.emit(Event::AttemptEnded { class, elapsed });
        let primary = hedge.is_none();
        let config = &self.core.config;
        if let (Class::Rejected(_), Some(spent)) = (class, hedge) {
            // The hedge was not sent, so another one may be sent when an attempt fails.
            spent.refund();
            *self.sent -= 1;
            return None;
        }
        match class {
            Class::Success => {
                self.core.learn(elapsed);
                return Some(result);
            }
            // The primary attempt was rejected by a layer below. A running hedge may still succeed, and
            // the failure of a hedge is the answer of the service.
            Class::Rejected(_) if !self.hedges.is_empty() || self.first_failure.is_some() => {
                if self.first_failure.is_none() {
                    (*self.first_failure, *self.is_rejected) = (Some(result), true);
                }
                return None;
            }
            class if !config.hedge_on.matches(class, true) => return Some(result),
            _ if primary || *self.is_rejected || self.first_failure.is_none() => {
                *self.is_rejected = matches!(class, Class::Rejected(_));
                *self.first_failure = Some(result);
            }
            _ => {}
        }
        // A response requested a pause, so no further hedge may follow, whatever fails later.
        if class.retry_after().is_some_and(|wait| !wait.is_zero()) {
            *self.spare = None;
        }
        *self.due = Due::Now;
        None
    }

    /// Sends another attempt if one is due. Returns `false` if no attempt was sent.
    fn hedge(&mut self, cx: &mut task::Context<'_>) -> bool {
        if let Due::Unknown = *self.due {
            *self.due = self.due_after(*self.since);
        }
        match *self.due {
            Due::Never | Due::Unknown => return false,
            Due::Now => {}
            Due::At(due) if due <= Instant::now() => {}
            Due::At(due) => {
                if !self.timer.is_set() {
                    self.timer.set(due);
                }
                if self.timer.poll(cx).is_pending() {
                    return false;
                }
            }
        }
        self.send()
    }

    /// Sends another attempt, unless a limit forbids it. In that case, no further attempt follows.
    fn send(&mut self) -> bool {
        *self.timer = Timer::default();
        *self.due = Due::Never;
        let now = Instant::now();
        if *self.sent > *self.max_hedges {
            return false;
        }
        let Some(request) = self.spare.take().filter(|_| self.may_send(now)) else {
            return false;
        };
        let allowance = self.call.allowance.as_ref();
        let Ok(paid) = self.core.budget.reserve_now(false, allowance) else {
            return false;
        };
        *self.sent += 1;
        *self.spare = Some(request.clone());
        if *self.sent <= *self.max_hedges {
            *self.due = self.due_after(now);
        }
        self.start(request, paid, now);
        true
    }

    /// Returns `true` if another attempt may be sent at `now` and can be useful.
    fn may_send(&self, now: Instant) -> bool {
        let breaker = self.core.breaker.as_ref();
        let is_open = breaker.and_then(breaker::Handle::rejection).is_some();
        let deadline = self.call.deadline;
        let is_late = deadline.is_some_and(|end| end.remaining(now) < self.core.config.min_useful);
        let upload = self.call.upload.as_ref();
        let is_unrepeatable = upload.is_some_and(|upload| !upload.is_repeatable(false));
        !(is_open || is_late || is_unrepeatable)
    }

    /// Starts the hedge with the number `sent`.
    fn start(&mut self, mut request: Req, paid: Reserved, now: Instant) {
        let number = *self.sent;
        if let Some(call) = request.call_mut() {
            call.attempt = number;
            call.wait_at_most(self.core.config.max_wait);
        }
        self.emit(Event::Hedge { number });
        self.emit(Event::Attempt { number });
        self.hedges.push(Running {
            future: Box::pin(Oneshot::new(self.core.spare(), request)),
            since: now,
            spent: paid.spend(),
        });
    }

    /// Returns the time of the next attempt after one that was sent at `sent`.
    fn due_after(&self, sent: Instant) -> Due {
        match self.core.delay() {
            Some(delay) => Due::At(later(sent, delay)),
            None => Due::Never,
        }
    }

    /// Drops the running attempts and reports each as unanswered with its elapsed time.
    fn drop_losers(&mut self) {
        let primary = self.primary.is_some().then_some(*self.since);
        self.primary.set(None);
        let hedges = self.hedges.drain(..).map(|hedge| hedge.since);
        for since in primary.into_iter().chain(hedges) {
            let elapsed = since.elapsed();
            let cause = Cause::HedgeLost;
            let class = Class::Unanswered { elapsed, cause };
            let ended = Event::AttemptEnded { class, elapsed };
            self.core.events.emit(&self.call.events, ended);
        }
    }

    /// Polls the attempts until one ends, the primary attempt first.
    ///
    /// The cached time is cleared before each inner poll and read only directly after it, because an inner
    /// poll may have cached a time that is old by now.
    fn poll_attempts(&mut self, cx: &mut task::Context<'_>) -> Option<End<S::Response, S::Error>> {
        clock::forget();
        if let Some(primary) = self.primary.as_mut().as_pin_mut() {
            if let Poll::Ready(result) = primary.poll(cx) {
                self.primary.set(None);
                return Some(End {
                    result,
                    elapsed: clock::polled() - *self.since,
                    hedge: None,
                });
            }
        }
        for index in 0..self.hedges.len() {
            clock::forget();
            // In bounds, because the function returns right after it removes a hedge.
            if let Poll::Ready(result) = self.hedges[index].future.as_mut().poll(cx) {
                let hedge = self.hedges.swap_remove(index);
                return Some(End {
                    result,
                    elapsed: clock::polled() - hedge.since,
                    hedge: Some(hedge.spent),
                });
            }
        }
        None
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
    Req: CallContext + Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            // A layer below with the same budget may need the deposit in this poll.
            if this.core.shares_budget && !mem::replace(this.has_deposited, true) {
                this.core.budget.deposit(clock::now());
            }
            let end = this.poll_attempts(cx);
            // The cached time is valid directly after an inner poll.
            if !mem::replace(this.has_deposited, true) {
                this.core.budget.deposit(clock::polled());
            }
            if let Some(end) = end {
                if let Some(result) = this.ended(end) {
                    this.drop_losers();
                    *this.spare = None;
                    return Poll::Ready(result);
                }
                continue;
            }
            if this.hedge(cx) {
                continue;
            }
            if this.primary.is_some() || !this.hedges.is_empty() {
                return Poll::Pending;
            }
            let failure = this.first_failure.take();
            // The last attempt to end left its failure here. Polling a future after completion violates
            // the contract of `Future`.
            return Poll::Ready(failure.expect("polled after completion"));
        }
    }
}

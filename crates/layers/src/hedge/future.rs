//! Attempts beside each other, of which the first success wins.

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

use super::{layer::Shared, service::Hedge};
use crate::{
    breaker,
    call::{Call, CallContext},
    classify::{Cause, Class, Classify},
    deadline::later,
    event::Event,
    oneshot::Oneshot,
    poll_clock,
    retry::{Reserved, Spent},
    shared_service::SharedService,
    sync::Arc,
    timer::Timer,
};

pin_project! {
    /// The future of [`Hedge`](super::Hedge). Dropping it drops all attempts.
    #[project = Projection]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        core: Arc<SharedService<Shared, S>>,
        has_deposited: bool,
        classify: C,
        // For further attempts, while there may be any.
        spare: Option<Req>,
        call: Call,
        // Attempts that were sent, and those that may be beside the first.
        sent: u8,
        max_hedges: u8,
        since: Instant,
        #[pin]
        primary: Option<S::Future>,
        // Hedges are rare, so only they are on the heap.
        hedges: Vec<Running<S, Req>>,
        first_failure: Option<Result<S::Response, S::Error>>,
        // When the next attempt is due; learnt when an answer is first waited for.
        due: Due,
        timer: Timer,
    }
}

/// An attempt that ended.
struct End<T, E> {
    result: Result<T, E>,
    elapsed: Duration,
    // What it has cost, if it was a hedge.
    hedge: Option<Spent>,
}

struct Running<S: Service<Req>, Req> {
    future: Pin<Box<Oneshot<S, Req>>>,
    since: Instant,
    spent: Spent,
}

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
    /// Makes the first attempt on the service within `hedge`, which is ready.
    #[inline]
    pub(super) fn new(hedge: &mut Hedge<S, C>, request: Req) -> Self
    where
        C: Clone,
    {
        let policy = &hedge.core.policy;
        let call = request.call().clone();
        let may_repeat = policy.idempotent || request.is_idempotent();
        let max_hedges = call.max_retries.unwrap_or(u8::MAX).min(policy.max_hedges);
        let spare = (may_repeat && max_hedges > 0).then(|| request.clone());
        call.events.emit(Event::Attempt { number: 1 });
        Self {
            core: Arc::clone(&hedge.core),
            has_deposited: false,
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
            since: Instant::now(),
            primary: Some(hedge.inner.call(request)),
            hedges: Vec::new(),
            first_failure: None,
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
    /// What ends the call, if the end of this attempt does.
    fn ended(&mut self, end: End<S::Response, S::Error>) -> Option<Result<S::Response, S::Error>> {
        let End {
            result,
            elapsed,
            hedge,
        } = end;
        let class = self.classify.classify(result.as_ref(), elapsed);
        self.call
            .events
            .emit(Event::AttemptEnded { class, elapsed });
        let primary = hedge.is_none();
        let policy = &self.core.policy;
        if let (Class::Rejected(_), Some(spent)) = (class, hedge) {
            // It was not sent: another may be, when an attempt fails.
            spent.refund();
            *self.sent -= 1;
            return None;
        }
        match class {
            Class::Success => {
                self.core.learn(elapsed);
                return Some(result);
            }
            // A refusal of a layer below says nothing of an attempt that runs.
            Class::Rejected(_) if !self.hedges.is_empty() => {
                *self.first_failure = Some(result);
                return None;
            }
            class if !policy.hedge_on.matches(class, true) => return Some(result),
            _ if primary => *self.first_failure = Some(result),
            _ => {}
        }
        // Asked to be left alone, it is, whatever fails after that.
        if class.retry_after().is_some_and(|wait| !wait.is_zero()) {
            *self.spare = None;
        }
        *self.due = Due::Now;
        None
    }

    /// Sends another attempt if one is due and may be sent; false if it must be waited for.
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

    /// Sends another attempt; if it may not be sent now, none is sent any more.
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

    /// Whether another attempt may be sent at `now` and could be of use.
    fn may_send(&self, now: Instant) -> bool {
        let breaker = self.core.breaker.as_ref();
        let is_open = breaker.and_then(breaker::Handle::refusal).is_some();
        let deadline = self.call.deadline;
        let is_late = deadline.is_some_and(|end| end.remaining(now) < self.core.policy.min_useful);
        let upload = self.call.upload.as_ref();
        let is_lost = upload.is_some_and(|upload| !upload.is_repeatable(false));
        !(is_open || is_late || is_lost)
    }

    /// Makes the latest attempt.
    fn start(&mut self, mut request: Req, paid: Reserved, now: Instant) {
        let number = *self.sent;
        if let Some(facts) = request.call_mut() {
            facts.attempt = number;
            facts.wait_at_most(self.core.policy.max_wait);
        }
        self.call.events.emit(Event::Hedge { number });
        self.call.events.emit(Event::Attempt { number });
        self.hedges.push(Running {
            future: Box::pin(Oneshot::new(self.core.spare(), request)),
            since: now,
            spent: paid.spend(),
        });
    }

    /// When another attempt is due if those that were sent until `sent` stay unanswered.
    fn due_after(&self, sent: Instant) -> Due {
        match self.core.delay() {
            Some(delay) => Due::At(later(sent, delay)),
            None => Due::Never,
        }
    }

    /// Drops the attempts that still run, and tells of each how long it had had.
    fn drop_losers(&mut self) {
        let primary = self.primary.is_some().then_some(*self.since);
        self.primary.set(None);
        let hedges = self.hedges.drain(..).map(|hedge| hedge.since);
        for since in primary.into_iter().chain(hedges) {
            let elapsed = since.elapsed();
            let cause = Cause::HedgeLost;
            let class = Class::Unanswered { elapsed, cause };
            self.call
                .events
                .emit(Event::AttemptEnded { class, elapsed });
        }
    }

    /// Polls the attempts until one ends. The cached time is forgotten before each, and used only
    /// directly after it.
    fn poll_attempts(&mut self, cx: &mut task::Context<'_>) -> Option<End<S::Response, S::Error>> {
        poll_clock::forget();
        if let Some(primary) = self.primary.as_mut().as_pin_mut()
            && let Poll::Ready(result) = primary.poll(cx)
        {
            self.primary.set(None);
            return Some(End {
                result,
                elapsed: poll_clock::now() - *self.since,
                hedge: None,
            });
        }
        for place in 0..self.hedges.len() {
            poll_clock::forget();
            // In bounds: a hedge is only removed where the function returns.
            if let Poll::Ready(result) = self.hedges[place].future.as_mut().poll(cx) {
                let hedge = self.hedges.swap_remove(place);
                return Some(End {
                    result,
                    elapsed: poll_clock::now() - hedge.since,
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
            let end = this.poll_attempts(cx);
            // On the way back from a poll: the cached time is valid.
            if !mem::replace(this.has_deposited, true) {
                this.core.budget.deposit(poll_clock::now());
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
            // The last attempt left its failure here. A caller never polls a future again after it was ready: the contract of `Future`.
            return Poll::Ready(failure.expect("polled after completion"));
        }
    }
}

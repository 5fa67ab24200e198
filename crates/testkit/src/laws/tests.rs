//! Checks that the layers of tower pass every law, and that a law fails for a layer that breaks it.

use std::{
    collections::VecDeque,
    future::Future,
    iter, mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};
use tower::{
    Layer, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    load_shed::LoadShed,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
    util::{MapErr, MapRequestLayer},
};
use tower_service::Service;

use super::*;

type Error = <Numbers as Traffic>::Error;
type Call = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send>>;

/// The way in which a [`BuggyService`] breaks a law.
#[derive(Clone, Copy, PartialEq)]
enum Bug {
    CallsUnreadyClone,
    FailsPollReady,
    DiscardsReadiness,
    RejectsAfterReady,
    RejectsHoldingReadiness,
    RejectsDiscardingReadiness,
    GaugeWithoutGuard,
    LeaksPermit,
    LosesQueueTurn,
    SpawnsCall,
    RetriesForever,
    WakesItself,
    WakesItselfUntilReady,
    PollsInnerTwice,
    DropsWaker,
    DropsReadinessWaker,
    KeepsFirstWaker,
    CallsInnerTwice,
    ChangesRequest,
    ChangesResponse,
}

#[derive(Clone)]
struct BuggyService {
    inner: Inner<Numbers>,
    bug: Bug,
    running: Arc<AtomicUsize>,
    turnstile: Turnstile,
}

impl Service<u64> for BuggyService {
    type Response = u64;
    type Error = Error;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.bug {
            Bug::RejectsHoldingReadiness => drop(self.inner.poll_ready(cx)),
            Bug::RejectsDiscardingReadiness => drop(self.inner.clone().poll_ready(cx)),
            Bug::WakesItselfUntilReady => {
                let ready = self.inner.poll_ready(cx);
                if ready.is_pending() {
                    cx.waker().wake_by_ref();
                }
                ready!(ready)?;
            }
            Bug::DropsReadinessWaker => {
                ready!(
                    self.inner
                        .poll_ready(&mut Context::from_waker(Waker::noop()))
                )?;
            }
            _ => ready!(self.inner.poll_ready(cx))?,
        }
        match self.bug {
            Bug::FailsPollReady => Poll::Ready(Err("full".into())),
            Bug::DiscardsReadiness => self.inner.clone().poll_ready(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: u64) -> Call {
        let clone = self.inner.clone();
        let running = Arc::clone(&self.running);
        match self.bug {
            Bug::RejectsAfterReady
            | Bug::RejectsHoldingReadiness
            | Bug::RejectsDiscardingReadiness => reject(),
            Bug::LeaksPermit if running.load(Relaxed) > 0 => reject(),
            Bug::CallsUnreadyClone => Box::pin({ clone }.call(request)),
            Bug::ChangesRequest => {
                let first = self.inner.call(request + 1);
                Box::pin(finish_with_bug(self.bug, first, clone, request))
            }
            Bug::CallsInnerTwice | Bug::RetriesForever | Bug::ChangesResponse => {
                let first = self.inner.call(request);
                Box::pin(finish_with_bug(self.bug, first, clone, request))
            }
            Bug::GaugeWithoutGuard | Bug::LeaksPermit => {
                let call = self.inner.call(request);
                Box::pin(async move {
                    running.fetch_add(1, Relaxed);
                    let response = call.await;
                    running.fetch_sub(1, Relaxed);
                    response
                })
            }
            Bug::LosesQueueTurn => Box::pin(self.turnstile.clone().run(clone, request)),
            Bug::SpawnsCall => {
                let call = tokio::spawn(self.inner.call(request));
                Box::pin(async move { call.await? })
            }
            bug => Box::pin(BuggyFuture {
                call: Box::pin(self.inner.call(request)),
                bug,
                first: None,
            }),
        }
    }
}

/// Completes a call whose bug shows only after the first inner call.
async fn finish_with_bug(
    bug: Bug,
    first: impl Future<Output = Result<u64, Error>>,
    again: Inner<Numbers>,
    request: u64,
) -> Result<u64, Error> {
    let mut result = first.await;
    match bug {
        Bug::CallsInnerTwice => {
            result?;
            drive::oneshot(again, request).await
        }
        Bug::RetriesForever => {
            while result.is_err() {
                result = drive::oneshot(again.clone(), request).await;
            }
            result
        }
        Bug::ChangesRequest => result.map(|response| response - 1),
        _ => result.map(|response| response + 1),
    }
}

/// A queue that lets one call run at a time.
///
/// A message passes the turn to the next call. The bug: a call that is dropped before it reads the
/// message loses the turn.
#[derive(Clone, Default)]
struct Turnstile(Arc<Mutex<(bool, VecDeque<oneshot::Sender<()>>)>>);

impl Turnstile {
    async fn run(self, inner: Inner<Numbers>, request: u64) -> Result<u64, Error> {
        let mine = {
            let (busy, waiting) = &mut *self.0.lock().unwrap();
            let (turn, mine) = oneshot::channel();
            waiting.extend(mem::replace(busy, true).then_some(turn));
            mine
        };
        mine.await.ok(); // resolves at once with an error if no other call is running
        let _next_turn = NextTurn(self);
        drive::oneshot(inner, request).await
    }
}

struct NextTurn(Turnstile);

impl Drop for NextTurn {
    fn drop(&mut self) {
        let (busy, waiting) = &mut *self.0.0.lock().unwrap();
        *busy = iter::from_fn(|| waiting.pop_front()).any(|turn| turn.send(()).is_ok());
    }
}

fn reject() -> Call {
    Box::pin(async { Err("rejected".into()) })
}

struct BuggyFuture {
    call: Call,
    bug: Bug,
    first: Option<Waker>,
}

impl Future for BuggyFuture {
    type Output = Result<u64, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let first = self.first.get_or_insert_with(|| cx.waker().clone()).clone();
        match self.bug {
            Bug::DropsWaker => self
                .call
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop())),
            Bug::PollsInnerTwice => {
                if let Poll::Ready(result) = self.call.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                self.call.as_mut().poll(cx)
            }
            Bug::KeepsFirstWaker => self.call.as_mut().poll(&mut Context::from_waker(&first)),
            Bug::WakesItself => {
                cx.waker().wake_by_ref();
                self.call.as_mut().poll(cx)
            }
            _ => self.call.as_mut().poll(cx),
        }
    }
}

fn laws(bug: Bug) -> Laws<'static, Numbers, BuggyService> {
    let running = Arc::new(AtomicUsize::new(0));
    let gauge = Arc::clone(&running);
    Laws::new(Numbers, move |inner| BuggyService {
        inner,
        bug,
        running: Arc::clone(&running),
        turnstile: Turnstile::default(),
    })
    .idle_when(move || bug != Bug::GaugeWithoutGuard || gauge.load(Relaxed) == 0)
}

/// A service that rejects every call without calling the inner service.
#[derive(Clone)]
struct RejectAll;

impl Service<u64> for RejectAll {
    type Response = u64;
    type Error = Error;
    type Future = std::future::Ready<Result<u64, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Self::Future {
        std::future::ready(Err("rejected".into()))
    }
}

#[derive(Clone)]
struct RetryTimes(u32);

impl Policy<u64, u64, Error> for RetryTimes {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, Error>) -> Option<Self::Future> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(tokio::time::sleep(Duration::from_millis(50)))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

#[tokio::test(start_paused = true)]
async fn tower_layers_pass_all_laws() {
    Laws::new(Numbers, |inner| inner).check().await;
    let same = MapRequestLayer::new(|request: u64| request);
    Laws::new(Numbers, |inner| same.layer(inner)).check().await;
    let same = |inner| MapErr::new(inner, |error: Error| error);
    Laws::new(Numbers, same).check().await;
    let timeout = TimeoutLayer::new(Duration::from_secs(1));
    Laws::new(Numbers, |inner| timeout.layer(inner))
        .check()
        .await;
    let limit = ConcurrencyLimitLayer::new(1);
    Laws::new(Numbers, |inner| limit.layer(inner)).check().await;
    let retry = RetryLayer::new(RetryTimes(2));
    Laws::new(Numbers, |inner| retry.layer(inner)).check().await;
}

#[tokio::test(start_paused = true)]
async fn stack_passes_all_laws_and_returns_its_permits() {
    let permits = Arc::new(Semaphore::new(2));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryTimes(1)))
        .layer(limit)
        .layer(TimeoutLayer::new(Duration::from_secs(1)));
    Laws::new(Numbers, |inner| stack.service(inner))
        .idle_when(|| permits.available_permits() == 2)
        .check()
        .await;
}

#[tokio::test(start_paused = true)]
async fn layer_that_reserves_nothing_passes_short_circuit() {
    Laws::new(Numbers, |_| RejectAll).short_circuit().await;
}

#[test]
fn timeout_service_passes_auto_traits() {
    let service =
        TimeoutLayer::new(Duration::ZERO).layer(ScriptedService::<u64, u64, Error>::new());
    auto_traits::<u64>(&service);
}

macro_rules! violations {
    ($($test:ident: $law:ident, $bug:ident, $message:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        #[should_panic(expected = $message)]
        async fn $test() {
            laws(Bug::$bug).$law().await;
        }
    )*

    mod by_check {
        use super::*;

        $(
            #[tokio::test(start_paused = true)]
            #[should_panic(expected = "law: ")]
            async fn $test() {
                laws(Bug::$bug).check().await;
            }
        )*
    }
    };
}

violations! {
    detects_call_of_unready_clone: readiness, CallsUnreadyClone, "law: readiness: the layer called an inner instance that was not ready";
    detects_rejection_from_poll_ready: readiness, FailsPollReady, "law: readiness: poll_ready failed";
    detects_call_that_is_never_woken: readiness, DropsWaker, "law: readiness: a call did not complete within 60s";
    detects_retries_without_backoff: readiness, RetriesForever, "law: readiness: a call did not complete within 1000 polls";
    detects_readiness_held_after_the_call: reservations, CallsUnreadyClone, "law: reservations: the layer still holds";
    detects_discarded_readiness: reservations, DiscardsReadiness, "law: reservations: the layer dropped";
    detects_rejection_that_waits_for_readiness: short_circuit, RejectsAfterReady, "law: short_circuit: a call did not complete";
    detects_rejection_that_holds_readiness: short_circuit, RejectsHoldingReadiness, "law: short_circuit: the layer still holds";
    detects_rejection_that_discards_readiness: short_circuit, RejectsDiscardingReadiness, "law: short_circuit: the layer dropped";
    detects_gauge_without_guard: cancellation, GaugeWithoutGuard, "law: cancellation: the predicate of `idle_when` returned false";
    detects_leaked_permit: cancellation, LeaksPermit, "law: cancellation: the next call failed";
    detects_lost_queue_turn: cancellation, LosesQueueTurn, "law: cancellation: a call did not complete";
    detects_inner_call_that_outlives_the_drop: cancellation, SpawnsCall, "law: cancellation: an inner call is still running";
    detects_call_that_never_completes: cancellation, RetriesForever, "law: cancellation: a call did not complete within";
    detects_self_wake_while_pending: wakeups, WakesItself, "law: wakeups: a call woke itself while the inner call";
    detects_self_wake_while_not_ready: wakeups, WakesItselfUntilReady, "law: wakeups: a call woke itself while the inner service";
    detects_extra_poll_of_inner_call: wakeups, PollsInnerTwice, "law: wakeups: the inner call was polled more often";
    detects_lost_wakeup_of_response: wakeups, DropsWaker, "law: wakeups: the latest waker was not woken when the inner service responded";
    detects_lost_wakeup_of_readiness: wakeups, DropsReadinessWaker, "law: wakeups: the latest waker was not woken when the inner service became ready";
    detects_stale_waker: wakeups, KeepsFirstWaker, "law: wakeups: the latest waker was not woken";
    detects_rejected_call: transparency, RejectsAfterReady, "law: transparency: a call failed";
    detects_second_inner_call: transparency, CallsInnerTwice, "law: transparency: 8 requests took";
    detects_changed_request: transparency, ChangesRequest, "law: transparency: the layer changed a request";
    detects_changed_response: transparency, ChangesResponse, "law: transparency: the layer changed response";
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "law: short_circuit: the layer called the inner service")]
async fn short_circuit_requires_a_layer_that_rejects() {
    Laws::new(Numbers, LoadShed::new).short_circuit().await;
}

#[cfg(feature = "allocations")]
mod allocations {
    use tower::util::BoxCloneSyncService;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn box_per_call_is_one_allocation() {
        Laws::new(Numbers, BoxCloneSyncService::new)
            .max_allocations(1)
            .check()
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "law: allocations: a call allocated 1 times in the layer")]
    async fn detects_allocation_beyond_the_limit() {
        Laws::new(Numbers, BoxCloneSyncService::new)
            .max_allocations(0)
            .check()
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "law: allocations: a call failed")]
    async fn allocations_require_successful_calls() {
        laws(Bug::RejectsAfterReady).allocations().await;
    }
}

//! Each law holds for layers of tower, and fails for a layer that breaks it.

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

/// What a [`Wrong`] service does against the laws.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    CallsAClone,
    RefusesFromPollReady,
    WastesReadiness,
    WaitsAndRefuses,
    HoldsAndRefuses,
    WastesAndRefuses,
    CountsWithoutAGuard,
    LeaksItsPermit,
    LosesItsTurn,
    Spawns,
    TriesForEver,
    Spins,
    SpinsUntilReady,
    PollsTwice,
    LosesWakes,
    LosesWakesOfReadiness,
    KeepsTheFirstWaker,
    CallsTwice,
    ChangesTheRequest,
    ChangesTheAnswer,
}

#[derive(Clone)]
struct WrongService {
    inner: Inner<Numbers>,
    wrong: Wrong,
    running: Arc<AtomicUsize>,
    turns: Turns,
}

impl Service<u64> for WrongService {
    type Response = u64;
    type Error = Error;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.wrong {
            Wrong::HoldsAndRefuses => drop(self.inner.poll_ready(cx)),
            Wrong::WastesAndRefuses => drop(self.inner.clone().poll_ready(cx)),
            Wrong::SpinsUntilReady => {
                let ready = self.inner.poll_ready(cx);
                if ready.is_pending() {
                    cx.waker().wake_by_ref();
                }
                ready!(ready)?;
            }
            Wrong::LosesWakesOfReadiness => {
                ready!(
                    self.inner
                        .poll_ready(&mut Context::from_waker(Waker::noop()))
                )?;
            }
            _ => ready!(self.inner.poll_ready(cx))?,
        }
        match self.wrong {
            Wrong::RefusesFromPollReady => Poll::Ready(Err("full".into())),
            Wrong::WastesReadiness => self.inner.clone().poll_ready(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: u64) -> Call {
        let clone = self.inner.clone();
        let running = Arc::clone(&self.running);
        match self.wrong {
            Wrong::WaitsAndRefuses | Wrong::HoldsAndRefuses | Wrong::WastesAndRefuses => refuse(),
            Wrong::LeaksItsPermit if running.load(Relaxed) > 0 => refuse(),
            Wrong::CallsAClone => Box::pin({ clone }.call(request)),
            Wrong::ChangesTheRequest => {
                let first = self.inner.call(request + 1);
                Box::pin(meddle(self.wrong, first, clone, request))
            }
            Wrong::CallsTwice | Wrong::TriesForEver | Wrong::ChangesTheAnswer => {
                let first = self.inner.call(request);
                Box::pin(meddle(self.wrong, first, clone, request))
            }
            Wrong::CountsWithoutAGuard | Wrong::LeaksItsPermit => {
                let call = self.inner.call(request);
                Box::pin(async move {
                    running.fetch_add(1, Relaxed);
                    let answer = call.await;
                    running.fetch_sub(1, Relaxed);
                    answer
                })
            }
            Wrong::LosesItsTurn => Box::pin(self.turns.clone().run(clone, request)),
            Wrong::Spawns => {
                let call = tokio::spawn(self.inner.call(request));
                Box::pin(async move { call.await? })
            }
            wrong => Box::pin(WrongWaker {
                call: Box::pin(self.inner.call(request)),
                wrong,
                first: None,
            }),
        }
    }
}

/// Makes more of a call than there is.
async fn meddle(
    wrong: Wrong,
    first: impl Future<Output = Result<u64, Error>>,
    again: Inner<Numbers>,
    request: u64,
) -> Result<u64, Error> {
    let mut result = first.await;
    match wrong {
        Wrong::CallsTwice => {
            result?;
            drive::oneshot(again, request).await
        }
        Wrong::TriesForEver => {
            while result.is_err() {
                result = drive::oneshot(again.clone(), request).await;
            }
            result
        }
        Wrong::ChangesTheRequest => result.map(|answer| answer - 1),
        _ => result.map(|answer| answer + 1),
    }
}

/// One call at a time; the next is told by a message, and lost with it if it is dropped unread.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<(bool, VecDeque<oneshot::Sender<()>>)>>);

impl Turns {
    async fn run(self, inner: Inner<Numbers>, request: u64) -> Result<u64, Error> {
        let mine = {
            let (busy, waiting) = &mut *self.0.lock().unwrap();
            let (turn, mine) = oneshot::channel();
            waiting.extend(mem::replace(busy, true).then_some(turn));
            mine
        };
        mine.await.ok(); // an error at once, if nobody was there
        let _next = Next(self);
        drive::oneshot(inner, request).await
    }
}

struct Next(Turns);

impl Drop for Next {
    fn drop(&mut self) {
        let (busy, waiting) = &mut *self.0.0.lock().unwrap();
        *busy = iter::from_fn(|| waiting.pop_front()).any(|turn| turn.send(()).is_ok());
    }
}

fn refuse() -> Call {
    Box::pin(async { Err("refused".into()) })
}

struct WrongWaker {
    call: Call,
    wrong: Wrong,
    first: Option<Waker>,
}

impl Future for WrongWaker {
    type Output = Result<u64, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let first = self.first.get_or_insert_with(|| cx.waker().clone()).clone();
        match self.wrong {
            Wrong::LosesWakes => self
                .call
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop())),
            Wrong::PollsTwice => {
                if let Poll::Ready(result) = self.call.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                self.call.as_mut().poll(cx)
            }
            Wrong::KeepsTheFirstWaker => self.call.as_mut().poll(&mut Context::from_waker(&first)),
            Wrong::Spins => {
                cx.waker().wake_by_ref();
                self.call.as_mut().poll(cx)
            }
            _ => self.call.as_mut().poll(cx),
        }
    }
}

fn laws(wrong: Wrong) -> Laws<'static, Numbers, WrongService> {
    let running = Arc::new(AtomicUsize::new(0));
    let gauge = Arc::clone(&running);
    Laws::new(Numbers, move |inner| WrongService {
        inner,
        wrong,
        running: Arc::clone(&running),
        turns: Turns::default(),
    })
    .at_rest(move || wrong != Wrong::CountsWithoutAGuard || gauge.load(Relaxed) == 0)
}

/// Answers every call itself.
#[derive(Clone)]
struct Skip;

impl Service<u64> for Skip {
    type Response = u64;
    type Error = Error;
    type Future = std::future::Ready<Result<u64, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Self::Future {
        std::future::ready(Err("refused".into()))
    }
}

#[derive(Clone)]
struct Twice(u32);

impl Policy<u64, u64, Error> for Twice {
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
async fn layers_of_tower_keep_all_laws() {
    Laws::new(Numbers, |inner| inner).check().await;
    let same = MapRequestLayer::new(|request: u64| request);
    Laws::new(Numbers, |inner| same.layer(inner)).check().await;
    let same = |inner| MapErr::new(inner, |error: Error| error);
    Laws::new(Numbers, same).check().await;
    let second = TimeoutLayer::new(Duration::from_secs(1));
    Laws::new(Numbers, |inner| second.layer(inner))
        .check()
        .await;
    let one = ConcurrencyLimitLayer::new(1);
    Laws::new(Numbers, |inner| one.layer(inner)).check().await;
    let twice = RetryLayer::new(Twice(2));
    Laws::new(Numbers, |inner| twice.layer(inner)).check().await;
}

#[tokio::test(start_paused = true)]
async fn a_stack_keeps_all_laws_and_gives_its_permits_back() {
    let permits = Arc::new(Semaphore::new(2));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(Twice(1)))
        .layer(limit)
        .layer(TimeoutLayer::new(Duration::from_secs(1)));
    Laws::new(Numbers, |inner| stack.service(inner))
        .at_rest(|| permits.available_permits() == 2)
        .check()
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_skips_with_empty_hands_keeps_the_law_of_refusal() {
    Laws::new(Numbers, |_| Skip).refusal().await;
}

#[test]
fn a_service_of_tower_has_the_auto_traits() {
    let service = TimeoutLayer::new(Duration::ZERO).layer(Script::<u64, u64, Error>::new());
    auto_traits::<u64>(&service);
}

macro_rules! breaks {
    ($($test:ident: $law:ident, $wrong:ident, $message:literal;)*) => {$(
        #[tokio::test(start_paused = true)]
        #[should_panic(expected = $message)]
        async fn $test() {
            laws(Wrong::$wrong).$law().await;
        }
    )*

    mod by_check {
        use super::*;

        $(
            #[tokio::test(start_paused = true)]
            #[should_panic(expected = "law: ")]
            async fn $test() {
                laws(Wrong::$wrong).check().await;
            }
        )*
    }
    };
}

breaks! {
    a_call_of_an_unready_clone: readiness, CallsAClone, "law: readiness: an inner instance was called";
    a_refusal_from_poll_ready: readiness, RefusesFromPollReady, "law: readiness: poll_ready failed";
    lost_wakes_never_end: readiness, LosesWakes, "law: readiness: a call did not end within a minute";
    tries_without_a_pause: readiness, TriesForEver, "law: readiness: a call did not end in a thousand polls";
    readiness_that_outlives_its_call: hoarding, CallsAClone, "law: hoarding: the layer holds";
    readiness_that_is_thrown_away: hoarding, WastesReadiness, "law: hoarding: the layer took";
    a_refusal_that_waits_for_readiness: refusal, WaitsAndRefuses, "law: refusal: a call did not end";
    a_refusal_that_holds_readiness: refusal, HoldsAndRefuses, "law: refusal: the layer holds";
    a_refusal_that_wastes_readiness: refusal, WastesAndRefuses, "law: refusal: the layer took";
    a_gauge_without_a_guard: cancellation, CountsWithoutAGuard, "law: cancellation: the layer is not at rest";
    a_lost_permit: cancellation, LeaksItsPermit, "law: cancellation: the next call failed";
    a_lost_turn: cancellation, LosesItsTurn, "law: cancellation: a call did not end";
    a_call_that_lives_on: cancellation, Spawns, "law: cancellation: an inner call still runs";
    a_call_without_an_end: cancellation, TriesForEver, "law: cancellation: a call did not end in";
    a_spin: polls, Spins, "law: polls: a call woke itself while the inner call";
    a_spin_for_readiness: polls, SpinsUntilReady, "law: polls: a call woke itself while the inner service";
    a_poll_too_many: polls, PollsTwice, "law: polls: the inner call was polled more often";
    a_lost_wake: polls, LosesWakes, "law: polls: no wake reached the latest waker when the inner service answered";
    a_lost_wake_of_readiness: polls, LosesWakesOfReadiness, "law: polls: no wake reached the latest waker when the inner service became ready";
    a_stale_waker: polls, KeepsTheFirstWaker, "law: polls: no wake reached";
    a_call_that_is_refused: transparency, WaitsAndRefuses, "law: transparency: a call failed";
    two_inner_calls: transparency, CallsTwice, "law: transparency: one success";
    a_changed_request: transparency, ChangesTheRequest, "law: transparency: a request";
    a_changed_answer: transparency, ChangesTheAnswer, "law: transparency: an answer";
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "law: refusal: the layer did not skip")]
async fn a_layer_that_does_not_refuse() {
    Laws::new(Numbers, LoadShed::new).refusal().await;
}

#[cfg(feature = "allocations")]
mod allocations {
    use tower::util::BoxCloneSyncService;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_box_per_call_is_one_allocation() {
        Laws::new(Numbers, BoxCloneSyncService::new)
            .allocating(1)
            .check()
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "law: allocations: a call allocated 1 times in the layer")]
    async fn a_box_where_none_is_allowed() {
        Laws::new(Numbers, BoxCloneSyncService::new)
            .allocating(0)
            .check()
            .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "law: allocations: a call failed")]
    async fn a_refused_call_that_cannot_be_measured() {
        laws(Wrong::WaitsAndRefuses).allocations().await;
    }
}

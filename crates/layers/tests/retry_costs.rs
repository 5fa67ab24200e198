//! Tests of the costs of retries, and of the retries that cost nothing.
#![allow(missing_docs)]

mod common;

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use common::*;
use futures_util::{FutureExt, poll};
use tower::{Layer, Service, ServiceExt};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, Class, ClassifyResult, Event, Failure, HedgeConfig, HedgeLayer,
    Rejection, RetryAllowance, RetryConfig, RetryLayer,
    event::RetryStopReason,
    hedge::HedgeDelay,
    retry::{Budget, BudgetConfig, Jitter},
};

/// Creates a layer with a budget of exactly `retries` retries.
fn with_budget(retries: f64) -> RetryLayer<ClassifyResult> {
    let mut config = RetryConfig::new().jitter(Jitter::None);
    config.budget.ratio = 0.0;
    config.budget.min_per_sec = retries / config.budget.ttl.as_secs_f64();
    RetryLayer::new(config, ClassifyResult).unwrap()
}

/// Returns the reasons of all `RetryStopped` events.
fn stops(recorder: &EventRecorder) -> Vec<RetryStopReason> {
    let stops = recorder
        .recorded()
        .into_iter()
        .filter_map(|event| match event {
            Event::RetryStopped { by } => Some(by),
            _ => None,
        });
    stops.collect()
}

const FULL: Fault = Fault::Refused(Rejection::AtCapacity);
const NOT_TAKEN: Fault = Fault::Failed(Failure::NotProcessed);

/// Creates a request that shares `allowance` with other requests.
fn sharing(allowance: &Arc<RetryAllowance>) -> Request {
    ask_with(|call| call.allowance = Some(Arc::clone(allowance)))
}

/// Returns `true` if a call can take a retry from `allowance`.
async fn may_retry(allowance: &Arc<RetryAllowance>) -> bool {
    let service = with_budget(9.0).layer(script().fail(BROKEN).respond(1));
    service.oneshot(sharing(allowance)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn rt_11_dropping_a_call_in_its_pause_returns_its_allowance() {
    let allowance = Arc::new(RetryAllowance::new(1));
    let service = with_budget(9.0).layer(script().fail(BROKEN));
    let mut dropped = service.oneshot(sharing(&allowance)).boxed();
    assert!(poll!(&mut dropped).is_pending());
    assert!(!may_retry(&allowance).await);
    drop(dropped);
    assert!(may_retry(&allowance).await);
    assert!(!may_retry(&allowance).await, "the retry was already used");
}

#[tokio::test(start_paused = true)]
async fn rt_13_a_breaker_that_opens_returns_the_allowance() {
    let allowance = Arc::new(RetryAllowance::new(1));
    let config = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    let retry = with_budget(9.0).breaker(breaker.handle().clone());
    let service = retry.layer(breaker.layer(script().fail(BROKEN)));
    assert_eq!(service.oneshot(sharing(&allowance)).await, Err(BROKEN));
    assert!(may_retry(&allowance).await);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_layer_below_rejects_returns_the_allowance() {
    let allowance = Arc::new(RetryAllowance::new(1));
    let service = with_budget(9.0).layer(script().fail(BROKEN).fail(FULL));
    assert_eq!(service.oneshot(sharing(&allowance)).await, Err(BROKEN));
    assert!(may_retry(&allowance).await);
}

/// A service that fails its first call, and then fails to become ready `times` times with `with`.
#[derive(Clone)]
struct Unready {
    with: Fault,
    asked: Arc<AtomicU32>,
    times: u32,
}

impl Unready {
    fn new(with: Fault, times: u32) -> Self {
        let asked = Arc::default();
        Self { with, asked, times }
    }
}

impl Service<Request> for Unready {
    type Response = u32;
    type Error = Fault;
    type Future = Ready<Result<u32, Fault>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Fault>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(match (1..=self.times).contains(&asked) {
            true => Err(self.with),
            false => Ok(()),
        })
    }

    fn call(&mut self, _: Request) -> Self::Future {
        let asked = self.asked.load(Ordering::Relaxed);
        ready(if asked == 1 { Err(BROKEN) } else { Ok(asked) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_become_ready_is_a_failed_attempt() {
    let service = with_budget(9.0).layer(Unready::new(UNREACHED, 1));
    assert_eq!(
        timed(service.oneshot(idempotent_request())).await,
        (Ok(3), ms(50 + 100))
    );

    let (recorder, request) = (EventRecorder::default(), idempotent_request());
    let service = with_budget(9.0).layer(Unready::new(UNREACHED, 9));
    let result = service.oneshot(request.events(recorder.events())).await;
    assert_eq!(
        (result, stops(&recorder)),
        (Err(UNREACHED), vec![RetryStopReason::Attempts])
    );
    let ended = |failure| Event::AttemptEnded {
        class: Class::Failure(failure),
        elapsed: Duration::ZERO,
    };
    let mut recorded = recorder.recorded();
    recorded.retain(|event| !matches!(event, Event::Backoff { .. } | Event::RetryStopped { .. }));
    let unready = ended(Failure::Connect);
    let [first, second, third] = [1, 2, 3].map(|number| Event::Attempt { number });
    let broken = ended(Failure::ConnectionReset);
    assert_eq!(recorded, [first, broken, second, unready, third, unready]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_during_readiness_keeps_the_failure_and_costs_nothing() {
    let (layer, recorder) = (with_budget(1.0), EventRecorder::default());
    let service = layer.layer(Unready::new(FULL, 1));
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!(
        (result, stops(&recorder)),
        (Err(BROKEN), vec![RetryStopReason::Rejected])
    );
    let again = layer.layer(script().fail(BROKEN).respond(1));
    assert_eq!(again.oneshot(idempotent_request()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_free_retry_happens_within_the_same_millisecond() {
    // A timer would fire at the next whole millisecond.
    tokio::time::advance(Duration::from_micros(300)).await;
    let allowance = Arc::new(RetryAllowance::new(0));
    let script = script().fail(NOT_TAKEN).respond(1);
    let call = with_budget(0.0).layer(script).oneshot(sharing(&allowance));
    assert_eq!(call.now_or_never(), Some(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_free_retry_needs_time_before_the_deadline() {
    // `min_useful` is 10 ms.
    for (left, expected, calls) in [(10, Ok(1), 2), (9, Err(NOT_TAKEN), 1)] {
        let (script, recorder) = (
            script().fail(NOT_TAKEN).respond(1),
            EventRecorder::default(),
        );
        let request = request_within(ms(left)).events(recorder.events());
        let result = with_budget(9.0).layer(script.clone()).oneshot(request);
        assert_eq!((result.await, script.calls()), (expected, calls));
        let late = [RetryStopReason::Deadline];
        assert_eq!(stops(&recorder), late[..2 - calls]);
    }
}

/// Asserts that two calls, which both go through `service`, deposit one retry together.
async fn assert_one_deposit_per_call<S>(script: Scripted, service: S)
where
    S: Service<Request, Response = u32, Error = Fault> + Clone,
{
    assert_eq!(service.clone().oneshot(idempotent_request()).await, Ok(1));
    assert_eq!(service.oneshot(idempotent_request()).await, Err(BROKEN));
    assert_eq!(script.calls(), 3, "one call, and one call with one retry");
}

#[tokio::test(start_paused = true)]
async fn rt_26_layers_that_share_a_budget_deposit_once_per_call() {
    let budget = || Budget::new(&BudgetConfig::new().ratio(0.5).min_per_sec(0.0)).unwrap();
    let retry = |budget: &Budget| {
        let layer = RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
        layer.budget(budget.clone())
    };
    let script = || script().respond(1).fail(BROKEN);
    let (shared, calls) = (budget(), script());
    let service = retry(&shared).layer(retry(&shared).layer(calls.clone()));
    assert_one_deposit_per_call(calls, service).await;

    let (shared, calls) = (budget(), script());
    let hedge = HedgeConfig::new().delay(HedgeDelay::Never);
    let hedge = HedgeLayer::new(hedge, ClassifyResult).unwrap();
    let hedge = hedge.budget(shared.clone());
    let service = hedge.layer(retry(&shared).layer(calls.clone()));
    assert_one_deposit_per_call(calls, service).await;

    // Of three layers, the outermost has no retries, and so does not count the call.
    let (shared, calls) = (budget(), script());
    let once = RetryLayer::new(RetryConfig::new().max_attempts(1), ClassifyResult).unwrap();
    let inner = retry(&shared).layer(retry(&shared).layer(calls.clone()));
    let service = once.budget(shared).layer(inner);
    assert_one_deposit_per_call(calls, service).await;
}

#[tokio::test(start_paused = true)]
async fn rt_26_layers_with_budgets_of_their_own_deposit_in_each() {
    let own = || {
        let budget = Budget::new(&BudgetConfig::new().ratio(1.0).min_per_sec(0.0)).unwrap();
        let config = RetryConfig::new().max_attempts(2);
        RetryLayer::new(config, ClassifyResult)
            .unwrap()
            .budget(budget)
    };
    let calls = script().fail(BROKEN);
    let service = own().layer(own().layer(calls.clone()));
    assert_eq!(service.oneshot(idempotent_request()).await, Err(BROKEN));
    assert_eq!(calls.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_an_attempt_timeout_costs_its_own_share() {
    for (fault, calls) in [(Fault::Failed(Failure::AttemptTimeout), 2), (BROKEN, 3)] {
        let mut config = RetryConfig::new().jitter(Jitter::None).max_attempts(6);
        config.budget.ratio = 0.0;
        config.budget.min_per_sec = 2.0 / config.budget.ttl.as_secs_f64();
        config.budget.timeout_cost = 2.0;
        let script = script().fail(fault);
        let service = RetryLayer::new(config, ClassifyResult)
            .unwrap()
            .layer(script.clone());
        assert_eq!(service.oneshot(idempotent_request()).await, Err(fault));
        assert_eq!(script.calls(), calls, "{fault:?}");
    }
}

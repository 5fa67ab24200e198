//! Tests of every layer against the laws of the testkit.
#![allow(missing_docs)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use common::*;
use futures_util::{FutureExt, poll};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn, util::MapErr};
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, CallError, CallErrorLayer, Class, ClassifyResult,
    ConcurrencyConfig, ConcurrencyLayer, DeadlineLayer, Failure, FallbackLayer, HedgeConfig,
    HedgeLayer, PerKeyConfig, PerKeyLayer, RetryConfig, RetryLayer, ThrottleConfig, ThrottleLayer,
    TimeoutLayer, WithCall, event::SentLayer,
};
use tower_fanout_testkit::{laws::Laws, script::ScriptedService};

/// Creates a breaker that opens after its first failure.
fn breaker() -> BreakerLayer<ClassifyResult> {
    let config = BreakerConfig::new().consecutive_failures(1);
    BreakerLayer::new("team", config, ClassifyResult).unwrap()
}

fn limit(in_flight: u32, queue: u32) -> ConcurrencyLayer {
    let config = ConcurrencyConfig::new().max(in_flight).queue(queue);
    ConcurrencyLayer::new(config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_timeout_keeps_the_laws() {
    let layer = TimeoutLayer::new(ms(60_000)).unwrap();
    Laws::new(Calls, |inner| layer.layer(inner)).check().await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_deadline_keeps_the_laws() {
    let layer = DeadlineLayer::new(ms(60_000)).unwrap();
    Laws::new(Calls, |inner| layer.layer(inner)).check().await;
    let (late, attempt) = (
        DeadlineLayer::new(ms(5)).unwrap(),
        TimeoutLayer::new(ms(100)).unwrap(),
    );
    Laws::new(Calls, |inner| late.layer(layer.layer(inner)))
        .short_circuit()
        .await;
    Laws::new(Calls, |inner| late.layer(attempt.layer(inner)))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_concurrency_keeps_the_laws() {
    for layer in [limit(100, 0), limit(1, 100)] {
        Laws::new(Calls, |inner| layer.layer(inner))
            .idle_when(|| layer.in_flight() == 0 && layer.queued() == 0)
            .check()
            .await;
    }
    let full = limit(1, 0);
    let mut occupant = full
        .layer(script().hang())
        .oneshot(idempotent_request())
        .boxed();
    assert!(poll!(&mut occupant).is_pending());
    Laws::new(Calls, |inner| full.layer(inner))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_sent_keeps_the_laws() {
    Laws::new(Calls, |inner| SentLayer::new().layer(inner))
        .check()
        .await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_retry_keeps_the_laws() {
    let layer = || RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
    Laws::new(Calls, |inner| layer().layer(inner)).check().await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_hedge_keeps_the_laws() {
    let layer = || HedgeLayer::new(HedgeConfig::new(), ClassifyResult).unwrap();
    Laws::new(Calls, |inner| layer().layer(inner)).check().await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_breaker_keeps_the_laws() {
    let never_opens = || {
        let config = BreakerConfig::new().consecutive_failures(None);
        BreakerLayer::new("team", config, ClassifyResult).unwrap()
    };
    let build = |inner| never_opens().layer(inner);
    Laws::new(Calls, build).check().await;
    let open = breaker();
    let broken = open.layer(script().fail(BROKEN));
    assert_eq!(broken.oneshot(idempotent_request()).await, Err(BROKEN));
    Laws::new(Calls, |inner| open.layer(inner))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn key_12_fault_g12_g14_per_key_keeps_the_laws() {
    let by_number = |request: &WithCall<u64>| request.get() % 5;
    let config = BreakerConfig::new().consecutive_failures(None);
    let never_opens = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    for keys in [2, 100] {
        let config = PerKeyConfig::new().max_keys(keys);
        let layer = PerKeyLayer::new(config, never_opens.clone(), by_number).unwrap();
        Laws::new(Calls, |inner| layer.layer(inner)).check().await;
    }
    let limits = PerKeyLayer::new(PerKeyConfig::new(), limit(1, 100), by_number).unwrap();
    let running = |key| {
        limits
            .get(&key)
            .map_or(0, |limit| limit.in_flight() + limit.queued())
    };
    Laws::new(Calls, |inner| limits.layer(inner))
        .idle_when(|| (0..5).all(|key| running(key) == 0))
        .check()
        .await;
    let same = |_: &WithCall<u64>| 7;
    let open = PerKeyLayer::new(PerKeyConfig::new(), breaker(), same).unwrap();
    let broken = open.layer(ScriptedService::new().fail(BROKEN));
    let failed: Result<u64, _> = broken.oneshot(WithCall::new(1)).await;
    assert_eq!(failed, Err(BROKEN));
    Laws::new(Calls, |inner| open.layer(inner))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_throttle_keeps_the_laws() {
    let layer = || ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult).unwrap();
    Laws::new(Calls, |inner| layer().layer(inner)).check().await;
    let config = ThrottleConfig::new().max(1.0);
    let full = |_: Result<&u64, &Fault>, _| Class::Throttled { retry_after: None };
    let shut = ThrottleLayer::new(config, full).unwrap();
    let service = shut.layer(service_fn(|_: WithCall<u64>| async { Err(BROKEN) }));
    fastrand::seed(7);
    while shut.rejection_probability() < 0.999 {
        let _: Result<u64, _> = service.clone().oneshot(WithCall::new(1)).await;
    }
    Laws::new(Calls, |inner| shut.layer(inner))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_fallback_keeps_the_laws() {
    let other = ScriptedService::new().fail(BROKEN).after_polls(2);
    let none = FallbackLayer::new(ClassifyResult);
    let one = FallbackLayer::new(ClassifyResult).service(other.clone());
    for layer in [none, one] {
        Laws::new(Calls, |inner| layer.layer(inner))
            .idle_when(|| other.in_flight() == 0)
            .check()
            .await;
    }
}

/// A service that has room for one call at a time, and fails the first check of its readiness.
#[derive(Clone)]
struct FailsOnce {
    polled: Arc<AtomicBool>,
    inner: ConcurrencyLimit<Scripted>,
}

impl FailsOnce {
    fn new() -> Self {
        Self {
            polled: Arc::default(),
            inner: ConcurrencyLimit::new(script().respond(1), 1),
        }
    }
}

impl Service<Request> for FailsOnce {
    type Response = u32;
    type Error = Fault;
    type Future = <ConcurrencyLimit<Scripted> as Service<Request>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if !self.polled.swap(true, Ordering::Relaxed) {
            return Poll::Ready(Err(BROKEN));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.inner.call(request)
    }
}

async fn reports_once_and_releases_readiness<L>(layer: L)
where
    L: Layer<FailsOnce>,
    L::Service: Service<Request, Response = u32, Error = Fault> + Clone,
{
    let mut service = layer.layer(FailsOnce::new());
    // The request is not idempotent, so no layer repairs the failure.
    let once = || WithCall::new(0);
    assert_eq!(service.clone().oneshot(once()).await, Err(BROKEN));
    for _ in 0..2 {
        service.ready().await.unwrap();
        let called = service.clone();
        // The service has only one permit, which a leaked readiness would hold.
        drop(service);
        assert_eq!(called.clone().oneshot(once()).await, Ok(1));
        service = called;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g11_g13_a_readiness_error_is_reported_once_and_released() {
    let of = ClassifyResult;
    reports_once_and_releases_readiness(TimeoutLayer::new(ms(1000)).unwrap()).await;
    reports_once_and_releases_readiness(DeadlineLayer::new(ms(1000)).unwrap()).await;
    reports_once_and_releases_readiness(limit(1, 0)).await;
    reports_once_and_releases_readiness(RetryLayer::new(RetryConfig::new(), of).unwrap()).await;
    reports_once_and_releases_readiness(HedgeLayer::new(HedgeConfig::new(), of).unwrap()).await;
    let never_opens = BreakerConfig::new().consecutive_failures(None);
    reports_once_and_releases_readiness(BreakerLayer::new("team", never_opens, of).unwrap()).await;
    let same = |_: &Request| 7;
    let keyed = PerKeyLayer::new(PerKeyConfig::new(), limit(1, 0), same).unwrap();
    reports_once_and_releases_readiness(keyed).await;
    reports_once_and_releases_readiness(ThrottleLayer::new(ThrottleConfig::new(), of).unwrap())
        .await;
    reports_once_and_releases_readiness(FallbackLayer::new(of)).await;
}

#[tokio::test(start_paused = true)]
async fn fault_g12_g14_call_error_keeps_the_laws_and_maps_every_error() {
    let unmapped = |error| match error {
        CallError::Inner {
            error,
            failure: Failure::Other,
        } => error,
        other => panic!("the inner service fails with faults: {other:?}"),
    };
    let build = |inner| MapErr::new(CallErrorLayer::new().layer(inner), unmapped);
    Laws::new(Calls, build).check().await;
    let unready = CallErrorLayer::new().layer(script().fail_ready(|| UNREACHED));
    let failed = |failure| {
        Err(CallError::Inner {
            error: UNREACHED,
            failure,
        })
    };
    assert_eq!(
        unready.oneshot(idempotent_request()).await,
        failed(Failure::Other)
    );
    let named = CallErrorLayer::with(AsRejection::failure);
    let unready = named.layer(script().fail_ready(|| UNREACHED));
    assert_eq!(
        unready.oneshot(idempotent_request()).await,
        failed(Failure::Connect)
    );
}

#[cfg(feature = "chaos")]
#[tokio::test(start_paused = true)]
async fn fault_g12_g14_chaos_keeps_the_laws() {
    use tower_fanout_layers::chaos::{ChaosConfig, ChaosLayer, Injected, Injection, Latency, Rule};

    let layer = |enabled, inject| {
        let rules = vec![Rule::new(1.0, inject)];
        let config = ChaosConfig::new().enabled(enabled).rules(rules);
        ChaosLayer::new(config, |_: Injected<u64>| Err(BROKEN)).unwrap()
    };
    let reset = Injection::Error(Failure::ConnectionReset);
    let late = Injection::Latency(Latency::Fixed(ms(2)));
    for layer in [layer(false, reset), layer(true, late)] {
        Laws::new(Calls, |inner| layer.layer(inner)).check().await;
    }
    let refusing = layer(true, reset);
    Laws::new(Calls, |inner| refusing.layer(inner))
        .short_circuit()
        .await;
}

//! Tests that the layers allocate nothing for a call that succeeds.
#![allow(missing_docs)]

mod common;

use common::*;
use tower::{Layer, ServiceBuilder};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer,
    DeadlineLayer, FallbackLayer, HedgeConfig, HedgeLayer, PerKeyConfig, PerKeyLayer, RetryConfig,
    RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer, WithCall,
};
use tower_fanout_testkit::laws::Laws;

#[tokio::test(start_paused = true)]
async fn timeout_and_deadline_do_not_allocate() {
    Laws::new(Calls, |inner| {
        TimeoutLayer::new(ms(1_000)).unwrap().layer(inner)
    })
    .allocations()
    .await;
    Laws::new(Calls, |inner| {
        DeadlineLayer::new(ms(1_000)).unwrap().layer(inner)
    })
    .allocations()
    .await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_does_not_allocate() {
    Laws::new(Calls, |inner| {
        ConcurrencyLayer::new(ConcurrencyConfig::new())
            .unwrap()
            .layer(inner)
    })
    .allocations()
    .await;
}

#[tokio::test(start_paused = true)]
async fn breaker_and_throttle_do_not_allocate() {
    let breaker = || BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap();
    Laws::new(Calls, |inner| breaker().layer(inner))
        .allocations()
        .await;
    let throttle = || ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult).unwrap();
    Laws::new(Calls, |inner| throttle().layer(inner))
        .allocations()
        .await;
}

#[tokio::test(start_paused = true)]
async fn key_12_a_call_of_a_known_key_does_not_allocate() {
    let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let same = |_: &WithCall<u64>| 7;
    let breakers = PerKeyLayer::new(PerKeyConfig::new(), breaker, same).unwrap();
    let limits = PerKeyLayer::new(PerKeyConfig::new(), limit, same).unwrap();
    Laws::new(Calls, |inner| breakers.layer(limits.layer(inner)))
        .allocations()
        .await;
}

#[tokio::test(start_paused = true)]
async fn retry_and_hedge_do_not_allocate() {
    Laws::new(Calls, |inner| {
        RetryLayer::new(RetryConfig::new(), ClassifyResult)
            .unwrap()
            .layer(inner)
    })
    .allocations()
    .await;
    Laws::new(Calls, |inner| {
        HedgeLayer::new(HedgeConfig::new(), ClassifyResult)
            .unwrap()
            .layer(inner)
    })
    .allocations()
    .await;
}

#[tokio::test(start_paused = true)]
async fn fallback_does_not_allocate() {
    Laws::new(Calls, |inner| {
        FallbackLayer::new(ClassifyResult).response(1).layer(inner)
    })
    .allocations()
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_stack_does_not_allocate() {
    let stack = || {
        ServiceBuilder::new()
            .layer(FallbackLayer::new(ClassifyResult).response(1))
            .layer(DeadlineLayer::new(ms(1_000)).unwrap())
            .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
            .layer(BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap())
            .layer(ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap())
            .layer(TimeoutLayer::new(ms(1_000)).unwrap())
    };
    Laws::new(Calls, |inner| stack().service(inner))
        .allocations()
        .await;
}

#[cfg(feature = "chaos")]
#[tokio::test(start_paused = true)]
async fn ch_04_disabled_chaos_does_not_allocate() {
    use tower_fanout_layers::chaos::{ChaosConfig, ChaosLayer, Injected};

    let make = |_: Injected<u64>| Err(BROKEN);
    Laws::new(Calls, |inner| {
        ChaosLayer::new(ChaosConfig::new(), make)
            .unwrap()
            .layer(inner)
    })
    .allocations()
    .await;
}

/// The user's request allocates when a retry clones its headers and extensions.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn retry_of_http_allocates_only_to_clone_the_request() {
    use tower_fanout_layers::ClassifyHttp;
    use tower_fanout_testkit::laws::{Http, Traffic};

    let request = Http::<()>::new().request(1);
    let of_clone = allocation_counter::measure(|| drop(request.clone())).count_total;
    Laws::new(Http::<()>::new(), |inner| {
        RetryLayer::new(RetryConfig::new(), ClassifyHttp::new())
            .unwrap()
            .layer(inner)
    })
    .max_allocations(of_clone)
    .allocations()
    .await;
}

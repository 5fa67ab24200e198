//! Tests the claims of `docs/why.md` about other crates, and that our layers differ as the page says.
#![allow(missing_docs)]

mod breaker;
mod services;
mod shared_state;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tower::{
    Service, ServiceBuilder, ServiceExt,
    retry::backoff::{Backoff, ExponentialBackoffMaker, MakeBackoff},
    util::rng::HasherRng,
};
use tower_fanout_layers::{
    BreakerConfig, CallError, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, Event,
    RetryConfig, RetryLayer, TimeoutLayer, WithCall,
};
use tower_resilience::{
    bulkhead::{BulkheadLayer, BulkheadServiceError},
    circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer},
    retry::{self, ExponentialBackoff, ExponentialRandomBackoff, IntervalFunction},
    timelimiter::{TimeLimiterError, TimeLimiterLayer},
};

use services::{
    Ask::{Fail, Work},
    Down, Users, breaker, ours,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn our_error_keeps_its_type_through_four_layers() {
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(SECOND).unwrap())
        .layer(RetryLayer::new(RetryConfig::new().max_attempts(1), ClassifyResult).unwrap())
        .layer(breaker(BreakerConfig::new()))
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap());
    let result = ours(layers).oneshot(WithCall::new(Fail)).await;
    let Err(CallError::Inner { error: Down, .. }) = result else {
        panic!("expected the error of the service, got {result:?}");
    };
}

#[tokio::test]
async fn a_peer_error_nests_once_per_layer() {
    let peers = ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().timeout_duration(SECOND).build())
        .layer(CircuitBreakerLayer::builder().build().unwrap())
        .layer(BulkheadLayer::builder().build().unwrap());
    let result = peers.service(Users).oneshot(Fail).await;
    let Err(TimeLimiterError::Inner(CircuitBreakerError::Inner(BulkheadServiceError::Inner(Down)))) =
        result
    else {
        panic!("expected the nested error of the service, got {result:?}");
    };
}

/// The pauses before the second attempt of `calls` calls through our retry.
async fn our_pauses(config: RetryConfig, calls: usize) -> Vec<Duration> {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&pauses);
    let layer = RetryLayer::new(config.max_attempts(2), ClassifyResult)
        .unwrap()
        .seed(7);
    let service = ours(layer.events(move |event: Event| {
        if let Event::Backoff { delay } = event {
            seen.lock().unwrap().push(delay);
        }
    }));
    for _ in 0..calls {
        let call = service.clone().oneshot(WithCall::new(Fail).idempotent());
        assert!(call.await.is_err());
        tokio::time::advance(SECOND).await; // so that the retry budget never ends
    }
    let pauses = pauses.lock().unwrap();
    pauses.clone()
}

#[tokio::test(start_paused = true)]
async fn our_jitter_spreads_pauses_and_keeps_the_cap() {
    let second = RetryConfig::new().base(SECOND).cap(SECOND);
    let mut pauses = our_pauses(second, 200).await;
    assert!(pauses.iter().all(|&pause| pause <= SECOND));
    let mean = pauses.iter().sum::<Duration>() / 200;
    assert!(
        (450..550).contains(&mean.as_millis()),
        "the mean is {mean:?}"
    );
    pauses.sort_unstable();
    pauses.dedup();
    assert_eq!(pauses.len(), 200);
}

#[test]
fn peer_backoff_has_no_jitter_by_default() {
    let backoff = ExponentialBackoff::new(SECOND);
    assert!((0..200).all(|_| backoff.next_interval(0) == SECOND));
}

#[test]
fn peer_jitter_exceeds_the_longest_interval() {
    let backoff = ExponentialRandomBackoff::new(SECOND, 0.5)
        .unwrap()
        .max_interval(SECOND);
    assert!((0..200).any(|_| backoff.next_interval(3) > SECOND));
}

#[tokio::test(start_paused = true)]
async fn tower_gives_every_request_the_same_jitter() {
    let rng = HasherRng::default;
    let mut maker = ExponentialBackoffMaker::new(SECOND / 2, SECOND, 0.9, rng()).unwrap();
    let pauses = [0; 20].map(|_| maker.make_backoff().next_backoff().deadline());
    assert!(pauses.iter().all(|&pause| pause == pauses[0]));

    // The jitter of the seconds is cut to whole seconds.
    let mut maker = ExponentialBackoffMaker::new(SECOND, SECOND * 60, 0.9, rng()).unwrap();
    let pause = maker.make_backoff().next_backoff();
    assert_eq!(pause.deadline() - tokio::time::Instant::now(), SECOND);
}

/// The number of allocations of one successful call.
fn allocations<S, Req>(service: &mut S, request: Req) -> u64
where
    S: Service<Req>,
{
    let counted = allocation_counter::measure(|| {
        let ready = service.ready().now_or_never().unwrap();
        let call = ready.ok().unwrap().call(request).now_or_never().unwrap();
        assert!(call.is_ok());
    });
    counted.count_total
}

#[tokio::test]
async fn allocations_of_a_call_side_by_side() {
    let mut our = ours(
        ServiceBuilder::new()
            .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
            .layer(breaker(BreakerConfig::new()))
            .layer(ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap())
            .layer(TimeoutLayer::new(SECOND).unwrap()),
    );
    let within = TimeLimiterLayer::builder().timeout_duration(SECOND);
    let mut peer = ServiceBuilder::new()
        .layer(retry::RetryLayer::exponential_backoff().build())
        .layer(CircuitBreakerLayer::builder().build().unwrap())
        .layer(BulkheadLayer::builder().build().unwrap())
        .layer(within.cancel_running_future(true).build())
        .service(Users);
    // The first calls create what later calls reuse.
    for _ in 0..50 {
        tokio::task::yield_now().await; // ends the cooperative budget of tokio
        allocations(&mut our, WithCall::new(Work));
        allocations(&mut peer, Work);
    }
    assert_eq!(allocations(&mut our, WithCall::new(Work)), 0);
    assert_eq!(allocations(&mut peer, Work), 10);
}

#[test]
fn the_page_names_tests_and_versions_that_exist() {
    let page = include_str!("../../docs/why.md");
    let is_test = |code: &&str| {
        let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        code.chars().all(snake) && code.matches('_').count() > 3 && !code.starts_with("cb_")
    };
    let tests = concat!(
        include_str!("breaker.rs"),
        include_str!("main.rs"),
        include_str!("shared_state.rs")
    );
    let named: Vec<_> = page.split('`').filter(is_test).collect();
    for name in &named {
        let test = format!("fn {name}(");
        assert!(tests.contains(&test), "no test {name}");
    }
    assert!(named.len() > 15, "found only {named:?}");

    let (_, locked) = include_str!("../../Cargo.lock")
        .split_once("name = \"tower-resilience\"\nversion = \"")
        .unwrap();
    let version = locked.split('"').next().unwrap();
    assert!(page.contains(&format!("tower-resilience {version}")));
}

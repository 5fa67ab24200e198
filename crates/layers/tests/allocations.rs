//! Tests that the layers allocate nothing for a call that succeeds.
#![allow(missing_docs)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use common::*;
use futures_util::FutureExt;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer,
    DeadlineLayer, Event, Events, EventsLayer, FallbackLayer, HedgeConfig, HedgeLayer,
    PerKeyConfig, PerKeyLayer, RetryConfig, RetryLayer, ThrottleConfig, ThrottleLayer,
    TimeoutLayer, WithCall,
};
use tower_fanout_testkit::laws::{Laws, Traffic};

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

/// Requests whose calls have a receiver already.
#[derive(Clone)]
struct Observed(Events);

impl Traffic for Observed {
    type Request = WithCall<u64>;
    type Response = u64;
    type Error = Fault;

    fn request(&self, number: u64) -> WithCall<u64> {
        Calls.request(number).events(self.0.clone())
    }
    fn request_number(&self, request: &WithCall<u64>) -> u64 {
        Calls.request_number(request)
    }
    fn response(&self, number: u64) -> u64 {
        Calls.response(number)
    }
    fn response_number(&self, response: &u64) -> u64 {
        Calls.response_number(response)
    }
    fn error(&self) -> Fault {
        Calls.error()
    }
}

/// Each layer has two sinks, and each call has its own receiver besides those of two `EventsLayer`s.
fn observed_stack<S>(
    sink: &Events,
    inner: S,
) -> impl Service<WithCall<u64>, Response = u64, Error = Fault, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    S: Service<WithCall<u64>, Response = u64, Error = Fault, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let retry = RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
    let throttle = ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult).unwrap();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap();
    let fallback = FallbackLayer::new(ClassifyResult).response(1);
    macro_rules! twice {
        ($layer:expr) => {
            $layer.events(sink.clone()).events(sink.clone())
        };
    }
    ServiceBuilder::new()
        .layer(EventsLayer::new(sink.clone()))
        .layer(twice!(fallback))
        .layer(EventsLayer::new(sink.clone()))
        .layer(twice!(DeadlineLayer::new(ms(1_000)).unwrap()))
        .layer(twice!(retry))
        .layer(twice!(throttle))
        .layer(twice!(limit))
        .layer(twice!(breaker))
        .layer(twice!(TimeoutLayer::new(ms(1_000)).unwrap()))
        .service(inner)
}

#[tokio::test(start_paused = true)]
async fn ev_09_receivers_of_events_do_not_allocate() {
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    let sink = Events::from(move |_: Event| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    Laws::new(Observed(sink.clone()), |inner| observed_stack(&sink, inner))
        .allocations()
        .await;
    // Two attempt events and one permit event per call, each for five receivers.
    assert_eq!(heard.load(Ordering::Relaxed), 8 * 3 * 5);
    let hedge = || HedgeLayer::new(HedgeConfig::new(), ClassifyResult).unwrap();
    let layers = || (EventsLayer::new(sink.clone()), hedge().events(sink.clone()));
    Laws::new(Observed(sink.clone()), |inner| layers().layer(inner))
        .allocations()
        .await;
}

#[tokio::test(start_paused = true)]
async fn ev_09_a_rejection_with_receivers_does_not_allocate() {
    let sink = Events::from(|_: Event| {});
    let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap();
    let breaker = breaker.events(sink.clone());
    let _open = breaker.handle().force_open();
    let service = EventsLayer::new(sink.clone()).layer(breaker.layer(script().respond(1)));
    let request = || idempotent_request().events(sink.clone());
    service.clone().oneshot(request()).await.unwrap_err();
    let mut rejected = service;
    let allocated = allocation_counter::measure(|| {
        let result = rejected.call(request()).now_or_never();
        assert!(matches!(result, Some(Err(Fault::Refused(_)))));
    });
    assert_eq!(allocated.count_total, 0);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn ev_09_counting_does_not_allocate() {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower_fanout_layers::event::MetricsSink;

    let recorder = PrometheusBuilder::new().build_recorder();
    let sink = metrics::with_local_recorder(&recorder, || MetricsSink::new("users"));
    let sink = Events::from(sink);
    Laws::new(Observed(sink.clone()), |inner| observed_stack(&sink, inner))
        .allocations()
        .await;
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn ev_09_a_log_that_is_off_does_not_allocate() {
    use tower_fanout_layers::event::TracingSink;

    let sink = Events::from(TracingSink::new("users"));
    Laws::new(Observed(sink.clone()), |inner| observed_stack(&sink, inner))
        .allocations()
        .await;
}

/// The user's request allocates when a retry clones its headers and extensions.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn retry_of_http_allocates_only_to_clone_the_request() {
    use tower_fanout_layers::ClassifyHttp;
    use tower_fanout_testkit::laws::Http;

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

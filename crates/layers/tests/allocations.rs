//! Allocations per call: none of the layers' own, for a call that succeeds.
#![allow(missing_docs)]

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower::{Layer, Service, ServiceBuilder, service_fn, util::BoxCloneService};
use tower_fanout_layers::{
    BoxError, BreakerLayer, BreakerPolicy, ClassifyResult, ConcurrencyLayer, ConcurrencyPolicy,
    DeadlineLayer, FallbackLayer, HedgeLayer, HedgePolicy, RetryLayer, RetryPolicy, ThrottleLayer,
    ThrottlePolicy, TimeoutLayer, With,
};

type Request = With<u64>;

fn echo(request: Request) -> Ready<Result<u64, BoxError>> {
    ready(Ok(*request.get()))
}

/// How often a call allocates, after a first one that may.
fn allocations<S>(mut service: S) -> u64
where
    S: Service<Request, Response = u64, Error = BoxError>,
{
    let mut call = |number| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = pin!(service.call(With::new(number).idempotent()));
        match call.poll(&mut cx) {
            Poll::Ready(Ok(answer)) => assert_eq!(answer, number),
            _ => panic!("the call succeeds at once"),
        }
    };
    call(1);
    allocation_counter::measure(|| call(2)).count_total
}

#[tokio::test(start_paused = true)]
async fn no_layer_allocates_for_a_call_that_succeeds() {
    let retry = || RetryLayer::new(RetryPolicy::default(), ClassifyResult);
    let hedge = || HedgeLayer::new(HedgePolicy::default(), ClassifyResult);
    let breaker = || BreakerLayer::new("users", BreakerPolicy::default(), ClassifyResult);
    let throttle = || ThrottleLayer::new(ThrottlePolicy::default(), ClassifyResult);
    let limit = || ConcurrencyLayer::new(ConcurrencyPolicy::default());
    let fallback = || FallbackLayer::new(ClassifyResult).answer(1);
    let second = Duration::from_secs(1);
    let measured = [
        ("bare", allocations(service_fn(echo))),
        (
            "timeout",
            allocations(TimeoutLayer::new(second).layer(service_fn(echo))),
        ),
        (
            "deadline",
            allocations(DeadlineLayer::new(second).layer(service_fn(echo))),
        ),
        ("concurrency", allocations(limit().layer(service_fn(echo)))),
        ("retry", allocations(retry().layer(service_fn(echo)))),
        ("hedge", allocations(hedge().layer(service_fn(echo)))),
        ("breaker", allocations(breaker().layer(service_fn(echo)))),
        ("throttle", allocations(throttle().layer(service_fn(echo)))),
        ("fallback", allocations(fallback().layer(service_fn(echo)))),
        (
            "all of them",
            allocations(
                ServiceBuilder::new()
                    .layer(fallback())
                    .layer(DeadlineLayer::new(second))
                    .layer(retry())
                    .layer(breaker())
                    .layer(throttle())
                    .layer(limit())
                    .layer(TimeoutLayer::new(second))
                    .service(service_fn(echo)),
            ),
        ),
    ];
    assert!(
        measured.iter().all(|(_, count)| *count == 0),
        "{measured:?}"
    );
    // What boxes its future is seen to allocate.
    assert_eq!(allocations(BoxCloneService::new(service_fn(echo))), 1);
}

#[cfg(feature = "chaos")]
#[test]
fn ch_04_chaos_that_is_off_does_not_allocate() {
    use tower_fanout_layers::chaos::{ChaosLayer, ChaosPolicy};

    let make = |_| Err(BoxError::from("made up"));
    let layer = ChaosLayer::new(ChaosPolicy::default(), make);
    assert_eq!(allocations(layer.layer(service_fn(echo))), 0);
}

//! Tests of the concurrency limit against its statements.
#![allow(missing_docs)]

mod common;

use common::*;
use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, Event,
    Failure, Priority, Rejection, WithCall,
    breaker::State,
    concurrency::{Order, adaptive::AdaptiveConfig},
};

fn limit(max: u32, queue: u32) -> ConcurrencyLayer {
    ConcurrencyLayer::new(ConcurrencyConfig::new().max(max).queue(queue)).unwrap()
}

/// Returns `true` if no call runs or waits.
fn is_idle(layer: &ConcurrencyLayer) -> bool {
    (layer.in_flight(), layer.queued()) == (0, 0)
}

#[tokio::test(start_paused = true)]
async fn cl_01_rejects_the_call_above_the_limit() {
    let script = script().respond(1).after(ms(10));
    let layer = limit(3, 0);
    let service = layer.layer(script.clone());
    let results = join_all((0..4).map(|_| service.clone().oneshot(idempotent_request()))).await;
    assert_eq!(
        results,
        [
            Ok(1),
            Ok(1),
            Ok(1),
            Err(Fault::Refused(Rejection::AtCapacity))
        ]
    );
    assert_eq!((script.calls(), script.peak_in_flight()), (3, 3));
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_02_a_call_waits_at_most_max_wait() {
    for (busy, expected) in [
        (50, Ok(1)),
        (150, Err(Fault::Refused(Rejection::QueueTimeout))),
    ] {
        let layer = limit(1, 1);
        let service = layer.layer(script().respond(1).after(ms(busy)));
        let recorder = EventRecorder::default();
        let waiting = idempotent_request().events(recorder.events());
        let (_, (result, _)) = tokio::join!(
            service.clone().oneshot(idempotent_request()),
            timed(service.clone().oneshot(waiting))
        );
        assert_eq!(result, expected);
        let waited = match recorder.recorded()[..] {
            [Event::Queued, Event::PermitAcquired { waited }] => waited,
            [Event::Queued, Event::Rejected(Rejection::QueueTimeout)] => ms(100),
            ref other => panic!("{other:?}"),
        };
        assert_eq!(waited, ms(busy.min(100)));
        assert!(is_idle(&layer));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_early() {
    let layer = limit(1, 1);
    let service = layer.layer(script().hang());
    let (_, (result, elapsed)) = tokio::join!(
        timeout(ms(500), service.clone().oneshot(idempotent_request())),
        timed(service.clone().oneshot(request_within(ms(30))))
    );
    assert_eq!(result, Err(Fault::Refused(Rejection::QueueTimeout)));
    assert_eq!(elapsed, ms(30));
}

#[tokio::test(start_paused = true)]
async fn cl_03_a_dropped_waiter_frees_its_place() {
    let layer = limit(1, 2);
    let service = layer.layer(script().hang());
    let running = tokio::spawn(service.clone().oneshot(idempotent_request()));
    tokio::task::yield_now().await;
    assert!(
        timeout(ms(10), service.clone().oneshot(idempotent_request()))
            .await
            .is_err()
    );
    assert_eq!((layer.in_flight(), layer.queued()), (1, 0));
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_04_an_unused_permit_goes_to_the_next_waiter() {
    let layer = limit(1, 2);
    let mut service = layer.layer(script().respond(1).after(ms(10)));
    let first = service.call(idempotent_request());
    let (granted, next) = (
        service.call(idempotent_request()),
        service.call(idempotent_request()),
    );
    first.await.unwrap();
    // The second call was granted the permit, and is dropped before it is polled.
    drop(granted);
    assert_eq!(next.await, Ok(1));
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_05_a_dropped_call_returns_its_permit() {
    let layer = limit(1, 0);
    let service = layer.layer(script().hang().respond(1));
    timeout(ms(10), service.clone().oneshot(idempotent_request()))
        .await
        .unwrap_err();
    assert!(is_idle(&layer));
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

/// Makes calls with these names and levels. All but the first must wait. Returns the names in the
/// order of their permits.
async fn permit_order<const N: usize>(order: Order, queue: u32, calls: [(u32, u8); N]) -> Vec<u32> {
    let layer = ConcurrencyLayer::new(
        ConcurrencyConfig::new()
            .max(1)
            .queue(queue)
            .max_wait(ms(1_000))
            .order(order),
    )
    .unwrap();
    let script = Scripted::new().respond(1).after(ms(10));
    let mut service = layer.layer(script.clone());
    let calls = calls.map(|(name, level)| {
        service.call(WithCall::new(name).priority(Priority::new(level).unwrap()))
    });
    join_all(calls).await;
    let requests = script.requests();
    requests.iter().map(|request| *request.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn cl_09_calls_run_by_priority_and_then_by_arrival() {
    let calls = [(0, 0), (1, 1), (2, 9), (3, 1), (4, 9), (5, 5)];
    let order = permit_order(Order::Priority, 10, calls).await;
    assert_eq!(order, [0, 2, 4, 5, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn fifo_order_ignores_the_priority() {
    let calls = [(0, 0), (1, 1), (2, 9), (3, 5)];
    assert_eq!(permit_order(Order::Fifo, 10, calls).await, [0, 1, 2, 3]);
    // In a queue for one call, a higher level evicts the waiter by priority, but not in FIFO order.
    assert_eq!(permit_order(Order::Priority, 1, calls).await, [0, 2]);
    assert_eq!(permit_order(Order::Fifo, 1, calls).await, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn cl_07_a_reduced_limit_cancels_no_call() {
    let layer = limit(10, 1);
    let service = layer.layer(script().respond(1).after(ms(10)));
    let running: Vec<_> = (0..8)
        .map(|_| service.clone().oneshot(idempotent_request()))
        .collect();
    let mut running = Box::pin(join_all(running));
    assert!(futures_util::poll!(&mut running).is_pending());
    layer.set_limit(2);
    assert_eq!((layer.limit(), layer.in_flight()), (2, 8));
    assert_eq!(running.await, [Ok(1); 8]);
    layer.set_limit(0);
    assert_eq!(layer.limit(), 1, "a limit of zero counts as one");
}

#[tokio::test(start_paused = true)]
async fn cl_10_a_higher_priority_evicts_a_waiter() {
    let layer = limit(1, 1);
    let mut service = layer.layer(script().respond(1).after(ms(10)));
    let with_priority = |level| idempotent_request().priority(Priority::new(level).unwrap());
    let results = tokio::join!(
        service.call(with_priority(5)),
        service.call(with_priority(5)),
        service.call(with_priority(6)),
        service.call(with_priority(6)),
    );
    let rejected = |rejection| Err(Fault::Refused(rejection));
    let expected = (
        Ok(1),
        rejected(Rejection::Evicted),
        Ok(1),
        rejected(Rejection::AtCapacity),
    );
    assert_eq!(results, expected);
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_11_a_rejection_by_the_limit_is_no_failure_of_the_service() {
    let config = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    let service = breaker.layer(limit(1, 0).layer(script().respond(1).after(ms(10))));
    let calls = join_all((0..9).map(|_| service.clone().oneshot(idempotent_request()))).await;
    let rejected = calls.iter().filter(|result| result.is_err()).count();
    assert_eq!(rejected, 8);
    let snapshot = breaker.handle().snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.failed),
        (State::Closed, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn cl_12_rejects_a_call_that_would_wait_past_its_deadline() {
    let layer = ConcurrencyLayer::new(
        ConcurrencyConfig::new()
            .max(1)
            .queue(9)
            .max_wait(ms(10_000)),
    )
    .unwrap();
    let service = layer.layer(script().respond(1).after(ms(100)));
    // The duration of calls is not known yet, so the call waits until its deadline.
    let (_, (result, elapsed)) = tokio::join!(
        service.clone().oneshot(idempotent_request()),
        timed(service.clone().oneshot(request_within(ms(30))))
    );
    assert_eq!(result, Err(Fault::Refused(Rejection::QueueTimeout)));
    assert_eq!(elapsed, ms(30));
    let learn = (0..3).map(|_| service.clone().oneshot(idempotent_request()));
    assert_eq!(join_all(learn).await, [Ok(1); 3]);
    // One call runs and two wait, so this call would wait for at least 200 ms.
    let busy = (0..3).map(|_| service.clone().oneshot(idempotent_request()));
    let (busy, (hopeless, waited), urgent) = tokio::join!(
        join_all(busy),
        timed(service.clone().oneshot(request_within(ms(30)))),
        service
            .clone()
            .oneshot(request_within(ms(130)).priority(Priority::MAX)),
    );
    assert_eq!(busy, [Ok(1); 3]);
    assert_eq!(hopeless, Err(Fault::Refused(Rejection::QueueTimeout)));
    assert_eq!(waited, ms(0));
    assert_eq!(urgent, Ok(1), "no call is ahead of the highest priority");
    assert!(is_idle(&layer));
}

#[tokio::test]
async fn cl_13_a_panic_of_the_service_frees_the_permit() {
    let layer = limit(1, 0);
    let service = layer.layer(script().panic("on purpose").respond(1));
    let call = tokio::spawn(service.clone().oneshot(idempotent_request()));
    assert!(call.await.unwrap_err().is_panic());
    assert!(is_idle(&layer));
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

#[tokio::test]
async fn cl_13_a_caught_panic_frees_the_permit_of_a_kept_call() {
    let layer = limit(1, 0);
    let mut call = layer
        .layer(script().panic("on purpose"))
        .oneshot(idempotent_request())
        .boxed();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let poll = std::panic::AssertUnwindSafe(|| call.poll_unpin(&mut cx));
    assert!(std::panic::catch_unwind(poll).is_err());
    assert!(is_idle(&layer));
}

#[tokio::test]
async fn cl_14_poll_ready_reserves_no_permit() {
    let layer = limit(1, 0);
    let mut one = layer.layer(script().respond(1));
    let mut other = one.clone();
    ServiceExt::<Request>::ready(&mut one).await.unwrap();
    ServiceExt::<Request>::ready(&mut other).await.unwrap();
    assert!(is_idle(&layer));
    assert_eq!(other.call(idempotent_request()).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cl_15_ten_thousand_cancelled_calls_leak_no_permit() {
    let layer = limit(3, 20);
    let (running, peak) = (Default::default(), Default::default());
    let counts: std::sync::Arc<(std::sync::atomic::AtomicU32, std::sync::atomic::AtomicU32)> =
        std::sync::Arc::new((running, peak));
    let inner = {
        let counts = counts.clone();
        service_fn(move |polls: u32| {
            let counts = counts.clone();
            async move {
                use std::sync::atomic::Ordering::SeqCst;
                struct DecrementOnDrop<'c>(&'c std::sync::atomic::AtomicU32);
                impl Drop for DecrementOnDrop<'_> {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, SeqCst);
                    }
                }
                let now = counts.0.fetch_add(1, SeqCst) + 1;
                let _in_flight = DecrementOnDrop(&counts.0);
                counts.1.fetch_max(now, SeqCst);
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
                Ok::<_, Fault>(())
            }
        })
    };
    let service = layer.layer(inner);
    let tasks = (0..10_000u32).map(|number| {
        let call = service.clone().oneshot(number % 5);
        tokio::spawn(async move {
            let mut call = Box::pin(call);
            // Each call is polled a few times, and then dropped in its current state.
            for _ in 0..number % 7 {
                if futures_util::poll!(&mut call).is_ready() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await;
    assert!(is_idle(&layer), "{layer:?}");
    let peak = counts.1.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=3).contains(&peak), "{peak}");
}

/// An adaptive limit that starts at 20 concurrent calls.
fn adaptive() -> ConcurrencyLayer {
    let config = ConcurrencyConfig::new().adaptive(AdaptiveConfig::new());
    ConcurrencyLayer::new(config).unwrap()
}

/// Makes batches of 20 concurrent calls for `seconds`. The service behaves as `script`.
async fn busy(layer: &ConcurrencyLayer, script: Scripted, seconds: u32) {
    let service = layer.layer(script);
    let start = Instant::now();
    while start.elapsed() < ms(1_000) * seconds {
        let calls = (0..20).map(|_| service.clone().oneshot(idempotent_request()));
        join_all(calls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cl_18_an_adaptive_limit_falls_while_all_calls_time_out() {
    let layer = adaptive();
    busy(&layer, script().respond(1).after(ms(10)), 1).await;
    let before = layer.limit();
    let timeout = script().fail(Fault::Failed(Failure::AttemptTimeout));
    busy(&layer, timeout.after(ms(10)), 10).await;
    let after = layer.limit();
    assert!(after < before / 2, "{before} then {after}");
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_19_an_adaptive_limit_ignores_cancelled_calls() {
    let layer = adaptive();
    let service = layer.layer(script().hang());
    for _ in 0..1_000 {
        let call = timeout(ms(20), service.clone().oneshot(idempotent_request()));
        call.await.unwrap_err();
    }
    assert_eq!(layer.limit(), 20);
    assert!(is_idle(&layer));
}

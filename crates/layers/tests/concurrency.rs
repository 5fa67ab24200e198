//! The concurrency limit against its statements.
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

/// Nothing runs and nothing waits.
fn is_idle(layer: &ConcurrencyLayer) -> bool {
    (layer.in_flight(), layer.queued()) == (0, 0)
}

#[tokio::test(start_paused = true)]
async fn cl_01_one_more_than_the_limit_is_refused() {
    let script = script().respond(1).after(ms(10));
    let layer = limit(3, 0);
    let service = layer.layer(script.clone());
    let results = join_all((0..4).map(|_| service.clone().oneshot(ask()))).await;
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
async fn cl_02_a_call_waits_for_its_turn_but_not_for_ever() {
    for (busy, expected) in [
        (50, Ok(1)),
        (150, Err(Fault::Refused(Rejection::QueueTimeout))),
    ] {
        let layer = limit(1, 1);
        let service = layer.layer(script().respond(1).after(ms(busy)));
        let ear = Ear::default();
        let waiting = ask().events(ear.events());
        let (_, (result, _)) = tokio::join!(
            service.clone().oneshot(ask()),
            timed(service.clone().oneshot(waiting))
        );
        assert_eq!(result, expected);
        let waited = match ear.heard()[..] {
            [Event::PermitAcquired { waited }] => waited,
            [Event::Rejected(Rejection::QueueTimeout)] => ms(100),
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
        timeout(ms(500), service.clone().oneshot(ask())),
        timed(service.clone().oneshot(ask_within(ms(30))))
    );
    assert_eq!(result, Err(Fault::Refused(Rejection::QueueTimeout)));
    assert_eq!(elapsed, ms(30));
}

#[tokio::test(start_paused = true)]
async fn cl_03_a_waiter_that_goes_away_leaves_its_place() {
    let layer = limit(1, 2);
    let service = layer.layer(script().hang());
    let running = tokio::spawn(service.clone().oneshot(ask()));
    tokio::task::yield_now().await;
    assert!(
        timeout(ms(10), service.clone().oneshot(ask()))
            .await
            .is_err()
    );
    assert_eq!((layer.in_flight(), layer.queued()), (1, 0));
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_04_a_turn_that_nobody_takes_goes_to_the_next() {
    let layer = limit(1, 2);
    let mut service = layer.layer(script().respond(1).after(ms(10)));
    let first = service.call(ask());
    let (granted, next) = (service.call(ask()), service.call(ask()));
    first.await.unwrap();
    // The second was granted the turn, and is dropped before it is polled.
    drop(granted);
    assert_eq!(next.await, Ok(1));
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_05_a_call_that_is_dropped_gives_its_permit_back() {
    let layer = limit(1, 0);
    let service = layer.layer(script().hang().respond(1));
    timeout(ms(10), service.clone().oneshot(ask()))
        .await
        .unwrap_err();
    assert!(is_idle(&layer));
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

/// The names of calls of these names and levels, in the order of their turns; all but the first
/// wait.
async fn turns<const N: usize>(order: Order, queue: u32, calls: [(u32, u8); N]) -> Vec<u32> {
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
async fn cl_09_turns_go_by_priority_and_then_by_arrival() {
    let calls = [(0, 0), (1, 1), (2, 9), (3, 1), (4, 9), (5, 5)];
    let order = turns(Order::Priority, 10, calls).await;
    assert_eq!(order, [0, 2, 4, 5, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn turns_may_go_by_arrival_alone() {
    let calls = [(0, 0), (1, 1), (2, 9), (3, 5)];
    assert_eq!(turns(Order::Fifo, 10, calls).await, [0, 1, 2, 3]);
    // In a queue for one the most important call takes the place of the first, or does not.
    assert_eq!(turns(Order::Priority, 1, calls).await, [0, 2]);
    assert_eq!(turns(Order::Fifo, 1, calls).await, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn cl_07_a_limit_shrinks_without_stopping_anybody() {
    let layer = limit(10, 1);
    let service = layer.layer(script().respond(1).after(ms(10)));
    let running: Vec<_> = (0..8).map(|_| service.clone().oneshot(ask())).collect();
    let mut running = Box::pin(join_all(running));
    assert!(futures_util::poll!(&mut running).is_pending());
    layer.set_limit(2);
    assert_eq!((layer.limit(), layer.in_flight()), (2, 8));
    assert_eq!(running.await, [Ok(1); 8]);
    layer.set_limit(0);
    assert_eq!(layer.limit(), 1, "nothing could ever run under none");
}

#[tokio::test(start_paused = true)]
async fn cl_10_an_important_call_takes_the_place_of_another() {
    let layer = limit(1, 1);
    let mut service = layer.layer(script().respond(1).after(ms(10)));
    let ranked = |level| ask().priority(Priority::new(level).unwrap());
    let results = tokio::join!(
        service.call(ranked(5)),
        service.call(ranked(5)),
        service.call(ranked(6)),
        service.call(ranked(6)),
    );
    let refused = |rejection| Err(Fault::Refused(rejection));
    let expected = (
        Ok(1),
        refused(Rejection::Evicted),
        Ok(1),
        refused(Rejection::AtCapacity),
    );
    assert_eq!(results, expected);
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_11_a_refusal_for_want_of_room_is_no_failure_of_the_service() {
    let policy = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::new("team", policy, ClassifyResult).unwrap();
    let service = breaker.layer(limit(1, 0).layer(script().respond(1).after(ms(10))));
    let calls = join_all((0..9).map(|_| service.clone().oneshot(ask()))).await;
    let refused = calls.iter().filter(|result| result.is_err()).count();
    assert_eq!(refused, 8);
    let seen = breaker.handle().snapshot();
    assert_eq!((seen.state, seen.calls, seen.failed), (State::Closed, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn cl_12_who_would_wait_past_its_deadline_is_refused_at_once() {
    let layer = ConcurrencyLayer::new(
        ConcurrencyConfig::new()
            .max(1)
            .queue(9)
            .max_wait(ms(10_000)),
    )
    .unwrap();
    let service = layer.layer(script().respond(1).after(ms(100)));
    // Nothing is known yet of how long calls take: it waits until its deadline.
    let (_, (result, elapsed)) = tokio::join!(
        service.clone().oneshot(ask()),
        timed(service.clone().oneshot(ask_within(ms(30))))
    );
    assert_eq!(result, Err(Fault::Refused(Rejection::QueueTimeout)));
    assert_eq!(elapsed, ms(30));
    let learn = (0..3).map(|_| service.clone().oneshot(ask()));
    assert_eq!(join_all(learn).await, [Ok(1); 3]);
    // One runs and two wait, so this one would wait for 200 ms and more.
    let busy = (0..3).map(|_| service.clone().oneshot(ask()));
    let (busy, (late, waited), urgent) = tokio::join!(
        join_all(busy),
        timed(service.clone().oneshot(ask_within(ms(30)))),
        service
            .clone()
            .oneshot(ask_within(ms(130)).priority(Priority::MAX)),
    );
    assert_eq!(busy, [Ok(1); 3]);
    assert_eq!(late, Err(Fault::Refused(Rejection::QueueTimeout)));
    assert_eq!(waited, ms(0));
    assert_eq!(urgent, Ok(1), "nobody is ahead of the most important");
    assert!(is_idle(&layer));
}

#[tokio::test]
async fn cl_13_a_panic_of_the_service_frees_its_permit() {
    let layer = limit(1, 0);
    let service = layer.layer(script().panic("as told").respond(1));
    let call = tokio::spawn(service.clone().oneshot(ask()));
    assert!(call.await.unwrap_err().is_panic());
    assert!(is_idle(&layer));
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

#[tokio::test]
async fn cl_13_a_permit_is_free_even_if_the_panic_is_caught_and_the_call_kept() {
    let layer = limit(1, 0);
    let mut call = layer
        .layer(script().panic("as told"))
        .oneshot(ask())
        .boxed();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let poll = std::panic::AssertUnwindSafe(|| call.poll_unpin(&mut cx));
    assert!(std::panic::catch_unwind(poll).is_err());
    assert!(is_idle(&layer));
}

#[tokio::test]
async fn cl_14_asking_for_readiness_reserves_nothing() {
    let layer = limit(1, 0);
    let mut one = layer.layer(script().respond(1));
    let mut other = one.clone();
    ServiceExt::<Request>::ready(&mut one).await.unwrap();
    ServiceExt::<Request>::ready(&mut other).await.unwrap();
    assert!(is_idle(&layer));
    assert_eq!(other.call(ask()).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cl_15_ten_thousand_calls_that_come_and_go_leave_nothing() {
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
                struct Leave<'c>(&'c std::sync::atomic::AtomicU32);
                impl Drop for Leave<'_> {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, SeqCst);
                    }
                }
                let now = counts.0.fetch_add(1, SeqCst) + 1;
                let _leave = Leave(&counts.0);
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
            // Each is polled a few times, and then dropped wherever it stands.
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

/// A limit that follows the service, from 20 calls at once.
fn adaptive() -> ConcurrencyLayer {
    let policy = ConcurrencyConfig::new().adaptive(AdaptiveConfig::new());
    ConcurrencyLayer::new(policy).unwrap()
}

/// Seconds of 20 calls at once that the service answers as `script` says.
async fn busy(layer: &ConcurrencyLayer, script: Scripted, seconds: u32) {
    let service = layer.layer(script);
    let start = Instant::now();
    while start.elapsed() < ms(1_000) * seconds {
        let calls = (0..20).map(|_| service.clone().oneshot(ask()));
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
async fn cl_19_an_adaptive_limit_learns_nothing_from_callers_that_leave() {
    let layer = adaptive();
    let service = layer.layer(script().hang());
    for _ in 0..1_000 {
        let call = timeout(ms(20), service.clone().oneshot(ask()));
        call.await.unwrap_err();
    }
    assert_eq!(layer.limit(), 20);
    assert!(is_idle(&layer));
}

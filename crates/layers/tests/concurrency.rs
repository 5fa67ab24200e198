//! The concurrency limit against its statements.
#![allow(missing_docs)]

mod common;

use common::*;
use futures_util::future::join_all;
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{ConcurrencyLayer, ConcurrencyPolicy, Event, Priority, Reject, With};

fn limit(max: u32, queue: u32) -> ConcurrencyLayer {
    ConcurrencyLayer::new(
        ConcurrencyPolicy::build(|limit| {
            (limit.max, limit.queue) = (max, queue);
        })
        .unwrap(),
    )
}

/// Nothing runs and nothing waits.
fn is_idle(layer: &ConcurrencyLayer) -> bool {
    (layer.in_flight(), layer.queued()) == (0, 0)
}

#[tokio::test(start_paused = true)]
async fn cl_01_one_more_than_the_limit_is_refused() {
    let script = script().ok(1).after(ms(10));
    let layer = limit(3, 0);
    let service = layer.layer(script.clone());
    let results = join_all((0..4).map(|_| service.clone().oneshot(ask()))).await;
    assert_eq!(
        results,
        [Ok(1), Ok(1), Ok(1), Err(Fault::Refused(Reject::AtCapacity))]
    );
    assert_eq!((script.calls(), script.peak_in_flight()), (3, 3));
    assert!(is_idle(&layer));
}

#[tokio::test(start_paused = true)]
async fn cl_02_a_call_waits_for_its_turn_but_not_for_ever() {
    for (busy, expected) in [
        (50, Ok(1)),
        (150, Err(Fault::Refused(Reject::QueueTimeout))),
    ] {
        let layer = limit(1, 1);
        let service = layer.layer(script().ok(1).after(ms(busy)));
        let ear = Ear::default();
        let waiting = ask().observer(ear.observer());
        let (_, (result, _)) = tokio::join!(
            service.clone().oneshot(ask()),
            timed(service.clone().oneshot(waiting))
        );
        assert_eq!(result, expected);
        let waited = match ear.heard()[..] {
            [Event::Admitted { waited }] => waited,
            [Event::Rejected(Reject::QueueTimeout)] => ms(100),
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
    assert_eq!(result, Err(Fault::Refused(Reject::QueueTimeout)));
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
    let mut service = layer.layer(script().ok(1).after(ms(10)));
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
    let service = layer.layer(script().hang().ok(1));
    timeout(ms(10), service.clone().oneshot(ask()))
        .await
        .unwrap_err();
    assert!(is_idle(&layer));
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn cl_09_turns_go_by_priority_and_then_by_arrival() {
    let layer = ConcurrencyLayer::new(
        ConcurrencyPolicy::build(|limit| {
            (limit.max, limit.queue, limit.max_wait) = (1, 10, ms(1_000));
        })
        .unwrap(),
    );
    let script = Scripted::new().ok(1).after(ms(10));
    let mut service = layer.layer(script.clone());
    let calls = [(0, 0), (1, 1), (2, 9), (3, 1), (4, 9), (5, 5)];
    let calls = calls
        .map(|(name, level)| service.call(With::new(name).priority(Priority::new(level).unwrap())));
    join_all(calls).await;
    let order: Vec<_> = script
        .requests()
        .iter()
        .map(|request| *request.get())
        .collect();
    assert_eq!(order, [0, 2, 4, 5, 1, 3]);
}

#[tokio::test]
async fn cl_13_a_panic_of_the_service_frees_its_permit() {
    let layer = limit(1, 0);
    let service = layer.layer(script().panic("as told").ok(1));
    let call = tokio::spawn(service.clone().oneshot(ask()));
    assert!(call.await.unwrap_err().is_panic());
    assert!(is_idle(&layer));
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

#[tokio::test]
async fn cl_14_asking_for_readiness_reserves_nothing() {
    let layer = limit(1, 0);
    let mut one = layer.layer(script().ok(1));
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

//! Tests of the hedging statements (HG).
#![allow(missing_docs)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use common::*;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallContext, Cause, Class, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, Deadline, DeadlineLayer, Event, Failure, HedgeLayer, Rejection, WithCall,
    breaker::{State, Window},
    hedge::{HedgeConfig, HedgeDelay, Quantile},
};

fn hedge(edit: impl FnOnce(&mut HedgeConfig)) -> HedgeLayer<ClassifyResult> {
    let mut config = HedgeConfig::new().delay(HedgeDelay::Fixed(ms(50)));
    edit(&mut config);
    HedgeLayer::new(config, ClassifyResult).unwrap()
}

const UNAVAILABLE: Fault = Fault::Failed(Failure::Status {
    code: 503,
    retry_after: None,
});

/// Returns the times of the calls, relative to the first.
fn times(script: &Scripted) -> Vec<Duration> {
    let starts = script.call_times();
    starts.iter().map(|start| *start - starts[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn hg_01_a_fast_primary_is_the_only_call() {
    let script = script().respond(1).after(ms(49));
    let call = hedge(|_| {})
        .layer(script.clone())
        .oneshot(idempotent_request());
    assert_eq!(timed(call).await, (Ok(1), ms(49)));
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn hg_02_a_slow_primary_loses_to_the_hedge_and_is_dropped_at_once() {
    let script = script().hang().respond(2).after(ms(5));
    let recorder = EventRecorder::default();
    let call = hedge(|_| {})
        .layer(script.clone())
        .oneshot(idempotent_request().events(recorder.events()));
    assert_eq!(timed(call).await, (Ok(2), ms(55)));
    assert_eq!(
        (script.calls(), script.cancelled(), script.in_flight()),
        (2, 1, 0)
    );
    assert!(recorder.recorded().contains(&Event::Hedge { number: 2 }));
}

#[tokio::test(start_paused = true)]
async fn hg_03_a_failure_starts_the_hedge_at_once() {
    let script = script().fail(UNAVAILABLE).after(ms(5)).respond(2);
    let layer = hedge(|hedge| hedge.delay = HedgeDelay::Fixed(ms(1_000)));
    let call = layer.layer(script.clone()).oneshot(idempotent_request());
    assert_eq!(timed(call).await, (Ok(2), ms(5)));
    assert_eq!(times(&script), [0, 5].map(ms));
}

#[tokio::test(start_paused = true)]
async fn hg_04_delay_zero_sends_all_at_once_and_never_is_sequential() {
    for (delay, expected) in [
        (HedgeDelay::Fixed(ms(0)), [0, 0, 0, 0]),
        (HedgeDelay::Fixed(ms(30)), [0, 30, 60, 90]),
        (HedgeDelay::Never, [0, 100, 200, 300]),
    ] {
        let script = script().fail(UNAVAILABLE).after(ms(100));
        let layer = hedge(|hedge| {
            hedge.delay = delay;
            hedge.max_hedges = 3;
        });
        let result = layer
            .layer(script.clone())
            .oneshot(idempotent_request())
            .await;
        assert_eq!(
            (result, times(&script)),
            (Err(UNAVAILABLE), expected.map(ms).to_vec())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn hg_05_if_all_fail_the_failure_of_the_primary_is_returned() {
    let script = script().fail(UNAVAILABLE).after(ms(500)).fail(BROKEN);
    let call = hedge(|_| {})
        .layer(script.clone())
        .oneshot(idempotent_request());
    assert_eq!(timed(call).await, (Err(UNAVAILABLE), ms(500)));
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn hg_06_a_fatal_response_starts_no_hedge() {
    let fatal = Fault::Failed(Failure::Protocol);
    let alone = script().fail(fatal);
    let result = hedge(|_| {})
        .layer(alone.clone())
        .oneshot(idempotent_request())
        .await;
    assert_eq!((result, alone.calls()), (Err(fatal), 1));

    let beside = script().hang().fail(fatal);
    let call = hedge(|_| {})
        .layer(beside.clone())
        .oneshot(idempotent_request());
    assert_eq!(timed(call).await, (Err(fatal), ms(50)));
    assert_eq!(beside.cancelled(), 1);
}

#[tokio::test(start_paused = true)]
async fn hg_07_with_an_empty_budget_the_primary_is_awaited() {
    let script = script().respond(1).after(ms(500));
    let layer = hedge(|hedge| {
        hedge.budget.ratio = 0.0;
        hedge.budget.min_per_sec = 0.1;
    });
    for calls in [2, 3, 4] {
        let call = layer.layer(script.clone()).oneshot(idempotent_request());
        assert_eq!(timed(call).await, (Ok(1), ms(500)));
        assert_eq!(script.calls(), calls, "the budget allows one hedge");
    }
}

#[tokio::test(start_paused = true)]
async fn hg_08_the_delay_is_learned_from_a_hundred_samples() {
    let script = script()
        .respond(1)
        .after(ms(10))
        .times(100)
        .hang()
        .respond(2);
    let layer = hedge(|hedge| {
        hedge.delay = HedgeDelay::Quantile(Quantile::default());
    });
    let service = layer.layer(script.clone());
    for _ in 0..99 {
        service.clone().oneshot(idempotent_request()).await.unwrap();
    }
    // The hundredth call is slower than all others, but there are only 99 samples yet.
    assert_eq!(service.clone().oneshot(idempotent_request()).await, Ok(1));
    assert_eq!(script.calls(), 100);
    let (result, elapsed) = timed(service.oneshot(idempotent_request())).await;
    assert_eq!(result, Ok(2));
    assert!((ms(10)..=ms(11)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn hg_09_only_idempotent_requests_are_hedged() {
    let script = script().respond(1).after(ms(500));
    let call = hedge(|_| {})
        .layer(script.clone())
        .oneshot(WithCall::new(0));
    assert_eq!(call.await, Ok(1));
    assert_eq!(script.calls(), 1);
    let layer = hedge(|hedge| hedge.idempotent = true);
    assert_eq!(
        layer.layer(script.clone()).oneshot(WithCall::new(0)).await,
        Ok(1)
    );
    assert_eq!(script.calls(), 3);
}

/// Returns the classes and elapsed times of all `AttemptEnded` events.
fn ended(recorder: &EventRecorder) -> Vec<(Class, Duration)> {
    let ended = recorder
        .recorded()
        .into_iter()
        .filter_map(|event| match event {
            Event::AttemptEnded { class, elapsed } => Some((class, elapsed)),
            _ => None,
        });
    ended.collect()
}

#[tokio::test(start_paused = true)]
async fn fault_g18_hg_10_the_loser_is_neutral_and_frees_its_permit() {
    let config = BreakerConfig::new()
        .window(Window::Count(1))
        .min_calls(1)
        .unanswered(ms(500));
    let breaker = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let script = script().hang().respond(2);
    let service = hedge(|_| {}).layer(breaker.layer(limit.layer(script)));
    let recorder = EventRecorder::default();
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!(result, Ok(2));
    // Each attempt is reported once: the winner first, then the loser.
    let lost = Class::Unanswered {
        elapsed: ms(50),
        cause: Cause::HedgeLost,
    };
    assert_eq!(ended(&recorder), [(Class::Success, ms(0)), (lost, ms(50))]);
    let seen = breaker.handle().snapshot();
    assert_eq!((seen.state, seen.calls, seen.failed), (State::Closed, 1, 0));
    assert_eq!(limit.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn hg_10_losers_are_reported_whichever_attempt_wins() {
    let script = script().respond(1).after(ms(120)).hang();
    let recorder = EventRecorder::default();
    let layer = hedge(|hedge| hedge.max_hedges = 2);
    let call = layer
        .layer(script)
        .oneshot(idempotent_request().events(recorder.events()));
    assert_eq!(call.await, Ok(1));
    let lost = |elapsed| {
        let cause = Cause::HedgeLost;
        (Class::Unanswered { elapsed, cause }, elapsed)
    };
    let won = (Class::Success, ms(120));
    assert_eq!(ended(&recorder), [won, lost(ms(70)), lost(ms(20))]);

    // A call that is dropped has no winner, so no attempt is reported as a loser.
    let recorder = EventRecorder::default();
    let service = DeadlineLayer::new(ms(80))
        .unwrap()
        .layer(layer.layer(common::script().hang()));
    let call = service.oneshot(idempotent_request().events(recorder.events()));
    assert_eq!(call.await, Err(Fault::Refused(Rejection::Deadline)));
    assert_eq!(ended(&recorder), []);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_hedge_is_not_a_failure_and_costs_nothing() {
    let limit = ConcurrencyConfig::new().max(1);
    let limit = ConcurrencyLayer::new(limit).unwrap();
    let script = script().respond(1).after(ms(200));
    let layer = hedge(|hedge| {
        hedge.budget.ratio = 0.0;
        hedge.budget.min_per_sec = 0.1;
    });
    for _ in 0..3 {
        let recorder = EventRecorder::default();
        let request = idempotent_request().events(recorder.events());
        let service = layer.layer(limit.layer(script.clone()));
        assert_eq!(service.oneshot(request).await, Ok(1));
        let refused = Event::Rejected(Rejection::AtCapacity);
        assert!(
            recorder.recorded().contains(&refused),
            "the refunded budget allows one hedge"
        );
    }
    assert_eq!(script.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_queues_up_to_max_wait_which_defaults_to_zero() {
    let limit = ConcurrencyConfig::new().max(1).queue(9).max_wait(ms(1_000));
    let limit = ConcurrencyLayer::new(limit).unwrap();
    for (max_wait, recorded) in [
        (ms(0), Event::Rejected(Rejection::AtCapacity)),
        (ms(20), Event::Rejected(Rejection::QueueTimeout)),
    ] {
        let script = script().respond(1).after(ms(200));
        let recorder = EventRecorder::default();
        let service = hedge(|hedge| hedge.max_wait = max_wait).layer(limit.layer(script.clone()));
        let call = timed(service.oneshot(idempotent_request().events(recorder.events())));
        assert_eq!(call.await, (Ok(1), ms(200)));
        assert!(recorder.recorded().contains(&recorded), "{max_wait:?}");
        assert_eq!(script.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hg_11_the_response_of_the_winner_outlives_the_losers() {
    let answer = Arc::new(());
    let kept = Arc::clone(&answer);
    let service = tower::service_fn(move |request: Request| {
        let answer = Arc::clone(&kept);
        let late = tower_fanout_layers::CallContext::call(&request).attempt == 1;
        async move {
            if late {
                std::future::pending::<()>().await;
            }
            Ok::<_, Fault>(answer)
        }
    });
    let won = hedge(|_| {})
        .layer(service)
        .oneshot(idempotent_request())
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&won, &answer));
}

#[tokio::test(start_paused = true)]
async fn hg_12_the_deadline_ends_all_attempts() {
    let script = script().hang();
    let layer = hedge(|hedge| hedge.max_hedges = 3);
    let service = DeadlineLayer::new(ms(120))
        .unwrap()
        .layer(layer.layer(script.clone()));
    let call = service.oneshot(idempotent_request());
    assert_eq!(
        timed(call).await,
        (Err(Fault::Refused(Rejection::Deadline)), ms(120))
    );
    assert_eq!((script.calls(), script.cancelled()), (3, 3));

    // With less than 10 ms left, nothing is sent.
    let script = common::script().hang();
    let service = hedge(|_| {}).layer(script.clone());
    let deadline = Deadline::at(tokio::time::Instant::now() + ms(59));
    let call = tokio::time::timeout(
        ms(59),
        service.oneshot(idempotent_request().deadline(deadline)),
    );
    assert!(call.await.is_err());
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn hg_13_a_hedge_uses_another_endpoint_if_there_is_one() {
    let (service, called) = two_endpoints(|endpoint| Ok(endpoint as u32));
    let call = hedge(|_| {}).layer(service).oneshot(idempotent_request());
    assert_eq!(timed(call).await, (Ok(1), ms(51)));
    assert_eq!(called.get(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn hg_14_dropping_the_caller_drops_all_attempts() {
    let script = script().hang();
    let layer = hedge(|hedge| hedge.max_hedges = 3);
    let call = layer.layer(script.clone()).oneshot(idempotent_request());
    tokio::time::timeout(ms(101), call).await.unwrap_err();
    assert_eq!(
        (script.calls(), script.cancelled(), script.in_flight()),
        (3, 3, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_requested_pause_no_other_failure_is_hedged() {
    let pushback = Fault::Failed(Failure::Status {
        code: 503,
        retry_after: Some(ms(1_000)),
    });
    let script = script()
        .fail(UNAVAILABLE)
        .after(ms(80))
        .fail(pushback)
        .respond(3);
    let layer = hedge(|hedge| hedge.max_hedges = 3);
    let call = layer.layer(script.clone()).oneshot(idempotent_request());
    assert_eq!(timed(call).await, (Err(UNAVAILABLE), ms(80)));
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_and_a_requested_pause_stop_hedging() {
    let pushback = Fault::Failed(Failure::Status {
        code: 503,
        retry_after: Some(ms(1_000)),
    });
    let script = script().fail(pushback).respond(2);
    let result = hedge(|_| {})
        .layer(script.clone())
        .oneshot(idempotent_request())
        .await;
    assert_eq!((result, script.calls()), (Err(pushback), 1));

    let breaker = BreakerLayer::new("team", BreakerConfig::new(), ClassifyResult).unwrap();
    let handle = breaker.handle().clone();
    let _held = handle.force_open();
    let script = common::script().respond(1).after(ms(100));
    let layer = hedge(|_| {}).breaker(handle);
    assert_eq!(
        layer
            .layer(script.clone())
            .oneshot(idempotent_request())
            .await,
        Ok(1)
    );
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_hedge_can_be_sent_again() {
    let config = HedgeConfig::new().delay(HedgeDelay::Fixed(ms(20)));
    let calls = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |_: Request| {
        let number = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            match number {
                0 => {
                    sleep(ms(50)).await;
                    Err(BROKEN)
                }
                1 => Err(Fault::Refused(Rejection::AtCapacity)),
                _ => Ok(5),
            }
        }
    });
    let hedge = HedgeLayer::new(config, ClassifyResult).unwrap();
    assert_eq!(
        hedge.layer(service).oneshot(idempotent_request()).await,
        Ok(5)
    );
}

#[tokio::test(start_paused = true)]
async fn hg_15_a_rejected_primary_leaves_the_call_to_its_hedge() {
    for (hedged, ended) in [(Ok(5), Ok(5)), (Err(BROKEN), Err(BROKEN))] {
        let calls = Arc::new(AtomicU32::new(0));
        let service = service_fn(move |_: Request| {
            let number = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                match number {
                    0 => {
                        sleep(ms(100)).await;
                        Err(Fault::Refused(Rejection::QueueTimeout))
                    }
                    _ => {
                        sleep(ms(100)).await;
                        hedged
                    }
                }
            }
        });
        let service = hedge(|_| {}).layer(service);
        assert_eq!(service.oneshot(idempotent_request()).await, ended);
    }
}

#[tokio::test(start_paused = true)]
async fn hg_15_the_failure_of_a_hedge_outlasts_a_later_rejection() {
    let service = service_fn(|request: Request| async move {
        let (time, fault) = match request.call().attempt {
            1 => (ms(500), Fault::Refused(Rejection::QueueTimeout)),
            _ => (ms(1), BROKEN),
        };
        sleep(time).await;
        Err::<u32, _>(fault)
    });
    let service = hedge(|hedge| hedge.max_hedges = 1).layer(service);
    let (result, elapsed) = timed(service.oneshot(idempotent_request())).await;
    assert_eq!((result, elapsed), (Err(BROKEN), ms(500)));
}

#[tokio::test(start_paused = true)]
async fn hg_15_the_failure_of_a_hedge_replaces_a_rejection_that_is_hedged() {
    let script = script()
        .fail(Fault::Refused(Rejection::NoEndpoint))
        .fail(BROKEN);
    let service = hedge(|hedge| hedge.max_hedges = 1).layer(script);
    assert_eq!(service.oneshot(idempotent_request()).await, Err(BROKEN));
}

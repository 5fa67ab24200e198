//! Chaos against its statements.
#![cfg(feature = "chaos")]
#![allow(missing_docs)]

mod common;

use std::{f64, time::Duration};

use common::*;
use futures_util::poll;
use tower::{Layer, ServiceExt};
use tower_fanout_layers::{
    BreakerLayer, BreakerPolicy, ClassifyResult, Event, Failure, Reject, RetryLayer, RetryPolicy,
    TimeoutLayer,
    chaos::{ChaosLayer, ChaosPolicy, Injection, Rule},
};

type Make = fn(Injection) -> Result<u32, Fault>;

fn make(injected: Injection) -> Result<u32, Fault> {
    match injected {
        Injection::Error(failure) => Err(Fault::Failed(failure)),
        Injection::Status(status) => Ok(u32::from(status)),
        other => unreachable!("{other:?} has nothing to make"),
    }
}

fn chaos(rules: &[(f64, Injection)]) -> ChaosLayer<Make> {
    let policy = ChaosPolicy::build(|chaos| {
        chaos.enabled = true;
        chaos.seed = Some(7);
        let rule = |(rate, inject): &(f64, Injection)| Rule {
            rate: *rate,
            inject: *inject,
        };
        chaos.rules = rules.iter().map(rule).collect();
    });
    ChaosLayer::new(policy.unwrap(), make)
}

const RESET: Injection = Injection::Error(Failure::Reset);

/// Which of `count` calls failed.
async fn failures(layer: &ChaosLayer<Make>, count: usize) -> Vec<bool> {
    let service = layer.layer(script().ok(1));
    let mut failed = Vec::new();
    for _ in 0..count {
        failed.push(service.clone().oneshot(ask()).await.is_err());
    }
    failed
}

fn share(failed: &[bool]) -> f64 {
    failed.iter().filter(|failed| **failed).count() as f64 / failed.len() as f64
}

#[tokio::test(start_paused = true)]
async fn ch_01_a_rate_of_zero_is_never_and_of_one_always() {
    assert_eq!(share(&failures(&chaos(&[(0.0, RESET)]), 1_000).await), 0.0);
    assert_eq!(share(&failures(&chaos(&[(1.0, RESET)]), 1_000).await), 1.0);
    let some = share(&failures(&chaos(&[(0.3, RESET)]), 10_000).await);
    assert!((0.28..0.32).contains(&some), "{some}");
}

#[tokio::test(start_paused = true)]
async fn ch_02_a_seed_makes_a_run_repeatable() {
    let run = async || failures(&chaos(&[(0.5, RESET)]), 100).await;
    assert_eq!(run().await, run().await);
    let unseeded = async || {
        let policy = ChaosPolicy::build(|chaos| {
            chaos.enabled = true;
            chaos.rules = vec![Rule {
                rate: 0.5,
                inject: RESET,
            }];
        });
        failures(&ChaosLayer::new(policy.unwrap(), make), 100).await
    };
    assert_ne!(unseeded().await, unseeded().await);
}

#[tokio::test(start_paused = true)]
async fn ch_03_a_hang_is_timed_out_tried_again_and_counted() {
    let breaker = BreakerPolicy::build(|breaker| breaker.consecutive_failures = Some(9));
    let breaker = BreakerLayer::new("team", breaker.unwrap(), ClassifyResult);
    let ear = Ear::default();
    let inner = script().ok(1);
    let service = RetryLayer::new(RetryPolicy::default(), ClassifyResult).layer(breaker.layer(
        TimeoutLayer::new(ms(100)).layer(chaos(&[(1.0, Injection::Hang)]).layer(inner.clone())),
    ));
    let result = service.oneshot(ask().observer(ear.observer())).await;
    assert_eq!(result, Err(Fault::Refused(Reject::AttemptTimeout)));
    assert_eq!(breaker.handle().unwrap().snapshot().failed, 3);
    assert_eq!(inner.calls(), 0);
    let told = ear
        .heard()
        .into_iter()
        .filter(|event| *event == Event::Chaos);
    assert_eq!(told.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn ch_04_disabled_it_draws_and_tells_nothing() {
    let layer = chaos(&[(1.0, RESET)]);
    layer.handle().enable(false);
    assert_eq!(share(&failures(&layer, 100).await), 0.0);
    layer.handle().enable(true);
    assert_eq!(share(&failures(&layer, 100).await), 1.0);
}

#[tokio::test(start_paused = true)]
async fn ch_05_a_call_that_is_dropped_before_its_first_poll_draws_nothing() {
    let layer = chaos(&[(0.5, RESET)]);
    let expected = failures(&chaos(&[(0.5, RESET)]), 50).await;
    for _ in 0..100 {
        let service = layer.layer(script().ok(1));
        drop(service.oneshot(ask()));
        drop(tower::Service::call(
            &mut layer.layer(script().ok(1)),
            ask(),
        ));
    }
    assert_eq!(failures(&layer, 50).await, expected);
}

#[tokio::test(start_paused = true)]
async fn ch_06_a_rate_that_makes_no_sense_is_made_to() {
    for (rate, expected) in [
        (7.0, 1.0),
        (-1.0, 0.0),
        (f64::NAN, 0.0),
        (f64::INFINITY, 1.0),
    ] {
        assert_eq!(
            share(&failures(&chaos(&[(rate, RESET)]), 100).await),
            expected
        );
        let layer = chaos(&[(0.5, RESET)]);
        layer.handle().set_rate(0, rate);
        layer.handle().set_rate(1, 1.0);
        assert_eq!(share(&failures(&layer, 100).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_saves_the_wait_and_a_made_up_answer_waits() {
    let latency = Injection::Latency {
        min: ms(100),
        max: ms(100),
    };
    let status = Injection::Status(503);
    for (rules, expected, after) in [
        (vec![(1.0, latency)], Ok(1), ms(100)),
        (vec![(1.0, latency), (1.0, status)], Ok(503), ms(100)),
        (
            vec![(1.0, status), (1.0, latency), (1.0, RESET)],
            Err(BROKEN),
            ms(0),
        ),
    ] {
        let call = chaos(&rules).layer(script().ok(1)).oneshot(ask());
        assert_eq!(timed(call).await, (expected, after));
    }
    let spread = Injection::Latency {
        min: ms(50),
        max: ms(150),
    };
    let layer = chaos(&[(1.0, spread)]);
    let mut total = Duration::ZERO;
    for _ in 0..100 {
        let (_, elapsed) = timed(layer.layer(script().ok(1)).oneshot(ask())).await;
        assert!((ms(50)..=ms(151)).contains(&elapsed), "{elapsed:?}");
        total += elapsed;
    }
    assert!((ms(9_000)..ms(11_000)).contains(&total), "{total:?}");
}

#[tokio::test(start_paused = true)]
async fn a_latency_ends_with_its_call() {
    let latency = Injection::Latency {
        min: ms(100),
        max: ms(100),
    };
    let inner = script().ok(1);
    let mut call = Box::pin(chaos(&[(1.0, latency)]).layer(inner.clone()).oneshot(ask()));
    assert!(poll!(&mut call).is_pending());
    drop(call);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(inner.calls(), 0);
}

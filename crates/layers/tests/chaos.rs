//! Tests of the chaos statements (CH).
#![cfg(feature = "chaos")]
#![allow(missing_docs)]

mod common;

use std::{
    f64,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::*;
use futures_util::poll;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, Event, Failure, Rejection, RetryConfig,
    RetryLayer, TimeoutLayer, WithCall,
    chaos::{ChaosConfig, ChaosLayer, Injected, Injection, Latency, Match, Rule},
};

type Make = fn(Injected<u32>) -> Result<u32, Fault>;
type Matches = fn(&Match, &Request) -> bool;

/// Creates the injected responses. A response is a number, the length of its body.
fn make(injected: Injected<u32>) -> Result<u32, Fault> {
    match injected {
        Injected::Error(failure) => Err(Fault::Failed(failure)),
        Injected::Status(status) => Ok(u32::from(status)),
        Injected::Truncate(answer, bytes) => Ok(answer.min(bytes.try_into().unwrap())),
        Injected::ResetBody(_) => Err(Fault::Failed(Failure::TruncatedBody)),
        other => unreachable!("{other:?}"),
    }
}

fn config(rules: Vec<Rule>) -> ChaosConfig {
    ChaosConfig::new().enabled(true).rules(rules).seed(7)
}

fn chaos(rules: &[(f64, Injection)]) -> ChaosLayer<Make, Matches> {
    let rules = rules
        .iter()
        .map(|(rate, inject)| Rule::new(*rate, *inject))
        .collect();
    ChaosLayer::new(config(rules), make as Make).unwrap()
}

const RESET: Injection = Injection::Error(Failure::ConnectionReset);
const LATE: Injection = Injection::Latency(Latency::Fixed(ms(100)));

/// Runs `count` calls and returns `true` for each that failed.
async fn failures(layer: &ChaosLayer<Make, Matches>, count: usize) -> Vec<bool> {
    let service = layer.layer(script().respond(1));
    let mut failed = Vec::new();
    for _ in 0..count {
        failed.push(service.clone().oneshot(idempotent_request()).await.is_err());
    }
    failed
}

fn share(failed: &[bool]) -> f64 {
    failed.iter().filter(|failed| **failed).count() as f64 / failed.len() as f64
}

#[tokio::test(start_paused = true)]
async fn ch_01_rate_zero_never_injects_and_rate_one_always() {
    assert_eq!(share(&failures(&chaos(&[(0.0, RESET)]), 1_000).await), 0.0);
    assert_eq!(share(&failures(&chaos(&[(1.0, RESET)]), 1_000).await), 1.0);
    let some = share(&failures(&chaos(&[(0.3, RESET)]), 10_000).await);
    assert!((0.28..0.32).contains(&some), "{some}");
}

#[tokio::test(start_paused = true)]
async fn ch_01_every_fault_is_injected_at_rate_one_and_not_at_zero() {
    let unbroken = (Ok(Ok(9)), ms(0));
    let hung = tokio::time::timeout(ms(500), std::future::pending::<()>()).await;
    let hung = Err(hung.unwrap_err());
    for (inject, broken) in [
        (RESET, (Ok(Err(BROKEN)), ms(0))),
        (Injection::Status(503), (Ok(Ok(503)), ms(0))),
        (LATE, (Ok(Ok(9)), ms(100))),
        (Injection::Hang, (hung, ms(500))),
        (Injection::Truncate(4), (Ok(Ok(4)), ms(0))),
        (
            Injection::ResetBody,
            (Ok(Err(Fault::Failed(Failure::TruncatedBody))), ms(0)),
        ),
    ] {
        for (rate, expected) in [(0.0, &unbroken), (1.0, &broken)] {
            let call = chaos(&[(rate, inject)])
                .layer(script().respond(9))
                .oneshot(idempotent_request());
            let result = timed(tokio::time::timeout(ms(500), call)).await;
            assert_eq!(&result, expected, "{inject:?} at {rate}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ch_02_a_seed_makes_a_run_reproducible() {
    let run = async || failures(&chaos(&[(0.5, RESET)]), 100).await;
    assert_eq!(run().await, run().await);
    let unseeded = async || {
        let config = config(vec![Rule::new(0.5, RESET)]).seed(None);
        failures(&ChaosLayer::new(config, make as Make).unwrap(), 100).await
    };
    assert_ne!(unseeded().await, unseeded().await);
}

#[tokio::test(start_paused = true)]
async fn ch_02_draws_do_not_depend_on_other_rules_requests_or_rates() {
    let latency = Latency::Uniform {
        min: ms(0),
        max: ms(9),
    };
    let run = async |rate, matching: Match| {
        let first = Rule::new(rate, Injection::Latency(latency)).matching(matching);
        let layer =
            ChaosLayer::new(config(vec![first, Rule::new(0.5, RESET)]), make as Make).unwrap();
        failures(&layer, 100).await
    };
    let free = Match {
        tier: Some("free".into()),
        ..Match::default()
    };
    let expected = run(1.0, Match::default()).await;
    assert_eq!(run(0.3, Match::default()).await, expected);
    assert_eq!(run(1.0, free).await, expected);
}

#[tokio::test(start_paused = true)]
async fn ch_03_a_hang_times_out_and_is_retried_and_counted() {
    let breaker = BreakerConfig::new().consecutive_failures(9);
    let breaker = BreakerLayer::new("team", breaker, ClassifyResult).unwrap();
    let recorder = EventRecorder::default();
    let inner = script().respond(1);
    let service = RetryLayer::new(RetryConfig::new(), ClassifyResult)
        .unwrap()
        .layer(
            breaker.layer(
                TimeoutLayer::new(ms(100))
                    .unwrap()
                    .layer(chaos(&[(1.0, Injection::Hang)]).layer(inner.clone())),
            ),
        );
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!(result, Err(Fault::Refused(Rejection::AttemptTimeout)));
    assert_eq!(breaker.handle().snapshot().failed, 3);
    assert_eq!(inner.calls(), 0);
    let reported = recorder
        .recorded()
        .into_iter()
        .filter(|event| *event == Event::Chaos);
    assert_eq!(reported.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn ch_04_disabled_chaos_draws_and_reports_nothing() {
    let layer = chaos(&[(1.0, RESET)]);
    layer.handle().enable(false);
    assert_eq!(share(&failures(&layer, 100).await), 0.0);
    layer.handle().enable(true);
    assert_eq!(share(&failures(&layer, 100).await), 1.0);
}

/// A service that counts its clones.
#[derive(Debug, Default)]
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Relaxed);
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn ch_04_disabled_chaos_clones_neither_the_service_nor_itself() {
    let (of_service, of_layer) = (Counted::default(), Counted::default());
    let (services, layers) = (Arc::clone(&of_service.0), Arc::clone(&of_layer.0));
    let inner = service_fn(move |_: Request| {
        let _ = &of_service;
        ready(Ok::<u32, Fault>(1))
    });
    let layer = ChaosLayer::new(ChaosConfig::new(), move |injected| {
        let _ = &of_layer;
        make(injected)
    })
    .unwrap();
    let mut service = layer.layer(inner);
    let before = (services.load(Relaxed), layers.load(Relaxed));
    for _ in 0..10 {
        assert_eq!(service.call(idempotent_request()).await, Ok(1));
    }
    assert_eq!((services.load(Relaxed), layers.load(Relaxed)), before);
}

#[tokio::test(start_paused = true)]
async fn ch_05_a_call_that_is_dropped_before_its_first_poll_draws_nothing() {
    let layer = chaos(&[(0.5, RESET)]);
    let expected = failures(&chaos(&[(0.5, RESET)]), 50).await;
    for _ in 0..100 {
        let service = layer.layer(script().respond(1));
        drop(service.oneshot(idempotent_request()));
        drop(layer.layer(script().respond(1)).call(idempotent_request()));
    }
    assert_eq!(failures(&layer, 50).await, expected);
}

#[tokio::test(start_paused = true)]
async fn ch_06_invalid_rates_are_clamped() {
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
async fn an_error_skips_the_latency_and_other_outcomes_follow_it() {
    let status = Injection::Status(503);
    let body = Err(Fault::Failed(Failure::TruncatedBody));
    for (rules, expected, after) in [
        (vec![LATE, LATE], Ok(9), ms(200)),
        (vec![LATE, status], Ok(503), ms(100)),
        (vec![status, LATE, RESET], Err(BROKEN), ms(0)),
        (vec![RESET, status, LATE], Err(BROKEN), ms(0)),
        (vec![Injection::Truncate(4), LATE], Ok(4), ms(100)),
        (
            vec![Injection::Truncate(4), Injection::Truncate(3)],
            Ok(4),
            ms(0),
        ),
        (
            vec![Injection::Truncate(4), Injection::ResetBody],
            body,
            ms(0),
        ),
        (vec![Injection::ResetBody, status], Ok(503), ms(0)),
    ] {
        let layer = chaos(&rules.iter().map(|rule| (1.0, *rule)).collect::<Vec<_>>());
        let call = layer
            .layer(script().respond(9))
            .oneshot(idempotent_request());
        assert_eq!(timed(call).await, (expected, after), "{rules:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_uniform_latency_is_spread_between_min_and_max() {
    let spread = Injection::Latency(Latency::Uniform {
        min: ms(50),
        max: ms(150),
    });
    let layer = chaos(&[(1.0, spread)]);
    let mut total = Duration::ZERO;
    for _ in 0..100 {
        let (_, elapsed) = timed(
            layer
                .layer(script().respond(1))
                .oneshot(idempotent_request()),
        )
        .await;
        assert!((ms(50)..=ms(151)).contains(&elapsed), "{elapsed:?}");
        total += elapsed;
    }
    assert!((ms(9_000)..ms(11_000)).contains(&total), "{total:?}");
}

#[tokio::test(start_paused = true)]
async fn a_latency_ends_with_its_call() {
    let inner = script().respond(1);
    let mut call = Box::pin(
        chaos(&[(1.0, LATE)])
            .layer(inner.clone())
            .oneshot(idempotent_request()),
    );
    assert!(poll!(&mut call).is_pending());
    drop(call);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(inner.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_failed_by_itself_has_no_body_to_break() {
    for inject in [Injection::Truncate(4), Injection::ResetBody] {
        let service = chaos(&[(1.0, inject)]).layer(script().fail(UNREACHED));
        assert_eq!(service.oneshot(idempotent_request()).await, Err(UNREACHED));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_reports_its_faults_once() {
    let reported = async |rules: &[(f64, Injection)]| {
        let recorder = EventRecorder::default();
        let service = chaos(rules).layer(script().respond(9));
        let _ = service
            .oneshot(idempotent_request().events(recorder.events()))
            .await;
        recorder.recorded()
    };
    assert_eq!(reported(&[(0.0, RESET)]).await, []);
    let all = [LATE, Injection::Status(503), Injection::Truncate(4)];
    for inject in all {
        assert_eq!(reported(&[(1.0, inject)]).await, [Event::Chaos]);
    }
    assert_eq!(
        reported(&all.map(|inject| (1.0, inject))).await,
        [Event::Chaos]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_with_a_match_applies_to_matching_requests_only() {
    let free = Match {
        tier: Some("free".into()),
        ..Match::default()
    };
    let layer = ChaosLayer::new(config(vec![Rule::new(1.0, RESET).matching(free)]), make).unwrap();
    let even_is_free = |matching: &Match, request: &WithCall<u32>| {
        matching.tier.as_deref() == Some("free") && request.get() % 2 == 0
    };
    let matched = layer
        .clone()
        .matching(even_is_free)
        .layer(script().respond(1));
    for number in 0..4 {
        let failed = matched
            .clone()
            .oneshot(WithCall::new(number))
            .await
            .is_err();
        assert_eq!(failed, number % 2 == 0);
    }
    // Without a matcher, the rule applies to no request.
    assert_eq!(
        layer
            .layer(script().respond(1))
            .oneshot(idempotent_request())
            .await,
        Ok(1)
    );
}

#[test]
fn invalid_rules_are_rejected_with_their_index() {
    let backwards = Latency::Uniform {
        min: ms(2),
        max: ms(1),
    };
    let failure = Failure::Status {
        code: 503,
        retry_after: None,
    };
    for (inject, problem) in [
        (
            Injection::Latency(backwards),
            "ChaosConfig.rules.1.inject.latency.max: must be >= min (2ms), got 1ms",
        ),
        (
            Injection::Status(600),
            "ChaosConfig.rules.1.inject.status: must be within 200 to 599, got 600",
        ),
        (
            Injection::Error(failure),
            "ChaosConfig.rules.1.inject.error: must not be a status, use `inject: { status: ... }` instead",
        ),
    ] {
        let rules = vec![Rule::new(1.0, RESET), Rule::new(1.0, inject)];
        let error =
            ChaosLayer::<_, Matches>::new(ChaosConfig::new().rules(rules), make).unwrap_err();
        assert_eq!(error.to_string(), problem);
    }
}

#[cfg(feature = "serde")]
mod as_data {
    use serde_json::{from_value, json, to_value};
    use tower_fanout_layers::chaos::HeaderMatch;

    use super::*;

    #[test]
    fn a_config_is_read_as_it_is_written() {
        let file = json!({
            "enabled": true,
            "rules": [
                { "rate": 0.05, "inject": { "error": "too_large" } },
                { "rate": 0.1, "inject": { "latency": "100ms" } },
                { "rate": 7, "inject": { "latency": { "min": "50ms", "max": "1s" } } },
                { "rate": 1, "inject": "hang", "match": { "service": "users" } },
                { "rate": 1, "inject": { "truncate": 10 }, "match": { "tier": "free" } },
                { "rate": 1, "inject": "reset_body", "match": { "header": { "name": "x-chaos" } } },
                { "rate": 1, "inject": { "status": 503 } }
            ],
            "seed": 7
        });
        let config: ChaosConfig = from_value(file).unwrap();
        assert_eq!(config.rules[0].inject, Injection::Error(Failure::TooLarge));
        assert_eq!(config.rules[1].inject, LATE);
        let header = config.rules[5].matching.header.clone();
        let (name, value) = ("x-chaos".into(), None);
        assert_eq!(header, Some(HeaderMatch { name, value }));
        let written = to_value(&config).unwrap();
        assert_eq!(from_value::<ChaosConfig>(written).unwrap(), config);
        assert_eq!(
            from_value::<ChaosConfig>(json!({})).unwrap(),
            ChaosConfig::new()
        );
    }

    #[test]
    fn unknown_keys_and_values_are_rejected() {
        let rule = |inject| json!({ "rules": [{ "rate": 1, "inject": inject }] });
        for (file, problem) in [
            (json!({ "on": true }), "unknown field `on`"),
            (rule(json!("explode")), "unknown variant `explode`"),
            (
                rule(json!({ "error": "status" })),
                "unknown variant `status`",
            ),
            (rule(json!({ "latency": 100 })), "a duration such as"),
            (
                rule(json!({ "latency": { "min": "1s", "max": "2s", "mean": "1s" } })),
                "a duration such as",
            ),
            (
                rule(json!({ "status": 99 })),
                "rules.0.inject.status: must be within 200 to 599, got 99",
            ),
            (
                json!({ "rules": [{ "rate": 1, "inject": "hang", "match": { "user": "ada" } }] }),
                "unknown field `user`",
            ),
            (
                json!({ "rules": [{ "rate": 1, "inject": "hang",
                    "match": { "header": { "name": "" } } }] }),
                "rules.0.match.header.name: must not be empty",
            ),
        ] {
            let error = match from_value::<ChaosConfig>(file) {
                Ok(config) => ChaosLayer::<_, Matches>::new(config, make)
                    .unwrap_err()
                    .to_string(),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(problem), "{error}");
        }
    }
}

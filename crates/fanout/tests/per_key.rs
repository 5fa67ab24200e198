//! Limits and circuit breakers per key in the stack of a downstream.
#![allow(missing_docs)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use common::*;
use futures_util::{FutureExt, poll};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_fanout::{
    Downstream, FanOut, PerKeyPolicy, Plan, Policy,
    layers::{
        AsRejection, BreakerConfig, BreakerLayer, Call, CallContext, CallKey, ClassifyResult,
        ConcurrencyConfig, Deadline, PerKeyLayer, Rejection, RetryConfig, WithCall,
        breaker::{Handle, State},
        per_key::ByCall,
    },
};

/// Creates a downstream with a limit of 1 and a breaker that opens after 2 failures, for each key.
fn per_key(edit: impl FnOnce(&mut Policy)) -> Downstream<ClassifyResult, Option<Handle>> {
    let per_key = PerKeyPolicy::new()
        .concurrency(ConcurrencyConfig::new().max(1))
        .circuit_breaker(BreakerConfig::new().consecutive_failures(2));
    let mut policy = Policy::new()
        .attempt_timeout(ms(1000))
        .retry(None)
        .circuit_breaker(None)
        .per_key(per_key);
    edit(&mut policy);
    Downstream::with_optional_breaker("users", policy, ClassifyResult).unwrap()
}

fn of(key: &str) -> WithCall<()> {
    idempotent_request().key(key)
}

/// The breakers of the keys.
type Breakers = PerKeyLayer<Option<CallKey>, ByCall, BreakerLayer<ClassifyResult>>;

fn breakers<B>(downstream: &Downstream<ClassifyResult, B>) -> &Breakers {
    downstream.breaker_per_key().unwrap()
}

fn state<B>(downstream: &Downstream<ClassifyResult, B>, key: &str) -> State {
    let breaker = breakers(downstream).get(&Some(key.into()));
    breaker.unwrap().handle().state()
}

fn is_open(result: Result<&'static str, BoxError>) -> bool {
    matches!(rejection(result), Some(Rejection::CircuitOpen { .. }))
}

fn rejection(result: Result<&'static str, BoxError>) -> Option<Rejection> {
    result.err()?.as_rejection()
}

#[tokio::test(start_paused = true)]
async fn key_15_a_full_limit_of_a_key_takes_no_permit_of_the_others() {
    let downstream = per_key(|policy| {
        policy.concurrency = Some(ConcurrencyConfig::new().max(2));
    });
    let hangs = around(&downstream, std::future::pending);
    let answers = around(&downstream, || async { Ok("ok") });
    let mut running = hangs.clone().oneshot(of("acme")).boxed();
    assert!(poll!(&mut running).is_pending());
    for _ in 0..100 {
        let rejected = rejection(hangs.clone().oneshot(of("acme")).await);
        assert_eq!(rejected, Some(Rejection::AtCapacity));
    }
    assert_eq!(downstream.concurrency().unwrap().in_flight(), 1);
    assert_eq!(answers.oneshot(of("umbra")).await.unwrap(), "ok");
    let limits = downstream.concurrency_per_key().unwrap();
    assert_eq!(limits.get(&Some("acme".into())).unwrap().in_flight(), 1);
    drop(running);
    assert_eq!(limits.get(&Some("acme".into())).unwrap().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn key_15_an_open_circuit_of_a_key_does_not_count_for_the_others() {
    let downstream = per_key(|_| {});
    let broken = around(&downstream, || async { Err(failed()) });
    let answers = around(&downstream, || async { Ok("ok") });
    for _ in 0..2 {
        assert_eq!(rejection(broken.clone().oneshot(of("acme")).await), None);
    }
    for _ in 0..100 {
        assert!(is_open(broken.clone().oneshot(of("acme")).await));
    }
    assert_eq!(answers.oneshot(of("umbra")).await.unwrap(), "ok");
    assert_eq!(
        (state(&downstream, "acme"), state(&downstream, "umbra")),
        (State::Open, State::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn key_19_each_key_opens_its_own_circuit_if_all_calls_fail() {
    let downstream = per_key(|_| {});
    let broken = around(&downstream, || async { Err(failed()) });
    let answers = around(&downstream, || async { Ok("ok") });
    let keys: Vec<_> = (0..50).map(|key| key.to_string()).collect();
    for key in &keys {
        for _ in 0..2 {
            assert_eq!(rejection(broken.clone().oneshot(of(key)).await), None);
        }
        assert!(is_open(broken.clone().oneshot(of(key)).await));
        assert_eq!(state(&downstream, key), State::Open);
    }
    // No circuit is shared: a new key is sent.
    assert_eq!(answers.oneshot(of("new")).await.unwrap(), "ok");
    assert!(downstream.breaker().is_none());
}

#[tokio::test(start_paused = true)]
async fn key_19_a_circuit_of_a_key_is_opened_by_hand() {
    let downstream = per_key(|_| {});
    let answers = around(&downstream, || async { Ok("ok") });
    for key in ["acme", "umbra"] {
        assert_eq!(answers.clone().oneshot(of(key)).await.unwrap(), "ok");
    }
    let breaker = breakers(&downstream).get(&Some("acme".into())).unwrap();
    let forced = breaker.handle().force_open();
    assert!(is_open(answers.clone().oneshot(of("acme")).await));
    assert_eq!(answers.clone().oneshot(of("umbra")).await.unwrap(), "ok");
    drop(forced);
    assert_eq!(answers.oneshot(of("acme")).await.unwrap(), "ok");
}

/// Each call takes as many milliseconds as its key says.
#[tokio::test(start_paused = true)]
async fn key_20_slow_calls_of_a_key_skip_no_node_of_another() {
    for is_per_key in [true, false] {
        let downstream = per_key(|policy| {
            if !is_per_key {
                policy.per_key = None;
            }
        });
        let client = downstream.layer(service_fn(|request: WithCall<()>| async move {
            let key = request.call().key.clone().unwrap();
            tokio::time::sleep(ms(key.as_str().parse().unwrap())).await;
            Ok::<_, BoxError>("ok")
        }));
        let mut plan = Plan::builder();
        plan.node("user", client, |_: &WithCall<()>, _| {
            Ok(idempotent_request())
        })
        .downstream(downstream.profile())
        .optional();
        let page = FanOut::new(plan.build().unwrap());
        let call = |key: &'static str, time| {
            let deadline = Deadline::at(Instant::now() + ms(time));
            page.clone().oneshot(of(key).deadline(deadline))
        };
        for _ in 0..25 {
            assert!(call("700", 5_000).await.is_ok());
        }
        tokio::time::sleep(ms(1_000)).await;
        assert_eq!(call("1", 500).await.is_ok(), is_per_key);
    }
}

/// A key with slow calls holds the permits that the calls of another key wait for.
#[tokio::test(start_paused = true)]
async fn key_21_a_wait_because_of_another_key_opens_no_circuit() {
    for (slow_call, unanswered) in [(Some(ms(200)), None), (None, Some(ms(200)))] {
        let downstream = per_key(|policy| {
            let queue = ConcurrencyConfig::new().max(4).queue(20).max_wait(ms(800));
            policy.concurrency = Some(queue);
            let mut breaker = BreakerConfig::new().min_calls(4).consecutive_failures(4);
            (breaker.slow_call, breaker.unanswered) = (slow_call, unanswered);
            policy.per_key = Some(PerKeyPolicy::new().circuit_breaker(breaker));
        });
        let slow = around(&downstream, || async {
            tokio::time::sleep(ms(700)).await;
            Ok("ok")
        });
        let mut running: Vec<_> = (0..4)
            .map(|_| slow.clone().oneshot(of("acme")).boxed())
            .collect();
        for call in &mut running {
            assert!(poll!(call).is_pending());
        }
        let answers = around(&downstream, || async { Ok("ok") });
        // The callers of some calls give up while these wait.
        let given_up = (0..4).map(|_| {
            let call = answers.clone().oneshot(of("umbra"));
            tokio::time::timeout(ms(250), call)
        });
        let given_up = futures_util::future::join_all(given_up).await;
        assert!(given_up.iter().all(Result::is_err));
        assert_eq!(state(&downstream, "umbra"), State::Closed);
        let waiting = (0..8).map(|_| answers.clone().oneshot(of("umbra")));
        let (all, _) = tokio::join!(
            futures_util::future::join_all(waiting),
            futures_util::future::join_all(running)
        );
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(state(&downstream, "umbra"), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn key_19_with_only_a_limit_the_failures_of_a_key_count_for_all() {
    let downstream = downstream(|policy| {
        let limit = ConcurrencyConfig::new().max(1);
        (policy.retry, policy.per_key) = (None, Some(PerKeyPolicy::new().concurrency(limit)));
    });
    let broken = around(&downstream, || async { Err(failed()) });
    for _ in 0..5 {
        assert_eq!(rejection(broken.clone().oneshot(of("acme")).await), None);
    }
    assert!(is_open(broken.oneshot(of("umbra")).await));
}

#[tokio::test(start_paused = true)]
async fn key_16_each_attempt_passes_the_limit_and_the_breaker_of_its_key() {
    let downstream = per_key(|policy| {
        policy.retry = Some(RetryConfig::new().max_attempts(3).base(ms(100)));
    });
    let sent = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&sent);
    let broken = around(&downstream, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err(failed()) }
    });
    let mut call = broken.oneshot(of("acme")).boxed();
    assert!(poll!(&mut call).is_pending());
    // The call pauses, and holds no permit of its key.
    let limits = downstream.concurrency_per_key().unwrap();
    assert_eq!(limits.get(&Some("acme".into())).unwrap().in_flight(), 0);
    // The second failure opens the circuit, so the third attempt is not sent, and the call ends with its
    // last result.
    assert_eq!(rejection(call.await), None);
    assert_eq!(sent.load(Ordering::Relaxed), 2);
    assert_eq!(state(&downstream, "acme"), State::Open);
}

#[tokio::test(start_paused = true)]
async fn key_17_calls_without_a_key_share_one_state() {
    let downstream = per_key(|_| {});
    let hangs = around(&downstream, std::future::pending);
    let mut running = hangs.clone().oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut running).is_pending());
    let rejected = rejection(hangs.clone().oneshot(idempotent_request()).await);
    assert_eq!(rejected, Some(Rejection::AtCapacity));
    // An empty key is a key.
    let mut other = hangs.oneshot(of("")).boxed();
    assert!(poll!(&mut other).is_pending());
}

/// Returns the keys with which the two nodes of a plan are called. The first node sets its own.
async fn keys_of_nodes(whole: WithCall<()>) -> [Option<String>; 2] {
    let key = |request: WithCall<()>| async move {
        let key = request.call().key.as_ref();
        Ok::<_, BoxError>(key.map(|key| key.as_str().to_owned()))
    };
    let mut plan = Plan::builder();
    let own = plan.node("own", service_fn(key), |_: &WithCall<()>, _| Ok(of("own")));
    let own = own.key();
    let whole_key = plan.node("whole", service_fn(key), |_, _| Ok(idempotent_request()));
    let whole_key = whole_key.key();
    let mut run = FanOut::new(plan.build().unwrap());
    let response = run.ready().await.unwrap().call(whole).await.unwrap();
    [own, whole_key].map(|node| response.get(node).unwrap().clone())
}

#[tokio::test]
async fn key_18_a_node_has_its_own_key_or_that_of_the_request() {
    let some = |key: &str| Some(key.to_owned());
    let keys = keys_of_nodes(of("acme")).await;
    assert_eq!(keys, [some("own"), some("acme")]);
    let keys = keys_of_nodes(idempotent_request()).await;
    assert_eq!(keys, [some("own"), None]);
    assert_eq!(Call::NONE.key, None);
}

//! Limits and circuit breakers per key in the stack of a downstream.
#![allow(missing_docs)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use common::*;
use futures_util::{FutureExt, poll};
use tower::{BoxError, Service, ServiceExt, service_fn};
use tower_fanout::{
    Downstream, FanOut, PerKeyPolicy, Plan, Policy,
    layers::{
        AsRejection, BreakerConfig, Call, CallContext, ClassifyResult, ConcurrencyConfig,
        Rejection, RetryConfig, WithCall, breaker::State,
    },
};

/// Creates a downstream with a limit of 1 and a breaker that opens after 2 failures, for each key.
fn per_key(edit: impl FnOnce(&mut Policy)) -> Downstream<ClassifyResult> {
    downstream(|policy| {
        let per_key = PerKeyPolicy::new()
            .concurrency(ConcurrencyConfig::new().max(1))
            .circuit_breaker(BreakerConfig::new().consecutive_failures(2));
        (policy.retry, policy.per_key) = (None, Some(per_key));
        edit(policy);
    })
}

fn of(key: &str) -> WithCall<()> {
    idempotent_request().key(key)
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
    assert_eq!(downstream.breaker().snapshot().failed, 0);
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
        let rejected = rejection(broken.clone().oneshot(of("acme")).await);
        assert!(matches!(rejected, Some(Rejection::CircuitOpen { .. })));
    }
    let snapshot = downstream.breaker().snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.failed),
        (State::Closed, 2, 2)
    );
    assert_eq!(answers.oneshot(of("umbra")).await.unwrap(), "ok");
    let breakers = downstream.breaker_per_key().unwrap();
    let state = |key: &str| breakers.get(&Some(key.into())).unwrap().handle().state();
    assert_eq!(
        (state("acme"), state("umbra")),
        (State::Open, State::Closed)
    );
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
    assert_eq!(downstream.breaker().snapshot().failed, 2);
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

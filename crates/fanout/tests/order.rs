//! Each layer around a downstream is in its place. Each test relies on the order of two layers.
#![allow(missing_docs)]

mod common;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use common::*;
use futures_util::{FutureExt, join, poll};
use tokio::time::{Instant, advance, sleep};
use tower::{BoxError, Layer, ServiceExt, layer::layer_fn, service_fn, util::BoxCloneSyncService};
use tower_fanout::{
    Downstream, Policy,
    layers::{
        AsRejection, CallContext, ClassifyResult, Failure, Rejection, WithCall,
        hedge::{HedgeConfig, HedgeDelay},
        retry::Jitter,
        throttle::ThrottleConfig,
    },
};

type FullStack = BoxCloneSyncService<WithCall<()>, &'static str, BoxError>;

/// The whole stack around a service that answers each call by its number, and the number of calls
/// so far.
fn counted<F, Fut>(
    downstream: &Downstream<ClassifyResult>,
    answer: F,
) -> (FullStack, Arc<AtomicU32>)
where
    F: Fn(u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let number = move || counter.fetch_add(1, Ordering::Relaxed) + 1;
    let service = around(downstream, move || answer(number()));
    (BoxCloneSyncService::new(service), calls)
}

/// Replaces the retries by at most `max` hedges, sent after `delay`.
fn hedge(policy: &mut Policy, delay: HedgeDelay, max: u8) {
    let hedge = HedgeConfig::new().delay(delay).max_hedges(max);
    (policy.retry, policy.hedge) = (None, Some(hedge));
}

/// Three attempts, one after the other.
const RETRIED: fn(&mut Policy) = |_| {};
const HEDGED: fn(&mut Policy) = |policy| hedge(policy, HedgeDelay::Never, 2);

/// The throttle rejects more the more calls are rejected, up to all of them. There are no retries,
/// and the breaker does not open by itself.
fn throttle(policy: &mut Policy) {
    let throttle = ThrottleConfig::new().max(1.0);
    (policy.retry, policy.throttle) = (None, Some(throttle));
    let breaker = policy.circuit_breaker.as_mut().unwrap();
    (breaker.min_calls, breaker.consecutive_failures) = (u32::MAX, None);
}

/// The response of an overloaded service.
async fn busy() -> Answer {
    Err(Box::new(Failure::Status {
        code: 503,
        retry_after: None,
    }))
}

async fn refusal(service: &FullStack) -> Option<Rejection> {
    let error = service
        .clone()
        .oneshot(idempotent_request())
        .await
        .unwrap_err();
    error.as_rejection()
}

async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let start = Instant::now();
    (future.await, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_fallback_has_time_after_the_attempts_timed_out() {
    let downstream = downstream(|policy| {
        (policy.total_timeout, policy.attempt_timeout) = (Some(ms(1000)), None);
    });
    let service = service_fn(|_: WithCall<()>| pending::<Answer>());
    let fallback = downstream.fallback().service(service_fn(|_| async {
        sleep(ms(500)).await;
        Ok("plan b")
    }));
    let service = fallback.layer(downstream.layer(service));
    let (answer, took) = timed(service.oneshot(idempotent_request())).await;
    assert_eq!((answer.unwrap(), took), ("plan b", ms(1500)));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_all_hedges() {
    let downstream = downstream(|policy| {
        policy.total_timeout = Some(ms(1000));
        policy.attempt_timeout = Some(ms(400));
        hedge(policy, HedgeDelay::Never, 3);
    });
    let (service, calls) = counted(&downstream, |_| pending());
    let (refused, took) = timed(refusal(&service)).await;
    assert_eq!((refused, took), (Some(Rejection::Deadline), ms(1000)));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
}

/// Returns the number of each attempt and its time in milliseconds. Each attempt takes 10 ms, and only the
/// third succeeds.
async fn attempts(downstream: &Downstream<ClassifyResult>) -> Vec<(u8, u128)> {
    let (seen, start) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
    let noted = Arc::clone(&seen);
    let service = service_fn(move |request: WithCall<()>| {
        let attempt = request.call().attempt;
        let noted = Arc::clone(&noted);
        async move {
            noted
                .lock()
                .unwrap()
                .push((attempt, start.elapsed().as_millis()));
            sleep(ms(10)).await;
            if attempt < 3 { Err(failed()) } else { Ok("ok") }
        }
    });
    let service = downstream.layer(service);
    let _ = service.oneshot(idempotent_request()).await;
    std::mem::take(&mut seen.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn each_retry_is_sent_after_its_pause() {
    let downstream = downstream(|policy| {
        let retry = policy.retry.as_mut().unwrap();
        (retry.base, retry.jitter) = (ms(100), Jitter::None);
    });
    assert_eq!(attempts(&downstream).await, [(1, 0), (2, 110), (3, 320)]);
}

#[tokio::test(start_paused = true)]
async fn each_hedge_has_a_number_of_its_own() {
    let downstream = downstream(|policy| hedge(policy, HedgeDelay::Fixed(ms(4)), 2));
    assert_eq!(attempts(&downstream).await, [(1, 0), (2, 4), (3, 8)]);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_sees_every_hedge() {
    let downstream = downstream(|policy| hedge(policy, HedgeDelay::Never, 1));
    let (service, _) = counted(&downstream, |call| async move {
        if call == 1 { Err(failed()) } else { Ok("ok") }
    });
    assert_eq!(service.oneshot(idempotent_request()).await.unwrap(), "ok");
    let seen = downstream.breaker().snapshot();
    assert_eq!((seen.calls, seen.failed), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_attempt_is_not_hedged_while_the_circuit_is_open() {
    let downstream = downstream(|policy| hedge(policy, HedgeDelay::Fixed(ms(50)), 1));
    let (service, calls) = counted(&downstream, |_| async {
        sleep(ms(200)).await;
        Ok("ok")
    });
    let call = tokio::spawn(service.oneshot(idempotent_request()));
    sleep(ms(10)).await;
    downstream.breaker().open_for(ms(1000));
    assert_eq!(call.await.unwrap().unwrap(), "ok");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_failure_that_opens_the_circuit_is_the_last_attempt() {
    for edit in [RETRIED, HEDGED] {
        let downstream = downstream(|policy| {
            edit(policy);
            let breaker = policy.circuit_breaker.as_mut().unwrap();
            breaker.consecutive_failures = Some(1);
        });
        let (service, calls) = counted(&downstream, |_| async { Err(failed()) });
        assert_eq!(
            refusal(&service).await,
            None,
            "the caller gets the failure itself"
        );
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(downstream.breaker().snapshot().rejected, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn each_hedge_takes_its_own_permit() {
    for permits in [1, 2] {
        let downstream = downstream(|policy| {
            hedge(policy, HedgeDelay::Fixed(ms(50)), 1);
            policy.concurrency.as_mut().unwrap().max = permits;
        });
        let (service, calls) = counted(&downstream, |_| async {
            sleep(ms(200)).await;
            Ok("ok")
        });
        let call = tokio::spawn(service.oneshot(idempotent_request()));
        sleep(ms(100)).await;
        assert_eq!(downstream.concurrency().unwrap().in_flight(), permits);
        let answer = call.await.unwrap();
        assert_eq!(
            answer.unwrap(),
            "ok",
            "a hedge without a permit is no error"
        );
        assert_eq!(calls.load(Ordering::Relaxed), permits);
        assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn each_hedge_has_its_own_attempt_timeout() {
    let downstream = downstream(|policy| {
        policy.attempt_timeout = Some(ms(100));
        hedge(policy, HedgeDelay::Fixed(ms(60)), 1);
    });
    let (service, _) = counted(&downstream, |_| pending());
    let (refused, took) = timed(refusal(&service)).await;
    assert_eq!((refused, took), (Some(Rejection::AttemptTimeout), ms(160)));
    assert_eq!(downstream.breaker().snapshot().failed, 2);
}

#[tokio::test(start_paused = true)]
async fn the_throttle_sees_every_attempt() {
    for edit in [RETRIED, HEDGED] {
        let downstream = downstream(|policy| {
            policy.throttle = Some(ThrottleConfig::new());
            edit(policy);
        });
        let (service, calls) = counted(&downstream, |call| async move {
            if call <= 2 { Ok("ok") } else { busy().await }
        });
        for _ in 0..2 {
            assert_eq!(
                service.clone().oneshot(idempotent_request()).await.unwrap(),
                "ok"
            );
        }
        assert_eq!(refusal(&service).await, None);
        assert_eq!(calls.load(Ordering::Relaxed), 5);
        // Five calls were made. Twice the two accepted ones are allowed.
        assert_eq!(
            downstream.throttle().unwrap().rejection_probability(),
            1.0 / 6.0
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_does_not_affect_the_breaker() {
    let downstream = downstream(throttle);
    let (service, calls) = counted(&downstream, |_| busy());
    let mut held_back = 0;
    for _ in 0..200 {
        held_back += u32::from(refusal(&service).await == Some(Rejection::ClientThrottled));
    }
    let sent = calls.load(Ordering::Relaxed);
    assert!(held_back > 0);
    assert_eq!(sent, 200 - held_back);
    let sent = u64::from(sent);
    let seen = downstream.breaker().snapshot();
    assert_eq!((seen.calls, seen.failed), (sent, sent));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_rejects_before_the_throttle() {
    let downstream = downstream(throttle);
    let (service, _) = counted(&downstream, |_| busy());
    for _ in 0..100 {
        refusal(&service).await;
    }
    let share = downstream.throttle().unwrap().rejection_probability();
    assert_eq!(share, 100.0 / 101.0);
    downstream.breaker().open_for(ms(1000));
    for _ in 0..100 {
        let refused = refusal(&service).await;
        assert!(
            matches!(refused, Some(Rejection::CircuitOpen { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(
        downstream.throttle().unwrap().rejection_probability(),
        share
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_takes_no_permit() {
    let downstream = downstream(|policy| {
        throttle(policy);
        policy.concurrency.as_mut().unwrap().max = 2;
    });
    let (service, _) = counted(&downstream, |call| async move {
        if call == 1 {
            pending().await
        } else {
            busy().await
        }
    });
    let occupant = tokio::spawn(service.clone().oneshot(idempotent_request()));
    sleep(ms(1)).await;
    for _ in 0..100 {
        refusal(&service).await;
    }
    downstream.concurrency().unwrap().set_limit(1);
    let mut held_back = false;
    for _ in 0..100 {
        let refused = refusal(&service).await;
        held_back |= refused == Some(Rejection::ClientThrottled);
    }
    assert!(held_back, "the throttle rejects the call, not the limit");
    occupant.abort();
}

#[tokio::test(start_paused = true)]
async fn injected_faults_are_handled_like_real_ones() {
    let downstream = downstream(|policy| {
        (policy.total_timeout, policy.attempt_timeout) = (Some(ms(1000)), Some(ms(100)));
        let retry = policy.retry.as_mut().unwrap();
        (retry.max_attempts, retry.jitter) = (2, Jitter::None);
    });
    let fine = service_fn(|_: WithCall<()>| async { Answer::Ok("ok") });
    let chaos = layer_fn(|_| service_fn(|_: WithCall<()>| pending::<Answer>()));
    let service = downstream.layer(chaos.layer(fine));
    let (refused, took) = timed(refusal(&BoxCloneSyncService::new(service))).await;
    assert_eq!(refused, Some(Rejection::AttemptTimeout));
    assert_eq!(took, ms(100 + 50 + 100));
    assert_eq!(downstream.breaker().snapshot().failed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_waits_for_a_permit_does_not_use_up_its_lease() {
    let downstream = downstream(|policy| {
        (policy.retry, policy.attempt_timeout) = (None, None);
        let limit = policy.concurrency.as_mut().unwrap();
        (limit.max, limit.queue, limit.max_wait) = (1, 9, ms(60_000));
    });
    let (service, _) = counted(&downstream, |_| async {
        sleep(ms(6_000)).await;
        Ok("fine")
    });
    let breaker = downstream.breaker();
    let mut busy = service.clone().oneshot(WithCall::new(())).boxed();
    assert!(poll!(&mut busy).is_pending());
    breaker.open_for(ms(1));
    advance(ms(2)).await;
    let mut probe = service.clone().oneshot(WithCall::new(())).boxed();
    assert!(poll!(&mut probe).is_pending());
    advance(ms(5_500)).await;
    let (_, probe, other) = join!(busy, probe, refusal(&service));
    assert!(other.is_some(), "only one probe is admitted at a time");
    assert_eq!(probe.unwrap(), "fine");
}

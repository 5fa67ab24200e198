//! Tests of calls that wait at a limit which has the handle of the breaker below.
#![allow(missing_docs)]

mod common;

use common::*;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
    join, poll,
};
use tokio::time::{advance, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, Event, HedgeLayer,
    Rejection,
    breaker::{BreakerConfig, Handle, State, Window},
    hedge::{HedgeConfig, HedgeDelay},
};
use tower_fanout_testkit::script::ScriptedService;

type Scripted = ScriptedService<Request, u32, Fault>;

fn breaker(config: BreakerConfig) -> BreakerLayer<ClassifyResult> {
    BreakerLayer::new("team", config, ClassifyResult).unwrap()
}

/// A limit of one running and nine waiting calls.
fn limit() -> ConcurrencyLayer {
    let config = ConcurrencyConfig::new()
        .max(1)
        .queue(9)
        .max_wait(ms(60_000));
    ConcurrencyLayer::new(config).unwrap()
}

/// Returns the breaker's handle, the limit above the breaker, and the service of both. The limit
/// has the handle.
fn stack_with(
    config: BreakerConfig,
    service: Scripted,
) -> (
    Handle,
    ConcurrencyLayer,
    impl Service<Request, Response = u32, Error = Fault, Future: Send> + Clone + Send + 'static,
) {
    let breaker = breaker(config);
    let handle = breaker.handle().clone();
    let limit = limit().breaker(handle.clone());
    let service = limit.layer(breaker.layer(service));
    (handle, limit, service)
}

fn is_rejected<T: std::fmt::Debug>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault::Refused(Rejection::CircuitOpen { .. })))
}

/// Makes two calls and polls them: one runs, one waits for a permit.
fn run_and_queue<S>(stack: &S) -> [BoxFuture<'static, Result<u32, Fault>>; 2]
where
    S: Service<Request, Response = u32, Error = Fault, Future: Send> + Clone + Send + 'static,
{
    [(), ()].map(|()| {
        let mut call = stack.clone().oneshot(idempotent_request()).boxed();
        assert!((&mut call).now_or_never().is_none());
        call
    })
}

#[tokio::test(start_paused = true)]
async fn ord_04_the_wait_for_a_permit_does_not_make_a_call_slow() {
    let config = BreakerConfig::new().slow_call(ms(60));
    let (handle, _, service) = stack_with(config, script().respond(1).after(ms(50)));
    let calls = (0..6).map(|_| service.clone().oneshot(idempotent_request()));
    assert_eq!(join_all(calls).await, [Ok(1); 6]);
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.calls, snapshot.slow), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_inside_the_service_count_as_its_own_time() {
    let config = BreakerConfig::new().slow_call(ms(100));
    let breaker = breaker(config);
    let below = limit().layer(script().respond(1).after(ms(50)));
    let service = service_fn(move |_: Request| {
        let below = below.clone();
        async move {
            join_all((0..9).map(|_| below.clone().oneshot(idempotent_request()))).await;
            Ok::<u32, Fault>(1)
        }
    });
    assert_eq!(
        breaker.layer(service).oneshot(idempotent_request()).await,
        Ok(1)
    );
    assert_eq!(breaker.handle().snapshot().slow, 1);
}

#[tokio::test(start_paused = true)]
async fn cl_11_a_call_that_is_dropped_in_the_queue_is_not_counted() {
    let config = BreakerConfig::new().unanswered(ms(100));
    let (handle, limit, service) = stack_with(config, script().hang());
    let mut running = limit
        .layer(script().hang())
        .oneshot(idempotent_request())
        .boxed();
    assert!(poll!(&mut running).is_pending());
    for _ in 0..5 {
        let cancelled = timeout(ms(200), service.clone().oneshot(idempotent_request())).await;
        assert!(cancelled.is_err());
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
    drop(running);
    // A call that was sent still counts as failed.
    let sent = timeout(ms(200), service.oneshot(idempotent_request())).await;
    assert!(sent.is_err());
    assert_eq!(handle.snapshot().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn ord_02_rejects_a_waiter_even_after_the_open_time() {
    let service = script().respond(1).after(ms(300));
    let (handle, _, stack) = stack_with(BreakerConfig::new(), service.clone());
    let [first, second] = run_and_queue(&stack);
    handle.open_for(ms(100));
    let (_, second) = join!(first, second);
    assert!(is_rejected(second) && service.calls() == 1);
    assert_eq!(
        handle.state(),
        State::Open,
        "the call should not become a probe"
    );
}

#[tokio::test(start_paused = true)]
async fn ord_02_sends_a_waiter_if_the_breaker_has_closed_again() {
    let service = script().respond(1).after(ms(300));
    let (handle, _, stack) = stack_with(BreakerConfig::new(), service.clone());
    let [first, second] = run_and_queue(&stack);
    handle.open_for(ms(100));
    handle.reset();
    let (_, second) = join!(first, second);
    assert_eq!((second, service.calls()), (Ok(1), 2));
}

#[tokio::test(start_paused = true)]
async fn cb_18_a_call_that_waited_for_a_permit_may_be_the_probe() {
    let config = BreakerConfig::new().half_open_probes(1_u32);
    let (handle, limit, service) = stack_with(config, script().respond(1).after(ms(50)));
    handle.open_for(ms(100));
    advance(ms(200)).await;
    let other = limit.layer(script().respond(1).after(ms(50)));
    let mut busy = other.oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut busy).is_pending());
    let (_, probe) = join!(busy, service.oneshot(idempotent_request()));
    assert_eq!((probe, handle.state()), (Ok(1), State::Closed));
}

#[tokio::test(start_paused = true)]
async fn ord_01_an_open_circuit_rejects_at_once_while_the_limit_is_full() {
    let (handle, limit, stack) = stack_with(BreakerConfig::new(), script().hang());
    let _busy = run_and_queue(&stack);
    handle.open_for(ms(100));
    let recorder = EventRecorder::default();
    let call = stack.oneshot(idempotent_request().events(recorder.events()));
    assert!(call.now_or_never().is_some_and(is_rejected));
    assert_eq!((limit.in_flight(), limit.queued()), (1, 1));
    assert_eq!(handle.snapshot().rejected, 1);
    assert!(matches!(
        recorder.recorded()[..],
        [Event::Rejected(Rejection::CircuitOpen { .. })]
    ));
}

#[tokio::test(start_paused = true)]
async fn cb_14_admits_one_probe_of_many_queued_calls() {
    let service = script().respond(1).after(ms(50));
    let (handle, limit, stack) = stack_with(BreakerConfig::new(), service.clone());
    let other = limit.layer(script().respond(1).after(ms(50)));
    let mut busy = other.oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut busy).is_pending());
    handle.open_for(ms(1));
    advance(ms(2)).await;
    let calls = join_all((0..9).map(|_| stack.clone().oneshot(idempotent_request())));
    let (_, calls) = join!(busy, calls);
    assert_eq!(service.calls(), 1);
    assert_eq!(
        calls.into_iter().filter(|call| is_rejected(*call)).count(),
        8
    );
    assert_eq!(handle.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn cb_05_old_successes_do_not_reappear() {
    for window in [10, 1_000, 10_000] {
        let config = BreakerConfig::new().window(Window::Time(ms(window)));
        let breaker = breaker(config);
        let service = breaker.layer(script().respond(1));
        for idle in [3_600 * 3, 86_400 * 50] {
            for _ in 0..100 {
                service.clone().oneshot(idempotent_request()).await.unwrap();
            }
            advance(ms(1_000 * idle)).await;
            assert_eq!(breaker.handle().snapshot().calls, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_past_its_lease_rejects_the_next_call() {
    let breaker = breaker(BreakerConfig::new().probe_lease(ms(1_000)));
    let handle = breaker.handle();
    handle.open_for(ms(1));
    advance(ms(5)).await;
    let service = breaker.layer(script().hang());
    let mut probe = service.clone().oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut probe).is_pending());
    advance(ms(2_000)).await;
    assert!(handle.rejection().is_some());
    assert!(is_rejected(service.oneshot(idempotent_request()).await));
}

#[tokio::test(start_paused = true)]
async fn cl_12_rejected_waiters_do_not_lower_the_estimated_wait() {
    let (handle, limit, _) = stack_with(BreakerConfig::new(), script().hang());
    let service = limit.layer(script().respond(1).after(ms(1_000)));
    // The limit learns that a call takes one second.
    let _ = join!(
        service.clone().oneshot(idempotent_request()),
        service.clone().oneshot(idempotent_request())
    );
    let mut running = service.clone().oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut running).is_pending());
    let mut waiting: Vec<_> = (0..9)
        .map(|_| service.clone().oneshot(idempotent_request()).boxed())
        .collect();
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    let forced_open = handle.force_open();
    drop(running);
    assert!(join_all(waiting).await.into_iter().all(is_rejected));
    drop(forced_open);
    let mut busy: Vec<_> = (0..6)
        .map(|_| service.clone().oneshot(idempotent_request()).boxed())
        .collect();
    for call in &mut busy {
        assert!(poll!(call).is_pending());
    }
    let hopeless = service.oneshot(request_within(ms(1_500))).now_or_never();
    assert_eq!(hopeless, Some(Err(Fault::Refused(Rejection::QueueTimeout))));
}

#[tokio::test(start_paused = true)]
async fn ord_04_a_permit_before_the_first_poll_is_no_slow_call() {
    let config = BreakerConfig::new().slow_call(ms(60));
    let (handle, limit, mut service) = stack_with(config, script().respond(1).after(ms(10)));
    let mut running = limit
        .layer(script().hang())
        .oneshot(idempotent_request())
        .boxed();
    assert!(poll!(&mut running).is_pending());
    let second = service.call(idempotent_request());
    advance(ms(100)).await;
    drop(running);
    assert_eq!(second.await, Ok(1));
    assert_eq!(handle.snapshot().slow, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_hedge_does_not_hide_the_first_attempt() {
    let breaker = breaker(BreakerConfig::new().unanswered(ms(1_000)));
    let handle = breaker.handle().clone();
    let limit = limit();
    let hedge = HedgeConfig::new()
        .delay(HedgeDelay::Fixed(ms(20)))
        .max_wait(ms(60_000));
    let hedge = HedgeLayer::new(hedge, ClassifyResult).unwrap();
    let service = breaker.layer(hedge.layer(limit.layer(script().hang().hang())));
    assert!(
        timeout(ms(10_000), service.oneshot(idempotent_request()))
            .await
            .is_err()
    );
    assert_eq!(handle.snapshot().failed, 1);
}

#[test]
fn a_queued_call_needs_no_timer_before_its_first_poll() {
    let service = limit().layer(script().respond(1).respond(1));
    let mut calls = [service.clone(), service];
    let [first, second] = calls
        .each_mut()
        .map(|service| service.call(idempotent_request()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let both = runtime.unwrap().block_on(async { join!(first, second) });
    assert_eq!(both, (Ok(1), Ok(1)));
}

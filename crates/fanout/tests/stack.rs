//! The layers around a downstream, and how they work together in a run.
#![allow(missing_docs)]

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use common::*;
use futures_util::{FutureExt, poll};
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout::{
    Branch, BranchError, Downstream, ErrorKind, FanOut, FanOutError, PerKeyPolicy, Plan, Policy,
    Status, Strategy,
    layers::{
        AsRejection, BreakerConfig, Call, CallContext, Class, ClassifyResult, ConcurrencyConfig,
        Deadline, Event, Events, EventsLayer, Failure, HedgeConfig, LayerError, Rejection,
        RetryConfig, WithCall, breaker::State, event::RetryStopReason, hedge::HedgeDelay,
        retry::BudgetConfig,
    },
};

#[tokio::test(start_paused = true)]
async fn ord_01_an_open_circuit_does_not_queue() {
    let downstream = downstream(|policy| {
        policy.retry = None;
        let concurrency = policy.concurrency.as_mut().unwrap();
        (concurrency.max, concurrency.queue) = (1, 1);
    });
    let broken = around(&downstream, || async { Err(failed()) });
    for _ in 0..5 {
        broken
            .clone()
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
    }
    assert_eq!(downstream.breaker().state(), State::Open);
    let start = Instant::now();
    let error = broken.oneshot(idempotent_request()).await.unwrap_err();
    assert!(matches!(
        error.as_rejection(),
        Some(Rejection::CircuitOpen {
            retry_after: Some(_)
        })
    ));
    assert_eq!(
        (start.elapsed(), downstream.concurrency().unwrap().queued()),
        (ms(0), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn ord_02_a_call_that_queued_while_the_circuit_opened_is_not_sent() {
    let downstream = downstream(|policy| {
        policy.retry = None;
        policy
            .circuit_breaker
            .as_mut()
            .unwrap()
            .consecutive_failures = Some(1);
        let concurrency = policy.concurrency.as_mut().unwrap();
        (concurrency.max, concurrency.queue) = (1, 1);
    });
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = around(&downstream, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(ms(10)).await;
            Err(failed())
        }
    });
    let (first, second) = tokio::join!(
        service.clone().oneshot(idempotent_request()),
        service.oneshot(idempotent_request())
    );
    assert!(first.unwrap_err().as_rejection().is_none());
    assert!(matches!(
        second.unwrap_err().as_rejection(),
        Some(Rejection::CircuitOpen { .. })
    ));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
}

/// Returns a sink, and the events that it hears.
fn recorder() -> (Events, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let sink = move |event: Event| heard.lock().unwrap().push(event);
    (sink.into(), events)
}

#[tokio::test(start_paused = true)]
async fn ev_15_the_sink_of_a_downstream_does_not_hear_a_fallback_service() {
    let once = || downstream(|policy| policy.retry = None);
    let ((own, own_events), (other, other_events)) = (recorder(), recorder());
    let plan_b = around(&once(), || async { Ok("plan b") });
    let plan_b = EventsLayer::new(other).layer(plan_b);
    let downstream = once();
    let service = ServiceBuilder::new()
        .layer(downstream.fallback().service(plan_b))
        .layer(EventsLayer::new(own))
        .layer(&downstream)
        .service(service_fn(|_: WithCall<()>| async {
            Err::<&str, BoxError>(failed())
        }));
    assert_eq!(
        service.oneshot(idempotent_request()).await.unwrap(),
        "plan b"
    );
    for (events, class) in [
        (own_events, Class::Failure(Failure::ConnectionReset)),
        (other_events, Class::Success),
    ] {
        let events = events.lock().unwrap();
        let sent = events.iter().filter(|event| **event == Event::Sent);
        assert_eq!(sent.count(), 1, "{events:?}");
        let ended = events.iter().filter_map(|event| match event {
            Event::AttemptEnded { class, .. } => Some(*class),
            _ => None,
        });
        assert_eq!(ended.collect::<Vec<_>>(), [class]);
    }
}

#[tokio::test(start_paused = true)]
async fn ev_16_an_attempt_that_a_layer_rejects_is_not_sent() {
    let (sink, events) = recorder();
    let downstream = downstream(|policy| {
        policy.retry = None;
        let concurrency = policy.concurrency.as_mut().unwrap();
        (concurrency.max, concurrency.queue) = (1, 1);
        concurrency.max_wait = ms(10);
    });
    let service = EventsLayer::new(sink).layer(around(&downstream, || async {
        tokio::time::sleep(ms(100)).await;
        Ok("ok")
    }));
    let call = || service.clone().oneshot(idempotent_request());
    // One call is sent, one waits in vain, and one finds the queue full.
    let (first, second, third) = tokio::join!(call(), call(), call());
    assert!(first.is_ok() && second.is_err() && third.is_err());
    downstream.breaker().open_for(ms(1000));
    assert!(call().await.is_err());
    let count = |kind: fn(&Event) -> bool| {
        let events = events.lock().unwrap();
        events.iter().filter(|event| kind(event)).count()
    };
    assert_eq!(count(|event| matches!(event, Event::Attempt { .. })), 4);
    assert_eq!(count(|event| *event == Event::Sent), 1);
}

#[tokio::test(start_paused = true)]
async fn ev_17_a_sink_of_a_downstream_hears_all_of_its_layers() {
    let (sink, events) = recorder();
    let downstream = downstream(|policy| {
        let limit = ConcurrencyConfig::new().max(1);
        policy.per_key = Some(PerKeyPolicy::new().concurrency(limit));
        policy.retry.as_mut().unwrap().max_attempts = 2;
    });
    let downstream = downstream.events(sink);
    let service = around(&downstream, || async { Err(failed()) });
    // A request without receivers of its own.
    assert!(service.oneshot(idempotent_request()).await.is_err());
    let hangs = around(&downstream, std::future::pending);
    let mut running = hangs.clone().oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut running).is_pending());
    assert!(hangs.clone().oneshot(idempotent_request()).await.is_err());
    drop(downstream.breaker().force_open());
    let events = events.lock().unwrap();
    let count = |kind: fn(&Event) -> bool| events.iter().filter(|event| kind(event)).count();
    assert_eq!(count(|event| *event == Event::Sent), 3);
    assert_eq!(count(|event| matches!(event, Event::Attempt { .. })), 4);
    assert_eq!(count(|event| matches!(event, Event::Backoff { .. })), 1);
    // One of the shared limit and one of the key, for each attempt.
    assert_eq!(
        count(|event| matches!(event, Event::PermitAcquired { .. })),
        6
    );
    assert_eq!(
        count(|event| *event == Event::Rejected(Rejection::AtCapacity)),
        1
    );
    let by_hand = |event: &Event| matches!(event, Event::BreakerChanged { by_hand: true, .. });
    assert_eq!(count(by_hand), 2);
}

#[tokio::test(start_paused = true)]
async fn ev_17_a_sink_of_a_downstream_hears_hedges_timeouts_and_keys() {
    let (sink, events) = recorder();
    let downstream = Downstream::with_optional_breaker(
        "users",
        Policy::new()
            .retry(None)
            .hedge(HedgeConfig::new().delay(HedgeDelay::Fixed(ms(10))))
            .attempt_timeout(ms(100))
            .circuit_breaker(None)
            .per_key(PerKeyPolicy::new().circuit_breaker(BreakerConfig::new())),
        ClassifyResult,
    );
    let downstream = downstream.unwrap().events(sink);
    let client = service_fn(|_: WithCall<()>| std::future::pending());
    let service = downstream.layer(client);
    let call = |deadline| {
        let deadline = Deadline::at(Instant::now() + ms(deadline));
        let call = service
            .clone()
            .oneshot(idempotent_request().key("acme").deadline(deadline));
        async {
            call.await
                .map(|answer: u32| answer)
                .map_err(|error: LayerError| error.as_rejection())
        }
    };
    assert_eq!(call(1_000).await, Err(Some(Rejection::AttemptTimeout)));
    assert_eq!(call(1).await, Err(Some(Rejection::DeadlineBeforeSend)));
    let breaker = downstream
        .breaker_per_key()
        .unwrap()
        .get(&Some("acme".into()));
    drop(breaker.unwrap().handle().force_open());
    let events = events.lock().unwrap();
    let count = |kind: fn(&Event) -> bool| events.iter().filter(|event| kind(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Hedge { .. })), 1);
    assert_eq!(
        count(|event| *event == Event::Rejected(Rejection::AttemptTimeout)),
        2
    );
    assert_eq!(
        count(|event| *event == Event::Rejected(Rejection::DeadlineBeforeSend)),
        1
    );
    assert_eq!(
        count(|event| matches!(event, Event::BreakerChanged { .. })),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn ord_03_the_total_timeout_bounds_all_attempts() {
    let downstream = downstream(|policy| {
        policy.total_timeout = Some(ms(1000));
        policy.attempt_timeout = Some(ms(400));
        policy.retry.as_mut().unwrap().max_attempts = 6;
        policy.retry.as_mut().unwrap().base = ms(1);
    });
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = around(&downstream, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending()
    });
    let start = Instant::now();
    let error = service.oneshot(idempotent_request()).await.unwrap_err();
    assert_eq!(error.as_rejection(), Some(Rejection::Deadline));
    assert_eq!(start.elapsed(), ms(1000));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn ord_04_the_breaker_does_not_count_the_queue_time() {
    let downstream = downstream(|policy| {
        policy.retry = None;
        policy.attempt_timeout = Some(ms(100));
        let concurrency = policy.concurrency.as_mut().unwrap();
        (concurrency.max, concurrency.queue, concurrency.max_wait) = (1, 4, ms(500));
    });
    let service = around(&downstream, || async {
        tokio::time::sleep(ms(80)).await;
        Ok("ok")
    });
    let calls = (0..5).map(|_| service.clone().oneshot(idempotent_request()));
    let answers = futures_util::future::join_all(calls).await;
    assert!(
        answers.into_iter().all(|answer| answer.is_ok()),
        "the last waits 320 ms and takes 80 ms"
    );
    assert_eq!(downstream.breaker().snapshot().failed, 0);
}

/// The services move into tasks, so the compiler also proves here that their futures are `Send`.
#[tokio::test(start_paused = true)]
async fn services_of_one_downstream_share_its_breaker() {
    let users = downstream(|policy| policy.retry = None);
    let broken = users.layer(service_fn(|_: WithCall<u32>| async {
        Err::<u32, _>(LayerError::from("down"))
    }));
    for _ in 0..5 {
        let result = tokio::spawn(broken.clone().oneshot(WithCall::new(7))).await;
        assert_eq!(result.unwrap().unwrap_err().to_string(), "down");
    }
    let fine = ServiceBuilder::new()
        .layer(users.clone())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, LayerError>(id.into_inner())
        }));
    let result = tokio::spawn(async move { fine.oneshot(WithCall::new(7)).await }).await;
    let error = result.unwrap().unwrap_err();
    assert!(matches!(
        error.as_rejection(),
        Some(Rejection::CircuitOpen { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn ord_05_the_breaker_sees_every_attempt() {
    let downstream = downstream(|_| {});
    let calls = Arc::new(AtomicU32::new(0));
    let service = around(&downstream, move || {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move { if call < 2 { Err(failed()) } else { Ok("ok") } }
    });
    assert_eq!(service.oneshot(idempotent_request()).await.unwrap(), "ok");
    let seen = downstream.breaker().snapshot();
    assert_eq!((seen.calls, seen.failed), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn ord_06_the_breaker_does_not_see_the_fallback() {
    let downstream = downstream(|policy| policy.retry = None);
    let service = service_fn(|_: WithCall<()>| async { Err::<&str, BoxError>(failed()) });
    let fallback = downstream.fallback().response("plan b");
    let service = fallback.layer(downstream.layer(service));
    assert_eq!(
        service.oneshot(idempotent_request()).await.unwrap(),
        "plan b"
    );
    assert_eq!(downstream.breaker().snapshot().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn ord_07_ord_08_a_cut_call_is_a_failure_only_if_it_ran_long() {
    for (cut_at, blamed) in [(10, 0), (600, 1)] {
        let downstream = downstream(|_| {});
        let mut plan = Plan::builder();
        plan.node("fails", broken(cut_at), |(), _| Ok(()));
        plan.node(
            "runs",
            around(&downstream, std::future::pending),
            |(), _| Ok(idempotent_request()),
        );
        let start = Instant::now();
        let fan_out = FanOut::new(plan.build().unwrap()).strategy(Strategy::All);
        fan_out.oneshot(()).await.unwrap_err();
        assert_eq!(start.elapsed(), ms(cut_at));
        assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
        assert_eq!(downstream.breaker().snapshot().failed, blamed);
    }
}

#[tokio::test(start_paused = true)]
async fn ord_09_a_failing_downstream_gets_no_more_retries_than_its_budget() {
    let retry = RetryConfig::new().budget(BudgetConfig::new().min_per_sec(0.0));
    let policy = Policy::new().circuit_breaker(None).retry(retry);
    let downstream = Downstream::with_optional_breaker("users", policy, ClassifyResult).unwrap();
    assert!(downstream.breaker().is_none());
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = around(&downstream, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err(failed()) }
    });
    for _ in 0..100 {
        service
            .clone()
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
    }
    let retries = calls.load(Ordering::Relaxed) - 100;
    assert!((1..=20).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn ord_10_a_call_that_pauses_holds_no_permit() {
    let downstream = downstream(|policy| {
        let retry = policy.retry.as_mut().unwrap();
        (retry.base, retry.cap, retry.jitter) =
            (ms(100), ms(100), tower_fanout::layers::retry::Jitter::None);
    });
    let service = around(&downstream, || async { Err(failed()) });
    let call = tokio::spawn(service.oneshot(idempotent_request()));
    tokio::time::sleep(ms(50)).await;
    assert!(!call.is_finished());
    assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn ord_13_a_hung_downstream_does_not_delay_another() {
    let (hung, fine) = (downstream(|_| {}), downstream(|_| {}));
    let mut plan = Plan::builder();
    plan.node(
        "hung",
        around(&hung, std::future::pending),
        |_: &WithDeadline, _| Ok(idempotent_request()),
    )
    .optional();
    plan.node("fine", around(&fine, || async { Ok("ok") }), |_, _| {
        Ok(idempotent_request())
    });
    let fan_out = FanOut::new(plan.build().unwrap());
    let calls = (0..150).map(|_| fan_out.clone().oneshot(WithDeadline::after(500)));
    for answer in futures_util::future::join_all(calls).await {
        let answer = answer.unwrap();
        let report = answer.report();
        assert_eq!(report.branches[1].elapsed, Some(ms(0)));
        assert_eq!(report.branches[0].status, Status::Failed);
    }
    assert_eq!(hung.concurrency().unwrap().in_flight(), 0);
}

/// Returns the branch of a service that always fails and is tried twice. Its fallback fails too and
/// is tried three times.
async fn answered_for(is_open: bool, others: Answered) -> Branch {
    let tried =
        |attempts: u8| downstream(|policy| policy.retry.as_mut().unwrap().max_attempts = attempts);
    let (own, other) = (tried(2), tried(3));
    if is_open {
        own.breaker().open_for(ms(1000));
    }
    let chain = match others {
        Answered::Never => own.fallback(),
        Answered::Failing => own
            .fallback()
            .service(around(&other, || async { Err(failed()) })),
        Answered::Panicking => own
            .fallback()
            .service(around(&other, || async { panic!("oh") })),
    };
    let broken = service_fn(|_: WithCall<()>| async { Err::<&str, _>(failed()) });
    let service = chain.layer(own.layer(broken));
    let mut plan = Plan::builder();
    plan.node("user", service, |(), _| Ok(idempotent_request()));
    match FanOut::new(plan.build().unwrap()).oneshot(()).await {
        Err(FanOutError::Failed { response, .. }) => response.report().branches[0].clone(),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy)]
enum Answered {
    Never,
    Failing,
    Panicking,
}

#[tokio::test(start_paused = true)]
async fn stopped_by_is_reported_only_for_the_nodes_own_service() {
    let attempts = Some(RetryStopReason::Attempts);
    for (is_open, others, sent, stopped_by) in [
        (false, Answered::Never, 2, attempts),
        (false, Answered::Failing, 5, attempts),
        (false, Answered::Panicking, 3, attempts),
        (true, Answered::Never, 0, None),
        (true, Answered::Failing, 3, None),
        (true, Answered::Panicking, 1, None),
    ] {
        let branch = answered_for(is_open, others).await;
        assert_eq!((branch.attempts, branch.stopped_by), (sent, stopped_by));
        assert_eq!(branch.was_called(), sent > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_retry_layer_a_rejected_branch_was_not_called() {
    let mut plan = Plan::builder();
    plan.node("user", slow(1), |(), _| Ok(()));
    plan.node("broken", broken(1), |(), _| Ok(()));
    plan.node("refused", refused(Rejection::AtCapacity), |(), _| Ok(()));
    plan.node("late", refused(Rejection::AttemptTimeout), |(), _| Ok(()));
    plan.node("unmade", slow(1), |(), _| {
        Err(BranchError::template("no id"))
    });
    plan.node("next", slow(1), |(), _| Ok(()))
        .after_named("unmade");
    let fan_out = FanOut::new(plan.build().unwrap()).strategy(Strategy::BestEffort);
    let answer = fan_out.oneshot(()).await.unwrap();
    let branches = answer.report().branches.iter();
    assert_eq!(
        branches.map(Branch::was_called).collect::<Vec<_>>(),
        [true, true, false, true, false, false]
    );
}

fn refused(rejection: Rejection) -> Node {
    node(move || async move { Err(rejection.into()) })
}

#[tokio::test(start_paused = true)]
async fn a_request_can_limit_retries_and_forbid_fallbacks() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let downstream = downstream(|_| {});
    let service = service_fn(move |_: WithCall<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err::<&str, BoxError>(failed()) }
    });
    let fallback = downstream.fallback().response("plan b");
    let service = fallback.layer(downstream.layer(service));
    let mut plan = Plan::builder();
    plan.node("users", service, |_: &WithDeadline, _| {
        Ok(idempotent_request())
    });
    let fan_out = FanOut::new(plan.build().unwrap());

    let answer = fan_out
        .clone()
        .oneshot(WithDeadline::after(5000))
        .await
        .unwrap();
    let branch = &answer.report().branches[0];
    assert_eq!((branch.status, branch.attempts), (Status::Fallback, 3));

    calls.store(0, Ordering::Relaxed);
    let mut plain = WithDeadline::after(5000);
    (plain.0.max_retries, plain.0.fallback) = (Some(1), false);
    let Err(FanOutError::Failed { response, .. }) = fan_out.oneshot(plain).await else {
        panic!("no fallback may answer");
    };
    let branch = &response.report().branches[0];
    assert_eq!((branch.status, branch.attempts), (Status::Failed, 2));
    assert_eq!(branch.error.as_ref().unwrap().kind(), ErrorKind::Reset);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// A request with a deadline.
#[derive(Clone)]
struct WithDeadline(Call);

impl WithDeadline {
    fn after(timeout: u64) -> Self {
        let mut call = Call::NONE;
        call.deadline = Deadline::after(Instant::now(), ms(timeout));
        Self(call)
    }
}

impl CallContext for WithDeadline {
    fn call(&self) -> &Call {
        &self.0
    }
}

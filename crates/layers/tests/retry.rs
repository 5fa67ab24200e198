//! Retry against its statements.
#![allow(missing_docs)]

mod common;

use std::{
    future::ready,
    mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use common::*;
use futures_util::{FutureExt, poll};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallContext, Class, Classify, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, Event, Failure, Rejection, RetryAllowance, RetryLayer, WithCall,
    breaker::Window,
    event::RetryStopReason,
    retry::{Budget, BudgetConfig, Jitter, RetryConfig},
};

fn retry(edit: impl FnOnce(&mut RetryConfig)) -> RetryLayer<ClassifyResult> {
    let mut config = RetryConfig::new().jitter(Jitter::None);
    edit(&mut config);
    RetryLayer::new(config, ClassifyResult).unwrap()
}

/// A budget that has `retries`, whatever is called.
fn with_budget(retries: f64) -> RetryLayer<ClassifyResult> {
    retry(|retry| {
        retry.budget.ratio = 0.0;
        retry.budget.min_per_sec = retries / retry.budget.ttl.as_secs_f64();
    })
}

const fn status(code: u16, retry_after: Option<Duration>) -> Fault {
    Fault::Failed(Failure::Status { code, retry_after })
}

const UNAVAILABLE: Fault = status(503, None);

/// The pauses before the second, third, … call.
fn pauses(script: &Scripted) -> Vec<Duration> {
    let starts = script.call_times();
    starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Why the retries ended, as far as it was told.
fn stopped(ear: &Ear) -> Option<RetryStopReason> {
    ear.heard().into_iter().find_map(|event| match event {
        Event::RetryStopped { by } => Some(by),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn rt_01_the_pauses_double_up_to_the_cap() {
    let layer = retry(|retry| {
        retry.max_attempts = 6;
        retry.cap = ms(300);
    });
    let script = script().fail(UNAVAILABLE);
    let result = layer.layer(script.clone()).oneshot(ask()).await;
    assert_eq!(result, Err(UNAVAILABLE));
    assert_eq!(pauses(&script), [50, 100, 200, 300, 300].map(ms));
}

#[tokio::test(start_paused = true)]
async fn rt_03_two_calls_do_not_come_back_together() {
    let layer = retry(|retry| {
        retry.jitter = Jitter::Full;
        retry.base = Duration::from_secs(1);
    });
    let mut first = Vec::new();
    for _ in 0..8 {
        let script = script().fail(UNAVAILABLE).respond(1);
        assert_eq!(layer.layer(script.clone()).oneshot(ask()).await, Ok(1));
        first.extend(pauses(&script));
    }
    assert!(first.iter().all(|pause| *pause <= ms(1_001)), "{first:?}");
    first.sort();
    first.dedup();
    assert!(first.len() > 4, "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn rt_05_fault_f25_what_may_have_been_done_is_not_done_twice() {
    let attempts = async |request: Request, fault| {
        let script = script().fail(fault);
        let result = retry(|_| {}).layer(script.clone()).oneshot(request).await;
        assert_eq!(result, Err(fault));
        script.calls()
    };
    let once = || WithCall::new(0);
    let refused = Fault::Failed(Failure::NotProcessed);
    for sent in [
        status(500, None),
        UNAVAILABLE,
        BROKEN,
        Fault::Refused(Rejection::AttemptTimeout),
    ] {
        assert_eq!(attempts(once(), sent).await, 1, "{sent:?}");
        assert_eq!(attempts(ask(), sent).await, 3, "{sent:?}");
    }
    for unsent in [UNREACHED, refused, Fault::Refused(Rejection::NoEndpoint)] {
        assert_eq!(attempts(once(), unsent).await, 3, "{unsent:?}");
    }
    let twice = retry(|retry| retry.idempotent = true);
    let script = script().fail(BROKEN).respond(1);
    assert_eq!(twice.layer(script).oneshot(once()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn rt_05_a_503_and_a_429_may_be_said_to_come_before_anything_was_done() {
    let throttled = status(429, None);
    // By this classifier a 429 asks for fewer calls, as it does by that of HTTP.
    let classify = |result: Result<&u32, &Fault>, elapsed| match result {
        Err(Fault::Failed(Failure::Status {
            code: 429,
            retry_after,
        })) => Class::Throttled {
            retry_after: *retry_after,
        },
        other => ClassifyResult.classify(other, elapsed),
    };
    let attempts = async |edit: fn(&mut RetryConfig), fault| {
        let script = script().fail(fault);
        let mut config = RetryConfig::new();
        edit(&mut config);
        let layer = RetryLayer::new(config, classify).unwrap();
        let result = layer.layer(script.clone()).oneshot(WithCall::new(0)).await;
        assert_eq!(result, Err(fault));
        script.calls()
    };
    let for_503: fn(&mut RetryConfig) = |retry| retry.retry_503_unsafe = true;
    let for_429: fn(&mut RetryConfig) = |retry| retry.retry_429_unsafe = true;
    for (edit, fault, calls) in [
        (for_503, UNAVAILABLE, 3),
        (for_503, throttled, 1),
        (for_503, status(500, None), 1),
        (for_503, BROKEN, 1),
        (for_429, throttled, 3),
        (for_429, UNAVAILABLE, 1),
        // Longer than is waited for.
        (for_503, status(503, Some(ms(10_001))), 1),
    ] {
        assert_eq!(attempts(edit, fault).await, calls, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f20_an_answer_that_would_be_the_same_again_is_not_asked_for_again() {
    let never = [
        status(501, None),
        Fault::Failed(Failure::Protocol),
        Fault::Failed(Failure::TooLarge),
        Fault::Failed(Failure::Panic),
        Fault::Refused(Rejection::AtCapacity),
        Fault::Refused(Rejection::QueueTimeout),
        Fault::Refused(Rejection::CircuitOpen { retry_after: None }),
        Fault::Refused(Rejection::Deadline),
        Fault::Refused(Rejection::DeadlineBeforeSend),
    ];
    for fault in never {
        let (script, ear) = (script().fail(fault), Ear::default());
        let request = ask().events(ear.events());
        let result = retry(|_| {}).layer(script.clone()).oneshot(request).await;
        assert_eq!((result, script.calls()), (Err(fault), 1));
        assert_eq!(
            stopped(&ear),
            Some(RetryStopReason::NotRetryable),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rt_06_fault_f21_a_retry_after_that_does_not_fit_ends_the_call_at_once() {
    let wait = status(503, Some(Duration::from_secs(3)));
    for (request, stop) in [
        (ask_within(ms(2_000)), RetryStopReason::Deadline),
        (ask(), RetryStopReason::RetryAfter),
    ] {
        let (script, ear) = (script().fail(wait), Ear::default());
        let longest = ms(if stop == RetryStopReason::RetryAfter {
            2_999
        } else {
            3_000
        });
        let layer = retry(|retry| retry.max_retry_after = longest);
        let call = layer
            .layer(script.clone())
            .oneshot(request.events(ear.events()));
        assert_eq!(timed(call).await, (Err(wait), ms(0)));
        assert_eq!((script.calls(), stopped(&ear)), (1, Some(stop)));
    }
}

#[tokio::test(start_paused = true)]
async fn rt_07_no_attempt_comes_before_it_was_asked_for() {
    let script = script()
        .fail(status(429, Some(Duration::from_secs(1))))
        .respond(1);
    assert_eq!(
        retry(|_| {}).layer(script.clone()).oneshot(ask()).await,
        Ok(1)
    );
    let pause = pauses(&script)[0];
    assert!((ms(1_000)..=ms(1_051)).contains(&pause), "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn rt_08_a_retry_after_that_has_passed_leaves_the_usual_pause() {
    for retry_after in [None, Some(Duration::ZERO)] {
        let script = script().fail(status(503, retry_after)).respond(1);
        assert_eq!(
            retry(|_| {}).layer(script.clone()).oneshot(ask()).await,
            Ok(1)
        );
        let pause = pauses(&script)[0];
        assert!((ms(50)..=ms(101)).contains(&pause), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rt_08_a_retry_after_may_be_of_no_account() {
    let layer = retry(|retry| retry.respect_retry_after = false);
    let script = script().fail(status(503, Some(ms(60_000)))).respond(1);
    assert_eq!(layer.layer(script.clone()).oneshot(ask()).await, Ok(1));
    assert_eq!(pauses(&script), [ms(50)]);
}

#[tokio::test(start_paused = true)]
async fn rt_09_fault_f23_an_empty_budget_ends_the_call_at_once_with_its_own_failure() {
    let (script, ear) = (script().fail(UNAVAILABLE), Ear::default());
    let service = with_budget(0.0).layer(script.clone());
    let (result, elapsed) = timed(service.oneshot(ask().events(ear.events()))).await;
    assert_eq!((result, elapsed), (Err(UNAVAILABLE), ms(0)));
    assert_eq!(
        (script.calls(), stopped(&ear)),
        (1, Some(RetryStopReason::Budget))
    );
}

#[tokio::test(start_paused = true)]
async fn rt_10_ten_first_attempts_at_six_tenths_pay_for_six_retries() {
    let layer = retry(|retry| {
        retry.budget.ratio = 0.6;
        retry.budget.min_per_sec = 0.0;
        retry.max_attempts = 2;
    });
    let script = script().fail(UNAVAILABLE);
    for _ in 0..10 {
        layer
            .layer(script.clone())
            .oneshot(ask())
            .await
            .unwrap_err();
    }
    assert_eq!(script.calls(), 10 + 6);
}

#[tokio::test(start_paused = true)]
async fn rt_11_a_call_dropped_in_its_pause_gives_its_retry_back() {
    let script = script().fail(UNAVAILABLE).times(2).respond(1);
    let service = with_budget(1.0).layer(script.clone());
    let mut dropped = service.clone().oneshot(ask()).boxed();
    assert!(poll!(&mut dropped).is_pending());
    drop(dropped);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(script.calls(), 1);
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

/// A breaker that opens after some failures in a row, below a retry that asks it again.
fn around(
    script: &Scripted,
    trip_after: u32,
) -> impl Service<Request, Response = u32, Error = Fault> + Clone {
    let policy = BreakerConfig::new()
        .window(Window::Count(10))
        .min_calls(10)
        .consecutive_failures(trip_after);
    let breaker = BreakerLayer::new("team", policy, ClassifyResult).unwrap();
    let retry = with_budget(1.0).breaker(breaker.handle().clone());
    retry.layer(breaker.layer(script.clone()))
}

#[tokio::test(start_paused = true)]
async fn rt_13_a_breaker_that_opens_between_attempts_leaves_the_failure() {
    let script = script().fail(UNAVAILABLE);
    let service = around(&script, 1);
    let ear = Ear::default();
    let result = service.clone().oneshot(ask().events(ear.events())).await;
    assert_eq!((result, script.calls()), (Err(UNAVAILABLE), 1));
    assert_eq!(stopped(&ear), Some(RetryStopReason::BreakerOpen));

    // The one retry of the budget was not spent.
    let again = common::script().fail(UNAVAILABLE).respond(1);
    let service = around(&again, 10);
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn rt_17_the_last_result_is_gone_before_the_next_attempt() {
    let last = Arc::new(Mutex::new(Weak::<()>::new()));
    let seen = Arc::clone(&last);
    let service = service_fn(move |_: Request| {
        let answer = Arc::new(());
        let before = mem::replace(&mut *seen.lock().unwrap(), Arc::downgrade(&answer));
        assert_eq!(before.strong_count(), 0, "the last answer is still held");
        ready(Ok::<_, Fault>(answer))
    });
    let classify = |_: Result<&Arc<()>, &Fault>, _| Class::Failure(Failure::ConnectionReset);
    let service = RetryLayer::new(RetryConfig::new(), classify)
        .unwrap()
        .layer(service);
    let answer = service.oneshot(ask()).await.unwrap();
    assert_eq!(last.lock().unwrap().as_ptr(), Arc::as_ptr(&answer));
}

#[tokio::test(start_paused = true)]
async fn rt_18_a_retry_may_go_to_another_endpoint() {
    let (service, calls) = two_endpoints(|_| Err(UNAVAILABLE));
    let result = retry(|retry| retry.max_attempts = 2)
        .layer(service)
        .oneshot(ask())
        .await;
    assert_eq!((result, calls.get()), (Err(UNAVAILABLE), vec![0, 1]));
}

#[tokio::test(start_paused = true)]
async fn rt_19_each_attempt_knows_its_number() {
    let service = service_fn(|request: Request| async move {
        match request.call().attempt {
            3 => Ok(3),
            _ => Err(UNAVAILABLE),
        }
    });
    assert_eq!(retry(|_| {}).layer(service).oneshot(ask()).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn rt_20_services_of_one_layer_share_its_budget_and_nothing_else() {
    let layer = with_budget(1.0);
    let (a, b) = (script().fail(UNAVAILABLE), script().fail(UNAVAILABLE));
    layer.layer(a.clone()).oneshot(ask()).await.unwrap_err();
    layer.layer(b.clone()).oneshot(ask()).await.unwrap_err();
    assert_eq!((a.calls(), b.calls()), (2, 1));

    // Each call counts its own attempts.
    let script = script().fail(UNAVAILABLE);
    let service = with_budget(100.0).layer(script.clone());
    for calls in [3, 6, 9] {
        service.clone().oneshot(ask()).await.unwrap_err();
        assert_eq!(script.calls(), calls);
    }
}

/// A request that must not be kept for another attempt.
struct Once;

impl Clone for Once {
    fn clone(&self) -> Self {
        panic!("it was kept")
    }
}

impl CallContext for Once {
    fn is_idempotent(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn rt_21_with_one_attempt_nothing_is_kept() {
    let service = service_fn(|_: Once| async { Err::<u32, _>(UNAVAILABLE) });
    let service = retry(|retry| retry.max_attempts = 1).layer(service);
    assert_eq!(service.oneshot(Once).await, Err(UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn rt_22_a_success_on_the_third_attempt_reports_three() {
    let script = script().fail(UNAVAILABLE).fail(BROKEN).respond(1);
    let ear = Ear::default();
    let request = ask().events(ear.events());
    assert_eq!(retry(|_| {}).layer(script).oneshot(request).await, Ok(1));
    let numbers = ear.heard().into_iter().filter_map(|event| match event {
        Event::Attempt { number } => Some(number),
        _ => None,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(stopped(&ear), None);
}

#[tokio::test(start_paused = true)]
async fn rt_23_a_classifier_that_panics_costs_no_retry() {
    let budget = BudgetConfig::new().ratio(0.0).min_per_sec(0.1);
    let budget = Budget::new(&budget).unwrap();
    let classify = |_: Result<&u32, &Fault>, _| -> Class { panic!("classifier") };
    let broken = RetryLayer::new(RetryConfig::new(), classify)
        .unwrap()
        .budget(budget.clone());
    let call = broken.layer(script().fail(UNAVAILABLE)).oneshot(ask());
    assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
    let script = script().fail(UNAVAILABLE).respond(1);
    let service = retry(|_| {}).budget(budget).layer(script);
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_surely_not_taken_is_sent_once_more_at_once_and_for_free() {
    let script = script()
        .fail(Fault::Failed(Failure::NotProcessed))
        .respond(1);
    let service = with_budget(0.0).layer(script.clone());
    assert_eq!(timed(service.oneshot(ask())).await, (Ok(1), ms(0)));
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_one_request_share_its_allowance() {
    let allowance = Arc::new(RetryAllowance::new(3));
    let script = script().fail(UNAVAILABLE);
    let ear = Ear::default();
    for _ in 0..2 {
        let mut request = ask_with(|call| call.allowance = Some(Arc::clone(&allowance)));
        request.call_mut().unwrap().events = ear.events();
        retry(|_| {})
            .layer(script.clone())
            .oneshot(request)
            .await
            .unwrap_err();
    }
    assert_eq!(script.calls(), 2 + 3);
    let stops = ear
        .heard()
        .into_iter()
        .filter(|event| matches!(event, Event::RetryStopped { .. }));
    let stops = stops.collect::<Vec<_>>();
    assert_eq!(
        stops,
        [RetryStopReason::Attempts, RetryStopReason::RequestCap]
            .map(|by| Event::RetryStopped { by })
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_may_ask_for_fewer_attempts_and_not_for_more() {
    for (asked, attempts) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
        let script = script().fail(UNAVAILABLE);
        let request = ask_with(|call| call.max_retries = Some(asked));
        retry(|_| {})
            .layer(script.clone())
            .oneshot(request)
            .await
            .unwrap_err();
        assert_eq!(script.calls(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f24_a_pause_that_would_miss_the_deadline_is_not_begun() {
    // 50 ms until the next attempt, and the 10 ms that it needs.
    for (left, elapsed, calls, by) in [
        (60, 50, 2, RetryStopReason::Attempts),
        (59, 0, 1, RetryStopReason::Deadline),
    ] {
        let (script, ear) = (script().fail(UNAVAILABLE), Ear::default());
        let service = retry(|retry| retry.max_attempts = 2).layer(script.clone());
        let call = service.oneshot(ask_within(ms(left)).events(ear.events()));
        assert_eq!(timed(call).await, (Err(UNAVAILABLE), ms(elapsed)));
        assert_eq!((script.calls(), stopped(&ear)), (calls, Some(by)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_layer_below_refused_costs_no_retry() {
    // The retry meets a full limit, so it was not sent, and the next call may retry.
    let full = Fault::Refused(Rejection::AtCapacity);
    let script = script()
        .fail(UNAVAILABLE)
        .fail(full)
        .fail(UNAVAILABLE)
        .respond(1);
    let service = with_budget(1.0).layer(script.clone());
    assert_eq!(service.clone().oneshot(ask()).await, Err(UNAVAILABLE));
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

/// A call whose second attempt meets a limit that another call has reached until 100 ms later, and
/// how it ended.
async fn meets_a_full_limit(max_wait: Duration) -> (Result<u32, Fault>, Duration, usize, Ear) {
    let limit = ConcurrencyConfig::new().max(1).queue(9).max_wait(ms(1_000));
    let limit = ConcurrencyLayer::new(limit).unwrap();
    let script = script().fail(BROKEN).respond(2).after(ms(100)).respond(3);
    let service = limit.layer(script.clone());
    let again = retry(|retry| retry.max_wait = max_wait).layer(service.clone());
    let ear = Ear::default();
    let call = timed(again.oneshot(ask().events(ear.events())));
    let other = async {
        // In the pause of the call.
        tokio::time::sleep(ms(50) - ms(1)).await;
        service.oneshot(ask()).await
    };
    let ((result, elapsed), other) = tokio::join!(call, other);
    assert_eq!(other, Ok(2));
    (result, elapsed, script.calls(), ear)
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_queue_and_leaves_the_failure_that_it_was_for() {
    let (result, elapsed, calls, ear) = meets_a_full_limit(ms(0)).await;
    assert_eq!((result, elapsed, calls), (Err(BROKEN), ms(50), 2));
    assert_eq!(stopped(&ear), Some(RetryStopReason::Refused));
    let refused = Event::Rejected(Rejection::AtCapacity);
    assert!(ear.heard().contains(&refused));
}

#[tokio::test(start_paused = true)]
async fn a_retry_queues_for_as_long_as_it_may() {
    let (result, elapsed, calls, ear) = meets_a_full_limit(ms(98)).await;
    assert_eq!((result, elapsed, calls), (Err(BROKEN), ms(148), 2));
    let refused = Event::Rejected(Rejection::QueueTimeout);
    assert!(ear.heard().contains(&refused));

    let (result, elapsed, ..) = meets_a_full_limit(ms(200)).await;
    assert_eq!((result, elapsed), (Ok(3), ms(149)));
}

#[tokio::test(start_paused = true)]
async fn the_last_real_failure_outlives_refusals_that_are_retried() {
    let nowhere = Fault::Refused(Rejection::NoEndpoint);
    let script = script().fail(BROKEN).fail(nowhere).fail(nowhere);
    let ear = Ear::default();
    let service = retry(|_| {}).layer(script.clone());
    let result = service.oneshot(ask().events(ear.events())).await;
    assert_eq!((result, script.calls()), (Err(BROKEN), 3));
    assert_eq!(stopped(&ear), Some(RetryStopReason::Attempts));
    // There may have been no other failure.
    let script = common::script().fail(nowhere);
    let result = retry(|_| {}).layer(script.clone()).oneshot(ask()).await;
    assert_eq!((result, script.calls()), (Err(nowhere), 3));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_below_that_opens_leaves_the_failure_without_being_asked_again() {
    let policy = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::new("team", policy, ClassifyResult).unwrap();
    let (script, ear) = (script().fail(BROKEN), Ear::default());
    let service = retry(|_| {}).layer(breaker.layer(script.clone()));
    let result = service.oneshot(ask().events(ear.events())).await;
    assert_eq!((result, script.calls()), (Err(BROKEN), 1));
    assert_eq!(stopped(&ear), Some(RetryStopReason::BreakerOpen));
}

//! Tests of the retry statements (RT).
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

/// Creates a layer with a budget of exactly `retries` retries.
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

/// Returns the pauses before the second, third, … call.
fn pauses(script: &Scripted) -> Vec<Duration> {
    let starts = script.call_times();
    starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Returns the reason of the first `RetryStopped` event.
fn stopped(recorder: &EventRecorder) -> Option<RetryStopReason> {
    recorder
        .recorded()
        .into_iter()
        .find_map(|event| match event {
            Event::RetryStopped { by } => Some(by),
            _ => None,
        })
}

#[tokio::test(start_paused = true)]
async fn rt_01_pauses_double_up_to_the_cap() {
    let layer = retry(|retry| {
        retry.max_attempts = 6;
        retry.cap = ms(300);
    });
    let script = script().fail(UNAVAILABLE);
    let result = layer
        .layer(script.clone())
        .oneshot(idempotent_request())
        .await;
    assert_eq!(result, Err(UNAVAILABLE));
    assert_eq!(pauses(&script), [50, 100, 200, 300, 300].map(ms));
}

#[tokio::test(start_paused = true)]
async fn rt_03_two_calls_do_not_retry_at_the_same_times() {
    let layer = retry(|retry| {
        retry.jitter = Jitter::Full;
        retry.base = Duration::from_secs(1);
    });
    let mut first = Vec::new();
    for _ in 0..8 {
        let script = script().fail(UNAVAILABLE).respond(1);
        assert_eq!(
            layer
                .layer(script.clone())
                .oneshot(idempotent_request())
                .await,
            Ok(1)
        );
        first.extend(pauses(&script));
    }
    assert!(first.iter().all(|pause| *pause <= ms(1_001)), "{first:?}");
    first.sort();
    first.dedup();
    assert!(first.len() > 4, "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn rt_05_fault_f25_retries_other_requests_only_if_nothing_was_sent() {
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
        assert_eq!(attempts(idempotent_request(), sent).await, 3, "{sent:?}");
    }
    for unsent in [UNREACHED, refused, Fault::Refused(Rejection::NoEndpoint)] {
        assert_eq!(attempts(once(), unsent).await, 3, "{unsent:?}");
    }
    let twice = retry(|retry| retry.idempotent = true);
    let script = script().fail(BROKEN).respond(1);
    assert_eq!(twice.layer(script).oneshot(once()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn rt_05_503_and_429_can_be_declared_safe_to_retry() {
    let throttled = status(429, None);
    // Classifies a 429 as throttled, as `ClassifyHttp` does.
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
        // Longer than `max_retry_after`.
        (for_503, status(503, Some(ms(10_001))), 1),
    ] {
        assert_eq!(attempts(edit, fault).await, calls, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f20_does_not_retry_what_would_fail_again() {
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
        let (script, recorder) = (script().fail(fault), EventRecorder::default());
        let request = idempotent_request().events(recorder.events());
        let result = retry(|_| {}).layer(script.clone()).oneshot(request).await;
        assert_eq!((result, script.calls()), (Err(fault), 1));
        assert_eq!(
            stopped(&recorder),
            Some(RetryStopReason::NotRetryable),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_failure_stops_no_retry() {
    let classify = |_: Result<&u32, &Fault>, _: Duration| Class::NonRetryable(404);
    let layer = RetryLayer::new(RetryConfig::new(), classify).unwrap();
    let (script, recorder) = (script().respond(7), EventRecorder::default());
    let request = idempotent_request().events(recorder.events());
    assert_eq!(layer.layer(script.clone()).oneshot(request).await, Ok(7));
    assert_eq!((script.calls(), stopped(&recorder)), (1, None));
}

#[tokio::test(start_paused = true)]
async fn rt_06_fault_f21_a_retry_after_that_does_not_fit_ends_the_call() {
    let wait = status(503, Some(Duration::from_secs(3)));
    for (request, stop) in [
        (request_within(ms(2_000)), RetryStopReason::Deadline),
        (idempotent_request(), RetryStopReason::RetryAfter),
    ] {
        let (script, recorder) = (script().fail(wait), EventRecorder::default());
        let longest = ms(if stop == RetryStopReason::RetryAfter {
            2_999
        } else {
            3_000
        });
        let layer = retry(|retry| retry.max_retry_after = longest);
        let call = layer
            .layer(script.clone())
            .oneshot(request.events(recorder.events()));
        assert_eq!(timed(call).await, (Err(wait), ms(0)));
        assert_eq!((script.calls(), stopped(&recorder)), (1, Some(stop)));
    }
}

#[tokio::test(start_paused = true)]
async fn rt_07_never_retries_earlier_than_retry_after() {
    let script = script()
        .fail(status(429, Some(Duration::from_secs(1))))
        .respond(1);
    assert_eq!(
        retry(|_| {})
            .layer(script.clone())
            .oneshot(idempotent_request())
            .await,
        Ok(1)
    );
    let pause = pauses(&script)[0];
    assert!((ms(1_000)..=ms(1_051)).contains(&pause), "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn rt_08_a_past_retry_after_leaves_the_usual_pause() {
    for retry_after in [None, Some(Duration::ZERO)] {
        let script = script().fail(status(503, retry_after)).respond(1);
        assert_eq!(
            retry(|_| {})
                .layer(script.clone())
                .oneshot(idempotent_request())
                .await,
            Ok(1)
        );
        let pause = pauses(&script)[0];
        assert!((ms(50)..=ms(101)).contains(&pause), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rt_08_retry_after_can_be_ignored() {
    let layer = retry(|retry| retry.respect_retry_after = false);
    let script = script().fail(status(503, Some(ms(60_000)))).respond(1);
    assert_eq!(
        layer
            .layer(script.clone())
            .oneshot(idempotent_request())
            .await,
        Ok(1)
    );
    assert_eq!(pauses(&script), [ms(50)]);
}

#[tokio::test(start_paused = true)]
async fn rt_09_fault_f23_an_empty_budget_returns_the_real_failure_at_once() {
    let (script, recorder) = (script().fail(UNAVAILABLE), EventRecorder::default());
    let service = with_budget(0.0).layer(script.clone());
    let (result, elapsed) =
        timed(service.oneshot(idempotent_request().events(recorder.events()))).await;
    assert_eq!((result, elapsed), (Err(UNAVAILABLE), ms(0)));
    assert_eq!(
        (script.calls(), stopped(&recorder)),
        (1, Some(RetryStopReason::Budget))
    );
}

#[tokio::test(start_paused = true)]
async fn rt_10_a_ratio_of_six_tenths_allows_six_retries_per_ten_calls() {
    let layer = retry(|retry| {
        retry.budget.ratio = 0.6;
        retry.budget.min_per_sec = 0.0;
        retry.max_attempts = 2;
    });
    let script = script().fail(UNAVAILABLE);
    for _ in 0..10 {
        layer
            .layer(script.clone())
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
    }
    assert_eq!(script.calls(), 10 + 6);
}

#[tokio::test(start_paused = true)]
async fn rt_11_dropping_a_call_in_its_pause_refunds_the_retry() {
    let script = script().fail(UNAVAILABLE).times(2).respond(1);
    let service = with_budget(1.0).layer(script.clone());
    let mut dropped = service.clone().oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut dropped).is_pending());
    drop(dropped);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(script.calls(), 1);
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

/// Creates a breaker that opens after some failures in a row, below a retry that checks it.
fn around(
    script: &Scripted,
    trip_after: u32,
) -> impl Service<Request, Response = u32, Error = Fault> + Clone {
    let config = BreakerConfig::new()
        .window(Window::Count(10))
        .min_calls(10)
        .consecutive_failures(trip_after);
    let breaker = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    let retry = with_budget(1.0).breaker(breaker.handle().clone());
    retry.layer(breaker.layer(script.clone()))
}

#[tokio::test(start_paused = true)]
async fn rt_13_a_breaker_that_opens_between_attempts_keeps_the_failure() {
    let script = script().fail(UNAVAILABLE);
    let service = around(&script, 1);
    let recorder = EventRecorder::default();
    let result = service
        .clone()
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!((result, script.calls()), (Err(UNAVAILABLE), 1));
    assert_eq!(stopped(&recorder), Some(RetryStopReason::BreakerOpen));

    // The budget's only retry was refunded.
    let again = common::script().fail(UNAVAILABLE).respond(1);
    let service = around(&again, 10);
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn rt_17_the_last_response_is_dropped_before_the_next_attempt() {
    let last = Arc::new(Mutex::new(Weak::<()>::new()));
    let seen = Arc::clone(&last);
    let service = service_fn(move |_: Request| {
        let answer = Arc::new(());
        let before = mem::replace(&mut *seen.lock().unwrap(), Arc::downgrade(&answer));
        assert_eq!(before.strong_count(), 0, "the last response is still alive");
        ready(Ok::<_, Fault>(answer))
    });
    let classify = |_: Result<&Arc<()>, &Fault>, _| Class::Failure(Failure::ConnectionReset);
    let service = RetryLayer::new(RetryConfig::new(), classify)
        .unwrap()
        .release_responses()
        .layer(service);
    let answer = service.oneshot(idempotent_request()).await.unwrap();
    assert_eq!(last.lock().unwrap().as_ptr(), Arc::as_ptr(&answer));
}

#[tokio::test(start_paused = true)]
async fn rt_18_a_retry_can_use_another_endpoint() {
    let (service, calls) = two_endpoints(|_| Err(UNAVAILABLE));
    let result = retry(|retry| retry.max_attempts = 2)
        .layer(service)
        .oneshot(idempotent_request())
        .await;
    assert_eq!((result, calls.get()), (Err(UNAVAILABLE), vec![0, 1]));
}

#[tokio::test(start_paused = true)]
async fn rt_19_each_attempt_carries_its_number() {
    let service = service_fn(|request: Request| async move {
        match request.call().attempt {
            3 => Ok(3),
            _ => Err(UNAVAILABLE),
        }
    });
    assert_eq!(
        retry(|_| {})
            .layer(service)
            .oneshot(idempotent_request())
            .await,
        Ok(3)
    );
}

#[tokio::test(start_paused = true)]
async fn rt_20_services_of_one_layer_share_only_the_budget() {
    let layer = with_budget(1.0);
    let (a, b) = (script().fail(UNAVAILABLE), script().fail(UNAVAILABLE));
    layer
        .layer(a.clone())
        .oneshot(idempotent_request())
        .await
        .unwrap_err();
    layer
        .layer(b.clone())
        .oneshot(idempotent_request())
        .await
        .unwrap_err();
    assert_eq!((a.calls(), b.calls()), (2, 1));

    // Attempts are counted per call.
    let script = script().fail(UNAVAILABLE);
    let service = with_budget(100.0).layer(script.clone());
    for calls in [3, 6, 9] {
        service
            .clone()
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
        assert_eq!(script.calls(), calls);
    }
}

/// A request that panics if it is cloned.
struct Once;

impl Clone for Once {
    fn clone(&self) -> Self {
        panic!("the request was cloned")
    }
}

impl CallContext for Once {
    fn is_idempotent(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn rt_21_a_single_attempt_does_not_clone_the_request() {
    let service = service_fn(|_: Once| async { Err::<u32, _>(UNAVAILABLE) });
    let service = retry(|retry| retry.max_attempts = 1).layer(service);
    assert_eq!(service.oneshot(Once).await, Err(UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn rt_22_a_success_on_the_third_attempt_reports_three() {
    let script = script().fail(UNAVAILABLE).fail(BROKEN).respond(1);
    let recorder = EventRecorder::default();
    let request = idempotent_request().events(recorder.events());
    assert_eq!(retry(|_| {}).layer(script).oneshot(request).await, Ok(1));
    let numbers = recorder
        .recorded()
        .into_iter()
        .filter_map(|event| match event {
            Event::Attempt { number } => Some(number),
            _ => None,
        });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(stopped(&recorder), None);
}

#[tokio::test(start_paused = true)]
async fn rt_23_a_panic_of_the_classifier_refunds_the_retry() {
    let budget = BudgetConfig::new().ratio(0.0).min_per_sec(0.1);
    let budget = Budget::new(&budget).unwrap();
    let classify = |_: Result<&u32, &Fault>, _| -> Class { panic!("classifier") };
    let broken = RetryLayer::new(RetryConfig::new(), classify)
        .unwrap()
        .budget(budget.clone());
    let call = broken
        .layer(script().fail(UNAVAILABLE))
        .oneshot(idempotent_request());
    assert!(AssertUnwindSafe(call).catch_unwind().await.is_err());
    let script = script().fail(UNAVAILABLE).respond(1);
    let service = retry(|_| {}).budget(budget).layer(script);
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_processed_is_retried_at_once_for_free() {
    let script = script()
        .fail(Fault::Failed(Failure::NotProcessed))
        .respond(1);
    let service = with_budget(0.0).layer(script.clone());
    assert_eq!(
        timed(service.oneshot(idempotent_request())).await,
        (Ok(1), ms(0))
    );
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_request_share_its_allowance() {
    let allowance = Arc::new(RetryAllowance::new(3));
    let script = script().fail(UNAVAILABLE);
    let recorder = EventRecorder::default();
    for _ in 0..2 {
        let mut request = ask_with(|call| call.allowance = Some(Arc::clone(&allowance)));
        request.call_mut().unwrap().events = recorder.events();
        retry(|_| {})
            .layer(script.clone())
            .oneshot(request)
            .await
            .unwrap_err();
    }
    assert_eq!(script.calls(), 2 + 3);
    let stops = recorder
        .recorded()
        .into_iter()
        .filter(|event| matches!(event, Event::RetryStopped { .. }));
    let stops = stops.collect::<Vec<_>>();
    assert_eq!(
        stops,
        [RetryStopReason::Attempts, RetryStopReason::RequestAllowance]
            .map(|by| Event::RetryStopped { by })
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_can_lower_the_number_of_attempts_but_not_raise_it() {
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
async fn fault_f24_a_pause_that_would_miss_the_deadline_does_not_start() {
    // The next attempt needs a pause of 50 ms and `min_useful`, 10 ms.
    for (left, elapsed, calls, by) in [
        (60, 50, 2, RetryStopReason::Attempts),
        (59, 0, 1, RetryStopReason::Deadline),
    ] {
        let (script, recorder) = (script().fail(UNAVAILABLE), EventRecorder::default());
        let service = retry(|retry| retry.max_attempts = 2).layer(script.clone());
        let call = service.oneshot(request_within(ms(left)).events(recorder.events()));
        assert_eq!(timed(call).await, (Err(UNAVAILABLE), ms(elapsed)));
        assert_eq!((script.calls(), stopped(&recorder)), (calls, Some(by)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_layer_below_rejects_costs_no_retry() {
    // The retry meets a full limit and is never sent, so the next call has a retry left.
    let full = Fault::Refused(Rejection::AtCapacity);
    let script = script()
        .fail(UNAVAILABLE)
        .fail(full)
        .fail(UNAVAILABLE)
        .respond(1);
    let service = with_budget(1.0).layer(script.clone());
    assert_eq!(
        service.clone().oneshot(idempotent_request()).await,
        Err(UNAVAILABLE)
    );
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

/// Runs a call with a second attempt that meets a full limit. Another call holds the permit for 100 ms.
/// Returns the result, the elapsed time, the number of calls and the events.
async fn meets_a_full_limit(
    max_wait: Duration,
) -> (Result<u32, Fault>, Duration, usize, EventRecorder) {
    let limit = ConcurrencyConfig::new().max(1).queue(9).max_wait(ms(1_000));
    let limit = ConcurrencyLayer::new(limit).unwrap();
    let script = script().fail(BROKEN).respond(2).after(ms(100)).respond(3);
    let service = limit.layer(script.clone());
    let again = retry(|retry| retry.max_wait = max_wait).layer(service.clone());
    let recorder = EventRecorder::default();
    let call = timed(again.oneshot(idempotent_request().events(recorder.events())));
    let other = async {
        // Starts during the pause of the call.
        tokio::time::sleep(ms(50) - ms(1)).await;
        service.oneshot(idempotent_request()).await
    };
    let ((result, elapsed), other) = tokio::join!(call, other);
    assert_eq!(other, Ok(2));
    (result, elapsed, script.calls(), recorder)
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_queue_and_keeps_the_previous_failure() {
    let (result, elapsed, calls, recorder) = meets_a_full_limit(ms(0)).await;
    assert_eq!((result, elapsed, calls), (Err(BROKEN), ms(50), 2));
    assert_eq!(stopped(&recorder), Some(RetryStopReason::Rejected));
    let refused = Event::Rejected(Rejection::AtCapacity);
    assert!(recorder.recorded().contains(&refused));
}

#[tokio::test(start_paused = true)]
async fn a_retry_queues_up_to_max_wait() {
    let (result, elapsed, calls, recorder) = meets_a_full_limit(ms(98)).await;
    assert_eq!((result, elapsed, calls), (Err(BROKEN), ms(148), 2));
    let refused = Event::Rejected(Rejection::QueueTimeout);
    assert!(recorder.recorded().contains(&refused));

    let (result, elapsed, ..) = meets_a_full_limit(ms(200)).await;
    assert_eq!((result, elapsed), (Ok(3), ms(149)));
}

#[tokio::test(start_paused = true)]
async fn the_last_real_failure_is_kept_over_retried_rejections() {
    let nowhere = Fault::Refused(Rejection::NoEndpoint);
    let script = script().fail(BROKEN).fail(nowhere).fail(nowhere);
    let recorder = EventRecorder::default();
    let service = retry(|_| {}).layer(script.clone());
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!((result, script.calls()), (Err(BROKEN), 3));
    assert_eq!(stopped(&recorder), Some(RetryStopReason::Attempts));
    // Without another failure, the rejection is returned.
    let script = common::script().fail(nowhere);
    let result = retry(|_| {})
        .layer(script.clone())
        .oneshot(idempotent_request())
        .await;
    assert_eq!((result, script.calls()), (Err(nowhere), 3));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_below_that_opens_keeps_the_failure_without_a_handle() {
    let config = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    let (script, recorder) = (script().fail(BROKEN), EventRecorder::default());
    let service = retry(|_| {}).layer(breaker.layer(script.clone()));
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!((result, script.calls()), (Err(BROKEN), 1));
    assert_eq!(stopped(&recorder), Some(RetryStopReason::BreakerOpen));
}

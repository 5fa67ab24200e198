//! Tests of the statements about deadlines and timeouts (DL).
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    CallContext, ClassifyResult, ConfigError, Deadline, DeadlineLayer, Event, Rejection,
    RetryConfig, RetryLayer, TimeoutLayer,
    retry::Jitter,
    timeout::{DeadlineConfig, TimeoutConfig},
};

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_timeout_and_drops_the_call() {
    let script = script().hang();
    let service = TimeoutLayer::new(ms(100)).unwrap().layer(script.clone());
    let (result, elapsed) = timed(service.oneshot(idempotent_request())).await;
    assert_eq!(result, Err(Fault::Refused(Rejection::AttemptTimeout)));
    assert_eq!((elapsed, script.cancelled()), (ms(100), 1));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_call_ends_an_attempt_as_a_deadline() {
    let service = TimeoutLayer::new(ms(100)).unwrap().layer(script().hang());
    let (result, elapsed) = timed(service.oneshot(request_within(ms(60)))).await;
    assert_eq!(result, Err(Fault::Refused(Rejection::Deadline)));
    assert_eq!(elapsed, ms(60));
}

#[tokio::test(start_paused = true)]
async fn dl_04_a_second_attempt_has_the_remaining_time() {
    let config = RetryConfig::new().base(Duration::from_nanos(1));
    let service = service_fn(|request: Request| async move {
        let left = request.call().deadline.unwrap().remaining(Instant::now());
        tokio::time::sleep(ms(300)).await;
        match request.call().attempt {
            1 => Err(BROKEN),
            _ => Ok(left),
        }
    });
    let service = DeadlineLayer::new(ms(1_000)).unwrap().layer(
        RetryLayer::new(config, ClassifyResult)
            .unwrap()
            .layer(service),
    );
    let left = service.oneshot(idempotent_request()).await.unwrap();
    assert!((ms(690)..=ms(700)).contains(&left), "{left:?}");
}

/// Runs attempts of at most 300 ms that all hang. Returns the error, the elapsed time and the calls.
async fn hung_twice(request: Request, relaxed: bool, max_attempts: u8) -> (Fault, Duration, usize) {
    let config = RetryConfig::new()
        .base(ms(1))
        .jitter(Jitter::None)
        .max_attempts(max_attempts);
    let attempt = TimeoutConfig::new(ms(300)).last_attempt_uses_deadline(relaxed);
    let attempt = TimeoutLayer::new(attempt).unwrap();
    let script = script().hang();
    let retry = RetryLayer::new(config, ClassifyResult).unwrap();
    let service = DeadlineLayer::new(DeadlineConfig::new())
        .unwrap()
        .layer(retry.layer(attempt.layer(script.clone())));
    let call = timeout(ms(5_000), timed(service.oneshot(request)));
    let (result, elapsed) = call.await.expect("the call never ended");
    (result.unwrap_err(), elapsed, script.calls())
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_can_use_the_whole_remaining_time() {
    let attempt = Fault::Refused(Rejection::AttemptTimeout);
    let deadline = Fault::Refused(Rejection::Deadline);
    let within = || request_within(ms(2_000));
    assert_eq!(hung_twice(within(), false, 2).await, (attempt, ms(601), 2));
    assert_eq!(
        hung_twice(within(), true, 2).await,
        (deadline, ms(2_000), 2)
    );
    // The only attempt is the last one.
    assert_eq!(
        hung_twice(within(), true, 1).await,
        (deadline, ms(2_000), 1)
    );
    // Without a deadline, the timeout stays even if the attempt is marked as the last.
    assert_eq!(
        hung_twice(idempotent_request(), true, 2).await,
        (attempt, ms(601), 2)
    );
    let config = TimeoutConfig::new(ms(300)).last_attempt_uses_deadline(true);
    let service = TimeoutLayer::new(config).unwrap();
    let request = ask_with(|call| call.last_attempt = true);
    let call = service.layer(script().hang()).oneshot(request);
    let call = timeout(ms(5_000), call)
        .await
        .expect("the call never ended");
    assert_eq!(call, Err(attempt));
}

#[tokio::test(start_paused = true)]
async fn dl_05_with_too_little_time_nothing_is_sent() {
    for left in [ms(0), ms(5), ms(9)] {
        let script = script().respond(1);
        let service = TimeoutLayer::new(ms(100)).unwrap().layer(script.clone());
        let recorder = EventRecorder::default();
        let request = request_within(left).events(recorder.events());
        let (result, elapsed) = timed(service.oneshot(request)).await;
        assert_eq!(result, Err(Fault::Refused(Rejection::DeadlineBeforeSend)));
        assert_eq!((elapsed, script.calls()), (ms(0), 0));
        assert_eq!(
            recorder.recorded(),
            [Event::Rejected(Rejection::DeadlineBeforeSend)]
        );
    }
    let service = TimeoutLayer::new(ms(100))
        .unwrap()
        .layer(script().respond(1));
    assert_eq!(service.oneshot(request_within(ms(10))).await, Ok(1));
    let any = TimeoutConfig::new(ms(100)).min_useful(ms(1));
    let service = TimeoutLayer::new(any).unwrap().layer(script().respond(1));
    assert_eq!(service.oneshot(request_within(ms(5))).await, Ok(1));
    let any = DeadlineConfig::new().min_useful(ms(1));
    let service = DeadlineLayer::new(any).unwrap().layer(script().respond(1));
    assert_eq!(service.oneshot(request_within(ms(5))).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn dl_05_a_call_with_the_whole_of_a_short_timeout_is_sent() {
    let short = DeadlineLayer::new(ms(5))
        .unwrap()
        .layer(script().respond(1).respond(1));
    assert_eq!(short.clone().oneshot(idempotent_request()).await, Ok(1));
    let late = Err(Fault::Refused(Rejection::DeadlineBeforeSend));
    assert_eq!(short.oneshot(request_within(ms(4))).await, late);
    let short = TimeoutLayer::new(ms(5)).unwrap().layer(script().respond(1));
    assert_eq!(short.clone().oneshot(request_within(ms(5))).await, Ok(1));
    assert_eq!(short.oneshot(request_within(ms(4))).await, late);
}

#[test]
fn layers_reject_a_timeout_of_zero() {
    let rejects_zero = |field, make: fn(Duration) -> Result<(), ConfigError>| {
        make(Duration::from_nanos(1)).unwrap();
        let error = make(Duration::ZERO).unwrap_err();
        assert_eq!(
            (error.field(), error.message()),
            (field, "must be > 0, got 0s")
        );
    };
    rejects_zero("timeout", |timeout| TimeoutLayer::new(timeout).map(drop));
    rejects_zero("total", |timeout| DeadlineLayer::new(timeout).map(drop));
    #[cfg(feature = "http")]
    rejects_zero("idle", |timeout| {
        tower_fanout_layers::BodyTimeoutLayer::new(timeout).map(drop)
    });
}

#[tokio::test(start_paused = true)]
async fn dl_06_a_response_that_is_ready_with_the_timer_wins() {
    let script = script().respond(1).after(ms(100));
    let service = TimeoutLayer::new(ms(100)).unwrap().layer(script);
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn dl_10_dropping_the_caller_leaves_nothing_and_is_not_a_timeout() {
    let script = script().hang();
    let recorder = EventRecorder::default();
    let service = TimeoutLayer::new(ms(100)).unwrap().layer(script.clone());
    let call = service.oneshot(idempotent_request().events(recorder.events()));
    timeout(ms(10), call).await.unwrap_err();
    assert_eq!((script.in_flight(), script.cancelled()), (0, 1));
    assert_eq!(recorder.recorded(), []);
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    assert_eq!(tasks, 0);
}

#[tokio::test(start_paused = true)]
async fn dl_11_the_shorter_of_two_timeouts_determines_the_error() {
    let nested = |total, attempt| {
        DeadlineLayer::new(ms(total)).unwrap().layer(
            TimeoutLayer::new(ms(attempt))
                .unwrap()
                .layer(script().hang()),
        )
    };
    for (total, attempt, rejection) in [
        (50, 100, Rejection::Deadline),
        (100, 50, Rejection::AttemptTimeout),
    ] {
        let (result, elapsed) = timed(nested(total, attempt).oneshot(idempotent_request())).await;
        assert_eq!(result, Err(Fault::Refused(rejection)));
        assert_eq!(elapsed, ms(50));
    }
}

#[tokio::test(start_paused = true)]
async fn dl_14_the_longest_duration_means_no_limit() {
    let longest = Duration::MAX;
    let service = DeadlineLayer::new(longest).unwrap().layer(
        TimeoutLayer::new(longest)
            .unwrap()
            .layer(script().respond(1).after(ms(1_000_000))),
    );
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
    assert_eq!(Deadline::after(Instant::now(), longest), None);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_deadline_applies() {
    let left = service_fn(|request: Request| async move {
        Ok::<_, Fault>(request.call().deadline.unwrap().remaining(Instant::now()))
    });
    let layer = DeadlineLayer::new(ms(100)).unwrap();
    for (own, expected) in [(500, 100), (90, 90)] {
        let request = request_within(ms(own));
        assert_eq!(layer.layer(left).oneshot(request).await, Ok(ms(expected)));
    }
    assert_eq!(
        layer.layer(left).oneshot(idempotent_request()).await,
        Ok(ms(100))
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_ready_at_once_never_starts_a_timer() {
    let start = Instant::now();
    let service = TimeoutLayer::new(ms(1))
        .unwrap()
        .layer(script().respond(1).after_polls(3));
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
    assert_eq!(start.elapsed(), ms(0));
}

/// A service that is ready after 300 ms and then takes `time`. Returns the result and the elapsed time.
async fn ready_after_300_ms(
    request: Request,
    time: Duration,
) -> (Result<u32, Fault>, Duration, usize) {
    let script = script().respond(1).after(time);
    script.set_not_ready();
    let service = TimeoutLayer::new(ms(100)).unwrap().layer(script.clone());
    let ready = async {
        tokio::time::sleep(ms(300)).await;
        script.set_ready();
    };
    let ((result, elapsed), ()) = tokio::join!(timed(service.oneshot(request)), ready);
    (result, elapsed, script.calls())
}

#[tokio::test(start_paused = true)]
async fn dl_16_the_wait_for_readiness_is_not_part_of_the_attempt() {
    let late = Err(Fault::Refused(Rejection::DeadlineBeforeSend));
    let attempt = Err(Fault::Refused(Rejection::AttemptTimeout));
    let deadline = Err(Fault::Refused(Rejection::Deadline));
    for (within, time, expected) in [
        (None, 50, (Ok(1), ms(350), 1)),
        (None, 100, (Ok(1), ms(400), 1)),
        (None, 150, (attempt, ms(400), 1)),
        (Some(1_000), 50, (Ok(1), ms(350), 1)),
        (Some(1_000), 150, (attempt, ms(400), 1)),
        // The deadline passes during the attempt, before the attempt is useful, or before readiness.
        (Some(340), 50, (deadline, ms(340), 1)),
        (Some(305), 1, (late, ms(300), 0)),
        (Some(200), 50, (late, ms(200), 0)),
    ] {
        let request = within.map_or_else(idempotent_request, |within| request_within(ms(within)));
        assert_eq!(ready_after_300_ms(request, ms(time)).await, expected);
    }
    let script = script().fail_ready(|| BROKEN);
    let service = TimeoutLayer::new(ms(100)).unwrap().layer(script);
    assert_eq!(service.oneshot(idempotent_request()).await, Err(BROKEN));
}

#[tokio::test(start_paused = true)]
async fn dl_17_the_time_of_an_attempt_starts_at_its_call() {
    for request in [idempotent_request(), request_within(ms(5_000))] {
        let mut service = TimeoutLayer::new(ms(100)).unwrap().layer(script().hang());
        let call = service.call(request);
        tokio::time::sleep(ms(60)).await;
        let (result, elapsed) = timed(call).await;
        assert_eq!(result, Err(Fault::Refused(Rejection::AttemptTimeout)));
        assert_eq!(elapsed, ms(40));
    }
}

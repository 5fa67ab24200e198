//! Tests of retries that a layer below the retry refuses: the call keeps the last result of the service.
#![cfg(feature = "http")]
#![allow(missing_docs)]

mod common;

use std::{future::ready, time::Duration};

use bytes::Bytes;
use common::{EventRecorder, ms};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    AsRejection, BoxError, BreakerConfig, BreakerLayer, CallContext, ClassifyHttp,
    ConcurrencyConfig, ConcurrencyLayer, Event, Rejection, RetryConfig, RetryLayer,
    event::RetryStopReason, retry::Jitter,
};

type Answer = Response<Full<Bytes>>;

/// Pauses of 50 ms, and a budget of exactly one retry.
fn retry() -> RetryLayer<ClassifyHttp> {
    let mut config = RetryConfig::new().jitter(Jitter::None).max_wait(ms(20));
    config.budget.ratio = 0.0;
    config.budget.min_per_sec = 1.0 / config.budget.ttl.as_secs_f64();
    RetryLayer::new(config, ClassifyHttp::new()).unwrap()
}

fn failed() -> Answer {
    let mut answer = Response::new(Full::from("inside"));
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    answer
}

/// Responds to the first attempt with 500, and refuses each later attempt.
fn refusing(
    rejection: Rejection,
) -> impl Service<Request<()>, Response = Answer, Error = BoxError> + Clone {
    service_fn(move |request: Request<()>| {
        ready(match request.call().attempt {
            1 => Ok(failed()),
            _ => Err(BoxError::from(rejection)),
        })
    })
}

/// Responds with 500 at once, or with 200 after this time if the request has the method PUT.
fn slow_put(
    time: Duration,
) -> impl Service<Request<()>, Response = Answer, Error = BoxError, Future: Send> + Clone {
    service_fn(move |request: Request<()>| async move {
        if request.method() != http::Method::PUT {
            return Ok(failed());
        }
        tokio::time::sleep(time).await;
        Ok(Response::default())
    })
}

/// Asserts that the result is the 500 of the service, with its body.
async fn assert_is_the_answer(result: Result<Answer, BoxError>) {
    let answer = result.expect("the answer of the service");
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "inside");
}

/// Sends a request that is retried, and asserts that the retry stops for `reason`.
async fn assert_refused<S>(service: S, reason: RetryStopReason)
where
    S: Service<Request<()>, Response = Answer, Error = BoxError>,
{
    let recorder = EventRecorder::default();
    let mut request = Request::new(());
    request.call_mut().unwrap().events = recorder.events();
    assert_is_the_answer(service.oneshot(request).await).await;
    let stopped = Event::RetryStopped { by: reason };
    assert!(
        recorder.recorded().contains(&stopped),
        "{:?}",
        recorder.recorded()
    );
}

#[tokio::test(start_paused = true)]
async fn rt_24_each_refused_retry_leaves_the_answer_of_the_service() {
    let retry_after = ms(1);
    for (rejection, reason) in [
        (Rejection::AtCapacity, RetryStopReason::Rejected),
        (Rejection::Evicted, RetryStopReason::Rejected),
        (Rejection::QueueTimeout, RetryStopReason::Rejected),
        (Rejection::ClientThrottled, RetryStopReason::Rejected),
        (
            Rejection::RateLimited { retry_after },
            RetryStopReason::Rejected,
        ),
        (Rejection::DeadlineBeforeSend, RetryStopReason::Deadline),
        (
            Rejection::CircuitOpen { retry_after: None },
            RetryStopReason::BreakerOpen,
        ),
    ] {
        let service = retry().layer(refusing(rejection));
        // The refused retry of the first call is refunded, so the second call can retry too.
        assert_refused(service.clone(), reason).await;
        assert_refused(service, reason).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rt_24_retries_without_an_endpoint_leave_the_answer_of_the_service() {
    // `NoEndpoint` is retried, until the budget is empty.
    let service = retry().layer(refusing(Rejection::NoEndpoint));
    assert_refused(service, RetryStopReason::Budget).await;
}

#[tokio::test(start_paused = true)]
async fn rt_24_an_open_breaker_leaves_the_answer_of_the_service() {
    let breaker = || {
        let config = BreakerConfig::new().consecutive_failures(1);
        BreakerLayer::new("team", config, ClassifyHttp::new()).unwrap()
    };
    let below = breaker();
    let service = retry().layer(below.layer(slow_put(ms(0))));
    assert_refused(service, RetryStopReason::BreakerOpen).await;
    let checked = breaker();
    let layer = retry().breaker(checked.handle().clone());
    let service = layer.layer(checked.layer(slow_put(ms(0))));
    assert_refused(service, RetryStopReason::BreakerOpen).await;
}

#[tokio::test(start_paused = true)]
async fn rt_24_a_full_limit_or_queue_leaves_the_answer_of_the_service() {
    for queue in [0, 5] {
        let config = ConcurrencyConfig::new()
            .max(1)
            .queue(queue)
            .max_wait(ms(20));
        let limit = ConcurrencyLayer::new(config).unwrap();
        let limited = limit.layer(slow_put(ms(1_000)));
        let refused = assert_refused(retry().layer(limited.clone()), RetryStopReason::Rejected);
        let other = async {
            // Takes the permit during the pause of the first call.
            tokio::time::sleep(ms(10)).await;
            limited.oneshot(Request::put("/").body(()).unwrap()).await
        };
        let ((), other) = tokio::join!(refused, other);
        assert_eq!(other.unwrap().status(), StatusCode::OK);
        assert_eq!(limit.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn rt_17_a_released_response_leaves_the_rejection() {
    let service = retry()
        .release_responses()
        .layer(refusing(Rejection::AtCapacity));
    let error = service.oneshot(Request::new(())).await.unwrap_err();
    assert_eq!(error.as_rejection(), Some(Rejection::AtCapacity));
    // With the handle of an open breaker, the breaker itself rejects the attempt.
    let config = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::new("team", config, ClassifyHttp::new()).unwrap();
    let layer = retry()
        .release_responses()
        .breaker(breaker.handle().clone());
    let service = layer.layer(breaker.layer(slow_put(ms(0))));
    let error = service.oneshot(Request::new(())).await.unwrap_err();
    let open = error.as_rejection();
    assert!(
        matches!(open, Some(Rejection::CircuitOpen { .. })),
        "{open:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn rt_17_a_retry_uses_the_permit_of_a_released_response() {
    // A limit of one call that lasts until the end of the body.
    let config = ConcurrencyConfig::new().max(1);
    let limit = ConcurrencyLayer::new(config).unwrap().until_body_end();
    let service = service_fn(|request: Request<()>| {
        ready(Ok::<_, BoxError>(match request.call().attempt {
            1 => failed(),
            _ => Response::new(Full::from("fine")),
        }))
    });
    let released = retry().release_responses().layer(limit.layer(service));
    let answer = released.oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(answer);
    // A kept response holds the permit, so the retry is refused, and the response is the result.
    let kept = retry().layer(limit.layer(service));
    let answer = kept.oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

//! Tests of everything that lasts until a body ends: permits, classification, timers and repeatable
//! requests.
#![cfg(feature = "http")]
#![allow(missing_docs)]

mod common;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{self, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use common::*;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{
    AsRejection, BodyTimeoutLayer, BoxError, BreakerConfig, BreakerLayer, CallContext,
    ClassifyHttp, ConcurrencyConfig, ConcurrencyLayer, Deadline, Event, HedgeConfig, HedgeLayer,
    Rejection, RetryConfig, RetryLayer, TimeoutLayer, UploadLayer, breaker::Snapshot,
    hedge::HedgeDelay, retry::Jitter, upload::ReplayBody,
};

type Streamed = BoxBody<Bytes, BoxError>;

/// Creates a body of `frames`, with `pause` before each frame.
fn frames<I>(frames: I, pause: Duration) -> Streamed
where
    I: IntoIterator<Item = Result<Frame<Bytes>, BoxError>>,
    I::IntoIter: Send + Sync + 'static,
{
    let frames = stream::iter(frames).then(move |frame| sleep(pause).map(|()| frame));
    BodyExt::boxed(StreamBody::new(frames))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// Creates an endless body of one byte per 100 ms.
fn drip() -> Streamed {
    frames(std::iter::repeat_with(|| data("x")), ms(100))
}

fn stalled() -> Streamed {
    frames([data("x")], ms(0)).stalled()
}

trait Stall {
    fn stalled(self) -> Streamed;
}

impl Stall for Streamed {
    /// Appends a frame that never arrives.
    fn stalled(self) -> Streamed {
        let more = stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let all = self.into_data_stream().map(|data| data.map(Frame::data));
        BodyExt::boxed(StreamBody::new(all.chain(more)))
    }
}

/// Creates a service that responds with status 200 and this body.
fn answering(
    body: impl Fn() -> Streamed + Clone,
) -> impl Service<Request<()>, Response = Response<Streamed>, Error = BoxError, Future: Send> + Clone
{
    service_fn(move |_| {
        let body = body();
        async { Ok(Response::new(body)) }
    })
}

fn within(time: Duration) -> Request<()> {
    let mut request = Request::new(());
    request.call_mut().unwrap().deadline = Some(Deadline::at(Instant::now() + time));
    request
}

fn breaker() -> BreakerLayer<ClassifyHttp> {
    BreakerLayer::new("team", BreakerConfig::new(), ClassifyHttp::new()).unwrap()
}

fn seen<U>(layer: &BreakerLayer<ClassifyHttp, U>) -> (u64, u64) {
    let Snapshot { calls, failed, .. } = layer.handle().snapshot();
    (calls, failed)
}

#[tokio::test(start_paused = true)]
async fn cl_06_a_permit_is_held_until_the_body_ends_or_is_dropped() {
    let layer = ConcurrencyLayer::new(ConcurrencyConfig::new())
        .unwrap()
        .until_body_end();
    let two = || frames([data("a"), data("b")], ms(10));
    let service = layer.layer(answering(two));
    let answer = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(layer.in_flight(), 1);
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(layer.in_flight(), 1);
    assert!(body.frame().await.is_some() && body.frame().await.is_none());
    assert_eq!(
        layer.in_flight(),
        0,
        "the body has ended but is not dropped"
    );
    let answer = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(layer.in_flight(), 1);
    drop(answer);
    assert_eq!(layer.in_flight(), 0);
    let empty = layer.layer(answering(|| {
        BodyExt::boxed(http_body_util::Empty::new().map_err(|never: Infallible| match never {}))
    }));
    let _answer = empty.oneshot(Request::new(())).await.unwrap();
    assert_eq!(layer.in_flight(), 0, "the body was empty from the start");
}

#[tokio::test(start_paused = true)]
async fn ord_10_a_call_that_pauses_holds_no_permit_for_its_response() {
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new())
        .unwrap()
        .until_body_end();
    let config = RetryConfig::new().max_attempts(2);
    let retry = RetryLayer::new(config, ClassifyHttp::new()).unwrap();
    let unavailable = service_fn(|_: Request<()>| async {
        let answer = Response::builder().status(503).body(stalled());
        answer.map_err(BoxError::from)
    });
    let held_in_the_pause = async |retry: RetryLayer<ClassifyHttp>| {
        let service = retry.layer(limit.layer(unavailable));
        let mut call = service.oneshot(Request::new(())).boxed();
        assert!(futures_util::poll!(&mut call).is_pending());
        let held = limit.in_flight();
        assert_eq!(call.await.unwrap().status(), 503);
        held
    };
    assert_eq!(
        held_in_the_pause(retry.clone().release_responses()).await,
        0
    );
    // The call may end with this response, so by default the response is kept.
    assert_eq!(held_in_the_pause(retry).await, 1);
}

#[tokio::test(start_paused = true)]
async fn cb_33_a_truncated_body_is_a_failure_and_a_dropped_body_is_not() {
    let torn = || frames([data("a"), Err("torn".into())], ms(10));
    let layer = breaker().until_body_end();
    let answer = layer.layer(answering(torn)).oneshot(Request::new(()));
    let body = answer.await.unwrap().into_body();
    assert_eq!(seen(&layer), (0, 0), "the body has not ended");
    body.collect().await.unwrap_err();
    assert_eq!(seen(&layer), (1, 1));

    let layer = breaker().until_body_end();
    let answer = layer.layer(answering(torn)).oneshot(Request::new(()));
    drop(answer.await.unwrap());
    assert_eq!(seen(&layer), (1, 0));

    let layer = breaker();
    let answer = layer.layer(answering(torn)).oneshot(Request::new(()));
    answer.await.unwrap().collect().await.unwrap_err();
    assert_eq!(
        seen(&layer),
        (1, 0),
        "by default, the call ends with the response headers"
    );
}

#[tokio::test(start_paused = true)]
async fn dl_07_the_deadline_ends_a_steady_drip() {
    let service = BodyTimeoutLayer::new(ms(500))
        .unwrap()
        .layer(answering(drip));
    let answer = service.oneshot(within(ms(1_050))).await.unwrap();
    let (result, elapsed) = timed(answer.into_body().collect()).await;
    assert_eq!(
        result.unwrap_err().as_rejection(),
        Some(Rejection::Deadline)
    );
    assert_eq!(elapsed, ms(1_050));
}

#[tokio::test(start_paused = true)]
async fn dl_07_the_deadline_ends_a_body_that_is_always_ready() {
    let ready = || frames(std::iter::repeat_with(|| data("x")), ms(0));
    let service = BodyTimeoutLayer::default().layer(answering(ready));
    let answer = service.oneshot(within(ms(100))).await.unwrap();
    let mut body = Box::pin(answer.into_body());
    assert!(body.frame().await.unwrap().is_ok());
    tokio::time::advance(ms(101)).await;
    let late = body.frame().await.unwrap().unwrap_err();
    assert_eq!(late.as_rejection(), Some(Rejection::Deadline));
    assert!(body.frame().await.is_none() && body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn dl_08_a_stalled_body_is_a_failure_and_frees_its_permit() {
    let (breaker, limit) = (
        breaker().until_body_end(),
        ConcurrencyLayer::new(ConcurrencyConfig::new())
            .unwrap()
            .until_body_end(),
    );
    let service = ServiceBuilder::new()
        .layer(breaker.clone())
        .layer(limit.clone())
        .layer(BodyTimeoutLayer::new(ms(500)).unwrap())
        .service(answering(stalled));
    let answer = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(limit.in_flight(), 1);
    let mut body = Box::pin(answer.into_body());
    body.frame().await.unwrap().unwrap();
    // A slow reader is not a fault of the service.
    sleep(ms(5_000)).await;
    let (frame, elapsed) = timed(body.frame()).await;
    let error = frame.unwrap().unwrap_err();
    assert_eq!(error.as_rejection(), Some(Rejection::AttemptTimeout));
    assert_eq!(elapsed, ms(500));
    assert_eq!((seen(&breaker), limit.in_flight()), ((1, 1), 0));
}

#[tokio::test(start_paused = true)]
async fn dl_09_a_slow_upload_does_not_consume_the_timeout() {
    // The service responds 80 ms after it has read the whole body.
    let reading = |delay: Duration| {
        service_fn(move |request: Request<ReplayBody<Streamed>>| async move {
            request.into_body().collect().await?;
            sleep(delay).await;
            Ok::<_, BoxError>(Response::new(()))
        })
    };
    let upload = || {
        Request::put("/")
            .body(frames(["a", "b", "c"].map(data), ms(200)))
            .unwrap()
    };
    let stack = |delay| {
        ServiceBuilder::new()
            .layer(UploadLayer::default())
            .layer(TimeoutLayer::new(ms(100)).unwrap())
            .service(reading(delay))
    };
    let (result, elapsed) = timed(stack(ms(80)).oneshot(upload())).await;
    assert_eq!((result.is_ok(), elapsed), (true, ms(680)));
    let (result, elapsed) = timed(stack(ms(120)).oneshot(upload())).await;
    assert_eq!(
        result.unwrap_err().as_rejection(),
        Some(Rejection::AttemptTimeout)
    );
    assert_eq!(elapsed, ms(700));
    // The upload does not extend the deadline of the call.
    let mut late = upload();
    late.call_mut().unwrap().deadline = Some(Deadline::at(Instant::now() + ms(450)));
    let (result, elapsed) = timed(stack(ms(80)).oneshot(late)).await;
    assert_eq!(
        result.unwrap_err().as_rejection(),
        Some(Rejection::Deadline)
    );
    assert_eq!(elapsed, ms(450));
    // The time of a service that never reads the body keeps running.
    let never_reads = service_fn(|request: Request<ReplayBody<Streamed>>| async move {
        let _unread = request;
        std::future::pending::<Result<Response<()>, BoxError>>().await
    });
    let stack = ServiceBuilder::new()
        .layer(UploadLayer::default())
        .layer(TimeoutLayer::new(ms(100)).unwrap())
        .service(never_reads);
    let (result, elapsed) = timed(stack.oneshot(upload())).await;
    assert_eq!((result.is_err(), elapsed), (true, ms(100)));
}

/// Creates an upload with all frames ready at once, or with a pause before each.
fn upload_of(frames_every: Duration) -> Request<Streamed> {
    put(frames(["a", "b", "c"].map(data), frames_every))
}

/// The number of an attempt, from 1, and its body.
type Attempt = (u8, ReplayBody<Streamed>);

/// Runs attempts of at most 100 ms each, with retries or with hedges after 50 ms. `serve` handles an
/// attempt. Returns the result, the elapsed time and the number of attempts.
async fn attempts<F>(
    hedged: bool,
    frames_every: Duration,
    serve: impl Fn(Attempt) -> F + Clone + 'static,
) -> (Result<(), Option<Rejection>>, Duration, usize)
where
    F: Future<Output = Result<(), BoxError>> + 'static,
{
    let recorder = EventRecorder::default();
    let service = service_fn(move |request: Request<ReplayBody<Streamed>>| {
        let number = request.call().attempt;
        serve((number, request.into_body())).map(|result| result.map(Response::new))
    });
    let attempt = TimeoutLayer::new(ms(100)).unwrap().layer(service);
    let mut upload = upload_of(frames_every);
    upload.call_mut().unwrap().events = recorder.events();
    let call = if hedged {
        let config = HedgeConfig::new().delay(HedgeDelay::Fixed(ms(50)));
        let layer = HedgeLayer::new(config, ClassifyHttp::new()).unwrap();
        UploadLayer::default()
            .layer(layer.layer(attempt))
            .oneshot(upload)
            .boxed_local()
    } else {
        let config = RetryConfig::new()
            .base(ms(1))
            .jitter(Jitter::None)
            .max_attempts(2);
        let layer = RetryLayer::new(config, ClassifyHttp::new()).unwrap();
        UploadLayer::default()
            .layer(layer.layer(attempt))
            .oneshot(upload)
            .boxed_local()
    };
    let call = tokio::time::timeout(ms(60_000), timed(call));
    let (result, elapsed) = call.await.expect("the call never ended");
    let sent = |event: &Event| matches!(event, Event::Attempt { .. });
    let result = result.map(|_| ()).map_err(|error| error.as_rejection());
    (
        result,
        elapsed,
        recorder
            .recorded()
            .iter()
            .filter(|event| sent(event))
            .count(),
    )
}

const TIMED_OUT: Result<(), Option<Rejection>> = Err(Some(Rejection::AttemptTimeout));

#[tokio::test(start_paused = true)]
async fn dl_09_a_service_that_stops_reading_times_out() {
    // The service does not read the next frame, so no time is excused, at any speed of the upload.
    for (frames_every, expected) in [(ms(0), ms(201)), (ms(70), ms(271))] {
        let stops = |(_, mut body): Attempt| async move {
            body.frame().await.unwrap()?;
            std::future::pending().await
        };
        let end = attempts(false, frames_every, stops).await;
        assert_eq!(end, (TIMED_OUT, expected, 2));
    }
    // The service drops the body while it waits for a frame.
    let drops = |(_, body): Attempt| async move {
        tokio::time::timeout(ms(10), body.collect()).await.ok();
        std::future::pending().await
    };
    let end = attempts(false, ms(1_000), drops).await;
    assert_eq!(end, (TIMED_OUT, ms(221), 2));
}

#[tokio::test(start_paused = true)]
async fn dl_09_only_the_waits_of_an_attempt_extend_its_timeout() {
    let second_never_reads = |(number, mut body): Attempt| async move {
        body.frame().await.unwrap()?;
        match number {
            1 => Err("the connection broke".into()),
            _ => std::future::pending().await,
        }
    };
    let end = attempts(false, ms(1_000), second_never_reads).await;
    assert_eq!(end, (TIMED_OUT, ms(1_101), 2));
    // The first attempt has read the whole body when the second starts to read.
    let both_hang = |(_, body): Attempt| async move {
        body.collect().await?;
        std::future::pending().await
    };
    let end = attempts(true, ms(0), both_hang).await;
    assert_eq!(end, (TIMED_OUT, ms(150), 2));
    // The first attempt never reads while the second waits.
    let first_never_reads = |(number, body): Attempt| async move {
        if number > 1 {
            body.collect().await?;
        }
        std::future::pending().await
    };
    let end = attempts(true, ms(40), first_never_reads).await;
    assert_eq!(end, (TIMED_OUT, ms(270), 2));
}

#[tokio::test(start_paused = true)]
async fn dl_09_the_waits_of_each_attempt_extend_its_timeout() {
    let second_succeeds = |(number, mut body): Attempt| async move {
        if number == 1 {
            body.frame().await.unwrap()?;
            return Err("the connection broke".into());
        }
        body.collect().await?;
        Ok(())
    };
    for (hedged, expected) in [(false, ms(601)), (true, ms(600))] {
        let (result, elapsed, _) = attempts(hedged, ms(200), second_succeeds).await;
        assert_eq!((result, elapsed), (Ok(()), expected));
    }
}

/// The bodies and trailers that a service has read, per attempt.
type Read = std::sync::Arc<std::sync::Mutex<Vec<(Bytes, Option<HeaderMap>)>>>;

/// Creates a retry around a service that reads every body. The third response has status 200, the
/// others 502.
fn retried(
    max_body: u64,
) -> (
    impl Service<Request<Streamed>, Response = Response<()>, Error = BoxError>,
    Read,
) {
    let read = Read::default();
    let log = read.clone();
    let service = service_fn(move |request: Request<ReplayBody<Streamed>>| {
        let log = log.clone();
        async move {
            let body = request.into_body().collect().await?;
            let trailers = body.trailers().cloned();
            let mut log = log.lock().unwrap();
            log.push((body.to_bytes(), trailers));
            let mut answer = Response::new(());
            if log.len() < 3 {
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
            }
            Ok::<_, BoxError>(answer)
        }
    });
    let stack = ServiceBuilder::new()
        .layer(UploadLayer::new(max_body))
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyHttp::new()).unwrap())
        .service(service);
    (stack, read)
}

fn put(body: Streamed) -> Request<Streamed> {
    Request::put("/").body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn rt_14_fault_f26_a_body_over_the_limit_is_sent_once_and_whole() {
    let large = Bytes::from(vec![b'x'; 100 * 1024]);
    let whole = large.clone();
    let known = http_body_util::Full::new(large.clone()).map_err(|never| match never {});
    let pieces = (0..100).map(move |piece| {
        let piece = piece * 1024;
        Ok(Frame::data(large.slice(piece..piece + 1024)))
    });
    for body in [BodyExt::boxed(known), frames(pieces, ms(1))] {
        let (service, read) = retried(64 * 1024);
        let answer = service.oneshot(put(body)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(*read.lock().unwrap(), [(whole.clone(), None)]);
    }
}

#[tokio::test(start_paused = true)]
async fn rt_15_fault_f26_each_attempt_has_the_same_body_and_trailers() {
    let (service, read) = retried(64 * 1024);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let body = [data("ab"), data("c"), Ok(Frame::trailers(trailers.clone()))];
    let answer = service.oneshot(put(frames(body, ms(10)))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let each = (Bytes::from_static(b"abc"), Some(trailers));
    assert_eq!(*read.lock().unwrap(), [each.clone(), each.clone(), each]);
}

#[tokio::test(start_paused = true)]
async fn rt_16_a_response_before_the_body_was_read_is_final() {
    let calls = script().respond(0);
    let count = calls.clone();
    let early = service_fn(move |request: Request<ReplayBody<Streamed>>| {
        let count = count.clone();
        async move {
            count.oneshot(idempotent_request()).await.unwrap();
            request.into_body().frame().await.unwrap()?;
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Ok::<_, BoxError>(answer)
        }
    });
    let service = ServiceBuilder::new()
        .layer(UploadLayer::default())
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyHttp::new()).unwrap())
        .service(early);
    let body = frames(["a", "b"].map(data), ms(10));
    let answer = service.oneshot(put(body)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(calls.calls(), 1);
}

/// Creates a `ReplayBody` as a service gets it, and the request with its clone.
async fn replay(body: Streamed, max: u64) -> (ReplayBody<Streamed>, Request<ReplayBody<Streamed>>) {
    let echo =
        service_fn(
            |request: Request<ReplayBody<Streamed>>| async move { Ok::<_, Infallible>(request) },
        );
    let kept = UploadLayer::new(max).layer(echo).oneshot(put(body));
    let kept = kept.await.unwrap();
    (kept.body().clone(), kept)
}

#[tokio::test(start_paused = true)]
async fn clones_that_read_at_once_wake_each_other_and_get_the_same() {
    let (first, kept) = replay(frames(["a", "b", "c"].map(data), ms(10)), 1024).await;
    let (mut left, right) = (kept.body().clone(), kept.into_body());
    let reads = async {
        left.frame().await.unwrap().unwrap();
        drop(left); // The caller's body may hold the waker of this clone.
    };
    let (first, right, ()) = tokio::join!(first.collect(), right.collect(), reads);
    assert_eq!(first.unwrap().to_bytes(), "abc");
    assert_eq!(right.unwrap().to_bytes(), "abc");
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_stops_early_leaves_the_rest_to_the_next() {
    let (mut first, kept) = replay(frames(["a", "b"].map(data), ms(10)), 1024).await;
    first.frame().await.unwrap().unwrap();
    drop(first);
    assert!(!kept.body().is_end_stream());
    assert_eq!(kept.into_body().collect().await.unwrap().to_bytes(), "ab");
}

#[tokio::test(start_paused = true)]
async fn size_hints_are_exact_at_every_point() {
    let full = http_body_util::Full::new(Bytes::from_static(b"abc"));
    let full = BodyExt::boxed(full.map_err(|never: Infallible| match never {}));
    let (mut first, kept) = replay(full, 1024).await;
    assert_eq!(first.size_hint().exact(), Some(3));
    first.frame().await.unwrap().unwrap();
    assert_eq!(
        (first.size_hint().exact(), first.is_end_stream()),
        (Some(0), true)
    );
    let again = kept.into_body();
    assert_eq!(
        (again.size_hint().exact(), again.is_end_stream()),
        (Some(3), false)
    );
}

#[tokio::test(start_paused = true)]
async fn each_clone_gets_the_error_of_the_callers_body() {
    let torn = frames([data("a"), data("b"), Err("torn".into())], ms(1));
    let (first, kept) = replay(torn, 1024).await;
    let mut second = kept.body().clone();
    second.frame().await.unwrap().unwrap();
    let error = first.collect().await.unwrap_err();
    assert_eq!(error.to_string(), "torn");
    for (mut clone, left) in [(second, 1), (kept.into_body(), 2)] {
        for _ in 0..left {
            assert!(clone.frame().await.unwrap().is_ok());
        }
        assert_eq!(
            (clone.is_end_stream(), clone.size_hint().upper()),
            (false, None)
        );
        let error = clone.frame().await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the caller's request body ended early: torn"
        );
        assert!(clone.frame().await.is_none() && clone.is_end_stream());
        assert_eq!(clone.size_hint().exact(), Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_does_not_take_half_a_body_for_the_whole() {
    let config = HedgeConfig::new().delay(HedgeDelay::Fixed(ms(10)));
    let service = service_fn(|request: Request<ReplayBody<Streamed>>| async move {
        // The second attempt connects slowly and reads after the first has failed.
        let connect = if request.call().attempt == 1 { 0 } else { 100 };
        sleep(ms(connect)).await;
        let read = request.into_body().collect().await?;
        Ok::<_, BoxError>(Response::new(read.to_bytes()))
    });
    let stack = ServiceBuilder::new()
        .layer(UploadLayer::default())
        .layer(HedgeLayer::new(config, ClassifyHttp::new()).unwrap())
        .service(service);
    let torn = frames([data("half"), Err("torn".into())], ms(25));
    let error = stack.oneshot(put(torn)).await.unwrap_err();
    assert_eq!(error.to_string(), "torn");
}

/// A waker that polls the state of a body from another thread before `wake` returns.
struct QueryingWaker {
    body: Mutex<Option<ReplayBody<Streamed>>>,
    answered: AtomicBool,
}

impl Wake for QueryingWaker {
    fn wake(self: Arc<Self>) {
        let (sender, receiver) = mpsc::channel();
        let body = self.body.lock().unwrap().take();
        std::thread::spawn(move || sender.send(body.as_ref().map(Body::is_end_stream)));
        let answered = receiver.recv_timeout(Duration::from_secs(5)).is_ok();
        self.answered.store(answered, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_can_query_the_body_at_once() {
    for is_dropped in [false, true] {
        let (mut first, kept) = replay(frames([data("a")], ms(10)), 1024).await;
        let querying = Arc::new(QueryingWaker {
            body: Mutex::new(Some(first.clone())),
            answered: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&querying));
        let pending = first
            .frame()
            .poll_unpin(&mut task::Context::from_waker(&waker));
        assert!(pending.is_pending());
        if is_dropped {
            drop(first);
        } else {
            kept.into_body().collect().await.unwrap();
        }
        assert!(querying.answered.load(Ordering::Relaxed), "{is_dropped}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_without_all_frames_ends_with_an_error() {
    let (first, kept) = replay(frames(["abc", "def"].map(data), ms(1)), 4).await;
    assert_eq!(first.collect().await.unwrap().to_bytes(), "abcdef");
    let mut kept = kept.into_body();
    assert!(!kept.is_end_stream());
    let error = kept.frame().await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot send the request body again: too large to be kept"
    );
    assert!(kept.frame().await.is_none() && kept.is_end_stream());
}

/// A body that panics when it is read.
struct Panics;

impl http_body::Body for Panics {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        panic!("body")
    }
}

#[tokio::test(start_paused = true)]
async fn cb_30_a_body_that_panics_is_a_failure() {
    let layer = breaker().until_body_end();
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, BoxError>(Response::new(Panics))
    }));
    let answer = service.oneshot(Request::new(())).await.unwrap();
    let read = tokio::spawn(answer.into_body().collect()).await;
    assert!(read.unwrap_err().is_panic());
    assert_eq!(seen(&layer), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn rt_15_a_reader_that_stops_does_not_block_the_others() {
    let body = frames([data("a"), data("b")], ms(100));
    let service = service_fn(|request: Request<ReplayBody<Streamed>>| async move {
        Ok::<_, BoxError>(request.into_body())
    });
    let send = service_fn(move |request: Request<ReplayBody<Streamed>>| {
        let twice = (request.clone(), request);
        async move {
            let mut stops = service.oneshot(twice.0).await?;
            let reads = tokio::spawn(service.oneshot(twice.1).await?.collect());
            tokio::task::yield_now().await;
            // This clone polls last and never polls again.
            assert!(stops.frame().now_or_never().is_none());
            let whole = tokio::time::timeout(ms(10_000), reads).await??;
            drop(stops);
            Ok::<_, BoxError>(whole?.to_bytes())
        }
    });
    let request = Request::put("/").body(body).unwrap();
    assert_eq!(
        UploadLayer::new(99)
            .layer(send)
            .oneshot(request)
            .await
            .unwrap(),
        "ab"
    );
}

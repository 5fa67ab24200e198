//! Tests of the boxed error type of the layers. Most of them are about the compiler: each calls the same
//! stack in a place where a future must be `Send`.
#![allow(missing_docs)]

mod common;

use std::{error::Error, fmt, io, pin::pin};

use common::ms;
use tokio::time::timeout;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, service_fn,
    util::BoxCloneSyncService,
};
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer,
    DeadlineLayer, Failure, FallbackLayer, HedgeConfig, HedgeLayer, LayerError, LayerErrorLayer,
    Rejection, RetryConfig, RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer, WithCall,
};
use tower_fanout_testkit::{
    laws::{Laws, Traffic},
    script::ScriptedService,
};

type Request = WithCall<u32>;

/// The layers of the README and all others, without a type or a bound.
macro_rules! users {
    () => {
        ServiceBuilder::new()
            .layer(FallbackLayer::new(ClassifyResult).response("a guest".to_owned()))
            .layer(DeadlineLayer::new(ms(800)).unwrap())
            .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
            .layer(HedgeLayer::new(HedgeConfig::new(), ClassifyResult).unwrap())
            .layer(ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult).unwrap())
            .layer(ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap())
            .layer(BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap())
            .layer(TimeoutLayer::new(ms(300)).unwrap())
            .service(service_fn(|id: WithCall<u32>| async move {
                match id.into_inner() {
                    0 => Err(LayerError::from("no such user")),
                    id => Ok(format!("user {id}")),
                }
            }))
    };
}

fn request() -> Request {
    WithCall::new(7)
}

#[tokio::test(start_paused = true)]
async fn er_01_a_stack_compiles_in_a_spawned_async_block() {
    let users = users!();
    let task = tokio::spawn(async move { users.oneshot(request()).await });
    assert_eq!(task.await.unwrap().unwrap(), "user 7");
    let mut users = users!();
    let task = tokio::spawn(async move { users.ready().await?.call(request()).await });
    assert_eq!(task.await.unwrap().unwrap(), "user 7");
}

#[tokio::test(start_paused = true)]
async fn er_01_a_stack_compiles_in_timeout_and_select() {
    let users = users!();
    let task = tokio::spawn(async move {
        let first = timeout(ms(100), users.clone().oneshot(request())).await;
        let second = tokio::select! {
            answer = users.clone().oneshot(request()) => answer?,
            () = tokio::time::sleep(ms(100)) => return Err(Rejection::Deadline.into()),
        };
        Ok::<_, LayerError>((first.map_err(LayerError::new)??, second))
    });
    let (first, second) = task.await.unwrap().unwrap();
    assert_eq!((&*first, &*second), ("user 7", "user 7"));
}

#[tokio::test(start_paused = true)]
async fn er_01_a_stack_compiles_in_join_and_join_all() {
    let users = users!();
    let task = tokio::spawn(async move {
        let (one, two) = tokio::join!(users.clone().oneshot(request()), async {
            users.clone().oneshot(request()).await
        },);
        let calls = (1..4).map(|id| users.clone().oneshot(WithCall::new(id)));
        let all = futures_util::future::join_all(calls).await;
        let tried = futures_util::future::try_join(
            users.clone().oneshot(request()),
            users.clone().oneshot(request()),
        );
        tried.await?;
        all.into_iter()
            .chain([one, two])
            .collect::<Result<Vec<_>, _>>()
    });
    let names = task.await.unwrap().unwrap();
    assert_eq!(names, ["user 1", "user 2", "user 3", "user 7", "user 7"]);
}

#[tokio::test(start_paused = true)]
async fn er_01_a_stack_compiles_in_boxes_and_buffers() {
    let boxed: BoxCloneSyncService<Request, String, LayerError> =
        BoxCloneSyncService::new(users!());
    let users = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ms(300)).unwrap())
        .layer(LayerErrorLayer::new())
        .service(Buffer::new(users!(), 8));
    let task = tokio::spawn(async move {
        let future: std::pin::Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async move { users.oneshot(request()).await });
        boxed.oneshot(request()).await?;
        future.await
    });
    assert_eq!(task.await.unwrap().unwrap(), "user 7");
}

#[tokio::test(start_paused = true)]
async fn er_01_layers_above_a_box_error_compile_where_no_closure_names_it() {
    let buffer = Buffer::new(users!(), 8);
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .layer(BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap())
        .service(buffer);
    let task = tokio::spawn(async move { users.oneshot(request()).await });
    assert_eq!(task.await.unwrap().unwrap(), "user 7");
}

/// A function of another crate, whose error is a box.
async fn fetch(id: u32) -> Result<u32, BoxError> {
    Ok(id + 1)
}

#[tokio::test(start_paused = true)]
async fn er_01_a_closure_converts_the_box_error_of_a_function() {
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ms(300)).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            fetch(id.into_inner()).await.map_err(LayerError::new)
        }));
    let task = tokio::spawn(async move { service.oneshot(request()).await });
    assert_eq!(task.await.unwrap().unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn er_07_layer_error_layer_takes_a_named_function_with_a_box_error() {
    async fn named(id: WithCall<u32>) -> Result<u32, BoxError> {
        fetch(id.into_inner()).await
    }
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ms(300)).unwrap())
        .layer(LayerErrorLayer::new())
        .service(service_fn(named));
    let bare = ServiceBuilder::new()
        .layer(TimeoutLayer::new(ms(300)).unwrap())
        .service(service_fn(named));
    let task = tokio::spawn(async move {
        let first = service.oneshot(request()).await?;
        Ok::<_, LayerError>(first + bare.oneshot(request()).await?)
    });
    assert_eq!(task.await.unwrap().unwrap(), 16);
}

/// A function as a user writes it: with tower's bounds only.
async fn ask<S>(service: S, id: u32) -> Result<S::Response, S::Error>
where
    S: Service<Request>,
{
    service.oneshot(WithCall::new(id)).await
}

/// A function that spawns a task for any service.
async fn spawned<S>(service: S, id: u32) -> Result<S::Response, S::Error>
where
    S: Service<Request, Future: Send, Response: Send, Error: Send> + Clone + Send + Sync + 'static,
{
    let task = tokio::spawn(async move { ask(service.clone(), id).await });
    task.await.expect("the task does not panic")
}

#[tokio::test(start_paused = true)]
async fn er_01_a_stack_compiles_in_generic_functions() {
    let users = users!();
    let task = tokio::spawn(async move {
        let pinned = pin!(ask(users.clone(), 7));
        Ok::<_, LayerError>((pinned.await?, spawned(users, 7).await?))
    });
    let (one, two) = task.await.unwrap().unwrap();
    assert_eq!((&*one, &*two), ("user 7", "user 7"));
}

#[tokio::test(start_paused = true)]
async fn er_01_setters_take_plain_numbers() {
    let breaker = BreakerConfig::new()
        .failure_rate(0.4)
        .consecutive_failures(7)
        .min_calls(10)
        .half_open_probes(2);
    let limit = ConcurrencyConfig::new().max(10).queue(10);
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new().max_attempts(5), ClassifyResult).unwrap())
        .layer(HedgeLayer::new(HedgeConfig::new().max_hedges(2), ClassifyResult).unwrap())
        .layer(ThrottleLayer::new(ThrottleConfig::new().k(1.5), ClassifyResult).unwrap())
        .layer(ConcurrencyLayer::new(limit).unwrap())
        .layer(BreakerLayer::new("users", breaker, ClassifyResult).unwrap())
        .service(service_fn(|id: Request| async move {
            Ok::<_, LayerError>(id.into_inner())
        }));
    assert_eq!(users.oneshot(request()).await.unwrap(), 7);
}

/// Numbered requests and responses, with a boxed error.
#[derive(Clone)]
struct Boxed;

impl Traffic for Boxed {
    type Request = Request;
    type Response = u32;
    type Error = LayerError;

    fn request(&self, number: u64) -> Request {
        WithCall::new(number as u32)
    }
    fn request_number(&self, request: &Request) -> u64 {
        u64::from(*request.get())
    }
    fn response(&self, number: u64) -> u32 {
        number as u32
    }
    fn response_number(&self, response: &u32) -> u64 {
        u64::from(*response)
    }
    fn error(&self) -> LayerError {
        Failure::Connect.into()
    }
}

#[tokio::test(start_paused = true)]
async fn er_07_layer_error_layer_keeps_the_laws_and_does_not_allocate() {
    let build = |inner| LayerErrorLayer::new().layer(inner);
    Laws::new(Boxed, build).check().await;
    Laws::new(Boxed, build).allocations().await;
    let script = ScriptedService::<Request, u32, io::Error>::new();
    let unready = script.fail_ready(|| io::ErrorKind::NotFound.into());
    let unready = LayerErrorLayer::new().layer(unready);
    let error = unready.oneshot(request()).await.unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_some());
}

/// An error of a user, with a source.
#[derive(Debug)]
struct Outer(&'static str, BoxError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.1)
    }
}

fn boxed<E: Error + Send + Sync + 'static>(error: E) -> BoxError {
    Box::new(error)
}

/// Asserts that `make` gives an error with this rejection and failure, however it is boxed.
fn assert_meaning(make: impl Fn() -> BoxError, rejection: Option<Rejection>, failure: Failure) {
    let wrapped = [
        LayerError::new(make()),
        LayerError::new(LayerError::new(make())),
        LayerError::new(Outer("outer", make())),
        LayerError::new(Outer("outer", boxed(LayerError::new(make())))),
        LayerError::new(Outer(
            "outer",
            boxed(Outer("outer", boxed(LayerError::new(make())))),
        )),
    ];
    for error in wrapped {
        assert_eq!(error.as_rejection(), rejection, "{error:?}");
        assert_eq!(error.failure(), failure, "{error:?}");
        let error = boxed(error);
        assert_eq!(error.as_rejection(), rejection, "{error:?}");
        assert_eq!(error.failure(), failure, "{error:?}");
    }
}

#[test]
fn er_02_boxes_keep_the_rejection_and_the_failure() {
    let wait = Some(ms(7));
    let open = Rejection::CircuitOpen { retry_after: wait };
    assert_meaning(|| boxed(open), Some(open), Failure::Other);
    let status = Failure::Status {
        code: 503,
        retry_after: wait,
    };
    assert_meaning(|| boxed(status), None, status);
    assert_meaning(|| "plain".into(), None, Failure::Other);
    let error = || boxed(io::Error::other(Rejection::AtCapacity));
    assert_eq!(
        LayerError::new(error()).as_rejection(),
        error().as_rejection()
    );
}

#[cfg(feature = "tower")]
#[test]
fn er_02_the_errors_of_tower_stay_rejections() {
    let elapsed = || boxed(tower::timeout::error::Elapsed::new());
    assert_meaning(elapsed, Some(Rejection::Deadline), Failure::Other);
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn er_02_a_breaker_finds_the_rejection_in_the_error_of_a_body() {
    use http_body_util::{BodyExt, StreamBody};

    let breaker = BreakerLayer::new("files", BreakerConfig::new(), ClassifyResult).unwrap();
    let files =
        breaker
            .clone()
            .until_body_end()
            .layer(service_fn(|error: WithCall<LayerError>| async {
                let frames = [Err::<http_body::Frame<bytes::Bytes>, _>(error.into_inner())];
                let body = StreamBody::new(futures_util::stream::iter(frames));
                Ok::<_, LayerError>(http::Response::new(body))
            }));
    for (error, counted) in [
        (Rejection::DeadlineBeforeSend.into(), 0),
        (Failure::TruncatedBody.into(), 1),
    ] {
        let call = files.clone().oneshot(WithCall::new(error));
        call.await.unwrap().into_body().collect().await.unwrap_err();
        assert_eq!(breaker.handle().snapshot().failed, counted);
    }
}

#[test]
fn er_03_an_error_keeps_its_type_and_does_not_nest() {
    let mut error = LayerError::new(io::Error::from(io::ErrorKind::NotFound));
    for _ in 0..3 {
        error = BoxError::from(error).into();
    }
    let inner = error.downcast_ref::<io::Error>().unwrap();
    assert_eq!(inner.kind(), io::ErrorKind::NotFound);
    assert!(error.downcast_ref::<LayerError>().is_none());
    assert!(error.into_inner().downcast::<io::Error>().is_ok());
    let rejected = LayerError::new(Rejection::Deadline);
    assert_eq!(rejected.downcast_ref(), Some(&Rejection::Deadline));
    assert!(rejected.into_inner().is::<Rejection>());
    let failed = LayerError::new(Failure::Connect);
    assert_eq!(failed.downcast_ref(), Some(&Failure::Connect));
    assert!(failed.into_inner().is::<Failure>());
}

#[test]
fn er_03_each_text_is_once_in_the_chain_of_sources() {
    let error = LayerError::new(Outer("a", boxed(LayerError::new(Outer("b", "c".into())))));
    let chain = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
    let texts: Vec<_> = chain.map(ToString::to_string).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    for error in [
        LayerError::from(Rejection::AtCapacity),
        Failure::Panic.into(),
    ] {
        assert!(error.source().is_none());
    }
    assert_eq!(
        format!("{:?}", LayerError::new(Rejection::AtCapacity)),
        "AtCapacity"
    );
    assert_eq!(LayerError::from("a".to_owned()).to_string(), "a");
}

#[test]
fn er_04_four_words_and_no_allocation_for_rejections_and_failures() {
    assert_eq!(size_of::<LayerError>(), 4 * size_of::<usize>());
    let (status, wait) = (503, Some(ms(1)));
    let costs = allocation_counter::measure(|| {
        for error in [
            LayerError::from(Rejection::CircuitOpen { retry_after: wait }),
            LayerError::from(Failure::Status {
                code: status,
                retry_after: wait,
            }),
        ] {
            std::hint::black_box((error.as_rejection(), error.failure()));
        }
    });
    assert_eq!(costs.count_total, 0);
    let error = io::Error::from(io::ErrorKind::NotFound);
    let costs = allocation_counter::measure(|| drop(LayerError::new(error)));
    assert_eq!(costs.count_total, 1);
}

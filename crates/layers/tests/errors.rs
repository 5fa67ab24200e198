//! Tests of errors that pass through services without knowledge of the layers.
#![allow(missing_docs)]

use std::{
    future::{Ready, ready},
    io::{Error, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceBuilder, ServiceExt, buffer::Buffer, service_fn};
use tower_fanout_layers::{
    AsRejection, BoxError, BreakerConfig, BreakerLayer, CallError, CallErrorLayer, ClassifyResult,
    Failure, LayerError, LayerErrorLayer, Rejection, RetryConfig, RetryLayer, breaker::State,
};

/// Creates a breaker that opens after `failures` consecutive failures.
fn breaker(failures: u32) -> BreakerLayer<ClassifyResult> {
    let config = BreakerConfig::new().consecutive_failures(failures);
    BreakerLayer::new("users", config, ClassifyResult).unwrap()
}

#[tokio::test(start_paused = true)]
async fn cb_22_rejections_from_below_a_buffer_are_not_counted() {
    let outer = breaker(3);
    let inner = ServiceBuilder::new()
        .layer(breaker(1))
        .layer(CallErrorLayer::new())
        .service(service_fn(|()| async {
            Err::<(), _>(Error::other("unavailable"))
        }));
    let service = outer.layer(Buffer::new(inner, 8));
    for call in 0..10 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert_eq!(
            error.as_rejection().is_some(),
            call > 0,
            "call {call}: {error}"
        );
    }
    let handle = outer.handle();
    assert_eq!(
        (handle.state(), handle.snapshot().failed),
        (State::Closed, 1)
    );
}

/// Returns the number of attempts of a request that is not idempotent, where `layer` classifies
/// errors, and the kind of failure of the last one.
async fn attempts<L>(layer: L) -> (u32, Failure)
where
    L: Layer<Unreachable>,
    L::Service: Service<(), Error: AsRejection + From<Rejection>> + Clone,
{
    let unreachable = Unreachable::default();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .layer(layer)
        .service(unreachable.clone());
    let error = service.oneshot(()).await.err().unwrap();
    assert_eq!(error.as_rejection(), None);
    (unreachable.0.load(Ordering::Relaxed), error.failure())
}

/// A service that refuses connections, and counts them.
#[derive(Clone, Default)]
struct Unreachable(Arc<AtomicU32>);

impl Service<()> for Unreachable {
    type Response = ();
    type Error = Error;
    type Future = Ready<Result<(), Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        ready(Err(ErrorKind::ConnectionRefused.into()))
    }
}

fn kind(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Connect,
        _ => Failure::Other,
    }
}

#[tokio::test(start_paused = true)]
async fn rt_05_a_function_makes_connect_errors_retryable() {
    assert_eq!(attempts(CallErrorLayer::new()).await, (1, Failure::Other));
    assert_eq!(
        attempts(CallErrorLayer::with(kind)).await,
        (3, Failure::Connect)
    );
    assert_eq!(attempts(LayerErrorLayer::new()).await, (1, Failure::Other));
    assert_eq!(
        attempts(LayerErrorLayer::with(kind)).await,
        (3, Failure::Connect)
    );
}

#[tokio::test]
async fn er_07_a_function_gives_an_error_its_kind_in_every_box() {
    let layer = LayerErrorLayer::with(kind);
    let error = layer.layer(Unreachable::default()).oneshot(()).await;
    let error = error.unwrap_err();
    assert!(error.downcast_ref::<Error>().is_some()); // keeps its type
    let boxed = BoxError::from(error);
    assert_eq!(boxed.failure(), Failure::Connect);
    let error = LayerError::from(boxed);
    assert_eq!(error.failure(), Failure::Connect);
    let error = error.into_inner().downcast::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Returns the rejection and the failure of `error` above a layer whose function returns `failure`.
async fn classified<E>(error: E, failure: Failure) -> (Option<Rejection>, Failure)
where
    E: Into<BoxError>,
{
    let service = service_fn(|error| ready(Err::<(), E>(error)));
    let service = LayerErrorLayer::with(|_: &E| failure).layer(service);
    let error = service.oneshot(error).await.unwrap_err();
    (error.as_rejection(), error.failure())
}

#[tokio::test]
async fn er_07_a_function_decides_for_each_error_except_a_rejection() {
    type Inner = CallError<Error>;
    let failed = || Inner::Inner {
        error: Error::other("the service failed"),
        failure: Failure::NotProcessed,
    };
    let connect = (None, Failure::Connect);
    assert_eq!(classified(failed(), Failure::Connect).await, connect);
    let of_source = classified(failed(), Failure::Other).await;
    assert_eq!(of_source, (None, Failure::NotProcessed));
    let failed = || LayerError::from(Failure::Panic);
    assert_eq!(classified(failed(), Failure::Connect).await, connect);

    let full = Rejection::AtCapacity;
    let (rejected, _) = classified(Inner::Rejected(full), Failure::Connect).await;
    assert_eq!(rejected, Some(full));
    let (rejected, _) = classified(LayerError::from(full), Failure::Connect).await;
    assert_eq!(rejected, Some(full));
}

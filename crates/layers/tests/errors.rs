//! Tests of errors that pass through services without knowledge of the layers.
#![allow(missing_docs)]

use std::{
    future::ready,
    io::{Error, ErrorKind},
    sync::atomic::{AtomicU32, Ordering},
};

use tower::{Layer, ServiceBuilder, ServiceExt, buffer::Buffer, service_fn};
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, CallError, CallErrorLayer, ClassifyResult, Failure,
    RetryConfig, RetryLayer, breaker::State,
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
/// errors.
async fn attempts<F>(layer: CallErrorLayer<F>) -> u32
where
    F: Fn(&Error) -> Failure + Clone,
{
    let count = AtomicU32::new(0);
    let unreachable = service_fn(|()| {
        count.fetch_add(1, Ordering::Relaxed);
        ready(Err::<(), _>(Error::from(ErrorKind::ConnectionRefused)))
    });
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .layer(layer)
        .service(unreachable);
    let error = service.oneshot(()).await.unwrap_err();
    assert!(matches!(error, CallError::Inner { .. }), "{error}");
    count.into_inner()
}

#[tokio::test(start_paused = true)]
async fn rt_05_call_error_layer_makes_connect_errors_retryable() {
    assert_eq!(attempts(CallErrorLayer::new()).await, 1);
    let kind = |error: &Error| match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Connect,
        _ => Failure::Other,
    };
    assert_eq!(attempts(CallErrorLayer::with(kind)).await, 3);
}

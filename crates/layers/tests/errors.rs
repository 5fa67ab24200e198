//! What errors say of a call, on their way through services that know nothing of layers.
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

/// Opens after so many failures in a row.
fn breaker(failures: u32) -> BreakerLayer<ClassifyResult> {
    let policy = BreakerConfig::new().consecutive_failures(failures);
    BreakerLayer::new("users", policy, ClassifyResult).unwrap()
}

#[tokio::test(start_paused = true)]
async fn cb_22_refusals_from_below_a_buffer_count_for_nothing() {
    let outer = breaker(3);
    let inner = ServiceBuilder::new()
        .layer(breaker(1))
        .layer(CallErrorLayer::new())
        .service(service_fn(|()| async { Err::<(), _>(Error::other("no")) }));
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

/// How often a request that may not be sent twice is sent, where `lift` says what errors mean.
async fn sent<F>(lift: CallErrorLayer<F>) -> u32
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
        .layer(lift)
        .service(unreachable);
    let error = service.oneshot(()).await.unwrap_err();
    assert!(matches!(error, CallError::Inner { .. }), "{error}");
    count.into_inner()
}

#[tokio::test(start_paused = true)]
async fn rt_05_a_lifted_error_is_retried_as_the_failure_that_it_is_said_to_be() {
    assert_eq!(sent(CallErrorLayer::new()).await, 1);
    let kind = |error: &Error| match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Connect,
        _ => Failure::Other,
    };
    assert_eq!(sent(CallErrorLayer::with(kind)).await, 3);
}

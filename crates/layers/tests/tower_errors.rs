//! Tests of the errors of tower's own layers below ours.
#![cfg(feature = "tower")]
#![allow(missing_docs)]

mod common;

use std::{
    error::Error,
    fmt,
    future::{pending, ready},
    time::Duration,
};

use common::ms;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, load_shed::LoadShedLayer, service_fn,
    timeout::TimeoutLayer,
};
use tower_fanout_layers::{
    AsRejection, BoxError, BreakerConfig, BreakerLayer, Class, Classify, ClassifyResult, Rejection,
    RetryConfig, RetryLayer, WithCall,
    breaker::{Snapshot, State},
};

type Request = WithCall<u32>;

/// A breaker that opens at the first failure.
fn breaker(unanswered: Option<Duration>) -> BreakerLayer<ClassifyResult> {
    let config = BreakerConfig::new()
        .consecutive_failures(1)
        .unanswered(unanswered);
    BreakerLayer::new("users", config, ClassifyResult).unwrap()
}

fn hanging() -> impl Service<Request, Response = (), Error = BoxError, Future: Send> + Clone + Send
{
    service_fn(|_| pending())
}

/// Asserts that a breaker around `service` does not count its error, which is `rejection`.
async fn assert_rejected<S>(service: S, rejection: Rejection)
where
    S: Service<Request, Response = (), Error = BoxError> + Clone,
{
    let breaker = breaker(None);
    let call = breaker.layer(service).oneshot(WithCall::new(0));
    let error = call.await.unwrap_err();
    assert_eq!(error.as_rejection(), Some(rejection), "{error:?}");
    let Snapshot { state, failed, .. } = breaker.handle().snapshot();
    assert_eq!((state, failed), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn fault_h15_an_overloaded_load_shed_is_no_failure_of_the_service() {
    // The service is never ready, because another call holds its only permit.
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(hanging());
    let mut other = limited.clone();
    let _call = other.ready().await.unwrap().call(WithCall::new(0));
    assert_rejected(LoadShedLayer::new().layer(limited), Rejection::AtCapacity).await;
}

#[tokio::test(start_paused = true)]
async fn fault_h15_a_closed_buffer_is_no_failure_of_the_service() {
    let (buffer, worker) = tower::buffer::Buffer::pair(hanging(), 1);
    drop(worker);
    assert_rejected(buffer, Rejection::NoEndpoint).await;
}

#[tokio::test(start_paused = true)]
async fn fault_h15_an_elapsed_timeout_counts_only_after_unanswered() {
    let service = TimeoutLayer::new(ms(100)).layer(hanging());
    assert_rejected(service.clone(), Rejection::Deadline).await;
    for (unanswered, state) in [(101, State::Closed), (100, State::Open)] {
        let breaker = breaker(Some(ms(unanswered)));
        let call = breaker.layer(service.clone()).oneshot(WithCall::new(0));
        call.await.unwrap_err();
        assert_eq!(breaker.handle().state(), state, "{unanswered} ms");
    }
}

/// An error of a user, with a source.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn fault_h15_tower_refusals_are_found_in_sources_and_not_retried() {
    let overloaded = || BoxError::from(tower::load_shed::error::Overloaded::new());
    let wrapped = BoxError::from(Wrapped(overloaded()));
    let class = ClassifyResult.classify(Err::<&(), _>(&wrapped), ms(1));
    assert_eq!(class, Class::Rejected(Rejection::AtCapacity));
    let calls = &std::cell::Cell::new(0);
    let service = service_fn(move |_: Request| {
        calls.set(calls.get() + 1);
        ready(Err::<(), _>(overloaded()))
    });
    let retry = RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
    let call = retry.layer(service).oneshot(WithCall::new(0).idempotent());
    call.await.unwrap_err();
    assert_eq!(calls.get(), 1);
}

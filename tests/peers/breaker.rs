//! Windows, probes and clocks of circuit breakers.
//!
//! tower-resilience reads the clock of the system, so its open times and windows here are 1 ns instead of a
//! sleep.

use std::time::Duration;

use futures_util::FutureExt;
use tower::{Layer, Service, ServiceExt};
use tower_fanout_layers::{
    BreakerConfig, WithCall,
    breaker::{State, Window},
};
use tower_resilience::circuitbreaker::{
    CircuitBreakerError, CircuitBreakerLayer, CircuitState, SlidingWindowType,
};

use crate::{
    SECOND,
    services::{
        Ask::{self, Fail, Hang, Work},
        Down, Users, breaker, is_open, ours,
    },
};

const NANO: Duration = Duration::from_nanos(1);

/// Counts the failures until `call` is refused, after 1,000 successes.
async fn failures_until_open(mut call: impl AsyncFnMut(Ask) -> bool) -> u32 {
    for _ in 0..1_000 {
        assert!(!call(Work).await);
    }
    let mut failures = 0;
    while !call(Fail).await {
        failures += 1;
    }
    failures
}

#[tokio::test]
async fn our_window_of_calls_slides() {
    let window = BreakerConfig::new().window(Window::Count(10));
    let mut service = ours(breaker(window.consecutive_failures(None)));
    let call = async |ask| is_open(service.call(WithCall::new(ask)).await);
    assert_eq!(failures_until_open(call).await, 5);
}

#[tokio::test]
async fn a_peer_window_of_calls_never_forgets_a_success() {
    let builder = CircuitBreakerLayer::builder().sliding_window_size(10);
    let layer = builder.minimum_number_of_calls(10).build().unwrap();
    let mut service = layer.layer(Users);
    let call = async |ask| peer_call(&mut service, ask).await.is_none();
    assert_eq!(failures_until_open(call).await, 1_000);
}

/// Calls a breaker of tower-resilience. `None`: the circuit is open.
async fn peer_call<S, E>(service: &mut S, ask: Ask) -> Option<Result<u32, E>>
where
    S: Service<Ask, Response = u32, Error = CircuitBreakerError<E>>,
{
    let result = match service.ready().await {
        Ok(service) => service.call(ask).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(answer) => Some(Ok(answer)),
        Err(CircuitBreakerError::Inner(error)) => Some(Err(error)),
        Err(CircuitBreakerError::OpenCircuit) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn our_probes_close_however_far_apart_they_are() {
    let window = BreakerConfig::new().window(Window::Time(SECOND));
    let layer = breaker(window.consecutive_failures(1).half_open_probes(2));
    let handle = layer.handle().clone();
    let mut service = ours(layer);
    let mut call = |ask| service.call(WithCall::new(ask)).now_or_never().unwrap();
    assert!(call(Fail).is_err());
    for state in [State::HalfOpen, State::Closed] {
        tokio::time::advance(SECOND * 60).await;
        assert!(call(Work).is_ok());
        assert_eq!(handle.state(), state);
    }
}

#[tokio::test]
async fn peer_probes_further_apart_than_the_window_reject_for_ever() {
    let layer = CircuitBreakerLayer::builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(NANO)
        .consecutive_failures(1)
        .wait_duration_in_open(NANO)
        .permitted_calls_in_half_open(2);
    let (layer, handle) = layer.build_with_handle().unwrap();
    let mut service = layer.layer(Users);
    assert_eq!(peer_call(&mut service, Fail).await, Some(Err(Down)));
    // Two probes succeed, but the window has forgotten the first when the second is counted.
    assert_eq!(peer_call(&mut service, Work).await, Some(Ok(7)));
    assert_eq!(peer_call(&mut service, Work).await, Some(Ok(7)));
    for _ in 0..1_000 {
        assert_eq!(peer_call(&mut service, Work).await, None);
    }
    assert_eq!(handle.state(), CircuitState::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back_in_both() {
    let layer = breaker(
        BreakerConfig::new()
            .consecutive_failures(1)
            .half_open_probes(1),
    );
    let mut service = ours(layer);
    let mut call = |ask| service.call(WithCall::new(ask));
    assert!(call(Fail).now_or_never().unwrap().is_err());
    tokio::time::advance(SECOND * 60).await;
    assert!(call(Hang).now_or_never().is_none());
    assert!(call(Work).now_or_never().unwrap().is_ok());

    let peer = CircuitBreakerLayer::builder().consecutive_failures(1);
    let peer = peer
        .wait_duration_in_open(NANO)
        .permitted_calls_in_half_open(1);
    let mut service = peer.build().unwrap().layer(Users);
    assert_eq!(peer_call(&mut service, Fail).await, Some(Err(Down)));
    let ready = ServiceExt::<Ask>::ready(&mut service).await.unwrap();
    let probe = ready.call(Hang).now_or_never();
    assert!(probe.is_none());
    assert_eq!(peer_call(&mut service, Work).await, Some(Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn our_open_time_follows_the_paused_clock() {
    let layer = breaker(BreakerConfig::new().consecutive_failures(1));
    let mut service = ours(layer);
    let mut call = |ask| service.call(WithCall::new(ask)).now_or_never().unwrap();
    assert!(call(Fail).is_err());
    assert!(is_open(call(Work)));
    tokio::time::advance(SECOND * 60).await;
    assert_eq!(call(Work).unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_peer_open_time_does_not() {
    let peer = CircuitBreakerLayer::builder().consecutive_failures(1);
    let peer = peer.wait_duration_in_open(SECOND * 30).build().unwrap();
    let mut service = peer.layer(Users);
    assert_eq!(peer_call(&mut service, Fail).await, Some(Err(Down)));
    tokio::time::advance(SECOND * 60).await;
    assert_eq!(peer_call(&mut service, Work).await, None);
}

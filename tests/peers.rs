//! Tests the claims of `docs/why.md` about other crates, and that our layers differ as the page says.
//!
//! tower-resilience reads the clock of the system, so its open times and windows here are 1 ns instead of a
//! sleep.
#![allow(missing_docs)]

use std::{
    convert::Infallible,
    future::{Pending, Ready, pending, ready},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router, body::Body, error_handling::HandleErrorLayer, extract::Request, response::Response,
    routing::get,
};
use futures_util::{FutureExt, future::Either, poll};
use http::StatusCode;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    layer::layer_fn,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    retry::backoff::{Backoff, ExponentialBackoffMaker, MakeBackoff},
    util::rng::HasherRng,
};
use tower_fanout_http::problem::ProblemLayer;
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, CallError, CallErrorLayer, ClassifyHttp,
    ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, Event, Failure, Rejection, RetryConfig,
    RetryLayer, TimeoutLayer, WithCall,
    breaker::{State, Window},
};
use tower_resilience::{
    bulkhead::{BulkheadLayer, BulkheadServiceError},
    circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer, CircuitState, SlidingWindowType},
    retry::{self, ExponentialBackoff, ExponentialRandomBackoff, IntervalFunction},
    timelimiter::{TimeLimiterError, TimeLimiterLayer},
};

use Ask::{Fail, Hang, Work};

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const CALLS: u32 = 20;

/// The error of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Down;

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("down")
    }
}

impl std::error::Error for Down {}

/// A request, which says what the service does.
#[derive(Clone, Copy)]
enum Ask {
    Work,
    Fail,
    Hang,
}

trait AsAsk {
    fn ask(&self) -> Ask;
}

impl AsAsk for Ask {
    fn ask(&self) -> Ask {
        *self
    }
}

impl AsAsk for WithCall<Ask> {
    fn ask(&self) -> Ask {
        *self.get()
    }
}

#[derive(Clone)]
struct Users;

impl<R: AsAsk> Service<R> for Users {
    type Response = u32;
    type Error = Down;
    type Future = Either<Ready<Result<u32, Down>>, Pending<Result<u32, Down>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Down>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        match request.ask() {
            Work => Either::Left(ready(Ok(7))),
            Fail => Either::Left(ready(Err(Down))),
            Hang => Either::Right(pending()),
        }
    }
}

fn breaker(config: BreakerConfig) -> BreakerLayer<ClassifyResult> {
    BreakerLayer::new("users", config, ClassifyResult).unwrap()
}

/// The number of requests of 20 that reach the handler of an axum application, which responds with 500.
async fn reached(layers: impl FnOnce(Router) -> Router, per_connection: bool) -> u32 {
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    let handler = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let app = layers(Router::new().route("/", get(handler)));
    let connection = app.clone().with_state(());
    for _ in 0..CALLS {
        let app = if per_connection { &connection } else { &app };
        let response = app.clone().oneshot(Request::new(Body::empty())).await;
        response.unwrap();
    }
    seen.load(Ordering::Relaxed)
}

/// Adds a breaker of tower-resilience that opens after five responses with 500.
fn peer_breaker(app: Router, shared: bool) -> Router {
    let is_failure = |result: &Result<Response, Infallible>| {
        result
            .as_ref()
            .is_ok_and(|response| response.status() == 500)
    };
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(5)
        .failure_classifier(is_failure);
    let breaker = if shared {
        breaker.build_with_handle().unwrap().0
    } else {
        breaker.build().unwrap()
    };
    let refused = |_: CircuitBreakerError<Infallible>| ready(StatusCode::SERVICE_UNAVAILABLE);
    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(refused));
    app.layer(layers.layer(breaker))
}

#[tokio::test]
async fn our_breaker_opens_under_router_layer() {
    for per_connection in [false, true] {
        let layers = |app: Router| {
            let breaker = BreakerLayer::new("app", BreakerConfig::new(), ClassifyHttp::new());
            let layers = ServiceBuilder::new().layer(ProblemLayer::new());
            app.layer(layers.layer(breaker.unwrap()).layer(CallErrorLayer::new()))
        };
        assert_eq!(reached(layers, per_connection).await, 5);
    }
}

#[tokio::test]
async fn a_peer_breaker_starts_again_under_router_layer() {
    // The router applies the layer for each request, or for each connection of `axum::serve`.
    assert_eq!(reached(|app| peer_breaker(app, false), false).await, CALLS);
    assert_eq!(reached(|app| peer_breaker(app, false), true).await, 5);
    // With the handle, the state is shared.
    assert_eq!(reached(|app| peer_breaker(app, true), false).await, 5);
}

#[tokio::test]
async fn axum_applies_a_layer_for_each_request() {
    let applied = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&applied);
    let count = layer_fn(move |service| {
        counted.fetch_add(1, Ordering::Relaxed);
        service
    });
    let seen = reached(|app| app.layer(count), false).await;
    assert_eq!(seen, CALLS);
    assert!(applied.load(Ordering::Relaxed) >= CALLS);
}

/// Returns `true` if a second service of `layer` admits a call while the first service has one in flight,
/// which is the maximum.
async fn admits_two<L, S, Req>(layer: L, inner: S, request: impl Fn(Ask) -> Req) -> bool
where
    S: Clone,
    L: Layer<S, Service: Service<Req>>,
{
    let (mut first, mut second) = (layer.layer(inner.clone()), layer.layer(inner));
    let running = first.ready().await.ok().unwrap().call(request(Hang));
    let mut running = pin!(running);
    assert!(poll!(&mut running).is_pending());
    match second.ready().now_or_never() {
        Some(Ok(service)) => service.call(request(Work)).await.is_ok(),
        _ => false,
    }
}

#[tokio::test]
async fn our_limit_counts_the_calls_of_all_services_of_a_layer() {
    let layer = ConcurrencyLayer::new(ConcurrencyConfig::new().max(1)).unwrap();
    assert!(!admits_two(layer, CallErrorLayer::new().layer(Users), WithCall::new).await);
}

#[tokio::test]
async fn a_peer_limit_counts_those_of_one_service() {
    assert!(admits_two(ConcurrencyLimitLayer::new(1), Users, |ask| ask).await);
    let global = GlobalConcurrencyLimitLayer::new(1);
    assert!(!admits_two(global, Users, |ask| ask).await);

    let bulkhead = || {
        BulkheadLayer::builder()
            .max_concurrent_calls(1)
            .reject_when_full()
    };
    assert!(admits_two(bulkhead().build().unwrap(), Users, |ask| ask).await);
    let (shared, _) = bulkhead().build_with_handle().unwrap();
    assert!(!admits_two(shared, Users, |ask| ask).await);
}

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

/// Our layers around a service.
fn ours<L>(layer: L) -> L::Service
where
    L: Layer<WithErrors>,
{
    layer.layer(CallErrorLayer::new().layer(Users))
}

type WithErrors = <CallErrorLayer<fn(&Down) -> Failure> as Layer<Users>>::Service;

fn is_open(result: Result<u32, CallError<Down>>) -> bool {
    let rejection = result.as_ref().err().and_then(AsRejection::as_rejection);
    matches!(rejection, Some(Rejection::CircuitOpen { .. }))
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

#[tokio::test]
async fn our_error_keeps_its_type_through_four_layers() {
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::new(SECOND).unwrap())
        .layer(RetryLayer::new(RetryConfig::new().max_attempts(1), ClassifyResult).unwrap())
        .layer(breaker(BreakerConfig::new()))
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap());
    let result = ours(layers).oneshot(WithCall::new(Fail)).await;
    let Err(CallError::Inner { error: Down, .. }) = result else {
        panic!("expected the error of the service, got {result:?}");
    };
}

#[tokio::test]
async fn a_peer_error_nests_once_per_layer() {
    let peers = ServiceBuilder::new()
        .layer(TimeLimiterLayer::builder().timeout_duration(SECOND).build())
        .layer(CircuitBreakerLayer::builder().build().unwrap())
        .layer(BulkheadLayer::builder().build().unwrap());
    let result = peers.service(Users).oneshot(Fail).await;
    let Err(TimeLimiterError::Inner(CircuitBreakerError::Inner(BulkheadServiceError::Inner(Down)))) =
        result
    else {
        panic!("expected the nested error of the service, got {result:?}");
    };
}

/// The pauses before the second attempt of `calls` calls through our retry.
async fn our_pauses(config: RetryConfig, calls: usize) -> Vec<Duration> {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&pauses);
    let layer = RetryLayer::new(config.max_attempts(2), ClassifyResult).unwrap();
    let service = ours(layer.events(move |event: Event| {
        if let Event::Backoff { delay } = event {
            seen.lock().unwrap().push(delay);
        }
    }));
    for _ in 0..calls {
        let call = service.clone().oneshot(WithCall::new(Fail).idempotent());
        assert!(call.await.is_err());
        tokio::time::advance(SECOND).await; // so that the retry budget never ends
    }
    let pauses = pauses.lock().unwrap();
    pauses.clone()
}

#[tokio::test(start_paused = true)]
async fn our_jitter_spreads_pauses_and_keeps_the_cap() {
    let second = RetryConfig::new().base(SECOND).cap(SECOND);
    let mut pauses = our_pauses(second, 200).await;
    assert!(pauses.iter().all(|&pause| pause <= SECOND));
    let mean = pauses.iter().sum::<Duration>() / 200;
    assert!(
        (450..550).contains(&mean.as_millis()),
        "the mean is {mean:?}"
    );
    pauses.sort_unstable();
    pauses.dedup();
    assert_eq!(pauses.len(), 200);
}

#[test]
fn peer_backoff_has_no_jitter_by_default() {
    let backoff = ExponentialBackoff::new(SECOND);
    assert!((0..200).all(|_| backoff.next_interval(0) == SECOND));
}

#[test]
fn peer_jitter_exceeds_the_longest_interval() {
    let backoff = ExponentialRandomBackoff::new(SECOND, 0.5)
        .unwrap()
        .max_interval(SECOND);
    assert!((0..200).any(|_| backoff.next_interval(3) > SECOND));
}

#[tokio::test(start_paused = true)]
async fn tower_gives_every_request_the_same_jitter() {
    let rng = HasherRng::default;
    let mut maker = ExponentialBackoffMaker::new(SECOND / 2, SECOND, 0.9, rng()).unwrap();
    let pauses = [0; 20].map(|_| maker.make_backoff().next_backoff().deadline());
    assert!(pauses.iter().all(|&pause| pause == pauses[0]));

    // The jitter of the seconds is cut to whole seconds.
    let mut maker = ExponentialBackoffMaker::new(SECOND, SECOND * 60, 0.9, rng()).unwrap();
    let pause = maker.make_backoff().next_backoff();
    assert_eq!(pause.deadline() - tokio::time::Instant::now(), SECOND);
}

/// The number of allocations of one successful call.
fn allocations<S, Req>(service: &mut S, request: Req) -> u64
where
    S: Service<Req>,
{
    let counted = allocation_counter::measure(|| {
        let ready = service.ready().now_or_never().unwrap();
        let call = ready.ok().unwrap().call(request).now_or_never().unwrap();
        assert!(call.is_ok());
    });
    counted.count_total
}

#[tokio::test]
async fn allocations_of_a_call_side_by_side() {
    let mut our = ours(
        ServiceBuilder::new()
            .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
            .layer(breaker(BreakerConfig::new()))
            .layer(ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap())
            .layer(TimeoutLayer::new(SECOND).unwrap()),
    );
    let within = TimeLimiterLayer::builder().timeout_duration(SECOND);
    let mut peer = ServiceBuilder::new()
        .layer(retry::RetryLayer::exponential_backoff().build())
        .layer(CircuitBreakerLayer::builder().build().unwrap())
        .layer(BulkheadLayer::builder().build().unwrap())
        .layer(within.cancel_running_future(true).build())
        .service(Users);
    // The first calls create what later calls reuse.
    for _ in 0..50 {
        tokio::task::yield_now().await; // ends the cooperative budget of tokio
        allocations(&mut our, WithCall::new(Work));
        allocations(&mut peer, Work);
    }
    assert_eq!(allocations(&mut our, WithCall::new(Work)), 0);
    assert_eq!(allocations(&mut peer, Work), 10);
}

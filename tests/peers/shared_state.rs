//! State of a layer that is applied more than once.

use std::{
    convert::Infallible,
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Router, body::Body, error_handling::HandleErrorLayer, extract::Request, response::Response,
    routing::get,
};
use futures_util::{FutureExt, poll};
use http::StatusCode;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    layer::layer_fn,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
};
use tower_fanout_http::problem::ProblemLayer;
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallErrorLayer, ClassifyHttp, ConcurrencyConfig, ConcurrencyLayer,
    WithCall,
};
use tower_resilience::{
    bulkhead::BulkheadLayer,
    circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer},
};

use crate::services::{
    Ask::{self, Hang, Work},
    Users,
};

const CALLS: u32 = 20;

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

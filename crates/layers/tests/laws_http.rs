//! Tests of every HTTP layer against the laws of the testkit. The types of bodies are mapped back.
#![cfg(feature = "http")]
#![allow(missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{
    Layer, ServiceBuilder, ServiceExt,
    util::{MapRequest, MapResponse},
};
use tower_fanout_layers::{
    BodyTimeoutLayer, BoxError, BreakerConfig, BreakerLayer, ClassifyHttp, ConcurrencyConfig,
    ConcurrencyLayer, RetryConfig, RetryLayer, UploadLayer,
};
use tower_fanout_testkit::{
    laws::{Http, Laws},
    script::ScriptedService,
};

type Whole = Full<Bytes>;

const CALLS: Http<Whole> = Http::new();

/// Replaces the body of a response by an empty one.
fn without_response_body<B>(response: Response<B>) -> Response<Whole> {
    response.map(|_| Full::default())
}

/// Replaces the body of a request by an empty one.
fn without_request_body<B>(request: Request<B>) -> Request<Whole> {
    request.map(|_| Full::default())
}

#[tokio::test(start_paused = true)]
async fn upload_keeps_the_laws() {
    for max_body in [0, 1_000] {
        let layer = UploadLayer::new(max_body);
        Laws::new(CALLS, |inner| {
            layer.layer(MapRequest::new(inner, without_request_body))
        })
        .check()
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn upload_above_retry_keeps_the_laws() {
    let stack = || {
        ServiceBuilder::new()
            .layer(UploadLayer::default())
            .layer(RetryLayer::new(RetryConfig::new(), ClassifyHttp::new()).unwrap())
    };
    let build = |inner| stack().service(MapRequest::new(inner, without_request_body));
    Laws::new(CALLS, build).check().await;
}

#[tokio::test(start_paused = true)]
async fn body_timeout_keeps_the_laws() {
    for idle in [Duration::MAX, Duration::from_secs(5)] {
        let layer = BodyTimeoutLayer::new(idle).unwrap();
        Laws::new(CALLS, |inner| {
            MapResponse::new(layer.layer(inner), without_response_body)
        })
        .check()
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_until_body_end_keeps_the_laws() {
    for (max, queue) in [(100, 0), (1, 100)] {
        let config = ConcurrencyConfig::new().max(max).queue(queue);
        let layer = ConcurrencyLayer::new(config).unwrap().until_body_end();
        Laws::new(CALLS, |inner| {
            MapResponse::new(layer.layer(inner), without_response_body)
        })
        .idle_when(|| layer.in_flight() == 0 && layer.queued() == 0)
        .check()
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_until_body_end_keeps_the_law_of_rejection() {
    let config = ConcurrencyConfig::new().max(1).queue(0);
    let layer = ConcurrencyLayer::new(config).unwrap().until_body_end();
    let script = ScriptedService::<Request<Whole>, _, BoxError>::new();
    let service = layer.layer(script.respond(Response::new(Full::new(Bytes::from("unread")))));
    let _unread = service.oneshot(Request::default()).await.unwrap();
    Laws::new(CALLS, |inner| {
        MapResponse::new(layer.layer(inner), without_response_body)
    })
    .short_circuit()
    .await;
}

#[tokio::test(start_paused = true)]
async fn breaker_until_body_end_keeps_the_laws() {
    let config = |failures| BreakerConfig::new().consecutive_failures(failures);
    let layer = |failures| {
        BreakerLayer::new("team", config(failures), ClassifyHttp::new())
            .unwrap()
            .until_body_end()
    };
    let never_opens = |inner| MapResponse::new(layer(None).layer(inner), without_response_body);
    Laws::new(CALLS, never_opens).check().await;
    let open = layer(Some(1));
    let broken = ScriptedService::<Request<Whole>, Response<Whole>, BoxError>::new();
    let broken = broken.fail("broken");
    let call = open.layer(broken).oneshot(Request::default());
    assert!(call.await.is_err());
    Laws::new(CALLS, |inner| {
        MapResponse::new(open.layer(inner), without_response_body)
    })
    .short_circuit()
    .await;
}

#[cfg(feature = "chaos")]
#[tokio::test(start_paused = true)]
async fn chaos_with_bodies_keeps_the_laws() {
    use tower_fanout_layers::{
        Failure,
        chaos::{ChaosBody, ChaosConfig, ChaosLayer, Injection, Rule, inject_http},
    };

    let breakable = |inner| {
        MapResponse::new(inner, |response: http::Response<_>| {
            response.map(ChaosBody::new)
        })
    };
    let layer = |enabled, inject| {
        let rules = vec![Rule::new(1.0, inject)];
        let config = ChaosConfig::new().enabled(enabled).rules(rules);
        ChaosLayer::new(config, inject_http(BoxError::from)).unwrap()
    };
    for (enabled, inject) in [
        (false, Injection::Status(503)),
        (true, Injection::Truncate(4)),
        (true, Injection::ResetBody),
    ] {
        let layer = layer(enabled, inject);
        Laws::new(CALLS, |inner| {
            MapResponse::new(layer.layer(breakable(inner)), without_response_body)
        })
        .check()
        .await;
    }
    for inject in [
        Injection::Status(503),
        Injection::Error(Failure::ConnectionReset),
    ] {
        let layer = layer(true, inject);
        Laws::new(CALLS, |inner| {
            MapResponse::new(layer.layer(breakable(inner)), without_response_body)
        })
        .short_circuit()
        .await;
    }
}

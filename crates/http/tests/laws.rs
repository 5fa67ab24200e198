//! Checks the layers against the tower laws of the testkit.
#![allow(missing_docs)]

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request,
    header::{AUTHORIZATION, HOST},
};
use http_body_util::Full;
use serde_json::json;
use tower::{
    Layer, ServiceBuilder,
    util::{MapErr, MapRequest},
};
use tower_fanout_http::{
    attempt_headers::{AttemptHeadersLayer, TIMEOUT},
    correlation::{CORRELATION_ID, CorrelationConfig, CorrelationLayer},
    deadline::InboundDeadlineLayer,
    forward::{HOP_COUNT, LoopDetectionLayer},
    guard::GuardLayer,
    jwt::{
        self, Algorithm, Claims, JwtConfig, JwtLayer, Key, KeySet, PropagateClaimsConfig,
        PropagateClaimsLayer, Verifier, VerifierConfig,
    },
    log::RequestSpanLayer,
    problem::ProblemLayer,
    trace::{BAGGAGE, TRACEPARENT, TRACESTATE, TraceLayer},
};
use tower_fanout_layers::{BoxError, CallContext, Deadline};
use tower_fanout_testkit::laws::{Http, Laws};

type Whole = Full<Bytes>;

const CALLS: Http<Whole> = Http::new();

#[tokio::test(start_paused = true)]
async fn correlation_keeps_the_laws() {
    for layer in [
        CorrelationLayer::default(),
        CorrelationLayer::new(CorrelationConfig::default().trust(false)),
    ] {
        Laws::new(CALLS, |inner| layer.layer(inner)).check().await;
        Laws::new(CALLS, |inner| MapRequest::new(layer.layer(inner), traced))
            .check()
            .await;
    }
}

/// Adds a correlation id and all trace headers to `request`.
fn traced(mut request: Request<Whole>) -> Request<Whole> {
    for (name, value) in [
        (CORRELATION_ID, "order-7"),
        (
            TRACEPARENT,
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        (TRACESTATE, "a=1,b=2"),
        (BAGGAGE, "tenant=7"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    request
}

#[tokio::test(start_paused = true)]
async fn trace_keeps_the_laws() {
    for layer in [
        TraceLayer::new().baggage(["tenant"]),
        TraceLayer::new().trust(false),
    ] {
        Laws::new(CALLS, |inner| layer.layer(inner)).check().await;
        Laws::new(CALLS, |inner| MapRequest::new(layer.layer(inner), traced))
            .check()
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn request_span_keeps_the_laws() {
    let layer = RequestSpanLayer::new();
    Laws::new(CALLS, |inner| layer.layer(inner)).check().await;
}

#[tokio::test(start_paused = true)]
async fn attempt_headers_keep_the_laws() {
    let layer = AttemptHeadersLayer::new();
    Laws::new(CALLS, |inner| layer.layer(inner)).check().await;
    let attempt = |mut request: Request<Whole>| {
        let call = request.call_mut().unwrap();
        let now = tokio::time::Instant::now();
        (call.attempt, call.deadline) = (2, Deadline::after(now, Duration::from_secs(9)));
        traced(request)
    };
    Laws::new(CALLS, |inner| MapRequest::new(layer.layer(inner), attempt))
        .check()
        .await;
}

#[tokio::test(start_paused = true)]
async fn inbound_deadline_keeps_the_laws() {
    let with_timeout = |mut request: Request<Whole>| {
        let time = HeaderValue::from_static("9000");
        request.headers_mut().insert(TIMEOUT, time);
        request
    };
    for layer in [
        InboundDeadlineLayer::new(),
        InboundDeadlineLayer::new().trust(true),
    ] {
        Laws::new(CALLS, |inner| {
            MapRequest::new(layer.layer(inner), with_timeout)
        })
        .check()
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn loop_detection_keeps_the_laws() {
    let layer = LoopDetectionLayer::new();
    Laws::new(CALLS, |inner| layer.layer(inner)).check().await;
    let with_hop_count = |mut request: Request<Whole>| {
        let hop_count = HeaderValue::from_static("2");
        request.headers_mut().insert(HOP_COUNT, hop_count);
        request
    };
    Laws::new(CALLS, |inner| {
        MapRequest::new(layer.layer(inner), with_hop_count)
    })
    .check()
    .await;
}

#[tokio::test(start_paused = true)]
async fn problem_keeps_the_laws() {
    let never = |error: Infallible| -> BoxError { match error {} };
    let build = |inner| MapErr::new(ProblemLayer::new().layer(inner), never);
    Laws::new(CALLS, build).check().await;
}

fn verifier() -> Verifier {
    let key = Key::from_secret(Algorithm::HS256, SECRET).unwrap();
    let rules = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"]);
    let clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    Verifier::new(KeySet::new([key]).unwrap(), rules)
        .unwrap()
        .clock(clock)
}

fn jwt() -> JwtLayer {
    JwtLayer::new(verifier(), JwtConfig::default()).unwrap()
}

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-tests";

#[tokio::test(start_paused = true)]
async fn jwt_keeps_the_laws() {
    let claims =
        json!({"iss": "https://idp.example", "aud": "orders", "exp": NOW + 60, "sub": "ada"});
    let token = jwt::sign(Algorithm::HS256, SECRET, &claims).unwrap();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let signed = |inner| {
        let bearer = bearer.clone();
        MapRequest::new(jwt().layer(inner), move |mut request: Request<Whole>| {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
            request
        })
    };
    Laws::new(CALLS, signed).check().await;
    Laws::new(CALLS, |inner| jwt().layer(inner))
        .short_circuit()
        .await;
}

fn with_host(mut request: Request<Whole>) -> Request<Whole> {
    let host = HeaderValue::from_static("shop.example");
    request.headers_mut().insert(HOST, host);
    request
}

#[tokio::test(start_paused = true)]
async fn guard_keeps_the_laws() {
    let layer = GuardLayer::default();
    Laws::new(CALLS, |inner| {
        MapRequest::new(layer.layer(inner), with_host)
    })
    .check()
    .await;
    Laws::new(CALLS, |inner| layer.layer(inner))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn propagate_claims_keeps_the_laws() {
    let claims_of = |id: &str| -> Claims {
        let claims =
            json!({"iss": "https://idp.example", "aud": "orders", "exp": NOW + 60, "sub": id});
        let token = jwt::sign(Algorithm::HS256, SECRET, &claims).unwrap();
        verifier().verify(&token).unwrap()
    };
    let config = PropagateClaimsConfig::default().refuse(true);
    let config = config.claim("sub", HeaderName::from_static("x-user"));
    let layer = PropagateClaimsLayer::new(config).unwrap();
    let with = |claims: Claims, inner| {
        MapRequest::new(layer.layer(inner), move |mut request: Request<Whole>| {
            request.extensions_mut().insert(claims.clone());
            request
        })
    };
    let (sendable, unsendable) = (claims_of("ada"), claims_of("a\nb"));
    Laws::new(CALLS, |inner| with(sendable.clone(), inner))
        .check()
        .await;
    Laws::new(CALLS, |inner| with(unsendable.clone(), inner))
        .short_circuit()
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_outer_layers_together_keep_the_laws() {
    let never = |error: Infallible| -> BoxError { match error {} };
    let outer = ServiceBuilder::new()
        .map_err(never)
        .layer(CorrelationLayer::default())
        .layer(TraceLayer::new())
        .layer(RequestSpanLayer::new())
        .layer(ProblemLayer::new())
        .map_request(with_host)
        .layer(GuardLayer::default())
        .layer(InboundDeadlineLayer::new().trust(true));
    Laws::new(CALLS, |inner| outer.service(inner)).check().await;
}

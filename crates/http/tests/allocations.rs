//! The number of allocations that the layers make for a request.

use std::{convert::Infallible, future::Ready, slice::from_ref};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde_json::json;
use tower::{Layer, Service, service_fn, util::ServiceFn};
use tower_fanout_http::{
    attempt_headers::AttemptHeadersLayer,
    correlation::{CORRELATION_ID, CorrelationLayer},
    guard::{self, GuardConfig},
    jwt::{Algorithm, Key, KeySet, Verifier, VerifierConfig, sign},
    log::RequestSpanLayer,
    media_type::is_json,
    trace::{BAGGAGE, TRACEPARENT, TRACESTATE, TraceContext, TraceLayer},
};

#[test]
fn the_guard_allocates_nothing() {
    let config = GuardConfig::default();
    let request = Request::post("http://shop.example/orders?page=2")
        .header("host", "shop.example")
        .header("transfer-encoding", "chunked")
        .header("expect", "100-continue");
    let request = request.body(()).unwrap();
    let counted = allocation_counter::measure(|| guard::check(&request, &config).unwrap());
    assert_eq!(counted.count_total, 0);
}

#[test]
fn parsing_a_media_type_allocates_nothing() {
    let counted =
        allocation_counter::measure(|| assert!(is_json("Application/JSON; charset=\"UTF-8\"")));
    assert_eq!(counted.count_total, 0);
}

type Inner = Ready<Result<Response<()>, Infallible>>;

/// Returns the number of allocations while a request with `headers` passes through `layer`.
///
/// The layer has served a request before, the maps of the request have spare capacity, and the
/// inner service frees nothing.
fn allocations_in<L>(layer: L, headers: &[(HeaderName, &'static str)]) -> u64
where
    L: Layer<ServiceFn<fn(Request<()>) -> Inner>>,
    L::Service: Service<Request<()>>,
{
    let inner: fn(Request<()>) -> Inner = |request| {
        std::mem::forget(request);
        std::future::ready(Ok(Response::new(())))
    };
    let mut service = layer.layer(service_fn(inner));
    let mut serve = || {
        let mut request = Request::new(());
        request.headers_mut().reserve(8);
        request.extensions_mut().insert(());
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        allocation_counter::measure(|| drop(service.call(request))).count_total
    };
    serve();
    serve()
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_trace_context_is_one_allocation() {
    // The box in the extensions.
    let parent = (TRACEPARENT, PARENT);
    assert_eq!(allocations_in(TraceLayer::new(), &[]), 1);
    assert_eq!(allocations_in(TraceLayer::new(), from_ref(&parent)), 1);
    // Each list that is parsed and written takes two more.
    let all = [parent, (TRACESTATE, "a=1,b=2"), (BAGGAGE, "tenant=7")];
    assert_eq!(allocations_in(TraceLayer::new(), &all), 3);
    let keys = TraceLayer::new().baggage(["tenant"]);
    assert_eq!(allocations_in(keys, &all), 5);
}

#[test]
fn a_generated_correlation_id_is_three_allocations() {
    // The text, the `Arc` that clones share, and the box in the extensions.
    assert_eq!(allocations_in(CorrelationLayer::default(), &[]), 3);
}

#[test]
fn a_kept_correlation_id_is_one_allocation() {
    // The box in the extensions. The text is that of the header.
    let headers = [(CORRELATION_ID, "order-7")];
    assert_eq!(allocations_in(CorrelationLayer::default(), &headers), 1);
}

#[test]
fn the_request_span_allocates_nothing_without_a_subscriber() {
    assert_eq!(allocations_in(RequestSpanLayer::new(), &[]), 0);
}

#[test]
fn the_trace_parent_of_an_attempt_is_one_allocation() {
    assert_eq!(allocations_in(AttemptHeadersLayer::new(), &[]), 0);
    assert_eq!(
        allocations_in(AttemptHeadersLayer::new(), &[(TRACEPARENT, PARENT)]),
        1
    );
    let context = TraceContext::generate();
    let mut sent = HeaderMap::with_capacity(8);
    let counted = allocation_counter::measure(|| context.write(&mut sent));
    assert_eq!(counted.count_total, 1);
}

/// Returns the number of allocations while a token is verified against `keys` keys, one of which it
/// names.
fn allocations_with_keys(keys: u8) -> u64 {
    let secret = b"a secret of this test, which guards nothing";
    let key = |number: u8| {
        let key = Key::from_secret(Algorithm::HS256, secret).unwrap();
        key.with_kid(format!("k{number}"))
    };
    let claims = json!({
        "iss": "https://idp.example", "aud": "orders", "sub": "ada", "exp": 253_402_300_000_u64,
    });
    let token = sign(Algorithm::HS256, secret, &claims).unwrap();
    let rules = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"]);
    let verifier = Verifier::new(KeySet::new((0..keys).map(key)).unwrap(), rules).unwrap();
    let verify = || drop(verifier.verify(&token).unwrap());
    verify();
    allocation_counter::measure(verify).count_total
}

#[test]
fn the_cost_of_a_token_does_not_depend_on_the_number_of_keys() {
    assert_eq!(allocations_with_keys(1), 5);
    assert_eq!(allocations_with_keys(50), 5);
}

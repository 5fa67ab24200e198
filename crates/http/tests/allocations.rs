//! The memory that the edge layers allocate for a request.

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
    let settings = GuardConfig::default();
    let request = Request::post("http://shop.example/orders?page=2")
        .header("host", "shop.example")
        .header("transfer-encoding", "chunked")
        .header("expect", "100-continue");
    let request = request.body(()).unwrap();
    let counted = allocation_counter::measure(|| guard::check(&request, &settings).unwrap());
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_media_type_is_read_in_place() {
    let counted =
        allocation_counter::measure(|| assert!(is_json("Application/JSON; charset=\"UTF-8\"")));
    assert_eq!(counted.count_total, 0);
}

type Answer = Ready<Result<Response<()>, Infallible>>;

/// How often memory is asked for while a request with these headers passes through a layer that has
/// seen one before, where the request's maps have room. The service below keeps nothing.
fn passing<L>(layer: L, headers: &[(HeaderName, &'static str)]) -> u64
where
    L: Layer<ServiceFn<fn(Request<()>) -> Answer>>,
    L::Service: Service<Request<()>>,
{
    let forget: fn(Request<()>) -> Answer = |request| {
        std::mem::forget(request);
        std::future::ready(Ok(Response::new(())))
    };
    let mut service = layer.layer(service_fn(forget));
    let mut pass = || {
        let mut request = Request::new(());
        request.headers_mut().reserve(8);
        request.extensions_mut().insert(());
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        allocation_counter::measure(|| drop(service.call(request))).count_total
    };
    pass();
    pass()
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn the_place_in_a_trace_is_one_allocation() {
    // Where it stands in the extensions.
    let parent = (TRACEPARENT, PARENT);
    assert_eq!(passing(TraceLayer::new(), &[]), 1);
    assert_eq!(passing(TraceLayer::new(), from_ref(&parent)), 1);
    // A list that is read and written takes two more.
    let all = [parent, (TRACESTATE, "a=1,b=2"), (BAGGAGE, "tenant=7")];
    assert_eq!(passing(TraceLayer::new(), &all), 3);
    let keys = TraceLayer::new().baggage(["tenant"]);
    assert_eq!(passing(keys, &all), 5);
}

#[test]
fn an_id_is_three_allocations() {
    // Its text, what its clones share, and where it stands in the extensions.
    for headers in [&[][..], &[(CORRELATION_ID, "order-7")]] {
        assert_eq!(
            passing(CorrelationLayer::default(), headers),
            3,
            "{headers:?}"
        );
    }
}

#[test]
fn without_a_log_a_request_has_no_span() {
    assert_eq!(passing(RequestSpanLayer::new(), &[]), 0);
}

#[test]
fn an_attempt_is_told_its_parent_in_one_allocation() {
    assert_eq!(passing(AttemptHeadersLayer::new(), &[]), 0);
    assert_eq!(
        passing(AttemptHeadersLayer::new(), &[(TRACEPARENT, PARENT)]),
        1
    );
    let context = TraceContext::generate();
    let mut sent = HeaderMap::with_capacity(8);
    let counted = allocation_counter::measure(|| context.write(&mut sent));
    assert_eq!(counted.count_total, 1);
}

/// How often memory is asked for while a token is checked by as many keys, one of which it names.
fn checking(keys: u8) -> u64 {
    let secret = b"a secret of this test, which guards nothing";
    let key = |number: u8| {
        let key = Key::from_secret(Algorithm::HS256, secret).unwrap();
        key.with_kid(format!("k{number}"))
    };
    let claims = json!({
        "iss": "https://idp.example", "aud": "orders", "sub": "ada", "exp": 253_402_300_000_u64,
    });
    let token = sign(Algorithm::HS256, secret, &claims).unwrap();
    let rules = VerifierConfig::new(["https://idp.example"], ["orders"]);
    let verifier = Verifier::new(KeySet::new((0..keys).map(key)).unwrap(), rules).unwrap();
    let check = || drop(verifier.verify(&token).unwrap());
    check();
    allocation_counter::measure(check).count_total
}

#[test]
fn a_token_costs_what_it_says_and_nothing_for_keys() {
    assert_eq!(checking(1), 20);
    assert_eq!(checking(50), 20);
}

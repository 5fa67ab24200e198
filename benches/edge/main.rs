//! Costs of each HTTP layer, compared with the bare service and the same request, and of verifying a token,
//! compared with its signature alone: `cargo bench -p tower-fanout-benches --bench edge`.
//!
//! To run one case under a profiler that counts instructions:
//! `valgrind --tool=callgrind … --bench --only "guard" --calls 100000`. Subtract the count of `guard, bare`.

#[path = "../harness.rs"]
mod harness;
mod tokens;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use harness::{Case, Options, compare};
use http::{Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_fanout_http::{
    body::BodyLimitLayer,
    correlation::CorrelationLayer,
    forwarded::ForwardedLayer,
    guard::GuardLayer,
    jwt::{JwtConfig, JwtLayer},
    log::RequestSpanLayer,
    server::PeerAddr,
    trace::TraceLayer,
};

const PARENT: (&str, &str) = (
    "traceparent",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
);
const STATE: (&str, &str) = ("tracestate", "fanout=00f067aa0ba902b7,rojo=t61rcWkgMzE");
const ID: (&str, &str) = ("x-correlation-id", "0198d1f0-5d7a-7c39-9a55-000000000007");
const FORWARDED: (&str, &str) = ("x-forwarded-for", "203.0.113.7, 10.0.0.2");

/// The type of every request.
type Inbound = Request<Empty<Bytes>>;

/// A service that responds at once with an empty body.
#[derive(Clone, Copy)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

/// Builds a request with a few usual headers, a peer address, and `headers`.
fn request(headers: &[(&str, &str)]) -> Inbound {
    let peer = SocketAddr::from(([10, 0, 0, 1], 4711));
    let mut request = Request::get("/orders?page=2")
        .extension(PeerAddr(peer))
        .header("host", "shop.example:8080")
        .header("accept", "application/json")
        .header("user-agent", "bench/1.0");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).expect("the request is valid")
}

/// Adds two cases with the same `headers`: the bare service, and `layer` around it. `target` is the maximum
/// cost of the layer in nanoseconds.
fn beside<L>(
    cases: &mut Vec<Case>,
    (name, layer): (&str, L),
    headers: &[(&str, &str)],
    target: impl Into<Option<f64>>,
) where
    L: Layer<Bare>,
    L::Service: Service<Inbound, Response = Response<Full<Bytes>>, Error = Infallible>,
    L::Service: Clone + 'static,
{
    let place = cases.len();
    let request = request(headers);
    let service = layer.layer(Bare);
    let answer = service.clone().oneshot(request.clone()).now_or_never();
    let Ok(answer) = answer.expect("the layer does not wait");
    assert_eq!(answer.status(), 200, "{name}");
    let same = request.clone();
    let bare = Case::new(format!("{name}, bare"), Bare, move || request.clone());
    let case = Case::new(name, service, move || same.clone()).over(place, target);
    cases.extend([bare, case]);
}

fn layers(cases: &mut Vec<Case>) {
    beside(cases, ("guard", GuardLayer::default()), &[], 100.0);
    let new = CorrelationLayer::default();
    beside(cases, ("correlation, new id", new), &[], 500.0);
    beside(cases, ("correlation, its id", new), &[ID], 250.0);
    let trace = TraceLayer::new();
    beside(cases, ("trace, none", trace.clone()), &[], 200.0);
    let parent = ("trace, traceparent", trace.clone());
    beside(cases, parent, &[PARENT], 250.0);
    let state = ("trace, with tracestate", trace);
    beside(cases, state, &[PARENT, STATE], 400.0);
    let span = ("span, nothing logged", RequestSpanLayer::new());
    beside(cases, span, &[], 20.0);
    let no_proxies = ("proxies, none", ForwardedLayer::default());
    beside(cases, no_proxies, &[FORWARDED], 250.0);
    beside(cases, ("proxies, one", proxies()), &[FORWARDED], 300.0);
    let limit = BodyLimitLayer::default();
    beside(cases, ("body limit, no body", limit), &[], 100.0);
}

fn proxies() -> ForwardedLayer {
    ForwardedLayer::new(["10.0.0.0/8".parse().expect("the network is valid")])
}

fn jwt(signed: &tokens::Signed) -> JwtLayer {
    JwtLayer::new(signed.verifier(), JwtConfig::default()).expect("the config is valid")
}

/// Adds a case with all layers, in the order of the gateway.
fn edge(cases: &mut Vec<Case>, signed: &tokens::Signed) {
    let whole = ServiceBuilder::new()
        .layer(proxies())
        .layer(CorrelationLayer::default())
        .layer(TraceLayer::new())
        .layer(RequestSpanLayer::new())
        .layer(GuardLayer::default())
        .layer(jwt(signed))
        .layer(BodyLimitLayer::default());
    let bearer = format!("Bearer {}", signed.token);
    let headers = [FORWARDED, ID, PARENT, STATE, ("authorization", &bearer)];
    let name = format!("whole edge, {}", signed.name);
    beside(cases, (&name, whole), &headers, None);
}

fn main() {
    // The layers create timers, which need a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("the runtime starts");
    let _inside = runtime.enter();
    let mut cases = Vec::new();
    layers(&mut cases);
    for signed in tokens::all() {
        let bearer = format!("Bearer {}", signed.token);
        let name = format!("jwt layer, {}", signed.name);
        let layer = (name.as_str(), jwt(&signed));
        let headers = [("authorization", bearer.as_str())];
        beside(&mut cases, layer, &headers, None);
        if ["HS256", "ES256"].contains(&signed.name) {
            edge(&mut cases, &signed);
        }
        let place = cases.len();
        cases.extend(signed.cases(place));
    }
    compare(cases, &Options::new());
}

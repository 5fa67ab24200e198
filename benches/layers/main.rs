//! Costs of each layer and of the whole stack, compared with the bare service, with tower's layers and with
//! those of tower-resilience: `cargo bench -p tower-fanout-benches --bench layers`.
//!
//! To run one case under a profiler that counts instructions:
//! `valgrind --tool=callgrind --toggle-collect='layers::harness::drive*' … --bench --only "stack, ready"
//! --calls 10000`.

mod contention;
#[path = "../harness.rs"]
mod harness;
mod per_key;

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use harness::{Case, Options, compare};
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::{
    Layer, Service, ServiceBuilder, limit::ConcurrencyLimitLayer,
    timeout::TimeoutLayer as TowerTimeout, util::option_layer,
};
use tower_fanout::{Downstream, Policy};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallError, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer,
    DeadlineLayer, EventsLayer, FallbackLayer, HedgeConfig, HedgeLayer, RetryConfig, RetryLayer,
    TimeoutLayer, WithCall, breaker::Window, event::MetricsSink,
};
use tower_resilience::{
    bulkhead::BulkheadLayer, circuitbreaker::CircuitBreakerLayer, fallback, retry,
    timelimiter::TimeLimiterLayer,
};

const SECOND: Duration = Duration::from_secs(1);

type Ask = WithCall<u64>;

/// The error of all cases. Only layers fail, and their rejections need no box.
type Refused = CallError<Infallible>;

fn ask() -> Ask {
    WithCall::new(7).idempotent()
}

/// A service and its future, which is pending `pending` times and then ready.
#[derive(Clone)]
struct Answer {
    pending: u8,
}

const READY: Answer = Answer { pending: 0 };
const ONCE: Answer = Answer { pending: 1 };

impl<Req> Service<Req> for Answer {
    type Response = u64;
    type Error = Refused;
    type Future = Self;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self {
        self.clone()
    }
}

impl Future for Answer {
    type Output = Result<u64, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.pending == 0 {
            return Poll::Ready(Ok(7));
        }
        self.pending -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn breaker(window: Window) -> BreakerLayer<ClassifyResult> {
    let policy = BreakerConfig::new().window(window);
    BreakerLayer::new("users", policy, ClassifyResult).unwrap()
}

/// Returns a service behind an open breaker.
fn open() -> impl Service<Ask, Response = u64, Error = Refused> {
    let layer = breaker(Window::Count(10));
    layer.handle().open_for(SECOND * 3600);
    layer.layer(READY)
}

/// Returns the whole stack of a branch, as the gateway uses it.
fn branch<Req>(service: Answer) -> impl Service<Req, Response = u64, Error = Refused>
where
    Req: tower_fanout_layers::CallContext + Clone + Send + Sync + 'static,
{
    let downstream = Downstream::new("users", Policy::default(), ClassifyResult).unwrap();
    let fallback = downstream.fallback().response(0);
    fallback.layer(downstream.layer(service))
}

/// Returns a stack for the same concerns with the layers of tower-resilience.
fn peers(service: Answer) -> impl Service<u64, Response = u64> {
    let breaker = CircuitBreakerLayer::builder().build().unwrap();
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(100);
    let within = TimeLimiterLayer::builder().timeout_duration(SECOND);
    let total = TimeLimiterLayer::builder().timeout_duration(SECOND * 2);
    ServiceBuilder::new()
        .layer(fallback::FallbackLayer::value(0))
        .layer(total.cancel_running_future(true).build())
        .layer(retry::RetryLayer::exponential_backoff().build())
        .layer(breaker)
        .layer(bulkhead.build().unwrap())
        .layer(within.cancel_running_future(true).build())
        .service(service)
}

/// Adds the stacks, with services that are ready at the first and at the second poll.
fn stacks(cases: &mut Vec<Case>) {
    let base = cases.len();
    cases.extend([
        Case::new("bare, ready", READY, ask),
        Case::new("stack, ready", branch(READY), ask).over(base, 80.0),
        Case::new("tower-resilience stack, ready", peers(READY), || 7).over(base, None),
        Case::new("bare, pending once", ONCE, ask),
        Case::new("stack, pending once", branch(ONCE), ask).over(base + 3, 160.0),
        Case::new("tower-resilience stack, pending once", peers(ONCE), || 7).over(base + 3, None),
    ]);
    let counted = EventsLayer::new(MetricsSink::new("users")).layer(branch(READY));
    cases.push(Case::new("stack with metrics, ready", counted, ask).over(base + 1, 120.0));
}

fn http_request() -> http::Request<()> {
    let mut request = http::Request::get("/users/7");
    for name in ["accept", "user-agent", "x-correlation-id", "traceparent"] {
        request = request.header(name, "0123456789abcdef");
    }
    request.body(()).unwrap()
}

fn http_stacks(cases: &mut Vec<Case>) {
    let base = cases.len();
    let request = http_request();
    let other = request.clone();
    let cloned = request.clone();
    cases.extend([
        Case::new("bare, http request", READY, move || request.clone()),
        Case::new("stack, http request", branch(READY), move || other.clone()).over(base, 330.0),
        Case::new("cloning the http request once more", READY, move || {
            drop(std::hint::black_box(cloned.clone()));
            cloned.clone()
        })
        .over(base, None),
    ]);
}

fn single(cases: &mut Vec<Case>) {
    let retry = RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
    let hedge = HedgeLayer::new(HedgeConfig::new(), ClassifyResult).unwrap();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let fallback = FallbackLayer::new(ClassifyResult).response(0);
    let ours = [
        Case::new(
            "timeout",
            TimeoutLayer::new(SECOND).unwrap().layer(READY),
            ask,
        ),
        Case::new(
            "timeout, pending once",
            TimeoutLayer::new(SECOND).unwrap().layer(ONCE),
            ask,
        ),
        Case::new(
            "deadline",
            DeadlineLayer::new(SECOND).unwrap().layer(READY),
            ask,
        ),
        Case::new("concurrency", limit.layer(READY), ask).over(0, 25.0),
        Case::new("retry", retry.layer(READY), ask),
        Case::new("hedge", hedge.layer(READY), ask),
        Case::new("fallback", fallback.layer(READY), ask),
        Case::new(
            "breaker, time window",
            breaker(Window::Time(SECOND * 10)).layer(READY),
            ask,
        )
        .over(0, 40.0),
        Case::new(
            "breaker, window of 10",
            breaker(Window::Count(10)).layer(READY),
            ask,
        )
        .over(0, 20.0),
        Case::new(
            "breaker, window of 10,000",
            breaker(Window::Count(10_000)).layer(READY),
            ask,
        )
        .over(0, 20.0),
        Case::new("breaker, open", open(), ask).over(0, 15.0),
        Case::new(
            "breaker, off",
            option_layer(None::<BreakerLayer<ClassifyResult>>).layer(READY),
            ask,
        ),
    ];
    let tower = ServiceBuilder::new();
    let within = TimeLimiterLayer::builder().timeout_duration(SECOND);
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(100);
    let peers = [
        Case::new(
            "tower timeout",
            tower
                .clone()
                .layer(TowerTimeout::new(SECOND))
                .service(READY),
            ask,
        ),
        Case::new(
            "tower-resilience timelimiter",
            within.cancel_running_future(true).build().layer(READY),
            || 7,
        ),
        Case::new(
            "tower concurrency limit",
            tower.layer(ConcurrencyLimitLayer::new(100)).service(READY),
            ask,
        ),
        Case::new(
            "tower-resilience bulkhead",
            bulkhead.build().unwrap().layer(READY),
            || 7,
        ),
        Case::new(
            "tower-resilience retry",
            retry::RetryLayer::<u64, u64, Refused>::exponential_backoff()
                .build()
                .layer(READY),
            || 7,
        ),
        Case::new(
            "tower-resilience fallback",
            fallback::FallbackLayer::value(0).layer(READY),
            || 7,
        ),
        Case::new(
            "tower-resilience breaker",
            CircuitBreakerLayer::builder().build().unwrap().layer(READY),
            || 7,
        ),
    ];
    let all = ours.into_iter().chain(peers);
    cases.extend(all.map(|case| {
        if case.over.is_none() {
            case.over(0, None)
        } else {
            case
        }
    }));
}

fn main() {
    // The layers create timers, which need a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("the runtime starts");
    let _inside = runtime.enter();
    let recorder = PrometheusBuilder::new().install_recorder();
    let _page = recorder.expect("no other recorder is installed");
    let mut cases = Vec::new();
    stacks(&mut cases);
    http_stacks(&mut cases);
    single(&mut cases);
    per_key::cases(&mut cases);
    let options = Options::new();
    compare(cases, &options);
    if options.only.is_none() {
        contention::run(&options);
        per_key::memory(&options);
    }
}

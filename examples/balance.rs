//! tower's `Balance`, `Buffer` and `LoadShed` with layers of this project. Each endpoint has a breaker. The
//! retry is above the balancer, so each attempt is balanced.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example balance
//! ```
//!
//! Three things to know:
//!
//! - A breaker and a concurrency limit of this project are always ready, because a rejection must not wait. A balancer
//!   that compares pending requests or latencies would prefer an endpoint that rejects. So `Endpoint` has a higher
//!   load while its circuit is open, and the limit of an endpoint is tower's.
//! - `Balance` is not `Clone`, so a `Buffer` is above it. For its error, `LayerErrorLayer` comes next.
//! - With the feature `tower` of `tower-fanout-layers`, the errors of `LoadShed` and `Buffer` are rejections.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, Load, PendingRequests},
    service_fn,
};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConfigError, LayerError, LayerErrorLayer,
    RetryConfig, RetryLayer, TimeoutLayer, WithCall, breaker::Handle,
};

/// An endpoint whose load is higher than any other while its circuit is open.
struct Endpoint<S> {
    breaker: Handle,
    service: PendingRequests<S>,
}

impl<S> Load for Endpoint<S> {
    type Metric = (bool, <PendingRequests<S> as Load>::Metric);

    fn load(&self) -> Self::Metric {
        // When a probe is due, a call would not be rejected, so the endpoint gets one.
        (self.breaker.rejection().is_some(), self.service.load())
    }
}

impl<S: Service<Req>, Req> Service<Req> for Endpoint<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = <PendingRequests<S> as Service<Req>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.service.call(request)
    }
}

type Request = WithCall<u32>;

/// Balances calls over `services`. A service gets at most `max` calls at once, and at most `queue` calls wait.
fn balanced<S>(
    services: impl IntoIterator<Item = S>,
    max: usize,
    queue: usize,
) -> Result<impl Service<Request, Response = &'static str, Error = LayerError> + Clone, ConfigError>
where
    S: Service<Request, Response = &'static str, Error = LayerError, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut endpoints = Vec::new();
    for service in services {
        let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult)?;
        let handle = breaker.handle().clone();
        let service = ServiceBuilder::new()
            .concurrency_limit(max) // tower's: not ready at the limit, so the balancer chooses another
            .layer(breaker)
            .layer(TimeoutLayer::new(Duration::from_millis(200))?)
            .service(service);
        endpoints.push(Endpoint {
            breaker: handle,
            service: PendingRequests::new(service, CompleteOnResponse::default()),
        });
    }
    Ok(ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult)?)
        .layer(LayerErrorLayer::new()) // the errors below are `BoxError`
        .load_shed() // rejects calls while the queue is full
        .buffer(queue) // all clones share the balancer
        .service(Balance::new(ServiceList::new(endpoints))))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let endpoint = |name| service_fn(move |_: Request| async move { Ok(name) });
    let users = balanced([endpoint("first"), endpoint("second")], 8, 16)?;
    println!("{}", users.oneshot(WithCall::new(7).idempotent()).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{AsRejection, Failure, Rejection};
    use tower_fanout_testkit::script::ScriptedService;

    use super::*;

    type Script = ScriptedService<Request, &'static str, LayerError>;

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_gets_no_calls_while_its_circuit_is_open_and_then_a_probe() {
        let (good, bad) = (Script::new().respond("Ada"), Script::new());
        let bad = bad.fail(Failure::ConnectionReset);
        let users = balanced([good, bad.clone()], 8, 16).unwrap();
        let call = async || users.clone().oneshot(WithCall::new(7).idempotent()).await;
        // Both endpoints get calls, until five of the second have failed.
        while bad.calls() < 5 {
            call().await.ok();
        }
        for _ in 0..50 {
            assert_eq!(call().await.unwrap(), "Ada");
        }
        assert_eq!(bad.calls(), 5);
        tokio::time::sleep(Duration::from_secs(60)).await;
        for _ in 0..50 {
            assert_eq!(call().await.unwrap(), "Ada"); // also if the probe fails, by a retry
        }
        assert!(bad.calls() > 5);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_queue_are_rejected() {
        let users = balanced([Script::new().hang(), Script::new().hang()], 1, 1).unwrap();
        let call = async |delay| {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let call = users.clone().oneshot(WithCall::new(7));
            call.await.unwrap_err().as_rejection().unwrap()
        };
        // Each endpoint has a call, the balancer and the queue have one more each, and the queue is full.
        let rejections = tokio::join!(call(0), call(1), call(2), call(3), call(4));
        let (late, full) = (Rejection::AttemptTimeout, Rejection::AtCapacity);
        assert_eq!(rejections, (late, late, late, late, full));
    }
}

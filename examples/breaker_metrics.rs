//! Metrics and logs of layers: the transitions of a circuit breaker, also those that an operator makes by
//! hand, retries and rejections, on a page for Prometheus. Each test has a recorder of its own.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example breaker_metrics
//! curl http://127.0.0.1:3000/prices/7
//! curl -X POST http://127.0.0.1:3000/maintenance
//! curl http://127.0.0.1:3000/metrics
//! ```

use std::time::Duration;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_fanout_http::{
    problem::ProblemLayer,
    server::{Server, bind},
};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallErrorLayer, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, ConfigError, EventsLayer, LayerError, RetryConfig, RetryLayer, WithCall,
    event::{MetricsSink, SentLayer, TracingSink},
};

type Prices = BoxCloneSyncService<WithCall<u64>, u64, LayerError>;

/// Builds the application around a client of the price service. Install the recorder of metrics first.
fn app<S>(client: S, page: PrometheusHandle) -> Result<Router, ConfigError>
where
    S: Service<WithCall<u64>, Response = u64, Error = LayerError, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    // Sinks of layers hear every call, and the breaker's sinks hear an operator too.
    let (count, log) = (MetricsSink::new("prices"), TracingSink::new("prices"));
    let config = BreakerConfig::new().consecutive_failures(3);
    let breaker = BreakerLayer::new("prices", config, ClassifyResult)?
        .events(count.clone())
        .events(log.clone());
    let handle = breaker.handle().clone();
    let retry = RetryLayer::new(RetryConfig::new(), ClassifyResult)?
        .events(count.clone())
        .events(log);
    let sent = SentLayer::new().events(count);
    let stack = ServiceBuilder::new()
        .layer(retry)
        .layer(breaker)
        .layer(sent);
    let prices = BoxCloneSyncService::new(stack.service(client));
    // One sink for all layers in front of the handlers.
    let inbound = ServiceBuilder::new()
        .layer(ProblemLayer::new())
        .layer(EventsLayer::new(MetricsSink::new("inbound")))
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new().max(1))?)
        .layer(CallErrorLayer::new());
    Ok(Router::new()
        .route("/prices/{item}", get(price))
        .layer(inbound)
        .with_state(prices)
        .route("/metrics", get(async move || page.render()))
        .route(
            "/maintenance",
            post(async move || handle.open_for(Duration::from_secs(60))),
        ))
}

async fn price(State(prices): State<Prices>, Path(item): Path<u64>) -> Result<String, StatusCode> {
    let price = prices.oneshot(WithCall::new(item).idempotent()).await;
    let price = price.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(format!("item {item}: {price}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let page = PrometheusBuilder::new().install_recorder()?;
    // Stands for a client, such as one of hyper.
    let client = service_fn(|item: WithCall<u64>| async move { Ok(item.get() * 100) });
    let (listener, app) = (bind(([127, 0, 0, 1], 3000).into())?, app(client, page)?);
    Server::default()
        .serve(listener, app, std::future::pending())
        .await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;

    use super::*;

    /// Returns the application, whose sinks count in a recorder of its own instead of the installed one. The client
    /// fails for item 0 and hangs for item 9.
    fn test_app() -> Router {
        let client = service_fn(|item: WithCall<u64>| async move {
            match item.get() {
                0 => Err(LayerError::from("down")),
                9 => std::future::pending().await,
                item => Ok(item * 100),
            }
        });
        let recorder = PrometheusBuilder::new().build_recorder();
        let page = recorder.handle();
        metrics::with_local_recorder(&recorder, || app(client, page)).unwrap()
    }

    async fn send(app: &Router, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Returns the value of a series on the metrics page.
    async fn value(app: &Router, series: &str) -> u64 {
        let (_, page) = send(app, "GET", "/metrics").await;
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(series));
        let value = value.unwrap_or_else(|| panic!("{series}: {page}"));
        value.trim().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_that_opens_is_counted() {
        let app = test_app();
        let opened = r#"fanout_breaker_transitions_total{name="prices",to="open"}"#;
        assert_eq!(send(&app, "GET", "/prices/7").await.1, "item 7: 700");
        assert_eq!(value(&app, opened).await, 0);
        assert_eq!(send(&app, "GET", "/prices/0").await.0, 502);
        assert_eq!(value(&app, opened).await, 1);
        let count =
            async |family| value(&app, &format!("fanout_{family}_total{{name=\"prices\"}}")).await;
        assert_eq!(count("retries").await, 2);
        assert_eq!(count("attempts").await, 4);
    }

    #[tokio::test]
    async fn a_breaker_that_is_opened_by_hand_is_counted() {
        let app = test_app();
        assert_eq!(send(&app, "POST", "/maintenance").await.0, 200);
        let opened = r#"fanout_breaker_transitions_total{name="prices",to="open"}"#;
        assert_eq!(value(&app, opened).await, 1);
        assert_eq!(send(&app, "GET", "/prices/7").await.0, 502);
    }

    #[tokio::test]
    async fn a_rejection_in_front_of_the_handlers_is_counted() {
        let app = test_app();
        let hanging = send(&app, "GET", "/prices/9");
        let second = async { send(&app, "GET", "/prices/7").await.0 };
        let status = tokio::select! {
            biased;
            _ = hanging => unreachable!("the client hangs"),
            status = second => status,
        };
        assert_eq!(status, 503);
        let rejected = r#"fanout_rejected_total{name="inbound",reason="at_capacity"}"#;
        assert_eq!(value(&app, rejected).await, 1);
    }
}

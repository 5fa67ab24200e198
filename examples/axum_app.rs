//! Layers in an axum application: a correlation id, a deadline, and a concurrency limit with a short
//! queue in front of ordinary handlers. The server limits how long a slow client can hold a connection.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example axum_app
//! curl -i http://127.0.0.1:3000/users/7
//! ```

use std::time::Duration;

use axum::{Router, extract::Path, routing::get};
use tower::ServiceBuilder;
use tower_fanout_http::{
    correlation::CorrelationLayer,
    problem::ProblemLayer,
    server::{Server, bind},
};
use tower_fanout_layers::{ConcurrencyConfig, ConfigError, ServiceBuilderExt};

/// Builds the application, which handles at most `max` requests at once.
fn app(max: u32) -> Result<Router, ConfigError> {
    let limit = ConcurrencyConfig::new()
        .max(max)
        .queue(1)
        .max_wait(Duration::from_millis(500));
    let layers = ServiceBuilder::new()
        .layer(CorrelationLayer::default()) // first, so that every response has an id
        .layer(ProblemLayer::new()) // turns rejections of the layers below into problem+json
        .deadline(Duration::from_secs(2))? // bounds queueing and handling together
        .concurrency(limit)? // one limit, shared by all routes
        .attempt_timeout(Duration::from_secs(1))? // bounds handling alone
        .call_error(); // a handler's error is `Infallible`, which cannot carry a rejection
    Ok(Router::new()
        .route("/users/{id}", get(user))
        .route("/reports", get(report))
        .layer(layers))
}

async fn user(Path(id): Path<u64>) -> String {
    format!("user {id}")
}

/// Takes longer than the timeout.
async fn report() -> &'static str {
    tokio::time::sleep(Duration::from_secs(60)).await;
    "at last"
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (listener, app) = (bind(([127, 0, 0, 1], 3000).into())?, app(100)?);
    let server = Server::default();
    server.serve(listener, app, std::future::pending()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::Response};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn ask(app: &Router, path: &str) -> Response {
        let request = Request::get(path).header("x-correlation-id", "order-7");
        let request = request.body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_successful_response_has_the_correlation_id() {
        let response = ask(&app(1).unwrap(), "/users/7").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-correlation-id"], "order-7");
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(body, "user 7");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_handler_gets_504() {
        let response = ask(&app(1).unwrap(), "/reports").await;
        assert_eq!(response.status(), 504);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.headers()["x-correlation-id"], "order-7");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_queue_are_rejected_at_once() {
        let app = app(1).unwrap();
        let ask = async || ask(&app, "/reports").await.status().as_u16();
        // The first is handled, the second waits in the queue for too long, and the third finds it full.
        assert_eq!(tokio::join!(ask(), ask(), ask()), (504, 503, 503));
    }
}

//! Layers in an axum application: an id for every request, a deadline, and a limit with a short
//! queue, in front of ordinary handlers, on a server where no slow client holds a connection for ever.
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
use tower_fanout_layers::{
    CallErrorLayer, ConcurrencyConfig, ConcurrencyLayer, ConfigError, DeadlineLayer, TimeoutLayer,
};

/// The application; at most `max` requests are handled at once.
fn app(max: u32) -> Result<Router, ConfigError> {
    let limit = ConcurrencyConfig::new()
        .max(max)
        .queue(1)
        .max_wait(Duration::from_millis(500));
    let layers = ServiceBuilder::new()
        .layer(CorrelationLayer::default()) // first, so that every answer has an id
        .layer(ProblemLayer::new()) // what the layers below refuse becomes problem+json
        .layer(DeadlineLayer::new(Duration::from_secs(2))?) // for waiting and handling together
        .layer(ConcurrencyLayer::new(limit)?) // one limit for all routes
        .layer(TimeoutLayer::new(Duration::from_secs(1))?) // for handling alone
        .layer(CallErrorLayer::new()); // a handler's `Infallible` cannot say that a layer refused
    Ok(Router::new()
        .route("/users/{id}", get(user))
        .route("/reports", get(report))
        .layer(layers))
}

async fn user(Path(id): Path<u64>) -> String {
    format!("user {id}")
}

/// Takes longer than anybody waits.
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
    async fn a_good_answer_passes_and_bears_the_id() {
        let response = ask(&app(1).unwrap(), "/users/7").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-correlation-id"], "order-7");
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(body, "user 7");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_handler_is_a_gateway_timeout() {
        let response = ask(&app(1).unwrap(), "/reports").await;
        assert_eq!(response.status(), 504);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.headers()["x-correlation-id"], "order-7");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_is_refused_at_once() {
        let app = app(1).unwrap();
        let ask = async || ask(&app, "/reports").await.status().as_u16();
        // One is handled, one waits its turn in vain, and one is not even let in.
        assert_eq!(tokio::join!(ask(), ask(), ask()), (504, 503, 503));
    }
}

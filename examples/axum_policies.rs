//! Policies of an axum application: a breaker that all routes of a database share, a route with a fallback, and a
//! route with a policy of its own. Handlers have the remaining time and the metadata of the call as arguments.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example axum_policies
//! curl -i http://127.0.0.1:3000/users/7
//! curl -i http://127.0.0.1:3000/users/0 # 500, after five calls 503 on all routes of the database but the next
//! curl -i http://127.0.0.1:3000/greeting/0 # 200: "hello, guest"
//! ```

use std::time::Duration;

use axum::{Router, extract::Path, response::IntoResponse, routing::get};
use http::StatusCode;
use tower::{BoxError, ServiceBuilder};
use tower_fanout_http::{
    extract::{CallMetadata, RemainingTime},
    problem::ProblemLayer,
};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallErrorLayer, ClassifyHttp, ConcurrencyConfig, ConcurrencyLayer,
    ConfigError, DeadlineLayer, FallbackLayer,
};

/// Builds the application.
fn app() -> Result<Router, ConfigError> {
    // axum calls a layer once per route, and clones the service for each request. All of these services share
    // the state of the layer: one circuit, and at most 100 requests.
    let database = ServiceBuilder::new()
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new().max(100))?)
        .layer(BreakerLayer::new(
            "database",
            BreakerConfig::new(),
            ClassifyHttp::new(),
        )?)
        .layer(CallErrorLayer::new()); // `Infallible` cannot carry a rejection
    // Above the breaker, so that the fallback responds while the circuit is open too. Neither the request nor the
    // response of a handler is `Clone`, so the step creates each response.
    let or_guest = ServiceBuilder::new()
        .layer(ProblemLayer::new()) // turns rejections into responses
        .layer(
            FallbackLayer::new(ClassifyHttp::new())
                .response_with(|_| "hello, guest".into_response()),
        )
        .layer(database.clone());
    let database = ServiceBuilder::new()
        .layer(ProblemLayer::new())
        .layer(database);
    let report_only = ServiceBuilder::new()
        .layer(ProblemLayer::new())
        .layer(DeadlineLayer::new(Duration::from_secs(30))?)
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new().max(1))?)
        .layer(CallErrorLayer::new());
    let every_request = ServiceBuilder::new()
        .layer(ProblemLayer::new())
        .layer(DeadlineLayer::new(Duration::from_secs(60))?) // of two deadlines, the earlier applies
        .layer(CallErrorLayer::new());
    Ok(Router::new()
        .route("/users/{id}", get(row))
        .route("/orders/{id}", get(row))
        .route("/report", get(report).layer(report_only))
        .route_layer(database) // of the routes above; an unknown path gets 404, also if the circuit is open
        .route("/greeting/{id}", get(greeting).layer(or_guest))
        .route("/health", get(async || "ok"))
        .layer(every_request))
}

/// Responds with a row of the database, which does not have row 0.
async fn row(Path(id): Path<u32>, CallMetadata(call): CallMetadata) -> Result<String, StatusCode> {
    match id {
        0 => Err(StatusCode::INTERNAL_SERVER_ERROR),
        id => Ok(format!("row {id}, attempt {}", call.attempt)),
    }
}

/// Greets the user of a row.
async fn greeting(id: Path<u32>, call: CallMetadata) -> Result<String, StatusCode> {
    Ok(format!("hello, {}", row(id, call).await?))
}

/// Creates a report in the remaining time.
async fn report(RemainingTime(time): RemainingTime) -> String {
    tokio::time::sleep(Duration::from_secs(1)).await;
    format!("{time:?}")
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app()?).await?)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(app: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_circuit_opens_across_requests_and_routes() {
        let app = app().unwrap();
        for path in ["/users/0", "/orders/0", "/users/0", "/orders/0", "/users/0"] {
            assert_eq!(get(&app, path).await.0, 500);
        }
        for (path, status) in [
            ("/users/7", 503),
            ("/orders/7", 503),
            ("/report", 503),
            ("/health", 200),
            ("/unknown", 404),
        ] {
            assert_eq!(get(&app, path).await.0, status, "{path}");
        }
        tokio::time::sleep(Duration::from_secs(60)).await; // then probes close the circuit
        assert_eq!(
            get(&app, "/users/7").await,
            (200, "row 7, attempt 1".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_greeting_has_a_fallback_and_counts_for_the_circuit_of_all_routes() {
        let app = app().unwrap();
        let ada = (200, "hello, row 7, attempt 1".into());
        assert_eq!(get(&app, "/greeting/7").await, ada);
        let guest = (200, "hello, guest".into());
        for _ in 0..5 {
            assert_eq!(get(&app, "/greeting/0").await, guest);
        }
        assert_eq!(get(&app, "/users/7").await.0, 503);
        assert_eq!(get(&app, "/greeting/7").await, guest); // the handler is not called
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_has_a_policy_of_its_own() {
        let app = app().unwrap();
        let (first, second) = tokio::join!(get(&app, "/report"), get(&app, "/report"));
        assert_eq!((first, second.0), ((200, "Some(30s)".into()), 503));
        assert_eq!(get(&app, "/orders/7").await.0, 200);
    }
}

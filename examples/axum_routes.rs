//! Two routes of an axum application over the same HTTP services, each a `FanOut` with its own policy.
//! A receipt needs all responses and fails fast. A page retries, and does without optional responses.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example axum_routes
//! curl -i http://127.0.0.1:3000/receipts/7
//! curl -i http://127.0.0.1:3000/pages/7
//! ```

use std::{error::Error, time::Duration};

use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use bytes::Bytes;
use http::{Request, Uri, header::CONTENT_TYPE};
use tokio::{net::TcpListener, time::Instant};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_fanout::{
    BranchError, Downstream, FanOut, FanOutResponse, Plan, Policy, Strategy,
    layers::{ClassifyHttp, ConfigError, Deadline, WithCall, timeout::TimeoutConfig},
};
use tower_fanout_http::{
    attempt_headers::AttemptHeadersLayer,
    client::{Client, ClientConfig},
    problem::Problem,
};
use tower_fanout_json::{
    Json,
    response::{AcceptLayer, JsonLayer},
};

/// Builds the application. All its downstream services are at the address `services`.
fn app(services: &Uri) -> Result<Router, Box<dyn Error>> {
    let client = Client::new(services, ClientConfig::default())?;
    let (receipt, page) = (receipt(&client)?, page(&client)?);
    Ok(Router::new()
        .route("/receipts/{id}", route(receipt, Duration::from_millis(500)))
        .route("/pages/{id}", route(page, Duration::from_secs(2))))
}

/// Builds the strict fan-out: one attempt per node, and the first failure cancels the rest.
fn receipt(client: &Client) -> Result<FanOut<WithCall<u64>>, Box<dyn Error>> {
    let policy = Policy::new().retry(None);
    let node = |name| node(name, &policy, client, None);
    let mut plan = Plan::builder();
    plan.node("user", node("user")?, |id, _| get_user(id));
    plan.node("orders", node("orders")?, |id, _| get_orders(id));
    Ok(FanOut::new(plan.build()?).strategy(Strategy::All))
}

/// Builds the lenient fan-out: three attempts of at most 500 ms each, and two calls at once. Orders are
/// optional, and tips have a fallback.
fn page(client: &Client) -> Result<FanOut<WithCall<u64>>, Box<dyn Error>> {
    let policy = Policy::new().attempt_timeout(Duration::from_millis(500));
    let bestsellers = Json::parse(Bytes::from_static(b"[\"a bestseller\"]"))?;
    let node = |name, fallback| node(name, &policy, client, fallback);
    let mut plan = Plan::builder();
    plan.node("user", node("user", None)?, |id, _| get_user(id));
    plan.node("orders", node("orders", None)?, |id, _| get_orders(id))
        .optional();
    plan.node("tips", node("tips", Some(bestsellers))?, |_, _| {
        ask("/tips")
    })
    .optional();
    Ok(FanOut::new(plan.build()?)
        .strategy(Strategy::Partial)
        .max_concurrency(2))
}

/// Puts the stack of layers around the client. If the call fails, `fallback` is the response.
fn node(
    name: &str,
    policy: &Policy,
    client: &Client,
    fallback: Option<Json>,
) -> Result<
    impl Service<Request<Bytes>, Response = Json, Error = BranchError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<>,
    ConfigError,
> {
    let downstream = Downstream::new(name, policy.clone(), ClassifyHttp::new())?;
    let headers =
        AttemptHeadersLayer::new().attempt_timeout(policy.attempt_timeout.map(TimeoutConfig::new));
    let fallback =
        fallback.map(|answer| downstream.fallback().response(http::Response::new(answer)));
    Ok(ServiceBuilder::new()
        .layer(AcceptLayer::default())
        .option_layer(fallback)
        .layer(&downstream)
        .layer(headers)
        .layer(JsonLayer::new())
        .service(client.clone()))
}

fn get_user(id: &WithCall<u64>) -> Result<Request<Bytes>, BranchError> {
    ask(&format!("/users/{}", id.get()))
}

fn get_orders(id: &WithCall<u64>) -> Result<Request<Bytes>, BranchError> {
    ask(&format!("/orders?user={}", id.get()))
}

fn ask(path: &str) -> Result<Request<Bytes>, BranchError> {
    let request = Request::get(path).body(Bytes::new());
    request.map_err(|_| BranchError::template("the path is not valid"))
}

/// Creates a route that responds with the result of `fan_out` within `time`.
fn route(fan_out: FanOut<WithCall<u64>>, time: Duration) -> MethodRouter {
    get(
        async move |Path(id): Path<u64>| -> Result<Response, Problem> {
            let request = WithCall::new(id).deadline(Deadline::at(Instant::now() + time));
            let answer = fan_out.clone().oneshot(request).await?; // 502, 503 or 504 by the causes
            Ok(respond(&fan_out, &answer))
        },
    )
}

/// Builds an object with the response of each node under its name, byte for byte.
fn respond(fan_out: &FanOut<WithCall<u64>>, answer: &FanOutResponse) -> Response {
    let names = fan_out.plan().names().iter().enumerate();
    let members = names.filter_map(|(node, name)| {
        let json: &Json = answer.at(node)?;
        Some(format!("\"{name}\":{}", json.as_raw()))
    });
    let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// The downstream services of this example.
fn services() -> Router {
    let json = |json: &'static str| get(async move || ([(CONTENT_TYPE, "application/json")], json));
    Router::new()
        .route("/users/{id}", json("{\"name\":\"Ada\"}"))
        .route("/orders", json("[\"a book\"]"))
        .route("/tips", json("[\"a pen\"]"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let own = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", own.local_addr()?);
    tokio::spawn(axum::serve(own, services()).into_future());
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(&url.parse()?)?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower_fanout_http::attempt_headers::TIMEOUT;
    use tower_fanout_testkit::fault_server::{Fault, FaultServer};

    use super::*;

    /// Starts the services; the one at `path` responds with `fault`.
    async fn services_but(path: &'static str, fault: Fault) -> FaultServer {
        FaultServer::from_fn(move |request| match &*request.path {
            own if own == path => fault.clone(),
            "/users/7" => Fault::json("{\"name\":\"Ada\"}"),
            "/orders?user=7" => Fault::json("[\"a book\"]"),
            "/tips" => Fault::json("[\"a pen\"]"),
            other => panic!("no service has the path {other}"),
        })
        .await
    }

    async fn all_services() -> FaultServer {
        services_but("/none", Fault::new()).await
    }

    fn unavailable() -> Fault {
        Fault::response(503, &[], "")
    }

    /// Returns the number of calls to `path`.
    fn calls(services: &FaultServer, path: &str) -> usize {
        let requests = services.stats().requests.into_iter();
        requests.filter(|request| request.path == path).count()
    }

    /// Requests `path` and returns status, media type and body of the response.
    async fn get(services: &FaultServer, path: &str) -> (u16, String, String) {
        let app = app(&services.url().parse().unwrap()).unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let media_type = response.headers()[CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned();
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        (status, media_type, String::from_utf8(body.into()).unwrap())
    }

    async fn is_json(services: &FaultServer, path: &str, json: &str) {
        let expected = (200, "application/json".into(), json.into());
        assert_eq!(get(services, path).await, expected);
    }

    async fn is_problem(services: &FaultServer, path: &str, status: u16) {
        let answer = get(services, path).await;
        assert_eq!((answer.0, &*answer.1), (status, "application/problem+json"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receipt_has_all_responses() {
        let json = r#"{"user":{"name":"Ada"},"orders":["a book"]}"#;
        let services = all_services().await;
        is_json(&services, "/receipts/7", json).await;
        // The fan-out keeps a twentieth of the time as the merge margin.
        for request in services.stats().requests {
            assert_eq!(request.header(TIMEOUT.as_str()), Some("475"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receipt_needs_both_services_and_does_not_retry() {
        for path in ["/users/7", "/orders?user=7"] {
            let services = services_but(path, unavailable()).await;
            is_problem(&services, "/receipts/7", 502).await;
            assert_eq!(calls(&services, path), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_cancels_a_receipt() {
        let services = FaultServer::from_fn(|request| match &*request.path {
            "/users/7" => unavailable(),
            _ => Fault::never_respond(),
        });
        let start = Instant::now();
        is_problem(&services.await, "/receipts/7", 502).await;
        assert!(start.elapsed() < Duration::from_millis(400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_receipt_times_out_after_half_a_second() {
        let services = services_but("/users/7", Fault::never_respond()).await;
        let start = Instant::now();
        is_problem(&services, "/receipts/7", 504).await;
        assert!(start.elapsed() <= Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_has_all_responses() {
        let json = r#"{"user":{"name":"Ada"},"orders":["a book"],"tips":["a pen"]}"#;
        is_json(&all_services().await, "/pages/7", json).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_succeeds_without_orders() {
        let services = services_but("/orders?user=7", unavailable()).await;
        let json = r#"{"user":{"name":"Ada"},"tips":["a pen"]}"#;
        is_json(&services, "/pages/7", json).await;
        assert_eq!(calls(&services, "/orders?user=7"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_falls_back_to_bestsellers() {
        let services = services_but("/tips", Fault::never_respond()).await;
        let json = r#"{"user":{"name":"Ada"},"orders":["a book"],"tips":["a bestseller"]}"#;
        is_json(&services, "/pages/7", json).await;
        assert_eq!(calls(&services, "/tips"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_fails_without_its_user() {
        let services = services_but("/users/7", unavailable()).await;
        is_problem(&services, "/pages/7", 502).await;
        assert_eq!(calls(&services, "/users/7"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_calls_two_services_at_once() {
        let slow = |json: &str| Fault::json(json).after(Duration::from_millis(100));
        let (users, rest) = (slow("{}"), slow("[]"));
        let services = FaultServer::from_fn(move |request| match &*request.path {
            "/users/7" => users.clone(),
            _ => rest.clone(),
        });
        let start = Instant::now();
        let json = r#"{"user":{},"orders":[],"tips":[]}"#;
        is_json(&services.await, "/pages/7", json).await;
        assert!(start.elapsed() >= Duration::from_millis(200));
    }
}

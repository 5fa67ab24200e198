//! Calls of other services in axum handlers: `?` turns an error of the layers into a problem document. The
//! layers are around hyper-util's client, and around a service with a state of its own.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example axum_client
//! curl -i http://127.0.0.1:3000/users/7 # 502, because the service does not run
//! curl -i http://127.0.0.1:3000/numbers
//! ```

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::Path,
    http::{Request, Response, Uri},
    routing::get,
};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt, buffer::Buffer, service_fn};
use tower_fanout_http::{
    client::failure,
    problem::{Code, Problem},
};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallErrorLayer, ClassifyHttp, ClassifyResult, ConfigError,
    LayerErrorLayer, RetryConfig, RetryLayer, TimeoutLayer, WithCall,
};

/// Builds the application. The users are at the address `users`.
fn app(users: &Uri) -> Result<Router, ConfigError> {
    let url = users.to_string();
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyHttp::new())?)
        .layer(BreakerLayer::new(
            "users",
            BreakerConfig::new(),
            ClassifyHttp::new(),
        )?)
        .layer(TimeoutLayer::new(Duration::from_millis(500))?)
        .layer(CallErrorLayer::with(failure)) // knows which requests were not sent
        .service(Client::builder(TokioExecutor::new()).build_http());
    let user = async move |Path(id): Path<u64>| -> Result<Response<_>, Problem> {
        let request = Request::get(format!("{url}users/{id}")).body(String::new());
        let request = request.map_err(|_| Problem::new(Code::BadParam))?;
        Ok(users.clone().oneshot(request).await?) // 503, 504 or 502: see `Problem`
    };

    let mut last = 0;
    let numbers = service_fn(move |_: WithCall<()>| {
        last += 1;
        std::future::ready(Ok::<_, Infallible>(last))
    });
    let numbers = ServiceBuilder::new()
        .layer(BreakerLayer::new(
            "numbers",
            BreakerConfig::new(),
            ClassifyResult,
        )?)
        .layer(TimeoutLayer::new(Duration::from_millis(500))?)
        .layer(LayerErrorLayer::new()) // the error of `Buffer` is a `BoxError`
        .service(Buffer::new(numbers, 16)); // all clones share one service, and so its state
    let number = async move || -> Result<String, Problem> {
        Ok(numbers
            .clone()
            .oneshot(WithCall::new(()))
            .await?
            .to_string())
    };
    Ok(Router::new()
        .route("/users/{id}", get(user))
        .route("/numbers", get(number)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = app(&Uri::from_static("http://127.0.0.1:9001/"))?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower_fanout_testkit::fault_server::{Fault, FaultServer};

    use super::*;

    async fn ask(app: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_returns_the_response_of_the_client() {
        let users = FaultServer::from_fn(|_| Fault::json("{\"name\":\"Ada\"}")).await;
        let app = app(&users.url().parse().unwrap()).unwrap();
        assert_eq!(
            ask(&app, "/users/7").await,
            (200, "{\"name\":\"Ada\"}".into())
        );
        assert_eq!(ask(&app, "/numbers").await, (200, "1".into()));
        assert_eq!(ask(&app, "/numbers").await, (200, "2".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_504() {
        let users = FaultServer::from_fn(|_| Fault::never_respond()).await;
        let app = app(&users.url().parse().unwrap()).unwrap();
        let (status, problem) = ask(&app, "/users/7").await;
        assert_eq!(status, 504);
        assert!(problem.contains("\"code\":\"upstream_timeout\""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_connection_is_502_and_an_open_circuit_503() {
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", unused.local_addr().unwrap());
        drop(unused);
        let app = app(&url.parse().unwrap()).unwrap();
        // The third attempt of the second call finds the circuit open, after five failures in a row.
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(ask(&app, "/users/7").await.0);
        }
        assert_eq!(statuses, [502, 502, 503]);
    }
}

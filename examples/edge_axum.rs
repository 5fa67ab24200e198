//! HTTP layers in front of an axum application: correlation id, trace context, log span, request guard
//! and body limit for all requests, and a JWT for one route.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example edge_axum
//! curl -i http://127.0.0.1:3000/
//! curl -i http://127.0.0.1:3000/orders -d tea # 401; the program prints a command with a token
//! ```

use std::time::{Duration, SystemTime};

use axum::{
    Router,
    routing::{get, post},
};
use serde_json::json;
use tower::{BoxError, ServiceBuilder};
use tower_fanout_http::{
    body::{BodyLimitConfig, BodyLimitLayer},
    correlation::CorrelationLayer,
    guard::GuardLayer,
    jwt::{Algorithm, Claims, JwtConfig, JwtLayer, Key, KeySet, Verifier, VerifierConfig, sign},
    log::RequestSpanLayer,
    problem::ProblemLayer,
    server::{Server, bind},
    trace::TraceLayer,
};
use tower_fanout_layers::CallErrorLayer;
use tracing_subscriber::filter::LevelFilter;

/// A key for this example only. `jwt::jwks` fetches the keys of a real identity provider.
const SECRET: &[u8] = b"an example secret, long enough for 256 bits";

/// Builds the application.
fn app() -> Result<Router, BoxError> {
    let body = BodyLimitConfig::default().max(1_024_usize);
    let layers = ServiceBuilder::new()
        .layer(CorrelationLayer::default()) // first, so that every response and log line has an id
        .layer(TraceLayer::new()) // continues the caller's trace, or starts a new one
        .layer(RequestSpanLayer::new()) // logs the ids of the layers above
        .layer(ProblemLayer::new()) // turns errors and panics below into problem+json
        .layer(GuardLayer::default()) // rejects ambiguous heads
        .layer(BodyLimitLayer::new(body)?) // limits size and time of the body
        .layer(CallErrorLayer::new()); // `Infallible` cannot carry a rejection
    let jwt = JwtLayer::new(verifier()?, JwtConfig::default())?;
    Ok(Router::new()
        .route("/", get(async || "hello\n"))
        .route("/orders", post(order).layer(jwt))
        .layer(layers))
}

/// Creates the verifier of tokens: one key, one issuer and one audience.
fn verifier() -> Result<Verifier, BoxError> {
    let key = Key::from_secret(Algorithm::HS256, SECRET)?;
    let config = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"]);
    Ok(Verifier::new(KeySet::new([key])?, config)?)
}

/// Takes an order. The extractor of `Claims` responds with 500 if no JWT layer is above the handler.
async fn order(claims: Claims, what: String) -> String {
    format!("{what} for {}\n", claims.subject())
}

/// Signs a token for Ada that is valid for an hour.
fn token() -> Result<String, BoxError> {
    let hour = Duration::from_secs(3_600);
    let expires = (SystemTime::now() + hour).duration_since(SystemTime::UNIX_EPOCH)?;
    let claims = json!({
        "iss": "https://idp.example", "aud": "orders", "sub": "ada", "exp": expires.as_secs(),
    });
    Ok(sign(Algorithm::HS256, SECRET, &claims)?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let lines = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG);
    lines.init(); // at this level, the log has the reason why a token was rejected
    let token = token()?;
    println!("curl -i http://127.0.0.1:3000/orders -d tea -H 'authorization: Bearer {token}'");
    let (listener, app) = (bind(([127, 0, 0, 1], 3000).into())?, app()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Server::default().serve(listener, app, stop).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use http::{Request, header::AUTHORIZATION, request::Builder, response::Parts};
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    async fn ask(request: Builder, body: impl Into<Body>) -> (Parts, Bytes) {
        let request = request.body(body.into()).unwrap();
        let response = app().unwrap().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        assert!(head.headers.contains_key("x-correlation-id"));
        (head, to_bytes(body, 1_024).await.unwrap())
    }

    /// Returns the head of the response and the code of its problem document.
    async fn refused(request: Builder, body: impl Into<Body>) -> (Parts, String) {
        let (head, body) = ask(request, body).await;
        assert_eq!(head.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&body).unwrap();
        (head, problem["code"].as_str().unwrap().to_owned())
    }

    fn order() -> Builder {
        Request::post("/orders").header("host", "shop.example")
    }

    fn order_of_ada() -> Builder {
        order().header(AUTHORIZATION, format!("Bearer {}", token().unwrap()))
    }

    #[tokio::test]
    async fn a_handler_gets_the_claims_of_the_token() {
        let (head, body) = ask(order_of_ada(), "tea").await;
        assert_eq!((head.status.as_u16(), &*body), (200, &b"tea for ada\n"[..]));
    }

    #[tokio::test]
    async fn only_the_route_with_the_jwt_layer_requires_a_token() {
        let hello = Request::get("/").header("host", "shop.example");
        assert_eq!(ask(hello, Body::empty()).await.0.status, 200);

        let (head, code) = refused(order(), "tea").await;
        assert_eq!((head.status.as_u16(), &*code), (401, "auth_required"));
        let challenge = "Bearer realm=\"fanout\"";
        assert_eq!(head.headers["www-authenticate"], challenge);

        let forged = order().header(AUTHORIZATION, "Bearer e30.e30.e30");
        let (head, code) = refused(forged, "tea").await;
        assert_eq!((head.status.as_u16(), &*code), (401, "invalid_token"));
    }

    #[tokio::test]
    async fn an_invalid_host_is_rejected() {
        let bad = Request::get("/").header("host", "ada@shop.example");
        let (head, code) = refused(bad, Body::empty()).await;
        assert_eq!((head.status.as_u16(), &*code), (400, "bad_host"));
    }

    #[tokio::test]
    async fn a_large_body_is_rejected_with_and_without_content_length() {
        let large = "x".repeat(2_048);
        let (head, code) = refused(order_of_ada(), large).await;
        assert_eq!((head.status.as_u16(), &*code), (413, "payload_too_large"));

        let chunks = stream::repeat("x").take(2_048).map(Ok::<_, std::io::Error>);
        let (head, code) = refused(order_of_ada(), Body::from_stream(chunks)).await;
        assert_eq!((head.status.as_u16(), &*code), (413, "payload_too_large"));
    }
}

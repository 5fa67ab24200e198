//! The edge of an axum application: every request gets an id, a place in a trace and a span, a head or
//! a body that cannot be trusted goes no further, and one route asks for a token and knows who calls.
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

/// For the example only: where tokens come from a provider, `jwt::jwks` fetches its keys.
const SECRET: &[u8] = b"an example secret, long enough for 256 bits";

/// The application.
fn app() -> Result<Router, BoxError> {
    let body = BodyLimitConfig::default().max(1_024_usize);
    let layers = ServiceBuilder::new()
        .layer(CorrelationLayer::default()) // first, so that every answer and log line has an id
        .layer(TraceLayer::new()) // the place in the caller's trace, or a new one
        .layer(RequestSpanLayer::new()) // has the ids, so it is below them
        .layer(ProblemLayer::new()) // what fails or panics below becomes problem+json
        .layer(GuardLayer::default()) // before anything believes the head
        .layer(BodyLimitLayer::new(body)?) // before anything reads the body
        .layer(CallErrorLayer::new()); // `Infallible` cannot say that a layer refused
    let jwt = JwtLayer::new(verifier()?, JwtConfig::default())?;
    Ok(Router::new()
        .route("/", get(async || "hello\n"))
        .route("/orders", post(order).layer(jwt))
        .layer(layers))
}

/// Whom this application believes.
fn verifier() -> Result<Verifier, BoxError> {
    let key = Key::from_secret(Algorithm::HS256, SECRET)?;
    let config = VerifierConfig::new(["https://idp.example"], ["orders"]);
    Ok(Verifier::new(KeySet::new([key])?, config)?)
}

/// Without the layer in front of it, this would answer 500 to everybody.
async fn order(claims: Claims, what: String) -> String {
    format!("{what} for {}\n", claims.subject())
}

/// A token for Ada that is good for an hour.
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
    lines.init(); // at this level a line says why a token was refused
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

    /// The code of the problem that is the answer.
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
    async fn a_handler_knows_who_calls() {
        let (head, body) = ask(order_of_ada(), "tea").await;
        assert_eq!((head.status.as_u16(), &*body), (200, &b"tea for ada\n"[..]));
    }

    #[tokio::test]
    async fn only_the_route_with_the_layer_asks_for_a_token() {
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
    async fn a_host_that_is_none_is_refused() {
        let bad = Request::get("/").header("host", "ada@shop.example");
        let (head, code) = refused(bad, Body::empty()).await;
        assert_eq!((head.status.as_u16(), &*code), (400, "bad_host"));
    }

    #[tokio::test]
    async fn a_large_body_is_refused_whether_it_says_so_or_not() {
        let large = "x".repeat(2_048);
        let (head, code) = refused(order_of_ada(), large).await;
        assert_eq!((head.status.as_u16(), &*code), (413, "payload_too_large"));

        let chunks = stream::repeat("x").take(2_048).map(Ok::<_, std::io::Error>);
        let (head, code) = refused(order_of_ada(), Body::from_stream(chunks)).await;
        assert_eq!((head.status.as_u16(), &*code), (413, "payload_too_large"));
    }
}

//! The layers of the example `edge_axum` in front of a tower service on hyper, without a framework. The
//! accept loop here does not limit slow clients; `tower_fanout_http::server` does.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example edge_hyper
//! curl -i http://127.0.0.1:3000/ -d tea # 401; the program prints a command with a token
//! ```

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_fanout_http::{
    body::{BodyLimitConfig, BodyLimitLayer, LimitedBody},
    correlation::CorrelationLayer,
    guard::GuardLayer,
    jwt::{Algorithm, Claims, JwtConfig, JwtLayer, Key, KeySet, Verifier, VerifierConfig, sign},
    log::RequestSpanLayer,
    problem::ProblemLayer,
    trace::TraceLayer,
};
use tower_fanout_layers::LayerError;
use tracing_subscriber::filter::LevelFilter;

/// A key for this example only. `jwt::jwks` fetches the keys of a real identity provider.
const SECRET: &[u8] = b"an example secret, long enough for 256 bits";

/// Builds the service with its layers.
fn app() -> Result<
    impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone,
    BoxError,
> {
    let key = Key::from_secret(Algorithm::HS256, SECRET)?;
    let config = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"]);
    let verifier = Verifier::new(KeySet::new([key])?, config)?;
    let body = BodyLimitConfig::default().max(1_024_usize);
    Ok(ServiceBuilder::new()
        .layer(CorrelationLayer::default()) // first, so that every response and log line has an id
        .layer(TraceLayer::new()) // continues the caller's trace, or starts a new one
        .layer(RequestSpanLayer::new()) // logs the ids of the layers above
        .layer(ProblemLayer::new()) // turns errors and panics below into problem+json
        .layer(GuardLayer::default()) // rejects ambiguous heads
        .layer(BodyLimitLayer::new(body)?) // limits size and time of the body
        .layer(JwtLayer::new(verifier, JwtConfig::default())?) // adds the claims to the request
        .service(service_fn(order)))
}

/// Takes an order. `ProblemLayer` turns an error of the body into 413, 408 or 400, and others into 500.
async fn order(
    request: Request<LimitedBody<Incoming>>,
) -> Result<Response<Full<Bytes>>, LayerError> {
    let (head, body) = request.into_parts();
    let claims: &Claims = head
        .extensions
        .get()
        .ok_or("the request has no claims, add a JwtLayer")?;
    let mut answer = body
        .collect()
        .await
        .map_err(LayerError::new)?
        .to_bytes()
        .to_vec();
    answer.extend_from_slice(format!(" for {}\n", claims.subject()).as_bytes());
    Ok(Response::new(Full::new(answer.into())))
}

async fn serve(listener: TcpListener) -> Result<(), BoxError> {
    let service = TowerToHyperService::new(app()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
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
    println!("curl -i http://127.0.0.1:3000/ -d tea -H 'authorization: Bearer {token}'");
    serve(TcpListener::bind("127.0.0.1:3000").await?).await
}

#[cfg(test)]
mod tests {
    use http::{header::AUTHORIZATION, request::Builder, response::Parts};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use serde_json::Value;

    use super::*;

    async fn ask(request: Builder, body: impl Into<Bytes>) -> (Parts, Bytes) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = request.uri(uri).body(Full::new(body.into())).unwrap();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        assert!(head.headers.contains_key("x-correlation-id"));
        let body = body.collect().await.unwrap().to_bytes();
        server.abort();
        (head, body)
    }

    /// Returns the head of the response and the code of its problem document.
    async fn refused(request: Builder, body: impl Into<Bytes>) -> (Parts, String) {
        let (head, body) = ask(request, body).await;
        assert_eq!(head.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&body).unwrap();
        (head, problem["code"].as_str().unwrap().to_owned())
    }

    fn order_of_ada() -> Builder {
        let token = format!("Bearer {}", token().unwrap());
        Request::builder()
            .method("POST")
            .header(AUTHORIZATION, token)
    }

    #[tokio::test]
    async fn the_service_gets_the_claims_of_the_token() {
        let (head, body) = ask(order_of_ada(), "tea").await;
        assert_eq!((head.status.as_u16(), &*body), (200, &b"tea for ada\n"[..]));
    }

    #[tokio::test]
    async fn a_request_without_a_token_gets_a_challenge() {
        let (head, code) = refused(Request::builder().method("POST"), "tea").await;
        assert_eq!((head.status.as_u16(), &*code), (401, "auth_required"));
        let challenge = "Bearer realm=\"fanout\"";
        assert_eq!(head.headers["www-authenticate"], challenge);
    }

    #[tokio::test]
    async fn an_invalid_host_is_rejected() {
        let bad = order_of_ada().header("host", "ada@shop.example");
        let (head, code) = refused(bad, "tea").await;
        assert_eq!((head.status.as_u16(), &*code), (400, "bad_host"));
    }

    #[tokio::test]
    async fn a_large_body_is_rejected() {
        let (head, code) = refused(order_of_ada(), "x".repeat(2_048)).await;
        assert_eq!((head.status.as_u16(), &*code), (413, "payload_too_large"));
    }
}

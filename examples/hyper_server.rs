//! Layers in front of a hyper server, without a framework. Requests beyond the concurrency limit get
//! problem+json with `Retry-After`. The accept loop here does not limit slow clients;
//! `tower_fanout_http::server` does.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example hyper_server
//! curl -i http://127.0.0.1:3000/
//! ```

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_fanout_http::{correlation::CorrelationLayer, problem::ProblemLayer};
use tower_fanout_layers::{
    CallErrorLayer, ConcurrencyConfig, ConcurrencyLayer, ConfigError, TimeoutLayer,
};

/// Builds the service with its layers. All connections share one concurrency limit.
fn app() -> Result<
    impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone,
    ConfigError,
> {
    Ok(ServiceBuilder::new()
        .layer(CorrelationLayer::default())
        .layer(ProblemLayer::new())
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new())?)
        .layer(TimeoutLayer::new(Duration::from_secs(1))?)
        .layer(CallErrorLayer::new())
        .service(service_fn(answer)))
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
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

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    serve(TcpListener::bind("127.0.0.1:3000").await?).await
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    use super::*;

    async fn get(path: &str) -> (http::response::Parts, Bytes) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}{path}", listener.local_addr().unwrap());
        let server = tokio::spawn(serve(listener));
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let response = client.get(uri.parse().unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        server.abort();
        (parts, body)
    }

    #[tokio::test]
    async fn responses_have_a_correlation_id() {
        let (head, body) = get("/").await;
        assert_eq!((head.status.as_u16(), &*body), (200, &b"hello\n"[..]));
        assert!(head.headers.contains_key("x-correlation-id"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_response_becomes_a_problem_document() {
        let (head, body) = get("/slow").await;
        assert_eq!(head.status, 504);
        assert_eq!(head.headers["content-type"], "application/problem+json");
        assert!(body.starts_with(b"{\"type\":"));
    }
}

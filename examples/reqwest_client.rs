//! A `reqwest::Client` below layers: each attempt has a timeout, failures are retried, and a breaker stops the
//! calls of a service that is down. The body of the response streams, with a timeout. A `reqwest::Request` cannot
//! be cloned for another attempt, so the request of the layers is an `http::Request` whose body is `Bytes`.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example reqwest_client -- http://example.org/
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use reqwest::{Body, Client, RequestBuilder};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout::{Downstream, Policy};
use tower_fanout_http::client::failure;
use tower_fanout_layers::{BodyTimeoutLayer, CallError, CallErrorLayer, ClassifyHttp, ConfigError};

/// Puts layers around `client`. All clones of the service share one breaker.
fn layered(
    client: Client,
) -> Result<
    impl Service<
        Request<Bytes>,
        Response = Response<Body>,
        Error = CallError<reqwest::Error>,
        Future: Send,
    > + Clone,
    ConfigError,
> {
    let policy = Policy::new() // with retries, a concurrency limit and a breaker
        .total_timeout(Duration::from_secs(2)) // of all attempts and the body together
        .attempt_timeout(Duration::from_millis(500)); // until the head of the response
    Ok(ServiceBuilder::new()
        .layer(Downstream::new("users", policy, ClassifyHttp::new())?)
        .map_response(|response: Response<_>| response.map(Body::wrap))
        .layer(BodyTimeoutLayer::new(Duration::from_secs(1))?) // for each part of the body
        .layer(CallErrorLayer::with(failure)) // knows which requests were not sent
        .service(service_fn(move |request: Request<Bytes>| {
            let client = client.clone();
            async move {
                client
                    .execute(request.try_into()?)
                    .await
                    .map(Response::from)
            }
        })))
}

/// Converts the request of a builder, such as `client.post(url).json(&order)`.
fn request(builder: RequestBuilder) -> Result<Request<Bytes>, BoxError> {
    let request: Request<Body> = builder.build()?.try_into()?;
    let (head, body) = request.into_parts();
    let body = body.as_bytes().ok_or("a stream cannot be sent again")?;
    Ok(Request::from_parts(head, Bytes::copy_from_slice(body)))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = Client::new();
    let url = std::env::args()
        .nth(1)
        .unwrap_or("http://127.0.0.1:9001/".into());
    let request = request(client.get(url))?;
    let response = reqwest::Response::from(layered(client)?.oneshot(request).await?);
    println!("{}\n{}", response.status(), response.text().await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{AsRejection, Failure, Rejection};
    use tower_fanout_testkit::fault_server::{Fault, FaultServer};

    use super::*;

    fn post(server: &FaultServer) -> Request<Bytes> {
        request(Client::new().post(server.url()).body("tea")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_503_is_retried_and_the_body_of_the_response_streams() {
        let get = |server: &FaultServer| request(Client::new().get(server.url())).unwrap();
        let unavailable = Fault::response(503, &[], "");
        let server = FaultServer::sequence([unavailable, Fault::stall_in_body()]).await;
        let service = layered(Client::new()).unwrap();
        let response = service.oneshot(get(&server)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), server.stats().requests.len()),
            (200, 2)
        );
        let mut response = reqwest::Response::from(response);
        assert!(response.chunk().await.unwrap().is_some());
        assert!(response.chunk().await.is_err()); // the rest never comes
    }

    #[tokio::test(start_paused = true)]
    async fn a_post_that_was_sent_is_not_retried() {
        let server = FaultServer::start(Fault::reset_before_head()).await;
        let call = layered(Client::new()).unwrap().oneshot(post(&server));
        assert_eq!(call.await.unwrap_err().failure(), Failure::ConnectionReset);
        let requests = server.stats().requests;
        assert_eq!((requests.len(), &*requests[0].body), (1, &b"tea"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_post_that_was_not_sent_is_retried_until_the_circuit_opens() {
        let (server, service) = (FaultServer::refusing(), layered(Client::new()).unwrap());
        // The circuit opens after five failures, so in the second call. Its last result is a failure.
        for _ in 0..2 {
            let call = service.clone().oneshot(post(&server));
            assert_eq!(call.await.unwrap_err().failure(), Failure::Connect);
        }
        let error = service.oneshot(post(&server)).await.unwrap_err();
        assert_eq!(error.to_string(), "the circuit is open");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_response_ends_with_the_attempt_timeout() {
        let server = FaultServer::start(Fault::never_respond()).await;
        let error = layered(Client::new())
            .unwrap()
            .oneshot(post(&server))
            .await
            .unwrap_err();
        assert_eq!(error.as_rejection(), Some(Rejection::AttemptTimeout));
    }
}

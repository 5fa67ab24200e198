//! Layers in front of a gRPC server of tonic: the deadline of the caller (`grpc-timeout`) and a concurrency limit.
//! Their rejections become gRPC statuses. The example `grpc` has layers around a client.
//!
//! | rejection | status |
//! |---|---|
//! | deadline, timeout | `DEADLINE_EXCEEDED` |
//! | concurrency limit, quota | `RESOURCE_EXHAUSTED` |
//! | open circuit, no endpoint | `UNAVAILABLE` |
//!
//! tonic too ends a call after `grpc-timeout`, outside of these layers and with `CANCELLED`.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example grpc_server
//! ```

use std::{convert::Infallible, io, time::Duration};

use futures_util::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::Instant,
};
use tonic::{
    Request, Response, Status,
    transport::{
        Server,
        server::{Connected, TcpIncoming},
    },
};
use tower::{BoxError, ServiceBuilder};
use tower_fanout_http::deadline::InboundDeadlineLayer;
use tower_fanout_layers::{
    AsRejection, Call, CallError, CallErrorLayer, ConcurrencyConfig, ConcurrencyLayer,
    DeadlineLayer, Rejection,
};

use self::prices::{
    QuoteReply, QuoteRequest,
    prices_server::{Prices, PricesServer},
};

/// Code generated from `grpc/prices.proto`.
#[expect(unreachable_pub, reason = "generated code does not know where it is")]
mod prices {
    include!("grpc/prices.v1.rs");
}

/// Returns the status of a rejection. `grpc-retry-pushback-ms` tells a client when to try again.
fn status(error: CallError<Infallible>) -> Status {
    use Rejection::*;
    let (rejection, text) = (error.as_rejection(), error.to_string());
    let mut status = match rejection {
        Some(AttemptTimeout | Deadline | DeadlineBeforeSend) => Status::deadline_exceeded(text),
        Some(CircuitOpen { .. } | NoEndpoint) => Status::unavailable(text),
        Some(_) => Status::resource_exhausted(text),
        None => Status::internal(text),
    };
    if let Some(wait) = rejection.and_then(|rejection| rejection.retry_after()) {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", millis);
    }
    status
}

/// Serves the shop on the connections of `incoming`, with at most `max` requests at once.
async fn serve<IO>(incoming: impl Stream<Item = io::Result<IO>>, max: u32) -> Result<(), BoxError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let layers = ServiceBuilder::new()
        .map_err(status)
        .layer(InboundDeadlineLayer::new().trust(true)) // all callers are services of our own
        .layer(DeadlineLayer::new(Duration::from_millis(500))?) // or that of the caller, if earlier
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new().max(max))?)
        .layer(CallErrorLayer::new()); // `Infallible` cannot carry a rejection
    let shop = PricesServer::new(Shop);
    Ok(Server::builder()
        .layer(layers)
        .serve_with_incoming(shop, incoming)
        .await?)
}

/// A shop that sells tea, and time at a cent per millisecond.
struct Shop;

#[tonic::async_trait]
impl Prices for Shop {
    async fn quote(&self, request: Request<QuoteRequest>) -> Result<Response<QuoteReply>, Status> {
        let deadline = request
            .extensions()
            .get()
            .and_then(|call: &Call| call.deadline);
        let cents = match &*request.get_ref().item {
            "tea" => 120,
            "time" => deadline.map_or(0, |end| end.remaining(Instant::now()).as_millis() as u32),
            "rarity" => std::future::pending().await,
            _ => return Err(Status::not_found("we have tea")),
        };
        Ok(Response::new(QuoteReply { cents }))
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    serve(TcpIncoming::from(listener), 100).await
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::stream;
    use http::Uri;
    use hyper_util::rt::TokioIo;
    use tonic::{
        Code,
        transport::{Channel, Endpoint},
    };
    use tower::service_fn;

    use super::{prices::prices_client::PricesClient, *};

    /// Starts a server without a network, so that the paused clock is exact, and returns its client.
    async fn client(max: u32) -> PricesClient<Channel> {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move { serve(stream::iter([Ok(far)]), max).await.unwrap() });
        let mut near = Some(TokioIo::new(near));
        let connector = service_fn(move |_: Uri| ready(near.take().ok_or(Status::ok("once"))));
        let endpoint = Endpoint::from_static("http://shop");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        PricesClient::new(channel)
    }

    async fn quote(client: &PricesClient<Channel>, item: &str) -> Result<u32, Status> {
        let item = item.to_owned();
        let mut request = Request::new(QuoteRequest { item });
        if request.get_ref().item == "time" {
            request.set_timeout(Duration::from_millis(300));
        }
        Ok(client.clone().quote(request).await?.into_inner().cents)
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_of_caller_and_server_counts() {
        let client = client(100).await;
        assert_eq!(quote(&client, "time").await.unwrap(), 300);
        let late = quote(&client, "rarity").await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_limit_is_resource_exhausted() {
        let client = client(1).await;
        let (first, second) = tokio::join!(quote(&client, "rarity"), quote(&client, "tea"));
        assert_eq!(first.unwrap_err().code(), Code::DeadlineExceeded);
        let full = second.unwrap_err();
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert_eq!(
            full.metadata().get("grpc-retry-pushback-ms").unwrap(),
            "1000"
        );
    }

    #[test]
    fn an_open_circuit_is_unavailable() {
        let retry_after = None;
        let status = status(Rejection::CircuitOpen { retry_after }.into());
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.metadata().is_empty());
    }
}

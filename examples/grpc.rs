//! A `FanOut` over gRPC services, with the client that tonic generates. It requests a price from each
//! shop and takes the lowest. One classifier maps gRPC statuses to classes, and each call sends the
//! remaining time as `grpc-timeout`.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example grpc
//! ```

use std::{error::Error, iter, time::Duration};

use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Code, ConnectError, Request, Response, Status, TimeoutExpired,
    transport::{Channel, Server, server::TcpIncoming},
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_fanout::{
    Downstream, FanOut, FanOutResponse, Plan, Policy, Strategy,
    layers::{
        CallContext, CallError, Class, Classify, ClassifyResult, ConfigError, Deadline, Failure,
        Rejection, WithCall,
    },
};
use tower_fanout_http::client::failure;

use self::prices::{
    QuoteReply, QuoteRequest,
    prices_client::PricesClient,
    prices_server::{Prices, PricesServer},
};

/// Code generated from `grpc/prices.proto`.
#[expect(unreachable_pub, reason = "generated code does not know where it is")]
mod prices {
    include!("grpc/prices.v1.rs");
}

/// Requests the price of an item from a shop, in cents.
async fn quote(
    mut shop: PricesClient<Channel>,
    item: WithCall<String>,
) -> Result<u32, CallError<Status>> {
    let deadline = item.call().deadline;
    let mut request = Request::new(QuoteRequest {
        item: item.into_inner(),
    });
    if let Some(deadline) = deadline {
        request.set_timeout(deadline.remaining(Instant::now()));
    }
    let reply = shop.quote(request).await.map_err(call_error)?;
    Ok(reply.into_inner().cents)
}

/// Maps `status` to an error that the layers can classify. If tonic's channel created the status because
/// the time of `grpc-timeout` was over, the error is `Rejection::Deadline`, which does not blame the shop.
fn call_error(status: Status) -> CallError<Status> {
    let failure = if is_caused_by::<TimeoutExpired>(&status) {
        return Rejection::Deadline.into();
    } else if is_caused_by::<ConnectError>(&status) {
        Failure::Connect
    } else if failure(&status) == Failure::NotProcessed {
        Failure::NotProcessed // for example a refused HTTP/2 stream, which can be retried
    } else {
        Failure::Status {
            code: http_status(status.code()),
            retry_after: None,
        }
    };
    CallError::Inner {
        error: status,
        failure,
    }
}

fn is_caused_by<E: Error + 'static>(status: &Status) -> bool {
    iter::successors(status.source(), |&error| error.source()).any(|error| error.is::<E>())
}

/// Returns the HTTP status of `code` in [Google's
/// table](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).
const fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::Aborted | Code::AlreadyExists => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Internal | Code::Unknown | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

/// Classifies a gRPC status by its HTTP status. "Not found" and "unimplemented" are `NonRetryable`: they
/// are neither retried nor counted as failures by the breaker.
#[derive(Clone, Copy)]
struct ClassifyGrpc;

impl<T> Classify<T, CallError<Status>> for ClassifyGrpc {
    fn classify(&self, result: Result<&T, &CallError<Status>>, elapsed: Duration) -> Class {
        match ClassifyResult.classify(result, elapsed) {
            Class::Failure(Failure::Status { code, retry_after }) => match code {
                429 => Class::Throttled { retry_after },
                400..=499 | 501 => Class::NonRetryable(code),
                _ => Class::Failure(Failure::Status { code, retry_after }),
            },
            class => class,
        }
    }
}

/// Puts a stack of layers around the client of a shop: 500 ms per attempt, three attempts, a breaker and
/// a limit.
fn careful(
    name: &str,
    channel: Channel,
) -> Result<
    impl Service<WithCall<String>, Response = u32, Error = CallError<Status>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<>,
    ConfigError,
> {
    let policy = Policy::new().attempt_timeout(Duration::from_millis(500));
    let downstream = Downstream::new(name, policy, ClassifyGrpc)?;
    let shop = PricesClient::new(channel);
    Ok(downstream.layer(service_fn(move |item| quote(shop.clone(), item))))
}

/// Builds a fan-out that requests an item from all shops. One price is enough.
///
/// # Errors
/// Returns an error if two shops have the same name.
fn app<'n>(
    shops: impl IntoIterator<Item = (&'n str, Channel)>,
) -> Result<FanOut<WithCall<String>>, BoxError> {
    let mut plan = Plan::builder();
    for (name, channel) in shops {
        plan.node(
            name,
            careful(name, channel)?,
            |item: &WithCall<String>, _| Ok(WithCall::new(item.get().clone()).idempotent()),
        );
    }
    Ok(FanOut::new(plan.build()?).strategy(Strategy::BestEffort))
}

/// Returns the lowest price in cents, and the index of its shop in the plan.
fn cheapest(answer: &FanOutResponse) -> Option<(u32, usize)> {
    let shops = answer.report().branches.iter().map(|branch| branch.node);
    shops
        .filter_map(|shop| Some((*answer.at(shop)?, shop)))
        .min()
}

/// Creates a request for the item `name` with the deadline now + `time`.
fn item(name: &str, time: Duration) -> WithCall<String> {
    WithCall::new(name.to_owned()).deadline(Deadline::at(Instant::now() + time))
}

/// A shop that sells only tea. The field is the price in cents.
struct TeaShop(u32);

#[tonic::async_trait]
impl Prices for TeaShop {
    async fn quote(&self, request: Request<QuoteRequest>) -> Result<Response<QuoteReply>, Status> {
        match &*request.get_ref().item {
            "tea" => Ok(Response::new(QuoteReply { cents: self.0 })),
            _ => Err(Status::not_found("we have tea")),
        }
    }
}

/// Starts a tea shop on a loopback port and returns a channel to it.
async fn open(cents: u32) -> Result<Channel, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let shop = PricesServer::new(TeaShop(cents));
    tokio::spawn(Server::builder().serve_with_incoming(shop, TcpIncoming::from(listener)));
    Ok(Channel::from_shared(url)?.connect_lazy())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let app = app([("corner", open(120).await?), ("market", open(95).await?)])?;
    let request = item("tea", Duration::from_secs(1));
    let answer = app.clone().oneshot(request).await?;
    if let Some((cents, shop)) = cheapest(&answer) {
        println!("{cents} cents at {}", app.plan().names()[shop]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;
    use http::Uri;
    use hyper_util::rt::TokioIo;
    use tonic::transport::Endpoint;
    use tower_fanout::{ErrorKind, FanOutError, Verdict, layers::AsRejection};
    use tower_fanout_testkit::{
        fault_server::{FaultServer, h2::StreamFault},
        script::ScriptedService,
    };

    use super::*;

    /// A shop that responds by a script. The script's requests are the remaining times in microseconds.
    struct Scripted(ScriptedService<u64, u32, Status>);

    #[tonic::async_trait]
    impl Prices for Scripted {
        async fn quote(
            &self,
            request: Request<QuoteRequest>,
        ) -> Result<Response<QuoteReply>, Status> {
            let timeout = request.metadata().get("grpc-timeout").unwrap();
            let micros = timeout.to_str().unwrap().strip_suffix('u').unwrap();
            let cents = self.0.clone().oneshot(micros.parse().unwrap()).await?;
            Ok(Response::new(QuoteReply { cents }))
        }
    }

    /// Starts a shop without a network, so that the paused clock is exact.
    fn shop(script: &ScriptedService<u64, u32, Status>) -> Channel {
        let (near, far) = tokio::io::duplex(1 << 16);
        let incoming = stream::iter([Ok::<_, io::Error>(far)]);
        let shop = PricesServer::new(Scripted(script.clone()));
        tokio::spawn(Server::builder().serve_with_incoming(shop, incoming));
        through(Some(near))
    }

    /// Creates a channel that connects once to `stream`, or never if it is `None`.
    fn through(mut stream: Option<tokio::io::DuplexStream>) -> Channel {
        let connector = service_fn(move |_: Uri| {
            let stream = stream.take().map(TokioIo::new);
            async { stream.ok_or(io::Error::from(io::ErrorKind::ConnectionRefused)) }
        });
        Endpoint::from_static("http://shop").connect_with_connector_lazy(connector)
    }

    async fn ask(
        shops: [(&str, Channel); 2],
        time: Duration,
    ) -> Result<FanOutResponse, FanOutError> {
        app(shops).unwrap().oneshot(item("tea", time)).await
    }

    /// Returns the error kind of `node`, and its number of attempts.
    fn failed(answer: &FanOutResponse, node: usize) -> (ErrorKind, u32) {
        let branch = answer.report().branch(node).unwrap();
        (branch.error.as_ref().unwrap().kind(), branch.attempts)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_status_has_the_class_of_its_http_status() {
        let retry_after = None;
        let failure = |code| Class::Failure(Failure::Status { code, retry_after });
        for (code, class) in [
            (Code::Unavailable, failure(503)),
            (Code::DeadlineExceeded, failure(504)),
            (Code::Internal, failure(500)),
            (Code::ResourceExhausted, Class::Throttled { retry_after }),
            (Code::InvalidArgument, Class::NonRetryable(400)),
            (Code::NotFound, Class::NonRetryable(404)),
            (Code::Unimplemented, Class::NonRetryable(501)),
        ] {
            let error = call_error(Status::new(code, ""));
            let result = Err::<&u32, _>(&error);
            assert_eq!(
                ClassifyGrpc.classify(result, Duration::ZERO),
                class,
                "{code:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_refused_stream_was_not_processed() {
        let shop = FaultServer::h2_sequence([StreamFault::refused_stream()]).await;
        let channel = Channel::from_shared(shop.url()).unwrap().connect_lazy();
        let error = quote(PricesClient::new(channel), WithCall::new("tea".into()));
        assert_eq!(error.await.unwrap_err().failure(), Failure::NotProcessed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_price_is_chosen() {
        let shops = [120, 95].map(|cents| shop(&ScriptedService::new().respond(cents)));
        let [corner, market] = shops;
        let answer = ask([("corner", corner), ("market", market)], SECOND).await;
        assert_eq!(cheapest(&answer.unwrap()), Some((95, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn unavailable_and_resource_exhausted_are_retried() {
        let busy = ScriptedService::new()
            .fail(Status::unavailable("closing"))
            .fail(Status::resource_exhausted("too many customers"))
            .respond(95);
        let shops = [
            ("corner", shop(&ScriptedService::new().respond(120))),
            ("market", shop(&busy)),
        ];
        let answer = ask(shops, SECOND).await.unwrap();
        assert_eq!(cheapest(&answer), Some((95, 1)));
        assert_eq!(answer.report().branches[1].attempts, 3);
        assert_eq!(busy.calls(), 3);
        assert!(busy.requests().is_sorted_by(|before, after| before > after));
    }

    #[tokio::test(start_paused = true)]
    async fn not_found_is_not_retried() {
        let empty = ScriptedService::new().fail(Status::not_found("we have coffee"));
        let shops = [
            ("corner", shop(&ScriptedService::new().respond(120))),
            ("market", shop(&empty)),
        ];
        let answer = ask(shops, SECOND).await.unwrap();
        assert_eq!(cheapest(&answer), Some((120, 0)));
        assert_eq!(failed(&answer, 1), (ErrorKind::Status, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_sent_and_met() {
        let silent = ScriptedService::new().hang();
        let shops = ["corner", "market"].map(|name| (name, shop(&silent)));
        let start = Instant::now();
        let error = ask(shops, Duration::from_millis(200)).await.unwrap_err();
        // The fan-out keeps a twentieth of the time as the merge margin.
        assert_eq!(silent.requests(), [190_000; 2]);
        assert!(start.elapsed() <= Duration::from_millis(200));
        let FanOutError::Failed { verdict, response } = error else {
            panic!("{error}");
        };
        assert_eq!(verdict, Verdict::Timeout);
        assert_eq!(failed(&response, 0), (ErrorKind::Deadline, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shop_that_refuses_connections_has_no_price() {
        let shops = [
            ("corner", shop(&ScriptedService::new().respond(120))),
            ("market", through(None)),
        ];
        let answer = ask(shops, SECOND).await.unwrap();
        assert_eq!(cheapest(&answer), Some((120, 0)));
        assert_eq!(failed(&answer, 1), (ErrorKind::ConnectFailed, 3));
    }
}

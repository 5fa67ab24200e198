//! Serves one connection, from its acceptance to its end.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout, timeout_at},
};
use tower::Service;

use super::{
    CloseReason, LimitedEvent, ServerConfig,
    activity::{Activity, ConnectionTimeouts, Next},
    calls::Calls,
    clients::Clients,
    opening::{Opened, Protocol, next_head, open},
    stop::Stop,
    stream::{Stream, Wire},
    track_requests::TrackRequests,
};

/// Maximum time to send the last bytes of a connection.
const CLOSE: Duration = Duration::from_secs(1);

/// State that all connections of a server share.
pub(super) struct Shared {
    /// A valid config. Its times are at most a year, so that adding one to an `Instant` cannot
    /// overflow.
    pub(super) config: ServerConfig,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    clients: Clients,
    invalid: Mutex<LimitedEvent>,
}

impl Shared {
    /// Creates the state of a server with a valid config.
    pub(super) fn new(config: ServerConfig) -> Self {
        let (http1, http2) = config.protocols();
        Self {
            config,
            http1,
            http2,
            clients: Clients::default(),
            invalid: Mutex::new(LimitedEvent::new()),
        }
    }

    /// Logs that hyper has rejected a request of `peer`, at most once per second.
    fn log_invalid(&self, peer: SocketAddr, error: &hyper::Error) {
        let mut invalid = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(skipped) = invalid.next() else {
            return;
        };
        drop(invalid);
        let ServerConfig {
            max_head,
            max_headers,
            ..
        } = self.config;
        if error.is_parse_too_large() {
            tracing::info!(%peer, %error, max_head, max_headers, skipped, "invalid request rejected");
        } else {
            tracing::info!(%peer, %error, skipped, "invalid request rejected");
        }
    }
}

/// Serves a connection that was just accepted, and returns the reason why it ended.
///
/// After `stop`, the connection ends as soon as it has no request in flight. Dropping the future closes the
/// connection.
pub(super) async fn serve<S, B>(
    shared: Arc<Shared>,
    service: S,
    socket: TcpStream,
    peer: SocketAddr,
    mut stop: Stop,
) -> CloseReason
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (config, accepted) = (&shared.config, Instant::now());
    let client = shared.clients.of(peer.ip());
    let calls = Calls::new(client, config.connections.clone());
    let activity = Arc::new(Activity::new(calls));
    // Boxed, so that the connection's task does not keep the space of the handshake.
    let opening = Box::pin(timeout_at(
        accepted + config.header_timeout,
        open(config, socket, &activity),
    ));
    let opened = tokio::select! {
        biased;
        // No request can be in flight before the connection is open.
        () = stop.ended(&activity) => return CloseReason::Done,
        opened = opening => opened,
    };
    let Opened {
        stream,
        protocol,
        scheme,
    } = match opened {
        Ok(Ok(Some(opened))) => opened,
        Ok(Ok(None)) => return CloseReason::Done,
        Ok(Err(error)) => return failed(&error),
        Err(_) => return CloseReason::Slow,
    };
    let service = TrackRequests {
        service,
        activity: Arc::clone(&activity),
        peer,
        scheme,
    };
    let start = Instant::now();
    let timer = pin!(sleep_until(start + config.header_timeout));
    let mut waits = Waits {
        activity: &activity,
        timeouts: ConnectionTimeouts::new(&activity, config, accepted),
        timer,
        max_age: config.max_age.map(|age| Box::pin(sleep_until(start + age))),
        stop: &mut stop,
    };
    let ended = match protocol {
        Protocol::Http1 => serve_http1(&shared.http1, stream, service, &mut waits).await,
        Protocol::Http2 => {
            let connection = shared.http2.serve_connection(TokioIo::new(stream), service);
            match drive(&mut Box::pin(connection), &mut waits).await {
                Ok(Next::Close(reason)) => Ok(reason),
                // Only HTTP/1 is parked.
                Ok(Next::Park) => Ok(CloseReason::Done),
                Err(error) => Err(error),
            }
        }
    };
    ended.unwrap_or_else(|error| {
        if error.is_parse() {
            shared.log_invalid(peer, &error);
            CloseReason::Invalid
        } else {
            failed(&error)
        }
    })
}

/// Serves an HTTP/1 connection to its end.
///
/// hyper keeps buffers of 16 KiB for a connection. One that has no request for a while is parked: taken
/// from hyper until its next head is complete.
async fn serve_http1<S, B>(
    http1: &http1::Builder,
    mut stream: Stream,
    mut service: TrackRequests<S>,
    waits: &mut Waits<'_>,
) -> Result<CloseReason, hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        let connection = http1.serve_connection(TokioIo::new(stream), service);
        let mut connection = Box::pin(connection);
        if let Next::Close(reason) = drive(&mut connection, waits).await? {
            return Ok(reason);
        }
        let parts = Pin::into_inner(connection).into_parts();
        let (wire, unread) = parts.io.into_inner().into_parts();
        // A copy, because these bytes may share a large buffer.
        let received = [parts.read_buf, unread].concat();
        stream = match waits.park(wire, received).await {
            Ok(stream) => stream,
            Err(reason) => return Ok(reason),
        };
        service = parts.service;
    }
}

/// The things that end a connection, or a part of its life.
struct Waits<'a> {
    activity: &'a Arc<Activity>,
    timeouts: ConnectionTimeouts<'a>,
    timer: Pin<&'a mut Sleep>,
    /// Boxed, because most servers have no maximum age.
    max_age: Option<Pin<Box<Sleep>>>,
    stop: &'a mut Stop,
}

impl Waits<'_> {
    /// Waits for the next head of an HTTP/1 connection, of which `received` is the begin. Returns the
    /// stream of the connection, or the reason why it has ended.
    async fn park(
        &mut self,
        mut wire: Box<dyn Wire>,
        received: Vec<u8>,
    ) -> Result<Stream, CloseReason> {
        if !received.is_empty() {
            self.activity.record_read();
        }
        let (timeouts, timer) = (&mut self.timeouts, &mut self.timer);
        timeouts.record_parked();
        let exceeded = poll_fn(|cx| match timeouts.poll(timer.as_mut(), cx) {
            Poll::Ready(Next::Close(reason)) => Poll::Ready(reason),
            _ => Poll::Pending,
        });
        let reason = tokio::select! {
            biased;
            () = self.stop.ended(self.activity) => CloseReason::Done,
            received = next_head(&mut wire, received, self.activity) => match received {
                Ok(received) if received.is_empty() => CloseReason::Done,
                Ok(received) => {
                    return Ok(Stream::new(wire, received, Arc::clone(self.activity)));
                }
                Err(error) => return Err(failed(&error)),
            },
            () = elapsed(&mut self.max_age) => CloseReason::Done,
            reason = exceeded => reason,
        };
        if reason != CloseReason::Slow {
            let _ = Box::pin(timeout(CLOSE, wire.shutdown())).await;
        }
        Err(reason)
    }
}

/// Waits for `timer`, without an end for `None`.
async fn elapsed(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

fn failed(error: &dyn Error) -> CloseReason {
    tracing::debug!(%error, "connection failed");
    CloseReason::Error
}

/// Drives `connection` until it ends, exceeds a timeout or is to be parked.
///
/// A stop, the maximum age or the idle timeout starts a graceful shutdown, in which requests in
/// flight may finish. Any other timeout closes the connection at once. Too many resets end it with a GOAWAY.
async fn drive<C>(connection: &mut Pin<Box<C>>, waits: &mut Waits<'_>) -> Result<Next, hyper::Error>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let Waits {
        activity,
        timeouts,
        timer,
        max_age,
        stop,
    } = waits;
    let mut end = CloseReason::Done;
    loop {
        let closing = timeouts.closing;
        tokio::select! {
            biased;
            () = stop.ended(activity), if !closing => {}
            ended = &mut *connection => return match ended {
                Err(error) if !closing => Err(error),
                _ => Ok(Next::Close(end)),
            },
            () = elapsed(max_age), if !closing => {}
            next = poll_fn(|cx| timeouts.poll(timer.as_mut(), cx)) => match next {
                Next::Close(CloseReason::Resets) => {
                    timeouts.go_away();
                    // Ends with an error once the GOAWAY is sent.
                    let _ = Box::pin(timeout(CLOSE, connection)).await;
                    return Ok(next);
                }
                Next::Close(CloseReason::Idle) if !closing => end = CloseReason::Idle,
                _ => return Ok(next),
            }
        }
        timeouts.closing = true;
        connection.as_mut().graceful_shutdown();
    }
}

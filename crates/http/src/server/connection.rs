//! Serves one connection, from its acceptance to its end.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
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
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep_until, timeout, timeout_at},
};
use tower::Service;

use super::{
    CloseReason, LimitedEvent, ServerConfig,
    activity::{Activity, ConnectionTimeouts},
    calls::Calls,
    clients::Clients,
    opening::{Opened, Protocol, open},
    track_requests::TrackRequests,
};

/// Maximum time to send the GOAWAY of a connection that is closed for its resets.
const GO_AWAY: Duration = Duration::from_secs(1);

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
/// After `stop` changes, the connection ends as soon as it has no request in flight. Dropping the
/// future closes the connection.
pub(super) async fn serve<S, B>(
    shared: Arc<Shared>,
    service: S,
    socket: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<()>,
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
        opened = opening => opened,
        // No request can be in flight before the connection is open.
        _ = stop.changed() => return CloseReason::Done,
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
    let timeouts = || ConnectionTimeouts::new(&activity, config, accepted);
    let ended = match protocol {
        Protocol::Http1 => {
            let connection = Box::pin(shared.http1.serve_connection(TokioIo::new(stream), service));
            drive(connection, &timeouts, &mut stop).await
        }
        Protocol::Http2 => {
            let connection = Box::pin(shared.http2.serve_connection(TokioIo::new(stream), service));
            drive(connection, &timeouts, &mut stop).await
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

/// Drives `connection` until it ends or exceeds a timeout.
///
/// A stop, the maximum age or the idle timeout starts a graceful shutdown, in which requests in
/// flight may finish. Any other timeout closes the connection at once. Too many resets end it with a GOAWAY.
async fn drive<'a, C>(
    mut connection: Pin<Box<C>>,
    timeouts: &impl Fn() -> ConnectionTimeouts<'a>,
    stop: &mut watch::Receiver<()>,
) -> Result<CloseReason, hyper::Error>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let (mut timeouts, start) = (timeouts(), Instant::now());
    let config = timeouts.config;
    let mut timer = pin!(sleep_until(start + config.header_timeout));
    // Boxed, because most servers have no maximum age.
    let mut max_age = config.max_age.map(|age| Box::pin(sleep_until(start + age)));
    let mut end = CloseReason::Done;
    loop {
        let closing = timeouts.closing;
        tokio::select! {
            biased;
            _ = stop.changed(), if !closing => {}
            ended = &mut connection => return match ended {
                Err(error) if !closing => Err(error),
                _ => Ok(end),
            },
            () = elapsed(&mut max_age), if !closing => {}
            reason = poll_fn(|cx| timeouts.poll(timer.as_mut(), cx)) => {
                if reason == CloseReason::Resets {
                    timeouts.go_away();
                    // Ends with an error once the GOAWAY is sent.
                    let _ = Box::pin(timeout(GO_AWAY, connection)).await;
                    return Ok(reason);
                }
                if closing || reason != CloseReason::Idle {
                    return Ok(reason);
                }
                end = reason;
            }
        }
        timeouts.closing = true;
        connection.as_mut().graceful_shutdown();
    }
}

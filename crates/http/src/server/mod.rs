//! An HTTP server for any tower service or axum router, with timeouts for slow and idle clients, limits
//! on connections and their memory, and graceful shutdown (feature `server`).
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use tower_fanout_http::server::{Server, ServerConfig, bind};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let app = Router::new().route("/", get(|| async { "hello" }));
//! let listener = bind(([127, 0, 0, 1], 8080).into())?;
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! let server = Server::new(ServerConfig::default().max_connections(1_000_usize))?;
//! server.serve(listener, app, stop).await;
//! # Ok(())
//! # }
//! ```
//!
//! The server closes connections that are slow, idle, or not read from, after the timeouts of
//! [`ServerConfig`]. [`Connections`] counts them by reason. An idle HTTP/1 connection takes a few KiB: hyper
//! has it only while it has a request. The server has no timeout for request
//! bodies: use [`read_body`](crate::body::read_body) or
//! [`BodyLimitLayer`](crate::body::BodyLimitLayer), which have one.
//!
//! Requests that are not valid HTTP do not reach the service. hyper responds with 400, 414 or 431
//! without a body and closes the connection. The reason is logged at level info, once per second at most, and
//! counted as [`CloseReason::Invalid`]. A request with both `Content-Length` and
//! `Transfer-Encoding` arrives without `Content-Length`, and its connection is closed after the
//! response (RFC 9112 §6.3). Trailers never become headers. A panic of the service closes its own
//! connection, or over HTTP/2 its own stream only.

mod activity;
mod calls;
mod clients;
mod config;
mod connection;
mod connections;
mod framing;
mod go_away;
#[cfg(feature = "tls")]
mod handshake_failures;
mod lingering_close;
mod opening;
mod reading;
mod stop;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod track_requests;
mod wait_queue;
mod workers;

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tower::Service;
use tower_fanout_layers::{
    clock,
    config::{ConfigError, Validate},
};

#[cfg(feature = "tls")]
pub use self::tls::ServerTls;
pub use self::{
    config::ServerConfig,
    connections::{CloseReason, Connections},
    workers::Workers,
};
use self::{
    connection::Shared,
    stop::{LAST_REQUESTS, Stop},
};
pub use crate::forwarded::PeerAddr;
#[cfg(feature = "tls")]
pub use crate::tls_error::TlsErrorKind;

/// The outcome of a graceful shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownOutcome {
    /// All requests in flight were completed.
    Drained,
    /// Some requests were still in flight after [`ServerConfig::grace`], and were aborted.
    Aborted,
}

/// Binds a listener to `address` with a backlog of 4,096 connections, for bursts of new connections.
///
/// The backlog holds connections that the server has not accepted yet. Linux limits it to
/// `net.core.somaxconn`, which defaults to 4,096. tokio's `TcpListener::bind` requests 128. If the backlog
/// is full, the client's kernel repeats the connection attempt after about a second.
///
/// # Errors
/// Returns an error if the address is not available.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of an earlier process in TIME_WAIT must not prevent a restart.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4_096)
}

/// An HTTP server with a valid config.
#[derive(Clone, Debug, Default)]
pub struct Server {
    config: ServerConfig,
    /// Threads for the connections. `None` if the runtime of the server runs them.
    workers: Option<Arc<Workers>>,
}

impl Server {
    /// Creates a server.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is out of range.
    pub fn new(config: ServerConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            config: config.validated()?,
            workers: None,
        })
    }

    /// Serves each connection on one of `workers`. By default, the runtime that runs the server also runs its
    /// connections.
    #[must_use]
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = Some(Arc::new(workers));
        self
    }

    /// Serves `service` on `listener` until `stop` resolves, then waits for requests in flight.
    ///
    /// The server supports HTTP/1 and, by prior knowledge or ALPN, HTTP/2. The server adds a [`PeerAddr`]
    /// and a `Scheme` (of `http::uri`) to the extensions of each request. The service is cloned for each
    /// connection and each request.
    ///
    /// After `stop` resolves, the server accepts connections and requests for 50 ms more, so that it serves
    /// those that clients have sent before. Then it closes idle connections. It closes the others after their
    /// responses, which have `Connection: close` over HTTP/1, or after [`ServerConfig::grace`]. Dropping the
    /// future closes all connections at once.
    ///
    /// At [`ServerConfig::max_connections`] the server does not accept until a connection is
    /// closed. After an error of `accept`, such as a lack of file descriptors, it tries again after
    /// 100 ms.
    pub async fn serve<S, B>(
        self,
        listener: TcpListener,
        service: S,
        stop: impl Future<Output = ()>,
    ) -> ShutdownOutcome
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
        let Self { config, workers } = self;
        let grace = config.grace;
        let mut acceptor = Acceptor::new(listener, config.max_connections);
        let shared = Arc::new(Shared::new(config));
        let (stopping, stopped) = watch::channel(());
        let mut stop = pin!(async {
            stop.await;
            stopping.send_replace(());
            sleep(LAST_REQUESTS).await;
        });
        let mut connections = JoinSet::new();
        loop {
            let (socket, peer, permit) = tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = connections.join_next() => {
                    log_panic(ended);
                    continue;
                }
                accepted = acceptor.accept() => accepted,
            };
            let counted = shared.config.connections.accept();
            let (shared, service) = (Arc::clone(&shared), service.clone());
            let stopped = Stop::new(stopped.clone());
            let serve = move |socket| async move {
                // Called within the block, because a captured future would take its space twice.
                let mut serving = pin!(connection::serve(shared, service, socket, peer, stopped));
                // All layers of a request read the clock together.
                let reason = poll_fn(|cx| clock::share(|| serving.as_mut().poll(cx))).await;
                counted.close(reason);
                drop(permit);
            };
            match &workers {
                Some(workers) => workers.spawn(&mut connections, socket, serve),
                None => drop(connections.spawn(serve(socket))),
            }
        }
        drop(acceptor);
        drain(connections, grace.saturating_sub(LAST_REQUESTS)).await
    }
}

/// Waits at most `grace` for `connections` to end. Aborts those that have not.
async fn drain(mut connections: JoinSet<()>, grace: Duration) -> ShutdownOutcome {
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    match timeout(grace, drained).await {
        Ok(()) => ShutdownOutcome::Drained,
        // Dropping the `JoinSet` aborts the tasks, which closes their connections.
        Err(_) => ShutdownOutcome::Aborted,
    }
}

/// A log event that is repeated at most once per second.
#[derive(Debug)]
struct LimitedEvent {
    /// The event is not logged before this time.
    silent_until: Instant,
    /// Number of events that were not logged since the last one.
    skipped: u64,
}

impl LimitedEvent {
    fn new() -> Self {
        Self {
            silent_until: Instant::now(),
            skipped: 0,
        }
    }

    /// Returns the number of events that were not logged since the last one, or `None` if the event is not
    /// to be logged now.
    fn next(&mut self) -> Option<u64> {
        let now = Instant::now();
        if now < self.silent_until {
            self.skipped += 1;
            return None;
        }
        self.silent_until = now + Duration::from_secs(1);
        Some(std::mem::take(&mut self.skipped))
    }
}

/// Logs the panic of a connection's task, which can come only from the service.
fn log_panic(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("service panicked, connection closed");
    }
}

/// Accepts connections, up to a maximum number of open ones.
struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    failed: LimitedEvent,
}

impl Acceptor {
    fn new(listener: TcpListener, max: usize) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(max)),
            failed: LimitedEvent::new(),
        }
    }

    /// Waits for a permit and accepts the next connection.
    ///
    /// Errors of `accept`, such as a lack of file descriptors, are temporary. The acceptor tries
    /// again after 100 ms.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    // With Nagle's algorithm small responses may wait for an acknowledgement. After
                    // an error the connection is only slower.
                    let _ = socket.set_nodelay(true);
                    return (socket, peer, permit);
                }
                // The client closed the connection while it was in the backlog.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(skipped) = self.failed.next() {
                        tracing::warn!(%error, skipped, "failed to accept a connection");
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

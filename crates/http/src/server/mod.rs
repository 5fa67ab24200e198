//! An accept loop of our own, for any tower service or axum router: everything that a client can
//! hold is bounded, and stopping is graceful.
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
//! A connection that is slow, idle or not read from is closed in the time that [`ServerConfig`]
//! says; [`Connections`] counts how each ended. Only a body that comes slowly is up to who reads it:
//! [`read_body`](crate::body::read_body) takes a time.
//!
//! A request that is no HTTP at all never reaches the service. hyper answers 400, 414 or 431 without
//! a body and closes the connection. A request with both `Content-Length` and `Transfer-Encoding`
//! arrives without the former, and its connection is closed after the answer (RFC 9112 §6.3).
//! Trailers never become headers. A panic of the service ends its own connection, or its own stream
//! of HTTP/2, and nothing else.

mod activity;
mod config;
mod connection;
mod connections;
mod lingering_close;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod track_requests;

use std::{
    convert::Infallible, error::Error, future::Future, io, net::SocketAddr, sync::Arc,
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
use tower_fanout_layers::config::ConfigError;

use self::connection::Shared;
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsError};
pub use self::{
    config::ServerConfig,
    connections::{CloseReason, Connections},
};
use crate::bounds::valid;
pub use crate::forwarded::PeerAddr;

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownOutcome {
    /// All requests in flight were answered.
    Drained,
    /// Some were cut when the grace was over.
    Cut,
}

/// Listens on `address`, with a queue that survives a burst of new connections: 4,096, where
/// [`TcpListener::bind`] lets 128 wait and makes the next try again after a second.
///
/// # Errors
/// The address cannot be had.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // What a listener before this one left behind does not keep it from starting.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4_096)
}

/// A server with a valid config. It serves any tower service on any listener.
#[derive(Clone, Debug, Default)]
pub struct Server {
    config: ServerConfig,
}

impl Server {
    /// Creates a server.
    ///
    /// # Errors
    /// A value of `config` is out of its range.
    pub fn new(config: ServerConfig) -> Result<Self, ConfigError> {
        let config = valid(config)?;
        Ok(Self { config })
    }

    /// Serves `service` on `listener` until `stop` resolves, then lets requests in flight finish.
    ///
    /// HTTP/1 and, with prior knowledge or by ALPN, HTTP/2. Each request has a [`PeerAddr`] and an
    /// [`http::uri::Scheme`] in its extensions. After the stop no connection is accepted, idle ones are
    /// closed at once, and the others after their answer, or when the grace is over.
    ///
    /// Without file descriptors, or at the most connections, it waits for one to be closed.
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
        let Self { config } = self;
        let grace = config.grace;
        let mut acceptor = Acceptor::new(listener, config.max_connections);
        let http = config.protocols();
        let shared = Arc::new(Shared { config, http });
        let (stopping, stopped) = watch::channel(());
        let mut stop = std::pin::pin!(stop);
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
            let connection = connection::serve(shared, service, socket, peer, stopped.clone());
            connections.spawn(async move {
                counted.close(connection.await);
                drop(permit);
            });
        }
        drop(acceptor);
        stopping.send_replace(());
        drain(connections, grace).await
    }
}

/// Waits for `connections` to end, for at most `grace`.
async fn drain(mut connections: JoinSet<()>, grace: Duration) -> ShutdownOutcome {
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    match timeout(grace, drained).await {
        Ok(()) => ShutdownOutcome::Drained,
        // Dropping the tasks closes their connections.
        Err(_) => ShutdownOutcome::Cut,
    }
}

/// A service that panicked took its connection along.
fn log_panic(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a service panicked, and its connection was closed");
    }
}

/// Lets connections in, as long as there is room.
struct Acceptor {
    listener: TcpListener,
    room: Arc<Semaphore>,
    /// Nothing is said before.
    silent_until: Instant,
}

impl Acceptor {
    fn new(listener: TcpListener, max: usize) -> Self {
        Self {
            listener,
            room: Arc::new(Semaphore::new(max)),
            silent_until: Instant::now(),
        }
    }

    /// The next connection, when there is room for it. Errors of accepting, such as a lack of file
    /// descriptors, pass; it tries again after a moment.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    // Without it small answers may wait for an acknowledgement; with an error it is
                    // slower.
                    let _ = socket.set_nodelay(true);
                    return (socket, peer, permit);
                }
                // The client was gone before its turn.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.warn(&error);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// At most once a second.
    fn warn(&mut self, error: &io::Error) {
        let now = Instant::now();
        if now >= self.silent_until {
            self.silent_until = now + Duration::from_secs(1);
            tracing::warn!(%error, "no connection could be accepted");
        }
    }
}

#[cfg(test)]
mod tests;

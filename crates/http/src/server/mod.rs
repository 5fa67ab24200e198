//! An accept loop of our own: slow heads are cut, connections are capped, stopping is graceful.
//!
//! ```no_run
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::service_fn;
//! use tower_fanout_http::server::{ServerSettings, serve};
//!
//! # async fn run() -> std::io::Result<()> {
//! let hello = service_fn(|_: Request<hyper::body::Incoming>| async {
//!     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))))
//! });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! serve(listener, hello, ServerSettings::default(), stop).await;
//! # Ok(())
//! # }
//! ```

mod linger;

use std::{
    convert::Infallible, error::Error, future::Future, net::SocketAddr, sync::Arc, time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt};

use self::linger::Linger;

/// How connections are treated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerSettings {
    /// How long the head of a request may take to come, and how long a connection may be idle
    /// between two requests; 10 s by default.
    pub header_timeout: Duration,
    /// The largest head, in bytes, at least 8 KiB; 32 KiB by default.
    pub max_head: usize,
    /// The most headers in a request; 100 by default.
    pub max_headers: usize,
    /// The most connections at once; more wait to be accepted. 12,000 by default.
    pub max_connections: usize,
    /// How long requests in flight may go on after the stop; 30 s by default.
    pub grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            max_head: 32 << 10,
            max_headers: 100,
            max_connections: 12_000,
            grace: Duration::from_secs(30),
        }
    }
}

/// The address of the client, in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// All requests in flight were answered.
    Drained,
    /// Some were cut when the grace was over.
    Cut,
}

/// Serves `service` on `listener` until `stop` resolves, then lets requests in flight finish.
///
/// HTTP/1.1 and, with prior knowledge, HTTP/2. After the stop no connection is accepted, idle ones
/// are closed at once, and the others after their answer, or when the grace is over.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) -> Stopped
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
    let http = Arc::new(protocols(&settings));
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(settings.max_connections));
    let mut stop = std::pin::pin!(stop);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let service = service
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(peer));
                request
            });
        let connection = http.serve_connection(
            TokioIo::new(Linger::new(stream)),
            TowerToHyperService::new(service),
        );
        let connection = graceful.watch(connection.into_owned());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    match timeout(settings.grace, graceful.shutdown()).await {
        Ok(()) => Stopped::Drained,
        // Dropping the tasks closes their connections.
        Err(_) => Stopped::Cut,
    }
}

fn protocols(settings: &ServerSettings) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(settings.max_head.max(8 << 10))
        .max_headers(settings.max_headers);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(u32::try_from(settings.max_head).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20));
    http
}

/// The next connection, when there is room for it. Errors of accepting, such as a lack of file
/// descriptors, pass; it tries again after a moment.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it small answers may wait for an acknowledgement; with an error it is slower.
                let _ = stream.set_nodelay(true);
                return (stream, peer, permit);
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! A server on a loopback port that breaks its responses on purpose.
//!
//! The server writes raw bytes, so it can send what an HTTP library refuses to send. A [`Fault`]
//! describes the response to one request. The ready-made faults are failures that every client of a
//! downstream has to handle; [`Fault::send`] writes any other bytes. The features `tls` and `h2` add
//! the modules of the same names, with faults of TLS and HTTP/2.
//!
//! ```
//! use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};
//! use tower_fanout_testkit::fault_server::{Fault, FaultServer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = FaultServer::sequence([Fault::json("{}"), Fault::reset_in_body()]).await;
//!
//! let mut client = TcpStream::connect(server.addr()).await?;
//! client.write_all(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n").await?;
//! let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
//!
//! let stats = server.stats();
//! assert_eq!(stats.requests[1].path, "/2");
//! assert_eq!(stats.connections, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Choosing a fault
//!
//! | failure | constructor |
//! |---|---|
//! | The port refuses connections. | [`FaultServer::refusing`] |
//! | An idle pooled connection is closed or reset. | [`Fault::json`] with [`close`](Fault::close) or [`reset`](Fault::reset) |
//! | The server stalls before the response, in the head or in the body. | [`Fault::never_respond`], [`stall_in_head`](Fault::stall_in_head), [`stall_in_body`](Fault::stall_in_body) |
//! | The response is late, or arrives byte by byte. | [`Fault::after`], [`drip`](Fault::drip) |
//! | The connection is reset before the head, in the head or in the body. | [`Fault::reset_before_head`], [`reset_in_head`](Fault::reset_in_head), [`reset_in_body`](Fault::reset_in_body) |
//! | `content-length` is wrong. | [`Fault::length_too_long`], [`length_too_short`](Fault::length_too_short) |
//! | A second response follows. | [`Fault::extra_response`] |
//! | A chunk is invalid or truncated. | [`Fault::invalid_chunk_size`], [`truncated_chunk`](Fault::truncated_chunk) |
//! | The body is too long or endless. | [`Fault::json`], [`chunked`](Fault::chunked), [`endless_body`](Fault::endless_body) |
//! | The body ends with the connection, with or without a TLS `close_notify`. | [`Fault::until_close`], [`close_without_notify`](Fault::close_without_notify) |
//! | The body is deeply nested or does not match its content type. | [`Fault::deep_json`], [`invalid_json`](Fault::invalid_json), [`html`](Fault::html) |
//! | The head is too long. | [`Fault::huge_headers`] |
//! | Too many interim (1xx) responses arrive. | [`Fault::informational`] |
//! | The status redirects or reports an error. | [`Fault::redirect`], [`response`](Fault::response) |
//! | Anything else. | [`Fault::new`] with [`send`](Fault::send), [`send_forever`](Fault::send_forever), [`pause`](Fault::pause) and an end such as [`reset`](Fault::reset) |
//!
//! # Behavior
//!
//! - **Keep-alive.** After a response that breaks nothing, the connection stays open for the next
//!   request, unless the request has `connection: close` or is HTTP/1.0.
//! - **Request bodies.** The server reads bodies by `content-length` only. After a request with
//!   `transfer-encoding` it closes the connection.
//! - **Time.** Pauses use tokio's clock. A paused clock skips a pause as soon as no task has other
//!   work, even if bytes are still in flight on a socket. Use a running clock unless your test
//!   expects this.

mod connection;
mod fault;
#[cfg(feature = "h2")]
pub mod h2;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
pub mod tls;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

pub use self::fault::Fault;

/// A running fault server. Dropping it stops the server and all its connections.
///
/// See the [module documentation](self) for an example.
#[derive(Debug)]
pub struct FaultServer {
    origin: &'static str,
    addr: SocketAddr,
    stats: watch::Sender<ServerStats>,
    _serving: JoinSet<()>,
    _refusing: Option<TcpSocket>,
}

/// A request as the server received it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The method as sent.
    pub method: String,
    /// The request target as sent: path and query.
    pub path: String,
    /// The headers in the order they were sent. Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, of the length in `content-length`.
    pub body: Vec<u8>,
}

impl Request {
    /// Returns the value of the first header `name`, or `None` if the request does not have one.
    ///
    /// Pass `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }
}

/// A snapshot of the requests and counters of a server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Number of accepted connections.
    pub connections: usize,
    /// The complete requests in the order they were received.
    pub requests: Vec<Request>,
    /// Number of requests that are being responded to now.
    pub in_flight: usize,
    /// Largest number of requests that were in flight at once.
    pub peak_in_flight: usize,
    /// Number of responses during which the peer closed the connection or its sending half.
    pub cancelled: usize,
    /// Number of TLS handshakes that failed.
    pub failed_handshakes: usize,
}

impl FaultServer {
    /// Starts a server that responds to every request with `fault`.
    ///
    /// # Panics
    ///
    /// Panics if no loopback port is free.
    pub async fn start(fault: Fault) -> Self {
        Self::from_fn(move |_| fault.clone()).await
    }

    /// Starts a server that responds to the first request with the first fault, to the second with the
    /// second, and so on. The last fault repeats.
    ///
    /// Requests of all connections count together.
    ///
    /// # Panics
    ///
    /// Panics if `faults` is empty or no loopback port is free.
    pub async fn sequence(faults: impl IntoIterator<Item = Fault>) -> Self {
        let next = repeat_last(faults.into_iter().collect());
        Self::from_fn(move |_| next()).await
    }

    /// Starts a server that responds to each request with the fault that `route` returns.
    ///
    /// ```
    /// use tower_fanout_testkit::fault_server::{Fault, FaultServer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let server = FaultServer::from_fn(|request| match request.path.as_str() {
    ///     "/health" => Fault::json("{}"),
    ///     _ => Fault::never_respond(),
    /// })
    /// .await;
    /// assert!(server.url().starts_with("http://127.0.0.1:"));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if no loopback port is free. A panic in `route` ends its connection only.
    pub async fn from_fn(route: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> Self {
        let route = Arc::new(route);
        Self::listen(HTTP, move |stream, stats| {
            let route = Arc::clone(&route);
            async move { connection::serve(stream, |request| route(request), stats).await }
        })
        .await
    }

    /// Starts a server that passes each connection to `serve`.
    async fn listen<F>(
        origin: &'static str,
        serve: impl Fn(TcpStream, watch::Sender<ServerStats>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(LOOPBACK).await.expect(FREE_PORT);
        let addr = listener.local_addr().expect(BOUND);
        let stats = watch::Sender::default();
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, serve, stats.clone()));
        Self {
            origin,
            addr,
            stats,
            _serving: serving,
            _refusing: None,
        }
    }

    /// Reserves a port that refuses connections. No other socket can bind the port until the returned
    /// value is dropped.
    ///
    /// # Panics
    ///
    /// Panics if no loopback port is free.
    #[must_use]
    pub fn refusing() -> Self {
        let socket = TcpSocket::new_v4().expect("the system must allow another IPv4 socket");
        socket.bind(LOOPBACK).expect(FREE_PORT); // without `listen`, the kernel refuses connections
        Self {
            origin: HTTP,
            addr: socket.local_addr().expect(BOUND),
            stats: watch::Sender::default(),
            _serving: JoinSet::new(),
            _refusing: Some(socket),
        }
    }

    /// Returns the socket address of the server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the base URL without a trailing slash: `http://127.0.0.1:{port}`, or
    /// `https://localhost:{port}` for a server with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}:{}", self.origin, self.addr.port())
    }

    /// Returns a snapshot of the requests and counters up to now.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.stats.borrow().clone()
    }

    /// Waits until `condition` returns `true`, and returns the snapshot it accepted.
    ///
    /// Use this for effects that reach the server later, such as a cancellation. The wait has no time
    /// limit. Wrap it in [`tokio::time::timeout`] if the condition may never hold.
    pub async fn wait_for(&self, condition: impl FnMut(&ServerStats) -> bool) -> ServerStats {
        let mut stats = self.stats.subscribe();
        let stats = stats
            .wait_for(condition)
            .await
            .expect("`self` keeps the sender alive");
        stats.clone()
    }
}

const HTTP: &str = "http://127.0.0.1";
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const FREE_PORT: &str = "a loopback port must be free";
const BOUND: &str = "a bound socket has an address";

/// Returns a function that yields the items of `script` in order and then repeats the last.
fn repeat_last<T: Clone>(script: Vec<T>) -> impl Fn() -> T {
    let last = script.len().checked_sub(1);
    let last = last.expect("the script must have at least one fault, found none");
    let next = AtomicUsize::new(0);
    move || script[next.fetch_add(1, Relaxed).min(last)].clone()
}

/// Accepts connections until it is dropped, which ends its connections too.
async fn accept<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream, watch::Sender<ServerStats>) -> F,
    stats: watch::Sender<ServerStats>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok(); // sends each byte of `Fault::drip` at once
        stats.send_modify(|stats| stats.connections += 1);
        connections.spawn(serve(stream, stats.clone()));
    }
}

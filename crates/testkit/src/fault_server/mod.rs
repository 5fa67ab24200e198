//! A server on a loopback port that breaks its responses on purpose.
//!
//! The server writes raw bytes, so it can send what an HTTP library refuses to send. A [`Fault`]
//! describes the response to one request, and a [`ConnectionScript`] describes one connection. Each
//! ready-made fault is a failure that was observed in a real downstream. The features `tls` and `h2`
//! add the modules of the same names, with faults of TLS and HTTP/2.
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
//! | A connection is accepted and then reset, closed or silent. | [`ConnectionScript::reset`], [`close`](ConnectionScript::close), [`stall`](ConnectionScript::stall) |
//! | The server sends bytes before any request. | [`ConnectionScript::garbage`], [`early_response`](ConnectionScript::early_response), [`before_request`](ConnectionScript::before_request) |
//! | An idle pooled connection is closed or reset. | [`ConnectionScript::close_after`], [`Fault::close_after_response`], [`reset_after_response`](Fault::reset_after_response) |
//! | A pooled connection breaks at the next request. | [`ConnectionScript::new`] with [`Fault::reset_before_head`] or [`close_before_head`](Fault::close_before_head) as its second fault |
//! | The server stalls before the response, in the head or in the body. | [`Fault::never_respond`], [`stall_in_head`](Fault::stall_in_head), [`stall_in_body`](Fault::stall_in_body) |
//! | The response is late, or arrives byte by byte. | [`Fault::after`], [`drip`](Fault::drip) |
//! | The connection is reset before the head, in the head or in the body. | [`Fault::reset_before_head`], [`reset_in_head`](Fault::reset_in_head), [`reset_in_body`](Fault::reset_in_body) |
//! | `content-length` is wrong. | [`Fault::length_too_long`], [`length_too_short`](Fault::length_too_short), [`negative_length`](Fault::negative_length) |
//! | The body length is ambiguous. | [`Fault::duplicate_length`], [`length_and_chunked`](Fault::length_and_chunked) |
//! | A second response follows. | [`Fault::extra_response`] |
//! | A chunk is invalid or truncated. | [`Fault::invalid_chunk_size`], [`truncated_chunk`](Fault::truncated_chunk) |
//! | Chunk extensions or trailers are excessive. | [`Fault::chunk_extension_flood`], [`trailers_flood`](Fault::trailers_flood) |
//! | A response that must not have a body has one. | [`Fault::no_content_with_body`], [`reset_content_with_body`](Fault::reset_content_with_body), [`not_modified_with_body`](Fault::not_modified_with_body) |
//! | The body is too long or endless. | [`Fault::json`], [`chunked`](Fault::chunked), [`endless_body`](Fault::endless_body) |
//! | The body ends with the connection, with or without a TLS `close_notify`. | [`Fault::until_close`], [`close_without_notify`](Fault::close_without_notify) |
//! | The body is a decompression bomb or deeply nested. | [`Fault::gzip_bomb`], [`deep_json`](Fault::deep_json) |
//! | The body does not match its content type. | [`Fault::invalid_json`], [`html`](Fault::html) |
//! | The head is too long or endless. | [`Fault::huge_headers`], [`big_header`](Fault::big_header), [`set_cookie_flood`](Fault::set_cookie_flood), [`endless_head`](Fault::endless_head) |
//! | Too many interim (1xx) responses arrive. | [`Fault::informational`], [`interim`](Fault::interim), [`endless_interim`](Fault::endless_interim) |
//! | The head is not valid HTTP/1.1. | [`Fault::http09`], [`bad_status_line`](Fault::bad_status_line), [`bare_lf`](Fault::bare_lf), [`obs_fold`](Fault::obs_fold) |
//! | The status redirects, switches protocols or reports an error. | [`Fault::redirect`], [`switching_protocols`](Fault::switching_protocols), [`response`](Fault::response) |
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
mod connection_script;
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

pub use self::{connection_script::ConnectionScript, fault::Fault};

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
    /// Requests of all connections count together. Use [`connections`](Self::connections) for a
    /// sequence per connection.
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

    /// Starts a server that serves the first connection as the first script says, the second as the
    /// second, and so on. The last script repeats.
    ///
    /// See [`ConnectionScript`] for an example.
    ///
    /// # Panics
    ///
    /// Panics if `scripts` is empty or no loopback port is free.
    pub async fn connections(scripts: impl IntoIterator<Item = ConnectionScript>) -> Self {
        let next = repeat_last(scripts.into_iter().collect());
        Self::listen(HTTP, move |stream, stats| {
            connection::serve_script(stream, next(), stats)
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
const EMPTY_SCRIPT: &str = "the script must have at least one fault, found none";

/// Returns a function that yields the items of `script` in order and then repeats the last.
fn repeat_last<T: Clone>(script: Vec<T>) -> impl Fn() -> T {
    let last = script.len().checked_sub(1).expect(EMPTY_SCRIPT);
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

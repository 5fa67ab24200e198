//! Serves HTTP on a loopback port and breaks its answers on purpose.
//!
//! It writes raw bytes, so it can break what an HTTP library would not let it break. A [`Fault`] is
//! what it does with one request, and a [`Connection`] what it does with one connection; there is one
//! for each way we have seen a downstream fail. The features `tls` and `h2` bring the modules of
//! these names, which do the same for TLS and HTTP/2.
//!
//! ```
//! use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};
//! use tower_fanout_testkit::fault_server::{Fault, FaultServer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = FaultServer::script([Fault::json("{}"), Fault::reset_in_body()]).await;
//!
//! let mut client = TcpStream::connect(server.addr()).await?;
//! client.write_all(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n").await?;
//! let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
//!
//! let seen = server.seen();
//! assert_eq!(seen.requests[1].path, "/2");
//! assert_eq!(seen.connections, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Which fault to choose
//!
//! | what goes wrong | how |
//! |---|---|
//! | the port refuses connections | [`FaultServer::refusing`] |
//! | a connection is accepted, and reset, closed or silent | [`Connection::refuse`], [`close`](Connection::close), [`stall`](Connection::stall) |
//! | something comes before any request | [`Connection::garbage`], [`early_answer`](Connection::early_answer), [`at_once`](Connection::at_once) |
//! | a pooled connection is closed, or reset, while it is idle | [`Connection::close_after`], [`Fault::close_after_answer`], [`reset_after_answer`](Fault::reset_after_answer) |
//! | a pooled connection breaks at the next request | [`Connection::new`] with [`Fault::reset_before_head`] or [`close_before_head`](Fault::close_before_head) as the second |
//! | no answer, a part of the head, a part of the body, and then silence | [`Fault::never_answer`], [`stall_in_head`](Fault::stall_in_head), [`stall_in_body`](Fault::stall_in_body) |
//! | the answer is late, or a byte at a time | [`Fault::after`], [`drip`](Fault::drip) |
//! | the connection is reset before, in or after the head | [`Fault::reset_before_head`], [`reset_in_head`](Fault::reset_in_head), [`reset_in_body`](Fault::reset_in_body) |
//! | the length is wrong | [`Fault::length_too_long`], [`length_too_short`](Fault::length_too_short), [`negative_length`](Fault::negative_length) |
//! | the length is ambiguous | [`Fault::duplicate_length`], [`length_and_chunked`](Fault::length_and_chunked) |
//! | there is a second answer | [`Fault::extra_answer`] |
//! | chunks are wrong or cut | [`Fault::bad_chunk`], [`cut_chunk`](Fault::cut_chunk) |
//! | chunks carry too much besides | [`Fault::chunk_extension_flood`], [`trailers_flood`](Fault::trailers_flood) |
//! | a body where there must be none | [`Fault::no_content`], [`reset_content`](Fault::reset_content), [`not_modified`](Fault::not_modified) |
//! | the body is too long, or has no end | [`Fault::json`], [`chunked`](Fault::chunked), [`endless_body`](Fault::endless_body) |
//! | the body ends with the connection, or is cut within TLS | [`Fault::until_close`], [`cut`](Fault::cut) |
//! | the body is a bomb | [`Fault::bomb_gzip`], [`deep_json`](Fault::deep_json) |
//! | the body is not what it says | [`Fault::invalid_json`], [`html`](Fault::html) |
//! | the head is too long, or has no end | [`Fault::huge_headers`], [`big_header`](Fault::big_header), [`set_cookie_flood`](Fault::set_cookie_flood), [`endless_head`](Fault::endless_head) |
//! | a storm of interim answers | [`Fault::informational`], [`interim`](Fault::interim), [`endless_interim`](Fault::endless_interim) |
//! | the head is not of HTTP/1.1 | [`Fault::http09`], [`bad_status_line`](Fault::bad_status_line), [`bare_lf`](Fault::bare_lf), [`obs_fold`](Fault::obs_fold) |
//! | the status leads elsewhere | [`Fault::redirect`], [`switching_protocols`](Fault::switching_protocols), [`answer`](Fault::answer) |
//! | anything else | [`Fault::new`], with [`send`](Fault::send), [`send_forever`](Fault::send_forever), [`pause`](Fault::pause) and an end |
//!
//! # How it behaves
//!
//! A normal answer keeps the connection open for the next request, unless the request says
//! `connection: close` or is of HTTP/1.0. The server reads bodies by `content-length` only; after a
//! request with `transfer-encoding` it closes the connection. Pauses are tokio's; a paused clock
//! jumps over them as soon as no task has anything else to do, also while bytes are on their way.

mod connection;
mod fault;
#[cfg(feature = "h2")]
pub mod h2;
mod script;
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

pub use self::{fault::Fault, script::Connection};

/// A running server; it stops, with all its connections, when it is dropped.
///
/// See the [module](self) for an example.
#[derive(Debug)]
pub struct FaultServer {
    origin: &'static str,
    addr: SocketAddr,
    seen: watch::Sender<Seen>,
    _serving: JoinSet<()>,
    _refusing: Option<TcpSocket>,
}

/// A request that the server received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The method, as sent.
    pub method: String,
    /// The request target, as sent: path and query.
    pub path: String,
    /// Names in lower case and values, in the order they were sent.
    pub headers: Vec<(String, String)>,
    /// As many bytes as `content-length` says.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of the first header called `name`, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(value)
    }
}

/// What the server saw up to now.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// Connections that were accepted.
    pub connections: usize,
    /// Requests in the order they were received whole.
    pub requests: Vec<Request>,
    /// Requests that are being answered now.
    pub in_flight: usize,
    /// The most requests that were ever answered at once.
    pub peak_in_flight: usize,
    /// Answers during which the peer closed the connection, or its half of it.
    pub cancelled: usize,
    /// Handshakes of TLS that are over and failed.
    pub failed_handshakes: usize,
}

impl FaultServer {
    /// A server that does `fault` with every request.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port on the loopback.
    pub async fn start(fault: Fault) -> Self {
        Self::with(move |_| fault.clone()).await
    }

    /// A server that does the next of `faults` with each request, over all connections, and repeats
    /// the last.
    ///
    /// # Panics
    ///
    /// Panics if there is no fault, or no free port.
    pub async fn script(faults: impl IntoIterator<Item = Fault>) -> Self {
        let next = in_turn(faults.into_iter().collect());
        Self::with(move |_| next()).await
    }

    /// A server that does with each request what `route` says.
    ///
    /// ```
    /// use tower_fanout_testkit::fault_server::{Fault, FaultServer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let server = FaultServer::with(|request| match request.path.as_str() {
    ///     "/health" => Fault::json("{}"),
    ///     _ => Fault::never_answer(),
    /// })
    /// .await;
    /// assert!(server.url().starts_with("http://127.0.0.1:"));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if there is no free port. If `route` panics, its connection ends.
    pub async fn with(route: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> Self {
        let route = Arc::new(route);
        Self::listen(HTTP, move |stream, seen| {
            let route = Arc::clone(&route);
            async move { connection::serve(stream, |request| route(request), seen).await }
        })
        .await
    }

    /// A server that does with each connection what the next of `scripts` says, and repeats the last
    /// script.
    ///
    /// See [`Connection`] for an example.
    ///
    /// # Panics
    ///
    /// Panics if there is no script, or no free port.
    pub async fn connections(scripts: impl IntoIterator<Item = Connection>) -> Self {
        let next = in_turn(scripts.into_iter().collect());
        Self::listen(HTTP, move |stream, seen| {
            connection::serve_script(stream, next(), seen)
        })
        .await
    }

    /// A server that does with each connection what `serve` says.
    async fn listen<F>(
        origin: &'static str,
        serve: impl Fn(TcpStream, watch::Sender<Seen>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(LOOPBACK).await.expect(FREE_PORT);
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let seen = watch::Sender::default();
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, serve, seen.clone()));
        Self {
            origin,
            addr,
            seen,
            _serving: serving,
            _refusing: None,
        }
    }

    /// A server whose port refuses connections, and is nobody else's as long as this lives.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port.
    #[must_use]
    pub fn refusing() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(LOOPBACK).expect(FREE_PORT); // bound, but never listening
        Self {
            origin: HTTP,
            addr: socket.local_addr().expect("a bound socket has an address"),
            seen: watch::Sender::default(),
            _serving: JoinSet::new(),
            _refusing: Some(socket),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its base URL without a slash at the end: `http://127.0.0.1:port`, or with TLS
    /// `https://localhost:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}:{}", self.origin, self.addr.port())
    }

    /// What it saw up to now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what it saw is as `wanted`: that a cancellation reached it, say.
    pub async fn wait_for(&self, wanted: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let seen = seen.wait_for(wanted).await.expect("the sender is here");
        seen.clone()
    }
}

const HTTP: &str = "http://127.0.0.1";
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const FREE_PORT: &str = "a free port on the loopback";

/// The next of `script` at each call, and then the last again and again.
fn in_turn<T: Clone>(script: Vec<T>) -> impl Fn() -> T {
    let last = script.len().checked_sub(1).expect("a script has a fault");
    let next = AtomicUsize::new(0);
    move || script[next.fetch_add(1, Relaxed).min(last)].clone()
}

/// Its connections end with it.
async fn accept<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream, watch::Sender<Seen>) -> F,
    seen: watch::Sender<Seen>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok(); // a dripped byte travels at once
        seen.send_modify(|seen| seen.connections += 1);
        connections.spawn(serve(stream, seen.clone()));
    }
}

//! Serves HTTP/1.1 on a loopback port and breaks its answers on purpose.
//!
//! It writes raw bytes, so it can break what an HTTP library would not let it break. A [`Fault`] is
//! what it does with one request; there is one for each way we have seen a downstream fail.
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
//! A normal answer keeps the connection open for the next request, unless the request says
//! `connection: close` or is of HTTP/1.0. The server reads bodies by `content-length` only; after a
//! request with `transfer-encoding` it closes the connection. Pauses are tokio's; a paused clock
//! jumps over them as soon as no task has anything else to do, also while bytes are on their way.

mod connection;
mod fault;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
};

pub use self::fault::Fault;

type Route = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

/// A running server; it stops, with all its connections, when it is dropped.
///
/// See the [module](self) for an example.
#[derive(Debug)]
pub struct FaultServer {
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
        let faults: Vec<Fault> = faults.into_iter().collect();
        let last = faults.len().checked_sub(1).expect("a script has a fault");
        let next = AtomicUsize::new(0);
        Self::with(move |_| faults[next.fetch_add(1, Relaxed).min(last)].clone()).await
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
        let listener = TcpListener::bind(LOOPBACK).await.expect(FREE_PORT);
        let seen = watch::Sender::default();
        let mut serving = JoinSet::new();
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        serving.spawn(accept(listener, Arc::new(route), seen.clone()));
        Self {
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

    /// Its base URL, `http://127.0.0.1:port`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
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

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const FREE_PORT: &str = "a free port on the loopback";

/// Its connections end with it.
async fn accept(listener: TcpListener, route: Route, seen: watch::Sender<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        seen.send_modify(|seen| seen.connections += 1);
        connections.spawn(connection::serve(stream, Arc::clone(&route), seen.clone()));
    }
}

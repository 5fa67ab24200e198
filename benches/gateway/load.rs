//! A client that sends the same request again and again.

use std::{cell::Cell, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    time::{Instant, sleep},
};

type Connection = SendRequest<Empty<Bytes>>;

/// Open connections to a candidate, and the request that all of them send.
pub(crate) struct Load<'r> {
    runtime: &'r Runtime,
    request: Request<Empty<Bytes>>,
    connections: Vec<Connection>,
}

impl<'r> Load<'r> {
    /// Opens `connections` connections.
    pub(crate) fn new(
        runtime: &'r Runtime,
        address: SocketAddr,
        path: &str,
        token: Option<&str>,
        connections: usize,
    ) -> Self {
        let mut request = Request::get(path).header(header::HOST, address.to_string());
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let connections = (0..connections).map(|_| connect(address));
        Self {
            runtime,
            request: request.body(Empty::new()).expect("the request is valid"),
            connections: runtime.block_on(join_all(connections)),
        }
    }

    /// Sends `requests` requests on the first connection, one after the other. Returns the last response.
    pub(crate) fn send(&mut self, requests: usize) -> Bytes {
        let (connection, request) = (&mut self.connections[0], &self.request);
        self.runtime.block_on(async {
            let mut last = Bytes::new();
            for _ in 0..requests {
                last = ask(connection, request).await;
            }
            last
        })
    }

    /// Sends requests on all connections, each after the response of the one before, until `time` is over. Returns
    /// the latencies, from the shortest to the longest.
    pub(crate) fn run(&mut self, time: Duration) -> Vec<Duration> {
        let (request, end) = (&self.request, Instant::now() + time);
        let each = self.connections.iter_mut().map(async |connection| {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                ask(connection, request).await;
                latencies.push(start.elapsed());
            }
            latencies
        });
        let mut latencies = self.runtime.block_on(join_all(each)).concat();
        latencies.sort_unstable();
        latencies
    }

    /// Sends a request on each connection. Calls `sample` every 20 ms until the first response, and returns the last
    /// value.
    pub(crate) fn hold<T>(&mut self, mut sample: impl FnMut() -> T) -> T {
        let (request, responded) = (&self.request, Cell::new(false));
        let each = self.connections.iter_mut().map(async |connection| {
            ask(connection, request).await;
            responded.set(true);
        });
        let samples = async {
            let mut last = sample();
            loop {
                sleep(Duration::from_millis(20)).await;
                if responded.get() {
                    return last;
                }
                last = sample();
            }
        };
        self.runtime.block_on(join(join_all(each), samples)).1
    }
}

async fn connect(address: SocketAddr) -> Connection {
    let stream = TcpStream::connect(address).await;
    let stream = stream.expect("the candidate accepts connections");
    stream.set_nodelay(true).expect("the stream is a socket");
    let connection = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = connection.expect("the connection is open");
    tokio::spawn(connection);
    sender
}

/// Sends a request and returns the body of its response.
async fn ask(connection: &mut Connection, request: &Request<Empty<Bytes>>) -> Bytes {
    connection.ready().await.expect("the connection is open");
    let response = connection.send_request(request.clone()).await;
    let response = response.expect("the candidate responds");
    let status = response.status();
    let body = response.into_body().collect().await;
    let body = body.expect("the body is whole").to_bytes();
    assert_eq!(status, 200, "{}: {body:?}", request.uri());
    body
}

//! Tests of the server over real sockets.

mod framing;
mod parking;
mod stop;
mod times;
#[cfg(feature = "tls")]
mod tls;
mod workers;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tower::service_fn;

use super::*;

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<ShutdownOutcome>,
    /// Releases one response.
    respond: Arc<Notify>,
    /// Notified when a request has arrived.
    requested: Arc<Notify>,
}

/// Starts a server that responds to each request when `Running::respond` is notified.
async fn start(edit: impl FnOnce(&mut ServerConfig)) -> Running {
    let mut config = ServerConfig::default();
    edit(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (respond, requested) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (release, notify_request) = (Arc::clone(&respond), Arc::clone(&requested));
    let service = service_fn(move |request: Request<Incoming>| {
        let (release, notify_request) = (Arc::clone(&release), Arc::clone(&notify_request));
        async move {
            assert!(request.extensions().get::<PeerAddr>().is_some());
            notify_request.notify_one();
            release.notified().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
        }
    });
    let (stop, stopped) = oneshot::channel();
    let stopped = async { drop(stopped.await) };
    let served = tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, stopped),
    );
    Running {
        addr,
        stop,
        served,
        respond,
        requested,
    }
}

async fn send_request(stream: &mut TcpStream) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
}

/// Reads everything until the server closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset ends the connection too.
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn fault_k2_completes_requests_in_flight_after_the_stop() {
    let server = start(|_| {}).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut stream).await;
    server.requested.notified().await;
    server.stop.send(()).unwrap();
    server.respond.notify_one();
    let response = rest(stream).await;
    assert!(
        response.starts_with("HTTP/1.1 200") && response.ends_with("hello"),
        "{response}"
    );
    assert!(response.contains("connection: close"), "{response}");
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Drained);
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn fault_k1_closes_idle_connections_at_the_stop() {
    let server = start(|_| {}).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut stream).await;
    server.respond.notify_one();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    server.stop.send(()).unwrap();
    rest(stream).await;
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Drained);
}

#[tokio::test]
async fn fault_k3_k4_aborts_requests_in_flight_after_the_grace() {
    let server = start(|config| config.grace = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut stream).await;
    server.requested.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Aborted);
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn fault_d1_closes_a_connection_whose_head_does_not_arrive() {
    let server = start(|config| config.header_timeout = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    rest(stream).await;
}

#[tokio::test]
async fn fault_d5_connections_above_the_maximum_wait() {
    let server = start(|config| config.max_connections = 1).await;
    let first = TcpStream::connect(server.addr).await.unwrap();
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut second).await;
    server.respond.notify_one();
    let requested =
        tokio::time::timeout(Duration::from_millis(50), server.requested.notified()).await;
    assert!(
        requested.is_err(),
        "the second connection was served while the first was open"
    );
    drop(first);
    let mut head = [0; 12];
    second.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[tokio::test]
async fn fault_d6_responds_431_to_a_head_above_the_limits() {
    let server = start(|_| {}).await;
    for headers in [
        "a: b\r\n".repeat(200),
        format!("a: {}\r\n", "b".repeat(40_000)),
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        // The server may respond and close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 431");
    }
}

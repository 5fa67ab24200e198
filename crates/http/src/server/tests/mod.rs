//! The accept loop over real sockets.

mod framing;
mod times;
#[cfg(feature = "tls")]
mod tls;

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
    /// Lets one answer out.
    answer: Arc<Notify>,
    /// A request has come.
    asked: Arc<Notify>,
}

/// A server that answers each request when it is told to.
async fn start(edit: impl FnOnce(&mut ServerConfig)) -> Running {
    let mut config = ServerConfig::default();
    edit(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (answer, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (let_out, tell) = (Arc::clone(&answer), Arc::clone(&asked));
    let service = service_fn(move |request: Request<Incoming>| {
        let (let_out, tell) = (Arc::clone(&let_out), Arc::clone(&tell));
        async move {
            assert!(request.extensions().get::<PeerAddr>().is_some());
            tell.notify_one();
            let_out.notified().await;
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
        answer,
        asked,
    }
}

async fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
}

/// Everything until the server closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset is an end too.
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn fault_k2_requests_in_flight_are_answered_after_the_stop() {
    let server = start(|_| {}).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut stream).await;
    server.asked.notified().await;
    server.stop.send(()).unwrap();
    server.answer.notify_one();
    let answer = rest(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
        "{answer}"
    );
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Drained);
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn fault_k1_idle_connections_are_closed_at_the_stop() {
    let server = start(|_| {}).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut stream).await;
    server.answer.notify_one();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    server.stop.send(()).unwrap();
    rest(stream).await;
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Drained);
}

#[tokio::test]
async fn fault_k3_k4_what_is_in_flight_after_the_grace_is_cut() {
    let server = start(|config| config.grace = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut stream).await;
    server.asked.notified().await;
    server.stop.send(()).unwrap();
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Cut);
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn fault_d1_a_head_that_does_not_come_closes_the_connection() {
    let server = start(|config| config.header_timeout = Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    rest(stream).await;
}

#[tokio::test]
async fn fault_d5_a_connection_over_the_cap_waits_for_its_turn() {
    let server = start(|config| config.max_connections = 1).await;
    let first = TcpStream::connect(server.addr).await.unwrap();
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut second).await;
    server.answer.notify_one();
    let asked = tokio::time::timeout(Duration::from_millis(50), server.asked.notified()).await;
    assert!(asked.is_err(), "it was served beside the first");
    drop(first);
    let mut head = [0; 12];
    second.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

#[tokio::test]
async fn fault_d6_a_head_over_the_limits_is_431() {
    let server = start(|_| {}).await;
    for headers in [
        "a: b\r\n".repeat(200),
        format!("a: {}\r\n", "b".repeat(40_000)),
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 431");
    }
}

//! What takes too long, over real sockets: the times themselves are tested on a paused clock.

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::body::{BodyLimitConfig, read_body};

const SHORT: Duration = Duration::from_millis(50);

/// A server whose answers are too large for any socket's buffers, and its counts.
async fn large(edit: impl FnOnce(&mut ServerConfig)) -> (SocketAddr, Connections) {
    let mut config = ServerConfig::default();
    edit(&mut config);
    let connections = config.connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Bytes::from(vec![b'x'; 32 << 20]);
    let service = service_fn(move |_: Request<Incoming>| {
        let answer = answer.clone();
        async { Ok::<_, Infallible>(Response::new(Full::new(answer))) }
    });
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    (addr, connections)
}

/// Waits until this many connections are closed for this reason.
async fn until(connections: &Connections, reason: CloseReason, count: u64) {
    let closed = async {
        while connections.closed(reason) < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), closed)
        .await
        .unwrap_or_else(|_| panic!("{connections:?}"));
    assert_eq!(connections.open(), 0);
}

/// A client of HTTP/2 whose windows are this large.
async fn h2(
    addr: SocketAddr,
    window: u32,
) -> hyper::client::conn::http2::SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://x/").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn fault_d1_neither_silence_nor_half_a_preface_holds_a_connection() {
    let (addr, connections) = large(|config| config.header_timeout = SHORT).await;
    for (count, bytes) in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET / HT"]
        .iter()
        .enumerate()
    {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        rest(stream).await;
        until(&connections, CloseReason::Slow, count as u64 + 1).await;
    }
}

#[tokio::test]
async fn fault_d1_a_second_head_that_does_not_come_closes_the_connection() {
    let server = start(|config| config.header_timeout = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut stream).await;
    server.answer.notify_one();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let answer = timeout(Duration::from_secs(5), rest(stream)).await;
    assert!(answer.unwrap().ends_with("hello"));
}

#[tokio::test]
async fn fault_d2_the_connection_of_a_body_that_does_not_come_is_closed_after_its_408() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let limits = BodyLimitConfig {
            timeout: SHORT,
            ..BodyLimitConfig::default()
        };
        let read = read_body(&head.headers, body, &limits).await;
        let problem = crate::problem::Problem::from(read.unwrap_err());
        Ok::<_, Infallible>(problem.into_response::<Full<Bytes>>(None))
    });
    let config = ServerConfig::default();
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello";
    stream.write_all(request).await.unwrap();
    let answer = timeout(Duration::from_secs(5), rest(stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn fault_d3_a_client_that_does_not_read_is_cut() {
    let (addr, connections) = large(|config| config.write_timeout = SHORT).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    ask(&mut stream).await;
    until(&connections, CloseReason::Stalled, 1).await;
    assert!(rest(stream).await.len() < 32 << 20);
}

#[tokio::test]
async fn fault_d3_a_client_whose_window_stays_shut_is_cut() {
    let (addr, connections) = large(|config| config.write_timeout = SHORT).await;
    let mut client = h2(addr, 0).await;
    let response = client.send_request(get()).await.unwrap();
    until(&connections, CloseReason::Stalled, 1).await;
    drop(response);
}

#[tokio::test]
async fn fault_d4_an_idle_connection_is_closed_and_counted() {
    let mut counted = Connections::default();
    let server = start(|config| {
        config.idle_timeout = SHORT;
        counted = config.connections.clone();
    })
    .await;
    server.answer.notify_one();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut stream).await;
    assert!(rest(stream).await.ends_with("hello"));
    until(&counted, CloseReason::Idle, 1).await;

    server.answer.notify_one();
    let mut client = h2(server.addr, 1 << 20).await;
    client.send_request(get()).await.unwrap();
    until(&counted, CloseReason::Idle, 2).await;
    assert!(client.ready().await.is_err(), "it was told to go");
}

#[tokio::test]
async fn an_old_connection_is_closed_after_its_answer() {
    let server = start(|config| config.max_age = Some(SHORT)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    ask(&mut stream).await;
    server.asked.notified().await;
    tokio::time::sleep(2 * SHORT).await;
    server.answer.notify_one();
    let answer = rest(stream).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("hello"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_panic_of_the_service_ends_its_own_connection_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = ServerConfig::default();
    let connections = config.connections.clone();
    let service = service_fn(async |request: Request<Incoming>| {
        assert!(request.uri().path() != "/panic", "it was asked to");
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    });
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(rest(stream).await, "");
    until(&connections, CloseReason::Error, 1).await;

    let mut client = h2(addr, 1 << 20).await;
    let panic = Request::get("http://x/panic").body(Empty::new()).unwrap();
    assert!(client.send_request(panic).await.is_err());
    let response = client.send_request(get()).await.unwrap();
    assert_eq!(response.status(), 200, "the other streams go on");
}

#[tokio::test]
async fn fault_d1_d4_what_came_of_a_body_is_not_the_next_head() {
    let config = ServerConfig {
        header_timeout: SHORT,
        ..ServerConfig::default()
    };
    let connections = config.connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(Notify::new());
    let tell = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Incoming>| {
        tell.notify_one();
        async {
            let body = request.into_body().collect().await.unwrap();
            Ok::<_, Infallible>(Response::new(Full::new(body.to_bytes())))
        }
    });
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    let mut stream = TcpStream::connect(addr).await.unwrap();
    for _ in 0..2 {
        let head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head).await.unwrap();
        asked.notified().await;
        stream.write_all(b"hello").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        tokio::time::sleep(4 * SHORT).await;
        assert_eq!(connections.open(), 1, "{connections:?}");
    }
}

#[tokio::test]
async fn fault_d3_a_client_that_takes_its_answer_slowly_is_not_idle() {
    let (addr, connections) = large(|config| {
        config.idle_timeout = SHORT;
        config.write_timeout = 4 * SHORT;
    })
    .await;
    let mut client = h2(addr, 64 << 10).await;
    let mut body = client.send_request(get()).await.unwrap().into_body();
    for _ in 0..20 {
        tokio::time::sleep(SHORT).await;
        let frame = body.frame().await;
        assert!(frame.is_some_and(|frame| frame.is_ok()), "{connections:?}");
    }
    // Now it takes nothing more.
    until(&connections, CloseReason::Stalled, 1).await;
}

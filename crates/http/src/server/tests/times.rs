//! Tests of the timeouts over real sockets. Tests of `activity` check the exact times on a paused
//! clock.

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::body::{BodyLimitConfig, read_body};

const SHORT: Duration = Duration::from_millis(50);

/// Starts a server whose responses exceed any socket buffer. Returns its address and counters.
async fn large(edit: impl FnOnce(&mut ServerConfig)) -> (SocketAddr, Connections) {
    let mut config = ServerConfig::default();
    edit(&mut config);
    let connections = config.connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let response = Bytes::from(vec![b'x'; 32 << 20]);
    let service = service_fn(move |_: Request<Incoming>| {
        let response = response.clone();
        async { Ok::<_, Infallible>(Response::new(Full::new(response))) }
    });
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    (addr, connections)
}

/// Waits until `count` connections are closed for `reason`.
pub(super) async fn wait_closed(connections: &Connections, reason: CloseReason, count: u64) {
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

/// Connects an HTTP/2 client with stream windows of `window` bytes.
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
async fn fault_d1_closes_connections_that_send_nothing_or_part_of_a_head() {
    let (addr, connections) = large(|config| config.header_timeout = SHORT).await;
    for (count, bytes) in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET / HT"]
        .iter()
        .enumerate()
    {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        rest(stream).await;
        wait_closed(&connections, CloseReason::Slow, count as u64 + 1).await;
    }
}

#[tokio::test]
async fn fault_d1_closes_a_connection_whose_second_head_does_not_arrive() {
    let server = start(|config| config.header_timeout = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut stream).await;
    server.respond.notify_one();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let response = timeout(Duration::from_secs(5), rest(stream)).await;
    assert!(response.unwrap().ends_with("hello"));
}

#[tokio::test]
async fn fault_d2_closes_the_connection_after_a_408() {
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
    let response = timeout(Duration::from_secs(5), rest(stream)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
}

#[tokio::test]
async fn fault_d3_disconnects_a_client_that_does_not_read() {
    let (addr, connections) = large(|config| config.write_timeout = SHORT).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    send_request(&mut stream).await;
    wait_closed(&connections, CloseReason::Stalled, 1).await;
    assert!(rest(stream).await.len() < 32 << 20);
}

#[tokio::test]
async fn fault_d3_disconnects_a_client_whose_window_stays_closed() {
    let (addr, connections) = large(|config| config.write_timeout = SHORT).await;
    let mut client = h2(addr, 0).await;
    let response = client.send_request(get()).await.unwrap();
    wait_closed(&connections, CloseReason::Stalled, 1).await;
    drop(response);
}

#[tokio::test]
async fn fault_d4_closes_and_counts_idle_connections() {
    let mut counted = Connections::default();
    let server = start(|config| {
        config.idle_timeout = SHORT;
        counted = config.connections.clone();
    })
    .await;
    server.respond.notify_one();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut stream).await;
    assert!(rest(stream).await.ends_with("hello"));
    wait_closed(&counted, CloseReason::Idle, 1).await;

    server.respond.notify_one();
    let mut client = h2(server.addr, 1 << 20).await;
    client.send_request(get()).await.unwrap();
    wait_closed(&counted, CloseReason::Idle, 2).await;
    assert!(
        client.ready().await.is_err(),
        "the connection accepts no more requests"
    );
}

#[tokio::test]
async fn max_age_closes_a_connection_after_its_response() {
    let server = start(|config| config.max_age = Some(SHORT)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    send_request(&mut stream).await;
    server.requested.notified().await;
    tokio::time::sleep(2 * SHORT).await;
    server.respond.notify_one();
    let response = rest(stream).await;
    assert!(
        response.contains("connection: close") && response.ends_with("hello"),
        "{response}"
    );
}

#[tokio::test]
async fn a_panic_of_the_service_closes_only_its_own_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = ServerConfig::default();
    let connections = config.connections.clone();
    let service = service_fn(async |request: Request<Incoming>| {
        assert!(request.uri().path() != "/panic", "panic on request");
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
    wait_closed(&connections, CloseReason::Error, 1).await;

    let mut client = h2(addr, 1 << 20).await;
    let panic = Request::get("http://x/panic").body(Empty::new()).unwrap();
    assert!(client.send_request(panic).await.is_err());
    let response = client.send_request(get()).await.unwrap();
    assert_eq!(response.status(), 200, "other streams are not affected");
}

#[tokio::test]
async fn fault_d1_d4_bytes_of_a_body_do_not_start_the_header_timeout() {
    let config = ServerConfig {
        header_timeout: SHORT,
        ..ServerConfig::default()
    };
    let connections = config.connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let requested = Arc::new(Notify::new());
    let notify_request = Arc::clone(&requested);
    let service = service_fn(move |request: Request<Incoming>| {
        notify_request.notify_one();
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
        requested.notified().await;
        stream.write_all(b"hello").await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"hello") {
            assert!(stream.read_buf(&mut response).await.unwrap() > 0);
        }
        tokio::time::sleep(4 * SHORT).await;
        assert_eq!(connections.open(), 1, "{connections:?}");
    }
}

#[tokio::test]
async fn fault_d3_a_client_that_reads_slowly_is_not_idle() {
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
    // From now on the client reads nothing.
    wait_closed(&connections, CloseReason::Stalled, 1).await;
}

/// Waits until the unsent bytes of all connections are in `range`.
async fn wait_unsent(connections: &Connections, range: std::ops::RangeInclusive<usize>) {
    let counted = async {
        while !range.contains(&connections.unsent()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), counted)
        .await
        .unwrap_or_else(|_| panic!("{connections:?}"));
}

#[tokio::test]
async fn fault_d43_the_process_bounds_what_its_connections_hold_together() {
    // Less than two responses. Each connection has one, so its own limit does not apply.
    let limited = Connections::with_max_unsent(60 << 20);
    let (addr, connections) = large(|config| config.connections = limited).await;
    let mut held = Vec::new();
    for count in 1..=2 {
        let mut client = h2(addr, 1 << 10).await;
        let response = client.send_request(get()).await.unwrap();
        held.push((client, response));
        wait_unsent(&connections, count * (31 << 20)..=count * (32 << 20)).await;
    }
    let mut client = h2(addr, 1 << 20).await;
    let error = client.send_request(get()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    let reason = source.downcast_ref::<h2::Error>().unwrap().reason();
    assert_eq!(reason, Some(h2::Reason::ENHANCE_YOUR_CALM));
    assert_eq!(connections.refused(), 1);

    // Above half of the limit, connections that are not read are closed after 2 to 4 s.
    tokio::time::pause();
    for _ in 0..50 {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    tokio::time::resume();
    wait_unsent(&connections, 0..=0).await;
    assert_eq!(connections.closed(CloseReason::Stalled), 2);
    let response = client.send_request(get()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!((body.len(), connections.refused()), (32 << 20, 1));
}

//! Tests of connections that are parked between two requests, on a paused clock.
//!
//! Time passes whenever all tasks wait, so timeouts are long where the connection must last.

use super::{times::wait_closed, *};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn patient(config: &mut ServerConfig) {
    config.header_timeout = YEAR;
    config.idle_timeout = YEAR;
    config.write_timeout = YEAR;
}

/// Starts a server that responds with the body of each request. Returns its address and counters.
async fn echo(edit: impl FnOnce(&mut ServerConfig)) -> (SocketAddr, Connections) {
    let mut config = ServerConfig::default();
    patient(&mut config);
    edit(&mut config);
    let connections = config.connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let body = http_body_util::BodyExt::collect(request.into_body()).await;
        let body = body.unwrap().to_bytes();
        let text = [&b"<"[..], &body, b">"].concat();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    let server = Server::new(config).unwrap();
    tokio::spawn(server.serve(listener, service, std::future::pending()));
    (addr, connections)
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    // A write must not wait for the real time until the server acknowledges the one before.
    stream.set_nodelay(true).unwrap();
    stream
}

/// Waits until the server has parked its idle connections.
async fn park() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads responses until `end` has arrived, and checks that they end there.
async fn receive(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut read = [0; 4096];
        let count = stream.read(&mut read).await.unwrap();
        assert!(count > 0, "closed after {text}");
        text.push_str(std::str::from_utf8(&read[..count]).unwrap());
    }
    text
}

#[tokio::test(start_paused = true)]
async fn fault_h12_a_parked_connection_serves_further_requests() {
    let (addr, connections) = echo(|_| {}).await;
    let mut stream = connect(addr).await;
    for _ in 0..3 {
        send(&mut stream, GET).await;
        receive(&mut stream, "<>").await;
        park().await;
        // A head of which hyper has the begin, and whose rest arrives after the connection is parked.
        let post =
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        for split in [1, 7, 24, post.len() - 5, post.len() - 2] {
            send(&mut stream, GET).await;
            receive(&mut stream, "<>").await;
            send(&mut stream, &post[..split]).await;
            park().await;
            send(&mut stream, &post[split..]).await;
            receive(&mut stream, "<abc>").await;
        }
        park().await;
        send(&mut stream, &[GET, post, GET].concat()).await;
        let responses = receive(&mut stream, "<>").await;
        let responses = if responses.contains("<abc>") {
            responses
        } else {
            responses + &receive(&mut stream, "<abc>").await + &receive(&mut stream, "<>").await
        };
        assert_eq!(responses.matches("HTTP/1.1 200").count(), 3, "{responses}");
    }
    assert_eq!((connections.accepted(), connections.open()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn fault_h12_a_parked_connection_checks_the_framing_of_further_requests() {
    let (addr, connections) = echo(|_| {}).await;
    let mut stream = connect(addr).await;
    send(&mut stream, GET).await;
    receive(&mut stream, "<>").await;
    park().await;
    send(&mut stream, "POST / HTTP/1.1\r\nhost: x\r\ntransfer-enc").await;
    park().await;
    send(&mut stream, "oding: chunked\r\n\r\n3;\r\nabc\r\n0\r\n\r\n").await;
    assert!(!rest(stream).await.contains("<abc>"));
    assert_eq!(connections.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn fault_d4_h12_a_parked_connection_ends_as_any_other() {
    const SHORT: Duration = Duration::from_secs(30);
    type Edit = fn(&mut ServerConfig);
    let cases: [(Edit, &str, CloseReason); 3] = [
        (|config| config.idle_timeout = SHORT, "", CloseReason::Idle),
        (
            |config| config.header_timeout = SHORT,
            "GET /",
            CloseReason::Slow,
        ),
        (|config| config.max_age = Some(SHORT), "", CloseReason::Done),
    ];
    for (edit, bytes, reason) in cases {
        let (addr, connections) = echo(edit).await;
        let mut stream = connect(addr).await;
        send(&mut stream, GET).await;
        receive(&mut stream, "<>").await;
        send(&mut stream, bytes).await;
        let start = Instant::now();
        assert_eq!(rest(stream).await, "");
        let waited = start.elapsed().as_secs();
        assert!((29..=31).contains(&waited), "{reason:?} after {waited} s");
        wait_closed(&connections, reason, 1).await;
    }
    let (addr, connections) = echo(|_| {}).await;
    let mut stream = connect(addr).await;
    send(&mut stream, GET).await;
    receive(&mut stream, "<>").await;
    park().await;
    stream.shutdown().await.unwrap();
    assert_eq!(rest(stream).await, "");
    wait_closed(&connections, CloseReason::Done, 1).await;
}

#[tokio::test(start_paused = true)]
async fn fault_d1_h12_a_long_head_that_stalls_is_closed_and_parked_once() {
    // hyper has a head of more than 4 KiB, and empty lines, although they are incomplete.
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}", "x".repeat(5_000));
    for (first, bytes) in [("", &*head), (GET, &*head), (GET, &*"\r\n".repeat(2_100))] {
        let (addr, connections) =
            echo(|config| config.header_timeout = Duration::from_secs(30)).await;
        let mut stream = connect(addr).await;
        if first == GET {
            send(&mut stream, GET).await;
            receive(&mut stream, "<>").await;
            park().await;
        }
        let start = Instant::now();
        send(&mut stream, bytes).await;
        assert_eq!(rest(stream).await, "");
        let waited = start.elapsed().as_secs();
        assert!((29..=31).contains(&waited), "closed after {waited} s");
        wait_closed(&connections, CloseReason::Slow, 1).await;
    }
    let (addr, _) = echo(|_| {}).await;
    let mut stream = connect(addr).await;
    send(&mut stream, &head).await;
    park().await;
    send(&mut stream, "\r\n\r\n").await;
    receive(&mut stream, "<>").await;
}

#[tokio::test(start_paused = true)]
async fn fault_k1_h12_closes_parked_connections_at_the_stop() {
    let server = start(patient).await;
    let mut stream = connect(server.addr).await;
    server.respond.notify_one();
    send_request(&mut stream).await;
    receive(&mut stream, "hello").await;
    park().await;
    server.stop.send(()).unwrap();
    assert_eq!(rest(stream).await, "");
    assert_eq!(server.served.await.unwrap(), ShutdownOutcome::Drained);
}

//! Tests of connection reuse, closed connections, and connection limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    time::Instant,
};
use tower::ServiceExt;
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::client::{Client, ClientErrorKind};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{at, call_json, client, get, kind, send};

#[tokio::test]
async fn fault_f6_a_closed_pooled_connection_costs_no_attempt() {
    let faults = ["1", "2", "3"].map(|body| Fault::json(body).close());
    let server = FaultServer::sequence(faults).await;
    let client = client(&server);
    for expected in ["1", "2", "3"] {
        assert_eq!(call_json(&client).await.unwrap().as_raw(), expected);
    }
    let seen = server.stats();
    assert_eq!((seen.requests.len(), seen.connections), (3, 3));
}

/// The service may have processed a request that was sent, so only a retry layer may send it again.
#[tokio::test]
async fn fault_f6_a_reset_after_sending_is_left_to_retries() {
    for closed in [Fault::reset_before_head(), Fault::new().close()] {
        let server = FaultServer::sequence([Fault::json("1"), closed, Fault::json("2")]).await;
        let client = client(&server);
        call_json(&client).await.unwrap();
        let error = client.clone().oneshot(get("/")).await.unwrap_err();
        assert_eq!(
            (error.clone(), error.failure()),
            (ClientErrorKind::Reset.into(), Failure::ConnectionReset)
        );
        assert_eq!(server.stats().requests.len(), 2);
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f6_f25_does_not_resend_a_request_that_may_be_processed() {
    let post = || Request::post("/orders").body(Bytes::new()).unwrap();
    let partial_head = Fault::new().send("HTTP/1.1 2").reset();
    for (request, broken) in [
        (post(), Fault::reset_before_head()),
        (get("/"), partial_head),
    ] {
        let server = FaultServer::sequence([Fault::json("1"), broken, Fault::json("2")]).await;
        let client = client(&server);
        call_json(&client).await.unwrap();
        send(&client, request).await.unwrap_err();
        assert_eq!(server.stats().requests.len(), 2);
    }
}

/// Starts a server that sends `early` after the first bytes of a request, and `late` after `size`
/// bytes. Returns its endpoint and the number of its connections.
async fn early(early: &'static str, late: String, size: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            let mut buffer = vec![0; 1 << 20];
            let mut read = stream.read(&mut buffer).await.unwrap();
            stream.write_all(early.as_bytes()).await.unwrap();
            while read < size {
                read += stream.read(&mut buffer).await.unwrap();
            }
            stream.write_all(late.as_bytes()).await.unwrap();
        }
    });
    (endpoint, connections)
}

/// Returns a request whose body exceeds the buffer of any socket.
fn large() -> Request<Bytes> {
    let body = Bytes::from(vec![b' '; 32 << 20]);
    Request::put("/").body(body).unwrap()
}

#[tokio::test]
async fn fault_f6_does_not_resend_after_an_early_response_that_breaks() {
    let (endpoint, connections) = early("HTTP/1.1 200", String::new(), 16 << 20).await;
    let error = at(&endpoint, |_| {}).oneshot(large()).await.unwrap_err();
    assert_eq!(error.kind(), Some(ClientErrorKind::Reset));
    assert_eq!(connections.load(Relaxed), 1);
}

#[tokio::test]
async fn fault_f17_an_early_body_does_not_count_as_interim_responses() {
    let body = "HTTP/1.1 100\n\n".repeat(20);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 280\r\n\r\n";
    let (endpoint, _) = early(head, body.clone(), 32 << 20).await;
    let response = at(&endpoint, |_| {}).oneshot(large()).await.unwrap();
    assert_eq!(response.body(), &body);
}

#[tokio::test(start_paused = true)]
async fn calls_above_max_connections_wait() {
    let slow = Fault::json("{}").after(Duration::from_millis(20));
    let server = FaultServer::start(slow).await;
    let client = at(&server.url(), |config| config.max_connections = Some(2));
    let responses = join_all((0..8).map(|_| call_json(&client))).await;
    assert!(responses.iter().all(Result::is_ok));
    let seen = server.stats();
    assert_eq!((seen.requests.len(), seen.peak_in_flight), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_within_its_timeout_and_a_dropped_call_frees_a_permit() {
    let server = FaultServer::sequence([Fault::never_respond(), Fault::json("2")]).await;
    let client = at(&server.url(), |config| config.max_connections = Some(1));
    let mut first = client.clone().oneshot(get("/")).boxed();
    tokio::select! {
        _ = &mut first => panic!("the server never responds"),
        _ = server.wait_for(|seen| seen.in_flight == 1) => {}
    }
    assert_eq!(kind(&client).await, ErrorKind::Timeout);
    assert_eq!(server.stats().requests.len(), 1);
    let (response, ()) = tokio::join!(call_json(&client), async {
        tokio::task::yield_now().await;
        drop(first);
    });
    assert_eq!(response.unwrap().as_raw(), "2");
}

#[tokio::test]
async fn max_idle_limits_the_idle_connections() {
    let server = FaultServer::start(Fault::json("{}")).await;
    let client = at(&server.url(), |config| config.max_idle = 0);
    for connections in 1..4 {
        call_json(&client).await.unwrap();
        assert_eq!(server.stats().connections, connections);
    }
}

/// Answers one request on a new connection, and returns the connection.
async fn answer(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    respond(&mut stream).await;
    stream
}

/// Reads a request from `stream`, and responds.
async fn respond(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let response =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n1";
    stream.write_all(response).await.unwrap();
}

/// Returns the time until the client closes `stream`.
async fn closed(mut stream: TcpStream) -> Duration {
    let start = Instant::now();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_within_a_second_after_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = at(&url, |config| config.idle_timeout = Duration::from_secs(5));
    let (called, stream) = tokio::join!(call_json(&client), answer(&listener));
    called.unwrap();
    let after = closed(stream).await.as_secs_f64();
    assert!((5.0..=6.1).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_service_closes_is_closed_within_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = at(&url, |_| {});
    let (called, mut stream) = tokio::join!(call_json(&client), answer(&listener));
    called.unwrap();
    stream.shutdown().await.unwrap();
    let after = closed(stream).await.as_secs_f64();
    assert!(after <= 1.1, "{after}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_used_again_after_max_age() {
    let server = FaultServer::start(Fault::json("1")).await;
    let client = at(&server.url(), |config| {
        config.max_age = Some(Duration::from_secs(3));
    });
    for connections in [1, 1, 2, 2] {
        call_json(&client).await.unwrap();
        assert_eq!(server.stats().connections, connections);
        tokio::time::advance(Duration::from_millis(1_800)).await;
    }
}

/// Runs a call on a runtime of its own, and ends the runtime if `ends` is `true`.
fn on_other_runtime(client: &Client, ends: bool) -> Option<Runtime> {
    let client = client.clone();
    let thread = thread::spawn(move || {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        for _ in 0..2 {
            runtime.block_on(call_json(&client)).unwrap();
        }
        (!ends).then_some(runtime)
    });
    thread.join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_do_not_use_the_connections_of_other_runtimes() {
    let server = FaultServer::start(Fault::json("1")).await;
    let client = client(&server);
    let other = on_other_runtime(&client, false);
    assert_eq!(server.stats().connections, 1);
    call_json(&client).await.unwrap();
    call_json(&client).await.unwrap();
    assert_eq!(server.stats().connections, 2);
    other.unwrap().shutdown_background();

    // The connections of a runtime end with it.
    on_other_runtime(&client, true);
    call_json(&client).await.unwrap();
    assert_eq!(server.stats().connections, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_of_another_runtime_makes_room_for_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let client = at(&endpoint, |config| config.max_connections = Some(1));

    let caller = client.clone();
    let other = tokio::task::spawn_blocking(move || on_other_runtime(&caller, false));
    let mut first = answer(&listener).await;
    respond(&mut first).await;
    let other = other.await.unwrap().unwrap();

    let call = tokio::spawn(async move { call_json(&client).await });
    let _second = answer(&listener).await;
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    call.await.unwrap().unwrap();
    other.shutdown_background();
}

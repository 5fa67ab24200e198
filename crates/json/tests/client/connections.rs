//! Connections that are kept, closed, and bounded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::ServiceExt;
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::client::ClientError;
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{ask, at, client, get, kind, send};

#[tokio::test]
async fn fault_f6_a_kept_connection_that_was_closed_costs_no_attempt() {
    let faults = ["1", "2", "3"].map(|body| Fault::json(body).close());
    let server = FaultServer::sequence(faults).await;
    let client = client(&server);
    for expected in ["1", "2", "3"] {
        assert_eq!(ask(&client).await.unwrap().as_raw(), expected);
    }
    let seen = server.stats();
    assert_eq!((seen.requests.len(), seen.connections), (3, 3));
}

/// A service may have seen a request that was sent, so that sending it again is a retry.
#[tokio::test]
async fn fault_f6_a_reset_after_the_request_was_sent_is_left_to_retries() {
    for closed in [Fault::reset_before_head(), Fault::new().close()] {
        let server = FaultServer::sequence([Fault::json("1"), closed, Fault::json("2")]).await;
        let client = client(&server);
        ask(&client).await.unwrap();
        let error = client.clone().oneshot(get("/")).await.unwrap_err();
        assert_eq!(
            (error, error.failure()),
            (ClientError::Reset, Failure::ConnectionReset)
        );
        assert_eq!(server.stats().requests.len(), 2);
        assert_eq!(ask(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f6_f25_what_may_have_been_done_is_not_done_again() {
    let post = || Request::post("/orders").body(Bytes::new()).unwrap();
    let begun = Fault::new().send("HTTP/1.1 2").reset();
    for (request, broken) in [(post(), Fault::reset_before_head()), (get("/"), begun)] {
        let server = FaultServer::sequence([Fault::json("1"), broken, Fault::json("2")]).await;
        let client = client(&server);
        ask(&client).await.unwrap();
        send(&client, request).await.unwrap_err();
        assert_eq!(server.stats().requests.len(), 2);
    }
}

/// Answers each request when a part of its body is there: sends `early` then, and `late` when it has
/// `size` bytes of it. Counts connections.
async fn early(early: &'static str, late: String, size: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            let mut piece = vec![0; 1 << 20];
            let mut read = stream.read(&mut piece).await.unwrap();
            stream.write_all(early.as_bytes()).await.unwrap();
            while read < size {
                read += stream.read(&mut piece).await.unwrap();
            }
            stream.write_all(late.as_bytes()).await.unwrap();
        }
    });
    (endpoint, connections)
}

/// A request whose body no socket takes at once.
fn large() -> Request<Bytes> {
    let body = Bytes::from(vec![b' '; 32 << 20]);
    Request::put("/").body(body).unwrap()
}

#[tokio::test]
async fn fault_f6_an_answer_that_begins_early_and_breaks_is_not_asked_for_again() {
    let (endpoint, connections) = early("HTTP/1.1 200", String::new(), 16 << 20).await;
    let error = at(&endpoint, |_| {}).oneshot(large()).await.unwrap_err();
    assert_eq!(error, ClientError::Reset);
    assert_eq!(connections.load(Relaxed), 1);
}

#[tokio::test]
async fn fault_f17_a_body_that_comes_early_is_no_interim_answer() {
    let body = "HTTP/1.1 100\n\n".repeat(20);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 280\r\n\r\n";
    let (endpoint, _) = early(head, body.clone(), 32 << 20).await;
    let answer = at(&endpoint, |_| {}).oneshot(large()).await.unwrap();
    assert_eq!(answer.body(), &body);
}

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_fit_wait_for_their_turn() {
    let slow = Fault::json("{}").after(Duration::from_millis(20));
    let server = FaultServer::start(slow).await;
    let client = at(&server.url(), |config| config.max_connections = Some(2));
    let answers = join_all((0..8).map(|_| ask(&client))).await;
    assert!(answers.iter().all(Result::is_ok));
    let seen = server.stats();
    assert_eq!((seen.requests.len(), seen.peak_in_flight), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_within_its_own_timeout_and_a_dropped_one_makes_room() {
    let server = FaultServer::sequence([Fault::never_respond(), Fault::json("2")]).await;
    let client = at(&server.url(), |config| config.max_connections = Some(1));
    let mut first = client.clone().oneshot(get("/")).boxed();
    tokio::select! {
        _ = &mut first => panic!("nobody answers"),
        _ = server.wait_for(|seen| seen.in_flight == 1) => {}
    }
    assert_eq!(kind(&client).await, ErrorKind::Timeout);
    assert_eq!(server.stats().requests.len(), 1);
    let (answer, ()) = tokio::join!(ask(&client), async {
        tokio::task::yield_now().await;
        drop(first);
    });
    assert_eq!(answer.unwrap().as_raw(), "2");
}

#[tokio::test]
async fn no_more_unused_connections_are_kept_than_wanted() {
    let server = FaultServer::start(Fault::json("{}")).await;
    let client = at(&server.url(), |config| config.max_idle = 0);
    for connections in 1..4 {
        ask(&client).await.unwrap();
        assert_eq!(server.stats().connections, connections);
    }
}

//! Tests of HTTP/2 to a downstream.

use std::time::Duration;

use futures_util::future::join_all;
use tower::ServiceExt;
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::client::{Client, ClientErrorKind, Http2};
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    h2::{Reason, StreamFault},
};

use crate::{at, call_json, get, kind};

fn client(server: &FaultServer, connections: usize) -> Client {
    at(&server.url(), |config| {
        config.http2 = Http2::PriorKnowledge { connections };
        config.max_response = 64;
    })
}

#[tokio::test]
async fn calls_share_the_configured_number_of_connections() {
    for connections in [1, 3] {
        let server = FaultServer::h2(|_| StreamFault::json("1")).await;
        let client = client(&server, connections);
        for _ in 0..2 {
            let responses = join_all((0..6).map(|_| call_json(&client))).await;
            assert!(responses.iter().all(Result::is_ok));
        }
        let seen = server.stats();
        assert_eq!((seen.requests.len(), seen.connections), (12, connections));
    }
}

/// Over HTTP/1 a dropped call closes its connection. Over HTTP/2 other calls may use it, so PING
/// frames detect a connection that does not respond.
#[tokio::test(start_paused = true)]
async fn fault_f3_closes_a_connection_that_does_not_answer_pings() {
    let server = FaultServer::start(Fault::never_respond()).await;
    let client = at(&server.url(), |config| {
        config.http2 = Http2::PriorKnowledge { connections: 1 };
        config.h2_ping_interval = Duration::from_millis(500);
        config.h2_ping_timeout = Duration::from_millis(500);
    });
    for connections in 1..3 {
        assert_eq!(kind(&client).await, ErrorKind::Reset);
        let seen = server.wait_for(|seen| seen.in_flight == 0).await;
        assert_eq!(seen.connections, connections);
    }
}

#[tokio::test]
async fn fault_f1_calls_that_wait_for_a_connection_fail_with_it() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", silent.local_addr().unwrap());
    let client = at(&endpoint, |config| {
        config.http2 = Http2::PriorKnowledge { connections: 1 };
        config.connect_timeout = Duration::from_millis(100);
        config.tls.verify = tower_fanout_http::client::Verify::DangerouslySkip;
    });
    let calls = join_all((0..3).map(|_| client.clone().oneshot(get("/")))).await;
    for call in calls {
        assert_eq!(call.unwrap_err().failure(), Failure::Connect);
    }
}

#[tokio::test]
async fn fault_f37_refused_streams_are_reported_as_not_processed() {
    for fault in [
        StreamFault::refused_stream(),
        StreamFault::go_away_unprocessed(Reason::NO_ERROR),
    ] {
        let server = FaultServer::h2_sequence([fault, StreamFault::json("2")]).await;
        let client = client(&server, 1);
        let error = client.clone().oneshot(get("/")).await.unwrap_err();
        assert_eq!(
            (error.clone(), error.failure()),
            (ClientErrorKind::NotProcessed.into(), Failure::NotProcessed)
        );
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
    }
}

#[tokio::test]
async fn fault_f37_other_resets_are_not_reported_as_not_processed() {
    for fault in [
        StreamFault::rst(Reason::CANCEL),
        StreamFault::rst(Reason::INTERNAL_ERROR),
        StreamFault::go_away_and_close(Reason::NO_ERROR),
        StreamFault::go_away_and_close(Reason::INTERNAL_ERROR),
        StreamFault::reset_connection(),
    ] {
        let server = FaultServer::h2_sequence([fault.clone(), StreamFault::json("2")]).await;
        let client = client(&server, 1);
        let error = client.clone().oneshot(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), Some(ClientErrorKind::Reset), "{fault:?}");
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
    }
}

#[tokio::test]
async fn fault_f37_a_stream_below_the_goaway_id_completes() {
    let server =
        FaultServer::h2_sequence([StreamFault::go_away("1"), StreamFault::json("2")]).await;
    let client = client(&server, 1);
    call_json(&client).await.unwrap();
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
    assert_eq!(server.stats().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn fault_f7_f37_a_reset_within_the_body_is_an_error() {
    // Without the pause h2 would report the reset instead of the head.
    let reset = StreamFault::new()
        .head(200, &[("content-type", "application/json")])
        .data("[1,")
        .pause(Duration::from_millis(10))
        .then_rst(Reason::INTERNAL_ERROR);
    let server = FaultServer::h2_sequence([reset, StreamFault::json("2")]).await;
    let client = client(&server, 1);
    assert_eq!(kind(&client).await, ErrorKind::BadBody);
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
    assert_eq!(server.stats().connections, 1);
}

/// The client resets the stream at the limit. The connection and its other streams stay open.
#[tokio::test]
async fn fault_f13_reads_a_stream_up_to_max_response() {
    let faults = [StreamFault::endless_body(), StreamFault::json("2")];
    let server = FaultServer::h2_sequence(faults).await;
    let client = client(&server, 1);
    assert_eq!(kind(&client).await, ErrorKind::TooLarge);
    server.wait_for(|seen| seen.cancelled == 1).await;
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
    assert_eq!(server.stats().connections, 1);
}

#[tokio::test]
async fn fault_f17_skips_interim_responses_of_a_stream() {
    let server = FaultServer::h2(|_| StreamFault::informational(16)).await;
    assert_eq!(call_json(&client(&server, 1)).await.unwrap().as_raw(), "{}");
}

#[tokio::test]
async fn fault_f16_limits_the_head_of_a_stream() {
    let value = "x".repeat(1 << 20);
    let server =
        FaultServer::h2(move |_| StreamFault::response(200, &[("x-huge", &value)], "{}")).await;
    assert_eq!(kind(&client(&server, 1)).await, ErrorKind::BadHead);
}

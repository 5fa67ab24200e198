//! Answers that are late, broken, too large, or none.

use std::time::Duration;

use futures_util::FutureExt;
use http::Uri;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::client::{Client, ClientConfig, ClientError};
use tower_fanout_json::{
    Json, branch_error,
    response::{AcceptLayer, JsonLayer},
};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{TIMEOUT, ask, at, client, get, kind, kind_of};

#[tokio::test]
async fn fault_f1_a_refused_connection_was_never_sent() {
    let error = client(&FaultServer::refusing())
        .oneshot(get("/"))
        .await
        .unwrap_err();
    assert_eq!(
        (error, error.failure()),
        (ClientError::Connect, Failure::Connect)
    );
    assert_eq!(branch_error(error).kind(), ErrorKind::ConnectFailed);
}

#[tokio::test]
async fn fault_f2_a_name_that_nobody_has_is_told_apart() {
    // No label has 64 characters (RFC 1035 §2.3.4), so no resolver needs to be asked.
    let client = at(&format!("http://{}:80", "x".repeat(64)), |_| {});
    assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
}

/// Asks a server that stops answering at some point, and expects the attempt's timeout.
async fn times_out(fault: Fault) {
    let server = FaultServer::sequence([fault, Fault::json("2")]).await;
    let client = client(&server);
    let start = Instant::now();
    assert_eq!(kind(&client).await, ErrorKind::Timeout);
    let elapsed = start.elapsed();
    assert!(elapsed >= TIMEOUT && elapsed < TIMEOUT * 2, "{elapsed:?}");
    // It was sent, its connection was closed, and the next call has another one.
    let seen = server.wait_for(|seen| seen.cancelled == 1).await;
    assert_eq!((seen.requests.len(), seen.connections), (1, 1));
    assert_eq!(ask(&client).await.unwrap().as_raw(), "2");
    assert_eq!(server.stats().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn fault_f3_silence_ends_at_the_timeout() {
    times_out(Fault::never_respond()).await;
}

#[tokio::test(start_paused = true)]
async fn fault_f4_the_timeout_covers_the_body() {
    times_out(Fault::stall_in_body()).await;
}

#[tokio::test(start_paused = true)]
async fn fault_f5_a_body_in_drops_does_not_outlive_the_timeout() {
    times_out(Fault::drip([b' '; 64], Duration::from_millis(500))).await;
}

#[tokio::test]
async fn fault_f6_a_reset_before_the_head_is_no_answer() {
    assert_eq!(kind_of(Fault::reset_before_head()).await, ErrorKind::Reset);
    assert_eq!(kind_of(Fault::new().close()).await, ErrorKind::Reset);
}

#[tokio::test]
async fn fault_f7_f8_a_body_that_breaks_off_is_no_answer() {
    for fault in [
        Fault::reset_in_body(),
        Fault::length_too_long(),
        Fault::invalid_chunk_size(),
        Fault::truncated_chunk(),
    ] {
        let server = FaultServer::sequence([fault, Fault::json("2")]).await;
        let client = client(&server);
        assert_eq!(kind(&client).await, ErrorKind::BadBody);
        assert_eq!(ask(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f9_what_comes_after_an_answer_is_never_the_next_answer() {
    for fault in [Fault::extra_response(), Fault::length_too_short()] {
        let server = FaultServer::sequence([fault, Fault::json("2")]).await;
        let client = client(&server);
        assert_eq!(ask(&client).await.unwrap().as_raw(), "{}");
        assert_eq!(ask(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f10_f11_what_is_not_json_is_no_answer_and_is_not_shown() {
    assert_eq!(kind_of(Fault::html()).await, ErrorKind::BadContentType);
    assert_eq!(kind_of(Fault::invalid_json()).await, ErrorKind::BadJson);
    let server = FaultServer::start(Fault::json("<secret>")).await;
    let error = ask(&client(&server)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn fault_f12_json_ten_thousand_levels_deep_is_no_answer() {
    assert_eq!(kind_of(Fault::deep_json(10_000)).await, ErrorKind::BadJson);
}

#[tokio::test]
async fn fault_f13_a_body_is_read_up_to_its_cap() {
    let chunked = |body: &str| {
        Fault::new().send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ))
    };
    let framings: [fn(&str) -> Fault; 2] = [|body| Fault::json(body), chunked];
    for framing in framings {
        for (size, fits) in [(64, true), (65, false)] {
            let body = format!("\"{}\"", "x".repeat(size - 2));
            let server = FaultServer::start(framing(&body)).await;
            let client = at(&server.url(), |config| config.max_response = 64);
            let result = ask(&client).await.map_err(|error| error.kind());
            let expected = if fits {
                Ok(&*body)
            } else {
                Err(ErrorKind::TooLarge)
            };
            assert_eq!(
                result.as_ref().map(Json::as_raw).map_err(|kind| *kind),
                expected
            );
        }
    }
    // It is refused by its announced length, before any of it comes.
    let huge =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999999999\r\n\r\n";
    let fault = Fault::new().send(huge).stall();
    assert_eq!(kind_of(fault).await, ErrorKind::TooLarge);
}

/// The cap holds for all pieces together, whether or not their length was announced.
#[tokio::test(start_paused = true)]
async fn fault_f13_a_body_in_pieces_is_one_answer_up_to_its_cap() {
    let pause = Duration::from_millis(10);
    let chunked = Fault::new()
        .send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        .send("transfer-encoding: chunked\r\n\r\n2\r\n\"a\r\n")
        .pause(pause)
        .send("1\r\nb\r\n")
        .pause(pause)
        .send("2\r\nc\"\r\n0\r\nx-sum: 7\r\n\r\n");
    for fault in [Fault::drip("\"abc\"", pause), chunked] {
        let server = FaultServer::start(fault).await;
        for (cap, expected) in [(5, Ok("\"abc\"")), (4, Err(ErrorKind::TooLarge))] {
            let client = at(&server.url(), |config| config.max_response = cap);
            let result = ask(&client).await.map_err(|error| error.kind());
            assert_eq!(
                result.as_ref().map(Json::as_raw).map_err(|kind| *kind),
                expected
            );
        }
    }
}

#[tokio::test]
async fn fault_f14_nothing_encoded_is_asked_for_or_taken() {
    for encoding in ["gzip", "br", "zstd", "identity, gzip"] {
        let headers = [
            ("content-type", "application/json"),
            ("content-encoding", encoding),
        ];
        let server = FaultServer::start(Fault::response(200, &headers, "{}")).await;
        assert_eq!(kind(&client(&server)).await, ErrorKind::BadBody);
        let request = &server.stats().requests[0];
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn fault_f16_a_head_beyond_all_bounds_is_no_answer() {
    for fault in [
        Fault::huge_headers(1_000, 8),
        Fault::huge_headers(1, 1 << 20),
    ] {
        assert_eq!(kind_of(fault).await, ErrorKind::BadHead);
    }
}

#[tokio::test]
async fn fault_f16_the_largest_head_can_be_chosen() {
    for (size, fits) in [(7_000, true), (9_000, false)] {
        let server = FaultServer::start(Fault::huge_headers(1, size)).await;
        let client = at(&server.url(), |config| config.max_head = 8 << 10);
        let result = client.oneshot(get("/")).await;
        assert_eq!(result.err(), (!fits).then_some(ClientError::BadHead));
    }
    let cookies = [("set-cookie", "a=b"); 1_000];
    let flood = Fault::response(200, &cookies, "{}");
    assert_eq!(kind_of(flood).await, ErrorKind::BadHead);
}

#[tokio::test]
async fn fault_f17_interim_answers_end_the_call_when_they_are_too_many() {
    for (count, expected) in [(16, None), (17, Some(ClientError::BadHead))] {
        let server = FaultServer::start(Fault::informational(count)).await;
        let result = client(&server).oneshot(get("/")).await;
        assert_eq!(result.err(), expected, "{count}");
    }
    let storm = Fault::informational(10_000).stall();
    assert_eq!(kind_of(storm).await, ErrorKind::BadHead);
}

#[tokio::test]
async fn fault_f18_a_body_where_none_can_be_is_not_the_next_answer() {
    for status in [204, 304] {
        let body = Fault::response(status, &[], "{\"smuggled\": true}");
        let server = FaultServer::sequence([body, Fault::json("2")]).await;
        let client = client(&server);
        let first = ask(&client).await.map_err(|error| error.kind());
        let expected = if status == 204 {
            Ok("null")
        } else {
            Err(ErrorKind::BadStatus)
        };
        assert_eq!(
            first.as_ref().map(Json::as_raw).map_err(|kind| *kind),
            expected
        );
        assert_eq!(ask(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f18_statuses_that_no_answer_has_are_none() {
    for status in [101, 304] {
        let kind = kind_of(Fault::response(status, &[], "")).await;
        assert_eq!(kind, ErrorKind::BadStatus, "{status}");
    }
    for empty in [204, 205] {
        let server = FaultServer::start(Fault::response(empty, &[], "")).await;
        let answer = ask(&client(&server)).await.unwrap();
        assert_eq!(answer.as_raw(), "null");
    }
}

#[tokio::test]
async fn fault_f19_i7_a_redirect_is_not_followed() {
    let elsewhere = FaultServer::start(Fault::json("1")).await;
    for location in [&*elsewhere.url(), "http://169.254.169.254/latest/meta-data"] {
        let kind = kind_of(Fault::redirect(location)).await;
        assert_eq!(kind, ErrorKind::Redirect);
    }
    assert_eq!(elsewhere.stats().connections, 0);
}

#[tokio::test]
async fn a_dropped_call_reaches_the_service() {
    let server = FaultServer::start(Fault::never_respond()).await;
    let mut call = client(&server).oneshot(get("/")).boxed();
    let sent = server.wait_for(|seen| seen.in_flight == 1);
    tokio::select! {
        _ = &mut call => panic!("nobody answers"),
        _ = sent => {}
    }
    drop(call);
    server.wait_for(|seen| seen.cancelled == 1).await;
}

#[tokio::test]
async fn a_status_of_an_error_is_one_unless_it_is_accepted() {
    let missing = Fault::response(404, &[("content-type", "application/json")], r#"{"no":1}"#);
    let server = FaultServer::start(missing).await;
    let client = client(&server);
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status);
    assert_eq!(error.to_string(), "status: the service answered 404");
    let attempt = JsonLayer::new().layer(client);
    let accepting = AcceptLayer::new([404]).layer(attempt);
    let answer = accepting.oneshot(get("/")).await.unwrap();
    assert_eq!(answer.as_raw(), r#"{"no":1}"#);
}

#[tokio::test]
async fn no_error_tells_where_the_service_is() {
    let server = FaultServer::refusing();
    let error = ask(&client(&server)).await.unwrap_err();
    let port = server.addr().port().to_string();
    assert!(!format!("{error} {error:?}").contains(&port));
}

#[test]
fn an_address_that_cannot_be_one_is_refused_with_the_reason() {
    for (endpoint, reason) in [
        ("ftp://users", "an endpoint begins with http:// or https://"),
        ("/users", "an endpoint begins with http:// or https://"),
        ("http://users/?a=b", "an endpoint has no query"),
        (
            "http://me:secret@users",
            "an endpoint carries no credentials",
        ),
    ] {
        let endpoint: Uri = endpoint.parse().unwrap();
        let error = Client::new(&endpoint, ClientConfig::default()).unwrap_err();
        assert_eq!((error.field(), error.message()), ("endpoint", reason));
    }
}

//! Tests of responses that are late, broken, too large, or missing.

use std::time::Duration;

use futures_util::FutureExt;
use http::Uri;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::client::{Client, ClientConfig, ClientErrorKind};
use tower_fanout_json::{
    Json, branch_error,
    filter::FieldFilter,
    response::{AcceptLayer, JsonLayer},
};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{TIMEOUT, at, call_json, client, get, kind, kind_of};

#[tokio::test]
async fn fault_f1_a_refused_connection_is_a_connect_error() {
    let error = client(&FaultServer::refusing())
        .oneshot(get("/"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.clone(), error.failure()),
        (ClientErrorKind::ConnectRefused.into(), Failure::Connect)
    );
    assert_eq!(branch_error(error).kind(), ErrorKind::ConnectRefused);
}

#[tokio::test]
async fn fault_f2_an_unknown_name_is_a_dns_error() {
    // A DNS label has at most 63 characters (RFC 1035 §2.3.4), so every resolver fails without a
    // query.
    let client = at(&format!("http://{}:80", "x".repeat(64)), |_| {});
    assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
}

/// Calls a server that stops responding with `fault`, and expects the timeout of the attempt.
async fn times_out(fault: Fault) {
    let server = FaultServer::sequence([fault, Fault::json("2")]).await;
    let client = client(&server);
    let start = Instant::now();
    assert_eq!(kind(&client).await, ErrorKind::Timeout);
    let elapsed = start.elapsed();
    assert!(elapsed >= TIMEOUT && elapsed < TIMEOUT * 2, "{elapsed:?}");
    // The request was sent, its connection was closed, and the next call opens another one.
    let seen = server.wait_for(|seen| seen.cancelled == 1).await;
    assert_eq!((seen.requests.len(), seen.connections), (1, 1));
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
    assert_eq!(server.stats().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn fault_f3_the_timeout_ends_a_call_without_response() {
    times_out(Fault::never_respond()).await;
}

#[tokio::test(start_paused = true)]
async fn fault_f4_the_timeout_covers_the_body() {
    times_out(Fault::stall_in_body()).await;
}

#[tokio::test(start_paused = true)]
async fn fault_f5_the_timeout_ends_a_slow_body() {
    times_out(Fault::drip([b' '; 64], Duration::from_millis(500))).await;
}

#[tokio::test]
async fn fault_f6_a_reset_before_the_head_is_an_error() {
    assert_eq!(kind_of(Fault::reset_before_head()).await, ErrorKind::Reset);
    assert_eq!(kind_of(Fault::new().close()).await, ErrorKind::Reset);
}

#[tokio::test]
async fn fault_f7_f8_an_incomplete_body_is_an_error() {
    for fault in [
        Fault::reset_in_body(),
        Fault::length_too_long(),
        Fault::invalid_chunk_size(),
        Fault::truncated_chunk(),
    ] {
        let server = FaultServer::sequence([fault, Fault::json("2")]).await;
        let client = client(&server);
        assert_eq!(kind(&client).await, ErrorKind::BadBody);
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f9_extra_bytes_are_never_part_of_the_next_response() {
    for fault in [Fault::extra_response(), Fault::length_too_short()] {
        let server = FaultServer::sequence([fault, Fault::json("2")]).await;
        let client = client(&server);
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "{}");
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f10_f11_a_body_that_is_not_json_is_an_error_and_not_shown() {
    assert_eq!(kind_of(Fault::html()).await, ErrorKind::BadContentType);
    assert_eq!(kind_of(Fault::invalid_json()).await, ErrorKind::BadJson);
    let server = FaultServer::start(Fault::json("<secret>")).await;
    let error = call_json(&client(&server)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn fault_f12_json_10_000_levels_deep_is_an_error() {
    assert_eq!(kind_of(Fault::deep_json(10_000)).await, ErrorKind::BadJson);
}

#[tokio::test]
async fn fault_f13_reads_a_body_up_to_max_response() {
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
            let result = call_json(&client).await.map_err(|error| error.kind());
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
    // The announced length is rejected before any of the body arrives.
    let huge =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999999999\r\n\r\n";
    let fault = Fault::new().send(huge).stall();
    assert_eq!(kind_of(fault).await, ErrorKind::TooLarge);
}

/// The limit counts all chunks together, with and without an announced length.
#[tokio::test(start_paused = true)]
async fn fault_f13_joins_the_chunks_of_a_body_up_to_max_response() {
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
        for (max, expected) in [(5, Ok("\"abc\"")), (4, Err(ErrorKind::TooLarge))] {
            let client = at(&server.url(), |config| config.max_response = max);
            let result = call_json(&client).await.map_err(|error| error.kind());
            assert_eq!(
                result.as_ref().map(Json::as_raw).map_err(|kind| *kind),
                expected
            );
        }
    }
}

/// The end of a head whose body is `{}`.
const LENGTH: &str = "content-length: 2\r\n\r\n{}";
const CHUNKS: &str = "\r\n2\r\n{}\r\n0\r\n\r\n";
/// The body ends with the connection.
const CLOSE: &str = "\r\n{}";

/// Starts a server that responds with the coding `lines`, and then `end`.
async fn coded(status: u16, lines: &[&str], end: &str) -> FaultServer {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
    let response = Fault::new().send(head + &lines + end);
    FaultServer::start(if end == CLOSE {
        response.close()
    } else {
        response
    })
    .await
}

#[tokio::test]
async fn fault_f14_accepts_the_coding_identity_in_any_form() {
    for (lines, end) in [
        (&["content-encoding: identity"][..], LENGTH),
        (&["content-encoding: Identity"], LENGTH),
        (&["content-encoding:"], LENGTH),
        (&["content-encoding: identity, IDENTITY"], LENGTH),
        (&["content-encoding: ,\tidentity ,,"], LENGTH),
        (
            &["content-encoding: identity", "content-encoding: identity"],
            LENGTH,
        ),
        (&["content-encoding: identity", "content-encoding:"], LENGTH),
        (&["transfer-encoding: Chunked"], CHUNKS),
        (&["transfer-encoding: identity, chunked"], CHUNKS),
        (
            &["transfer-encoding: identity", "transfer-encoding: chunked"],
            CHUNKS,
        ),
        (&["transfer-encoding: identity"], CLOSE),
    ] {
        let server = coded(200, lines, end).await;
        let client = client(&server);
        let called = call_json(&client).await;
        assert_eq!(called.unwrap().as_raw(), "{}", "{lines:?}");
        let request = &server.stats().requests[0];
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn fault_f14_a_response_without_a_body_has_no_coding_to_undo() {
    for status in [204, 205, 200] {
        let headers = [("content-encoding", "gzip")];
        let server = FaultServer::start(Fault::response(status, &headers, "")).await;
        let called = call_json(&client(&server)).await;
        assert_eq!(called.unwrap().as_raw(), "null", "{status}");
    }
}

#[tokio::test]
async fn fault_f14_neither_requests_nor_accepts_other_codings() {
    for (lines, end) in [
        (&["content-encoding: gzip"][..], LENGTH),
        (&["content-encoding: BR"], LENGTH),
        (&["content-encoding: zstd"], CHUNKS),
        (&["content-encoding: x"], LENGTH),
        (&["content-encoding: \"identity\""], LENGTH),
        (&["content-encoding: identity;q=1"], LENGTH),
        (&["content-encoding: identity gzip"], LENGTH),
        (&["content-encoding: \u{e9}"], LENGTH),
        (&["content-encoding: identity, gzip"], LENGTH),
        (&["content-encoding: gzip, identity"], LENGTH),
        (
            &["content-encoding: identity", "content-encoding: gzip"],
            LENGTH,
        ),
        (&["content-encoding:", "content-encoding: gzip"], LENGTH),
        (&["transfer-encoding: gzip, chunked"], CHUNKS),
        (
            &["transfer-encoding: gzip", "transfer-encoding: chunked"],
            CHUNKS,
        ),
        (&["transfer-encoding: gzip"], CLOSE),
        (&["transfer-encoding: x"], CLOSE),
        // hyper does not decode these as chunks.
        (&["transfer-encoding: chunked, gzip"], CLOSE),
        (&["transfer-encoding: chunked, identity"], CLOSE),
        (&["transfer-encoding: chunked,"], CLOSE),
        // A coding of its own inside of the other.
        (&["transfer-encoding: chunked, chunked"], CHUNKS),
        (
            &["transfer-encoding: chunked", "transfer-encoding: chunked"],
            CHUNKS,
        ),
    ] {
        let server = coded(200, lines, end).await;
        assert_eq!(
            kind(&client(&server)).await,
            ErrorKind::BadBody,
            "{lines:?}"
        );
        // An error status wins, as its body is not used.
        let server = coded(503, lines, end).await;
        assert_eq!(kind(&client(&server)).await, ErrorKind::Status, "{lines:?}");
    }
}

#[tokio::test]
async fn fault_f14_http_1_0_has_no_transfer_codings() {
    let head =
        "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let fault = Fault::new().send(format!("{head}{CHUNKS}")).close();
    assert_eq!(kind_of(fault).await, ErrorKind::BadHead);
}

/// Error responses whose bodies cannot be read, each with the kind of its body.
fn unreadable(status: u16) -> [(Fault, ErrorKind); 4] {
    let json = ("content-type", "application/json");
    let head = |more: &str| {
        Fault::new().send(format!(
            "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\nretry-after: 7\r\n{more}\r\n"
        ))
    };
    let gzip = Fault::response(status, &[json, ("content-encoding", "gzip")], "{}");
    let huge = head("content-length: 9999999999\r\n").stall();
    let long = format!("{:x}\r\n{}\r\n", 9 << 20, "x".repeat(9 << 20));
    [
        (gzip, ErrorKind::BadBody),
        (huge, ErrorKind::TooLarge),
        (
            head("transfer-encoding: chunked\r\n").send(long).stall(),
            ErrorKind::TooLarge,
        ),
        (
            head("content-length: 9\r\n").send("{").close(),
            ErrorKind::BadBody,
        ),
    ]
}

#[tokio::test]
async fn fault_f14_f20_f22_an_unreadable_body_does_not_hide_an_error_status() {
    for status in [404, 503] {
        for (fault, of_body) in unreadable(status) {
            let server = FaultServer::start(fault).await;
            let client = client(&server);
            let error = call_json(&client).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Status);
            assert!(error.message().ends_with(&status.to_string()));
            // The body of an accepted status is wanted.
            let attempt = JsonLayer::new().filter(FieldFilter::default(), [status]);
            let accepting = AcceptLayer::new([status]).layer(attempt.layer(client));
            let error = accepting.oneshot(get("/")).await.unwrap_err();
            assert_eq!(error.kind(), of_body);
        }
    }
}

#[tokio::test]
async fn fault_f21_an_unreadable_body_does_not_hide_retry_after() {
    let [_, (fault, _), ..] = unreadable(503);
    let server = FaultServer::start(fault).await;
    let attempt = JsonLayer::new().layer(client(&server));
    let response = attempt.oneshot(get("/")).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(response.body().as_raw(), "null");
}

#[tokio::test]
async fn fault_f16_a_head_above_the_limits_is_an_error() {
    for fault in [
        Fault::huge_headers(1_000, 8),
        Fault::huge_headers(1, 1 << 20),
    ] {
        assert_eq!(kind_of(fault).await, ErrorKind::BadHead);
    }
}

#[tokio::test]
async fn fault_f16_max_head_limits_the_head() {
    for (size, fits) in [(7_000, true), (9_000, false)] {
        let server = FaultServer::start(Fault::huge_headers(1, size)).await;
        let client = at(&server.url(), |config| config.max_head = 8 << 10);
        let result = client.oneshot(get("/")).await;
        assert_eq!(
            result.err(),
            (!fits).then_some(ClientErrorKind::BadHead.into())
        );
    }
    let cookies = [("set-cookie", "a=b"); 1_000];
    let flood = Fault::response(200, &cookies, "{}");
    assert_eq!(kind_of(flood).await, ErrorKind::BadHead);
}

#[tokio::test]
async fn fault_f17_more_than_16_interim_responses_end_the_call() {
    for (count, expected) in [(16, None), (17, Some(ClientErrorKind::BadHead.into()))] {
        let server = FaultServer::start(Fault::informational(count)).await;
        let result = client(&server).oneshot(get("/")).await;
        assert_eq!(result.err(), expected, "{count}");
    }
    let flood = Fault::informational(10_000).stall();
    assert_eq!(kind_of(flood).await, ErrorKind::BadHead);
}

#[tokio::test]
async fn fault_f18_the_body_of_a_204_or_304_is_not_the_next_response() {
    for status in [204, 304] {
        let body = Fault::response(status, &[], "{\"smuggled\": true}");
        let server = FaultServer::sequence([body, Fault::json("2")]).await;
        let client = client(&server);
        let first = call_json(&client).await.map_err(|error| error.kind());
        let expected = if status == 204 {
            Ok("null")
        } else {
            Err(ErrorKind::BadStatus)
        };
        assert_eq!(
            first.as_ref().map(Json::as_raw).map_err(|kind| *kind),
            expected
        );
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "2");
        assert_eq!(server.stats().connections, 2);
    }
}

#[tokio::test]
async fn fault_f18_101_and_304_are_errors_204_and_205_are_null() {
    for status in [101, 304] {
        let kind = kind_of(Fault::response(status, &[], "")).await;
        assert_eq!(kind, ErrorKind::BadStatus, "{status}");
    }
    for empty in [204, 205] {
        let server = FaultServer::start(Fault::response(empty, &[], "")).await;
        let response = call_json(&client(&server)).await.unwrap();
        assert_eq!(response.as_raw(), "null");
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
async fn dropping_a_call_closes_its_connection() {
    let server = FaultServer::start(Fault::never_respond()).await;
    let mut call = client(&server).oneshot(get("/")).boxed();
    let sent = server.wait_for(|seen| seen.in_flight == 1);
    tokio::select! {
        _ = &mut call => panic!("the server never responds"),
        _ = sent => {}
    }
    drop(call);
    server.wait_for(|seen| seen.cancelled == 1).await;
}

#[tokio::test]
async fn an_error_status_is_an_error_unless_accepted() {
    let missing = Fault::response(404, &[("content-type", "application/json")], r#"{"no":1}"#);
    let server = FaultServer::start(missing).await;
    let client = client(&server);
    let error = call_json(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status);
    assert_eq!(
        error.to_string(),
        "status: the service responded with status 404"
    );
    let attempt = JsonLayer::new().layer(client);
    let accepting = AcceptLayer::new([404]).layer(attempt);
    let response = accepting.oneshot(get("/")).await.unwrap();
    assert_eq!(response.as_raw(), r#"{"no":1}"#);
}

#[tokio::test]
async fn errors_do_not_contain_the_address_of_the_service() {
    let server = FaultServer::refusing();
    let error = call_json(&client(&server)).await.unwrap_err();
    let port = server.addr().port().to_string();
    assert!(!format!("{error} {error:?}").contains(&port));
}

#[test]
fn invalid_endpoints_are_rejected_with_a_reason() {
    for (endpoint, reason) in [
        ("ftp://users", "must begin with http:// or https://"),
        ("/users", "must begin with http:// or https://"),
        ("http://users/?a=b", "must not have a query"),
        ("http://me:secret@users", "must not contain credentials"),
    ] {
        let endpoint: Uri = endpoint.parse().unwrap();
        let error = Client::new(&endpoint, ClientConfig::default()).unwrap_err();
        assert_eq!((error.field(), error.message()), ("endpoint", reason));
    }
}

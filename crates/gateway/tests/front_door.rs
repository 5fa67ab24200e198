//! Raw requests that the gateway rejects, and clients that disconnect.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

const PLAN: &str = "    onchain: { downstream: up, required: true, request: { path: /onchain } }\n";

async fn gateway() -> (Gateway, Seen) {
    let (up, seen) = stub(quick).await;
    (Gateway::start(&[("up", up)], PLAN, "").await, seen)
}

#[tokio::test]
async fn fault_d7_d8_d9_d12_d17_d19_rejects_an_ambiguous_head() {
    let (gateway, _) = gateway().await;
    let long = "a".repeat(9000);
    for (head, status, code) in [
        (
            format!("GET /{long} HTTP/1.1\r\nhost: x"),
            414,
            "uri_too_long",
        ),
        ("GET /livez HTTP/1.1\r\na: b".into(), 400, "bad_host"),
        (
            "GET /livez HTTP/1.1\r\nhost: x\r\nhost: x".into(),
            400,
            "bad_host",
        ),
        ("GET /livez HTTP/1.1\r\nhost:".into(), 400, "bad_host"),
        ("GET /livez HTTP/1.1\r\nhost: ada@x".into(), 400, "bad_host"),
        (
            "GET /livez HTTP/1.1\r\nhost: x/livez".into(),
            400,
            "bad_host",
        ),
        ("GET /livez HTTP/1.1\r\nhost: x,y".into(), 400, "bad_host"),
        (
            "GET http://y/livez HTTP/1.1\r\nhost: x".into(),
            400,
            "bad_host",
        ),
        ("GET http://x/livez HTTP/1.1\r\nhost: x".into(), 200, ""),
        ("GET * HTTP/1.1\r\nhost: x".into(), 400, "bad_target"),
        ("GET x:80 HTTP/1.1\r\nhost: x:80".into(), 400, "bad_target"),
        ("OPTIONS * HTTP/1.1\r\nhost: x".into(), 204, ""),
        (
            "CONNECT x:80 HTTP/1.1\r\nhost: x:80".into(),
            405,
            "method_not_allowed",
        ),
        (
            "TRACE /livez HTTP/1.1\r\nhost: x".into(),
            405,
            "method_not_allowed",
        ),
        (
            "BREW /livez HTTP/1.1\r\nhost: x".into(),
            501,
            "method_unknown",
        ),
        (
            "POST /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked".into(),
            501,
            "te_unsupported",
        ),
        (
            "POST /livez HTTP/1.1\r\nhost: x\r\nexpect: tea".into(),
            417,
            "expectation_failed",
        ),
        ("GET /livez HTTP/1.0\r\na: b".into(), 200, ""),
    ] {
        let answer = raw(
            gateway.addr,
            &format!("{head}\r\nconnection: close\r\n\r\n0\r\n\r\n"),
        )
        .await;
        assert_eq!(status_and_code(&answer), (status, code), "{head}: {answer}");
        let is_problem = answer.contains("application/problem+json");
        assert_eq!(is_problem, !code.is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn fault_d12_d34_reads_nothing_after_an_ambiguous_body_end() {
    let (gateway, _) = gateway().await;
    let smuggled = "POST /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n\
                    GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(gateway.addr, smuggled).await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn fault_d15_responds_to_http_1_0_and_closes() {
    let (gateway, _) = gateway().await;
    let answer = raw(gateway.addr, "GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.0 200") && answer.ends_with("ok\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn fault_d21_d35_allow_is_exact_and_head_is_get_without_body() {
    let (gateway, _) = gateway().await;
    for (path, allow) in [
        ("", "POST"),
        ("/test", "POST"),
        ("/health", "GET,HEAD,POST"),
    ] {
        let path = format!("{ORCHESTRATE}{path}");
        let answer = gateway.send(Method::DELETE, &path, &[], "").await;
        let response = (
            answer.status.as_u16(),
            answer.at("/code"),
            answer.header("allow"),
        );
        assert_eq!(
            response,
            (405, json!("method_not_allowed"), allow),
            "{path}"
        );
    }
    let get = gateway.send(Method::GET, "/openapi.json", &[], "").await;
    let head = gateway.send(Method::HEAD, "/openapi.json", &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (get.status, ""));
    for name in ["content-type", "content-length"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

#[tokio::test]
async fn fault_d35_ignores_range_and_conditional_headers() {
    let (gateway, _) = gateway().await;
    let headers = [
        ("range", "bytes=0-1".to_owned()),
        ("if-none-match", "*".to_owned()),
        (
            "if-modified-since",
            "Fri, 31 Dec 2100 23:59:59 GMT".to_owned(),
        ),
    ];
    let whole = gateway.send(Method::GET, "/openapi.json", &[], "").await;
    let conditional = gateway
        .send(Method::GET, "/openapi.json", &headers, "")
        .await;
    assert_eq!(
        (conditional.status.as_u16(), conditional.text),
        (200, whole.text)
    );
}

#[tokio::test]
async fn fault_d27_responds_with_json_for_any_accept_header() {
    let (gateway, _) = gateway().await;
    for accept in ["text/html", "application/json;q=0", "x", "image/*, */*;q=0"] {
        let headers = [
            ("authorization", bearer("pro")),
            ("content-type", "application/json".to_owned()),
            ("accept", accept.to_owned()),
        ];
        let answer = gateway
            .send(Method::POST, ORCHESTRATE, &headers, "{}")
            .await;
        let response = (answer.status.as_u16(), answer.header("content-type"));
        assert_eq!(response, (200, "application/json"), "{accept}");
        let answer = gateway
            .send(Method::POST, ORCHESTRATE, &headers[1..], "{}")
            .await;
        let response = (answer.status.as_u16(), answer.header("content-type"));
        assert_eq!(response, (401, "application/problem+json"), "{accept}");
    }
}

#[tokio::test]
async fn fault_d17_sends_100_continue_after_checks_of_the_head() {
    let (gateway, seen) = gateway().await;
    let head = |more: String| {
        format!(
            "POST {ORCHESTRATE} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n\
             content-type: application/json\r\n{more}\r\n\r\n"
        )
    };
    let authorized = |length: usize| {
        let bearer = bearer("pro");
        head(format!(
            "authorization: {bearer}\r\ncontent-length: {length}"
        ))
    };
    for (request, status, code) in [
        (head("content-length: 2".into()), 401, "auth_required"),
        (authorized(2 << 20), 413, "payload_too_large"),
    ] {
        let answer = raw(gateway.addr, &request).await;
        assert_eq!(status_and_code(&answer), (status, code), "{answer}");
    }
    assert_eq!(seen.calls(), 0);
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(authorized(2).as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status_and_code(&answer).0, 200, "{answer}");
}

#[tokio::test]
async fn fault_d22_d23_a_client_that_keeps_sending_gets_413() {
    let (gateway, seen) = gateway().await;
    let head = |framing: &str| {
        let bearer = bearer("pro");
        format!(
            "POST {ORCHESTRATE} HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\
             content-type: application/json\r\n{framing}\r\n\r\n"
        )
    };
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(1 << 16)).repeat(17);
    for request in [
        // Announces more than the limit of 1 MiB, and sends a part of it.
        head("content-length: 1114112") + &"a".repeat(60 << 10),
        // Sends more than the limit without announcing a length.
        head("transfer-encoding: chunked") + &chunk,
    ] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The connection closes with a FIN, not with a reset.
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(
            status_and_code(&answer),
            (413, "payload_too_large"),
            "{answer}"
        );
        assert!(answer.contains("connection: close"), "{answer}");
        // The server discards further data without an error for the client.
        for _ in 0..2 {
            stream.write_all(&[b'a'; 1 << 10]).await.unwrap();
        }
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn fault_d26_requires_a_json_content_type() {
    let (gateway, _) = gateway().await;
    for media_type in [
        "application/json, application/json",
        "text/plain",
        "application/json; charset=utf-16",
        "application/json; charset",
    ] {
        let headers = [
            ("authorization", bearer("pro")),
            ("content-type", media_type.to_owned()),
        ];
        let answer = gateway
            .send(Method::POST, ORCHESTRATE, &headers, "{}")
            .await;
        let response = (answer.status.as_u16(), answer.at("/code"));
        assert_eq!(
            response,
            (415, json!("unsupported_media_type")),
            "{media_type}"
        );
    }
}

#[tokio::test]
async fn fault_d38_pages_and_problems_have_security_headers() {
    let (gateway, _) = gateway().await;
    for path in [
        "/docs/",
        "/docs/swagger-initializer.js",
        "/docs/nothing",
        "/nothing",
    ] {
        let answer = gateway.send(Method::GET, path, &[], "").await;
        let both = ["x-content-type-options", "cache-control"].map(|name| answer.header(name));
        assert_eq!(both, ["nosniff", "no-store"], "{path}");
    }
    let page = gateway.send(Method::GET, "/docs/", &[], "").await;
    let policy = page.header("content-security-policy");
    let directives: Vec<_> = policy.split("; ").collect();
    for directive in [
        "default-src 'self'",
        "object-src 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(directives.contains(&directive), "{policy}");
    }
    assert!(
        !policy.contains("unsafe-eval") && !policy.contains("script-src"),
        "{policy}"
    );
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    // The policy forbids inline scripts, so the page must not have any.
    for script in page.text.split("<script").skip(1) {
        let (head, rest) = script.split_once('>').unwrap();
        let within = rest.split_once("</script>").unwrap().0;
        assert!(
            head.contains("src=\"./") && within.trim().is_empty(),
            "{script}"
        );
    }
}

#[tokio::test]
async fn fault_d24_a_truncated_request_causes_no_downstream_call() {
    let (up, seen) = stub(quick).await;
    let plan = "    up: { downstream: up, request: { path: / } }\n";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(post(100, "{}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(seen.calls(), 0);
}

/// Returns a request to the built-in API with this `content-length`.
fn post(length: usize, body: &str) -> String {
    let authorization = bearer("pro");
    format!(
        "POST {ORCHESTRATE} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Number of clients that disconnect, each during three calls.
const DISCONNECTS: usize = 10;

/// Does not respond to the calls of clients that disconnect. Then responds to three calls, and fails
/// the following.
fn hanging_then_broken(call: usize) -> (Duration, StatusCode, Value) {
    match call / 3 {
        0..DISCONNECTS => hanging(call),
        DISCONNECTS => quick(call),
        _ => broken(call),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d33_a_disconnect_cancels_all_calls_at_once() {
    const PLAN: &str = "    a: { downstream: slow, request: { path: /a } }
    b: { downstream: slow, request: { path: /b } }
    c: { downstream: slow, request: { path: /c } }
";
    // A single failure opens the breaker, and failures are retried after 1 ms.
    const POLICIES: &str = "policies: { p: { attempt_timeout: 5s, retry: { base: 1ms }, circuit_breaker: { min_calls: 1, failure_rate: 0.01, consecutive_failures: 1 } } }\n";
    let (slow, seen) = stub(hanging_then_broken).await;
    let gateway = Gateway::start(&[("slow", slow)], PLAN, POLICIES).await;
    let mut times = Vec::new();
    for round in 1..=DISCONNECTS {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(post(2, "{}").as_bytes()).await.unwrap();
        seen.until(|calls, _| calls == 3 * round).await;
        let disconnected = Instant::now();
        drop(stream);
        seen.until(|_, cancelled| cancelled == 3 * round).await;
        times.push(disconnected.elapsed());
    }
    times.sort();
    println!("all three calls were cancelled after {times:?}");
    assert!(
        times[DISCONNECTS / 2] < ms(10) && times[DISCONNECTS - 1] < ms(200),
        "{times:?}"
    );
    let state = async || {
        let health = gateway.idle_health("a").await;
        health.at("/services/a/circuitBreakerState")
    };
    assert_eq!(state().await, "CLOSED");
    // The breaker admits the next request, and no cancelled call was retried.
    assert_eq!(gateway.ask(json!({})).await.status, 200);
    assert_eq!(
        (seen.calls(), state().await),
        (3 * DISCONNECTS + 3, json!("CLOSED"))
    );
    // A real failure opens the breaker.
    gateway.ask(json!({})).await;
    assert_eq!(state().await, "OPEN");
}

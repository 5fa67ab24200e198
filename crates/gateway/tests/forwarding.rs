//! Forwarding of headers to services and back to the caller.
#![allow(missing_docs)]

mod common;

use axum::{Router, extract::Request, response::IntoResponse};
use common::*;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

/// Starts a service that sends the headers it receives to a channel, and responds with headers of its
/// own.
async fn recording_service() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<HeaderMap>) {
    let (sender, received) = mpsc::unbounded_channel();
    let router = Router::new().fallback(move |request: Request| {
        sender.send(request.headers().clone()).unwrap();
        async {
            let headers = [
                ("content-type", "application/json"),
                ("set-cookie", "session=secret"),
                ("x-powered-by", "somebody"),
                ("cache-control", "public"),
                ("x-fanout-completed", "maybe"),
            ];
            (headers, "{}").into_response()
        }
    });
    (spawn(router).await, received)
}

#[tokio::test]
async fn fault_i9_i10_i11_forwards_no_unlisted_header_of_the_caller() {
    let (service, mut received) = recording_service().await;
    let nodes = "    users: { downstream: users, request: { path: / } }\n";
    let gateway = Gateway::start(&[("users", service)], nodes, "").await;
    let sent = [
        ("authorization", bearer("pro")),
        ("content-type", "application/json".into()),
        ("cookie", "session=secret".into()),
        ("accept-language", "de".into()),
        ("x-user", "root".into()),
        ("x-tier", "pro".into()),
        ("x-fanout-depth", "2".into()),
        ("x-fanout-completed", "false".into()),
    ];
    let answer = gateway.send(Method::POST, ORCHESTRATE, &sent, "{}").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let received = received.recv().await.unwrap();
    for (name, value) in &sent {
        assert!(
            received.get(*name).is_none_or(|received| received != value),
            "{name}"
        );
    }
    assert_eq!(received["host"], service.to_string());
}

#[tokio::test]
async fn dl_18_sends_the_remaining_time_of_each_attempt() {
    let (service, mut received) = recording_service().await;
    let nodes = "    users: { downstream: users, request: { path: / } }\n";
    let more = "policies: { p: { attempt_timeout: 700ms, retry: off } }\n";
    let gateway = Gateway::start(&[("users", service)], nodes, more).await;
    for (timeout, at_most) in [(60_000, 700), (120_000, 700)] {
        gateway.ask(json!({"timeout": timeout})).await;
        let received = received.recv().await.unwrap();
        let left: u64 = received["x-request-timeout-ms"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(left <= at_most && left > 0, "{left}");
    }
}

#[tokio::test]
async fn fault_i12_returns_no_header_of_a_service() {
    let (service, _received) = recording_service().await;
    let nodes = "    users: { downstream: users, request: { path: / } }
    orders: { downstream: users, request: { path: / } }\n";
    let gateway = Gateway::start(&[("users", service)], nodes, "").await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for name in ["set-cookie", "x-powered-by", "x-fanout-completed"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_ne!(answer.header("cache-control"), "public");
}

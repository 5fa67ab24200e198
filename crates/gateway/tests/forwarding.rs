//! What of a caller's request goes down, and what of a service's answer comes up: what is named.
#![allow(missing_docs)]

mod common;

use axum::{Router, extract::Request, response::IntoResponse};
use common::*;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

/// A service that tells the headers that it gets, and answers with headers of its own.
async fn telling() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<HeaderMap>) {
    let (tell, told) = mpsc::unbounded_channel();
    let router = Router::new().fallback(move |request: Request| {
        tell.send(request.headers().clone()).unwrap();
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
    (spawn(router).await, told)
}

#[tokio::test]
async fn fault_i9_i10_i11_nothing_of_a_caller_goes_down_that_is_not_named() {
    let (service, mut told) = telling().await;
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
    let told = told.recv().await.unwrap();
    for (name, value) in &sent {
        assert!(told.get(*name).is_none_or(|told| told != value), "{name}");
    }
    assert_eq!(told["host"], service.to_string());
}

#[tokio::test]
async fn fault_i12_no_header_of_a_service_comes_up() {
    let (service, _told) = telling().await;
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

//! End-to-end tests of policies that are off by default.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use http::StatusCode;
use serde_json::{Value, json};

const PLAN: &str = "    users: { downstream: users, request: { path: / } }\n";

#[tokio::test]
async fn a_hedge_wins_over_a_slow_attempt() {
    let (users, seen) = stub(|call| {
        if call == 0 {
            hanging(call)
        } else {
            quick(call)
        }
    })
    .await;
    let more = "policies: { p: { retry: off, hedge: { delay: 20ms } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("users", "/status"), "success");
    assert_eq!(answer.service("users", "/attempts"), 2);
    seen.until(|calls, cancelled| (calls, cancelled) == (2, 1))
        .await;
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/services/users/inFlight"), 0);
}

#[tokio::test]
async fn explains_the_worst_case_of_hedges() {
    let (users, _) = stub(quick).await;
    let more = "policies: { p: { attempt_timeout: 2s, retry: off, hedge: { delay: 50ms } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    for (body, attempts, worst) in [
        (json!({}), 2, 2050.0),
        (json!({"retryAttempts": 0}), 1, 2000.0),
    ] {
        let answer = gateway.post("/test", body).await;
        assert_eq!(answer.at("/services/users/worstCaseAttempts"), attempts);
        assert_eq!(answer.at("/worstCase").as_f64(), Some(worst));
    }
}

#[tokio::test]
async fn rt_24_a_retry_that_the_limit_refuses_leaves_the_answer() {
    // The first call fails at once, and the second one takes the only permit during its pause.
    let (users, seen) = stub(|call| {
        if call == 0 {
            broken(call)
        } else {
            (ms(1_500), StatusCode::OK, json!(7))
        }
    })
    .await;
    let more = "policies: { p: { concurrency: { max: 1, queue: 0 }, \
                retry: { base: 1s, cap: 1s, jitter: none } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    let other = async {
        seen.until(|calls, _| calls == 1).await;
        // The permit of the first call is free a moment after the stub has responded.
        while gateway.ask(json!({})).await.service("users", "/status") != "success" {}
    };
    let (answer, ()) = tokio::join!(gateway.ask(json!({})), other);
    assert_eq!(answer.service("users", "/error/kind"), "status");
    assert_eq!(answer.service("users", "/httpStatus"), 500);
    assert_eq!(answer.service("users", "/retryStoppedBy"), "refused");
    assert_eq!(seen.calls(), 2);
}

/// Responds with 503 at once.
fn busy(_: usize) -> (Duration, StatusCode, Value) {
    (ms(0), StatusCode::SERVICE_UNAVAILABLE, json!(null))
}

#[tokio::test]
async fn throttles_calls_to_an_overloaded_service() {
    let (users, seen) = stub(busy).await;
    let more = "policies: { p: { retry: off, circuit_breaker: off, throttle: { max: 1 } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    let mut throttled = 0;
    for _ in 0..50 {
        let answer = gateway.ask(json!({})).await;
        let kind = answer.service("users", "/error/kind");
        throttled += usize::from(kind == "at_capacity");
    }
    assert!(throttled > 0);
    assert_eq!(seen.calls(), 50 - throttled);
}

#[tokio::test]
async fn fb_03_each_fallback_step_handles_its_outcomes() {
    let broken = |_: usize| (ms(0), StatusCode::INTERNAL_SERVER_ERROR, json!(null));
    let (broken, _) = stub(broken).await;
    let (hangs, _) = stub(hanging).await;
    let steps = "fallback: [{ static: late, on: [timeout] }, { static: failed, on: [failure] }]";
    let node = |name: &str| {
        format!("    {name}: {{ downstream: {name}, request: {{ path: / }}, {steps} }}\n")
    };
    let plan = node("broken") + &node("hangs");
    let more = "policies: { p: { attempt_timeout: 50ms, retry: off } }\n";
    let stubs = [("broken", broken), ("hangs", hangs)];
    let gateway = Gateway::start(&stubs, &plan, more).await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("broken", "/data"), "failed");
    assert_eq!(answer.service("hangs", "/data"), "late");
}

#[tokio::test]
async fn classifies_statuses_as_configured() {
    let missing = |_: usize| (ms(0), StatusCode::NOT_FOUND, json!(null));
    let (users, seen) = stub(missing).await;
    let more = "policies: { p: { classify: { transient: [404] }, \
                retry: { max_attempts: 3, base: 1ms, retry_on: [404] } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("users", "/status"), "failed");
    assert_eq!(answer.service("users", "/attempts"), 3);
    seen.until(|calls, _| calls == 3).await;
}

#[tokio::test]
async fn the_last_attempt_can_use_the_remaining_time() {
    let slow = |_: usize| (ms(150), StatusCode::OK, json!(7));
    for (last, status) in [("true", "success"), ("false", "failed")] {
        let (users, _) = stub(slow).await;
        let more = format!(
            "policies: {{ p: {{ attempt_timeout: 50ms, last_attempt_uses_deadline: {last}, \
             retry: off }} }}\n"
        );
        let gateway = Gateway::start(&[("users", users)], PLAN, &more).await;
        let answer = gateway.ask(json!({})).await;
        assert_eq!(answer.service("users", "/status"), status);
    }
}

/// Sends a request with a correlation id and a trace context.
async fn ask_traced(gateway: &Gateway) -> Answer {
    let headers = [
        ("authorization", bearer("pro")),
        ("content-type", "application/json".into()),
        ("x-correlation-id", "order-7".to_owned()),
        ("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01")),
        ("tracestate", "vendor=1".to_owned()),
        ("baggage", "user=ada".to_owned()),
    ];
    gateway
        .send(http::Method::POST, ORCHESTRATE, &headers, "{}")
        .await
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Asserts that each of these calls has the ids of the request and a parent id of its own.
fn assert_siblings<'s>(seen: impl IntoIterator<Item = &'s Seen>, calls: usize) {
    let mut parents = std::collections::HashSet::new();
    for (_, headers) in seen.into_iter().flat_map(Seen::requests) {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-correlation-id"), "order-7");
        let trace = header("traceparent");
        assert_eq!(
            (&trace[..36], &trace[52..]),
            (&*format!("00-{TRACE}-"), "-01")
        );
        assert_eq!(header("tracestate"), "vendor=1");
        assert!(
            !headers.contains_key("baggage"),
            "baggage is not allowed by default"
        );
        parents.insert(trace[36..52].to_owned());
    }
    assert_eq!(parents.len(), calls);
    assert!(!parents.contains("b7ad6b7169203331") && !parents.contains("0000000000000000"));
}

#[tokio::test]
async fn fault_c8_c17_retries_and_fallbacks_share_one_trace() {
    let ((users, seen), (spare, spare_seen)) = (stub(broken).await, stub(quick).await);
    let plan =
        "    users: { downstream: users, request: { path: / }, fallback: [{ service: spare }] }\n";
    let more = "policies: { p: { retry: { max_attempts: 3, base: 1ms, retry_on: [500] } } }\n";
    let gateway = Gateway::start(&[("users", users), ("spare", spare)], plan, more).await;
    let answer = ask_traced(&gateway).await;
    assert_eq!(answer.service("users", "/status"), "fallback");
    assert_eq!((seen.calls(), spare_seen.calls()), (3, 1));
    assert_siblings([&seen, &spare_seen], 4);
}

#[tokio::test]
async fn fault_c8_c17_a_hedge_shares_the_trace() {
    let slow_first = |call| {
        if call == 0 {
            hanging(call)
        } else {
            quick(call)
        }
    };
    let (users, seen) = stub(slow_first).await;
    let more = "policies: { p: { retry: off, hedge: { delay: 20ms } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    let answer = ask_traced(&gateway).await;
    assert_eq!(answer.service("users", "/status"), "success");
    assert_eq!(seen.calls(), 2);
    assert_siblings([&seen], 2);
}

#[tokio::test]
async fn fault_c9_starts_a_trace_for_a_request_without_one() {
    let (users, seen) = stub(quick).await;
    let gateway = Gateway::start(&[("users", users)], PLAN, "").await;
    for _ in 0..2 {
        gateway.ask(json!({})).await;
    }
    let traces: Vec<_> = (seen.requests().iter())
        .map(|(_, headers)| headers["traceparent"].to_str().unwrap()[3..35].to_owned())
        .collect();
    assert_ne!(traces[0], traces[1]);
}

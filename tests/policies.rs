//! Policies that are not on by default, from the file to the service that is asked.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use http::StatusCode;
use serde_json::{Value, json};

const PLAN: &str = "    users: { downstream: users, request: { path: / } }\n";

#[tokio::test]
async fn a_late_answer_loses_to_a_hedge() {
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
    seen.until(|calls, cut| (calls, cut) == (2, 1)).await;
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/services/users/inFlight"), 0);
}

#[tokio::test]
async fn the_worst_case_of_hedges_is_explained() {
    let (users, _) = stub(quick).await;
    let more = "policies: { p: { attempt_timeout: 2s, retry: off, hedge: { delay: 50ms } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    for (asked, attempts, worst) in [
        (json!({}), 2, 2050.0),
        (json!({"retryAttempts": 0}), 1, 2000.0),
    ] {
        let answer = gateway.post("/test", asked).await;
        assert_eq!(answer.at("/services/users/worstCaseAttempts"), attempts);
        assert_eq!(answer.at("/worstCase").as_f64(), Some(worst));
    }
}

/// Wants fewer calls.
fn busy(_: usize) -> (Duration, StatusCode, Value) {
    (ms(0), StatusCode::SERVICE_UNAVAILABLE, json!(null))
}

#[tokio::test]
async fn a_service_that_refuses_everything_is_held_back_from() {
    let (users, seen) = stub(busy).await;
    let more = "policies: { p: { retry: off, circuit_breaker: off, throttle: { max: 1 } } }\n";
    let gateway = Gateway::start(&[("users", users)], PLAN, more).await;
    let mut held_back = 0;
    for _ in 0..50 {
        let answer = gateway.ask(json!({})).await;
        let kind = answer.service("users", "/error/kind");
        held_back += usize::from(kind == "at_capacity");
    }
    assert!(held_back > 0);
    assert_eq!(seen.calls(), 50 - held_back);
}

#[tokio::test]
async fn fb_03_each_step_answers_for_what_it_is_for() {
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
async fn a_service_may_mean_something_else_by_its_statuses() {
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
async fn the_last_attempt_may_take_the_time_that_is_left() {
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

//! End-to-end tests of plans: conditions, strategies, return time, field filters and merging.
#![allow(missing_docs)]

mod common;

use std::net::SocketAddr;

use common::*;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

/// Starts a gateway with a route `GET /r/{id}` that runs `plan` without authentication.
async fn route(downstreams: &[(&str, SocketAddr)], plan: &str, aggregate: &str) -> Gateway {
    let more = format!(
        "routes:
  - name: r
    match: {{ path: \"/r/{{id}}\" }}
    deadline: {{ default: 20s }}
    plan:
{plan}
    aggregate: {aggregate}
"
    );
    let (first, _) = downstreams[0];
    let unused = format!("    a: {{ downstream: {first}, request: {{ path: / }} }}");
    Gateway::start(downstreams, &unused, &more).await
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    gateway.send(Method::GET, path, &[], "").await
}

#[tokio::test]
async fn a_condition_skips_a_service_and_its_dependents() {
    let (up, seen) = stub(quick).await;
    let plan = "      user: { downstream: up, required: true, request: { path: /user } }
      full: { downstream: up, when: \"query.view == 'full'\", request: { path: /full } }
      more: { downstream: up, depends_on: [full], required: true, request: { path: /more } }
";
    let gateway = route(&[("up", up)], plan, "{}").await;
    let answer = get(&gateway, "/r/1?view=short").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.service("full", "/skipReason"), "when");
    assert_eq!(answer.service("more", "/skipReason"), "when");
    assert_eq!(answer.at("/meta/completed"), true);
    assert_eq!(seen.calls(), 1);
    let answer = get(&gateway, "/r/1?view=full").await;
    assert_eq!(answer.service("more", "/status"), "success");
    assert_eq!(seen.calls(), 4);
}

#[tokio::test]
async fn fault_i4_rejects_missing_input_of_a_required_condition() {
    let (up, seen) = stub(quick).await;
    let plan = "      user: { downstream: up, required: true, when: \"query.view == 'full'\", request: { path: /user } }
      more: { downstream: up, when: \"query.more == '1'\", request: { path: /more } }
";
    let gateway = route(&[("up", up)], plan, "{}").await;
    let answer = get(&gateway, "/r/1").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.at("/code"), "missing_param");
    assert_eq!(answer.at("/errors/0/pointer"), "/query/view");
    assert_eq!(seen.calls(), 0);
    let answer = get(&gateway, "/r/1?view=full").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.service("more", "/error/kind"), "template");
}

#[tokio::test]
async fn fault_i4_reports_missing_input_of_conditions_and_templates() {
    let (up, seen) = stub(quick).await;
    let plan = "      user: { downstream: up, required: true, request: { path: \"/user/{query.id}\" } }
      full: { downstream: up, required: true, when: \"query.view == 'full'\", request: { path: /full } }
      more: { downstream: up, when: \"query.more == '1'\", request: { path: \"/more/{query.more}\" } }
";
    let gateway = route(&[("up", up)], plan, "{}").await;
    let answer = get(&gateway, "/r/1").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.at("/errors/0/pointer"), "/query/id");
    assert_eq!(answer.at("/errors/1/pointer"), "/query/view");
    assert_eq!(answer.at("/errors").as_array().unwrap().len(), 2);
    assert_eq!(seen.calls(), 0);
    let answer = get(&gateway, "/r/1?id=7&view=full").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(seen.calls(), 2);
}

#[tokio::test]
async fn fault_j43_the_error_of_a_condition_is_never_false() {
    let (up, seen) = stub(quick).await;
    let required = "      user: { downstream: up, required: true, when: \"int(query.page) > 3\", request: { path: /user } }
";
    let gateway = route(&[("up", up)], required, "{}").await;
    for (query, status, code) in [("", 422, "missing_param"), ("?page=abc", 400, "bad_param")] {
        let answer = get(&gateway, &format!("/r/1{query}")).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        assert_eq!(answer.at("/code"), code);
        assert_eq!(answer.at("/errors/0/pointer"), "/query/page");
    }
    let optional = "      user: { downstream: up, request: { path: /user } }
      more: { downstream: up, when: \"int(query.page) > 3\", request: { path: /more } }
      last: { downstream: up, depends_on: [more], request: { path: /last } }
";
    let gateway = route(&[("up", up)], optional, "{}").await;
    assert_eq!(seen.calls(), 0);
    for query in ["", "?page=abc"] {
        let answer = get(&gateway, &format!("/r/1{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.service("more", "/status"), "failed");
        assert_eq!(answer.service("more", "/error/kind"), "template");
        assert_eq!(answer.service("last", "/skipReason"), "dependency");
        assert_eq!(answer.at("/meta/completed"), false);
    }
    assert_eq!(seen.calls(), 2);
    let answer = get(&gateway, "/r/1?page=3").await;
    assert_eq!(answer.service("more", "/skipReason"), "when");
    assert_eq!(answer.at("/meta/completed"), true);
    let answer = get(&gateway, "/r/1?page=4").await;
    assert_eq!(answer.service("last", "/status"), "success");
}

#[tokio::test]
async fn fault_j43_points_at_a_result_that_is_not_a_boolean() {
    let (up, seen) = stub(quick).await;
    let unused = "    a: { downstream: up, request: { path: / } }";
    let routes = "routes:
  - name: r
    match: { path: /r, method: POST }
    plan: { a: { downstream: up, required: true, when: \"has(query.b) ? body.b : body.n\", request: { path: / } } }
";
    let gateway = Gateway::start(&[("up", up)], unused, routes).await;
    for (path, pointer) in [("/r", "/n"), ("/r?b=1", "/b")] {
        let json = [("content-type", "application/json".to_owned())];
        let body = "{\"n\": 1, \"b\": \"yes\"}";
        let answer = gateway.send(Method::POST, path, &json, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        assert_eq!(answer.at("/errors/0/pointer"), pointer);
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn fault_j43_failed_conditions_that_leave_no_node_fail_the_request() {
    let (up, seen) = stub(quick).await;
    let plan = "      a: { downstream: up, when: \"query.a == '1'\", request: { path: /a } }
      b: { downstream: up, when: \"has(query.b) && query.a == '1'\", request: { path: /b } }
      c: { downstream: up, depends_on: [a], request: { path: /c } }
";
    let gateway = route(&[("up", up)], plan, "{}").await;
    let answer = get(&gateway, "/r/1").await;
    assert_eq!(answer.status.as_u16(), 422, "{}", answer.text);
    assert_eq!(answer.at("/code"), "missing_param");
    assert_eq!(answer.at("/errors/0/pointer"), "/query/a");
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn the_first_response_cancels_the_rest() {
    let (up, _) = stub(quick).await;
    let (slow, seen) = stub(hanging).await;
    let plan = "      slow: { downstream: slow, required: true, request: { path: /a } }
      quick: { downstream: up, request: { path: /b } }
";
    let gateway = route(&[("up", up), ("slow", slow)], plan, "{ strategy: first }").await;
    let answer = get(&gateway, "/r/1").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.service("slow", "/status"), "cancelled");
    assert_eq!(answer.at("/meta/aggregationStrategy"), "first");
    seen.until(|calls, cancelled| cancelled == calls).await;
}

#[tokio::test]
async fn a_quorum_succeeds_or_fails_as_soon_as_it_is_decided() {
    let (up, _) = stub(quick).await;
    let (down, _) = stub(broken).await;
    let (slow, _) = stub(hanging).await;
    for (second, status) in [("up", StatusCode::OK), ("down", StatusCode::BAD_GATEWAY)] {
        let plan = format!(
            "      a: {{ downstream: up, request: {{ path: /a }} }}
      b: {{ downstream: {second}, request: {{ path: /b }} }}
      c: {{ downstream: {}, request: {{ path: /c }} }}
",
            if second == "up" { "slow" } else { "down" },
        );
        let downstreams = [("up", up), ("down", down), ("slow", slow)];
        let gateway = route(&downstreams, &plan, "{ strategy: { quorum: 2 } }").await;
        let answer = get(&gateway, "/r/1").await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let parallel = answer.at("/data/parallelExecutionStats");
        assert_eq!(parallel["totalServices"], json!(3));
    }
}

#[tokio::test]
async fn responds_a_grace_period_after_the_required_services() {
    let (up, _) = stub(quick).await;
    let (slow, seen) = stub(hanging).await;
    let plan = "      must: { downstream: up, required: true, request: { path: /a } }
      may: { downstream: slow, request: { path: /b } }
";
    let aggregate = "{ return_when: required, grace: 50ms }";
    let gateway = route(&[("up", up), ("slow", slow)], plan, aggregate).await;
    let start = Instant::now();
    let answer = get(&gateway, "/r/1").await;
    let elapsed = start.elapsed();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.service("may", "/status"), "cancelled");
    assert_eq!(answer.header("x-fanout-completed"), "false");
    // Waiting for the optional service would take the whole deadline of 20 s.
    assert!(elapsed >= ms(50) && elapsed < ms(5_000), "{elapsed:?}");
    seen.until(|calls, cancelled| cancelled == calls).await;
}

/// Responds with data inside an envelope.
fn enveloped(_: usize) -> (std::time::Duration, StatusCode, serde_json::Value) {
    let data = json!({"items": [1, 2], "secret": "x"});
    (ms(0), StatusCode::OK, json!({"data": data, "trace": 7}))
}

#[tokio::test]
async fn filters_and_renames_response_fields() {
    let (up, _) = stub(enveloped).await;
    let (none, _) = stub(|_| (ms(0), StatusCode::NOT_FOUND, json!({"error": "none"}))).await;
    let (other, _) = stub(quick).await;
    let wanted = "target: data, allow: [items], rename: { items: list }";
    let plan = format!(
        "      has: {{ downstream: up, request: {{ path: /a }}, response: {{ {wanted} }} }}
      reads: {{ downstream: up, depends_on: [has], request: {{ path: \"/{{has.list.0}}\" }} }}
      none: {{ downstream: none, request: {{ path: /b }}, response: {{ {wanted}, accept: [404] }} }}
      lacks: {{ downstream: other, request: {{ path: /c }}, response: {{ {wanted} }} }}
      falls: {{ downstream: other, request: {{ path: /d }}, response: {{ {wanted} }}, fallback: [{{ static: {{ list: [] }} }}] }}
"
    );
    let downstreams = [("up", up), ("none", none), ("other", other)];
    let gateway = route(&downstreams, &plan, "{ strategy: best_effort }").await;
    let answer = get(&gateway, "/r/1").await;
    assert_eq!(answer.service("has", "/data"), json!({"list": [1, 2]}));
    assert_eq!(
        answer.service("reads", "/status"),
        "success",
        "templates read the filtered response"
    );
    assert_eq!(
        answer.service("none", "/data"),
        json!(null),
        "the body of an accepted error is not exposed"
    );
    assert_eq!(answer.service("lacks", "/error/kind"), "bad_json");
    assert_eq!(answer.service("falls", "/status"), "fallback");
    assert_eq!(answer.service("falls", "/data"), json!({"list": []}));
}

/// Responds with an object that holds an integer beyond the precision of a float.
fn first(_: usize) -> (std::time::Duration, StatusCode, serde_json::Value) {
    let number: serde_json::Value = serde_json::from_str("9007199254740993").unwrap();
    (
        ms(20),
        StatusCode::OK,
        json!({"id": 1, "n": number, "a": {"x": 1}}),
    )
}

fn second(_: usize) -> (std::time::Duration, StatusCode, serde_json::Value) {
    (ms(0), StatusCode::OK, json!({"id": 2, "a": {"y": 2}}))
}

#[tokio::test]
async fn fault_g7_g8_merges_one_document_in_the_order_of_the_plan() {
    let (one, _) = stub(first).await;
    let (two, _) = stub(second).await;
    let plan = "      one: { downstream: one, required: true, request: { path: /a } }
      two: { downstream: two, required: true, request: { path: /b } }
";
    let cases = [
        (
            "{ merge: flat, on_conflict: first }",
            json!({"id": 1, "n": 9007199254740993u64, "a": {"x": 1}}),
        ),
        (
            "{ merge: deep, on_conflict: last }",
            json!({"id": 2, "n": 9007199254740993u64, "a": {"x": 1, "y": 2}}),
        ),
        (
            "{ merge: deep, on_conflict: rename }",
            json!({"id": 1, "two_id": 2, "n": 9007199254740993u64, "a": {"x": 1, "y": 2}}),
        ),
    ];
    for (aggregate, merged) in cases {
        let gateway = route(&[("one", one), ("two", two)], plan, aggregate).await;
        let answer = get(&gateway, "/r/1").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.at("/data/merged"), merged, "{aggregate}");
        assert_eq!(answer.service("one", "/status"), "success");
        assert!(answer.json().pointer("/data/services/one/data").is_none());
        let accept = [("accept", "application/x-ndjson".to_owned())];
        let streamed = gateway.send(Method::GET, "/r/1", &accept, "").await;
        let lines: Vec<serde_json::Value> = (streamed.text.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            (lines.len(), &lines[0]["name"]),
            (3, &json!("two")),
            "records are in the order of completion"
        );
        assert_eq!(lines[2]["data"]["merged"], merged, "{aggregate}");
    }
}

#[tokio::test]
async fn a_merge_conflict_is_a_problem_with_both_responses() {
    let (one, _) = stub(first).await;
    let (two, _) = stub(second).await;
    let plan = "      one: { downstream: one, required: true, request: { path: /a } }
      two: { downstream: two, required: true, request: { path: /b } }
";
    let gateway = route(&[("one", one), ("two", two)], plan, "{ merge: flat }").await;
    let answer = get(&gateway, "/r/1").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.at("/code"), "merge_conflict");
    assert_eq!(answer.service("one", "/data/id"), 1);
    assert_eq!(answer.service("two", "/data/id"), 2);
    let accept = [("accept", "text/event-stream".to_owned())];
    let streamed = gateway.send(Method::GET, "/r/1", &accept, "").await;
    let (_, summary) = streamed.text.rsplit_once("event: summary\ndata: ").unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary.trim()).unwrap();
    assert_eq!(
        (&summary["success"], &summary["code"]),
        (&json!(false), &json!("merge_conflict"))
    );
}

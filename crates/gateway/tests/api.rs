//! The contract of the built-in API: authentication, validation and responses.
#![allow(missing_docs)]

mod common;

use common::*;
use http::{Method, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PLAN: &str = "    onchain: { downstream: up, required: true, request: { path: \"/{body.input.symbol|BTC}\" } }
    sentiment: { downstream: up, request: { path: /sentiment } }
    team: { downstream: up, tiers: [pro], request: { path: /team } }
    broken: { downstream: down, request: { path: /broken } }
    write: { downstream: up, request: { method: POST, path: /write } }
";

/// Starts a gateway with one service that responds and one that fails.
async fn gateway() -> (Gateway, Seen) {
    let (up, seen) = stub(quick).await;
    let (down, _) = stub(broken).await;
    (
        Gateway::start(&[("up", up), ("down", down)], PLAN, "").await,
        seen,
    )
}

fn json_type() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

#[tokio::test]
async fn fault_a1_calls_no_service_without_a_valid_token() {
    let (gateway, seen) = gateway().await;
    let cases = [
        (None, 401, "auth_required"),
        (Some("Basic YTpi".to_owned()), 401, "auth_required"),
        (Some("Bearer x.y.z".to_owned()), 401, "invalid_token"),
        (
            Some(format!("Bearer {}", token(&json!({"exp": 1_000})))),
            401,
            "invalid_token",
        ),
        (
            Some(format!("Bearer {}", token(&json!({"exp": null})))),
            401,
            "invalid_token",
        ),
        (
            Some(format!("Bearer {}", token(&json!({"iss": "evil"})))),
            401,
            "invalid_token",
        ),
        (
            Some(format!("Bearer {}", token(&json!({"aud": "other"})))),
            401,
            "invalid_token",
        ),
        (
            Some(format!(
                "Bearer {}",
                token(&json!({"nbf": 99_999_999_999_u64}))
            )),
            401,
            "invalid_token",
        ),
        (Some("Bearer ".to_owned()), 400, "invalid_request"),
    ];
    for path in ["", "/test", "/health"] {
        for (value, status, code) in &cases {
            let mut headers = vec![json_type()];
            headers.extend(value.iter().map(|value| ("authorization", value.clone())));
            let answer = gateway
                .send(
                    Method::POST,
                    &format!("{ORCHESTRATE}{path}"),
                    &headers,
                    "{}",
                )
                .await;
            assert_eq!(
                (answer.status.as_u16(), answer.at("/code")),
                (*status, json!(code)),
                "{value:?}"
            );
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert!(
                answer
                    .header("www-authenticate")
                    .starts_with("Bearer realm=")
            );
            assert_eq!(
                answer.at("/correlationId"),
                answer.header("x-correlation-id")
            );
        }
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn fault_e3_reports_each_invalid_field_with_its_pointer() {
    let (gateway, seen) = gateway().await;
    let cases = [
        (json!({"maxConcurrency": 0}), vec!["/maxConcurrency"]),
        (json!({"timeout": 999}), vec!["/timeout"]),
        (json!({"retryAttempts": 6}), vec!["/retryAttempts"]),
        (
            json!({"aggregationStrategy": "quorum"}),
            vec!["/aggregationStrategy"],
        ),
        (json!({"parallelExecution": 1}), vec!["/parallelExecution"]),
        (json!({"enableFallbacks": "no"}), vec!["/enableFallbacks"]),
        (json!({"input": 5}), vec!["/input"]),
        (
            json!({"requiredServices": ["nobody"]}),
            vec!["/requiredServices/0"],
        ),
        (
            json!({"maxConcurrency": 11, "timeout": 120_001}),
            vec!["/maxConcurrency", "/timeout"],
        ),
    ];
    for (body, pointers) in cases {
        let answer = gateway.ask(body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.at("/code")),
            (422, json!("validation")),
            "{body}"
        );
        let errors = answer.at("/errors");
        let found: Vec<_> = errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(found, pointers);
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn fault_e1_d25_d26_d22_rejects_invalid_bodies() {
    let (gateway, seen) = gateway().await;
    let auth = || ("authorization", bearer("pro"));
    let large = format!("{{\"input\": {{\"x\": \"{}\"}}}}", "x".repeat(1 << 20));
    let deep = format!(
        "{{\"input\": {{\"x\": {}{}}}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let plain = || ("content-type", "text/plain".to_owned());
    let cases = [
        (vec![auth(), json_type()], "", 400, "malformed_json"),
        (
            vec![auth(), json_type()],
            "{\"timeout\": 5000",
            400,
            "malformed_json",
        ),
        (
            vec![auth(), json_type()],
            "{\"timeout\": 5000, \"timeout\": 6000}",
            400,
            "malformed_json",
        ),
        (vec![auth(), json_type()], "[]", 400, "malformed_json"),
        (vec![auth(), json_type()], &deep, 400, "malformed_json"),
        (vec![auth(), json_type()], &large, 413, "payload_too_large"),
        (vec![auth(), plain()], "{}", 415, "unsupported_media_type"),
        (vec![auth()], "{}", 415, "unsupported_media_type"),
        (
            vec![auth(), json_type(), ("content-encoding", "gzip".to_owned())],
            "{}",
            415,
            "unsupported_encoding",
        ),
    ];
    for (headers, body, status, code) in cases {
        let answer = gateway
            .send(Method::POST, ORCHESTRATE, &headers, body)
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.at("/code")),
            (status, json!(code))
        );
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn applies_the_defaults_of_the_contract() {
    let (gateway, _) = gateway().await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(
        answer.at("/meta/effective"),
        json!({"maxConcurrency": 5, "timeout": 30_000, "retryAttempts": 2})
    );
    assert_eq!(answer.at("/meta/aggregationStrategy"), "partial");
    assert_eq!(answer.at("/meta/tier"), "pro");
    assert_eq!(answer.at("/meta/timedOut"), false);
    let order =
        ["success", "data", "meta"].map(|name| answer.text.find(&format!("\"{name}\":")).unwrap());
    assert!(order.is_sorted());
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn fault_g2_a_partial_response_reports_the_failed_service() {
    let (gateway, _) = gateway().await;
    let answer = gateway.ask(json!({"retryAttempts": 0})).await;
    assert_eq!(
        (answer.status, answer.header("x-fanout-completed")),
        (StatusCode::OK, "false")
    );
    assert_eq!(answer.at("/meta/completed"), false);
    assert_eq!(answer.service("broken", "/status"), "failed");
    assert_eq!(
        answer.service("broken", "/error"),
        json!({"kind": "status", "message": "the service responded with status 500"})
    );
    assert!(
        !answer.text.contains("inside"),
        "the body of a failed call is not exposed"
    );
}

#[tokio::test]
async fn fault_g1_all_fails_with_data_and_meta_in_the_problem() {
    let (gateway, _) = gateway().await;
    let answer = gateway
        .ask(json!({"aggregationStrategy": "all", "retryAttempts": 0}))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/code")),
        (502, json!("upstream_failed"))
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.service("broken", "/status"), "failed");
    assert_eq!(answer.at("/meta/aggregationStrategy"), "all");
}

#[tokio::test]
async fn derives_the_status_of_a_failed_run_from_its_causes() {
    let (slow, _) = stub(hanging).await;
    let (down, _) = stub(broken).await;
    let plan = "    slow: { downstream: slow, request: { path: / } }
    down: { downstream: down, request: { path: / } }
";
    let more = "policies: { p: { attempt_timeout: 50ms, retry: off, circuit_breaker: { consecutive_failures: 1 } } }\n";
    let gateway = Gateway::start(&[("slow", slow), ("down", down)], plan, more).await;
    let require = |names: &[&str]| gateway.ask(json!({"requiredServices": names}));
    let timeout = require(&["slow"]).await;
    assert_eq!(
        (timeout.status.as_u16(), timeout.at("/code")),
        (504, json!("upstream_timeout"))
    );
    let rejected = require(&["slow"]).await;
    assert_eq!(
        (rejected.status.as_u16(), rejected.at("/code")),
        (503, json!("upstream_unavailable"))
    );
    assert_eq!(rejected.service("slow", "/error/kind"), "breaker_open");
    assert_eq!(rejected.service("slow", "/circuitBreakerState"), "OPEN");
    assert_eq!(rejected.service("slow", "/attempts"), 0);
    let wait: u64 = rejected.header("retry-after").parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(rejected.at("/retryAfter"), wait);
    let mixed = require(&["slow", "down"]).await;
    assert_eq!(mixed.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn fault_e10_skips_or_forbids_services_outside_the_tier() {
    let (gateway, _) = gateway().await;
    let headers = [("authorization", bearer("free")), json_type()];
    let ask = async |body: &str| {
        gateway
            .send(Method::POST, ORCHESTRATE, &headers, body)
            .await
    };
    let answer = ask(r#"{"optionalServices": ["team", "sentiment"]}"#).await;
    assert_eq!(answer.service("team", "/skipReason"), "tier");
    assert_eq!(answer.at("/data/successRate"), json!(1.0));
    let answer = ask(r#"{"requiredServices": ["team"]}"#).await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/code")),
        (403, json!("tier_forbidden"))
    );
    let answer = ask(r#"{"optionalServices": ["team"]}"#).await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/code")),
        (422, json!("no_services"))
    );
}

#[tokio::test]
async fn fault_e11_runs_exactly_the_named_services() {
    let (gateway, seen) = gateway().await;
    let answer = gateway
        .ask(json!({"requiredServices": ["sentiment"]}))
        .await;
    let services = answer.at("/data/services");
    assert_eq!(
        services.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["sentiment"]
    );
    assert_eq!(seen.calls(), 1);
}

#[tokio::test]
async fn fault_i4_reports_missing_input_before_anything_is_sent() {
    let (up, seen) = stub(quick).await;
    let plan = "    user: { downstream: up, required: true, request: { path: \"/users/{body.input.id}\" } }
    other: { downstream: up, request: { path: \"/x/{body.input.other}\" } }
";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/code")),
        (422, json!("missing_param"))
    );
    assert_eq!(answer.at("/errors/0/pointer"), "/input/id");
    assert_eq!(
        gateway
            .ask(json!({"input": {"id": ".."}}))
            .await
            .at("/code"),
        "bad_param"
    );
    assert_eq!(seen.calls(), 0);
    let answer = gateway.ask(json!({"input": {"id": "a/../b?x=1"}})).await;
    assert_eq!(seen.requests()[0].0, "/users/a%2F..%2Fb%3Fx%3D1");
    assert_eq!(answer.service("other", "/error/kind"), "template");
}

#[tokio::test]
async fn fault_i13_keeps_the_json_types_of_values_in_a_body() {
    let echo = spawn(axum::Router::new().fallback(
        |headers: http::HeaderMap, body: String| async move {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            axum::Json(json!({
                "type": header("content-type"),
                "length": header("content-length"),
                "body": body,
            }))
        },
    ));
    let plan = "    first: { downstream: up, required: true, request: { method: POST, path: /first, body: { of: \"{body.input.of}\", tier: \"<{tier}>\" } } }
    second: { downstream: up, depends_on: [first], request: { method: PUT, path: /second, body: [\"{first.body.of}\", \"{first.none|7}\"] } }
";
    let gateway = Gateway::start(&[("up", echo.await)], plan, "").await;
    let of = json!({"quote": "\"", "list": [1, null]});
    let answer = gateway.ask(json!({"input": {"of": of}})).await;
    assert_eq!(
        answer.service("first", "/data"),
        json!({
            "type": "application/json",
            "length": "52",
            "body": {"of": of, "tier": "<pro>"},
        })
    );
    assert_eq!(answer.service("second", "/data/body"), json!([of, 7]));
    let answer = gateway.ask(json!({"input": {}})).await;
    assert_eq!(answer.at("/errors/0/pointer"), "/input/of");
}

#[tokio::test]
async fn fault_c1_c2_passes_the_correlation_id_in_out_and_down() {
    let (gateway, seen) = gateway().await;
    let headers = [
        ("authorization", bearer("pro")),
        json_type(),
        ("x-correlation-id", "order-7".to_owned()),
    ];
    let answer = gateway
        .send(
            Method::POST,
            ORCHESTRATE,
            &headers,
            "{\"requiredServices\": [\"onchain\"]}",
        )
        .await;
    assert_eq!(answer.header("x-correlation-id"), "order-7");
    assert_eq!(answer.at("/meta/correlationId"), "order-7");
    assert_eq!(seen.requests()[0].1["x-correlation-id"], "order-7");
    let answer = gateway.ask(json!({"requiredServices": ["onchain"]})).await;
    assert_eq!(
        seen.requests()[1].1["x-correlation-id"],
        answer.header("x-correlation-id")
    );
}

/// Sends a request with this raw header line. Returns the raw response.
async fn raw_response(gateway: &Gateway, line: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(gateway.addr).await.unwrap();
    let request = format!("GET /livez HTTP/1.1\r\nhost: a\r\n{line}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn fault_c4_c15_a_line_break_in_an_id_injects_no_header() {
    let (gateway, _) = gateway().await;
    for line in [
        "x-correlation-id: a\rset-cookie: b",
        "x-correlation-id: a\r",
        "x-correlation-id: a\0b",
        "x-correlation-id: a\r\n b",
    ] {
        let answer = raw_response(&gateway, line).await;
        // Rejected by the HTTP parser, whose response has no body.
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line:?}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{line:?}: {answer}");
    }
    // The parser accepts a bare LF, so these are two headers of the request.
    let answer = raw_response(&gateway, "x-correlation-id: a\nset-cookie: b").await;
    assert!(answer.contains("x-correlation-id: a\r\n"), "{answer}");
    assert!(!answer.contains("set-cookie"), "{answer}");
    let answer = raw_response(&gateway, "x-correlation-id: a%0d%0aset-cookie:b").await;
    assert!(!answer.contains("set-cookie"), "{answer}");
}

#[tokio::test]
async fn fault_i9_forwards_no_header_of_the_caller_by_default() {
    let (gateway, seen) = gateway().await;
    let headers = [
        ("authorization", bearer("pro")),
        json_type(),
        ("cookie", "a=b".to_owned()),
        ("x-user-id", "root".to_owned()),
        ("x-request-timeout-ms", "999999".to_owned()),
    ];
    gateway
        .send(
            Method::POST,
            ORCHESTRATE,
            &headers,
            "{\"requiredServices\": [\"onchain\"]}",
        )
        .await;
    let mut sent: Vec<_> = seen.requests()[0]
        .1
        .keys()
        .map(|name| name.as_str().to_owned())
        .collect();
    sent.sort_unstable();
    assert_eq!(
        sent,
        [
            "accept",
            "accept-encoding",
            "host",
            "traceparent",
            "x-correlation-id",
            "x-fanout-depth",
            "x-request-timeout-ms"
        ]
    );
}

#[tokio::test]
async fn test_explains_without_calls_and_can_run_safe_nodes() {
    let (gateway, seen) = gateway().await;
    let answer = gateway.post("/test", json!({"maxConcurrency": 3})).await;
    assert_eq!((answer.status, seen.calls()), (StatusCode::OK, 0));
    assert_eq!(
        answer.at("/waves/0"),
        json!(["onchain", "sentiment", "team", "broken", "write"])
    );
    assert_eq!(answer.at("/services/write/skipReason"), json!(null));
    assert_eq!(answer.at("/services/onchain/required"), true);
    assert_eq!(answer.at("/services/onchain/worstCaseAttempts"), 3);
    assert_eq!(answer.at("/deadline"), 30_000);
    let answer = gateway
        .post("/test?execute=true", json!({"retryAttempts": 0}))
        .await;
    assert_eq!(answer.at("/services/write/skipReason"), "test");
    assert_eq!(answer.at("/result/data/services/write/skipReason"), "test");
    assert_eq!(answer.at("/result/data/services/onchain/status"), "success");
    assert!(seen.requests().iter().all(|(target, _)| target != "/write"));
}

#[tokio::test]
async fn health_is_down_only_if_a_required_service_is_down() {
    let (down, _) = stub(broken).await;
    let more = "policies: { p: { retry: off, circuit_breaker: { consecutive_failures: 1 } } }\n";
    for (required, status, overall) in [(false, 200, "DEGRADED"), (true, 503, "DOWN")] {
        let plan = format!(
            "    down: {{ downstream: down, required: {required}, request: {{ path: / }} }}\n"
        );
        let gateway = Gateway::start(&[("down", down)], &plan, more).await;
        let health = gateway.post("/health", json!({})).await;
        assert_eq!(
            (health.status.as_u16(), health.at("/status")),
            (200, json!("UP"))
        );
        assert_eq!(health.at("/services/down/lastFailure"), json!(null));
        gateway.ask(json!({})).await;
        let headers = [("authorization", bearer("free"))];
        let health = gateway
            .send(Method::GET, &format!("{ORCHESTRATE}/health"), &headers, "")
            .await;
        assert_eq!(
            (health.status.as_u16(), health.at("/status")),
            (status, json!(overall))
        );
        assert_eq!(health.at("/services/down/circuitBreakerState"), "OPEN");
        assert_eq!(health.at("/services/down/lastFailure/kind"), "status");
        assert_eq!(
            health.at("/services/down/endpoints"),
            json!({"healthy": 0, "total": 1})
        );
    }
}

#[tokio::test]
async fn fault_d33_a_disconnect_cancels_the_calls() {
    let (slow, seen) = stub(hanging).await;
    let gateway = Gateway::start(
        &[("slow", slow)],
        "    slow: { downstream: slow, request: { path: / } }\n",
        "",
    )
    .await;
    let mut request = Box::pin(gateway.ask(json!({})));
    tokio::select! {
        _ = &mut request => panic!("the stub does not respond"),
        () = seen.until(|calls, _| calls == 1) => {}
    }
    drop(request);
    seen.until(|_, cancelled| cancelled == 1).await;
    let health = gateway.idle_health("slow").await;
    assert_eq!(health.at("/services/slow/circuitBreakerState"), "CLOSED");
}

#[tokio::test]
async fn fault_d20_d21_unknown_paths_and_methods_are_problems() {
    let (gateway, _) = gateway().await;
    let answer = gateway
        .send(Method::GET, "/nope/%3Cscript%3E", &[], "")
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/code")),
        (404, json!("not_found"))
    );
    assert!(!answer.text.contains("script"));
    let answer = gateway.send(Method::PUT, ORCHESTRATE, &[], "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("allow")),
        (405, "POST")
    );
    for path in ["/metrics", "/config", "/services"] {
        assert_eq!(
            gateway.send(Method::GET, path, &[], "").await.status,
            404,
            "fault_l1: not on the public listener"
        );
    }
}

#[tokio::test]
async fn serves_the_openapi_document_and_swagger_ui_offline() {
    let (gateway, _) = gateway().await;
    let document = gateway.send(Method::GET, "/openapi.json", &[], "").await;
    assert!(document.at("/paths").get(ORCHESTRATE).is_some());
    assert_eq!(
        document.at("/components/schemas/ServiceName/enum/0"),
        "onchain"
    );
    let page = gateway.send(Method::GET, "/docs/", &[], "").await;
    assert!(
        page.text.contains("swagger-ui")
            && page
                .header("content-security-policy")
                .contains("default-src 'self'")
    );
    let script = gateway
        .send(Method::GET, "/docs/swagger-initializer.js", &[], "")
        .await;
    assert!(script.text.contains("/openapi.json"));
    assert!(
        !page.text.contains("http://") && !page.text.contains("https://"),
        "the page loads nothing from other hosts"
    );
}

#[tokio::test]
async fn a_configured_route_has_its_own_path_plan_and_auth() {
    let (up, seen) = stub(quick).await;
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256], roles: {{ claim: roles }} }} }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}/base\" }}] }} }}
routes:
  - name: page
    match: {{ path: \"/pages/{{id}}\" }}
    auth: {{ jwt: main, any_role: [reader] }}
    plan:
      user: {{ downstream: up, required: true, request: {{ path: \"/users/{{route.id}}\", query: {{ q: \"{{query.q|none}}\" }}, headers: {{ x-subject: \"{{jwt.sub}}\" }} }} }}
  - name: open
    match: {{ method: POST, path: /open }}
    plan: {{ echo: {{ downstream: up, request: {{ path: \"/echo/{{body.name}}\" }} }} }}
"
    );
    let gateway = Gateway::from_text(&text).await;
    let bearer = |roles| {
        (
            "authorization",
            format!("Bearer {}", token(&json!({"roles": roles}))),
        )
    };
    let answer = gateway
        .send(
            Method::GET,
            "/pages/a%2Fb?q=x%26y",
            &[bearer(json!(["reader"]))],
            "",
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let (target, headers) = &seen.requests()[0];
    assert_eq!(
        (target.as_str(), headers["x-subject"].to_str().unwrap()),
        ("/base/users/a%2Fb?q=x%26y", "ada")
    );
    let forbidden = gateway
        .send(Method::GET, "/pages/1", &[bearer(json!(["writer"]))], "")
        .await;
    assert_eq!(
        (forbidden.status.as_u16(), forbidden.at("/code")),
        (403, json!("insufficient_scope"))
    );
    assert_eq!(
        gateway.send(Method::GET, "/pages/1", &[], "").await.status,
        StatusCode::UNAUTHORIZED
    );
    let answer = gateway
        .send(
            Method::POST,
            "/open",
            &[("content-type", "application/json".into())],
            "{\"name\": \"ada\"}",
        )
        .await;
    assert_eq!(
        (answer.status, seen.requests()[1].0.as_str()),
        (StatusCode::OK, "/base/echo/ada")
    );
    assert_eq!(
        gateway
            .send(Method::POST, ORCHESTRATE, &[], "{}")
            .await
            .status,
        StatusCode::NOT_FOUND
    );
}

//! End-to-end tests of limits and circuit breakers per key of the request.
#![allow(missing_docs)]

mod common;

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{Router, extract::Request};
use common::*;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const PLAN: &str = "    users: { downstream: users, required: true, request: { path: /, query: { t: \"{jwt.tenant|none}\" } } }\n";

/// Starts a service that hangs for the tenant `hangs`, fails for `fails`, and answers all others. It hangs for the first
/// 10 calls of the tenant `breaks`, which it counts in `calls`, and then fails for it. It ignores the part of a tenant's
/// name after a dot.
async fn by_tenant(calls: Arc<AtomicU32>) -> SocketAddr {
    let router = Router::new().fallback(move |request: Request| async move {
        let query = request.uri().query().unwrap_or_default();
        let breaks = || calls.fetch_add(1, Ordering::Relaxed);
        match query.split('.').next() {
            Some("t=breaks") if breaks() < 10 => std::future::pending().await,
            Some("t=hangs") => std::future::pending().await,
            Some("t=fails" | "t=breaks") => (StatusCode::INTERNAL_SERVER_ERROR, "{}"),
            _ => (StatusCode::OK, "{}"),
        }
    });
    let json = tower::util::MapResponseLayer::new(|mut response: axum::response::Response| {
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert("content-type", json);
        response
    });
    spawn(router.layer(json)).await
}

/// Starts a gateway whose policy has the limits and breakers `per_key`, and no breaker for all keys.
async fn gateway(per_key: &str) -> Gateway {
    let shared = "attempt_timeout: 5s, concurrency: { max: 4 }";
    gateway_with(shared, per_key, Arc::default()).await
}

/// Starts a gateway whose policy has the parts `shared` for all keys, and `per_key` for each. Its service counts calls in
/// `calls`.
async fn gateway_with(shared: &str, per_key: &str, calls: Arc<AtomicU32>) -> Gateway {
    let more = format!(
        "policies: {{ p: {{ {shared}, retry: off, circuit_breaker: off, \
         per_key: {{ key: \"{{jwt.tenant}}\", {per_key} }} }} }}\n"
    );
    Gateway::start(&[("users", by_tenant(calls).await)], PLAN, &more).await
}

/// Asks as a caller of `tenant`. `null` is a caller without a tenant.
async fn ask(gateway: &Gateway, tenant: &Value) -> Answer {
    ask_at(gateway, "", tenant).await
}

async fn ask_at(gateway: &Gateway, path: &str, tenant: &Value) -> Answer {
    let token = token(&json!({"tier": "pro", "tenant": tenant}));
    let headers = [
        ("authorization", format!("Bearer {token}")),
        ("content-type", "application/json".into()),
    ];
    let path = format!("{ORCHESTRATE}{path}");
    gateway.send(Method::POST, &path, &headers, "{}").await
}

fn kind(answer: &Answer) -> Value {
    answer.service("users", "/error/kind")
}

/// Returns the value of a series on the metrics page.
async fn metric(gateway: &Gateway, series: &str) -> Option<f64> {
    let admin = gateway.server.as_ref().unwrap().admin;
    let text = Gateway::at(admin)
        .send(Method::GET, "/metrics", &[], "")
        .await
        .text;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(series));
    lines.next().map(|value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn key_15_a_tenant_that_hangs_leaves_permits_to_the_others() {
    let gateway = gateway("concurrency: { max: 1 }").await;
    let (hangs, other) = (json!("hangs"), json!("other"));
    let mut running = Box::pin(ask(&gateway, &hangs));
    let others = async {
        // The call that hangs has its permit once a further one is refused.
        while metric(&gateway, "fanout_inflight{downstream=\"users\"}").await != Some(1.0) {}
        for _ in 0..20 {
            let refused = ask(&gateway, &hangs).await;
            assert_eq!(
                (refused.status, kind(&refused)),
                (StatusCode::SERVICE_UNAVAILABLE, json!("at_capacity"))
            );
            assert_eq!(refused.service("users", "/attempts"), 0);
            assert_eq!(ask(&gateway, &other).await.status, StatusCode::OK);
        }
        let health = ask_at(&gateway, "/health", &other).await;
        assert_eq!(
            (health.at("/status"), health.at("/services/users/inFlight")),
            (json!("UP"), json!(1))
        );
    };
    tokio::select! {
        _ = &mut running => panic!("the service hangs"),
        () = others => {}
    }
    let labels =
        "{route=\"orchestrate\",node=\"users\",downstream=\"users\",reason=\"at_capacity\"}";
    let refused = metric(&gateway, &format!("fanout_rejected_total{labels}")).await;
    assert_eq!(refused, Some(20.0));
    let keys = "fanout_keys{downstream=\"users\",per_key=\"concurrency\"}";
    assert_eq!(metric(&gateway, keys).await, Some(2.0));
}

#[tokio::test]
async fn key_15_the_circuit_of_a_tenant_that_fails_opens_alone() {
    let gateway = gateway("circuit_breaker: { consecutive_failures: 2, open: 60s }").await;
    let (fails, other) = (json!("fails"), json!("other"));
    for _ in 0..2 {
        assert_eq!(kind(&ask(&gateway, &fails).await), "status");
    }
    for _ in 0..20 {
        let refused = ask(&gateway, &fails).await;
        assert_eq!(
            (refused.status, kind(&refused)),
            (StatusCode::SERVICE_UNAVAILABLE, json!("breaker_open"))
        );
        assert_eq!(ask(&gateway, &other).await.status, StatusCode::OK);
    }
    // An explanation has the circuit that the caller meets, and health that of the service.
    for (tenant, state) in [
        (&fails, "OPEN"),
        (&other, "CLOSED"),
        (&json!("new"), "CLOSED"),
    ] {
        let explained = ask_at(&gateway, "/test", tenant).await;
        assert_eq!(explained.at("/services/users/circuitBreakerState"), state);
    }
    let health = ask_at(&gateway, "/health", &other).await;
    assert_eq!(health.status, StatusCode::OK);
    assert_eq!(health.at("/services/users/status"), "UP");
    assert_eq!(health.at("/services/users/circuitBreakerState"), "CLOSED");
    // No breaker counts the calls of all keys, so it has no state, but the transitions of the keys count.
    let state = "fanout_breaker_state{downstream=\"users\",state=\"closed\"}";
    assert_eq!(metric(&gateway, state).await, None);
    let opened = "fanout_breaker_transitions_total{route=\"orchestrate\",node=\"users\",downstream=\"users\",to=\"open\"}";
    assert_eq!(metric(&gateway, opened).await, Some(1.0));
}

#[tokio::test]
async fn key_19_ten_hanging_and_200_failing_calls_leave_others_served() {
    let per_key = "concurrency: { max: 15 }, circuit_breaker: { window: 120s }";
    let (shared, calls) = (
        "attempt_timeout: 60s, concurrency: { max: 20 }",
        Arc::default(),
    );
    let gateway = gateway_with(shared, per_key, Arc::clone(&calls)).await;
    let (breaks, other) = (json!("breaks"), json!("other"));
    let mut hanging = pin!(join_all((0..10).map(|_| ask(&gateway, &breaks))));
    let others = async {
        // A call that is not sent yet would hang in place of a later one.
        while calls.load(Ordering::Relaxed) < 10 {
            tokio::task::yield_now().await;
        }
        let mut failed = 0;
        for _ in 0..200 {
            match kind(&ask(&gateway, &breaks).await).as_str() {
                Some("status") => failed += 1,
                kind => assert_eq!(kind, Some("breaker_open")),
            }
            assert_eq!(ask(&gateway, &other).await.status, StatusCode::OK);
        }
        assert_eq!(failed, 5);
    };
    tokio::select! {
        _ = &mut hanging => panic!("the service hangs"),
        () = others => {}
    }
}

#[tokio::test]
async fn key_19_each_of_many_tenants_that_fail_opens_its_own_circuit() {
    let per_key = "circuit_breaker: { consecutive_failures: 2, open: 60s }";
    let gateway = gateway(per_key).await;
    let tenants: Vec<_> = (0..30)
        .map(|tenant| json!(format!("fails.{tenant}")))
        .collect();
    for tenant in &tenants {
        for expected in ["status", "status", "breaker_open"] {
            assert_eq!(kind(&ask(&gateway, tenant).await), expected);
        }
    }
    let opened = "fanout_breaker_transitions_total{route=\"orchestrate\",node=\"users\",downstream=\"users\",to=\"open\"}";
    assert_eq!(metric(&gateway, opened).await, Some(30.0));
    let other = ask(&gateway, &json!("other")).await;
    assert_eq!(other.status, StatusCode::OK);
}

#[tokio::test]
async fn key_17_callers_without_a_key_share_one_state() {
    let gateway = gateway("circuit_breaker: { consecutive_failures: 2, open: 60s }").await;
    // Neither has a key: the claim is missing, or its text is too long.
    for tenant in [json!(null), json!("x".repeat(513))] {
        assert_eq!(ask(&gateway, &tenant).await.status, StatusCode::OK);
    }
    let keys = "fanout_keys{downstream=\"users\",per_key=\"circuit_breaker\"}";
    assert_eq!(metric(&gateway, keys).await, Some(1.0));
    assert_eq!(
        ask(&gateway, &json!("x".repeat(512))).await.status,
        StatusCode::OK
    );
    assert_eq!(metric(&gateway, keys).await, Some(2.0));
}

/// Starts a gateway with the routes `/a` and `/b`, whose node `users` fails for the tenant `fails`. Its fallback in
/// `/b` is the service `other`, and has keys of its own.
async fn two_routes() -> Gateway {
    let (broken, _) = stub(broken).await;
    let users = by_tenant(Arc::default()).await;
    let request = "request: { path: /, query: { t: \"{header.x-tenant|none}\" } }";
    let per_key = "circuit_breaker: { consecutive_failures: 2, open: 60s }, max_keys: 3";
    Gateway::from_text(&format!(
        "version: 1
policies:
  by_tenant: {{ retry: off, circuit_breaker: off, per_key: {{ key: \"{{header.x-tenant}}\", {per_key} }} }}
  by_client: {{ retry: off, circuit_breaker: off, per_key: {{ key: \"{{header.x-client}}\", {per_key} }} }}
downstreams:
  users: {{ endpoints: [{{ url: \"http://{users}\" }}], policy: by_tenant }}
  broken: {{ endpoints: [{{ url: \"http://{broken}\" }}], policy: by_client }}
routes:
  - name: a
    match: {{ path: /a }}
    plan: {{ users: {{ downstream: users, required: true, {request} }} }}
  - name: b
    match: {{ path: /b }}
    plan: {{ broken: {{ downstream: broken, required: true, {request}, fallback: [{{ service: users }}] }} }}
"
    ))
    .await
}

async fn get(gateway: &Gateway, path: &str, tenant: &str) -> Answer {
    let headers = [("x-tenant", tenant.to_owned()), ("x-client", "one".into())];
    gateway.send(Method::GET, path, &headers, "").await
}

/// Returns the series with the calls of route `b` that an open circuit of `downstream` has rejected.
fn refused(downstream: &str) -> String {
    format!(
        "fanout_rejected_total{{route=\"b\",node=\"broken\",downstream=\"{downstream}\",reason=\"breaker_open\"}}"
    )
}

#[tokio::test]
async fn key_18_fault_g29_many_keys_evict_no_open_circuit_of_any_route() {
    let gateway = two_routes().await;
    for _ in 0..2 {
        assert_eq!(kind(&get(&gateway, "/a", "fails").await), "status");
    }
    for tenant in 0..100 {
        let answer = get(&gateway, "/a", &format!("tenant {tenant}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(kind(&get(&gateway, "/a", "fails").await), "breaker_open");
    }
    let keys = "fanout_keys{downstream=\"users\",per_key=\"circuit_breaker\"}";
    assert!(metric(&gateway, keys).await.unwrap() <= 3.0);
    // The circuit is open for the other route too, whose fallback is the same downstream.
    get(&gateway, "/b", "fails").await;
    assert_eq!(metric(&gateway, &refused("users")).await, Some(1.0));
    let other = get(&gateway, "/b", "other").await;
    assert_eq!(other.service("broken", "/fallbackUsed"), true);
}

#[tokio::test]
async fn key_18_a_fallback_service_has_the_key_of_its_own_policy() {
    let gateway = two_routes().await;
    // The circuit of the client opens at the node, but that of the tenant at the fallback stays closed.
    for _ in 0..5 {
        let answer = get(&gateway, "/b", "other").await;
        assert_eq!(answer.service("broken", "/fallbackUsed"), true);
    }
    for _ in 0..5 {
        get(&gateway, "/b", "fails").await;
    }
    assert_eq!(metric(&gateway, &refused("broken")).await, Some(8.0));
    assert_eq!(metric(&gateway, &refused("users")).await, Some(3.0));
    assert_eq!(get(&gateway, "/b", "other").await.status, StatusCode::OK);
}

#[tokio::test]
async fn fault_e21_the_description_of_a_route_has_the_values_of_its_keys() {
    let gateway = two_routes().await;
    let document = gateway.send(Method::GET, "/openapi.json", &[], "").await;
    let of = |route: &str| {
        let parameters = document.at(&format!("/paths/~1{route}/get/parameters"));
        let parameters = parameters.as_array().unwrap().clone();
        parameters
            .into_iter()
            .find(|parameter| parameter["name"] == "x-client")
    };
    let client = of("b").unwrap();
    assert_eq!(
        (&client["in"], &client["required"]),
        (&json!("header"), &json!(false))
    );
    assert_eq!(of("a"), None);
}

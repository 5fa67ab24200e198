//! The ten cases of the predecessor system, end to end over real sockets with a paused clock.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

/// Returns nodes that call the downstream of the same name.
fn nodes(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("    {name}: {{ downstream: {name}, request: {{ path: /{name} }} }}\n"))
        .collect()
}

fn slow(_: usize) -> (std::time::Duration, StatusCode, Value) {
    (ms(200), StatusCode::OK, json!({"ok": true}))
}

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Starts a gateway with five services that take 200 ms each.
async fn five_slow() -> (Gateway, Vec<Seen>) {
    let mut downstreams = Vec::new();
    let mut seen = Vec::new();
    for name in FIVE {
        let (addr, calls) = stub(slow).await;
        downstreams.push((name, addr));
        seen.push(calls);
    }
    (Gateway::start(&downstreams, &nodes(&FIVE), "").await, seen)
}

#[tokio::test(start_paused = true)]
async fn seed_01_five_services_run_in_parallel() {
    let (gateway, seen) = five_slow().await;
    let start = Instant::now();
    let answer = gateway.ask(json!({})).await;
    assert_eq!(
        start.elapsed().as_millis() / 10,
        20,
        "the run takes as long as the slowest service"
    );
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.at("/success"), true);
    assert_eq!(answer.at("/meta/executionMode"), "parallel");
    for name in FIVE {
        assert_eq!(answer.service(name, "/status"), "success");
        assert_eq!(answer.service(name, "/data"), json!({"ok": true}));
    }
    assert!(seen.iter().all(|seen| seen.calls() == 1));
}

#[tokio::test(start_paused = true)]
async fn seed_02_max_concurrency_bounds_running_services() {
    let (gateway, _) = five_slow().await;
    let cases = [
        (json!({"maxConcurrency": 2}), 600, 2),
        (json!({"parallelExecution": false}), 1000, 1),
        (json!({"maxConcurrency": 10}), 200, 10),
    ];
    for (body, expected, effective) in cases {
        let start = Instant::now();
        let answer = gateway.ask(body).await;
        assert_eq!(answer.at("/meta/effective/maxConcurrency"), effective);
        let elapsed = u64::try_from(start.elapsed().as_millis()).unwrap();
        assert!(
            (expected..expected + 20).contains(&elapsed),
            "took {elapsed} ms, expected {expected}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn seed_03_a_service_reads_the_response_of_another() {
    let (users, _) = stub(|_| (ms(30), StatusCode::OK, json!({"id": 7, "name": "A/B & C"}))).await;
    let (orders, seen) = stub(|_| (ms(10), StatusCode::OK, json!([]))).await;
    let plan = "    users: { downstream: users, request: { path: /me } }
    orders: { downstream: orders, depends_on: [users], request: { path: \"/of/{users.id}/{users.name}\", query: { q: \"{users.name}\" } } }
";
    let gateway = Gateway::start(&[("users", users), ("orders", orders)], plan, "").await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("orders", "/status"), "success");
    assert_eq!(
        seen.requests()[0].0,
        "/of/7/A%2FB%20%26%20C?q=A%2FB%20%26%20C"
    );
    assert_eq!(answer.at("/meta/criticalPath"), json!(["users", "orders"]));

    let (down, _) = stub(broken).await;
    let gateway = Gateway::start(&[("users", down), ("orders", orders)], plan, "").await;
    let answer = gateway.ask(json!({"retryAttempts": 0})).await;
    assert_eq!(answer.service("orders", "/status"), "skipped");
    assert_eq!(answer.service("orders", "/skipReason"), "dependency");
    assert_eq!(
        seen.calls(),
        1,
        "a node is not called without its dependency"
    );
}

#[tokio::test(start_paused = true)]
async fn seed_04_higher_priorities_start_first() {
    let (addr, seen) = stub(quick).await;
    let plan: String = [("low", 1, false), ("high", 9, false), ("middle", 5, false), ("needed", 0, true)]
        .iter()
        .map(|(name, priority, required)| {
            format!("    {name}: {{ downstream: one, priority: {priority}, required: {required}, request: {{ path: /{name} }} }}\n")
        })
        .collect();
    let gateway = Gateway::start(&[("one", addr)], &plan, "").await;
    gateway.ask(json!({"parallelExecution": false})).await;
    let order: Vec<_> = seen
        .requests()
        .into_iter()
        .map(|(target, _)| target)
        .collect();
    assert_eq!(order, ["/needed", "/high", "/middle", "/low"]);
}

#[tokio::test(start_paused = true)]
async fn seed_05_fb_12_a_fallback_replaces_a_failed_response() {
    let (down, _) = stub(broken).await;
    let (spare, spared) = stub(|_| (ms(5), StatusCode::OK, json!({"from": "spare"}))).await;
    let plan = "    fixed: { downstream: down, required: true, request: { path: /x }, fallback: [{ static: { from: file } }] }
    other: { downstream: down, request: { path: /x }, fallback: [{ service: spare }, { static: 1 }] }
";
    let gateway = Gateway::start(&[("down", down), ("spare", spare)], plan, "").await;
    let answer = gateway.ask(json!({"retryAttempts": 0})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for (name, from) in [("fixed", "file"), ("other", "spare")] {
        assert_eq!(answer.service(name, "/status"), "fallback");
        assert_eq!(answer.service(name, "/fallbackUsed"), true);
        assert_eq!(answer.service(name, "/data/from"), from);
    }
    assert_eq!(
        (spared.calls(), answer.at("/meta/completed")),
        (1, true.into())
    );
    assert_eq!(
        answer.at("/data/parallelExecutionStats/fallbackServices"),
        2
    );

    let answer = gateway
        .ask(json!({"retryAttempts": 0, "enableFallbacks": false}))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.service("fixed", "/error/kind"), "status");
}

#[tokio::test(start_paused = true)]
async fn seed_06_a_slow_service_ends_at_its_own_timeout() {
    let (slow, seen) = stub(hanging).await;
    let (fine, _) = stub(quick).await;
    let more = "policies: { p: { attempt_timeout: 100ms, total_timeout: 250ms, retry: { max_attempts: 2, base: 1ms } } }\n";
    let gateway = Gateway::start(
        &[("slow", slow), ("fine", fine)],
        &nodes(&["slow", "fine"]),
        more,
    )
    .await;
    let start = Instant::now();
    let answer = gateway.ask(json!({"timeout": 5000})).await;
    assert!(start.elapsed() < ms(260), "{:?}", start.elapsed());
    assert_eq!(answer.service("slow", "/status"), "failed");
    assert_eq!(answer.service("slow", "/error/kind"), "timeout");
    assert_eq!(answer.service("slow", "/attempts"), 2);
    assert_eq!(answer.service("fine", "/status"), "success");
    assert_eq!(answer.header("x-fanout-completed"), "false");
    let left: u64 = seen.requests()[0].1["x-request-timeout-ms"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    // The timeout of the attempt is shorter than the total one.
    assert!((50..=100).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn seed_07_a_flaky_service_succeeds_after_a_retry() {
    let (flaky, seen) = stub(|call| match call {
        0 => (ms(1), StatusCode::SERVICE_UNAVAILABLE, json!(null)),
        1 => (ms(1), StatusCode::BAD_GATEWAY, json!(null)),
        _ => (ms(1), StatusCode::OK, json!({"at": "last"})),
    })
    .await;
    let gateway = Gateway::start(&[("flaky", flaky)], &nodes(&["flaky"]), "").await;
    let answer = gateway.ask(json!({"retryAttempts": 2})).await;
    assert_eq!(answer.service("flaky", "/status"), "success");
    assert_eq!(answer.service("flaky", "/data/at"), "last");
    assert_eq!(answer.service("flaky", "/attempts"), 3);
    assert_eq!(answer.at("/data/parallelExecutionStats/retries"), 2);
    let attempts: Vec<_> = seen
        .requests()
        .iter()
        .map(|(_, headers)| headers.get("x-retry-attempt").cloned())
        .collect();
    assert_eq!(
        attempts,
        [None, Some("1".parse().unwrap()), Some("2".parse().unwrap())]
    );
}

#[tokio::test(start_paused = true)]
async fn seed_08_a_concurrency_limit_holds_under_load() {
    let (limited, seen) = stub(|_| (ms(20), StatusCode::OK, json!({"ok": true}))).await;
    let more = "policies: { p: { attempt_timeout: 2s, retry: off, concurrency: { max: 5, queue: 200, max_wait: 5s } } }\n";
    let gateway = Gateway::start(&[("limited", limited)], &nodes(&["limited"]), more).await;
    let answers = join_all((0..100).map(|_| gateway.ask(json!({})))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.service("limited", "/status") == "success")
    );
    assert_eq!(
        (seen.calls(), seen.peak()),
        (100, 5),
        "the downstream sees at most five calls at once"
    );
}

#[tokio::test(start_paused = true)]
async fn seed_09_responses_are_combined_in_one_document() {
    let (one, _) = stub(|_| {
        (
            ms(50),
            StatusCode::OK,
            json!({"key": "first", "big": 12_345_678_901_234_567_890_u64}),
        )
    })
    .await;
    let (two, _) = stub(|_| (ms(0), StatusCode::OK, json!({"key": "second"}))).await;
    let gateway = Gateway::start(&[("one", one), ("two", two)], &nodes(&["one", "two"]), "").await;
    let answer = gateway.ask(json!({})).await;
    let (first, second) = (
        answer.text.find("\"one\":").unwrap(),
        answer.text.find("\"two\":").unwrap(),
    );
    assert!(first < second, "records are in the order of the plan");
    assert_eq!(answer.service("one", "/data/key"), "first");
    assert_eq!(answer.service("two", "/data/key"), "second");
    assert!(
        answer.text.contains("12345678901234567890"),
        "the body is unchanged byte for byte"
    );
    assert_eq!(answer.at("/data/successRate"), json!(1.0));
}

#[tokio::test(start_paused = true)]
async fn seed_10_the_response_has_the_times_of_its_services() {
    let (one, _) = stub(|_| (ms(100), StatusCode::OK, json!(1))).await;
    let (two, _) = stub(|_| (ms(40), StatusCode::OK, json!(2))).await;
    let (down, _) = stub(broken).await;
    let downstreams = [("one", one), ("two", two), ("down", down)];
    let gateway = Gateway::start(&downstreams, &nodes(&["one", "two", "down"]), "").await;
    let answer = gateway.ask(json!({"retryAttempts": 1})).await;
    let stats = answer.at("/data/parallelExecutionStats");
    for (name, value) in [
        ("totalServices", 3),
        ("successfulServices", 2),
        ("failedServices", 1),
        ("skippedServices", 0),
        ("cancelledServices", 0),
        ("fallbackServices", 0),
        ("retries", 1),
    ] {
        assert_eq!(stats[name], value, "{name}");
    }
    let time = |pointer| answer.at(pointer).as_f64().unwrap();
    assert!((100.0..110.0).contains(&time("/data/services/one/responseTime")));
    assert!((40.0..50.0).contains(&time("/data/services/two/responseTime")));
    assert!((100.0..110.0).contains(&time("/data/parallelExecutionStats/maxResponseTime")));
    assert!(
        (46.0..60.0).contains(&time("/data/parallelExecutionStats/averageResponseTime")),
        "{stats}"
    );
    assert!((100.0..115.0).contains(&time("/data/executionTime")));
    assert!((time("/data/successRate") - 2.0 / 3.0).abs() < 1e-9);
}

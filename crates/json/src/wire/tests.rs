//! Complete responses, compared byte for byte under a paused clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::{BoxError, ServiceExt, service_fn};
use tower_fanout::{
    BranchError, ErrorKind, FanOut, FanOutError, FanOutResponse, Plan, PlanBuilder, Strategy,
    layers::{
        breaker::State,
        event::{FallbackKind, RetryStopReason},
    },
};
use tower_fanout_http::{
    correlation::CorrelationId,
    problem::{Code, Problem},
};

use super::{
    EffectiveLimits, Envelope, MAX_ANSWER, RunMeta, RunStream, StreamFormat, server_timing,
    service::push_service,
};
use crate::Json;

const META: &str = r#""meta":{"executionMode":"parallel","aggregationStrategy":"partial","effective":{"maxConcurrency":5,"timeout":30000,"retryAttempts":2},"correlationId":"order-7","tier":"pro","#;

fn meta() -> RunMeta {
    RunMeta {
        sequential: false,
        strategy: Strategy::Partial,
        effective: EffectiveLimits {
            max_concurrency: 5,
            timeout: 30_000,
            retry_attempts: 2,
        },
        correlation_id: CorrelationId::parse("order-7").unwrap(),
        tier: "pro".into(),
        plan_id: "p1".into(),
    }
}

fn json(text: &'static str) -> Json {
    Json::parse(text.into()).unwrap()
}

/// Returns a service that responds with `text` after `ms` milliseconds.
fn responds(
    ms: u64,
    text: &'static str,
) -> impl tower::Service<(), Response = Json, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |()| async move {
        sleep(Duration::from_millis(ms)).await;
        Ok(json(text))
    })
}

fn fails(
    kind: ErrorKind,
) -> impl tower::Service<(), Response = Json, Error = BranchError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |()| async move { Err(BranchError::new(kind, "forced failure")) })
}

/// Adds a node and a node that depends on it, then a node that fails and a node that depends on it.
fn example_nodes(plan: &mut PlanBuilder<()>) {
    let user = plan.node("user", responds(10, "{\r\n  \"id\": 7\n}"), |(), _| Ok(()));
    let user = user.key();
    plan.node("a \"b\"", responds(21, "[1, \"x  y\"]"), |(), _| Ok(()))
        .after(user);
    let down = plan.node("down", fails(ErrorKind::Reset), |(), _| Ok(()));
    let down = down.optional().key();
    plan.node("next", responds(0, "1"), |(), _| Ok(()))
        .after(down)
        .optional();
}

fn fan_out(add: impl FnOnce(&mut PlanBuilder<()>)) -> FanOut<()> {
    let mut plan = Plan::builder();
    add(&mut plan);
    FanOut::new(plan.build().unwrap())
}

async fn answer(fan_out: FanOut<()>) -> FanOutResponse {
    match fan_out.oneshot(()).await {
        Ok(answer) => answer,
        Err(FanOutError::Failed { response, .. }) => *response,
        Err(error) => panic!("{error}"),
    }
}

fn partials(fan_out: &FanOut<()>, framing: StreamFormat) -> RunStream<()> {
    RunStream::new(fan_out.run(()).unwrap(), framing, meta())
}

/// Returns each frame of the body with its time of arrival in milliseconds.
async fn frames(mut body: RunStream<()>) -> Vec<(u128, String)> {
    let start = Instant::now();
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        let text = String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap();
        frames.push((start.elapsed().as_millis(), text));
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_document_contains_responses_byte_for_byte() {
    let fan_out = fan_out(example_nodes);
    let (meta, plan) = (meta(), fan_out.plan().clone());
    let answer = answer(fan_out).await;
    let envelope = Envelope {
        meta: &meta,
        names: plan.names(),
        report: answer.report(),
    };
    let totals = r#""parallelExecutionStats":{"totalServices":4,"successfulServices":2,"failedServices":1,"skippedServices":1,"cancelledServices":0,"fallbackServices":0,"averageResponseTime":10.333,"maxResponseTime":21,"retries":0},"executionTime":31,"overhead":0,"lastService":"a \"b\"","successRate":0.6666666666666666}"#;
    let meta = format!(
        "{META}{}",
        r#""completed":false,"timedOut":false,"criticalPath":["user","a \"b\""],"planId":"p1"}"#
    );
    let services = concat!(
        r#"{"services":{"#,
        r#""user":{"status":"success","responseTime":10,"circuitBreakerState":"CLOSED","fallbackUsed":false,"attempts":0,"data":{"#,
        "\r\n  \"id\": 7\n}},",
        r#""a \"b\"":{"status":"success","responseTime":21,"circuitBreakerState":"CLOSED","fallbackUsed":false,"attempts":0,"data":[1, "x  y"]},"#,
        r#""down":{"status":"failed","responseTime":0,"circuitBreakerState":"CLOSED","fallbackUsed":false,"attempts":0,"error":{"kind":"reset","message":"forced failure"}},"#,
        r#""next":{"status":"skipped","responseTime":0,"circuitBreakerState":"CLOSED","fallbackUsed":false,"attempts":0,"skipReason":"dependency"}},"#,
    );
    let data = format!("{services}{totals}");
    let success = envelope.success(|node| answer.at(node), None).unwrap();
    assert_eq!(
        success,
        format!("{{\"success\":true,\"data\":{data},{meta}}}")
    );
    let problem = envelope.failure(Problem::new(Code::UpstreamFailed), |node| answer.at(node));
    assert!(
        problem
            .to_json(None)
            .ends_with(&format!(",\"data\":{data},{meta}}}"))
    );

    let merged = json("{ \"all\": 1 }");
    let success = envelope
        .success(|node| answer.at(node), Some(&merged))
        .unwrap();
    let data = str::from_utf8(&success["{\"success\":true,\"data\":".len()..]).unwrap();
    assert!(!data.contains("\"data\":"), "{data}");
    assert!(data.contains(&format!("}},\"merged\":{{ \"all\": 1 }},{totals}")));
    assert_eq!(
        server_timing(answer.report(), plan.names()),
        "user;dur=10, a%20%22b%22;dur=21, down;dur=0, total;dur=31;desc=\"last: a%20%22b%22\""
    );
}

/// A refused call takes no time, so it must not lower the average of the services that were called.
#[tokio::test(start_paused = true)]
async fn averages_exclude_calls_refused_locally() {
    let fan_out = fan_out(|plan| {
        plan.node("user", responds(10, "1"), |(), _| Ok(()));
        plan.node("full", fails(ErrorKind::AtCapacity), |(), _| Ok(()))
            .optional();
    });
    let (meta, plan) = (meta(), fan_out.plan().clone());
    let answer = answer(fan_out).await;
    let envelope = Envelope {
        meta: &meta,
        names: plan.names(),
        report: answer.report(),
    };
    let success = envelope.success(|node| answer.at(node), None).unwrap();
    let data = str::from_utf8(&success).unwrap();
    assert!(data.contains("\"averageResponseTime\":10,"), "{data}");
    assert_eq!(
        server_timing(answer.report(), plan.names()),
        "user;dur=10, total;dur=10;desc=\"last: user\""
    );
}

#[tokio::test(start_paused = true)]
async fn optional_members_of_a_service_appear_if_they_apply() {
    let answer = answer(fan_out(example_nodes)).await;
    let mut branch = answer.report().branches[0].clone();
    branch.elapsed = Some(Duration::from_millis(1));
    branch.attempts = 3;
    branch.hedges = 2;
    branch.http_status = Some(203);
    branch.queued = Duration::from_micros(1500);
    branch.stopped_by = Some(RetryStopReason::RequestAllowance);
    branch.fallback = Some(FallbackKind::Stale);
    branch.breaker = Some(State::HalfOpen);
    let mut out = Vec::new();
    push_service(&mut out, &branch, |_| {}, None);
    assert_eq!(
        str::from_utf8(&out).unwrap(),
        r#"{"status":"success","httpStatus":203,"responseTime":1,"queueTime":1.5,"circuitBreakerState":"HALF_OPEN","fallbackUsed":false,"fallbackKind":"stale","attempts":3,"hedges":2,"retryStoppedBy":"request_cap"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn events_are_sent_as_services_end_with_one_data_line() {
    let frames = frames(partials(&fan_out(example_nodes), StreamFormat::EventStream)).await;
    let at: Vec<_> = frames.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 0, 10, 31, 31]);
    assert_eq!(
        frames[2].1,
        concat!(
            "event: service\ndata: ",
            r#"{"name":"user","status":"success","responseTime":10,"circuitBreakerState":"CLOSED","fallbackUsed":false,"attempts":0,"data":{"id":7}}"#,
            "\n\n"
        )
    );
    assert!(frames[3].1.contains(r#""name":"a \"b\"""#));
    assert!(frames[3].1.ends_with("\"data\":[1,\"x  y\"]}\n\n"));
    let summary = &frames[4].1;
    assert!(summary.starts_with(
        "event: summary\ndata: {\"success\":true,\"data\":{\"parallelExecutionStats\":{\"totalServices\":4,"
    ));
    assert!(summary.contains(&format!("}},{META}\"completed\":false,")));
    for (_, frame) in &frames {
        assert_eq!(frame.lines().count(), 3, "{frame}");
    }
}

#[tokio::test(start_paused = true)]
async fn ndjson_records_name_their_type() {
    let response = partials(&fan_out(example_nodes), StreamFormat::NdJson).into_response();
    let headers = ["content-type", "cache-control", "x-accel-buffering"];
    assert_eq!(
        headers.map(|name| response.headers()[name].to_str().unwrap()),
        ["application/x-ndjson", "no-store", "no"]
    );
    let frames = frames(response.into_body()).await;
    assert_eq!(frames.len(), 5);
    for (at, (_, frame)) in frames.iter().enumerate() {
        let kind = if at < 4 {
            "service\",\"name\""
        } else {
            "summary\",\"success\":true,\"data\""
        };
        assert!(
            frame.starts_with(&format!("{{\"type\":\"{kind}:")),
            "{frame}"
        );
        assert_eq!(frame.find('\n'), Some(frame.len() - 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_summary_of_a_failure_has_the_members_of_its_problem() {
    let refused = fan_out(|plan| {
        plan.node("user", fails(ErrorKind::AtCapacity), |(), _| Ok(()));
    });
    let frames = frames(partials(&refused, StreamFormat::NdJson)).await;
    let expected = r#"{"type":"summary","success":false,"title":"Services are not available","status":503,"instance":"order-7","code":"upstream_unavailable","correlationId":"order-7","retryAfter":1,"data":{"parallelExecutionStats":{"totalServices":1,"#;
    assert!(frames[1].1.starts_with(expected), "{}", frames[1].1);
    assert!(frames[1].1.contains(META));
    assert!(!frames[1].1.contains("\"services\""));
}

#[tokio::test(start_paused = true)]
async fn only_event_streams_send_a_keep_alive_every_15_s() {
    let slow = fan_out(|plan| {
        plan.node("a", responds(20_000, "1"), |(), _| Ok(()));
        plan.node("b", responds(36_000, "2"), |(), _| Ok(()));
    });
    let events = frames(partials(&slow, StreamFormat::EventStream)).await;
    let comments = events.iter().filter(|(_, frame)| frame == ":\n\n");
    let at: Vec<_> = comments.map(|(at, _)| *at).collect();
    assert_eq!(at, [15_000, 35_000], "15 s after each earlier frame");
    assert_eq!(events.len(), 5);
    let lines = frames(partials(&slow, StreamFormat::NdJson)).await;
    let at: Vec<_> = lines.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [20_000, 36_000, 36_000]);
}

#[tokio::test(start_paused = true)]
async fn fault_f15_a_document_is_at_most_8_mib_with_its_records() {
    let (meta, room) = (meta(), 1_000);
    for (len, fits) in [(MAX_ANSWER - room, true), (MAX_ANSWER - 9, false)] {
        let text: &str = format!("\"{}\"", "x".repeat(len)).leak();
        let fan_out = fan_out(|plan| {
            plan.node("a", responds(1, text), |(), _| Ok(()));
        });
        let plan = fan_out.plan().clone();
        let answer = answer(fan_out).await;
        let envelope = Envelope {
            meta: &meta,
            names: plan.names(),
            report: answer.report(),
        };
        let success = envelope.success(|node| answer.at(node), None);
        assert_eq!(success.is_some(), fits);
        let problem = Problem::new(Code::UpstreamFailed);
        let problem = envelope.failure(problem, |node| answer.at(node));
        assert_eq!(problem.to_json(None).contains("\"meta\":"), fits);
    }
}

#[tokio::test(start_paused = true)]
async fn exceeding_the_total_size_ends_the_run() {
    let half: &str = format!("\"{}\"", "x".repeat(MAX_ANSWER / 2)).leak();
    let plan = fan_out(|plan| {
        plan.node("a", responds(1, half), |(), _| Ok(()));
        plan.node("b", responds(2, half), |(), _| Ok(()));
        plan.node("with b", responds(2, "4"), |(), _| Ok(()));
        plan.node("c", responds(3, "3"), |(), _| Ok(()));
    });
    let cut = frames(partials(&plan, StreamFormat::NdJson)).await;
    let records = cut
        .iter()
        .map(|(_, frame)| serde_json::from_str::<serde_json::Value>(frame).unwrap());
    let records: Vec<_> = records.collect();
    let statuses = records.iter().map(|record| record["status"].clone());
    assert_eq!(
        serde_json::Value::from_iter(statuses),
        serde_json::json!(["success", "success", "success", "cancelled", 502])
    );
    let with_data = records[..4]
        .iter()
        .map(|record| record.get("data").is_some());
    assert_eq!(Vec::from_iter(with_data), [true, false, false, false]);
    assert_eq!(records[4]["code"], "aggregate_too_large");
    assert_eq!(cut[4].0, 2, "must not wait for the last service");
}

#[tokio::test(start_paused = true)]
async fn the_summary_has_the_merged_document_or_a_problem() {
    let plan = fan_out(example_nodes);
    let merge = |answer: &FanOutResponse| Ok(answer.at::<Json>(0).unwrap().clone());
    let merged = frames(partials(&plan, StreamFormat::NdJson).merge(merge)).await;
    assert!(
        merged[4]
            .1
            .contains("\"data\":{\"merged\":{\"id\":7},\"parallel")
    );
    let conflict = |_: &FanOutResponse| Err(Problem::new(Code::UpstreamFailed));
    let failed = frames(partials(&plan, StreamFormat::NdJson).merge(conflict)).await;
    assert!(failed[4].1.contains("\"success\":false,") && failed[4].1.contains("\"status\":502"));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_body_drops_every_branch() {
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let held = dropped.clone();
    let slow = service_fn(move |()| {
        let held = Held(held.clone());
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok::<_, BoxError>(())
        }
    });
    let plan = fan_out(|plan| {
        plan.node("quick", responds(0, "1"), |(), _| Ok(()));
        plan.node("slow", slow, |(), _| Ok(()));
    });
    let mut body = partials(&plan, StreamFormat::NdJson);
    body.frame().await.unwrap().unwrap();
    assert!(!dropped.load(Ordering::Relaxed));
    drop(body);
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn server_timing_of_many_services_stays_bounded() {
    let many = fan_out(|plan| {
        for node in 0..400 {
            plan.node(&format!("service-{node}"), responds(1, "1"), |(), _| Ok(()));
        }
    });
    let plan = many.plan().clone();
    let value = server_timing(answer(many).await.report(), plan.names());
    assert!((4_000..4_200).contains(&value.len()), "{}", value.len());
    assert!(
        value
            .to_str()
            .unwrap()
            .ends_with(", total;dur=1;desc=\"last: service-0\"")
    );
}

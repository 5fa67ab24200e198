//! Tests of the binary from the command line.
#![allow(missing_docs)]

mod common;

use std::process::Stdio;

use common::*;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

struct Demo {
    child: Child,
    gateway: Gateway,
    token: String,
    admin: String,
}

/// Starts the demo on a free port, and reads addresses and token from its output.
async fn demo(arguments: &[&str]) -> Demo {
    let mut child = fanout(&["demo", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut addr, mut token, mut admin) = (None, None, None);
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(url) = line.strip_prefix("curl -s http://") {
            addr = url.split('/').next().map(|addr| addr.parse().unwrap());
        } else if let Some((_, rest)) = line.split_once("authorization: ") {
            token = rest.split('\'').next().map(str::to_owned);
        } else if line.starts_with("metrics") {
            admin = line.split_whitespace().last().map(str::to_owned);
        } else if line.starts_with("stop") {
            break;
        }
    }
    Demo {
        child,
        gateway: Gateway::at(addr.unwrap()),
        token: token.unwrap(),
        admin: admin.unwrap(),
    }
}

impl Demo {
    async fn ask(&self, body: Value) -> Answer {
        let headers = [
            ("authorization", self.token.clone()),
            ("content-type", "application/json".to_owned()),
        ];
        self.gateway
            .send(Method::POST, ORCHESTRATE, &headers, &body.to_string())
            .await
    }

    async fn metrics(&self) -> String {
        let (_, rest) = self.admin.split_once("//").unwrap();
        let addr = rest.trim_end_matches("/metrics").parse().unwrap();
        Gateway::at(addr)
            .send(Method::GET, "/metrics", &[], "")
            .await
            .text
    }
}

#[tokio::test]
async fn demo_responds_with_all_services() {
    let demo = demo(&[]).await;
    let answer = demo.ask(json!({"input": {"symbol": "ETH"}})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for name in ["onchain", "sentiment", "tokenomics", "team", "social"] {
        assert_eq!(
            answer.service(name, "/status"),
            "success",
            "{}",
            answer.text
        );
        assert_eq!(answer.service(name, "/data/symbol"), "ETH");
        assert_eq!(answer.service(name, "/circuitBreakerState"), "CLOSED");
        assert!(answer.service(name, "/responseTime").as_f64().unwrap() > 1.0);
    }
    assert_eq!(
        answer.service("social", "/attempts"),
        2,
        "the flaky service is retried"
    );
    assert_eq!(
        answer.service("tokenomics", "/data/circulating"),
        answer.service("onchain", "/data/supply")
    );
    assert_eq!(
        answer.at("/meta/criticalPath"),
        json!(["onchain", "tokenomics"])
    );
    assert_eq!(
        answer.at("/meta/correlationId"),
        answer.header("x-correlation-id")
    );

    let metrics = demo.metrics().await;
    for state in [
        "open", "accepted", "done", "slow", "idle", "stalled", "error",
    ] {
        let counted = format!("fanout_connections{{state=\"{state}\"}}");
        assert!(metrics.contains(&counted), "{metrics}");
    }
    assert!(
        metrics.contains("fanout_call_total{route=\"orchestrate\",node=\"team\",downstream=\"team\",outcome=\"success\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("fanout_breaker_state{downstream=\"social\",state=\"closed\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("fanout_call_seconds_bucket{route=\"orchestrate\",node=\"onchain\",downstream=\"onchain\",le=\"0.25\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn demo_reports_a_service_that_is_down() {
    let demo = demo(&["--down", "sentiment"]).await;
    let answer = demo.ask(json!({"aggregationStrategy": "all"})).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(
        answer.service("sentiment", "/error/kind"),
        "connect_refused"
    );
    let answer = demo.ask(json!({})).await;
    assert_eq!(
        (answer.status, answer.header("x-fanout-completed")),
        (StatusCode::OK, "false")
    );
}

#[tokio::test]
async fn fault_k2_sigterm_completes_requests_in_flight_and_exits_0() {
    let mut demo = demo(&[]).await;
    let request = demo.ask(json!({}));
    let (answer, ()) = tokio::join!(request, async {
        while !demo
            .metrics()
            .await
            .contains("fanout_inflight{downstream=\"onchain\"} 1")
        {}
        signal(&demo.child, "TERM");
    });
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(demo.child.wait().await.unwrap().code(), Some(0));
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Returns headers with ids of the caller, each with a unique value.
fn ids() -> Vec<(&'static str, String)> {
    vec![
        ("x-correlation-id", "order-7-of-ada".to_owned()),
        ("x-request-id", "request-8-of-ada".to_owned()),
        ("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01")),
        ("tracestate", "vendor=state9".to_owned()),
        ("baggage", "user=ada10".to_owned()),
    ]
}

#[tokio::test]
async fn fault_c14_no_id_is_in_the_metrics() {
    let demo = demo(&[]).await;
    let mut headers = ids();
    headers.push(("content-type", "application/json".to_owned()));
    let refused = (demo.gateway)
        .send(Method::POST, ORCHESTRATE, &headers, "{}")
        .await;
    headers.push(("authorization", demo.token.clone()));
    let answer = (demo.gateway)
        .send(Method::POST, ORCHESTRATE, &headers, "{}")
        .await;
    assert_eq!(
        (refused.status, answer.status),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    headers[0].1 = "not usable".to_owned();
    let path = "/of-ada/order-7";
    let replaced = demo.gateway.send(Method::GET, path, &headers, "").await;
    let metrics = demo.metrics().await;
    assert!(metrics.contains("fanout_corrid_replaced_total{reason=\"charset\"} 1"));
    assert!(metrics.contains("fanout_call_total{"), "{metrics}");
    for id in [
        replaced.header("x-correlation-id"),
        TRACE,
        "of-ada",
        "b7ad6b7169203331",
        "state9",
        "ada10",
        "not usable",
    ] {
        assert!(!metrics.contains(id), "{id} is in {metrics}");
    }
}

fn config(listen: &str, endpoint: &str) -> String {
    format!(
        "version: 1
server: {{ listen: \"{listen}\", admin: 127.0.0.1:0, drain: {{ delay: 0s }} }}
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256], tier: {{ claim: tier, default: free }} }} }} }}
tiers: {{ free: {{}}, pro: {{}} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"{endpoint}\" }}] }} }}
orchestrate: {{ auth: {{ jwt: main }}, plan: {{ up: {{ downstream: up, request: {{ path: / }} }} }} }}
"
    )
}

/// Waits for the next log line of a rejected request.
async fn rejection(server: &mut Server) -> Value {
    loop {
        let line: Value = serde_json::from_str(&server.line().await).unwrap();
        if line["message"] == "request rejected" {
            return line;
        }
    }
}

#[tokio::test]
async fn fault_c1_c13_c17_a_log_line_has_the_ids_of_its_request() {
    let (up, _) = stub(quick).await;
    let file = File::new("log.yaml", &config("127.0.0.1:0", &format!("http://{up}")));
    let mut server = Server::start(fanout_with(&["run"], &file)).await.unwrap();
    let gateway = Gateway::at(server.listen);

    gateway
        .send(Method::GET, "/none?secret=1", &ids(), "")
        .await;
    let line = rejection(&mut server).await;
    assert_eq!(
        (&line["code"], &line["status"]),
        (&json!("not_found"), &json!(404))
    );
    let span = &line["span"];
    assert_eq!(span["name"], "request");
    assert_eq!(span["correlation_id"], "order-7-of-ada");
    assert_eq!(span["trace_id"], TRACE);
    assert_eq!(
        (&span["method"], &span["path"]),
        (&json!("GET"), &json!("/none"))
    );
    assert!(span["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(!line.to_string().contains("secret"), "{line}");

    let path = format!("/{}", "a".repeat(10 << 10));
    let answer = gateway.send(Method::GET, &path, &[], "").await;
    let line = rejection(&mut server).await;
    assert_eq!(
        line["span"]["correlation_id"],
        answer.header("x-correlation-id")
    );
    assert_eq!(line["span"]["path"], format!("{}…", &path[..256]));
}

#[tokio::test]
async fn run_accepts_a_token_that_the_token_command_creates() {
    let (up, _) = stub(quick).await;
    let file = File::new("run.yaml", &config("127.0.0.1:0", &format!("http://{up}")));
    let server = Server::start(fanout_with(&["run"], &file)).await.unwrap();
    let token = fanout_with(&["token", "--sub", "ada", "--tier", "pro"], &file)
        .output()
        .await
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let headers = [
        ("authorization", format!("Bearer {}", token.trim())),
        ("content-type", "application/json".to_owned()),
    ];
    let gateway = Gateway::at(server.listen);
    let answer = gateway
        .send(Method::POST, ORCHESTRATE, &headers, "{}")
        .await;
    assert_eq!(
        (answer.status, answer.at("/meta/tier")),
        (StatusCode::OK, json!("pro")),
        "{}",
        answer.text
    );
    let ready = gateway.send(Method::GET, "/readyz", &[], "").await;
    assert_eq!(ready.status, StatusCode::OK);
}

/// Returns a configuration with a JWKS at `addr`.
fn config_with_jwks(addr: std::net::SocketAddr, up: &str) -> String {
    config("127.0.0.1:0", up)
        .replace(
            &format!("secret: \"{SECRET}\""),
            &format!("jwks: {{ url: \"http://{addr}/keys\" }}"),
        )
        .replace("HS256", "ES256")
}

#[tokio::test]
async fn fault_b2_run_exits_78_without_keys_and_check_does_not_fetch() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = closed.local_addr().unwrap();
    drop(closed);
    let file = File::new(
        "no-keys.yaml",
        &config_with_jwks(addr, "http://127.0.0.1:9"),
    );
    let output = fanout_with(&["run"], &file).output().await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{log}");
    let last = log.lines().last().unwrap();
    assert_eq!(
        last,
        "fanout: auth.jwt.main: keys could not be fetched: connect_refused: Connection refused (os error 111)"
    );
    for arguments in [&["check"][..], &["explain", "--route", "orchestrate"]] {
        let output = fanout_with(arguments, &file).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[tokio::test]
async fn exports_metrics_of_key_fetches_key_age_and_tokens() {
    let (keys, _) = stub(|_| {
        let set = include_str!("../../http/src/jwt/test_keys/jwks.json");
        (ms(0), StatusCode::OK, serde_json::from_str(set).unwrap())
    })
    .await;
    let file = File::new("keys.yaml", &config_with_jwks(keys, "http://127.0.0.1:9"));
    let server = Server::start(fanout_with(&["run"], &file)).await.unwrap();
    let answer = Gateway::at(server.listen)
        .send(Method::POST, ORCHESTRATE, &[], "{}")
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let metrics = Gateway::at(server.admin)
        .send(Method::GET, "/metrics", &[], "")
        .await
        .text;
    for line in [
        "fanout_jwks_fetch_total{issuer=\"main\",outcome=\"ok\",kind=\"\"} 1",
        "fanout_jwks_age_seconds{issuer=\"main\"} 0.",
        "fanout_auth_total{outcome=\"rejected\",reason=\"missing\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn fault_j8_check_reports_all_errors_and_exits_1() {
    let good = File::new("good.yaml", &config("127.0.0.1:0", "http://127.0.0.1:9"));
    let output = fanout_with(&["check"], &good).output().await.unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );

    let bad = config("nowhere", "ftp://x").replace("downstream: up", "downstream: upp");
    let bad = File::new("bad.yaml", &bad);
    let output = fanout_with(&["check", "--format", "json"], &bad)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let diagnostics: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<_> = diagnostics
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (
                error["path"].as_str().unwrap(),
                error["line"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("server.listen", 2),
            ("downstreams.up.endpoints[0].url", 5),
            ("orchestrate.plan.up.downstream", 6)
        ]
    );
    let text = fanout_with(&["check"], &bad).output().await.unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("did you mean \"up\"?") && text.contains("bad.yaml:6:"),
        "{text}"
    );

    let output = fanout_with(&["run"], &bad).output().await.unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "fault_k10: run rejects an invalid file"
    );
}

#[tokio::test]
async fn fault_k10_reports_a_port_in_use_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = fanout(&["demo", "--listen", &addr]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with(&format!("fanout: cannot listen on {addr}"))),
        "{text}"
    );
}

/// A configuration with the built-in API and a route. Its services do not exist, so a call would fail.
const EXPLAINED: &str = "\
version: 1
tiers: { free: {}, pro: {} }
auth: { jwt: { main: { keys: [{ secret: 0123456789abcdef0123456789abcdef }], issuers: [me], audiences: [you], algorithms: [HS256], tier: { claim: tier } } } }
policies:
  quick: { attempt_timeout: 100ms, retry: { max_attempts: 2 } }
downstreams:
  users: { endpoints: [{ url: \"http://127.0.0.1:9\" }], policy: quick }
  orders: { endpoints: [{ url: \"http://127.0.0.1:9\" }], policy: quick }
orchestrate:
  auth: { jwt: main }
  plan:
    user: { downstream: users, request: { path: \"/users/{body.input.id}\" }, required: true }
    orders: { downstream: orders, depends_on: [user], tiers: [pro], request: { path: \"/{user.id}\" } }
routes:
  - name: page
    match: { path: \"/pages/{id}\" }
    deadline: { default: 400ms }
    plan:
      user: { downstream: users, request: { path: \"/users/{route.id}\" }, required: true }
      orders:
        downstream: orders
        depends_on: [{ node: user, optional: true }]
        request: { path: \"/{header.x-account}\" }
        fallback: [{ service: users }]
";

/// Runs `explain`. Returns its exit code, standard output and standard error.
async fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = File::new("explain.yaml", EXPLAINED);
    let output = fanout_with(&[&["explain"], arguments].concat(), &file)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn explain_prints_the_plan_of_a_route() {
    let (code, text, _) = explain(&["--route", "page"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "\
strategy partial, deadline 400ms, expected -, worst case 400ms
critical path: user → orders

wave  node    runs      after  start  expected  budget  attempts
1     user    required  -      0s     -         380ms   2
2     orders  optional  user?  0s     -         380ms   4

warning[worst_case]: \"user\" → \"orders\" may take 750ms, but the deadline is 400ms
  at nodes.orders: lower the timeouts or the attempts in the policies of \"orders\" and its fallbacks, or raise the deadline
"
    );
    let (_, text, _) = explain(&["--route", "page", "--format", "mermaid"]).await;
    assert!(
        text.starts_with("flowchart LR\n  %% strategy partial,"),
        "{text}"
    );
    assert!(text.contains("  n0[\"user<br>budget 380ms\"]\n"), "{text}");
    assert!(text.contains("n0 -.-> n1"), "{text}");
}

#[tokio::test]
async fn explain_prints_the_plan_of_an_api_request_with_a_body() {
    let arguments = [
        "--route",
        "orchestrate",
        "--tier",
        "free",
        "--format",
        "json",
    ];
    let (code, text, _) = explain(&arguments).await;
    assert_eq!(code, Some(0), "without a body, no value of it is missing");
    let plain: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plain["route"], "orchestrate");
    assert_eq!(plain["deadline"], 30_000);
    let body = File::new(
        "explain-body.json",
        r#"{"input": {"id": 7}, "retryAttempts": 0, "timeout": 2000}"#,
    );
    let path = body.path().to_str().unwrap();
    let (_, text, _) = explain(&[&arguments[..], &["--body", path]].concat()).await;
    let explained: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&explained["deadline"], &explained["planId"]),
        (&json!(2000), &plain["planId"])
    );
    assert_eq!(explained["waves"], json!([["user"]]));
    assert_eq!(explained["services"]["user"]["worstCaseAttempts"], 1);
    assert_eq!(
        explained["services"]["user"]["circuitBreakerState"],
        "CLOSED"
    );
    assert_eq!(explained["services"]["orders"]["skipReason"], "tier");
}

#[tokio::test]
async fn explain_help_lists_the_unknown_inputs() {
    let output = fanout(&["explain", "--help"]).output().await.unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("count as absent"), "{help}");
}

#[tokio::test]
async fn explain_fails_if_the_request_would_be_rejected() {
    let body = File::new("explain-empty.json", "{}");
    let wrong = File::new("explain-wrong.json", r#"{"timeout": 1}"#);
    let (body, wrong) = (
        body.path().to_str().unwrap(),
        wrong.path().to_str().unwrap(),
    );
    for (arguments, problem) in [
        (
            &["--route", "orchestrate", "--body", body][..],
            "fanout: A required value is missing: /input/id (required by service \"user\")\n",
        ),
        (
            &["--route", "orchestrate", "--format", "json", "--body", body],
            "\"code\":\"missing_param\"",
        ),
        (&["--route", "orchestrate", "--body", wrong], ": /timeout ("),
        (
            &["--route", "orchestrate", "--body", "/nowhere"],
            "cannot read the body file",
        ),
        (&["--route", "pages"], "unknown route \"pages\""),
        (
            &["--route", "page", "--tier", "max"],
            "unknown tier \"max\"",
        ),
    ] {
        let (code, text, error) = explain(arguments).await;
        assert_eq!((code, &*text), (Some(1), ""), "{arguments:?}");
        assert!(error.contains(problem), "{arguments:?}: {error}");
    }
}

#[tokio::test]
async fn serves_connections_on_as_many_threads_as_asked_for() {
    let file = File::new("workers.yaml", &config("127.0.0.1:0", "http://127.0.0.1:9"));
    for (count, refused) in [("0", "0 is not in 1..=1024"), ("x", "invalid digit")] {
        let run = ["run", "--workers", count];
        let output = fanout_with(&run, &file).output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(refused), "{error}");
    }
    let run = ["run", "--workers", "3"];
    let server = Server::start(fanout_with(&run, &file)).await.unwrap();
    let workers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
        names
            .filter(|name| name.as_ref().unwrap().starts_with("worker-"))
            .count()
    };
    // A new thread sets its name when it runs for the first time, which may be after the gateway has started.
    while workers() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(workers(), 3);
}

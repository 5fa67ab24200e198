//! Failures of downstreams: the caller sees the kind, the log has the cause, and health tells failures of a
//! service from those of the gateway.
#![allow(missing_docs)]

mod common;

use std::{net::SocketAddr, process::Stdio};

use common::{
    issuer::{self, Issuer},
    *,
};
use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Command,
    time::timeout,
};
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    tls::{Certificate, CertificateAuthority, ServerTls},
};

/// Lets a gateway stop at once.
const NO_DELAY: &str = "server: { drain: { delay: 0s } }\n";

/// The warnings about failed downstreams in `log`.
fn warnings(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["message"] == "downstream failed")
        .collect()
}

/// A gateway with one route and one service per downstream.
struct Routes {
    downstreams: String,
    routes: String,
    expected: Vec<(String, &'static str, &'static str)>,
    servers: Vec<FaultServer>,
    files: Vec<File>,
}

impl Routes {
    fn new() -> Self {
        Self {
            downstreams: String::new(),
            routes: String::new(),
            expected: Vec::new(),
            servers: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Adds a downstream, and the kind and a part of the cause of the failure of its calls.
    fn add(&mut self, url: &str, more: &str, kind: &'static str, cause: &'static str) {
        let name = format!("s{}", self.expected.len());
        self.downstreams +=
            &format!("  {name}: {{ endpoints: [{{ url: \"{url}\" }}], policy: p, {more} }}\n");
        self.routes += &format!(
            "  - {{ name: {name}, match: {{ path: /{name} }}, plan: {{ a: {{ downstream: {name}, required: true, request: {{ path: / }} }} }} }}\n"
        );
        self.expected.push((name, kind, cause));
    }

    /// Adds a server with TLS, whose client trusts `authority`.
    async fn add_tls(
        &mut self,
        tls: &ServerTls,
        authority: &CertificateAuthority,
        kind: &'static str,
        cause: &'static str,
    ) {
        let server = FaultServer::with_tls(tls, |_| Fault::json("1")).await;
        let file = File::new("ca.pem", &authority.ca_pem());
        let tls = format!("tls: {{ ca_file: \"{}\" }}", file.path().display());
        self.add(&server.url(), &tls, kind, cause);
        self.servers.push(server);
        self.files.push(file);
    }

    /// Adds a server without TLS that responds with `fault`.
    async fn add_plain(&mut self, fault: Fault, kind: &'static str, cause: &'static str) {
        let server = FaultServer::start(fault).await;
        self.add(&server.url(), "", kind, cause);
        self.servers.push(server);
    }

    /// Calls each route twice. Checks that the caller sees the kind only, and that one warning per
    /// downstream has the kind and the cause.
    async fn check(&self) {
        let text = format!(
            "version: 1\n{NO_DELAY}policies: {{ p: {{ retry: {{ base: 1ms }}, circuit_breaker: off }} }}\ndownstreams:\n{}routes:\n{}",
            self.downstreams, self.routes
        );
        let mut gateway = Gateway::from_text(&text).await;
        for (name, kind, cause) in &self.expected {
            for _ in 0..2 {
                let answer = gateway
                    .send(Method::GET, &format!("/{name}"), &[], "")
                    .await;
                assert_eq!(answer.status, 502, "{kind}");
                assert_eq!(answer.service("a", "/error/kind"), *kind);
                assert!(!answer.text.contains(cause), "{}", answer.text);
            }
        }
        let log = gateway.server.take().unwrap().stop().await;
        let warnings = warnings(&log);
        for (name, kind, cause) in &self.expected {
            let of = warnings.iter().filter(|line| line["downstream"] == **name);
            let of: Vec<_> = of.collect();
            assert_eq!(of.len(), 1, "{log}");
            assert_eq!(
                (&of[0]["kind"], &of[0]["level"]),
                (&json!(kind), &json!("WARN"))
            );
            let logged = of[0]["cause"].as_str().unwrap();
            assert!(logged.contains(cause), "{logged}");
        }
    }
}

#[tokio::test]
async fn fault_f42_each_tls_fault_is_logged_with_its_kind_and_cause() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let names = &["localhost"];
    let good = ServerTls::new(&authority.issue(names));
    let mut routes = Routes::new();
    for (tls, kind, cause) in [
        (
            ServerTls::new(&authority.issue_expired(names)),
            "tls_expired",
            "certificate expired",
        ),
        (
            ServerTls::new(&authority.issue_not_yet_valid(names)),
            "tls_expired",
            "not valid yet:",
        ),
        (
            ServerTls::new(&CertificateAuthority::new().issue(names)),
            "tls_untrusted_issuer",
            "UnknownIssuer",
        ),
        (
            ServerTls::new(&Certificate::self_signed_ca(names)),
            "tls_untrusted_issuer",
            "CaUsedAsEndEntity",
        ),
        (
            ServerTls::new(&authority.issue(&["elsewhere"])),
            "tls_wrong_name",
            "elsewhere",
        ),
        (
            good.clone().require_client_cert(&clients),
            "tls_client_cert_required",
            "CertificateRequired",
        ),
        (
            ServerTls::protocol_version_alert(),
            "tls_protocol",
            "ProtocolVersion",
        ),
        (ServerTls::plain_http(), "tls_not_tls", "InvalidContentType"),
        (ServerTls::reset(), "tls_failed", "reset by peer"),
    ] {
        routes.add_tls(&tls, &authority, kind, cause).await;
    }
    routes.check().await;
}

/// Returns the URL of a listener that accepts nothing and whose backlog is full, so that the kernel drops
/// further connection attempts.
async fn full_backlog() -> (String, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(ms(100), TcpStream::connect(addr)).await {
        waiting.push(stream.unwrap());
    }
    (format!("http://{addr}"), (listener, waiting))
}

#[tokio::test]
async fn fault_f41_each_connect_fault_is_logged_with_its_kind_and_cause() {
    let mut routes = Routes::new();
    let refusing = FaultServer::refusing();
    routes.add(&refusing.url(), "", "connect_refused", "Connection refused");
    // A DNS label has at most 63 characters (RFC 1035 §2.3.4), so every resolver fails without a query.
    let unknown = format!("http://{}:80", "x".repeat(64));
    routes.add(&unknown, "", "dns_failed", "lookup");
    // Linux has no route for TCP to a broadcast address.
    routes.add(
        "http://255.255.255.255:80",
        "",
        "unreachable",
        "os error 101",
    );
    let (full, _waiting) = full_backlog().await;
    let short = "connect_timeout: 50ms";
    routes.add(&full, short, "unreachable", "no response within 50ms");
    let up = FaultServer::start(Fault::json("1")).await;
    let blocked = "allow_addresses: public";
    routes.add(
        &up.url(),
        blocked,
        "address_blocked",
        "allows none of [127.0.0.1]",
    );
    routes.check().await;
}

#[tokio::test]
async fn fault_f45_each_bad_response_is_logged_with_its_reason_and_sent_once() {
    let mut routes = Routes::new();
    let json = ("content-type", "application/json");
    let identity = ("content-encoding", "identity");
    let lines = [json, identity, ("content-encoding", "gzip, Identity")];
    let gzip = Fault::response(200, &lines, "{}");
    let chunked = "content-type: application/json\r\ntransfer-encoding: gzip, chunked";
    let chunked = format!("HTTP/1.1 200 OK\r\n{chunked}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    let chunked = Fault::new().send(chunked);
    for (fault, kind, cause) in [
        (gzip, "bad_body", "content-encoding: gzip, Identity"),
        (chunked, "bad_body", "transfer-encoding: gzip, chunked"),
        (
            Fault::deep_json(65),
            "bad_json",
            "nested deeper than 64 levels",
        ),
        (Fault::invalid_json(), "bad_json", "not a valid JSON value"),
        (Fault::html(), "bad_content_type", "text/html"),
        (
            Fault::huge_headers(101, 8),
            "bad_head",
            "more than 100 headers",
        ),
        (Fault::redirect("/"), "redirect", "status 302"),
        (Fault::informational(17), "bad_head", "interim responses"),
    ] {
        routes.add_plain(fault, kind, cause).await;
    }
    routes.check().await;
    for server in &routes.servers {
        assert_eq!(server.stats().requests.len(), 2, "two calls, no retries");
    }
}

#[tokio::test]
async fn fault_f45_an_absent_target_is_bad_json_with_the_path_in_the_log() {
    let (up, seen) = stub(quick).await;
    let plan = "    up: { downstream: up, required: true, request: { path: / }, response: { target: data.items } }";
    let mut gateway = Gateway::start(&[("up", up)], plan, NO_DELAY).await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("up", "/error/kind"), "bad_json");
    assert_eq!(seen.calls(), 1, "not retried");
    let log = gateway.server.take().unwrap().stop().await;
    let warnings = warnings(&log);
    assert_eq!(warnings[0]["cause"], "no value at target \"data.items\"");
}

#[tokio::test]
async fn fault_f43_a_fallback_keeps_the_error_and_degrades_the_health() {
    let dead = FaultServer::refusing().addr();
    let plan = "    recs: { downstream: recs, request: { path: / }, fallback: [{ static: [] }] }";
    let more = format!("{NO_DELAY}policies: {{ p: {{ retry: off, circuit_breaker: off }} }}\n");
    let mut gateway = Gateway::start(&[("recs", dead)], plan, &more).await;
    for _ in 0..3 {
        let answer = gateway.ask(json!({})).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.service("recs", "/status"), "fallback");
        assert_eq!(answer.service("recs", "/data"), json!([]));
        assert_eq!(answer.service("recs", "/error/kind"), "connect_refused");
    }
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.status, 200);
    assert_eq!(health.at("/status"), "DEGRADED");
    assert_eq!(health.at("/services/recs/status"), "DEGRADED");
    assert_eq!(
        health.at("/services/recs/lastFailure/kind"),
        "connect_refused"
    );
    let log = gateway.server.take().unwrap().stop().await;
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log}");
    assert_eq!(warnings[0]["branch"], "fallback");
}

#[tokio::test]
async fn fault_f43_an_error_status_behind_a_fallback_is_kept() {
    let (up, _) = stub(|call| match call {
        0 => broken(call),
        _ => quick(call),
    })
    .await;
    let plan = "    up: { downstream: up, request: { path: / }, fallback: [{ static: [] }] }";
    let more = "policies: { p: { retry: off } }\n";
    let gateway = Gateway::start(&[("up", up)], plan, more).await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("up", "/status"), "fallback");
    assert_eq!(answer.service("up", "/error/kind"), "status");
    let health = async || gateway.post("/health", json!({})).await.at("/status");
    assert_eq!(health().await, "DEGRADED");
    // The health is restored by the first answer of the service itself.
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("up", "/status"), "success");
    assert!(answer.service("up", "").get("error").is_none());
    assert_eq!(health().await, "UP");
}

#[tokio::test]
async fn fault_f43_a_missing_page_ends_the_degraded_health() {
    let (up, _) = stub(|call| match call {
        0 => broken(call),
        _ => (ms(0), http::StatusCode::NOT_FOUND, json!({})),
    })
    .await;
    let plan = "    up: { downstream: up, request: { path: / }, fallback: [{ static: [] }] }";
    let gateway = Gateway::start(&[("up", up)], plan, "policies: { p: { retry: off } }\n").await;
    for health in ["DEGRADED", "UP"] {
        let answer = gateway.ask(json!({})).await;
        assert_eq!(answer.service("up", "/error/kind"), "status");
        let found = gateway.post("/health", json!({})).await;
        assert_eq!(found.at("/status"), health);
    }
}

/// Starts a gateway whose node `up` has the fallback service `other` and then a static response.
async fn with_fallback_service(up: SocketAddr, other: SocketAddr, on: &str) -> Gateway {
    let plan = format!(
        "    up: {{ downstream: up, request: {{ path: / }}, fallback: [{{ service: other{on} }}, {{ static: [] }}] }}"
    );
    let more = format!("{NO_DELAY}policies: {{ p: {{ retry: off, circuit_breaker: off }} }}\n");
    Gateway::start(&[("up", up), ("other", other)], &plan, &more).await
}

#[tokio::test]
async fn fault_f43_the_status_of_a_fallback_service_is_not_that_of_the_service() {
    let ((up, _), (other, _)) = (stub(broken).await, stub(quick).await);
    let mut gateway = with_fallback_service(up, other, "").await;
    for _ in 0..2 {
        let answer = gateway.ask(json!({})).await;
        assert_eq!(answer.service("up", "/status"), "fallback");
        assert_eq!(answer.service("up", "/httpStatus"), 200);
    }
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/status"), "DEGRADED");
    assert_eq!(health.at("/services/up/status"), "DEGRADED");
    assert_eq!(health.at("/services/up/lastFailure/kind"), "status");
    assert_eq!(health.at("/fallbacks/other/status"), "UP");
    let log = gateway.server.take().unwrap().stop().await;
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log}");
    assert_eq!(
        (&warnings[0]["downstream"], &warnings[0]["cause"]),
        (
            &json!("up"),
            &json!("the service responded with status 500")
        )
    );
}

#[tokio::test]
async fn fault_f44_a_broken_fallback_service_is_no_failure_of_the_service() {
    let (up, _) = stub(|_| (ms(0), http::StatusCode::NOT_FOUND, json!({}))).await;
    let (other, _) = stub(broken).await;
    let mut gateway = with_fallback_service(up, other, ", on: [404]").await;
    for _ in 0..2 {
        let answer = gateway.ask(json!({})).await;
        assert_eq!(answer.service("up", "/status"), "failed");
        assert_eq!(answer.service("up", "/error/kind"), "status");
    }
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/services/up/status"), "UP");
    assert_eq!(health.at("/services/up/lastFailure"), Value::Null);
    assert_eq!(health.at("/fallbacks/other/status"), "DEGRADED");
    assert_eq!(health.at("/fallbacks/other/lastFailure/kind"), "status");
    let log = gateway.server.take().unwrap().stop().await;
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{log}");
    assert_eq!(
        (&warnings[0]["downstream"], &warnings[0]["node"]),
        (&json!("other"), &json!("up"))
    );
}

#[tokio::test]
async fn fault_f43_a_dead_fallback_service_is_seen() {
    let ((up, _), dead) = (stub(broken).await, FaultServer::refusing().addr());
    let mut gateway = with_fallback_service(up, dead, "").await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("up", "/status"), "fallback");
    assert_eq!(answer.service("up", "/fallbackKind"), "static");
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(
        health.at("/fallbacks/other/lastFailure/kind"),
        "connect_refused"
    );
    let log = gateway.server.take().unwrap().stop().await;
    let downstreams: Vec<_> = warnings(&log)
        .iter()
        .map(|line| line["downstream"].clone())
        .collect();
    assert_eq!(downstreams, ["other", "up"], "{log}");
}

#[tokio::test]
async fn fault_f43_a_fallback_service_that_hangs_until_the_deadline_is_seen() {
    let (up, _) = stub(broken).await;
    let (hanging, _) = stub(|_| (ms(60_000), http::StatusCode::OK, json!(1))).await;
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }} }} }}
policies: {{ p: {{ retry: off }}, twice: {{ attempt_timeout: 600ms, retry: {{ base: 1ms }} }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p }}
  other: {{ endpoints: [{{ url: \"http://{hanging}\" }}], policy: twice }}
orchestrate:
  auth: {{ jwt: main }}
  plan: {{ up: {{ downstream: up, request: {{ path: / }}, fallback: [{{ service: other }}] }} }}
"
    );
    let gateway = Gateway::from_text(&text).await;
    // The second attempt is cut by the deadline, the first one timed out.
    let answer = gateway.ask(json!({"timeout": 1000})).await;
    assert_eq!(answer.service("up", "/attempts"), 3);
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/fallbacks/other/lastFailure/kind"), "timeout");
    assert_eq!(health.at("/services/up/lastFailure/kind"), "status");
}

#[tokio::test]
async fn fault_f44_an_open_breaker_does_not_hide_the_last_failure() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue_expired(&["localhost"]));
    let server = FaultServer::with_tls(&tls, |_| Fault::json("1")).await;
    let ca = File::new("ca.pem", &authority.ca_pem());
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }} }} }}
policies: {{ p: {{ retry: off, circuit_breaker: {{ min_calls: 2, window: 10s }} }} }}
downstreams: {{ db: {{ endpoints: [{{ url: \"{}\" }}], policy: p, tls: {{ ca_file: \"{}\" }} }} }}
orchestrate:
  auth: {{ jwt: main }}
  plan: {{ db: {{ downstream: db, request: {{ path: / }}, fallback: [{{ static: 0 }}] }} }}
",
        server.url(),
        ca.path().display(),
    );
    let gateway = Gateway::from_text(&text).await;
    let mut kind = Value::Null;
    for _ in 0..10 {
        kind = gateway.ask(json!({})).await.service("db", "/error/kind");
    }
    assert_eq!(kind, "breaker_open");
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/services/db/status"), "DOWN");
    assert_eq!(health.at("/services/db/lastFailure/kind"), "tls_expired");
}

#[tokio::test]
async fn fault_f44_a_missing_page_is_no_failure_of_the_service() {
    let (up, _) = stub(|_| (ms(0), http::StatusCode::NOT_FOUND, json!({}))).await;
    let plan =
        "    up: { downstream: up, request: { path: / }, fallback: [{ static: [], on: [404] }] }";
    let mut gateway = Gateway::start(&[("up", up)], plan, NO_DELAY).await;
    gateway.ask(json!({})).await;
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/status"), "UP");
    assert_eq!(health.at("/services/up/lastFailure"), Value::Null);
    let log = gateway.server.take().unwrap().stop().await;
    assert_eq!(warnings(&log).len(), 0, "{log}");
}

#[tokio::test]
async fn fault_f44_a_call_that_was_not_sent_is_no_failure_of_the_service() {
    let (up, _) = stub(|_| (ms(0), http::StatusCode::OK, json!(1))).await;
    let (slow, _) = stub(|_| (ms(60_000), http::StatusCode::OK, json!(1))).await;
    let (idle, calls) = stub(|_| (ms(0), http::StatusCode::OK, json!(1))).await;
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }} }} }}
policies: {{ one: {{ concurrency: {{ max: 1, queue: 5, max_wait: 10s }} }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}] }}
  slow: {{ endpoints: [{{ url: \"http://{slow}\" }}], policy: one }}
  idle: {{ endpoints: [{{ url: \"http://{idle}\" }}] }}
orchestrate:
  auth: {{ jwt: main }}
  aggregate: {{ return_when: required, grace: 50ms }}
  plan:
    must: {{ downstream: up, request: {{ path: / }}, required: true }}
    late: {{ downstream: slow, request: {{ path: / }} }}
    queued: {{ downstream: slow, request: {{ path: / }}, fallback: [{{ static: 0 }}] }}
    after: {{ downstream: idle, depends_on: [late], request: {{ path: / }}, fallback: [{{ static: 0 }}] }}
"
    );
    let mut gateway = Gateway::from_text(&text).await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("late", "/status"), "cancelled");
    assert_eq!(answer.service("late", "/attempts"), 1);
    assert_eq!(answer.service("queued", "/status"), "fallback");
    assert_eq!(answer.service("queued", "/attempts"), 0);
    assert_eq!(answer.service("after", "/skipReason"), "no_time");
    assert_eq!(calls.calls(), 0);
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/status"), "UP");
    for service in ["late", "queued", "after"] {
        assert_eq!(
            health.at(&format!("/services/{service}/lastFailure")),
            Value::Null
        );
    }
    let log = gateway.server.take().unwrap().stop().await;
    assert_eq!(warnings(&log).len(), 0, "{log}");
}

#[tokio::test]
async fn fault_g24_f44_a_cut_call_is_no_failure_of_the_service() {
    let (up, _) = stub(|_| (ms(0), http::StatusCode::OK, json!(1))).await;
    let (slow, calls) = stub(|_| (ms(60_000), http::StatusCode::OK, json!(1))).await;
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }} }} }}
policies: {{ long: {{ attempt_timeout: 5s }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}] }}
  slow: {{ endpoints: [{{ url: \"http://{slow}\" }}], policy: long }}
orchestrate:
  auth: {{ jwt: main }}
  aggregate: {{ return_when: required }}
  plan:
    must: {{ downstream: up, request: {{ path: / }}, required: true }}
    late: {{ downstream: slow, request: {{ path: / }}, fallback: [{{ static: 0 }}] }}
"
    );
    let mut gateway = Gateway::from_text(&text).await;
    // By the grace period, and by the deadline of the caller.
    let grace = gateway.ask(json!({})).await;
    assert_eq!(grace.service("late", "/status"), "fallback");
    assert_eq!(grace.service("late", "/error/kind"), "timeout");
    let deadline = json!({"timeout": 1000, "requiredServices": ["late"]});
    let deadline = gateway.ask(deadline).await;
    assert_eq!(deadline.service("late", "/error/kind"), "deadline");
    assert_eq!(deadline.service("late", "/attempts"), 1);
    assert!(calls.calls() > 0);
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/status"), "UP");
    assert_eq!(health.at("/services/late/lastFailure"), Value::Null);
    let log = gateway.server.take().unwrap().stop().await;
    assert_eq!(warnings(&log).len(), 0, "{log}");
}

#[tokio::test]
async fn fault_f43_an_attempt_timeout_before_a_cut_is_a_failure_of_the_service() {
    let (up, _) = stub(|_| (ms(60_000), http::StatusCode::OK, json!(1))).await;
    let plan = "    up: { downstream: up, request: { path: / }, fallback: [{ static: [] }] }";
    let more = format!(
        "{NO_DELAY}policies: {{ p: {{ attempt_timeout: 600ms, retry: {{ base: 1ms }} }} }}\n"
    );
    let mut gateway = Gateway::start(&[("up", up)], plan, &more).await;
    let answer = gateway.ask(json!({"timeout": 1000})).await;
    assert_eq!(answer.service("up", "/status"), "fallback");
    assert_eq!(answer.service("up", "/attempts"), 2);
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/services/up/status"), "DEGRADED");
    assert_eq!(health.at("/services/up/lastFailure/kind"), "timeout");
    let log = gateway.server.take().unwrap().stop().await;
    let warnings = warnings(&log);
    assert_eq!(warnings[0]["cause"], "the attempt timed out", "{log}");
}

#[tokio::test]
async fn fault_f20_an_accepted_status_is_a_success_for_every_policy() {
    for status in [500, 503, 429, 408, 404] {
        let headers = [("content-type", "application/json")];
        let up = Fault::response(status, &headers, r#"{"state": "maintenance"}"#);
        let up = FaultServer::start(up).await;
        let plan = format!(
            "    up: {{ downstream: up, request: {{ path: / }}, response: {{ accept: [{status}] }}, fallback: [{{ static: 0, on: [failure, throttled, {status}] }}] }}"
        );
        let more = format!(
            "{NO_DELAY}policies: {{ p: {{ retry: {{ base: 1ms }}, circuit_breaker: {{ consecutive_failures: 1 }} }} }}\n"
        );
        let mut gateway = Gateway::start(&[("up", up.addr())], &plan, &more).await;
        for _ in 0..3 {
            let answer = gateway.ask(json!({})).await;
            assert_eq!(answer.service("up", "/status"), "success", "{status}");
            assert_eq!(answer.service("up", "/attempts"), 1, "{status}");
            assert_eq!(answer.service("up", "/data/state"), "maintenance");
            assert_eq!(answer.service("up", "/httpStatus"), status);
        }
        let health = gateway.post("/health", json!({})).await;
        assert_eq!(health.at("/services/up/status"), "UP");
        assert_eq!(health.at("/services/up/lastFailure"), Value::Null);
        let log = gateway.server.take().unwrap().stop().await;
        assert_eq!(warnings(&log).len(), 0, "{log}");
    }
}

#[tokio::test]
async fn fault_f20_a_status_is_accepted_for_its_node_only() {
    let (up, seen) = stub(|_| (ms(0), http::StatusCode::SERVICE_UNAVAILABLE, json!(1))).await;
    let plan = "    wants: { downstream: up, request: { path: /a }, response: { accept: [503] } }
    other: { downstream: up, request: { path: /b } }";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("wants", "/status"), "success");
    assert_eq!(answer.service("wants", "/attempts"), 1);
    assert_eq!(answer.service("other", "/error/kind"), "status");
    assert_eq!(answer.service("other", "/attempts"), 3);
    assert_eq!(seen.calls(), 4);
    let health = gateway.post("/health", json!({})).await;
    assert_eq!(health.at("/services/other/lastFailure/kind"), "status");
}

#[tokio::test]
async fn fault_f20_f22_a_coded_error_body_keeps_the_status_of_the_service() {
    let coded = |status| {
        let headers = [("content-encoding", "gzip"), ("retry-after", "0")];
        Fault::response(status, &headers, "x")
    };
    let up = FaultServer::sequence([coded(404), coded(404), coded(503), Fault::json("1")]).await;
    let plan = "    up: { downstream: up, request: { path: / } }";
    let more = "policies: { p: { retry: { base: 1ms }, circuit_breaker: { min_calls: 2, window: 10s } } }\n";
    let gateway = Gateway::start(&[("up", up.addr())], plan, more).await;
    for _ in 0..2 {
        let answer = gateway.ask(json!({})).await;
        assert_eq!(answer.service("up", "/error/kind"), "status");
        assert_eq!(answer.service("up", "/httpStatus"), 404);
        assert_eq!(answer.service("up", "/attempts"), 1);
    }
    // The 503 is retried, and the two 404 are no failures for the breaker.
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("up", "/status"), "success");
    assert_eq!(answer.service("up", "/attempts"), 2);
}

/// Sends a request on an open connection. Returns the response as text.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "connection closed after {text}");
        text += std::str::from_utf8(&buffer[..read]).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                return text;
            }
        }
    }
}

fn ask(path: &str, body: &str) -> String {
    format!(
        "POST {ORCHESTRATE}{path} HTTP/1.1\r\nhost: a\r\nauthorization: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        bearer("pro"),
        body.len()
    )
}

#[tokio::test]
async fn fault_f46_own_lack_of_descriptors_is_no_failure_of_a_service() {
    let (up, seen) = stub(quick).await;
    let text = format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", drain: {{ delay: 0s, timeout: 1s }} }}
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }} }} }}
policies: {{ p: {{ retry: {{ base: 1ms }}, circuit_breaker: {{ min_calls: 2, window: 10s }} }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p, idle_timeout: 1ms }}
  named: {{ endpoints: [{{ url: \"http://localhost:{}\" }}], policy: p, idle_timeout: 1ms }}
orchestrate:
  auth: {{ jwt: main }}
  plan:
    up: {{ downstream: up, required: true, request: {{ path: / }} }}
    named: {{ downstream: named, request: {{ path: / }} }}
",
        up.port()
    );
    let file = File::new("gateway.yaml", &text);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 48; exec \"$0\" run -c \"$1\""])
        .arg(env!("CARGO_BIN_EXE_fanout"))
        .arg(file.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let mut server = Server::start(command).await.unwrap();
    let mut first = TcpStream::connect(server.listen).await.unwrap();
    let livez = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(exchange(&mut first, livez).await.contains("200 OK"));

    let mut others = Vec::new();
    for _ in 0..64 {
        others.push(TcpStream::connect(server.listen).await.unwrap());
    }
    while !server
        .line()
        .await
        .contains("failed to accept a connection")
    {}
    for _ in 0..5 {
        let answer = exchange(&mut first, &ask("", "{}")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!(
            answer.matches("\"kind\":\"descriptor_limit\"").count(),
            2,
            "{answer}"
        );
    }
    assert_eq!(seen.calls(), 0);
    let health = exchange(&mut first, &ask("/health", "{}")).await;
    let (_, health) = health.split_once("\r\n\r\n").unwrap();
    let health: Value = serde_json::from_str(health).unwrap();
    for service in ["up", "named"] {
        let health = &health["services"][service];
        assert_eq!(health["circuitBreakerState"], "CLOSED");
        assert_eq!(
            (&health["status"], &health["lastFailure"]),
            (&json!("UP"), &Value::Null)
        );
    }

    drop(others);
    loop {
        // A lookup that fails while descriptors become free does not tell why it failed.
        let answer = exchange(&mut first, &ask("", r#"{"requiredServices": ["up"]}"#)).await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
    }
    drop(first);
    let log = server.stop().await;
    assert!(
        log.contains("no file descriptor is left to connect"),
        "{log}"
    );
    assert_eq!(warnings(&log).len(), 0, "{log}");
}

/// Starts a gateway that fetches the keys of the providers `one` and `two`, and stops it. Returns the warnings
/// and the metrics.
async fn providers(one: &Issuer, two: &Issuer) -> (Vec<Value>, String) {
    let (up, _) = stub(quick).await;
    let provider = |name: &str, issuer: &Issuer| {
        let jwks = issuer::url(&issuer.server);
        format!(
            "    {name}: {{ keys: [{{ jwks: {{ {jwks}, start: degraded }} }}], issuers: [{name}], audiences: [fanout], algorithms: [ES256] }}\n"
        )
    };
    let text = format!(
        "version: 1\n{NO_DELAY}auth:\n  jwt:\n{}{}downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}] }} }}\nroutes:\n  - {{ name: a, match: {{ path: / }}, auth: {{ jwt: [one, two] }}, plan: {{ a: {{ downstream: up, required: true, request: {{ path: / }} }} }} }}\n",
        provider("one", one),
        provider("two", two)
    );
    let mut gateway = Gateway::from_text(&text).await;
    let server = gateway.server.take().unwrap();
    let metrics = Gateway::at(server.admin)
        .send(Method::GET, "/metrics", &[], "")
        .await;
    let log = server.stop().await;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let warnings = lines.filter(|line: &Value| line["level"] == "WARN");
    (warnings.collect(), metrics.text)
}

#[tokio::test]
async fn fault_b5_b10_b19_lines_of_key_fetches_name_the_provider() {
    let oct = || json!({"kty": "oct", "k": "hush"});
    let private = json!({"kty": "RSA", "n": "hush", "d": "hush"});
    let one = Issuer::new(issuer::set_with(&["a"], &[oct()])).await;
    let two = Issuer::new(issuer::set_with(&[], &[private, oct()])).await;
    let (warnings, metrics) = providers(&one, &two).await;
    let found: Vec<_> = warnings
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let issuer = line["span"]["issuer"].as_str().unwrap().to_owned();
            (issuer, line["index"].as_u64(), text("kty"), text("message"))
        })
        .collect();
    let line = |issuer: &str, index: Option<u64>, kty: &str, message: &str| {
        (issuer.to_owned(), index, kty.to_owned(), message.to_owned())
    };
    let (dropped, private) = (
        "key of the JWK Set dropped",
        "the JWK Set publishes private key material",
    );
    assert_eq!(
        found,
        [
            line("one", Some(1), "oct", dropped),
            line("two", Some(0), "RSA", private),
            line("two", Some(0), "RSA", dropped),
            line("two", Some(1), "oct", dropped),
            line("two", None, "", "key fetch failed"),
        ]
    );
    let reasons: Vec<_> = warnings.iter().map(|line| &line["reason"]).collect();
    let symmetric = json!("a JWK Set must not contain symmetric keys");
    assert_eq!(reasons[3], &symmetric);
    assert_eq!(reasons[2], "a key parameter is missing or not base64url");
    let error = warnings[4]["error"].as_str().unwrap();
    assert!(
        error.contains("no usable key, 2 dropped; key 0 (RSA)"),
        "{error}"
    );
    assert!(!format!("{warnings:?}").contains("hush"));
    for series in [
        "fanout_jwks_fetch_total{issuer=\"one\",outcome=\"ok\",kind=\"\"} 1",
        "fanout_jwks_fetch_total{issuer=\"two\",outcome=\"invalid\",kind=\"\"} 1",
        "fanout_jwks_age_seconds{issuer=\"one\"} 0.",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    assert!(!metrics.contains("fanout_jwks_age_seconds{issuer=\"two\"}"));
}

#[tokio::test]
async fn fault_b19_failures_of_two_providers_are_told_apart() {
    let (one, two) = (
        Issuer::new(Fault::response(503, &[], "")).await,
        Issuer::new(Fault::reset_before_head()).await,
    );
    let (warnings, metrics) = providers(&one, &two).await;
    let of = |issuer: &str, outcome: &str| {
        let of = warnings
            .iter()
            .filter(|line| line["span"]["issuer"] == issuer);
        let of: Vec<_> = of.collect();
        assert_eq!(of.len(), 1, "{warnings:?}");
        assert_eq!(of[0]["outcome"], outcome);
        let series = format!("fanout_jwks_fetch_total{{issuer=\"{issuer}\",outcome=\"{outcome}\"");
        assert!(metrics.contains(&series), "{series}: {metrics}");
    };
    of("one", "status");
    of("two", "unreachable");
}

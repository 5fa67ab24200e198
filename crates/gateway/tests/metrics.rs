//! The metrics page of a running gateway, after traffic of all kinds.
#![allow(missing_docs)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use common::{
    issuer::{self, Issuer},
    *,
};
use http::Method;
use serde_json::json;
use tower_fanout_testkit::fault_server::{FaultServer, tls::CertificateAuthority};

/// The metrics page.
struct Page(String);

impl Page {
    async fn of(admin: SocketAddr) -> Self {
        let page = Gateway::at(admin)
            .send(Method::GET, "/metrics", &[], "")
            .await;
        Self(page.text)
    }

    /// The families that have a line `# KIND`.
    fn families(&self, kind: &str) -> BTreeSet<&str> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix("# "));
        let lines = lines.filter_map(|line| line.strip_prefix(kind)?.trim().split_once(' '));
        lines.map(|(family, _)| family).collect()
    }

    /// The family and the label names of each series.
    fn series(&self) -> Vec<(&str, Vec<&str>)> {
        let lines = self
            .0
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = line
                .split_once('{')
                .map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let labels = labels.split("\",").filter(|label| !label.is_empty());
            let names = labels
                .map(|label| label.split_once('=').unwrap().0)
                .collect();
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(name);
            (family, names)
        });
        series.collect()
    }

    fn has(&self, series: &str) -> bool {
        self.0.lines().any(|line| line.starts_with(series))
    }
}

/// The labels of each family, in the order of the page. Each name has one meaning: see the reference.
fn labels() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("fanout_auth_total", &["outcome", "reason"][..]),
        ("fanout_attempts_total", &["route", "node", "downstream"]),
        ("fanout_breaker_state", &["downstream", "state"]),
        (
            "fanout_breaker_transitions_total",
            &["route", "node", "downstream", "to"],
        ),
        (
            "fanout_call_seconds",
            &["route", "node", "downstream", "le"],
        ),
        (
            "fanout_call_total",
            &["route", "node", "downstream", "outcome"],
        ),
        ("fanout_connections", &["state"]),
        (
            "fanout_fallbacks_failed_total",
            &["route", "node", "downstream"],
        ),
        (
            "fanout_fallbacks_total",
            &["route", "node", "downstream", "fallback"],
        ),
        ("fanout_hedges_total", &["route", "node", "downstream"]),
        ("fanout_corrid_replaced_total", &["reason"]),
        ("fanout_http_cancelled_total", &[]),
        ("fanout_http_rejected_total", &["code"]),
        ("fanout_http_responses_dropped_total", &[]),
        ("fanout_http_unsent_bytes", &[]),
        ("fanout_inflight", &["downstream"]),
        ("fanout_keys", &["downstream", "per_key"]),
        ("fanout_keys_forgotten_total", &["downstream", "per_key"]),
        ("fanout_keys_overflows_total", &["downstream", "per_key"]),
        ("fanout_logs_dropped_total", &[]),
        (
            "fanout_queue_seconds",
            &["route", "node", "downstream", "le"],
        ),
        ("fanout_queued", &["downstream"]),
        (
            "fanout_rejected_total",
            &["route", "node", "downstream", "reason"],
        ),
        (
            "fanout_retries_stopped_total",
            &["route", "node", "downstream", "by"],
        ),
        ("fanout_retries_total", &["route", "node", "downstream"]),
    ])
}

/// Causes events of all kinds: successes, failures, retries, an open breaker, rejected tokens and ids.
async fn traffic(gateway: &Gateway) {
    for _ in 0..5 {
        gateway.ask(json!({})).await;
        for path in ["/one", "/two", "/none"] {
            gateway.send(Method::GET, path, &[], "").await;
        }
    }
    let headers = [
        ("authorization", "Bearer x".to_owned()),
        ("x-correlation-id", "not an id".to_owned()),
    ];
    gateway
        .send(Method::POST, ORCHESTRATE, &headers, "{}")
        .await;
}

#[tokio::test]
async fn fault_l13_l14_each_metric_has_help_and_labels_of_one_meaning() {
    let ((up, _), dead) = (stub(quick).await, FaultServer::refusing().addr());
    let plan = "    user: { downstream: users-v1, required: true, request: { path: / } }";
    let more = "policies: { p: { retry: { base: 1ms }, circuit_breaker: { min_calls: 2, window: 10s }, \
                per_key: { key: \"{tier}\", concurrency: { max: 50 } } } }
routes:
  - { name: one, match: { path: /one }, plan: { user: { downstream: users-v1, request: { path: /u } } } }
  - { name: two, match: { path: /two }, plan: { user: { downstream: users-v2, request: { path: /u } } } }
";
    let downstreams = [("users-v1", up), ("users-v2", dead)];
    let gateway = Gateway::start(&downstreams, plan, more).await;
    traffic(&gateway).await;
    let page = Page::of(gateway.server.as_ref().unwrap().admin).await;
    let (help, types) = (page.families("HELP"), page.families("TYPE"));
    let expected = labels();
    let mut seen = BTreeSet::new();
    for (family, names) in page.series() {
        assert!(
            help.contains(family) && types.contains(family),
            "{family}: {}",
            page.0
        );
        let known = expected
            .get(family)
            .unwrap_or_else(|| panic!("{family} is new"));
        let without_le: Vec<_> = known.iter().filter(|name| **name != "le").collect();
        let found: Vec<_> = names.iter().filter(|name| **name != "le").collect();
        assert_eq!(found, without_le, "{family}");
        seen.insert(family);
    }
    assert_eq!(seen, expected.keys().copied().collect(), "{}", page.0);
    // Nodes with one name have series of their own.
    for (route, downstream, outcome) in [
        ("orchestrate", "users-v1", "success"),
        ("one", "users-v1", "success"),
        ("two", "users-v2", "connect_refused"),
        ("two", "users-v2", "breaker_open"),
    ] {
        let series = format!(
            "fanout_call_total{{route=\"{route}\",node=\"user\",downstream=\"{downstream}\",outcome=\"{outcome}\"}} "
        );
        assert!(page.has(&series), "{series}: {}", page.0);
    }
}

impl Page {
    /// Returns the value of a series of the node `n` of route `r`, whose labels after `downstream` are `more`.
    fn count(&self, family: &str, downstream: &str, more: &str) -> u64 {
        let labels = format!("route=\"r\",node=\"n\",downstream=\"{downstream}\"{more}");
        let series = format!("fanout_{family}_total{{{labels}}} ");
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(&series));
        let value = value.unwrap_or_else(|| panic!("no {series}: {}", self.0));
        value.parse().unwrap()
    }
}

/// Starts a gateway with the policies `p` and `f` of the downstreams `d` and `f`, and the route `/x`.
async fn one_node([d, f]: [SocketAddr; 2], policies: &str, fallback: &str) -> Gateway {
    let text = format!(
        "version: 1
policies: {{ {policies} }}
downstreams:
  d: {{ endpoints: [{{ url: \"http://{d}\" }}], policy: d }}
  f: {{ endpoints: [{{ url: \"http://{f}\" }}], policy: f }}
routes: [{{ name: r, match: {{ path: /x }}, plan: {{ n: {{ downstream: d, request: {{ path: / }}, fallback: [{fallback}] }} }} }}]
"
    );
    Gateway::from_text(&text).await
}

#[tokio::test]
async fn fault_l14_the_events_of_a_fallback_service_have_its_label() {
    let ((up, _), dead) = (stub(broken).await, FaultServer::refusing().addr());
    let policies = "d: { retry: off, circuit_breaker: off, concurrency: off }, f: { retry: off, circuit_breaker: { consecutive_failures: 2 } }";
    let gateway = one_node([up, dead], policies, "{ service: f }, { static: 1 }").await;
    for _ in 0..3 {
        assert_eq!(gateway.send(Method::GET, "/x", &[], "").await.status, 200);
    }
    let page = Page::of(gateway.server.as_ref().unwrap().admin).await;
    for (downstream, sent, opened, rejected) in [("d", 3, 0, 0), ("f", 2, 1, 1)] {
        let count = |family, more| page.count(family, downstream, more);
        assert_eq!(count("attempts", ""), sent);
        assert_eq!(count("breaker_transitions", ",to=\"open\""), opened);
        assert_eq!(count("rejected", ",reason=\"breaker_open\""), rejected);
    }
    for family in ["breaker_state", "inflight", "queued"] {
        let series = |downstream| format!("fanout_{family}{{downstream=\"{downstream}\"");
        assert!(page.has(&series("f")), "{family}");
        assert!(!page.has(&series("d")), "{family} of a policy that is off");
    }
    // The chain is that of the node.
    assert_eq!(page.count("fallbacks_failed", "d", ""), 3);
    assert_eq!(page.count("fallbacks", "d", ",fallback=\"static\""), 3);
}

#[tokio::test]
async fn fault_l16_only_attempts_that_were_sent_are_counted() {
    let ((up, seen), (other, _)) = (stub(hanging).await, stub(quick).await);
    let policies = "d: { attempt_timeout: 500ms, retry: off, concurrency: { max: 1, queue: 1, max_wait: 10ms }, circuit_breaker: off }, f: {}";
    let gateway = one_node([up, other], policies, "{ static: 1, on: [timeout] }").await;
    let send = async || gateway.send(Method::GET, "/x", &[], "").await;
    // One is sent, one waits in the queue in vain, and one is rejected at once.
    let answers = tokio::join!(send(), send(), send());
    let answers = [answers.0, answers.1, answers.2];
    let attempts = answers.map(|answer| answer.service("n", "/attempts").as_u64().unwrap());
    assert_eq!((attempts.iter().sum::<u64>(), seen.calls()), (1, 1));
    let page = Page::of(gateway.server.as_ref().unwrap().admin).await;
    assert_eq!(page.count("attempts", "d", ""), 1);
}

#[tokio::test]
async fn fault_l13_families_of_key_fetches_and_handshakes_have_help() {
    let (up, _) = stub(quick).await;
    let issuer = Issuer::new(issuer::set(&["a"])).await;
    let certificate = CertificateAuthority::new().issue(&["localhost"]);
    let files = [
        File::new("server.pem", &certificate.chain_pem),
        File::new("server.key", &certificate.key_pem),
    ];
    let [cert, key] = files.each_ref().map(|file| file.path().display());
    let jwks = issuer::url(&issuer.server);
    let text = format!(
        "version: 1
server: {{ tls: {{ cert_file: \"{cert}\", key_file: \"{key}\" }} }}
auth: {{ jwt: {{ main: {{ keys: [{{ jwks: {{ {jwks} }} }}], issuers: [main], audiences: [fanout], algorithms: [ES256] }} }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}] }} }}
routes:
  - {{ name: a, match: {{ path: / }}, auth: {{ jwt: main }}, plan: {{ up: {{ downstream: up, request: {{ path: / }} }} }} }}
"
    );
    let gateway = Gateway::from_text(&text).await;
    let page = Page::of(gateway.server.as_ref().unwrap().admin).await;
    let (help, series) = (page.families("HELP"), page.series());
    for (family, kind, labels) in [
        (
            "fanout_jwks_fetch_total",
            "counter",
            &["issuer", "outcome", "kind"][..],
        ),
        ("fanout_jwks_age_seconds", "gauge", &["issuer"]),
        ("fanout_tls_handshake_failures_total", "counter", &["kind"]),
        (
            "fanout_certificate_expiry_timestamp_seconds",
            "gauge",
            &["key"],
        ),
    ] {
        assert!(help.contains(family), "{family}: {}", page.0);
        let line = format!("# TYPE {family} {kind}");
        assert!(
            page.0.lines().any(|found| found == line),
            "{line}: {}",
            page.0
        );
        let of: Vec<_> = series.iter().filter(|(name, _)| *name == family).collect();
        assert!(!of.is_empty(), "{family}: {}", page.0);
        assert!(of.iter().all(|(_, names)| names == labels), "{of:?}");
    }
}

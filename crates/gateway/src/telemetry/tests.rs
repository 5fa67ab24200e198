//! Tests of the log lines: fields, ids and forged values.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;

use proptest::prelude::*;
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt};
use tower_fanout_http::{
    correlation::{CorrelationConfig, CorrelationLayer},
    forwarded::ForwardedLayer,
    log::LogValue,
    server::PeerAddr,
    trace::TraceLayer,
};
use tracing::{
    Dispatch,
    field::Empty,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::Registry;

use super::*;

#[test]
fn fault_j18_a_filter_of_other_targets_silences_nothing() {
    for (level, info, debug) in [
        ("info", true, false),
        ("warn", false, false),
        ("off", false, false),
        ("fanot=debug", true, false),
        ("fanout=debug", true, true),
        ("warn,fanout=debug", true, true),
        ("warn,fanot=info", false, false),
    ] {
        let subscriber = tracing_subscriber::registry().with(filter(level));
        tracing::subscriber::with_default(subscriber, || {
            let is_on = tracing::enabled!(target: "fanout::run", tracing::Level::INFO);
            assert_eq!(is_on, info, "{level}");
            let is_on = tracing::enabled!(target: "fanout::run", tracing::Level::DEBUG);
            assert_eq!(is_on, debug, "{level}");
        });
    }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the log of a span and two events whose fields contain `bytes`.
fn logged(human: bool, bytes: &[u8]) -> String {
    let written = Written::default();
    let writer = written.clone();
    let writer = move || writer.clone();
    let lines = lines::<Registry, _>(human, false, writer);
    let text = String::from_utf8_lossy(bytes);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        let span = tracing::error_span!("request", path = %LogValue::new(bytes), later = Empty);
        let _entered = span.enter();
        span.record("later", &*text);
        tracing::info!(display = %text, debug = ?text, text = &*text, "a message");
        tracing::info!("{text}");
    });
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).expect("the log is UTF-8")
}

/// A body that logs when it is polled.
struct LoggingBody;

impl http_body::Body for LoggingBody {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        tracing::info!("sending");
        Poll::Ready(None)
    }
}

/// Logs the events of this thread to `lines` until the result is dropped.
///
/// With only one dispatcher, tracing decides whether a line is wanted by the thread that reaches it first, which
/// may belong to another test. With two it asks both.
fn log_to(
    lines: impl tracing_subscriber::Layer<Registry> + Send + Sync,
) -> (DefaultGuard, Dispatch) {
    let second = Dispatch::new(NoSubscriber::new());
    (
        tracing_subscriber::registry().with(lines).set_default(),
        second,
    )
}

#[tokio::test]
async fn fault_c1_c17_log_lines_have_request_ids_until_the_body_ends() {
    let written = Written::default();
    let writer = written.clone();
    let lines = lines(false, false, move || writer.clone());
    let _default = log_to(lines);
    let service = ServiceBuilder::new()
        .layer(CorrelationLayer::new(
            CorrelationConfig::default().trust(false),
        ))
        .layer(TraceLayer::new())
        .layer(RequestFieldsLayer)
        .service_fn(|_: Request<()>| async {
            tracing::info!("called");
            tokio::task::yield_now().await;
            tracing::info!("resumed");
            Ok::<_, Infallible>(Response::new(BodyWithRequestFields::current(Body::new(
                LoggingBody,
            ))))
        });
    let request = Request::builder().header("x-request-id", "theirs\t");
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    body.collect().await.unwrap();
    tracing::info!("after");
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["called", "resumed", "sending", "after"]);
    let id = parts.headers["x-correlation-id"].to_str().unwrap();
    for line in &lines[..3] {
        assert_eq!(line["span"]["correlation_id"], id);
        assert_eq!(line["span"]["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(line["span"]["client_request_id"], "theirs\\t");
    }
    assert_eq!(lines[3].get("span"), None);
}

#[tokio::test]
async fn fault_c1_c12_human_lines_end_with_the_ids_of_the_request() {
    let written = Written::default();
    let writer = written.clone();
    let lines = lines(true, false, move || writer.clone());
    let _default = log_to(lines);
    let service = ServiceBuilder::new()
        .layer(CorrelationLayer::new(
            CorrelationConfig::default().trust(false),
        ))
        .layer(RequestFieldsLayer)
        .service_fn(|_: Request<()>| async {
            tracing::info!("called");
            Ok::<_, Infallible>(Response::new(()))
        });
    let request = Request::get("/a").header("x-request-id", "theirs\t");
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let id = response.headers()["x-correlation-id"].to_str().unwrap();
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let fields =
        format!("called correlation_id={id} client_request_id=theirs\\t method=GET path=/a\n");
    assert!(log.ends_with(&fields), "{log}");
    assert_eq!(log.lines().count(), 1);
}

#[tokio::test]
async fn fault_d37_log_lines_name_the_client_behind_a_trusted_proxy() {
    let written = Written::default();
    let writer = written.clone();
    let lines = lines(false, false, move || writer.clone());
    let _default = log_to(lines);
    let proxies = ForwardedLayer::new(["10.0.0.0/8".parse().unwrap()]);
    for (peer, client) in [
        ("10.0.0.1:1", Value::from("203.0.113.7")),
        ("192.0.2.1:1", Value::Null),
    ] {
        let service = ServiceBuilder::new()
            .layer(proxies.clone())
            .layer(RequestFieldsLayer)
            .service_fn(|_: Request<()>| async {
                tracing::info!("called");
                Ok::<_, Infallible>(Response::new(()))
            });
        let request = Request::builder()
            .header("x-forwarded-for", "6.6.6.6, 203.0.113.7")
            .extension(PeerAddr(peer.parse().unwrap()));
        service.oneshot(request.body(()).unwrap()).await.unwrap();
        let log = std::mem::take(&mut *written.0.lock().unwrap());
        let line: Value = serde_json::from_slice(&log).unwrap();
        assert_eq!(line["span"]["peer"], peer);
        assert_eq!(line["span"]["client"], client, "{line}");
    }
}

#[test]
fn json_lines_have_the_fields_of_spans_as_json_values() {
    let written = Written::default();
    let writer = written.clone();
    let lines = lines::<Registry, _>(false, false, move || writer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        let span = tracing::error_span!(
            "request",
            on = true,
            low = -1,
            high = u64::MAX,
            part = 0.5,
            none = f64::NAN,
            text = "\u{7}\"\\é",
            absent = Empty,
            twice = 1
        );
        span.record("twice", 2);
        span.in_scope(|| tracing::info!("a message"));
        let bare = tracing::error_span!("bare", later = Empty);
        bare.record("later", 1);
        bare.in_scope(|| tracing::info!("another"));
    });
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let spans: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["span"].clone())
        .collect();
    let request = serde_json::json!({
        "name": "request", "on": true, "low": -1, "high": u64::MAX, "part": 0.5, "none": null,
        "text": "\u{7}\"\\é", "twice": 2
    });
    assert_eq!(
        spans,
        [request, serde_json::json!({"name": "bare", "later": 1})]
    );
}

fn check_json(bytes: &[u8]) {
    let log = logged(false, bytes);
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(lines.len(), 2, "{log}");
    assert_eq!(
        (&lines[0]["text"], &lines[0]["display"]),
        (&(*text).into(), &(*text).into())
    );
    assert_eq!(lines[1]["message"], *text);
    assert_eq!(lines[1]["span"]["path"], LogValue::new(bytes).to_string());
    assert_eq!(lines[1]["span"]["later"], *text);
}

fn check_human(bytes: &[u8]) {
    let log = logged(true, bytes);
    assert_eq!(log.matches('\n').count(), 2, "{log:?}");
    let other = log.chars().find(|char| char.is_control() && *char != '\n');
    assert_eq!(other, None, "{log:?}");
}

#[test]
fn fault_c12_forged_lines_stay_in_their_field() {
    for nasty in [
        &b"a\n{\"level\":\"ERROR\",\"message\":\"forged\"}"[..],
        b"a\r\n2026-01-01T00:00:00Z ERROR forged",
        b"\x1b[2J\x1b]0;title\x07",
        b"\"quoted\" \\ back",
        b"\xff\xfe\xc3(\x00\x7f",
        "\u{2028}\u{2029}\u{85}\u{9b}31m\u{202e}".as_bytes(),
    ] {
        check_json(nasty);
        check_human(nasty);
    }
}

#[test]
fn human_format_writes_names_and_values_on_one_line() {
    let log = logged(true, b"/a");
    let (_, line) = log.lines().next().unwrap().split_once("INFO ").unwrap();
    let (span, fields) = line.split_once(": ").unwrap();
    assert_eq!(span, "request{path=/a later=\"/a\"}");
    assert!(
        fields.ends_with("a message display=/a debug=\"/a\" text=\"/a\""),
        "{fields}"
    );
}

proptest! {
    #[test]
    fn fault_c12_json_format_writes_one_object_per_line(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        check_json(&bytes);
    }

    #[test]
    fn fault_c12_human_format_writes_one_line_per_event(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        check_human(&bytes);
    }
}

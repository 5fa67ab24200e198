//! Logs and metrics of the process.

use std::{
    fmt::{self, Debug, Write},
    io::{self, IsTerminal},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tower_fanout_http::log::OneLine;
use tracing::{Subscriber, field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    field::MakeExt,
    filter::Targets,
    fmt::{
        MakeWriter,
        format::{Writer, debug_fn},
        layer,
    },
    prelude::*,
    registry::LookupSpan,
};

use crate::{
    config::{LogFormat, Logs},
    log_writer::{self, Flush, LogWriter},
};

/// Upper bounds of the histogram buckets in seconds: those of OpenTelemetry's HTTP metrics.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Installs the log subscriber, which writes to standard error from a thread of its own, and a hook that
/// logs panics. Called once in a process. The returned guard writes the last lines on drop.
///
/// # Errors
/// Returns an error if the thread cannot be started.
pub(crate) fn log(logs: &Logs) -> io::Result<Flush> {
    let terminal = io::stderr().is_terminal();
    let human = match logs.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let log = LogWriter::start(io::stderr())?;
    let flush = log.flush_on_drop();
    let lines = lines(human, terminal, move || log.clone());
    let registry = tracing_subscriber::registry()
        .with(filter(&logs.level))
        .with(capped());
    // Fails only if a subscriber is installed already.
    let _ = registry.with(lines).try_init();
    // The default hook writes to standard error, where an unread pipe would block the request.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
    Ok(flush)
}

/// Returns the filter for `level`: a level, or a filter. Targets that it does not name have level info.
fn filter(level: &str) -> EnvFilter {
    // The configuration has validated the level, so the default is only a safeguard.
    EnvFilter::try_new(format!("info,{level}")).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Limits the HTTP and TLS libraries to `info`, regardless of the configured level. Below that they log
/// single frames and headers, which may contain secrets.
fn capped() -> Targets {
    let below = ["h2", "hyper", "hyper_util", "rustls"];
    let info = below.map(|target| (target, LevelFilter::INFO));
    Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(info)
}

/// Writes one line per event: text if `human`, even if a field contains line breaks, else a JSON object
/// with the innermost span. `colours` turns on ANSI colours in text.
fn lines<S, W>(human: bool, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = layer().with_writer(writer);
    if human {
        let fields = debug_fn(write_field).delimited(" ");
        layer.with_ansi(colours).fmt_fields(fields).boxed()
    } else {
        let layer = layer.json().flatten_event(true).with_span_list(false);
        layer.boxed()
    }
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{field}=")?;
    }
    // Escapes line breaks and control characters.
    write!(OneLine(writer), "{value:?}")
}

/// Sets the help texts of the metrics of the gateway. Those of plans have theirs in `tower_fanout::metrics`.
fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        metrics::describe_gauge!(name, help);
    }
}

const COUNTERS: [(&str, &str); 10] = [
    (
        "fanout_http_cancelled_total",
        "Requests that clients cancelled before the response or its end.",
    ),
    (
        "fanout_http_responses_dropped_total",
        "Responses dropped because too many bytes waited for clients.",
    ),
    (
        "fanout_http_rejected_total",
        "Requests that the gateway rejected or that failed, by problem code.",
    ),
    (
        "fanout_corrid_replaced_total",
        "Correlation ids of callers that were replaced, by reason.",
    ),
    (
        "fanout_auth_total",
        "Checks of tokens, by outcome and by the reason of a rejection.",
    ),
    (
        "fanout_keys_forgotten_total",
        "Keys of a downstream whose counts were lost, because another key needed the place.",
    ),
    (
        "fanout_keys_overflows_total",
        "Calls of keys without a state of their own, because too many keys were in use.",
    ),
    (
        "fanout_jwks_fetch_total",
        "Fetches of key sets, by outcome and by the kind of an error of the client.",
    ),
    (
        "fanout_tls_handshake_failures_total",
        "Clients that the TLS handshake of the public listener turned away, by kind.",
    ),
    (
        log_writer::DROPPED,
        "Log lines dropped because the queue was full or standard error failed.",
    ),
];

const GAUGES: [(&str, &str); 8] = [
    (
        "fanout_http_unsent_bytes",
        "Bytes of responses that wait for clients.",
    ),
    (
        "fanout_breaker_state",
        "1 for the state that the circuit breaker of a downstream is in, else 0.",
    ),
    ("fanout_inflight", "Calls of a downstream in flight."),
    (
        "fanout_queued",
        "Calls that wait for a permit of a downstream.",
    ),
    (
        "fanout_keys",
        "Keys of a downstream that have a limit or a circuit breaker of their own.",
    ),
    (
        "fanout_connections",
        "Connections of the public listener: open now, and since the start accepted and closed by reason.",
    ),
    (
        "fanout_jwks_age_seconds",
        "Time since the last successful fetch of the keys of an issuer.",
    ),
    (
        "fanout_certificate_expiry_timestamp_seconds",
        "Time at which a certificate expires, in seconds since 1970, by its key in the configuration.",
    ),
];

/// Returns the handle to the metrics of this process. The first call installs the global recorder.
///
/// # Panics
/// Panics if another global recorder is installed already.
#[must_use]
pub(crate) fn metrics() -> PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("no other metrics recorder is installed");
        describe();
        // Shows 0 before the first dropped line.
        metrics::counter!(log_writer::DROPPED).increment(0);
        handle
    };
    HANDLE.get_or_init(install).clone()
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        io,
        pin::Pin,
        sync::{Arc, Mutex},
        task::{Context, Poll},
    };

    use http::{Request, Response};
    use http_body_util::BodyExt;

    use proptest::prelude::*;
    use serde_json::Value;
    use tower::{ServiceBuilder, ServiceExt};
    use tower_fanout_http::{
        correlation::{CorrelationConfig, CorrelationLayer},
        forwarded::ForwardedLayer,
        log::{InstrumentedBody, LogValue, RequestSpanLayer},
        server::PeerAddr,
        trace::TraceLayer,
    };
    use tracing::field::Empty;
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

    #[tokio::test]
    async fn fault_c1_c17_log_lines_have_request_ids_until_the_body_ends() {
        let written = Written::default();
        let writer = written.clone();
        let lines = lines(false, false, move || writer.clone());
        let _default = tracing_subscriber::registry().with(lines).set_default();
        let service = ServiceBuilder::new()
            .layer(CorrelationLayer::new(
                CorrelationConfig::default().trust(false),
            ))
            .layer(TraceLayer::new())
            .layer(RequestSpanLayer::new())
            .service_fn(|_: Request<()>| async {
                tracing::info!("called");
                tokio::task::yield_now().await;
                tracing::info!("resumed");
                Ok::<_, Infallible>(Response::new(InstrumentedBody::current(LoggingBody)))
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
    async fn fault_d37_log_lines_name_the_client_behind_a_trusted_proxy() {
        let written = Written::default();
        let writer = written.clone();
        let lines = lines(false, false, move || writer.clone());
        let _default = tracing_subscriber::registry().with(lines).set_default();
        let proxies = ForwardedLayer::new(["10.0.0.0/8".parse().unwrap()]);
        for (peer, client) in [
            ("10.0.0.1:1", Value::from("203.0.113.7")),
            ("192.0.2.1:1", Value::Null),
        ] {
            let service = ServiceBuilder::new()
                .layer(proxies.clone())
                .layer(RequestSpanLayer::new())
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

    fn check_json(bytes: &[u8]) {
        let log = logged(false, bytes);
        let lines: Vec<Value> = log
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
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
}

//! Logs and metrics of the process.

mod request_fields;
#[cfg(test)]
mod tests;

use std::{
    fmt::{self, Debug, Write as _},
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
        MakeWriter, format,
        format::{JsonFields, Writer, debug_fn},
        layer,
    },
    prelude::*,
    registry::LookupSpan,
};

use self::request_fields::FormatWithRequest;
pub(crate) use self::request_fields::{BodyWithRequestFields, RequestFieldsLayer};
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
/// with the fields of its request, or of the innermost span, in `span`. `colours` turns on ANSI colours in text.
fn lines<S, W>(human: bool, colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = layer().with_writer(writer);
    if human {
        let fields = debug_fn(write_field).delimited(" ");
        let format = FormatWithRequest(format().with_ansi(colours));
        layer.fmt_fields(fields).event_format(format).boxed()
    } else {
        let format = format().json().flatten_event(true).with_span_list(false);
        let format = FormatWithRequest(format);
        let layer = layer.fmt_fields(JsonFields::new());
        layer.event_format(format).boxed()
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

//! Logs and metrics of the process.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::{LogFormat, Logs};

/// The upper bounds of the histograms' buckets, in seconds: OpenTelemetry's for HTTP.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Sends logs to standard error: for people on a terminal, as JSON otherwise, unless said so.
///
/// Only the first call in a process has an effect.
pub fn log(logs: &Logs) {
    let filter = EnvFilter::try_new(&logs.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let human = match logs.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    // An error says that a subscriber is there already.
    let _ = if human {
        registry.with(layer).try_init()
    } else {
        registry.with(layer.json().flatten_event(true)).try_init()
    };
}

/// The metrics of this process, which the first call begins to collect.
///
/// # Panics
/// If something else in the process collects them already.
#[must_use]
pub fn metrics() -> PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)
            .expect("nothing else in this process collects metrics");
        handle
    };
    HANDLE.get_or_init(install).clone()
}

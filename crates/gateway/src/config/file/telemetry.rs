//! The parts `telemetry` and `tiers`.

use super::{
    super::LogFormat,
    super::text::{BaggageKey, LogFilter, Parsed},
    section,
};

section! {
    /// Logs, trace propagation and timing headers.
    Telemetry {
        /// Logs on standard error.
        logs: Logs = Logs::default(),
        /// Trace context of callers.
        tracing: Tracing = Tracing::default(),
        /// Sends a `Server-Timing` header with the time of each service.
        server_timing: bool = false,
    }
}

section! {
    /// Logs on standard error.
    Logs {
        /// Output format.
        format: LogFormat = LogFormat::Auto,
        /// Minimum level, or a filter such as `info,tower_fanout=debug`.
        level: Parsed<LogFilter> = Parsed(LogFilter("info".to_owned())),
    }
}

section! {
    /// Trace context of callers.
    #[schemars(extend("x-planned" = { "otlp": "trace export", "sample": "trace export" }))]
    Tracing {
        /// Continues the traces of callers. Otherwise each request begins a trace.
        trust: bool = true,
        /// Keys of `baggage` that are passed on. By default, none are.
        #[schemars(example = ["tenant"])]
        baggage: Option<Vec<Parsed<BaggageKey>>> = None,
    }
}

section! {
    /// Limits for the callers of a tier.
    #[schemars(extend("x-planned" = { "rate": "rate limiting", "burst": "rate limiting" }))]
    Tier {
        /// Maximum number of calls in flight for one request. By default, the limit of the route applies.
        #[schemars(range(min = 1, max = 10))]
        #[schemars(example = 3)]
        max_concurrency: Option<u8> = None,
    }
}

//! Logs and counts the problems of requests.

use metrics::counter;
use tower_fanout_http::problem::Code;

/// Logs and counts a problem. A server error is logged as a warning, others as info.
pub(crate) fn record(code: Code) {
    count(code);
    let (status, code) = (code.status(), code.as_str());
    if status.is_server_error() {
        tracing::warn!(code, status = status.as_u16(), "request failed");
    } else {
        tracing::info!(code, status = status.as_u16(), "request rejected");
    }
}

/// Counts a problem that is logged already.
pub(crate) fn count(code: Code) {
    counter!("fanout_http_rejected_total", "code" => code.as_str()).increment(1);
}

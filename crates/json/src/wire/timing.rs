//! The `Server-Timing` header, which the developer tools of browsers display.

use std::fmt::Write;

use http::HeaderValue;
use tower_fanout::{Millis, Report};

/// Maximum size of the metrics of services in bytes. Intermediaries limit the size of headers.
const MAX_SERVICES: usize = 4 << 10;

/// Returns the value of
/// [`Server-Timing`](https://www.w3.org/TR/server-timing/#the-server-timing-header-field) for a
/// run.
///
/// The value has a metric with the duration in milliseconds for each service that was called, in
/// plan order. The last metric is `total`, the duration of the run, with the service that ended
/// last as its description.
///
/// Characters that a metric name must not contain are percent-encoded. After 4 KiB, the metrics of
/// further services are omitted.
#[must_use]
pub fn server_timing(report: &Report, names: &[Box<str>]) -> HeaderValue {
    let mut value = String::new();
    for branch in &report.branches {
        let Some(elapsed) = branch.elapsed.filter(|_| branch.was_called()) else {
            continue;
        };
        let metric = format!("{};dur={}, ", token(&names[branch.node]), Millis(elapsed));
        if value.len() + metric.len() > MAX_SERVICES {
            break;
        }
        value.push_str(&metric);
    }
    // Writing to a `String` cannot fail.
    let _ = write!(value, "total;dur={}", Millis(report.elapsed));
    if let Some(last) = report.last {
        let _ = write!(value, ";desc=\"last: {}\"", token(&names[last]));
    }
    // Names are reduced to token characters above, and durations are digits and dots.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value))
        .expect("metrics consist of visible ASCII and spaces")
}

/// Returns `name` as a token, with other characters percent-encoded
/// ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
fn token(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            token.push(byte.into());
        } else {
            let _ = write!(token, "%{byte:02X}");
        }
    }
    token
}

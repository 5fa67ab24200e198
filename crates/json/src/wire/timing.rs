//! How long an answer took, for the developer tools of browsers.

use std::fmt::Write;

use http::HeaderValue;
use tower_fanout::Report;

use super::Millis;

/// The most bytes that services may have: intermediaries bound headers.
const MAX_SERVICES: usize = 4 << 10;

/// The value of [`Server-Timing`](https://www.w3.org/TR/server-timing/#the-server-timing-header-field)
/// for a run: how many milliseconds each service took that was called, in order of the plan, and all of
/// it together as `total`, whose description is the service that ended last.
///
/// What a metric may not be called is percent-encoded in a service's name. Services that do not fit
/// into 4 KiB are left out.
///
/// # Panics
/// Never: all of it is ASCII that is visible.
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
    // Writing to a string does not fail.
    let _ = write!(value, "total;dur={}", Millis(report.elapsed));
    if let Some(last) = report.last {
        let _ = write!(value, ";desc=\"last: {}\"", token(&names[last]));
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).expect("tokens are visible ASCII")
}

/// `name` as a token ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
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

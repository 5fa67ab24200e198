//! Bounds that several config structs share.

use std::{ops::RangeInclusive, time::Duration};

/// Minimum of every timeout and interval.
const MILLISECOND: Duration = Duration::from_millis(1);
/// Maximum of every timeout and interval. Adding it to an `Instant` cannot overflow.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Range of a timeout or interval that must not be zero: 1 ms to 365 days.
pub(crate) const WAIT: RangeInclusive<Duration> = MILLISECOND..=YEAR;

#[cfg(all(test, feature = "client", feature = "server"))]
mod tests {
    use tower_fanout_layers::config::Validate;

    use super::*;
    use crate::{
        body::BodyLimitConfig, client::ClientConfig, guard::GuardConfig, server::ServerConfig,
    };

    fn fields(config: &impl Validate) -> Vec<String> {
        let errors = config.errors();
        errors.iter().map(|one| one.field().to_owned()).collect()
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(ServerConfig::default().errors(), []);
        assert_eq!(ClientConfig::default().errors(), []);
        assert_eq!(GuardConfig::default().errors(), []);
        assert_eq!(BodyLimitConfig::default().errors(), []);
    }

    #[test]
    fn server_limits_must_not_be_zero_and_times_not_above_a_year() {
        let mut zero = ServerConfig::default()
            .header_timeout(Duration::ZERO)
            .idle_timeout(Duration::ZERO)
            .write_timeout(Duration::ZERO)
            .max_age(Duration::ZERO)
            .h2_ping_interval(Duration::ZERO)
            .h2_ping_timeout(Duration::ZERO);
        (zero.max_head, zero.max_headers, zero.max_connections) = (0, 0, 0);
        (
            zero.h2_max_streams,
            zero.h2_stream_window,
            zero.h2_connection_window,
        ) = (0, 0, 0);
        (zero.h2_max_frame, zero.h2_send_buffer) = (0, 0);
        (zero.h2_max_pending_resets, zero.h2_max_error_resets) = (0, 0);
        let all = [
            "header_timeout",
            "idle_timeout",
            "write_timeout",
            "max_age",
            "max_head",
            "max_headers",
            "max_connections",
            "h2_max_streams",
            "h2_stream_window",
            "h2_connection_window",
            "h2_max_frame",
            "h2_send_buffer",
            "h2_max_pending_resets",
            "h2_max_error_resets",
            "h2_ping_interval",
            "h2_ping_timeout",
        ];
        assert_eq!(fields(&zero), all);
        assert_eq!(
            zero.errors()[0].message(),
            "must be within 1ms to 365d, got 0s"
        );
        let long = YEAR + MILLISECOND;
        let config = ServerConfig::default().grace(long).idle_timeout(long);
        assert_eq!(fields(&config), ["idle_timeout", "grace"]);
        assert_eq!(
            fields(&ServerConfig::default().grace(Duration::ZERO)),
            [""; 0]
        );
    }

    #[test]
    fn client_limits_must_not_be_zero_and_times_not_above_a_year() {
        let mut zero = ClientConfig::default()
            .connect_timeout(Duration::ZERO)
            .idle_timeout(Duration::ZERO)
            .max_connections(0)
            .http2(crate::client::Http2::PriorKnowledge { connections: 0 })
            .h2_ping_interval(Duration::ZERO)
            .h2_ping_timeout(Duration::ZERO);
        (zero.max_response, zero.max_head, zero.max_idle) = (0, 0, 0);
        let all = [
            "connect_timeout",
            "max_response",
            "max_head",
            "idle_timeout",
            "max_connections",
            "http2.connections",
            "h2_ping_interval",
            "h2_ping_timeout",
        ];
        assert_eq!(fields(&zero), all);
        let config = ClientConfig::default().connect_timeout(YEAR + MILLISECOND);
        assert_eq!(fields(&config), ["connect_timeout"]);
    }

    #[test]
    fn guard_and_body_limits_must_not_be_zero() {
        let guard = GuardConfig::default().max_uri(0_usize).methods([]);
        assert_eq!(fields(&guard), ["max_uri", "methods"]);
        let body = BodyLimitConfig::default()
            .max(0_usize)
            .timeout(Duration::ZERO);
        assert_eq!(fields(&body), ["max", "timeout"]);
    }
}

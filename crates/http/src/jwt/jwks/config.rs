//! Configuration of fetched keys.

use std::time::Duration;

use tower_fanout_layers::{
    config,
    config::{ConfigError, Validate},
};

use crate::jwt::{
    Algorithm,
    keys::{MAX_KEYS, MAX_TEXT},
};

/// Behavior of [`Jwks::start`](super::Jwks::start) if the first fetch fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schemars",
    derive(schemars::JsonSchema, serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum Start {
    /// The start fails. The default.
    #[default]
    Fail,
    /// The start succeeds, and no token can be checked until a fetch succeeds.
    Degraded,
}

config! {
    /// Configuration of [`Jwks`](super::Jwks): how its keys are fetched and how long they are used.
    ///
    /// The limits `max_body` and `max_keys` apply in place of those of
    /// [`KeySet::from_jwks`](crate::jwt::KeySet::from_jwks).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct JwksConfig {
        /// Name of the issuer in the span of all log lines of its fetches. `None`, the default, is the host
        /// of the URL.
        pub issuer: Option<String> = None,
        /// Algorithms that fetched keys may be for. Symmetric ones are rejected. Defaults to RS256, ES256
        /// and `EdDSA`.
        pub algorithms: Vec<Algorithm> = vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        /// Time from a successful fetch to the next, with a jitter of 10 %, from 10 s to 1 day. Defaults to
        /// 10 min. A failed fetch is repeated after the [`cooldown`](field@Self::cooldown) instead.
        pub poll_interval: Duration = Duration::from_secs(600),
        /// Minimum time from the start of one fetch to the next, from 1 s to `poll_interval`. Defaults to
        /// 30 s.
        ///
        /// After a failure, the next fetch starts when the cooldown has passed, with a jitter of up to
        /// 10 % on top. An unknown `kid` starts a fetch only outside the cooldown.
        pub cooldown: Duration = Duration::from_secs(30),
        /// Timeout of a whole fetch, from 10 ms to `cooldown`. Defaults to 5 s.
        pub timeout: Duration = Duration::from_secs(5),
        /// Maximum size of a response body, from 1 byte to 4 MiB. Defaults to 256 KiB.
        pub max_body: usize = MAX_TEXT,
        /// Maximum number of keys in a set, dropped ones included, from 1 to 1,000. Defaults to 100.
        pub max_keys: usize = MAX_KEYS,
        /// Maximum age of keys since the last successful fetch, from twice `poll_interval` to 7 days. The
        /// lower bound leaves time for the next fetch. Defaults to 24 h.
        pub max_stale: Duration = DAY,
        /// Behavior if the first fetch fails. Defaults to [`Start::Fail`].
        pub start: Start = Start::Fail,
    }
    limits {
        poll_interval: within(10 * SECOND..=DAY),
        cooldown: at_least(SECOND),
        timeout: at_least(SECOND / 100),
        max_stale: within(20 * SECOND..=7 * DAY),
        max_body: within(1_usize..=4 << 20),
        max_keys: within(1_usize..=1000),
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Validate for JwksConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let two_polls = self.poll_interval.saturating_mul(2);
        let secret = self.algorithms.iter().copied().any(Algorithm::is_symmetric);
        let algorithms = !self.algorithms.is_empty();
        self.check_limits()
            .not_above(
                "cooldown",
                self.cooldown,
                "poll_interval",
                self.poll_interval,
            )
            .not_above("timeout", self.timeout, "cooldown", self.cooldown)
            .not_below(
                "max_stale",
                self.max_stale,
                "twice poll_interval",
                two_polls,
            )
            .unless(
                algorithms,
                "algorithms",
                "expected at least one algorithm, got none",
            )
            .unless(
                !secret,
                "algorithms",
                "HMAC algorithms need a secret, and cannot be used with a JWK Set",
            )
            .into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_values_outside_their_ranges() {
        assert!(JwksConfig::default().errors().is_empty());
        let wrong = JwksConfig::default()
            .algorithms([])
            .poll_interval(SECOND)
            .cooldown(Duration::ZERO)
            .timeout(SECOND)
            .max_body(0_usize)
            .max_keys(1001_usize)
            .max_stale(8 * DAY);
        let fields: Vec<_> = wrong
            .errors()
            .iter()
            .map(|one| one.field().to_owned())
            .collect();
        assert_eq!(
            fields,
            [
                "poll_interval",
                "cooldown",
                // `timeout` is compared with `cooldown`, which is invalid on its own.
                "max_stale",
                "max_body",
                "max_keys",
                "algorithms"
            ]
        );
        assert_eq!(
            wrong.errors()[0].message(),
            "must be within 10s to 24h, got 1s"
        );
        let related = JwksConfig::default()
            .poll_interval(15 * SECOND)
            .timeout(40 * SECOND)
            .max_stale(29 * SECOND)
            .errors();
        let messages: Vec<_> = related.iter().map(ConfigError::message).collect();
        assert_eq!(
            messages,
            [
                "must be <= poll_interval (15s), got 30s",
                "must be <= cooldown (30s), got 40s",
                "must be >= twice poll_interval (30s), got 29s",
            ]
        );
        let secret = JwksConfig::default().algorithms([Algorithm::HS256]);
        assert_eq!(secret.errors().len(), 1);
    }
}

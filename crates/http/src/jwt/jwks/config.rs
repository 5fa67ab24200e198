//! How keys are fetched.

use std::time::Duration;

use tower_fanout_layers::{
    config::{ConfigError, Validate},
    setters,
};

use crate::{
    bounds::Bounds,
    jwt::{
        Algorithm,
        keys::{MAX_KEYS, MAX_TEXT},
    },
};

/// What becomes of a start at which no keys can be fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// It fails.
    #[default]
    Fail,
    /// No token can be checked until there are keys.
    Degraded,
}

/// How keys are fetched, and how long they are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwksConfig {
    /// The algorithms that keys may be for, none of them symmetric; RS256, ES256 and `EdDSA` by
    /// default.
    pub algorithms: Vec<Algorithm>,
    /// How often keys are fetched, give or take a tenth, 10 s to 1 day; 10 min by default.
    pub poll_interval: Duration,
    /// The least time from one fetch's start to the next one's, be it for an unknown key or after a
    /// failure; 1 s to `poll_interval`, 30 s by default.
    pub cooldown: Duration,
    /// How long a fetch may take in all, 10 ms to `cooldown`; 5 s by default.
    pub timeout: Duration,
    /// The largest body, in bytes, 1 to 4 MiB; 256 KiB by default.
    pub max_body: usize,
    /// The most keys of a set, bad ones included, 1 to 1,000; 100 by default.
    pub max_keys: usize,
    /// How long keys are used after the last fetch that gave any, twice `poll_interval` to 7 days, so
    /// that the next fetch comes in time; 24 h by default.
    pub max_stale: Duration,
    /// What becomes of a start without keys; it fails by default.
    pub start: Start,
}

setters! {
    JwksConfig {
        algorithms: Vec<Algorithm>,
        poll_interval: Duration,
        cooldown: Duration,
        timeout: Duration,
        max_body: usize,
        max_keys: usize,
        max_stale: Duration,
        start: Start,
    }
}

impl Default for JwksConfig {
    fn default() -> Self {
        Self {
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            poll_interval: Duration::from_secs(600),
            cooldown: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            max_body: MAX_TEXT,
            max_keys: MAX_KEYS,
            max_stale: DAY,
            start: Start::Fail,
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Validate for JwksConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let two_polls = self.poll_interval.saturating_mul(2);
        let secret = self.algorithms.iter().copied().any(Algorithm::is_symmetric);
        let algorithms = !self.algorithms.is_empty();
        Bounds::default()
            .time("poll_interval", self.poll_interval, 10 * SECOND..=DAY)
            .time("cooldown", self.cooldown, SECOND..=self.poll_interval)
            .time("timeout", self.timeout, SECOND / 100..=self.cooldown)
            .time("max_stale", self.max_stale, two_polls..=7 * DAY)
            .number("max_body", self.max_body, 1..=4 << 20)
            .number("max_keys", self.max_keys, 1..=1000)
            .unless(algorithms, "algorithms", "at least one must be allowed")
            .unless(!secret, "algorithms", "a secret is not fetched")
            .into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_know_their_ranges() {
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
                "timeout",
                "max_stale",
                "max_body",
                "max_keys",
                "algorithms"
            ]
        );
        assert_eq!(wrong.errors()[0].message(), "1s is not within 10s to 24h");
        let secret = JwksConfig::default().algorithms([Algorithm::HS256]);
        assert_eq!(secret.errors().len(), 1);
    }
}

//! How keys are fetched.

use std::{fmt, time::Duration};

use tower_fanout_layers::{
    config::{ConfigError, Validate, Validated, duration::written},
    setters,
};

use crate::jwt::{
    Algorithm,
    keys::{MAX_KEYS, MAX_TEXT},
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
pub struct JwksSettings {
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
    JwksSettings {
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

impl Default for JwksSettings {
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

/// Checked [`JwksSettings`].
pub type JwksPolicy = Validated<JwksSettings>;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Validate for JwksSettings {
    fn errors(&self) -> Vec<ConfigError> {
        let two_polls = self.poll_interval.saturating_mul(2);
        let spans = [
            ("poll_interval", self.poll_interval, 10 * SECOND, DAY),
            ("cooldown", self.cooldown, SECOND, self.poll_interval),
            ("timeout", self.timeout, SECOND / 100, self.cooldown),
            ("max_stale", self.max_stale, two_polls, 7 * DAY),
        ];
        let spans = spans.map(|(field, value, low, high)| {
            within(field, value, low, high, |value| written(*value))
        });
        let sizes = [
            ("max_body", self.max_body, 1, 4 << 20),
            ("max_keys", self.max_keys, 1, 1000),
        ];
        let sizes =
            sizes.map(|(field, value, low, high)| within(field, value, low, high, |value| *value));
        let algorithms = if self.algorithms.is_empty() {
            Some("at least one must be allowed")
        } else if self.algorithms.iter().copied().any(Algorithm::is_symmetric) {
            Some("a secret is not fetched")
        } else {
            None
        };
        let algorithms = algorithms.map(|message| ConfigError::new("algorithms", message));
        let all = spans.into_iter().chain(sizes).flatten();
        all.chain(algorithms).collect()
    }
}

fn within<T: PartialOrd, D: fmt::Display>(
    field: &'static str,
    value: T,
    low: T,
    high: T,
    show: impl Fn(&T) -> D,
) -> Option<ConfigError> {
    let message = || {
        let [value, low, high] = [&value, &low, &high].map(show);
        format!("{value} is not within {low} to {high}")
    };
    (value < low || value > high).then(|| ConfigError::new(field, message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_know_their_ranges() {
        assert!(JwksSettings::default().errors().is_empty());
        let wrong = JwksSettings::default()
            .algorithms(Vec::new())
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
        let secret = JwksSettings::default().algorithms(vec![Algorithm::HS256]);
        assert_eq!(secret.errors().len(), 1);
    }
}

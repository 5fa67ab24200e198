//! Configuration of fault injection.

use std::time::Duration;

use super::matching::Match;
use crate::{
    classify::Failure,
    config::{ConfigError, ConfigErrors, Validate},
};

crate::config! {
    /// Configuration of a [`ChaosLayer`](super::ChaosLayer).
    #[derive(Clone, Debug, PartialEq)]
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(deny_unknown_fields, default)
    )]
    pub struct ChaosConfig {
        /// Turns the injection on. Defaults to `false`. A [handle](super::ChaosHandle) can change the value
        /// later.
        pub enabled: bool = false,
        /// Rules, drawn independently of each other. Empty by default.
        pub rules: Vec<Rule> = Vec::new(),
        /// Seed for reproducible runs. Off by default, so that each run differs.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::option"))]
        pub seed: Option<u64> = None,
    }
}

/// A fault that is injected into a share of the attempts.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Rule {
    /// Share of the attempts, 0 to 1. A value outside is clamped, and NaN counts as 0.
    pub rate: f64,
    /// The fault.
    pub inject: Injection,
    /// Requests that the rule applies to, `match` in a file. All by default.
    #[cfg_attr(feature = "serde", serde(rename = "match", default))]
    pub matching: Match,
}

impl Rule {
    /// Creates a rule that injects `inject` into the share `rate` of all attempts.
    #[must_use]
    pub fn new(rate: f64, inject: Injection) -> Self {
        Self {
            rate,
            inject,
            matching: Match::default(),
        }
    }

    /// Restricts the rule to requests that match `matching`.
    #[must_use]
    pub fn matching(self, matching: Match) -> Self {
        Self { matching, ..self }
    }
}

impl Validate for Rule {
    fn errors(&self) -> Vec<ConfigError> {
        let errors = ConfigErrors::default();
        let errors = match self.inject {
            Injection::Latency(Latency::Uniform { min, max }) => {
                errors.not_below("inject.latency.max", max, "min", min)
            }
            Injection::Status(status) => errors.within("inject.status", status, 200..=599),
            Injection::Error(Failure::Status { .. }) => errors.unless(
                false,
                "inject.error",
                "must not be a status, use `inject: { status: ... }` instead",
            ),
            _ => errors,
        };
        let header = self.matching.header.as_ref();
        let has_name = header.is_none_or(|header| !header.name.is_empty());
        errors
            .unless(has_name, "match.header.name", "must not be empty")
            .into_vec()
    }
}

/// A fault.
///
/// | in a file | fault |
/// |---|---|
/// | `{ error: reset }` | [`Error`](Self::Error) |
/// | `hang` | [`Hang`](Self::Hang) |
/// | `{ latency: 50ms }`, `{ latency: { min: 50ms, max: 200ms } }` | [`Latency`](Self::Latency) |
/// | `{ status: 503 }` | [`Status`](Self::Status) |
/// | `{ truncate: 100 }` | [`Truncate`](Self::Truncate) |
/// | `reset_body` | [`ResetBody`](Self::ResetBody) |
///
/// The words for a failure are `connect`, `refused` ([`Failure::NotProcessed`]), `reset`
/// ([`Failure::ConnectionReset`]), `body` ([`Failure::TruncatedBody`]), `protocol`, `too_large`,
/// `attempt_timeout`, `panic` and `other`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Injection {
    /// The attempt fails at once with this failure, and the service is not called. [`Failure::Status`] is
    /// not allowed, because a status is a response.
    Error(#[cfg_attr(feature = "serde", serde(with = "Kind"))] Failure),
    /// The attempt never ends, and the service is not called.
    Hang,
    /// The attempt starts later, by 0 s or more.
    Latency(Latency),
    /// The attempt ends with a response with this status, 200 to 599, and the service is not called.
    Status(u16),
    /// The body of the service's response breaks off after this number of bytes, 0 or more, if it is
    /// longer.
    Truncate(u64),
    /// The body of the service's response breaks off before its first byte.
    ResetBody,
}

/// The delay of an attempt.
///
/// In a file, the value is a duration such as `50ms`, or a map with `min` and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        untagged,
        deny_unknown_fields,
        expecting = "expected a duration such as \"100ms\", or a map with `min` and `max`"
    )
)]
pub enum Latency {
    /// A fixed delay.
    Fixed(#[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))] Duration),
    /// A delay that is evenly distributed between two values.
    Uniform {
        /// Shortest delay.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
        min: Duration,
        /// Longest delay, at least `min`.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
        max: Duration,
    },
}

impl Latency {
    /// Returns the latency at the position `spread`, 0 to 1, between the shortest and the longest.
    pub(super) fn at(self, spread: f64) -> Duration {
        match self {
            Self::Fixed(latency) => latency,
            Self::Uniform { min, max } => min + (max - min).mul_f64(spread),
        }
    }
}

/// The names of failures in a file.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Failure", rename_all = "snake_case")]
enum Kind {
    #[serde(skip)]
    Status {
        code: u16,
        retry_after: Option<Duration>,
    },
    Connect,
    #[serde(rename = "refused")]
    NotProcessed,
    #[serde(rename = "reset")]
    ConnectionReset,
    #[serde(rename = "body")]
    TruncatedBody,
    Protocol,
    TooLarge,
    AttemptTimeout,
    Panic,
    Other,
}

impl Validate for ChaosConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let rules = self.rules.iter().enumerate();
        let errors = rules.fold(ConfigErrors::default(), |errors, (index, rule)| {
            errors.nested(&format!("rules.{index}"), rule)
        });
        errors.into_vec()
    }
}

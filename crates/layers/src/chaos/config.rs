//! Configuration of fault injection.

use std::time::Duration;

use super::matching::Match;
use crate::{
    classify::Failure,
    config::{ConfigError, Errors, Validate},
};

/// Configuration of a [`ChaosLayer`](super::ChaosLayer).
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct ChaosConfig {
    /// Whether anything is; not by default. A [handle](super::ChaosHandle) may change it.
    pub enabled: bool,
    /// The rules, each of which is drawn by itself; none by default.
    pub rules: Vec<Rule>,
    /// Makes runs repeatable; off by default, so that each differs.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::option"))]
    pub seed: Option<u64>,
}

crate::setters! {
    ChaosConfig {
        enabled: bool,
        rules: Vec<Rule>,
        seed: Option<u64>,
    }
}

/// One thing that is injected, into some of the attempts.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Rule {
    /// The share of attempts, 0 to 1. What is below is 0, what is above 1, and what is no number 0.
    pub rate: f64,
    /// What is injected into them.
    pub inject: Injection,
    /// Which requests it is for, `match` in a file; all by default.
    #[cfg_attr(feature = "serde", serde(rename = "match", default))]
    pub matching: Match,
}

impl Rule {
    /// Injects `inject` into the share `rate` of all attempts.
    #[must_use]
    pub fn new(rate: f64, inject: Injection) -> Self {
        Self {
            rate,
            inject,
            matching: Match::default(),
        }
    }

    /// Is only for requests that are like `wanted`.
    #[must_use]
    pub fn matching(self, wanted: Match) -> Self {
        Self {
            matching: wanted,
            ..self
        }
    }

    fn errors(&self) -> Vec<ConfigError> {
        let problems = Errors::default();
        let problems = match self.inject {
            Injection::Latency(Latency::Uniform { min, max }) => {
                problems.not_below("inject.latency.max", max, "min", min)
            }
            Injection::Status(status) => problems.within("inject.status", status, 200, 599),
            _ => problems,
        };
        let mut problems = problems.into_vec();
        if let Injection::Error(Failure::Status { .. }) = self.inject {
            let message = "a status is an answer: inject `status`";
            problems.push(ConfigError::new("inject.error", message));
        }
        problems.extend(self.matching.problem());
        problems
    }
}

/// What can be injected.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Injection {
    /// The attempt fails like this, at once, and the service is not called. It may be any failure but
    /// [`Failure::Status`], which is an answer.
    Error(#[cfg_attr(feature = "serde", serde(with = "Kind"))] Failure),
    /// The attempt never ends, and the service is not called.
    Hang,
    /// The attempt begins later, by 0 s or more.
    Latency(Latency),
    /// The attempt is answered with this status, 200 to 599, and the service is not called.
    Status(u16),
    /// The body of the service's answer breaks off after so many bytes, 0 or more, if it has more.
    Truncate(u64),
    /// The body of the service's answer breaks off before its first byte.
    ResetBody,
}

/// How much later an attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        untagged,
        deny_unknown_fields,
        expecting = "a latency is a duration such as \"100ms\", or has a `min` and a `max`"
    )
)]
pub enum Latency {
    /// Always so much.
    Fixed(#[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))] Duration),
    /// Spread evenly between the two.
    Uniform {
        /// The least.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
        min: Duration,
        /// The most, `min` at least.
        #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
        max: Duration,
    },
}

impl Latency {
    /// The latency at the place `spread`, 0 to 1, between the least and the most.
    pub(super) fn at(self, spread: f64) -> Duration {
        match self {
            Self::Fixed(latency) => latency,
            Self::Uniform { min, max } => min + (max - min).mul_f64(spread),
        }
    }
}

/// The names that failures have in a file.
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
        let problems = rules.flat_map(|(place, rule)| {
            let parent = format!("rules.{place}");
            let problems = rule.errors().into_iter();
            problems.map(move |problem| problem.under(&parent))
        });
        problems.collect()
    }
}

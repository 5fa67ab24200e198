//! Configuration of retries.

use std::time::Duration;

use super::{backoff::Jitter, budget::BudgetConfig};
use crate::{
    classify::{Class, Failure},
    config::{ConfigError, Errors, Validate},
    rejection::Rejection,
};

/// Configuration of a [`RetryLayer`](super::RetryLayer).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts in all, 1 to 6; 3 by default. With 1 the layer is transparent.
    pub max_attempts: u8,
    /// The pause before the second attempt, above 0 s and at most [`cap`](Self::cap); 50 ms by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub base: Duration,
    /// How many times as long each further pause is, 1 or more and finite; 2.0 by default.
    pub multiplier: f64,
    /// The longest pause, [`base`](Self::base) or more; 1 s by default. A `Retry-After` may exceed it.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub cap: Duration,
    /// How pauses are spread; over their full length by default, which [puts the least load on the
    /// service](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    pub jitter: Jitter,
    /// Which results are tried again; by default those that [`RetryOn`] says.
    pub retry_on: RetryOn,
    /// Treats every request as idempotent; not by default.
    pub idempotent: bool,
    /// Whether a 503 is retried of a request that may not be sent twice, for services that answer
    /// so only before they have begun; not by default.
    pub retry_503_unsafe: bool,
    /// The same for a 429; not by default.
    pub retry_429_unsafe: bool,
    /// Whether a `Retry-After` is a floor of the pause; it is by default. Without, it is as if
    /// services never sent any.
    pub respect_retry_after: bool,
    /// The longest `Retry-After` that is waited for, 0 s or more; 10 s by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub max_retry_after: Duration,
    /// The least time before the deadline with which an attempt is still made, 0 s or more; 10 ms by
    /// default.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub min_useful: Duration,
    /// How long an attempt after the first may wait for its turn at a concurrency limit below, 0 s or
    /// more; 0 s by default, as in linkerd, so that retries never queue.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub max_wait: Duration,
    /// The extra load that retries may make; by default a fifth of the calls, and 3 per second.
    pub budget: BudgetConfig,
}

crate::setters! {
    RetryConfig {
        max_attempts: u8,
        base: Duration,
        multiplier: f64,
        cap: Duration,
        jitter: Jitter,
        retry_on: RetryOn,
        idempotent: bool,
        retry_503_unsafe: bool,
        retry_429_unsafe: bool,
        respect_retry_after: bool,
        max_retry_after: Duration,
        min_useful: Duration,
        max_wait: Duration,
        budget: BudgetConfig,
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            base: Duration::from_millis(50),
            multiplier: 2.0,
            cap: Duration::from_secs(1),
            jitter: Jitter::Full,
            retry_on: RetryOn::default(),
            idempotent: false,
            retry_503_unsafe: false,
            retry_429_unsafe: false,
            respect_retry_after: true,
            max_retry_after: Duration::from_secs(10),
            min_useful: crate::timeout::MIN_USEFUL,
            max_wait: Duration::ZERO,
            budget: BudgetConfig::default(),
        }
    }
}

impl RetryConfig {
    /// Whether `class` is followed by another attempt, of a request that may or may not be sent
    /// twice.
    pub(super) fn retries(&self, class: Class, idempotent: bool) -> bool {
        let harmless = match class {
            Class::Failure(Failure::Status { code: 503, .. }) => self.retry_503_unsafe,
            Class::Throttled { .. } => self.retry_429_unsafe,
            _ => false,
        };
        self.retry_on.matches(class, idempotent || harmless)
    }
}

impl Validate for RetryConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Errors::default()
            .within("max_attempts", self.max_attempts, 1, 6)
            .positive("base", self.base)
            .not_above("base", self.base, "cap", self.cap)
            .factor("multiplier", self.multiplier)
            .statuses("retry_on", &self.retry_on.statuses)
            .nested("budget", &self.budget)
            .into_vec()
    }
}

/// Which results are tried again; whether the request may be sent twice is asked beside it. By default
/// all that are named here, and those statuses.
///
/// In a file it is a list of words and statuses, `[connect, timeout, 503]`, which are the only ones
/// then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryOn {
    /// No connection could be made.
    pub connect: bool,
    /// The service certainly did not take the request.
    pub refused: bool,
    /// The connection broke before there was an answer.
    pub reset: bool,
    /// The answer broke off.
    pub body: bool,
    /// The attempt timed out.
    pub timeout: bool,
    /// Any other error of the service that is not one of its statuses.
    pub other: bool,
    /// These statuses, 200 to 599; by default 408, 425, 429, 500, 502, 503 and 504. One that is a
    /// success is retried only where the classifier says that it is none.
    pub statuses: Vec<u16>,
}

crate::setters! {
    RetryOn {
        connect: bool,
        refused: bool,
        reset: bool,
        body: bool,
        timeout: bool,
        other: bool,
        statuses: Vec<u16>,
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect: true,
            refused: true,
            reset: true,
            body: true,
            timeout: true,
            other: true,
            statuses: vec![408, 425, 429, 500, 502, 503, 504],
        }
    }
}

impl RetryOn {
    /// Nothing at all, to name the results one by one.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            connect: false,
            refused: false,
            reset: false,
            body: false,
            timeout: false,
            other: false,
            statuses: Vec::new(),
        }
    }

    /// Whether a request that may or may not be sent twice is tried again after `class`.
    pub(crate) fn matches(&self, class: Class, idempotent: bool) -> bool {
        match class {
            Class::Failure(Failure::Connect) => self.connect,
            Class::Failure(Failure::NotProcessed) => self.refused,
            Class::Rejected(Rejection::NoEndpoint) => true,
            _ if !idempotent => false,
            Class::Failure(Failure::ConnectionReset) => self.reset,
            Class::Failure(Failure::TruncatedBody) => self.body,
            Class::Failure(Failure::AttemptTimeout) => self.timeout,
            Class::Failure(Failure::Other) => self.other,
            Class::Failure(Failure::Status { code, .. }) => self.statuses.contains(&code),
            Class::Transient(status) | Class::NonRetryable(status) => {
                self.statuses.contains(&status)
            }
            Class::Throttled { .. } => self.statuses.contains(&429),
            _ => false,
        }
    }
}

/// A list of words and statuses: `[connect, reset, timeout, 429, 503]`.
#[cfg(feature = "serde")]
mod form {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::RetryOn;
    use crate::outcome_list::{self, OutcomeList};

    impl OutcomeList for RetryOn {
        fn nothing() -> Self {
            Self::nothing()
        }

        fn parts(&mut self) -> (Vec<(&'static str, &mut bool)>, &mut Vec<u16>) {
            let words = vec![
                ("connect", &mut self.connect),
                ("refused", &mut self.refused),
                ("reset", &mut self.reset),
                ("body", &mut self.body),
                ("timeout", &mut self.timeout),
                ("other", &mut self.other),
            ];
            (words, &mut self.statuses)
        }
    }

    impl<'de> Deserialize<'de> for RetryOn {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            outcome_list::deserialize(deserializer)
        }
    }

    impl Serialize for RetryOn {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            outcome_list::serialize(self, serializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::table::{self, THROTTLED, status},
        config::check_ranges,
    };

    #[test]
    fn every_setting_has_its_range() {
        check_ranges::<RetryConfig>(
            &[
                |retry| retry.max_attempts = 1,
                |retry| retry.max_attempts = 6,
                |retry| (retry.base, retry.cap) = (Duration::MAX, Duration::MAX),
                |retry| retry.multiplier = 1.0,
                |retry| retry.cap = retry.base,
                |retry| retry.retry_on.statuses = vec![200, 599],
                |retry| retry.max_retry_after = Duration::ZERO,
                |retry| retry.min_useful = Duration::ZERO,
                |retry| retry.max_wait = Duration::MAX,
            ],
            &[
                ("max_attempts", |retry| retry.max_attempts = 0),
                ("max_attempts", |retry| retry.max_attempts = 7),
                ("base", |retry| retry.base = Duration::ZERO),
                ("multiplier", |retry| retry.multiplier = 0.0),
                ("multiplier", |retry| retry.multiplier = 0.999),
                ("multiplier", |retry| retry.multiplier = f64::NAN),
                ("multiplier", |retry| retry.multiplier = f64::INFINITY),
                ("base", |retry| retry.cap = Duration::ZERO),
                ("base", |retry| {
                    retry.cap = retry.base - Duration::from_nanos(1)
                }),
                ("retry_on", |retry| retry.retry_on.statuses.push(199)),
                ("retry_on", |retry| retry.retry_on.statuses.push(600)),
                ("budget.ratio", |retry| retry.budget.ratio = -1.0),
            ],
        );
    }

    /// The results after which a request is sent again: also where it may have been done, and only
    /// where it certainly was not.
    #[test]
    fn rt_05_what_is_sent_again_by_class() {
        let unsent = [
            Class::Failure(Failure::Connect),
            Class::Failure(Failure::NotProcessed),
            Class::Rejected(Rejection::NoEndpoint),
        ];
        let maybe_done = [
            Class::Transient(408),
            Class::Transient(425),
            THROTTLED,
            status(500),
            status(502),
            status(503),
            status(504),
            Class::Failure(Failure::ConnectionReset),
            Class::Failure(Failure::TruncatedBody),
            Class::Failure(Failure::AttemptTimeout),
        ];
        let mut settings = RetryConfig::default();
        let mut again = unsent.map(|class| (class, true)).to_vec();
        table::check(|class| settings.retries(class, false), &false, &again);
        let all = [&again[..], &maybe_done.map(|class| (class, true))].concat();
        table::check(|class| settings.retries(class, true), &false, &all);

        settings.retry_503_unsafe = true;
        again.push((status(503), true));
        table::check(|class| settings.retries(class, false), &false, &again);
        settings.retry_429_unsafe = true;
        again.push((THROTTLED, true));
        table::check(|class| settings.retries(class, false), &false, &again);
    }
}

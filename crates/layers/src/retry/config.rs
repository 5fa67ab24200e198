//! Configuration of retries.

use std::time::Duration;

use super::{backoff::Jitter, budget::BudgetConfig};
use crate::{
    classify::{Class, Failure},
    config::{ConfigError, Validate},
    rejection::Rejection,
};

crate::config! {
    serde
    /// Configuration of [retries](super::RetryLayer).
    pub struct RetryConfig {
        /// Maximum number of attempts, the first included, 1 to 6. Defaults to 3. With 1, nothing is
        /// retried.
        ///
        /// Every attempt counts, the free one after [`Failure::NotProcessed`] too. A call can lower the
        /// number with [`Call::max_retries`](crate::Call::max_retries), which does not include the first
        /// attempt.
        pub max_attempts: u8 = 3,
        /// Pause before the second attempt, above 0 s and at most [`cap`](Self::cap). Defaults to 50 ms.
        pub base: Duration = Duration::from_millis(50),
        /// Growth factor from each pause to the next, finite and at least 1. Defaults to 2.0.
        pub multiplier: f64 = 2.0,
        /// Longest pause, at least [`base`](Self::base). Defaults to 1 s. A `Retry-After` may exceed it.
        pub cap: Duration = Duration::from_secs(1),
        /// Distribution of the pauses. Defaults to [`full`](Jitter::Full), which [puts the least load on the
        /// service](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        pub jitter: Jitter = Jitter::Full,
        /// Results that are retried. Defaults to [failures that another attempt can cure](RetryOn::default).
        pub retry_on: RetryOn = RetryOn::default(),
        /// Treats every request as idempotent. Defaults to `false`.
        pub idempotent: bool = false,
        /// Retries a 503 also for requests that are not idempotent. Defaults to `false`.
        ///
        /// For services that respond with 503 only before they have started the work. Has no effect unless
        /// [`retry_on`](field@Self::retry_on) lists the status 503.
        pub retry_503_unsafe: bool = false,
        /// Retries a 429 also for requests that are not idempotent. Defaults to `false`. Has no effect
        /// unless [`retry_on`](field@Self::retry_on) lists the status 429.
        pub retry_429_unsafe: bool = false,
        /// Uses the `Retry-After` of a response as the lower bound of the pause. Defaults to `true`. If
        /// `false`, the value is ignored. A response without `Retry-After` has the usual pause.
        pub respect_retry_after: bool = true,
        /// Longest `Retry-After` that the layer waits for, 0 s or more. Defaults to 10 s. A longer value
        /// ends the call.
        pub max_retry_after: Duration = Duration::from_secs(10),
        /// Minimum remaining time before the deadline for an attempt after the first, 0 s or more. Defaults
        /// to 10 ms. With less time left after the pause, no attempt is made.
        ///
        /// A [`TimeoutLayer`](crate::TimeoutLayer) below checks its own
        /// [`min_useful`](field@crate::timeout::TimeoutConfig::min_useful) too, before every attempt. So
        /// the larger of the two applies to attempts after the first.
        pub min_useful: Duration = crate::timeout::MIN_USEFUL,
        /// Longest time that an attempt after the first waits at a concurrency limit below, 0 s or more.
        /// Defaults to 0 s, as in linkerd: retries never queue.
        ///
        /// The shortest of this value, [`Call::max_wait`](crate::Call::max_wait) and the
        /// [`max_wait`](field@crate::ConcurrencyConfig::max_wait) of the limit applies.
        pub max_wait: Duration = Duration::ZERO,
        /// Extra load that retries may add. Defaults to 20 % of the calls, plus a floor of 3 retries per
        /// second.
        pub budget: BudgetConfig = BudgetConfig::default(),
    }
    limits {
        max_attempts: within(1..=6),
        base: positive(),
        multiplier: factor(),
    }
}

impl RetryConfig {
    /// Returns `true` if a result of `class` may be retried. `idempotent` is the idempotence of the
    /// request.
    pub(super) fn retries(&self, class: Class, idempotent: bool) -> bool {
        let is_safe = match class {
            Class::Failure(Failure::Status { code: 503, .. }) => self.retry_503_unsafe,
            Class::Throttled { .. } => self.retry_429_unsafe,
            _ => false,
        };
        self.retry_on.matches(class, idempotent || is_safe)
    }
}

impl Validate for RetryConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits()
            .not_above("base", self.base, "cap", self.cap)
            .statuses("retry_on", &self.retry_on.statuses)
            .nested("budget", &self.budget)
            .into_vec()
    }
}

outcome_list! {
    /// Results that are retried. All flags default to `true`.
    ///
    /// | flag or list | results | non-idempotent requests |
    /// |---|---|---|
    /// | [`connect`](field@Self::connect) | [`Failure::Connect`] | retried |
    /// | [`refused`](field@Self::refused) | [`Failure::NotProcessed`] | retried |
    /// | [`reset`](field@Self::reset) | [`Failure::ConnectionReset`] | not retried |
    /// | [`body`](field@Self::body) | [`Failure::TruncatedBody`] | not retried |
    /// | [`timeout`](field@Self::timeout) | [`Failure::AttemptTimeout`] | not retried |
    /// | [`other`](field@Self::other) | [`Failure::Other`] | not retried |
    /// | [`statuses`](field@Self::statuses) | [`Failure::Status`], [`Class::Transient`], [`Class::NonRetryable`] with a listed status | not retried, except a 503 with [`retry_503_unsafe`](field@RetryConfig::retry_503_unsafe) |
    /// | 429 in [`statuses`](field@Self::statuses) | every [`Class::Throttled`] | not retried, unless [`retry_429_unsafe`](field@RetryConfig::retry_429_unsafe) is set |
    /// | always | [`Rejection::NoEndpoint`] | retried |
    /// | never | [`Failure::Protocol`], [`Failure::TooLarge`], [`Failure::Panic`], [`Class::Unanswered`], other rejections | not retried |
    ///
    /// In a file, the value is a list of words and statuses, such as `[connect, timeout, 503]`. The words
    /// are the names of the flags. A list replaces the default.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RetryOn {
        words {
            /// No connection could be established.
            connect,
            /// The service refused the request unprocessed, as with HTTP/2 `REFUSED_STREAM`.
            refused,
            /// The connection broke before the response started.
            reset,
            /// The response body was truncated.
            ///
            /// Only applies if a service below reads the whole body before it responds: see
            /// [`Failure::TruncatedBody`].
            body,
            /// The attempt timed out.
            timeout,
            /// Any other error of the service that has no status.
            other,
        }
        /// Statuses, 200 to 599. Defaults to 408, 425, 429, 500, 502, 503 and 504. A status that is
        /// normally a success is retried only if the classifier treats it as a failure.
        ///
        /// The constructor of the layer returns an error for a status outside this range.
        statuses = vec![408, 425, 429, 500, 502, 503, 504]
    }
}

impl RetryOn {
    /// Returns `true` if `class` is in this set and safe to retry. `idempotent` is the idempotence of the
    /// request.
    pub(crate) fn matches(&self, class: Class, idempotent: bool) -> bool {
        match class {
            // The first three never reached the service, so they are safe for every request.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::table::{self, THROTTLED, status},
        config::check_ranges,
    };

    #[test]
    fn every_field_has_its_range() {
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

    /// Retried classes: those that are safe for every request, and those that require idempotence.
    #[test]
    fn rt_05_retries_by_class_and_idempotence() {
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
        let mut config = RetryConfig::default();
        let mut retried = unsent.map(|class| (class, true)).to_vec();
        table::check(|class| config.retries(class, false), &false, &retried);
        let all = [&retried[..], &maybe_done.map(|class| (class, true))].concat();
        table::check(|class| config.retries(class, true), &false, &all);

        config.retry_503_unsafe = true;
        retried.push((status(503), true));
        table::check(|class| config.retries(class, false), &false, &retried);
        config.retry_429_unsafe = true;
        retried.push((THROTTLED, true));
        table::check(|class| config.retries(class, false), &false, &retried);
    }
}

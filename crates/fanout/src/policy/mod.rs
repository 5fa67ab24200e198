//! Configuration of the layers around one downstream.

mod consistency;
mod per_key;

use std::time::Duration;

use tower_fanout_layers::{
    ConfigError,
    breaker::BreakerConfig,
    classify::ClassifyConfig,
    concurrency::ConcurrencyConfig,
    config,
    config::{ConfigErrors, Validate},
    hedge::{HedgeConfig, HedgeDelay},
    retry::RetryConfig,
    throttle::ThrottleConfig,
};

pub use self::per_key::PerKeyPolicy;

config! {
    /// Configuration of the layers around one [downstream](crate::Downstream). Each part has a default, and can
    /// be turned off.
    ///
    /// `None` turns a part off. In a configuration file, the word `off` or null does.
    ///
    /// By default, an attempt may take 2 s, and retries, the circuit breaker and the concurrency limit are
    /// on. Hedging, the throttle and the total timeout are off. [`Downstream`](crate::Downstream)
    /// describes the order of the layers.
    ///
    /// [`Downstream::new`](crate::Downstream::new) validates each part, and the parts against each
    /// other. Fallbacks are not part of a policy. They are a layer of their own, which
    /// [`Downstream::fallback`](crate::Downstream::fallback) creates. Downstreams that are fallbacks of
    /// each other are therefore not detected here.
    ///
    /// With the feature `serde`, durations are strings with units, such as `"300ms"` or `"1m 30s"`.
    #[derive(Clone, Debug, PartialEq)]
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(deny_unknown_fields, default)
    )]
    #[cfg_attr(
        feature = "schemars",
        derive(schemars::JsonSchema),
        schemars(transform = config::schema::off)
    )]
    pub struct Policy {
        /// Maximum time of a call, with all its attempts and the pauses between them. The time of a
        /// fallback that is called afterwards is not included. At least
        /// [`attempt_timeout`](Self::attempt_timeout), or at least 10 ms if that is off. Defaults to
        /// off: only the deadline of the request ends a call.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::duration::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<config::schema::Duration>"))]
        #[cfg_attr(feature = "schemars", schemars(example = &"800ms"))]
        pub total_timeout: Option<Duration> = None,
        /// Maximum time of an attempt, without its wait in the queue of the concurrency limit. At least
        /// 1 ms. Defaults to 2 s.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::duration::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<config::schema::Duration>"))]
        pub attempt_timeout: Option<Duration> = Some(Duration::from_secs(2)),
        /// If `true`, the last attempt may use all the time that is left until the request's deadline,
        /// because no attempt follows it. Defaults to `false`, so that permits are returned in time.
        pub last_attempt_uses_deadline: bool = false,
        /// Response statuses whose class differs from the standard classification. Defaults to no
        /// differences.
        ///
        /// [`Downstream::new`](crate::Downstream::new) validates the lists but classifies with its own
        /// argument only. To apply the lists, pass the classifier
        /// `ClassifyHttp::new().with(policy.classify.clone())?`.
        pub classify: ClassifyConfig = ClassifyConfig::default(),
        /// Retries. By [default](RetryConfig::default), at most 3 attempts, with a random pause of at
        /// most 50 ms before the second and at most 100 ms before the third. Retries are limited to 20 %
        /// of the first attempts, plus 3 per second.
        ///
        /// Requests that are not idempotent are not retried after they were sent, unless they have an
        /// `Idempotency-Key`. Validation cannot report a policy that has no effect for this reason,
        /// because the methods of the requests are not part of a policy.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<RetryConfig>"))]
        pub retry: Option<RetryConfig> = Some(RetryConfig::default()),
        /// Hedged attempts, which are sent when an attempt has no response within the hedge delay.
        /// Defaults to off.
        ///
        /// Hedging cannot be combined with [`retry`](Self::retry), which is on by default. To turn hedging
        /// on, set `retry` to `None` first:
        /// `Policy::new().retry(None).hedge(HedgeConfig::default())`. [`HedgeConfig::default`] sends one
        /// hedge. Requests that are not idempotent are not hedged.
        ///
        /// A learnt delay is that of the calls of all keys. Beside [breakers per
        /// key](field@PerKeyPolicy::circuit_breaker), the delay must be fixed.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<HedgeConfig>"))]
        pub hedge: Option<HedgeConfig> = None,
        /// The circuit breaker. By [default](BreakerConfig::default), once the
        /// last 10 s hold 20 calls, the circuit opens if half of them have failed, and before that, after
        /// 5 failures in a row. It first stays open for 5 s to 6 s.
        ///
        /// The breaker counts the calls of all keys. It must be off if each key has [a breaker of its
        /// own](field@PerKeyPolicy::circuit_breaker).
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<BreakerConfig>"))]
        pub circuit_breaker: Option<BreakerConfig> = Some(BreakerConfig::default()),
        /// Client-side throttling while the downstream rejects most calls. Defaults to off.
        ///
        /// The throttle counts the calls of all keys. It must be off if each key has [a breaker of its
        /// own](field@PerKeyPolicy::circuit_breaker).
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<ThrottleConfig>"))]
        pub throttle: Option<ThrottleConfig> = None,
        /// The limit on concurrent calls. By [default](ConcurrencyConfig::default), 100 calls at once,
        /// without a queue.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<ConcurrencyConfig>"))]
        pub concurrency: Option<ConcurrencyConfig> = Some(ConcurrencyConfig::default()),
        /// A further limit, a circuit breaker, or both for each key of the calls, such as the tenant. Defaults to
        /// off.
        ///
        /// With a limit only, [`circuit_breaker`](Self::circuit_breaker) may stay on: the failures of one key then
        /// open it for all keys.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<PerKeyPolicy>"))]
        pub per_key: Option<PerKeyPolicy> = None,
    }
}

/// Minimum attempt timeout, which no total timeout can be below. Values that are derived from it, such as half of it, stay greater than
/// zero.
const MIN_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1);

impl Validate for Policy {
    fn errors(&self) -> Vec<ConfigError> {
        ConfigErrors::default()
            .at_least("total_timeout", self.total_timeout, MIN_ATTEMPT_TIMEOUT)
            .at_least("attempt_timeout", self.attempt_timeout, MIN_ATTEMPT_TIMEOUT)
            .nested("classify", &self.classify)
            .nested("retry", &self.retry)
            .nested("hedge", &self.hedge)
            .nested("circuit_breaker", &self.circuit_breaker)
            .nested("throttle", &self.throttle)
            .nested("concurrency", &self.concurrency)
            .nested("per_key", &self.per_key)
            .comparisons(consistency::errors(self))
            .into_vec()
    }
}

impl Policy {
    /// Returns the maximum number of attempts of one call, including hedges.
    #[must_use]
    pub fn max_attempts(&self) -> u8 {
        match (&self.hedge, &self.retry) {
            (Some(hedge), _) => hedge.max_hedges.saturating_add(1),
            (None, Some(retry)) => retry.max_attempts,
            (None, None) => 1,
        }
    }

    /// Returns the longest time of a call, or `None` if attempts are unbounded and no total timeout is
    /// set.
    ///
    /// In the worst case, every attempt times out, and every pause and every wait for a permit takes
    /// its maximum. The time of fallbacks is not included: add it with
    /// [`Profile::fallback`](crate::Profile::fallback).
    #[must_use]
    pub fn worst_case(&self) -> Option<Duration> {
        self.worst_case_of(self.max_attempts())
    }

    /// Returns the longest time of a call that makes at most `attempts` attempts, or `None` as
    /// for [`worst_case`](Self::worst_case).
    #[must_use]
    pub fn worst_case_of(&self, attempts: u8) -> Option<Duration> {
        let further = u32::from(attempts.min(self.max_attempts()).saturating_sub(1));
        let per_key = self.per_key.iter();
        let limits = per_key.filter_map(|per_key| per_key.concurrency.as_ref());
        let waits = limits.chain(&self.concurrency).map(longest_wait);
        let wait = waits.fold(Duration::ZERO, Duration::saturating_add);
        let Some(attempt) = self.attempt_timeout else {
            return self.total_timeout;
        };
        let one = attempt.saturating_add(wait);
        let all = match self.hedge.as_ref().map(|hedge| &hedge.delay) {
            // Attempts run concurrently. The last one starts after `further` delays.
            Some(HedgeDelay::Fixed(delay)) => one.saturating_add(delay.saturating_mul(further)),
            // Attempts may run one after the other: a learnt delay is unknown at first.
            _ => one.saturating_mul(further + 1),
        };
        let pauses = self.retry.iter().map(|retry| worst_pauses(retry, further));
        let all = pauses.fold(all, Duration::saturating_add);
        Some(self.total_timeout.map_or(all, |total| all.min(total)))
    }
}

/// Returns the longest time that a call waits for a permit of `limit`.
pub(crate) const fn longest_wait(limit: &ConcurrencyConfig) -> Duration {
    if limit.queue > 0 {
        limit.max_wait
    } else {
        Duration::ZERO
    }
}

/// Returns the longest time that a call waits for a permit of the downstream.
pub(crate) fn shared_wait(policy: &Policy) -> Duration {
    let limit = policy.concurrency.as_ref();
    limit.map_or(Duration::ZERO, longest_wait)
}

/// Returns the sum of the first `count` pauses of a call, each at its maximum.
fn worst_pauses(retry: &RetryConfig, count: u32) -> Duration {
    let pauses = (0..count).map(|before| {
        let pause = retry.base.as_secs_f64() * retry.multiplier.powi(before as i32);
        Duration::try_from_secs_f64(pause)
            .unwrap_or(Duration::MAX)
            .min(retry.cap)
    });
    pauses.fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time_budget::MIN_USEFUL;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn policy(edit: impl FnOnce(&mut Policy)) -> Policy {
        let mut policy = Policy::default();
        edit(&mut policy);
        policy
    }

    #[test]
    fn min_useful_is_the_default_of_the_layers() {
        assert_eq!(RetryConfig::default().min_useful, MIN_USEFUL);
        assert_eq!(HedgeConfig::default().min_useful, MIN_USEFUL);
    }

    fn hedging(delay: HedgeDelay) -> Policy {
        policy(|policy| {
            let mut hedge = HedgeConfig::default();
            (hedge.delay, hedge.max_hedges) = (delay, 2);
            (policy.retry, policy.hedge) = (None, Some(hedge));
            policy.attempt_timeout = Some(ms(1000));
        })
    }

    #[test]
    fn hedges_count_as_attempts() {
        assert_eq!(Policy::default().max_attempts(), 3);
        assert_eq!(policy(|policy| policy.retry = None).max_attempts(), 1);
        assert_eq!(hedging(HedgeDelay::Never).max_attempts(), 3);
    }

    #[test]
    fn the_worst_case_adds_attempts_waits_and_pauses() {
        let mut bounded = policy(|policy| policy.attempt_timeout = Some(ms(300)));
        assert_eq!(bounded.worst_case(), Some(ms(3 * 300 + 50 + 100)));
        assert_eq!(bounded.worst_case_of(2), Some(ms(2 * 300 + 50)));
        assert_eq!(bounded.worst_case_of(9), bounded.worst_case());
        bounded.concurrency.as_mut().unwrap().queue = 1;
        assert_eq!(bounded.worst_case_of(1), Some(ms(300 + 100)));
        let of_key = ConcurrencyConfig::new().queue(1).max_wait(ms(20));
        bounded.per_key = Some(PerKeyPolicy::new().concurrency(of_key));
        assert_eq!(bounded.worst_case_of(1), Some(ms(300 + 100 + 20)));
        bounded.total_timeout = Some(ms(500));
        assert_eq!(bounded.worst_case(), Some(ms(500)));
        bounded.attempt_timeout = None;
        assert_eq!(bounded.worst_case(), Some(ms(500)));
        bounded.total_timeout = None;
        assert_eq!(bounded.worst_case(), None);
        let endless = policy(|policy| policy.attempt_timeout = Some(Duration::MAX));
        assert_eq!(endless.worst_case(), Some(Duration::MAX));
    }

    #[test]
    fn hedges_run_concurrently_only_after_a_fixed_delay() {
        let fixed = hedging(HedgeDelay::Fixed(ms(50)));
        assert_eq!(fixed.worst_case(), Some(ms(1000 + 2 * 50)));
        assert_eq!(fixed.worst_case_of(2), Some(ms(1000 + 50)));
        for delay in [HedgeConfig::default().delay, HedgeDelay::Never] {
            assert_eq!(hedging(delay).worst_case(), Some(ms(3 * 1000)));
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn parts_are_read_as_config_or_off() {
        let written = r#"{"retry": "off", "hedge": {"delay": "50ms"}, "throttle": {"k": 3.0}}"#;
        let read: Policy = serde_json::from_str(written).unwrap();
        assert_eq!(read.retry, None);
        assert_eq!(read.hedge.unwrap().delay, HedgeDelay::Fixed(ms(50)));
        assert_eq!(read.throttle.unwrap().k, 3.0);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_policy_is_read_back_with_each_part_on_and_off() {
        type Edit = fn(&mut Policy);
        let fields: [(&str, Edit, Edit); 8] = [
            (
                "total_timeout",
                |all| all.total_timeout = Some(ms(2500)),
                |all| all.total_timeout = None,
            ),
            (
                "attempt_timeout",
                |all| all.attempt_timeout = Some(ms(300)),
                |all| all.attempt_timeout = None,
            ),
            (
                "retry",
                |all| all.retry = Some(RetryConfig::new().max_attempts(2)),
                |all| all.retry = None,
            ),
            (
                "hedge",
                |all| (all.retry, all.hedge) = (None, Some(HedgeConfig::default())),
                |all| all.hedge = None,
            ),
            (
                "circuit_breaker",
                |all| all.circuit_breaker = Some(BreakerConfig::default().min_calls(7)),
                |all| all.circuit_breaker = None,
            ),
            (
                "throttle",
                |all| all.throttle = Some(ThrottleConfig::default()),
                |all| all.throttle = None,
            ),
            (
                "concurrency",
                |all| all.concurrency = Some(ConcurrencyConfig::default().max(7)),
                |all| all.concurrency = None,
            ),
            (
                "per_key",
                |all| {
                    let limit = ConcurrencyConfig::default().max(7);
                    all.per_key = Some(PerKeyPolicy::new().concurrency(limit).max_keys(9));
                },
                |all| all.per_key = None,
            ),
        ];
        for (field, on, off) in fields {
            for edit in [on, off] {
                let policy = policy(edit);
                policy.validate().unwrap();
                let text = serde_json::to_string(&policy).unwrap();
                let read = serde_json::from_str::<Policy>(&text).unwrap();
                assert_eq!(read, policy, "{text}");
            }
            let policy = policy(off);
            assert_eq!(serde_json::to_value(&policy).unwrap()[field], "off");
            for off in [serde_json::json!("off"), serde_json::json!(null)] {
                let file = serde_json::json!({ field: off });
                let read = serde_json::from_value::<Policy>(file).unwrap();
                assert_eq!(read, policy, "{field}: {off}");
            }
        }
    }
}

//! Configuration of the layers around one downstream.

mod consistency;

use std::time::Duration;

use tower_fanout_layers::{
    ConfigError,
    breaker::BreakerConfig,
    classify::ClassifyConfig,
    concurrency::ConcurrencyConfig,
    config::{Validate, duration},
    hedge::{HedgeConfig, HedgeDelay},
    retry::RetryConfig,
    throttle::ThrottleConfig,
};

/// Configuration of the layers around one [`Downstream`](crate::Downstream). Each part has a default, and
/// `None` turns a part off; in a file, the word `off` or null does.
///
/// [`Downstream::new`](crate::Downstream::new) checks each part, and the parts against each other. A
/// fallback is not part of a policy, so cycles of
/// [`Downstream::fallback`](crate::Downstream::fallback)s are not checked here.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct Policy {
    /// The longest a branch may take, with all its attempts and pauses: as long as an attempt may take
    /// at least, or 10 ms where that may take any time; off by default, so that the request's deadline
    /// alone ends it.
    #[cfg_attr(feature = "serde", serde(with = "duration::option"))]
    pub total_timeout: Option<Duration>,
    /// The longest an attempt may take, its wait for a turn excluded, 1 ms or more; 2 s by default.
    #[cfg_attr(feature = "serde", serde(with = "duration::option"))]
    pub attempt_timeout: Option<Duration>,
    /// Whether the last attempt may take all the time that is left until the request's deadline, since
    /// nothing comes after it; not by default, so that permits come back in time.
    pub last_attempt_uses_deadline: bool,
    /// What it means by its statuses, where that is not what they say; as they say by default.
    pub classify: ClassifyConfig,
    /// How it is tried again; as [`RetryConfig`] say by default. It is of no use to a request that may
    /// not be sent twice, unless that bears an `Idempotency-Key`: whoever knows the requests should warn
    /// of that, as the gateway does of its routes.
    #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
    pub retry: Option<RetryConfig>,
    /// How it is asked once more when it is late; off by default. Who hedges does not retry. For a
    /// request that may not be sent twice, the same holds as for [`retry`](Self::retry).
    #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
    pub hedge: Option<HedgeConfig>,
    /// When it is left alone; as [`BreakerConfig`] say by default.
    #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
    pub circuit_breaker: Option<BreakerConfig>,
    /// How it is asked less while it refuses most of what it is asked; off by default.
    #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
    pub throttle: Option<ThrottleConfig>,
    /// How many calls it gets at once; as [`ConcurrencyConfig`] say by default.
    #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
    pub concurrency: Option<ConcurrencyConfig>,
}

tower_fanout_layers::setters! {
    Policy {
        total_timeout: Option<Duration>,
        attempt_timeout: Option<Duration>,
        last_attempt_uses_deadline: bool,
        classify: ClassifyConfig,
        retry: Option<RetryConfig>,
        hedge: Option<HedgeConfig>,
        circuit_breaker: Option<BreakerConfig>,
        throttle: Option<ThrottleConfig>,
        concurrency: Option<ConcurrencyConfig>,
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            total_timeout: None,
            attempt_timeout: Some(Duration::from_secs(2)),
            last_attempt_uses_deadline: false,
            classify: ClassifyConfig::default(),
            retry: Some(RetryConfig::default()),
            hedge: None,
            circuit_breaker: Some(BreakerConfig::default()),
            throttle: None,
            concurrency: Some(ConcurrencyConfig::default()),
        }
    }
}

/// The least that an attempt may take. It leaves something of the shares that are made of it.
const LEAST: Duration = Duration::from_millis(1);

impl Validate for Policy {
    fn errors(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if let Some(attempt) = self.attempt_timeout.filter(|attempt| *attempt < LEAST) {
            let (attempt, least) = (duration::written(attempt), duration::written(LEAST));
            let message = format!("{attempt} is less than {least}");
            errors.push(ConfigError::new("attempt_timeout", message));
        }
        for (part, own) in [
            ("classify", self.classify.errors()),
            ("retry", errors_of(&self.retry)),
            ("hedge", errors_of(&self.hedge)),
            ("circuit_breaker", errors_of(&self.circuit_breaker)),
            ("throttle", errors_of(&self.throttle)),
            ("concurrency", errors_of(&self.concurrency)),
        ] {
            errors.extend(own.into_iter().map(|error| error.under(part)));
        }
        errors.extend(consistency::errors(self));
        errors
    }
}

fn errors_of<T: Validate>(part: &Option<T>) -> Vec<ConfigError> {
    part.iter().flat_map(Validate::errors).collect()
}

impl Policy {
    /// The most attempts that one call makes, hedges included.
    #[must_use]
    pub fn max_attempts(&self) -> u8 {
        match (&self.hedge, &self.retry) {
            (Some(hedge), _) => hedge.max_hedges.saturating_add(1),
            (None, Some(retry)) => retry.max_attempts,
            (None, None) => 1,
        }
    }

    /// The longest a branch may take if nothing cuts it short: every attempt times out, every pause
    /// and every wait for a turn is as long as it can be. None if nothing ends an attempt.
    #[must_use]
    pub fn worst_case(&self) -> Option<Duration> {
        self.worst_case_of(self.max_attempts())
    }

    /// The same for a call that makes `attempts` at most.
    #[must_use]
    pub fn worst_case_of(&self, attempts: u8) -> Option<Duration> {
        let further = u32::from(attempts.min(self.max_attempts()).saturating_sub(1));
        let wait = self.concurrency.as_ref().filter(|limit| limit.queue > 0);
        let wait = wait.map_or(Duration::ZERO, |limit| limit.max_wait);
        let Some(attempt) = self.attempt_timeout else {
            return self.total_timeout;
        };
        let one = attempt.saturating_add(wait);
        let all = match self.hedge.as_ref().map(|hedge| &hedge.delay) {
            // Attempts run beside each other, and the last one begins after so many delays.
            Some(HedgeDelay::Fixed(delay)) => one.saturating_add(delay.saturating_mul(further)),
            // They may come one after the other: a delay that is learnt is none in the beginning.
            _ => one.saturating_mul(further + 1),
        };
        let pauses = self.retry.iter().map(|retry| worst_pauses(retry, further));
        let all = pauses.fold(all, Duration::saturating_add);
        Some(self.total_timeout.map_or(all, |total| all.min(total)))
    }
}

/// The first `count` pauses of a call, at their longest.
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
    fn the_least_useful_time_is_that_of_the_layers() {
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
    fn hedges_are_attempts() {
        assert_eq!(Policy::default().max_attempts(), 3);
        assert_eq!(policy(|policy| policy.retry = None).max_attempts(), 1);
        assert_eq!(hedging(HedgeDelay::Never).max_attempts(), 3);
    }

    #[test]
    fn the_worst_case_is_every_attempt_with_its_wait_and_its_pause() {
        let mut settings = policy(|policy| policy.attempt_timeout = Some(ms(300)));
        assert_eq!(settings.worst_case(), Some(ms(3 * 300 + 50 + 100)));
        assert_eq!(settings.worst_case_of(2), Some(ms(2 * 300 + 50)));
        assert_eq!(settings.worst_case_of(9), settings.worst_case());
        settings.concurrency.as_mut().unwrap().queue = 1;
        assert_eq!(settings.worst_case_of(1), Some(ms(300 + 100)));
        settings.total_timeout = Some(ms(500));
        assert_eq!(settings.worst_case(), Some(ms(500)));
        settings.attempt_timeout = None;
        assert_eq!(settings.worst_case(), Some(ms(500)));
        settings.total_timeout = None;
        assert_eq!(settings.worst_case(), None);
        let endless = policy(|policy| policy.attempt_timeout = Some(Duration::MAX));
        assert_eq!(endless.worst_case(), Some(Duration::MAX));
    }

    #[test]
    fn hedges_run_beside_each_other_only_after_a_known_delay() {
        let fixed = hedging(HedgeDelay::Fixed(ms(50)));
        assert_eq!(fixed.worst_case(), Some(ms(1000 + 2 * 50)));
        assert_eq!(fixed.worst_case_of(2), Some(ms(1000 + 50)));
        for delay in [HedgeConfig::default().delay, HedgeDelay::Never] {
            assert_eq!(hedging(delay).worst_case(), Some(ms(3 * 1000)));
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn parts_are_read_as_settings_or_off() {
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
        let fields: [(&str, Edit, Edit); 7] = [
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
            for none in [serde_json::json!("off"), serde_json::json!(null)] {
                let file = serde_json::json!({ field: none });
                let read = serde_json::from_value::<Policy>(file).unwrap();
                assert_eq!(read, policy, "{field}: {none}");
            }
        }
    }
}

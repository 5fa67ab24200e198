//! Checks the limits and circuit breakers per key against the parts that all keys share.

use tower_fanout_layers::{ConfigError, config::duration::written, hedge::HedgeDelay};

use super::{require, wait_within, window_of};
use crate::policy::{PerKeyPolicy, Policy, longest_wait, shared_wait};

/// Returns the errors of `per_key`, that of `policy`.
pub(super) fn errors(policy: &Policy, per_key: &PerKeyPolicy) -> Vec<ConfigError> {
    let rules = [
        wait_within_total,
        window_of_two_attempts,
        limit_below_that_of_all,
        idle_above_call,
    ];
    let of_times_and_limits = rules.into_iter().filter_map(|rule| rule(policy, per_key));
    of_times_and_limits
        .chain(shared_beside_breakers(policy, per_key))
        .collect()
}

fn wait_within_total(policy: &Policy, per_key: &PerKeyPolicy) -> Option<ConfigError> {
    let limit = per_key.concurrency.as_ref()?;
    wait_within(policy, limit, "per_key.concurrency.max_wait")
}

fn window_of_two_attempts(policy: &Policy, per_key: &PerKeyPolicy) -> Option<ConfigError> {
    let breaker = per_key.circuit_breaker.as_ref()?;
    let field = "per_key.circuit_breaker.window";
    window_of(policy, breaker, field, shared_wait(policy))
}

/// Otherwise the calls of one key could take all permits of the downstream. An adaptive limit falls as far as its
/// `min`, also because of the calls of one key.
fn limit_below_that_of_all(policy: &Policy, per_key: &PerKeyPolicy) -> Option<ConfigError> {
    let (own, all) = (per_key.concurrency.as_ref()?, policy.concurrency.as_ref()?);
    let field = match own.adaptive {
        None => "per_key.concurrency.max",
        Some(_) => "per_key.concurrency.adaptive.max",
    };
    let name = match all.adaptive {
        None => "concurrency.max",
        Some(_) => "concurrency.adaptive.min",
    };
    let (highest, lowest) = (*own.bounds().end(), *all.bounds().start());
    let message = format!("must be < {name} of the policy ({lowest}), got {highest}");
    (highest >= lowest).then(|| ConfigError::new(field, message).compared_with(name))
}

/// A key counts as used when an attempt of it starts. With a shorter time, a key whose calls time out could be forgotten
/// after each of them.
fn idle_above_call(policy: &Policy, per_key: &PerKeyPolicy) -> Option<ConfigError> {
    let attempt = policy.attempt_timeout;
    let attempt = attempt.filter(|_| !policy.last_attempt_uses_deadline);
    let own_wait = per_key.concurrency.as_ref().map(longest_wait);
    let longest = attempt
        .or(policy.total_timeout)?
        .saturating_add(shared_wait(policy))
        .saturating_add(own_wait.unwrap_or_default());
    let rule = format!(
        "> {}, the longest time of an attempt with its waits",
        written(longest)
    );
    let fields = ["per_key.idle_after", "attempt_timeout"];
    let idle = per_key.idle_after;
    require(idle > longest, fields, rule, idle)
}

/// Returns an error for each part whose state is that of all keys, beside breakers that keep the keys apart.
///
/// No thresholds of a shared breaker would help: the calls of one key that already run could open it, or its probes, or
/// its slow calls.
fn shared_beside_breakers<'p>(
    policy: &'p Policy,
    per_key: &'p PerKeyPolicy,
) -> impl Iterator<Item = ConfigError> + 'p {
    let is_learnt = |delay: &HedgeDelay| matches!(delay, HedgeDelay::Quantile(_));
    let shared = [
        (
            policy.circuit_breaker.is_some(),
            "circuit_breaker",
            "must be off beside per_key.circuit_breaker, because the failures of one key would open it for all keys; \
             set circuit_breaker: off",
        ),
        (
            policy.throttle.is_some(),
            "throttle",
            "must be off beside per_key.circuit_breaker, because the service rejecting one key would throttle all keys; \
             set throttle: off",
        ),
        (
            policy
                .hedge
                .as_ref()
                .is_some_and(|hedge| is_learnt(&hedge.delay)),
            "hedge.delay",
            "must be a duration beside per_key.circuit_breaker, because slow calls of one key would lengthen a learnt \
             delay for all keys",
        ),
    ];
    let are_apart = per_key.circuit_breaker.is_some();
    let found = shared
        .into_iter()
        .filter(move |(is_on, ..)| are_apart && *is_on);
    found.map(|(_, field, message)| {
        ConfigError::new(field, message).compared_with("per_key.circuit_breaker")
    })
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{
        breaker::{BreakerConfig, Window},
        concurrency::{ConcurrencyConfig, adaptive::AdaptiveConfig},
        hedge::Quantile,
        throttle::ThrottleConfig,
    };

    use super::{
        super::tests::{VALID, errors_after, hedge, ms},
        *,
    };

    /// Returns the errors of a policy with these parts per key, whose own limit is 10, and whose own breaker is
    /// off.
    fn errors_per_key(per_key: PerKeyPolicy) -> Vec<String> {
        errors_after(|policy| {
            policy.total_timeout = Some(ms(4_000));
            policy.concurrency = Some(ConcurrencyConfig::new().max(10));
            (policy.circuit_breaker, policy.per_key) = (None, Some(per_key));
        })
    }

    #[test]
    fn key_19_a_limit_of_a_key_leaves_permits_to_the_others() {
        let of = |max| {
            errors_per_key(PerKeyPolicy::new().concurrency(ConcurrencyConfig::new().max(max)))
        };
        assert_eq!(of(9), VALID);
        let error = "per_key.concurrency.max: must be < concurrency.max of the policy (10), got 10";
        assert_eq!(of(10), [error]);
        let wait = ConcurrencyConfig::new().max(9).queue(1).max_wait(ms(4_001));
        let error = "per_key.concurrency.max_wait: must be <= total_timeout (4s), got 4s 1ms";
        assert_eq!(
            errors_per_key(PerKeyPolicy::new().concurrency(wait)),
            [error]
        );
    }

    /// An adaptive limit has other values than `max`, which is 100 in each config here.
    #[test]
    fn key_19_an_adaptive_limit_of_a_key_leaves_permits_to_the_others() {
        let adaptive = |min, max| {
            let adaptive = AdaptiveConfig::new().min(min).initial(min).max(max);
            ConcurrencyConfig::new().adaptive(adaptive)
        };
        let of = |all: ConcurrencyConfig, of_key: ConcurrencyConfig| {
            errors_after(|policy| {
                policy.concurrency = Some(all);
                policy.per_key = Some(PerKeyPolicy::new().concurrency(of_key));
            })
        };
        let fixed = ConcurrencyConfig::new;
        assert_eq!(of(adaptive(10, 20), fixed().max(9)), VALID);
        let error = "per_key.concurrency.max: must be < concurrency.adaptive.min of the policy (10), got 10";
        assert_eq!(of(adaptive(10, 20), fixed().max(10)), [error]);
        assert_eq!(of(fixed().max(10), adaptive(1, 9)), VALID);
        let error = "per_key.concurrency.adaptive.max: must be < concurrency.max of the policy (10), got 10";
        assert_eq!(of(fixed().max(10), adaptive(1, 10)), [error]);
        assert_eq!(of(adaptive(101, 200), adaptive(1, 100)), VALID);
        let error = "per_key.concurrency.adaptive.max: must be < concurrency.adaptive.min of the policy (100), got 100";
        assert_eq!(of(adaptive(100, 200), adaptive(1, 100)), [error]);
    }

    #[test]
    fn key_19_a_breaker_of_a_key_has_no_breaker_of_all_keys_below() {
        let breaker = BreakerConfig::new;
        let of_key = PerKeyPolicy::new().circuit_breaker(breaker());
        assert_eq!(errors_per_key(of_key.clone()), VALID);
        let error = "circuit_breaker: must be off beside per_key.circuit_breaker, because the failures of one key would \
                     open it for all keys; set circuit_breaker: off";
        for all in [breaker(), breaker().consecutive_failures(None)] {
            let both = |policy: &mut Policy| {
                policy.circuit_breaker = Some(all);
                policy.per_key = Some(of_key.clone());
            };
            assert_eq!(errors_after(both), [error]);
        }
        let limit = ConcurrencyConfig::new().max(9);
        let only_limit = |policy: &mut Policy| {
            policy.per_key = Some(PerKeyPolicy::new().concurrency(limit));
        };
        assert_eq!(errors_after(only_limit), VALID, "the default breaker");
        let short = breaker().window(Window::Time(ms(3_999)));
        let error =
            "per_key.circuit_breaker.window: must be >= twice attempt_timeout (2s), got 3s 999ms";
        let short = PerKeyPolicy::new().circuit_breaker(short);
        assert_eq!(errors_per_key(short.clone()), [error]);
        let queued = |policy: &mut Policy| {
            let queue = ConcurrencyConfig::new().queue(1).max_wait(ms(500));
            (policy.circuit_breaker, policy.concurrency) = (None, Some(queue));
            policy.per_key = Some(short);
        };
        let error = "per_key.circuit_breaker.window: must be >= twice attempt_timeout and concurrency.max_wait (2s 500ms), got 3s 999ms";
        assert_eq!(errors_after(queued), [error]);
    }

    #[test]
    fn key_19_nothing_that_a_key_could_change_for_all_is_beside_its_breaker() {
        let of_key = || PerKeyPolicy::new().circuit_breaker(BreakerConfig::new());
        let after = |edit: &dyn Fn(&mut Policy)| {
            errors_after(|policy| {
                (policy.circuit_breaker, policy.per_key) = (None, Some(of_key()));
                edit(policy);
            })
        };
        assert_eq!(after(&|_| {}), VALID);
        let throttled = after(&|policy| policy.throttle = Some(ThrottleConfig::new()));
        assert!(throttled[0].starts_with("throttle: must be off beside per_key.circuit_breaker"));
        let learnt = || HedgeDelay::Quantile(Quantile::default());
        let hedged = after(&|policy| hedge(policy, learnt()));
        assert!(hedged[0].starts_with("hedge.delay: must be a duration beside per_key"));
        assert_eq!(
            after(&|policy| hedge(policy, HedgeDelay::Fixed(ms(10)))),
            VALID
        );
        let limit = PerKeyPolicy::new().concurrency(ConcurrencyConfig::new().max(9));
        let with_limit = after(&|policy| {
            policy.per_key = Some(limit.clone());
            policy.throttle = Some(ThrottleConfig::new());
            hedge(policy, learnt());
        });
        assert_eq!(with_limit, VALID);
    }

    #[test]
    fn key_19_a_key_is_not_idle_while_a_call_takes_its_time() {
        let idle = |idle| {
            errors_after(|policy| {
                policy.attempt_timeout = Some(ms(2_000));
                let limit = ConcurrencyConfig::new().max(9);
                policy.per_key = Some(PerKeyPolicy::new().concurrency(limit).idle_after(ms(idle)));
            })
        };
        assert_eq!(idle(2_001), VALID);
        let error = "per_key.idle_after: must be > 2s, the longest time of an attempt with its waits, got 2s";
        assert_eq!(idle(2_000), [error]);
    }

    #[test]
    fn key_19_a_policy_per_key_has_a_part() {
        let error = "per_key.concurrency: expected \"concurrency\" or \"circuit_breaker\", or both, got neither";
        assert_eq!(errors_per_key(PerKeyPolicy::new()), [error]);
        let limit = ConcurrencyConfig::new().max(1);
        let error = "per_key.max_keys: must be within 1 to 10000000, got 0";
        let per_key = PerKeyPolicy::new().concurrency(limit).max_keys(0);
        assert_eq!(errors_per_key(per_key), [error]);
    }
}

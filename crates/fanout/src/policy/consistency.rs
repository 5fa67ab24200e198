//! Checks the parts of a policy against each other.

mod per_key;

use std::time::Duration;

use tower_fanout_layers::{
    ConfigError,
    breaker::{BreakerConfig, Window},
    concurrency::ConcurrencyConfig,
    config::duration::written,
    hedge::{HedgeDelay, Quantile},
};

use super::{Policy, longest_wait, worst_pauses};
use crate::time_budget::MIN_USEFUL;

/// Returns the errors of parts of `policy` that contradict each other.
pub(super) fn errors(policy: &Policy) -> Vec<ConfigError> {
    let rules = [
        attempt_within_total,
        total_allows_an_attempt,
        pauses_within_total,
        wait_within_total,
        window_of_two_attempts,
        retry_or_hedge,
        hedge_within_attempt,
    ];
    let own = rules.into_iter().filter_map(|rule| rule(policy));
    let per_key = policy.per_key.iter();
    own.chain(per_key.flat_map(|per_key| per_key::errors(policy, per_key)))
        .collect()
}

/// Returns an error of `field`, whose value `got` does not fit that of `other`, unless `is_valid`.
fn require(
    is_valid: bool,
    [field, other]: [&'static str; 2],
    rule: String,
    got: Duration,
) -> Option<ConfigError> {
    let message = format!("must be {rule}, got {}", written(got));
    (!is_valid).then(|| ConfigError::new(field, message).compared_with(other))
}

fn attempt_within_total(policy: &Policy) -> Option<ConfigError> {
    let (attempt, total) = (policy.attempt_timeout?, policy.total_timeout?);
    let rule = format!("<= total_timeout ({})", written(total));
    let fields = ["attempt_timeout", "total_timeout"];
    require(attempt <= total, fields, rule, attempt)
}

/// Without an attempt timeout, an attempt is sent only if at least `MIN_USEFUL` is left.
fn total_allows_an_attempt(policy: &Policy) -> Option<ConfigError> {
    let total = policy.total_timeout?;
    let is_valid = policy.attempt_timeout.is_some() || total >= MIN_USEFUL;
    let rule = format!(">= {} if attempt_timeout is off", written(MIN_USEFUL));
    require(is_valid, ["total_timeout", "attempt_timeout"], rule, total)
}

/// A call whose pauses fill the total timeout has no time for a further attempt.
fn pauses_within_total(policy: &Policy) -> Option<ConfigError> {
    let (retry, total) = (policy.retry.as_ref()?, policy.total_timeout?);
    let pauses = worst_pauses(retry, retry.max_attempts.saturating_sub(1).into());
    (pauses >= total).then(|| {
        let (pauses, total) = (written(pauses), written(total));
        let message = format!(
            "the pauses between attempts must be < total_timeout ({total}) together, got {pauses}; lower base or \
             max_attempts, or raise total_timeout"
        );
        ConfigError::new("retry", message).compared_with("total_timeout")
    })
}

fn wait_within_total(policy: &Policy) -> Option<ConfigError> {
    wait_within(policy, policy.concurrency.as_ref()?, "concurrency.max_wait")
}

fn wait_within(
    policy: &Policy,
    limit: &ConcurrencyConfig,
    field: &'static str,
) -> Option<ConfigError> {
    let (wait, total) = (longest_wait(limit), policy.total_timeout?);
    let rule = format!("<= total_timeout ({})", written(total));
    require(wait <= total, [field, "total_timeout"], rule, wait)
}

fn window_of_two_attempts(policy: &Policy) -> Option<ConfigError> {
    let breaker = policy.circuit_breaker.as_ref()?;
    window_of(policy, breaker, "circuit_breaker.window", Duration::ZERO)
}

/// A shorter window forgets each timed-out call before the next one times out, so it never has
/// enough calls. A call waits up to `wait` below the breaker.
fn window_of(
    policy: &Policy,
    breaker: &BreakerConfig,
    field: &'static str,
    wait: Duration,
) -> Option<ConfigError> {
    let longest = policy.attempt_timeout?.saturating_add(wait);
    let Window::Time(window) = breaker.window else {
        return None;
    };
    let name = if wait.is_zero() {
        "attempt_timeout"
    } else {
        "attempt_timeout and concurrency.max_wait"
    };
    let is_valid = window >= longest.saturating_mul(2);
    let rule = format!(">= twice {name} ({})", written(longest));
    require(is_valid, [field, "attempt_timeout"], rule, window)
}

/// Together they would multiply the attempts, and each would use a budget of its own.
fn retry_or_hedge(policy: &Policy) -> Option<ConfigError> {
    let (retry, hedge) = (policy.retry.as_ref()?, policy.hedge.as_ref()?);
    let message = format!(
        "cannot be combined with retry, because max_hedges {} and max_attempts {} would multiply; \
         set retry: off",
        hedge.max_hedges, retry.max_attempts
    );
    Some(ConfigError::new("hedge", message).compared_with("retry"))
}

/// An attempt that times out is followed by a hedge anyway, so a longer delay has no effect.
/// Without an explicit cap, the cap of a learnt delay is the attempt timeout.
fn hedge_within_attempt(policy: &Policy) -> Option<ConfigError> {
    let (hedge, attempt) = (policy.hedge.as_ref()?, policy.attempt_timeout?);
    let (field, delay) = match &hedge.delay {
        HedgeDelay::Fixed(delay) => ("hedge.delay", *delay),
        HedgeDelay::Quantile(Quantile { cap: Some(cap), .. }) => ("hedge.delay.cap", *cap),
        HedgeDelay::Quantile(quantile) => ("hedge.delay.floor", quantile.floor),
        _ => return None,
    };
    let rule = format!("< attempt_timeout ({})", written(attempt));
    require(delay < attempt, [field, "attempt_timeout"], rule, delay)
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{config::Validate, hedge::HedgeConfig};

    use super::*;

    pub(super) fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Returns the errors of the default policy after `edit`.
    pub(super) fn errors_after(edit: impl FnOnce(&mut Policy)) -> Vec<String> {
        let mut policy = Policy::default();
        edit(&mut policy);
        policy.errors().iter().map(ToString::to_string).collect()
    }

    pub(super) fn hedge(policy: &mut Policy, delay: HedgeDelay) {
        let mut hedge = HedgeConfig::default();
        hedge.delay = delay;
        (policy.retry, policy.hedge) = (None, Some(hedge));
    }

    /// Returns the errors of a policy with attempts of 50 ms and a learnt delay, after `edit`.
    fn errors_if_learnt(edit: impl FnOnce(&mut Quantile)) -> Vec<String> {
        let mut quantile = Quantile::default();
        edit(&mut quantile);
        errors_after(|policy| {
            policy.attempt_timeout = Some(ms(50));
            hedge(policy, HedgeDelay::Quantile(quantile));
        })
    }

    pub(super) const VALID: [&str; 0] = [];

    #[test]
    fn the_default_policy_is_valid() {
        assert_eq!(errors_after(|_| {}), VALID);
    }

    #[test]
    fn attempt_timeout_is_within_total_timeout() {
        let of = |attempt, total| {
            errors_after(|policy| {
                policy.attempt_timeout = Some(ms(attempt));
                policy.total_timeout = Some(ms(total));
            })
        };
        assert_eq!(of(800, 800), VALID);
        let error = "attempt_timeout: must be <= total_timeout (800ms), got 801ms";
        assert_eq!(of(801, 800), [error]);
    }

    #[test]
    fn timeouts_leave_time_for_an_attempt() {
        let attempt = |attempt| errors_after(|policy| policy.attempt_timeout = Some(attempt));
        assert_eq!(attempt(ms(1)), VALID);
        let error = "attempt_timeout: must be >= 1ms, got 999us";
        assert_eq!(attempt(Duration::from_micros(999)), [error]);
        assert_eq!(attempt(ms(0)), ["attempt_timeout: must be >= 1ms, got 0s"]);
        let none = |policy: &mut Policy| policy.total_timeout = Some(ms(0));
        assert_eq!(
            errors_after(none),
            ["total_timeout: must be >= 1ms, got 0s"],
            "nothing is compared with it"
        );

        let total = |attempt, total| {
            errors_after(|policy| {
                (policy.attempt_timeout, policy.retry) = (attempt, None);
                policy.total_timeout = Some(ms(total));
            })
        };
        assert_eq!(total(None, 10), VALID);
        assert_eq!(
            total(Some(ms(1)), 1),
            VALID,
            "the attempt has all of its time"
        );
        let error = "total_timeout: must be >= 10ms if attempt_timeout is off, got 9ms";
        assert_eq!(total(None, 9), [error]);
    }

    #[test]
    fn pauses_are_shorter_than_total_timeout() {
        let of = |total| {
            errors_after(|policy| {
                policy.attempt_timeout = Some(ms(100));
                policy.total_timeout = Some(ms(total));
            })
        };
        assert_eq!(of(151), VALID);
        let error = "retry: the pauses between attempts must be < total_timeout (150ms) together, got 150ms; lower base or \
                     max_attempts, or raise total_timeout";
        assert_eq!(of(150), [error]);
    }

    #[test]
    fn max_wait_is_within_total_timeout() {
        let of = |queue, wait| {
            errors_after(|policy| {
                policy.attempt_timeout = Some(ms(100));
                policy.total_timeout = Some(ms(200));
                let limit = policy.concurrency.as_mut().unwrap();
                (limit.queue, limit.max_wait) = (queue, ms(wait));
            })
        };
        assert_eq!(of(1, 200), VALID);
        let error = "concurrency.max_wait: must be <= total_timeout (200ms), got 201ms";
        assert_eq!(of(1, 201), [error]);
        assert_eq!(of(0, 201), VALID, "no queue");
    }

    #[test]
    fn a_breaker_window_holds_two_attempts() {
        let of = |window| {
            errors_after(|policy| {
                policy.attempt_timeout = Some(ms(2000));
                policy.circuit_breaker.as_mut().unwrap().window = window;
            })
        };
        assert_eq!(of(Window::Time(ms(4000))), VALID);
        assert_eq!(of(Window::Count(1)), VALID, "a window of calls");
        let error = "circuit_breaker.window: must be >= twice attempt_timeout (2s), got 3s 999ms";
        assert_eq!(of(Window::Time(ms(3999))), [error]);
    }

    #[test]
    fn a_breaker_needs_at_least_one_probe() {
        let error = "circuit_breaker.half_open_probes: must be >= 1, got 0";
        let probes = |policy: &mut Policy| {
            policy.circuit_breaker.as_mut().unwrap().half_open_probes = 0;
        };
        assert_eq!(errors_after(probes), [error]);
    }

    #[test]
    fn hedge_and_retry_exclude_each_other() {
        let retry = Policy::default().retry;
        let both = |policy: &mut Policy| {
            hedge(policy, HedgeDelay::Never);
            policy.retry = retry;
        };
        let error = "hedge: cannot be combined with retry, because max_hedges 1 and max_attempts 3 would multiply; \
             set retry: off";
        assert_eq!(errors_after(both), [error]);
        assert_eq!(
            errors_after(|policy| hedge(policy, HedgeDelay::Never)),
            VALID
        );
    }

    #[test]
    fn a_fixed_delay_is_less_than_attempt_timeout() {
        let of = |delay| {
            errors_after(|policy| {
                policy.attempt_timeout = Some(ms(50));
                hedge(policy, HedgeDelay::Fixed(ms(delay)));
            })
        };
        assert_eq!(of(49), VALID);
        let error = "hedge.delay: must be < attempt_timeout (50ms), got 50ms";
        assert_eq!(of(50), [error]);
    }

    #[test]
    fn a_learnt_delay_is_less_than_attempt_timeout() {
        assert_eq!(errors_if_learnt(|_| {}), VALID);
        assert_eq!(
            errors_if_learnt(|quantile| quantile.cap = Some(ms(49))),
            VALID
        );
        let error = "hedge.delay.cap: must be < attempt_timeout (50ms), got 50ms";
        assert_eq!(
            errors_if_learnt(|quantile| quantile.cap = Some(ms(50))),
            [error]
        );
        let error = "hedge.delay.floor: must be < attempt_timeout (50ms), got 60ms";
        assert_eq!(
            errors_if_learnt(|quantile| quantile.floor = ms(60)),
            [error]
        );
    }
}

//! What the parts of a policy must not say of each other.

use std::time::Duration;

use tower_fanout_layers::{
    ConfigError,
    breaker::Window,
    config::duration::written,
    hedge::{HedgeDelay, Quantile},
};

use super::{Policy, worst_pauses};
use crate::time_budget::MIN_USEFUL;

/// Returns the errors of parts of `policy` that contradict each other.
pub(super) fn errors(policy: &Policy) -> Vec<ConfigError> {
    let rules = [
        attempt_within_total,
        total_of_use,
        pauses_within_total,
        wait_within_total,
        window_of_two_attempts,
        retry_or_hedge,
        hedge_within_attempt,
    ];
    rules.into_iter().filter_map(|rule| rule(policy)).collect()
}

fn attempt_within_total(policy: &Policy) -> Option<ConfigError> {
    let (attempt, total) = (policy.attempt_timeout?, policy.total_timeout?);
    (attempt > total).then(|| {
        let (attempt, total) = (written(attempt), written(total));
        let message = format!("attempt_timeout {attempt} is more than total_timeout {total}");
        ConfigError::new("attempt_timeout", message)
    })
}

/// An attempt that may take any time is not sent with less.
fn total_of_use(policy: &Policy) -> Option<ConfigError> {
    let total = policy.total_timeout?;
    (policy.attempt_timeout.is_none() && total < MIN_USEFUL).then(|| {
        let (total, least) = (written(total), written(MIN_USEFUL));
        let message = format!("{total} is less than {least}, and no attempt_timeout is shorter");
        ConfigError::new("total_timeout", message)
    })
}

/// A call that only pauses has no time for an attempt.
fn pauses_within_total(policy: &Policy) -> Option<ConfigError> {
    let (retry, total) = (policy.retry.as_ref()?, policy.total_timeout?);
    let pauses = worst_pauses(retry, retry.max_attempts.saturating_sub(1).into());
    (pauses >= total).then(|| {
        let (pauses, total) = (written(pauses), written(total));
        let message = format!(
            "the longest pauses together, {pauses}, are not less than total_timeout {total}"
        );
        ConfigError::new("retry", message)
    })
}

/// Where nobody waits, it does not matter for how long.
fn wait_within_total(policy: &Policy) -> Option<ConfigError> {
    let limit = policy
        .concurrency
        .as_ref()
        .filter(|limit| limit.queue > 0)?;
    let (wait, total) = (limit.max_wait, policy.total_timeout?);
    (wait > total).then(|| {
        let (wait, total) = (written(wait), written(total));
        let message = format!("max_wait {wait} is more than total_timeout {total}");
        ConfigError::new("concurrency.max_wait", message)
    })
}

/// A window that forgets a call before the next one has timed out never has enough of them.
fn window_of_two_attempts(policy: &Policy) -> Option<ConfigError> {
    let (breaker, attempt) = (policy.circuit_breaker.as_ref()?, policy.attempt_timeout?);
    let Window::Time(window) = breaker.window else {
        return None;
    };
    (window < attempt.saturating_mul(2)).then(|| {
        let (window, attempt) = (written(window), written(attempt));
        let message = format!("window {window} is less than twice attempt_timeout {attempt}");
        ConfigError::new("circuit_breaker.window", message)
    })
}

/// Both would multiply the attempts, and each would pay from a budget of its own.
fn retry_or_hedge(policy: &Policy) -> Option<ConfigError> {
    let (retry, hedge) = (policy.retry.as_ref()?, policy.hedge.as_ref()?);
    let message = format!(
        "max_hedges {} and the max_attempts {} of retry would multiply: say `retry: off`",
        hedge.max_hedges, retry.max_attempts
    );
    Some(ConfigError::new("hedge", message))
}

/// An attempt that timed out is followed by a hedge anyway. The longest delay of a learnt one is the
/// attempt timeout, unless it says another.
fn hedge_within_attempt(policy: &Policy) -> Option<ConfigError> {
    let (hedge, attempt) = (policy.hedge.as_ref()?, policy.attempt_timeout?);
    let (field, name, delay): (_, _, Duration) = match &hedge.delay {
        HedgeDelay::Fixed(delay) => ("hedge.delay", "delay", *delay),
        HedgeDelay::Quantile(Quantile { cap: Some(cap), .. }) => ("hedge.delay.cap", "cap", *cap),
        HedgeDelay::Quantile(quantile) => ("hedge.delay.floor", "floor", quantile.floor),
        _ => return None,
    };
    (delay >= attempt).then(|| {
        let (delay, attempt) = (written(delay), written(attempt));
        let message = format!("{name} {delay} is not less than attempt_timeout {attempt}");
        ConfigError::new(field, message)
    })
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{config::Validate, hedge::HedgeConfig};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What is wrong with the default policy, changed by `edit`.
    fn wrong(edit: impl FnOnce(&mut Policy)) -> Vec<String> {
        let mut policy = Policy::default();
        edit(&mut policy);
        policy.errors().iter().map(ToString::to_string).collect()
    }

    fn hedge(policy: &mut Policy, delay: HedgeDelay) {
        let mut hedge = HedgeConfig::default();
        hedge.delay = delay;
        (policy.retry, policy.hedge) = (None, Some(hedge));
    }

    /// What is wrong with a policy whose attempts time out after 50 ms, and whose delay is learnt.
    fn wrong_if_learnt(edit: impl FnOnce(&mut Quantile)) -> Vec<String> {
        let mut quantile = Quantile::default();
        edit(&mut quantile);
        wrong(|policy| {
            policy.attempt_timeout = Some(ms(50));
            hedge(policy, HedgeDelay::Quantile(quantile));
        })
    }

    const FINE: [&str; 0] = [];

    #[test]
    fn the_default_policy_is_valid() {
        assert_eq!(wrong(|_| {}), FINE);
    }

    #[test]
    fn an_attempt_takes_no_longer_than_all_of_them() {
        let of = |attempt, total| {
            wrong(|policy| {
                policy.attempt_timeout = Some(ms(attempt));
                policy.total_timeout = Some(ms(total));
            })
        };
        assert_eq!(of(800, 800), FINE);
        let told = "attempt_timeout: attempt_timeout 801ms is more than total_timeout 800ms";
        assert_eq!(of(801, 800), [told]);
    }

    #[test]
    fn there_is_time_for_an_attempt() {
        let attempt = |attempt| wrong(|policy| policy.attempt_timeout = Some(attempt));
        assert_eq!(attempt(ms(1)), FINE);
        let told = "attempt_timeout: 999us is less than 1ms";
        assert_eq!(attempt(Duration::from_micros(999)), [told]);
        assert_eq!(attempt(ms(0)), ["attempt_timeout: 0s is less than 1ms"]);

        let total = |attempt, total| {
            wrong(|policy| {
                (policy.attempt_timeout, policy.retry) = (attempt, None);
                policy.total_timeout = Some(ms(total));
            })
        };
        assert_eq!(total(None, 10), FINE);
        assert_eq!(total(Some(ms(1)), 1), FINE, "it has all of its time");
        let told = "total_timeout: 9ms is less than 10ms, and no attempt_timeout is shorter";
        assert_eq!(total(None, 9), [told]);
    }

    #[test]
    fn the_pauses_leave_time_for_an_attempt() {
        let of = |total| {
            wrong(|policy| {
                policy.attempt_timeout = Some(ms(100));
                policy.total_timeout = Some(ms(total));
            })
        };
        assert_eq!(of(151), FINE);
        let told =
            "retry: the longest pauses together, 150ms, are not less than total_timeout 150ms";
        assert_eq!(of(150), [told]);
    }

    #[test]
    fn the_wait_for_a_turn_is_no_longer_than_the_call() {
        let of = |queue, wait| {
            wrong(|policy| {
                policy.attempt_timeout = Some(ms(100));
                policy.total_timeout = Some(ms(200));
                let limit = policy.concurrency.as_mut().unwrap();
                (limit.queue, limit.max_wait) = (queue, ms(wait));
            })
        };
        assert_eq!(of(1, 200), FINE);
        let told = "concurrency.max_wait: max_wait 201ms is more than total_timeout 200ms";
        assert_eq!(of(1, 201), [told]);
        assert_eq!(of(0, 201), FINE, "nobody waits");
    }

    #[test]
    fn the_window_of_the_breaker_has_room_for_two_attempts() {
        let of = |window| {
            wrong(|policy| {
                policy.attempt_timeout = Some(ms(2000));
                policy.circuit_breaker.as_mut().unwrap().window = window;
            })
        };
        assert_eq!(of(Window::Time(ms(4000))), FINE);
        assert_eq!(of(Window::Count(1)), FINE, "it has no time");
        let told = "circuit_breaker.window: window 3s 999ms is less than twice attempt_timeout 2s";
        assert_eq!(of(Window::Time(ms(3999))), [told]);
    }

    #[test]
    fn there_is_a_probe_at_least() {
        let told = "circuit_breaker.half_open_probes: 0 is less than 1";
        let probes = |policy: &mut Policy| {
            policy.circuit_breaker.as_mut().unwrap().half_open_probes = 0;
        };
        assert_eq!(wrong(probes), [told]);
    }

    #[test]
    fn who_hedges_does_not_retry() {
        let retry = Policy::default().retry;
        let both = |policy: &mut Policy| {
            hedge(policy, HedgeDelay::Never);
            policy.retry = retry;
        };
        let told =
            "hedge: max_hedges 1 and the max_attempts 3 of retry would multiply: say `retry: off`";
        assert_eq!(wrong(both), [told]);
        assert_eq!(wrong(|policy| hedge(policy, HedgeDelay::Never)), FINE);
    }

    #[test]
    fn a_fixed_delay_is_less_than_an_attempt() {
        let of = |delay| {
            wrong(|policy| {
                policy.attempt_timeout = Some(ms(50));
                hedge(policy, HedgeDelay::Fixed(ms(delay)));
            })
        };
        assert_eq!(of(49), FINE);
        let told = "hedge.delay: delay 50ms is not less than attempt_timeout 50ms";
        assert_eq!(of(50), [told]);
    }

    #[test]
    fn a_learnt_delay_is_less_than_an_attempt() {
        assert_eq!(wrong_if_learnt(|_| {}), FINE);
        assert_eq!(
            wrong_if_learnt(|quantile| quantile.cap = Some(ms(49))),
            FINE
        );
        let told = "hedge.delay.cap: cap 50ms is not less than attempt_timeout 50ms";
        assert_eq!(
            wrong_if_learnt(|quantile| quantile.cap = Some(ms(50))),
            [told]
        );
        let told = "hedge.delay.floor: floor 60ms is not less than attempt_timeout 50ms";
        assert_eq!(wrong_if_learnt(|quantile| quantile.floor = ms(60)), [told]);
    }
}

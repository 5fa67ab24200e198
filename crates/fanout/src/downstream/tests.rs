//! Tests of the layers that a policy makes.

use std::time::Duration;

use tower_fanout_layers::{
    BreakerConfig, ClassifyResult,
    concurrency::{ConcurrencyConfig, adaptive::AdaptiveConfig},
    hedge::{HedgeConfig, HedgeDelay, Quantile},
    throttle::ThrottleConfig,
};

use super::{
    parts::{breaker_config, hedge_config},
    *,
};
use crate::policy::PerKeyPolicy;

/// Returns the cap of the learnt delay of a policy with attempts of at most 100 ms.
fn delay_cap(cap: Option<Duration>) -> Option<Duration> {
    let delay = HedgeDelay::Quantile(Quantile::new().cap(cap));
    let policy = Policy::new()
        .retry(None)
        .hedge(HedgeConfig::new().delay(delay))
        .attempt_timeout(Duration::from_millis(100));
    policy.validate().unwrap();
    match &hedge_config(&policy).unwrap().delay {
        HedgeDelay::Quantile(quantile) => quantile.cap,
        delay => panic!("{delay:?} is not learnt"),
    }
}

/// Configs derived from a valid policy are valid, from the shortest to the longest attempt
/// timeout.
#[test]
fn every_part_of_a_valid_policy_is_built() {
    let adaptive = ConcurrencyConfig::default().adaptive(AdaptiveConfig::default());
    let all = AdaptiveConfig::default().max(1_000).initial(201).min(201);
    let floor = |floor| HedgeDelay::Quantile(Quantile::default().floor(floor));
    let (short, long) = (Duration::from_millis(1), Duration::MAX / 4);
    for (attempt, delay) in [
        (short, floor(short - Duration::from_nanos(1))),
        (short, HedgeDelay::Fixed(Duration::ZERO)),
        (long, floor(Duration::ZERO)),
    ] {
        let policy = Policy::new()
            .attempt_timeout(attempt)
            .retry(None)
            .hedge(HedgeConfig::new().delay(delay))
            .throttle(ThrottleConfig::new())
            .concurrency(ConcurrencyConfig::default().adaptive(all.clone()))
            .circuit_breaker(BreakerConfig::new().window(breaker::Window::Count(10)));
        let downstream = Downstream::new("users", policy.clone(), ClassifyResult).unwrap();
        assert!(matches!(downstream.attempts, Either::Right(_)));
        assert!(downstream.throttle().is_some() && downstream.concurrency().is_some());
        if attempt == long {
            continue; // No key is idle for as long.
        }
        let of_key = PerKeyPolicy::new()
            .concurrency(adaptive.clone())
            .circuit_breaker(policy.circuit_breaker.clone());
        let fixed = HedgeConfig::new().delay(HedgeDelay::Fixed(Duration::ZERO));
        let policy = policy
            .circuit_breaker(None)
            .throttle(None)
            .hedge(fixed)
            .per_key(of_key);
        let downstream = Downstream::with_optional_breaker("users", policy, ClassifyResult);
        let downstream = downstream.unwrap();
        assert!(downstream.breaker_per_key().is_some());
        assert!(downstream.concurrency_per_key().is_some());
    }
}

#[test]
fn only_an_optional_breaker_can_be_off() {
    let off = Policy::new().circuit_breaker(None);
    let error = Downstream::new("users", off.clone(), ClassifyResult).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Policy.circuit_breaker: must be on, got off; or use `Downstream::with_optional_breaker`"
    );
    for (policy, is_on) in [(off, false), (Policy::new(), true)] {
        let downstream =
            Downstream::with_optional_breaker("users", policy, ClassifyResult).unwrap();
        assert_eq!(downstream.breaker().is_some(), is_on);
    }
}

#[test]
fn the_attempt_timeout_caps_a_learnt_delay() {
    let ms = Duration::from_millis;
    assert_eq!(delay_cap(None), Some(ms(100)));
    assert_eq!(delay_cap(Some(ms(60))), Some(ms(60)));
}

/// The breaker of a key is above the queue of the downstream.
#[test]
fn key_21_the_times_of_a_breaker_are_longer_by_the_wait_below() {
    let seconds = Duration::from_secs;
    let times = |breaker: BreakerConfig, attempt: Option<Duration>, wait| {
        let policy = Policy::new().attempt_timeout(attempt);
        let config = breaker_config(&breaker, &policy, wait);
        (config.slow_call, config.unanswered, config.probe_lease)
    };
    let breaker = || BreakerConfig::new().probe_lease(seconds(5));
    let slow = || breaker().slow_call(seconds(2));
    for (breaker, attempt, expected) in [
        (breaker(), None, (None, None, 6)),
        (breaker(), Some(2), (None, Some(2), 6)),
        (breaker(), Some(4), (None, Some(3), 9)),
        (slow(), Some(4), (Some(3), Some(3), 9)),
        (slow().unanswered(seconds(7)), None, (Some(3), Some(8), 6)),
    ] {
        let (slow, unanswered, lease) = expected;
        let expected = (slow.map(seconds), unanswered.map(seconds), seconds(lease));
        assert_eq!(times(breaker, attempt.map(seconds), seconds(1)), expected);
    }
    let own = (Some(seconds(2)), Some(seconds(2)), seconds(8));
    assert_eq!(times(slow(), Some(seconds(4)), Duration::ZERO), own);
}

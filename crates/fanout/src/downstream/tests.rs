//! Tests of the layers that a policy makes.

use std::time::Duration;

use tower_fanout_layers::{
    BreakerConfig, ClassifyResult,
    concurrency::{ConcurrencyConfig, adaptive::AdaptiveConfig},
    hedge::{HedgeConfig, HedgeDelay, Quantile},
    throttle::ThrottleConfig,
};

use super::{parts::hedge_config, *};
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

/// `Downstream::layer` builds these types, with the layers in the order of their names.
#[test]
fn the_order_is_the_documented_one() {
    fn check<T>(order: &[&str]) {
        let name = std::any::type_name::<T>();
        let places = order.iter().map(|layer| name.find(&format!("::{layer}")));
        let places: Vec<_> = places.collect();
        assert!(places.iter().all(Option::is_some), "{name}");
        assert!(places.is_sorted(), "{name}");
    }
    check::<Stack<(), ClassifyResult>>(&["WithDeadline<", "Either<", "Retry<", "Attempt<"]);
    // The layer of a key follows the service in its type, so that of the inner `PerKey` comes first.
    let attempt = ["PerKey<", "Shared<", "BreakerLayer", "ConcurrencyLayer"];
    check::<AttemptStack<(), ClassifyResult>>(&attempt);
    let shared = ["Throttle<", "Concurrency<", "Breaker<", "Timeout<", "Sent<"];
    check::<SharedStack<(), ClassifyResult>>(&shared);
}

/// Configs derived from a valid policy are valid, from the shortest to the longest attempt
/// timeout.
#[test]
fn every_part_of_a_valid_policy_is_built() {
    let adaptive = ConcurrencyConfig::default().adaptive(AdaptiveConfig::default());
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
            .concurrency(adaptive.clone().max(1_000))
            .per_key(PerKeyPolicy::new().concurrency(adaptive.clone()))
            .circuit_breaker(BreakerConfig::new().window(breaker::Window::Count(10)));
        let downstream = Downstream::new("users", policy, ClassifyResult).unwrap();
        assert!(matches!(downstream.attempts, Either::Right(_)));
        assert!(downstream.throttle().is_some() && downstream.concurrency().is_some());
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

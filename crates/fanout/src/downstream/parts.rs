//! The layers of the parts of a policy.

use std::time::Duration;

use tower::util::Either;
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ConcurrencyConfig, ConcurrencyLayer, ConfigError, HedgeConfig,
    HedgeLayer, PerKeyLayer, RetryConfig, RetryLayer, breaker, hedge::HedgeDelay,
};

use super::PerCallKey;
use crate::policy::{Policy, shared_wait};

/// Creates the layer for retries or hedges, which checks `breaker` before each further attempt. If
/// the policy turns both off, the result is a retry layer with one attempt, which still counts the
/// attempt and marks it as the last.
pub(super) fn attempts<C>(
    policy: &Policy,
    classify: C,
    breaker: Option<breaker::Handle>,
) -> Result<Either<RetryLayer<C>, HedgeLayer<C>>, ConfigError> {
    if let Some(config) = hedge_config(policy) {
        let hedge = HedgeLayer::new(config, classify)?;
        return Ok(Either::Right(hedge.breaker(breaker)));
    }
    let once = || RetryConfig::new().max_attempts(1);
    let config = policy.retry.clone().unwrap_or_else(once);
    let retry = RetryLayer::new(config, classify)?;
    Ok(Either::Left(retry.breaker(breaker)))
}

/// Returns the hedge config. The cap of a learnt delay defaults to the attempt timeout.
pub(super) fn hedge_config(policy: &Policy) -> Option<HedgeConfig> {
    let mut config = policy.hedge.clone()?;
    if let HedgeDelay::Quantile(quantile) = &mut config.delay {
        quantile.cap = quantile.cap.or(policy.attempt_timeout);
    }
    Some(config)
}

/// Creates the circuit breaker.
pub(super) fn breaker<C>(
    name: &str,
    policy: &Policy,
    classify: C,
) -> Result<Option<BreakerLayer<C>>, ConfigError> {
    let config = policy.circuit_breaker.as_ref();
    let config = config.map(|config| breaker_config(config, policy, Duration::ZERO));
    config
        .map(|config| BreakerLayer::new(name, config, classify))
        .transpose()
}

/// Creates the circuit breakers of the keys.
pub(super) fn breaker_per_key<C>(
    name: &str,
    policy: &Policy,
    classify: C,
) -> Result<Option<PerCallKey<BreakerLayer<C>>>, ConfigError> {
    let Some(per_key) = &policy.per_key else {
        return Ok(None);
    };
    let Some(config) = &per_key.circuit_breaker else {
        return Ok(None);
    };
    let config = breaker_config(config, policy, shared_wait(policy));
    let breaker = BreakerLayer::new(name, config, classify)?;
    PerKeyLayer::by_call(per_key.keys(), breaker).map(Some)
}

/// Creates the concurrency limit, without a breaker.
pub(super) fn concurrency<C>(
    policy: &Policy,
    classify: C,
) -> Result<Option<ConcurrencyLayer<C>>, ConfigError> {
    let config = policy.concurrency.as_ref();
    let below = policy.circuit_breaker.as_ref();
    let limit = |config| limit_of(config, below, (policy, Duration::ZERO), classify);
    config.map(limit).transpose()
}

/// Creates the concurrency limits of the keys.
pub(super) fn concurrency_per_key<C>(
    policy: &Policy,
    classify: C,
) -> Result<Option<PerCallKey<ConcurrencyLayer<C>>>, ConfigError> {
    let Some(per_key) = &policy.per_key else {
        return Ok(None);
    };
    let Some(config) = &per_key.concurrency else {
        return Ok(None);
    };
    let below = per_key.circuit_breaker.as_ref();
    let limit = limit_of(config, below, (policy, shared_wait(policy)), classify)?;
    PerKeyLayer::by_call(per_key.keys(), limit).map(Some)
}

/// Returns `config` with the defaults that depend on the attempt timeout. A probe may take twice that time. By
/// default, a call that is cut after half of it counts as slow. A call waits up to `wait` below the breaker, because of
/// other calls: the times after which a call is slow are longer by that.
pub(super) fn breaker_config(
    config: &BreakerConfig,
    policy: &Policy,
    wait: Duration,
) -> BreakerConfig {
    let mut config = config.clone();
    for time in [&mut config.slow_call, &mut config.unanswered] {
        *time = time.map(|time| time.saturating_add(wait));
    }
    let probe = policy.attempt_timeout.unwrap_or_default().saturating_mul(2);
    config.probe_lease = config.probe_lease.max(probe).saturating_add(wait);
    if let Some(attempt) = policy.attempt_timeout {
        let half = (attempt / 2).saturating_add(wait);
        config.unanswered = config.unanswered.or(config.slow_call).or(Some(half));
    }
    config
}

/// Creates a concurrency limit. By default, an adaptive limit counts a cut call as slow after the same time as
/// the breaker `below`. A call waits up to `wait` below the limit.
fn limit_of<C>(
    config: &ConcurrencyConfig,
    below: Option<&BreakerConfig>,
    (policy, wait): (&Policy, Duration),
    classify: C,
) -> Result<ConcurrencyLayer<C>, ConfigError> {
    let mut config = config.clone();
    if let Some(adaptive) = &mut config.adaptive {
        let below = below.map(|config| breaker_config(config, policy, wait));
        let half = |attempt: Duration| (attempt / 2).saturating_add(wait);
        let own = adaptive.unanswered.map(|time| time.saturating_add(wait));
        let unanswered = below.and_then(|breaker| breaker.unanswered);
        adaptive.unanswered = own.or(unanswered).or(policy.attempt_timeout.map(half));
    }
    Ok(ConcurrencyLayer::new(config)?.classify(classify))
}

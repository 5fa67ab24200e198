//! The layers around one downstream, in their order.

use std::sync::Arc;

use tower::{Service, ServiceBuilder, util::Either};
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, CallContext, Classify, ConcurrencyConfig,
    ConcurrencyLayer, ConfigError, DeadlineLayer, FallbackLayer, HedgeConfig, HedgeLayer,
    Rejection, RetryConfig, RetryLayer, ThrottleLayer, TimeoutLayer, breaker,
    config::Validate,
    hedge::HedgeDelay,
    timeout::{DeadlineConfig, TimeoutConfig},
};

use crate::{latency_estimate::LatencyEstimate, plan::Profile, policy::Policy};

/// What is known of one downstream: its policy, and the state that goes with it.
///
/// All stacks that are built from one value, or from its clones, share its breaker, its throttle,
/// its concurrency limit, and the budget of its retries or hedges.
#[derive(Clone, Debug)]
pub struct Downstream<C> {
    name: Arc<str>,
    expected: LatencyEstimate,
    policy: Policy,
    classify: C,
    deadline: DeadlineLayer,
    attempts: Either<RetryLayer<C>, HedgeLayer<C>>,
    breaker: Option<BreakerLayer<C>>,
    throttle: Option<ThrottleLayer<C>>,
    concurrency: Option<ConcurrencyLayer<C>>,
    timeout: Option<TimeoutLayer>,
}

impl<C: Clone> Downstream<C> {
    /// Creates a downstream called `name`, with fresh state.
    ///
    /// # Errors
    /// Returns the first error of `policy`.
    pub fn new(name: &str, policy: Policy, classify: C) -> Result<Self, ConfigError> {
        policy.validate()?;
        let breaker = breaker_config(&policy)
            .map(|config| BreakerLayer::new(name, config, classify.clone()))
            .transpose()?;
        let handle = breaker.as_ref().map(BreakerLayer::handle);
        Ok(Self {
            deadline: DeadlineLayer::new(DeadlineConfig::new().total(policy.total_timeout))?,
            attempts: attempts(&policy, &classify, handle)?,
            throttle: throttle(&policy, &classify, handle)?,
            concurrency: concurrency(&policy, &classify, handle)?,
            timeout: attempt_timeout(&policy)?,
            breaker,
            policy,
            classify,
            name: name.into(),
            expected: LatencyEstimate::new(),
        })
    }

    /// What a plan knows of it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let attempts = self.policy.max_attempts();
        let worst_case = |attempts| self.policy.worst_case_of(attempts);
        Profile::new(Arc::clone(&self.name), self.expected.clone())
            .breaker(self.breaker().cloned())
            .attempts(attempts.into())
            .worst_cases((1..=attempts).map_while(worst_case))
    }

    /// Its policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the breaker; `None` if the policy turns it off.
    #[must_use]
    pub fn breaker(&self) -> Option<&breaker::Handle> {
        self.breaker.as_ref().map(BreakerLayer::handle)
    }

    /// Returns the throttle; `None` if the policy turns it off.
    #[must_use]
    pub const fn throttle(&self) -> Option<&ThrottleLayer<C>> {
        self.throttle.as_ref()
    }

    /// Returns the concurrency limit; `None` if the policy turns it off.
    #[must_use]
    pub const fn concurrency(&self) -> Option<&ConcurrencyLayer<C>> {
        self.concurrency.as_ref()
    }

    /// An empty fallback chain that judges answers as everything else here does.
    #[must_use]
    pub fn fallback<Req, Res, E>(&self) -> FallbackLayer<C, Req, Res, E> {
        FallbackLayer::new(self.classify.clone())
    }
}

/// The layer for retries or hedges, which asks `breaker` before each further attempt. A policy that turns
/// both off makes one attempt, and the retry layer still counts it and marks it as the last.
fn attempts<C: Clone>(
    policy: &Policy,
    classify: &C,
    breaker: Option<&breaker::Handle>,
) -> Result<Either<RetryLayer<C>, HedgeLayer<C>>, ConfigError> {
    if let Some(config) = hedge_config(policy) {
        let mut hedge = HedgeLayer::new(config, classify.clone())?;
        if let Some(breaker) = breaker {
            hedge = hedge.breaker(breaker.clone());
        }
        return Ok(Either::Right(hedge));
    }
    let once = || RetryConfig::new().max_attempts(1);
    let config = policy.retry.clone().unwrap_or_else(once);
    let mut retry = RetryLayer::new(config, classify.clone())?;
    if let Some(breaker) = breaker {
        retry = retry.breaker(breaker.clone());
    }
    Ok(Either::Left(retry))
}

/// A learnt delay is no longer than an attempt may take.
fn hedge_config(policy: &Policy) -> Option<HedgeConfig> {
    let mut config = policy.hedge.clone()?;
    if let HedgeDelay::Quantile(quantile) = &mut config.delay {
        quantile.cap = quantile.cap.or(policy.attempt_timeout);
    }
    Some(config)
}

/// A probe may take two attempts' time, and a call that was cut off after half an attempt's time counts
/// as slow.
fn breaker_config(policy: &Policy) -> Option<BreakerConfig> {
    let mut config = policy.circuit_breaker.clone()?;
    if let Some(attempt) = policy.attempt_timeout {
        config.probe_lease = config.probe_lease.max(attempt.saturating_mul(2));
        config.unanswered = config.unanswered.or(config.slow_call).or(Some(attempt / 2));
    }
    Some(config)
}

fn attempt_timeout(policy: &Policy) -> Result<Option<TimeoutLayer>, ConfigError> {
    let relaxed = policy.last_attempt_uses_deadline;
    policy
        .attempt_timeout
        .map(|timeout| TimeoutConfig::new(timeout).last_attempt_uses_deadline(relaxed))
        .map(TimeoutLayer::new)
        .transpose()
}

/// The throttle, which asks `breaker` before each call.
fn throttle<C: Clone>(
    policy: &Policy,
    classify: &C,
    breaker: Option<&breaker::Handle>,
) -> Result<Option<ThrottleLayer<C>>, ConfigError> {
    let Some(config) = policy.throttle.clone() else {
        return Ok(None);
    };
    let throttle = ThrottleLayer::new(config, classify.clone())?;
    Ok(Some(match breaker {
        Some(breaker) => throttle.breaker(breaker.clone()),
        None => throttle,
    }))
}

/// The concurrency limit, which asks `breaker` again when a queued call gets its permit.
fn concurrency<C: Clone>(
    policy: &Policy,
    classify: &C,
    breaker: Option<&breaker::Handle>,
) -> Result<Option<ConcurrencyLayer<C>>, ConfigError> {
    let Some(config) = concurrency_config(policy) else {
        return Ok(None);
    };
    let limit = ConcurrencyLayer::new(config)?.classify(classify.clone());
    Ok(Some(match breaker {
        Some(breaker) => limit.breaker(breaker.clone()),
        None => limit,
    }))
}

/// A call that was cut off tells an adaptive limit that it was slow where it tells the breaker so.
fn concurrency_config(policy: &Policy) -> Option<ConcurrencyConfig> {
    let mut config = policy.concurrency.clone()?;
    if let Some(adaptive) = &mut config.adaptive {
        let breaker = breaker_config(policy).and_then(|breaker| breaker.unanswered);
        let half = policy.attempt_timeout.map(|attempt| attempt / 2);
        adaptive.unanswered = adaptive.unanswered.or(breaker).or(half);
    }
    Some(config)
}

/// Puts the layers of `downstream` around `service`, which makes one attempt.
///
/// This is the one place where their order stands. `stamp` marks the request of each attempt, with the
/// attempt's number and the remaining time for example; `|_| ()` marks nothing. A `ChaosLayer` (feature
/// `chaos` of the layers) goes around `service`, so that all layers here have to cope with it.
pub fn stack<C, M, S, Req, Res, E>(
    downstream: &Downstream<C>,
    fallback: FallbackLayer<C, Req, Res, E>,
    stamp: M,
    service: S,
) -> impl Service<Req, Response = Res, Error = E, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<C, M, S, Req, Res, E>
where
    C: Classify<Res, E> + Clone + Send + Sync + 'static,
    M: Fn(&mut Req) + Clone + Send + Sync + 'static,
    S: Service<Req, Response = Res, Error = E, Future: Send> + Clone + Send + Sync + 'static,
    Req: CallContext + Clone + Send + Sync + 'static,
    Res: Send + 'static,
    E: From<Rejection> + AsRejection + Send + 'static,
{
    ServiceBuilder::new()
        // Sees every failure below, an open circuit and a passed deadline too; nothing below sees
        // what it answers.
        .layer(fallback)
        // Bounds all attempts and the pauses between them. Never off: without a total timeout, the
        // deadline that the call comes with still ends it.
        .layer(downstream.deadline)
        // Retries or hedges. Above the breaker, so that every attempt is counted and each may be
        // refused at once.
        .layer(downstream.attempts.clone())
        // Per attempt, and after the pause: the time that is left is then right.
        .map_request(move |mut request| {
            stamp(&mut request);
            request
        })
        // Above the limit: a call that is not sent needs no permit. Asks the breaker first, so that it
        // sees no call that an open circuit rejects.
        .option_layer(downstream.throttle.clone())
        // Per attempt: a call that pauses holds no permit. Asks the breaker first, so that no call
        // queues for an open circuit, and again after the queue.
        .option_layer(downstream.concurrency.clone())
        // Below the queue: measures the service alone, and takes a probe only with the permit in hand.
        .option_layer(downstream.breaker.clone())
        // Innermost of the waits: its time starts when the permit is in hand.
        .option_layer(downstream.timeout)
        .service(service)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_fanout_layers::{
        ClassifyResult,
        concurrency::{ConcurrencyConfig, adaptive::AdaptiveConfig},
        hedge::{HedgeConfig, Quantile},
        throttle::ThrottleConfig,
    };

    use super::*;

    /// The longest delay of a policy whose attempts take 100 ms at most.
    fn longest_delay(cap: Option<Duration>) -> Option<Duration> {
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

    /// What is derived of a valid policy is valid, down to the shortest attempt and up to the longest.
    #[test]
    fn no_part_of_a_valid_policy_is_lost() {
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
                .concurrency(adaptive.clone())
                .circuit_breaker(BreakerConfig::new().window(breaker::Window::Count(10)));
            let downstream = Downstream::new("users", policy, ClassifyResult).unwrap();
            assert!(matches!(downstream.attempts, Either::Right(_)));
            assert!(downstream.breaker().is_some() && downstream.throttle().is_some());
            assert!(downstream.concurrency().is_some());
        }
    }

    #[test]
    fn a_learnt_delay_is_no_longer_than_an_attempt() {
        let ms = Duration::from_millis;
        assert_eq!(longest_delay(None), Some(ms(100)));
        assert_eq!(longest_delay(Some(ms(60))), Some(ms(60)));
    }
}

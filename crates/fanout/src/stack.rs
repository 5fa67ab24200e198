//! The layers around one downstream, in their order.

use std::{sync::Arc, time::Duration};

use tower::{Layer, Service, ServiceBuilder, util::Either};
use tower_fanout_layers::{
    AsReject, BreakerLayer, Classify, ConcurrencyLayer, ConcurrencyPolicy, Context, DeadlineLayer,
    FallbackLayer, HedgeLayer, HedgePolicy, Reject, RetryLayer, RetryPolicy, ThrottleLayer,
    ThrottlePolicy, TimeoutLayer,
    breaker::{self, BreakerPolicy},
    concurrency::Concurrency,
    hedge::HedgeDelay,
    policy::{Settings, Valid},
    retry::RetrySettings,
    throttle::Throttle,
    timeout::Timeout,
};

use crate::{expected::Expected, plan::Profile, policy::Policy};

/// What is known of one downstream: its policy, and the state that goes with it.
///
/// All stacks that are built from one value, or from its clones, share its breaker, its throttle,
/// its concurrency limit, and the budget of its retries or hedges.
#[derive(Clone, Debug)]
pub struct Downstream<C> {
    name: Arc<str>,
    expected: Expected,
    policy: Policy,
    classify: C,
    attempts: Either<RetryLayer<C>, HedgeLayer<C>>,
    breaker: BreakerLayer<C>,
    throttle: Option<ThrottleLayer<C>>,
    concurrency: ConcurrencyLayer<C>,
}

impl<C: Clone> Downstream<C> {
    /// A downstream called `name`, with fresh state.
    #[must_use]
    pub fn new(name: &str, policy: Policy, classify: C) -> Self {
        let breaker = match breaker_policy(&policy) {
            Some(policy) => BreakerLayer::new(name, policy, classify.clone()),
            None => BreakerLayer::off(classify.clone()),
        };
        let throttle =
            throttle_policy(&policy).map(|policy| ThrottleLayer::new(policy, classify.clone()));
        let concurrency = match concurrency_policy(&policy) {
            Some(policy) => ConcurrencyLayer::new(policy),
            None => ConcurrencyLayer::off(),
        };
        let concurrency = concurrency.classify(classify.clone());
        let handle = breaker.handle().cloned();
        Self {
            attempts: attempts(&policy, classify.clone(), handle.clone()),
            concurrency: handle
                .into_iter()
                .fold(concurrency, ConcurrencyLayer::recheck),
            breaker,
            throttle,
            policy,
            classify,
            name: name.into(),
            expected: Expected::new(),
        }
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

    /// Its breaker, unless that is off.
    #[must_use]
    pub const fn breaker(&self) -> Option<&breaker::Handle> {
        self.breaker.handle()
    }

    /// Its throttle, if it has one.
    #[must_use]
    pub const fn throttle(&self) -> Option<&ThrottleLayer<C>> {
        self.throttle.as_ref()
    }

    /// Its concurrency limit.
    #[must_use]
    pub const fn concurrency(&self) -> &ConcurrencyLayer<C> {
        &self.concurrency
    }

    /// An empty fallback chain that judges answers as everything else here does.
    #[must_use]
    pub fn fallback<Req, Res, E>(&self) -> FallbackLayer<C, Req, Res, E> {
        FallbackLayer::new(self.classify.clone())
    }
}

/// What tries again, or asks a second time; it asks `breaker` before it does.
fn attempts<C>(
    policy: &Policy,
    classify: C,
    breaker: Option<breaker::Handle>,
) -> Either<RetryLayer<C>, HedgeLayer<C>> {
    let breaker = breaker.into_iter();
    match hedge_policy(policy) {
        Some(policy) => {
            let hedge = HedgeLayer::new(policy, classify);
            Either::Right(breaker.into_iter().fold(hedge, HedgeLayer::recheck))
        }
        None => {
            let retry = RetryLayer::new(retry_policy(policy), classify);
            Either::Left(breaker.into_iter().fold(retry, RetryLayer::recheck))
        }
    }
}

/// A part of a policy, which is as valid as the policy is.
fn part<T: Settings>(settings: T) -> Valid<T> {
    Valid::new(settings)
        .expect("a policy is valid only if each part of it is, as it is derived here")
}

/// Who does not retry makes one attempt.
fn retry_policy(policy: &Policy) -> RetryPolicy {
    let once = || RetrySettings::default().max_attempts(1);
    part(policy.retry.clone().unwrap_or_else(once))
}

/// A learnt delay is no longer than an attempt may take.
fn hedge_policy(policy: &Policy) -> Option<HedgePolicy> {
    let mut settings = policy.hedge.clone()?;
    if let HedgeDelay::Quantile(quantile) = &mut settings.delay {
        quantile.cap = quantile.cap.or(policy.attempt_timeout);
    }
    Some(part(settings))
}

/// A probe may take two attempts' time beside its wait for a turn, and a call that was cut off after
/// half an attempt's time counts as slow.
fn breaker_policy(policy: &Policy) -> Option<BreakerPolicy> {
    let mut settings = policy.circuit_breaker.clone()?;
    let waits = policy.concurrency.iter().filter(|limit| limit.queue > 0);
    let wait: Duration = waits.map(|limit| limit.max_wait).sum();
    if let Some(attempt) = policy.attempt_timeout {
        settings.probe_lease = settings.probe_lease.max(attempt.saturating_mul(2));
        settings.unanswered = settings
            .unanswered
            .or(settings.slow_call)
            .or(Some(attempt / 2));
    }
    settings.probe_lease = settings.probe_lease.saturating_add(wait);
    Some(part(settings))
}

fn attempt_timeout(policy: &Policy) -> TimeoutLayer {
    let timeout = TimeoutLayer::new(policy.attempt_timeout);
    if policy.last_attempt_uses_deadline {
        timeout.last_attempt_uses_deadline()
    } else {
        timeout
    }
}

fn throttle_policy(policy: &Policy) -> Option<ThrottlePolicy> {
    policy.throttle.clone().map(part)
}

/// A call that was cut off tells an adaptive limit that it was slow where it tells the breaker so.
fn concurrency_policy(policy: &Policy) -> Option<ConcurrencyPolicy> {
    let mut settings = policy.concurrency.clone()?;
    if let Some(adaptive) = &mut settings.adaptive {
        let breaker = breaker_policy(policy).and_then(|breaker| breaker.unanswered);
        let half = policy.attempt_timeout.map(|attempt| attempt / 2);
        adaptive.unanswered = adaptive.unanswered.or(breaker).or(half);
    }
    Some(part(settings))
}

/// Puts the layers of `downstream` around `service`, which makes one attempt.
///
/// This is the one place where their order stands. `stamp` marks each attempt: it writes its
/// number and the time that is left into the request, say. `chaos` may break attempts on purpose.
/// Where there is nothing to mark or to break, an [`Identity`](tower::layer::util::Identity) does.
pub fn stack<C, L, H, S, Req, Res, E>(
    downstream: &Downstream<C>,
    fallback: FallbackLayer<C, Req, Res, E>,
    stamp: L,
    chaos: H,
    service: S,
) -> impl Service<Req, Response = Res, Error = E, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<C, L, H, S, Req, Res, E>
where
    C: Classify<Res, E> + Clone + Send + Sync + 'static,
    L: Layer<Attempt<H::Service, C>>,
    L::Service:
        Service<Req, Response = Res, Error = E, Future: Send> + Clone + Send + Sync + 'static,
    H: Layer<S>,
    H::Service:
        Service<Req, Response = Res, Error = E, Future: Send> + Clone + Send + Sync + 'static,
    Req: Context + Clone + Send + Sync + 'static,
    Res: Send + 'static,
    E: From<Reject> + AsReject + Send + 'static,
{
    let policy = &downstream.policy;
    ServiceBuilder::new()
        // Sees every failure below, an open circuit and a passed deadline too; nothing below sees
        // what it answers.
        .layer(fallback)
        // Bounds all attempts and the pauses between them.
        .layer(DeadlineLayer::new(policy.total_timeout))
        // Retries or hedges. Above the breaker, so that every attempt is counted and each may be
        // refused at once.
        .layer(downstream.attempts.clone())
        // Per attempt, and after the pause: the time that is left is then right.
        .layer(stamp)
        // Above all that holds back: an open circuit must not queue.
        .layer(downstream.breaker.clone())
        // Per attempt, and above the limit: what is not sent needs no permit. It is refused here, so
        // it does not count against the breaker.
        .option_layer(downstream.throttle.clone())
        // Per attempt: a call that pauses holds no permit. It asks the breaker again, which may have
        // opened meanwhile.
        .layer(downstream.concurrency.clone())
        // Innermost of what waits: its time starts when the permit is in hand.
        .layer(attempt_timeout(policy))
        // Innermost of all: whatever it breaks, everything above has to cope with.
        .layer(chaos)
        .service(service)
}

/// What one attempt passes through, from the breaker inwards to `S`.
pub type Attempt<S, C> = breaker::Breaker<Throttled<Concurrency<Timeout<S>, C>, C>, C>;

/// A service behind a throttle, if there is one.
pub type Throttled<S, C> = Either<Throttle<S, C>, S>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_fanout_layers::{
        ClassifyResult,
        concurrency::{ConcurrencySettings, adaptive::AdaptiveSettings},
        hedge::{HedgeSettings, Quantile},
        throttle::ThrottleSettings,
    };

    use super::*;

    /// The longest delay of a policy whose attempts take 100 ms at most.
    fn longest_delay(cap: Option<Duration>) -> Option<Duration> {
        let mut hedge = HedgeSettings::default();
        let mut quantile = Quantile::default();
        quantile.cap = cap;
        hedge.delay = HedgeDelay::Quantile(quantile);
        let policy = Policy::build(|policy| {
            (policy.retry, policy.hedge) = (None, Some(hedge));
            policy.attempt_timeout = Some(Duration::from_millis(100));
        });
        match &hedge_policy(&policy.unwrap()).unwrap().delay {
            HedgeDelay::Quantile(quantile) => quantile.cap,
            delay => panic!("{delay:?} is not learnt"),
        }
    }

    /// What is derived of a valid policy is valid, down to the shortest attempt and up to the longest.
    #[test]
    fn no_part_of_a_valid_policy_is_lost() {
        let adaptive = ConcurrencySettings::default().adaptive(AdaptiveSettings::default());
        let floor = |floor| HedgeDelay::Quantile(Quantile::default().floor(floor));
        let (short, long) = (Duration::from_millis(1), Duration::MAX / 4);
        for (attempt, delay) in [
            (short, floor(short - Duration::from_nanos(1))),
            (short, HedgeDelay::Fixed(Duration::ZERO)),
            (long, floor(Duration::ZERO)),
        ] {
            let policy = Policy::build(|policy| {
                policy.attempt_timeout = Some(attempt);
                policy.retry = None;
                policy.hedge = Some(HedgeSettings::default().delay(delay));
                policy.throttle = Some(ThrottleSettings::default());
                policy.concurrency = Some(adaptive.clone());
                if let Some(breaker) = &mut policy.circuit_breaker {
                    breaker.window = breaker::Window::Count(10);
                }
            });
            let downstream = Downstream::new("users", policy.unwrap(), ClassifyResult);
            assert!(matches!(downstream.attempts, Either::Right(_)));
            assert!(downstream.breaker().is_some() && downstream.throttle().is_some());
            assert!(downstream.concurrency().limit().is_some());
        }
    }

    #[test]
    fn a_learnt_delay_is_no_longer_than_an_attempt() {
        let ms = Duration::from_millis;
        assert_eq!(longest_delay(None), Some(ms(100)));
        assert_eq!(longest_delay(Some(ms(60))), Some(ms(60)));
    }
}

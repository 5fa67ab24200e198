//! The layers around one downstream, in the recommended order.

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

/// One downstream: its policy, and the state that its calls share.
///
/// All stacks that are built from one value or its clones share its circuit breaker, its throttle,
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
    /// Creates a downstream named `name`, with fresh state.
    ///
    /// `classify` classifies the results for all layers. The lists of
    /// [`policy.classify`](field@Policy::classify) are not applied to it.
    ///
    /// # Errors
    /// Returns the first error of `policy`.
    pub fn new(name: &str, policy: Policy, classify: C) -> Result<Self, ConfigError> {
        policy.validate()?;
        let breaker = breaker_config(&policy)
            .map(|config| BreakerLayer::new(name, config, classify.clone()))
            .transpose()?;
        let handle = || breaker.as_ref().map(|breaker| breaker.handle().clone());
        let throttle = (policy.throttle.clone())
            .map(|config| ThrottleLayer::new(config, classify.clone()))
            .transpose()?
            .map(|throttle| throttle.breaker(handle()));
        let concurrency = concurrency_config(&policy)
            .map(ConcurrencyLayer::new)
            .transpose()?
            .map(|limit| limit.classify(classify.clone()).breaker(handle()));
        let relaxed = policy.last_attempt_uses_deadline;
        let timeout = (policy.attempt_timeout)
            .map(|timeout| TimeoutConfig::new(timeout).last_attempt_uses_deadline(relaxed))
            .map(TimeoutLayer::new)
            .transpose()?;
        Ok(Self {
            deadline: DeadlineLayer::new(DeadlineConfig::new().total(policy.total_timeout))?,
            attempts: attempts(&policy, classify.clone(), handle())?,
            throttle,
            concurrency,
            timeout,
            breaker,
            policy,
            classify,
            name: name.into(),
            expected: LatencyEstimate::new(),
        })
    }

    /// Returns the profile of the downstream, for the nodes of a plan that call it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let attempts = self.policy.max_attempts();
        let worst_case = |attempts| self.policy.worst_case_of(attempts);
        Profile::new(Arc::clone(&self.name), self.expected.clone())
            .breaker(self.breaker().cloned())
            .attempts(attempts.into())
            .worst_cases((1..=attempts).map_while(worst_case))
    }

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the circuit breaker, or `None` if the policy turns it off.
    #[must_use]
    pub fn breaker(&self) -> Option<&breaker::Handle> {
        self.breaker.as_ref().map(BreakerLayer::handle)
    }

    /// Returns the throttle, or `None` if the policy turns it off.
    #[must_use]
    pub const fn throttle(&self) -> Option<&ThrottleLayer<C>> {
        self.throttle.as_ref()
    }

    /// Returns the concurrency limit, or `None` if the policy turns it off.
    #[must_use]
    pub const fn concurrency(&self) -> Option<&ConcurrencyLayer<C>> {
        self.concurrency.as_ref()
    }

    /// Creates an empty fallback chain that classifies responses like the other layers of this
    /// downstream.
    #[must_use]
    pub fn fallback<Req, Res, E>(&self) -> FallbackLayer<C, Req, Res, E> {
        FallbackLayer::new(self.classify.clone())
    }
}

/// Creates the layer for retries or hedges, which checks `breaker` before each further attempt. If
/// the policy turns both off, the result is a retry layer with one attempt, which still counts the
/// attempt and marks it as the last.
fn attempts<C>(
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
fn hedge_config(policy: &Policy) -> Option<HedgeConfig> {
    let mut config = policy.hedge.clone()?;
    if let HedgeDelay::Quantile(quantile) = &mut config.delay {
        quantile.cap = quantile.cap.or(policy.attempt_timeout);
    }
    Some(config)
}

/// Returns the breaker config. A probe may take twice the attempt timeout. By default, a call that
/// is cut after half of the attempt timeout counts as slow.
fn breaker_config(policy: &Policy) -> Option<BreakerConfig> {
    let mut config = policy.circuit_breaker.clone()?;
    if let Some(attempt) = policy.attempt_timeout {
        config.probe_lease = config.probe_lease.max(attempt.saturating_mul(2));
        config.unanswered = config.unanswered.or(config.slow_call).or(Some(attempt / 2));
    }
    Some(config)
}

/// Returns the config of the concurrency limit. By default, an adaptive limit counts a cut call as
/// slow after the same time as the breaker.
fn concurrency_config(policy: &Policy) -> Option<ConcurrencyConfig> {
    let mut config = policy.concurrency.clone()?;
    if let Some(adaptive) = &mut config.adaptive {
        let breaker = breaker_config(policy).and_then(|breaker| breaker.unanswered);
        let half = policy.attempt_timeout.map(|attempt| attempt / 2);
        adaptive.unanswered = adaptive.unanswered.or(breaker).or(half);
    }
    Some(config)
}

/// Wraps `service`, which makes one attempt, in the layers of `downstream`.
///
/// The policy of the downstream configures the layers.
///
/// # Order of the layers
/// From the outermost layer to the innermost:
///
/// 1. **Fallback.** Handles the failures of all layers below, such as an open circuit or a passed
///    deadline. Its responses do not pass through the layers below.
/// 2. **Deadline.** Bounds all attempts and the pauses between them. Fallbacks are bounded only by the
///    deadline of the call, not by the total timeout. The layer is always present, because it also
///    enforces the deadline of the call if the policy has no total timeout.
/// 3. **Retry or hedge.** Makes the attempts. It is above the breaker, so that the breaker counts and
///    can reject each attempt. If the policy turns both off, a retry layer with one attempt still
///    counts that attempt.
/// 4. **Throttle.** Is above the limit, because a call that is not sent needs no permit. It checks the
///    breaker first, so that calls that an open circuit rejects are not counted.
/// 5. **Concurrency limit.** Applies to each attempt, so that a pausing call holds no permit. It checks
///    the breaker before and after the queue, so that no call queues for an open circuit.
/// 6. **Circuit breaker.** Is below the queue, so that it measures the service without the wait, and a
///    probe already has its permit.
/// 7. **Attempt timeout.** Is innermost, so that the time of an attempt starts when its permit is
///    granted.
///
/// The policy turns the layers 4 to 7 on and off. A layer that is off is left out.
///
/// # Example
/// `downstream.fallback()` is an empty chain and means no fallback. Steps that are added to it, such as
/// [`answer`](FallbackLayer::response), are tried in order.
///
/// ```
/// # use tower::{ServiceExt, service_fn};
/// # use tower_fanout::{Downstream, Policy, layers::{ClassifyResult, LayerError, WithCall}, stack::stack};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let downstream = Downstream::new("users", Policy::new(), ClassifyResult)?;
/// let fetch = service_fn(|id: WithCall<u64>| async move { Ok::<_, LayerError>(format!("user {}", id.get())) });
///
/// let users = stack(&downstream, downstream.fallback(), fetch);
/// assert_eq!(users.oneshot(WithCall::new(7)).await?, "user 7");
///
/// let down = service_fn(|_: WithCall<u64>| async { Err::<String, LayerError>("down".into()) });
/// let fallback = downstream.fallback().response("a guest".to_owned());
/// let users = stack(&downstream, fallback, down);
/// assert_eq!(users.oneshot(WithCall::new(7)).await?, "a guest");
/// # Ok(())
/// # }
/// ```
///
/// # Arguments
/// - `downstream` holds the policy and the shared state of the layers.
/// - `fallback` answers if the call has failed after all attempts, or was rejected by a layer.
///   [`Downstream::fallback`] creates an empty chain, which changes nothing. Add steps to it, such as
///   [`answer`](FallbackLayer::response).
/// - `service` makes one attempt per call. A layer around it edits the request of each attempt, such as
///   `AttemptHeadersLayer` of `tower-fanout-http`, which adds headers with the number of the retry and the
///   remaining time.
///
/// The stack returns `Ok(response)` even if the classifier counts the response as a failure, such as
/// an HTTP response with status 503 after the last attempt. As the service of a node, such a response
/// is a success. To make the branch fail, put a layer above the stack that turns the status into an
/// error, as `AcceptLayer` of `tower-fanout-json` does.
///
/// Put a `ChaosLayer` (feature `chaos` of the layers) directly around `service`, so that all layers
/// here see its effects.
pub fn stack<C, S, Req, Res, E>(
    downstream: &Downstream<C>,
    fallback: FallbackLayer<C, Req, Res, E>,
    service: S,
) -> impl Service<Req, Response = Res, Error = E, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<C, S, Req, Res, E>
where
    C: Classify<Res, E> + Clone + Send + Sync + 'static,
    S: Service<Req, Response = Res, Error = E, Future: Send> + Clone + Send + Sync + 'static,
    Req: CallContext + Clone + Send + Sync + 'static,
    Res: Send + 'static,
    E: AsRejection + From<Rejection> + Send + 'static,
{
    ServiceBuilder::new()
        // Outermost: handles every failure of the layers below, including an open circuit and a
        // passed deadline. Its responses do not pass through the layers below.
        .layer(fallback)
        // Bounds all attempts and the pauses between them. Always present: without a total timeout,
        // it enforces the deadline of the call.
        .layer(downstream.deadline.clone())
        // Retries or hedges. Above the breaker, so that the breaker counts every attempt and can
        // reject each.
        .layer(downstream.attempts.clone())
        // Above the limit, because a call that is not sent needs no permit. Checks the breaker
        // first, so that calls that an open circuit rejects are not counted.
        .option_layer(downstream.throttle.clone())
        // Per attempt, so that a pausing call holds no permit. Checks the breaker first, so that no
        // call queues for an open circuit, and again after the queue.
        .option_layer(downstream.concurrency.clone())
        // Below the queue, so that the breaker measures only the service, and a probe already has
        // its permit.
        .option_layer(downstream.breaker.clone())
        // Innermost, so that the time of an attempt starts when its permit is granted.
        .option_layer(downstream.timeout.clone())
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
    fn the_attempt_timeout_caps_a_learnt_delay() {
        let ms = Duration::from_millis;
        assert_eq!(delay_cap(None), Some(ms(100)));
        assert_eq!(delay_cap(Some(ms(60))), Some(ms(60)));
    }
}

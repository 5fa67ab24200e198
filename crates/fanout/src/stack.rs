//! The layers around one downstream, in their order.

use tower::{Layer, Service, ServiceBuilder};
use tower_fanout_layers::{
    AsReject, BreakerLayer, Classify, ConcurrencyLayer, ConcurrencyPolicy, Context, DeadlineLayer,
    FallbackLayer, Reject, RetryLayer, RetryPolicy, TimeoutLayer,
    breaker::{self, BreakerPolicy},
};

use crate::policy::Policy;

/// What is known of one downstream: its policy, and the state that goes with it.
///
/// All stacks that are built from one value, or from its clones, share its breaker, its
/// concurrency limit and its retry budget.
#[derive(Clone, Debug)]
pub struct Downstream<C> {
    policy: Policy,
    classify: C,
    breaker: BreakerLayer<C>,
    concurrency: ConcurrencyLayer<C>,
    retry: RetryLayer<C>,
}

impl<C: Clone> Downstream<C> {
    /// A downstream called `name`, with fresh state.
    #[must_use]
    pub fn new(name: &str, policy: Policy, classify: C) -> Self {
        let breaker = match breaker_policy(&policy) {
            Some(policy) => BreakerLayer::new(name, policy, classify.clone()),
            None => BreakerLayer::off(classify.clone()),
        };
        let concurrency = match concurrency_policy(&policy) {
            Some(policy) => ConcurrencyLayer::new(policy),
            None => ConcurrencyLayer::off(),
        };
        let concurrency = concurrency.classify(classify.clone());
        let retry = RetryPolicy::new(policy.retry.clone().unwrap_or_default());
        let retry = retry.and_then(|retry| match policy.retry {
            Some(_) => Ok(retry),
            None => retry.with(|retry| retry.max_attempts = 1),
        });
        let retry = RetryLayer::new(retry.unwrap_or_default(), classify.clone());
        let handle = breaker.handle().cloned();
        Self {
            concurrency: handle
                .iter()
                .cloned()
                .fold(concurrency, ConcurrencyLayer::recheck),
            retry: handle.into_iter().fold(retry, RetryLayer::recheck),
            breaker,
            policy,
            classify,
        }
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

/// A probe may take two attempts' time, and a call that was cut off after half an attempt's time
/// counts as slow.
fn breaker_policy(policy: &Policy) -> Option<BreakerPolicy> {
    let mut settings = policy.circuit_breaker.clone()?;
    if let Some(attempt) = policy.attempt_timeout {
        settings.probe_lease = settings.probe_lease.max(attempt * 2);
        settings.unanswered = settings
            .unanswered
            .or(settings.slow_call)
            .or(Some(attempt / 2));
    }
    BreakerPolicy::new(settings).ok()
}

/// A call that was cut off after half an attempt's time tells an adaptive limit that it was slow.
fn concurrency_policy(policy: &Policy) -> Option<ConcurrencyPolicy> {
    let mut settings = policy.concurrency.clone()?;
    if let (Some(adaptive), Some(attempt)) = (&mut settings.adaptive, policy.attempt_timeout) {
        adaptive.unanswered = adaptive.unanswered.or(Some(attempt / 2));
    }
    ConcurrencyPolicy::new(settings).ok()
}

/// Puts the layers of `downstream` around `service`, which makes one attempt.
///
/// This is the one place where their order stands. `stamp` marks each attempt: it writes its
/// number and the time that is left into the request, say.
pub fn stack<C, L, S, Req, Res, E>(
    downstream: &Downstream<C>,
    fallback: FallbackLayer<C, Req, Res, E>,
    stamp: L,
    service: S,
) -> impl Service<Req, Response = Res, Error = E, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<C, L, S, Req, Res, E>
where
    C: Classify<Res, E> + Clone + Send + Sync + 'static,
    L: Layer<Attempt<S, C>>,
    L::Service:
        Service<Req, Response = Res, Error = E, Future: Send> + Clone + Send + Sync + 'static,
    S: Service<Req, Response = Res, Error = E, Future: Send> + Clone + Send + Sync + 'static,
    Req: Context + Clone + Send + Sync + 'static,
    Res: Send + 'static,
    E: From<Reject> + AsReject + Send + 'static,
{
    let policy = &downstream.policy;
    ServiceBuilder::new()
        // Sees every failure below, an open circuit and a passed deadline too.
        .layer(fallback)
        // Bounds all attempts and the pauses between them.
        .layer(DeadlineLayer::new(policy.total_timeout))
        // Above the breaker, so that every attempt is counted and each may be refused at once.
        .layer(downstream.retry.clone())
        // Per attempt, and after the pause: the time that is left is then right.
        .layer(stamp)
        // Above the limit: an open circuit must not queue.
        .layer(downstream.breaker.clone())
        // Per attempt: a call that pauses holds no permit.
        .layer(downstream.concurrency.clone())
        // Innermost of what waits: its time starts when the permit is in hand.
        .layer(TimeoutLayer::new(policy.attempt_timeout))
        .service(service)
}

/// What one attempt passes through, from the breaker inwards.
pub type Attempt<S, C> = breaker::Breaker<
    tower_fanout_layers::concurrency::Concurrency<tower_fanout_layers::timeout::Timeout<S>, C>,
    C,
>;

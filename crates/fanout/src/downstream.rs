//! One downstream: its policy, the state that its calls share, and the layers around its client in the
//! recommended order.

use std::{
    future::Pending,
    sync::Arc,
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceBuilder, util::Either};
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, CallContext, Classify, CloneRequest, CloneService,
    ConcurrencyConfig, ConcurrencyLayer, ConfigError, DeadlineLayer, FallbackLayer, HedgeConfig,
    HedgeLayer, Rejection, RetryConfig, RetryLayer, ThrottleLayer, TimeoutLayer,
    breaker::{self, Breaker},
    concurrency::Concurrency,
    config::Validate,
    event::{Sent, SentLayer},
    hedge::{Hedge, HedgeDelay},
    retry::Retry,
    throttle::Throttle,
    timeout::{DeadlineConfig, Timeout, TimeoutConfig, WithDeadline},
};

use crate::{latency_estimate::LatencyEstimate, plan::Profile, policy::Policy};

/// A layer that puts all layers of a [`Policy`] around the client of one downstream, in the recommended
/// order.
///
/// All services that one value or its clones wrap share its circuit breaker, its throttle, its concurrency
/// limit, and the budget of its retries or hedges. So create one `Downstream` per downstream, and keep it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use bytes::Bytes;
/// # use http::Request;
/// # use http_body_util::Empty;
/// # use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// # use tower::{ServiceBuilder, ServiceExt};
/// # use tower_fanout::{Downstream, Policy, layers::{ClassifyHttp, LayerErrorLayer, RetryConfig}};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Policy::new() // with a breaker, a concurrency limit, and 3 attempts of at most 2 s
///     .total_timeout(Duration::from_secs(5))
///     .attempt_timeout(Duration::from_secs(1));
/// let users = Downstream::new("users", policy, ClassifyHttp::new())?;
/// let client = ServiceBuilder::new()
///     .layer(&users)
///     .layer(LayerErrorLayer::new()) // the layers above need an error that can carry a rejection
///     .service(Client::builder(TokioExecutor::new()).build_http());
///
/// let request = Request::get("http://localhost:9001/users/7").body(Empty::<Bytes>::new())?;
/// let response = client.oneshot(request).await?;
/// println!("{}, breaker {:?}", response.status(), users.breaker().state());
/// # Ok(())
/// # }
/// ```
///
/// # Order of the layers
/// From the outermost layer to the innermost:
///
/// 1. **Deadline.** Bounds all attempts and the pauses between them. The layer is always present, because it
///    also enforces the deadline of the call if the policy has no total timeout.
/// 2. **Retry or hedge.** Makes the attempts. It is above the breaker, so that the breaker counts and
///    can reject each attempt. If the policy turns both off, a retry layer with one attempt still
///    counts that attempt.
/// 3. **Throttle.** Is above the limit, because a call that is not sent needs no permit. It checks the
///    breaker first, so that calls that an open circuit rejects are not counted.
/// 4. **Concurrency limit.** Applies to each attempt, so that a pausing call holds no permit. It checks
///    the breaker before and after the queue, so that no call queues for an open circuit.
/// 5. **Circuit breaker.** Is below the queue, so that it measures the service without the wait, and a
///    probe already has its permit.
/// 6. **Attempt timeout.** Is below the limit, so that the time of an attempt starts when its permit is
///    granted.
/// 7. **[`SentLayer`].** Is innermost, so that it reports the attempts that no layer rejected.
///
/// The policy turns the layers 3 to 6 on and off. A layer that is off is left out.
///
/// # Fallback
/// A fallback is a layer of its own, directly above this one, so that it handles the failures of all layers
/// here, such as an open circuit or a passed deadline. [`fallback`](Self::fallback) creates an empty chain.
/// Add steps to it, such as [`response`](FallbackLayer::response), which are tried in order. They are bounded
/// by the deadline of the call, but not by the total timeout of the policy.
///
/// The service of a step reports to the receivers of the call too. To count the events of each downstream
/// apart, put an `EventsLayer` with a sink of its own directly above each downstream, below the fallback.
///
/// ```
/// # use tower::{ServiceBuilder, ServiceExt, service_fn};
/// # use tower_fanout::{Downstream, Policy, layers::{ClassifyResult, LayerError, WithCall}};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = Downstream::new("users", Policy::new(), ClassifyResult)?;
/// let service = ServiceBuilder::new()
///     .layer(users.fallback().response("a guest"))
///     .layer(&users)
///     .service(service_fn(|id: WithCall<u64>| async move {
///         if id.into_inner() == 7 { Ok("Ada") } else { Err(LayerError::from("down")) }
///     }));
/// assert_eq!(service.clone().oneshot(WithCall::new(7)).await?, "Ada");
/// assert_eq!(service.oneshot(WithCall::new(8)).await?, "a guest");
/// # Ok(())
/// # }
/// ```
///
/// # Other layers
/// A layer below this one sees each attempt. `AttemptHeadersLayer` of `tower-fanout-http` adds headers with
/// the number of the retry and the remaining time. A `ChaosLayer` (feature `chaos` of the layers) directly
/// around the client lets all layers here see its effects.
///
/// The layers return `Ok(response)` even if the classifier counts the response as a failure, such as
/// an HTTP response with status 503 after the last attempt. As the service of a node, such a response
/// is a success. To make the branch fail, put a layer above that turns the status into an error, as
/// `AcceptLayer` of `tower-fanout-json` does.
///
/// # The circuit breaker
/// `B` is the type of the breaker's handle: [`Handle`](breaker::Handle) for a downstream that [`new`](Self::new)
/// creates, and `Option<Handle>` for one of [`with_optional_breaker`](Self::with_optional_breaker), whose policy
/// may turn the breaker off.
#[derive(Clone, Debug)]
pub struct Downstream<C, B = breaker::Handle> {
    name: Arc<str>,
    expected: LatencyEstimate,
    policy: Policy,
    classify: C,
    handle: B,
    deadline: DeadlineLayer,
    attempts: Either<RetryLayer<C>, HedgeLayer<C>>,
    throttle: Option<ThrottleLayer<C>>,
    concurrency: Option<ConcurrencyLayer<C>>,
    breaker: Option<BreakerLayer<C>>,
    timeout: Option<TimeoutLayer>,
}

impl<C: Clone> Downstream<C> {
    /// Creates a downstream named `name` with a circuit breaker, and with fresh state.
    ///
    /// `classify` classifies the results for all layers. The lists of
    /// [`policy.classify`](field@Policy::classify) are not applied to it.
    ///
    /// # Errors
    /// Returns the first error of `policy`, or an error if `policy` turns the breaker off.
    pub fn new(name: &str, policy: Policy, classify: C) -> Result<Self, ConfigError> {
        Self::build(name, policy, classify, |handle| {
            let off = "must be on, got off; or use `Downstream::with_optional_breaker`";
            handle.ok_or_else(|| ConfigError::new("circuit_breaker", off).of("Policy"))
        })
    }

    /// Returns the circuit breaker.
    #[must_use]
    pub const fn breaker(&self) -> &breaker::Handle {
        &self.handle
    }
}

impl<C: Clone> Downstream<C, Option<breaker::Handle>> {
    /// Creates a downstream like [`new`](Downstream::new), but accepts a policy that turns the circuit breaker
    /// off, such as one from a configuration file.
    ///
    /// # Errors
    /// Returns the first error of `policy`.
    pub fn with_optional_breaker(
        name: &str,
        policy: Policy,
        classify: C,
    ) -> Result<Self, ConfigError> {
        Self::build(name, policy, classify, Ok)
    }

    /// Returns the circuit breaker, or `None` if the policy turns it off.
    #[must_use]
    pub const fn breaker(&self) -> Option<&breaker::Handle> {
        self.handle.as_ref()
    }
}

impl<C: Clone, B> Downstream<C, B> {
    fn build(
        name: &str,
        policy: Policy,
        classify: C,
        required: impl FnOnce(Option<breaker::Handle>) -> Result<B, ConfigError>,
    ) -> Result<Self, ConfigError> {
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
            handle: required(handle())?,
            deadline: DeadlineLayer::new(DeadlineConfig::new().total(policy.total_timeout))?,
            attempts: attempts(&policy, classify.clone(), handle())?,
            throttle,
            concurrency,
            breaker,
            timeout,
            policy,
            classify,
            name: name.into(),
            expected: LatencyEstimate::new(),
        })
    }

    /// Creates an empty fallback chain that classifies responses like the layers of this downstream. Put it
    /// directly above the downstream.
    #[must_use]
    pub fn fallback<Req, Res, E>(&self) -> FallbackLayer<C, Req, Res, E> {
        FallbackLayer::new(self.classify.clone())
    }

    /// Returns the profile of the downstream, for the nodes of a plan that call it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let attempts = self.policy.max_attempts();
        let worst_case = |attempts| self.policy.worst_case_of(attempts);
        let breaker = self.breaker.as_ref().map(BreakerLayer::handle);
        Profile::new(Arc::clone(&self.name), self.expected.clone())
            .breaker(breaker.cloned())
            .attempts(attempts.into())
            .worst_cases((1..=attempts).map_while(worst_case))
    }

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
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
}

impl<S: CloneService, C: Clone, B> Layer<S> for Downstream<C, B> {
    type Service = DownstreamService<S, C>;

    fn layer(&self, client: S) -> DownstreamService<S, C> {
        let layers = ServiceBuilder::new()
            // Outermost: bounds all attempts and the pauses between them. Always present: without a total
            // timeout, it enforces the deadline of the call.
            .layer(self.deadline.clone())
            // Retries or hedges. Above the breaker, so that the breaker counts every attempt and can
            // reject each.
            .layer(self.attempts.clone())
            // Above the limit, because a call that is not sent needs no permit. Checks the breaker
            // first, so that calls that an open circuit rejects are not counted.
            .option_layer(self.throttle.clone())
            // Per attempt, so that a pausing call holds no permit. Checks the breaker first, so that no
            // call queues for an open circuit, and again after the queue.
            .option_layer(self.concurrency.clone())
            // Below the queue, so that the breaker measures only the service, and a probe already has
            // its permit.
            .option_layer(self.breaker.clone())
            // Below the limit, so that the time of an attempt starts when its permit is granted.
            .option_layer(self.timeout.clone())
            // Innermost, so that it reports only attempts that no layer rejected.
            .layer(SentLayer::new());
        let inner = layers.service(client);
        DownstreamService { inner }
    }
}

/// A client in the layers of a [`Downstream`], which created it.
#[derive(Clone, Debug)]
pub struct DownstreamService<S, C> {
    inner: Stack<S, C>,
}

// The type of what `Downstream::layer` builds, from the innermost layer to the outermost.
type Timed<S> = Either<Timeout<Sent<S>>, Sent<S>>;
type Guarded<S, C> = Either<Breaker<S, C>, S>;
type Limited<S, C> = Either<Concurrency<S, C>, S>;
type Throttled<S, C> = Either<Throttle<S, C>, S>;
type Attempt<S, C> = Throttled<Limited<Guarded<Timed<S>, C>, C>, C>;
type Attempts<S, C> = Either<Retry<S, C>, Hedge<S, C>>;
type Stack<S, C> = WithDeadline<Attempts<Attempt<S, C>, C>>;

impl<S, C, Req> Service<Req> for DownstreamService<S, C>
where
    S: Service<Req> + CloneService,
    S::Error: AsRejection + From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    Req: CallContext + CloneRequest,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = <Stack<S, C> as Service<Req>>::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        self.inner.call(request)
    }
}

/// A request that does not exist. See the `Service` implementation for it.
#[doc(hidden)]
#[derive(Debug)]
pub enum NoRequest {}

/// A second implementation, so that the compiler does not choose the other one before it knows the type of the
/// request. For an unknown type it would try the bounds of all layers, each several times, which takes minutes
/// and gigabytes where a function infers the request and needs a `Send` future, as
/// [`PlanBuilder::node`](crate::PlanBuilder::node) does.
#[doc(hidden)]
impl<S, C> Service<NoRequest> for DownstreamService<S, C> {
    type Response = NoRequest;
    type Error = NoRequest;
    type Future = Pending<Result<NoRequest, NoRequest>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoRequest>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: NoRequest) -> Self::Future {
        match request {}
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

#[cfg(test)]
mod tests;

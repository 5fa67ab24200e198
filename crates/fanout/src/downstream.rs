//! One downstream: its policy, the state that its calls share, and the layers around its client in the
//! recommended order.

mod parts;
mod stack;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tower::util::Either;
use tower_fanout_layers::{
    BreakerLayer, CallKey, ConcurrencyLayer, ConfigError, DeadlineLayer, FallbackLayer, HedgeLayer,
    PerKeyLayer, RetryLayer, ThrottleLayer, TimeoutLayer, breaker,
    config::Validate,
    event::{Events, SentLayer},
    per_key::ByCall,
    timeout::{DeadlineConfig, TimeoutConfig},
};

pub use self::stack::{DownstreamService, UnmetBound};
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
/// 3. **Concurrency limit and circuit breaker of the key.** Are above all that the keys share, so that a
///    key is rejected before it takes a permit from the others. They apply to each attempt, so that a pausing
///    call holds no permit of its key, and the breaker counts every attempt.
/// 4. **Throttle.** Is above the limit, because a call that is not sent needs no permit. It checks the
///    breaker first, so that calls that an open circuit rejects are not counted.
/// 5. **Concurrency limit.** Applies to each attempt, so that a pausing call holds no permit. It checks
///    the breaker before and after the queue, so that no call queues for an open circuit.
/// 6. **Circuit breaker.** Is below the queue, so that it measures the service without the wait, and a
///    probe already has its permit.
/// 7. **Attempt timeout.** Is below the limit, so that the time of an attempt starts when its permit is
///    granted.
/// 8. **[`SentLayer`].** Is innermost, so that it reports the attempts that no layer rejected.
///
/// The policy turns the layers 3 to 7 on and off. A layer that is off is left out. The breaker of the key and the
/// circuit breaker of the downstream exclude each other.
///
/// # Keys
/// With [`Policy::per_key`](field@Policy::per_key), the calls of each key, such as a tenant, have a limit, a
/// breaker, or both of their own. The caller sets the key:
///
/// ```
/// # use tower::{ServiceBuilder, ServiceExt, service_fn};
/// # use tower_fanout::{
/// #     Downstream, PerKeyPolicy, Policy,
/// #     layers::{BreakerConfig, ClassifyResult, LayerError, WithCall},
/// # };
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = BreakerConfig::new().consecutive_failures(2);
/// let policy = Policy::new()
///     .circuit_breaker(None) // that of all tenants
///     .per_key(PerKeyPolicy::new().circuit_breaker(breaker));
/// let users = Downstream::with_optional_breaker("users", policy, ClassifyResult)?;
/// let service = ServiceBuilder::new().layer(&users).service(service_fn(|id: WithCall<u64>| async move {
///     if id.into_inner() == 7 { Ok("Ada") } else { Err(LayerError::from("down")) }
/// }));
/// for _ in 0..2 {
///     service.clone().oneshot(WithCall::new(8).key("acme")).await.unwrap_err();
/// }
/// // The circuit of the tenant acme is open, that of umbra is closed.
/// service.clone().oneshot(WithCall::new(7).key("acme")).await.unwrap_err();
/// assert_eq!(service.oneshot(WithCall::new(7).key("umbra")).await?, "Ada");
/// # Ok(())
/// # }
/// ```
///
/// - A retry does not check the breaker of the key before its pause. If the circuit has opened meanwhile, the
///   next attempt is rejected, and the call ends with its last result.
/// - The limit of a key does not check the breaker of the key: calls that wait in its queue are rejected at
///   their turn.
/// - The breaker of a key measures a call with its wait for a permit of the downstream, if that limit has a
///   queue. Its `slow_call`, `unanswered` and `probe_lease` are longer by the `max_wait` of that limit. An adaptive
///   limit of a key measures the wait too.
/// - The downstream learns no [expected latency](crate::LatencyEstimate).
/// - A [profile](Self::profile) has the state of the downstream's own breaker, so it has none if the keys have
///   breakers.
/// - The keys share the limit of the downstream, the budget of retries or hedges, and the connections of the client.
///   So a limit of a key should be below the number of connections too, and retries of one key leave fewer to the others.
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
    concurrency_per_key: Option<PerCallKey<ConcurrencyLayer<C>>>,
    breaker_per_key: Option<PerCallKey<BreakerLayer<C>>>,
    throttle: Option<ThrottleLayer<C>>,
    concurrency: Option<ConcurrencyLayer<C>>,
    breaker: Option<BreakerLayer<C>>,
    timeout: Option<TimeoutLayer>,
    sent: SentLayer,
}

/// A layer with a state for each key that a call carries.
type PerCallKey<L> = PerKeyLayer<Option<CallKey>, ByCall, L>;

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
        let breaker = parts::breaker(name, &policy, classify.clone())?;
        let handle = || breaker.as_ref().map(|breaker| breaker.handle().clone());
        let throttle = (policy.throttle.clone())
            .map(|config| ThrottleLayer::new(config, classify.clone()))
            .transpose()?
            .map(|throttle| throttle.breaker(handle()));
        let concurrency = parts::concurrency(&policy, classify.clone())?;
        let relaxed = policy.last_attempt_uses_deadline;
        // Slow calls of one key must not take time from those of others.
        let expected = match policy.per_key {
            None => LatencyEstimate::new(),
            Some(_) => LatencyEstimate::unknown(),
        };
        let timeout = (policy.attempt_timeout)
            .map(|timeout| TimeoutConfig::new(timeout).last_attempt_uses_deadline(relaxed))
            .map(TimeoutLayer::new)
            .transpose()?;
        Ok(Self {
            handle: required(handle())?,
            deadline: DeadlineLayer::new(DeadlineConfig::new().total(policy.total_timeout))?,
            attempts: parts::attempts(&policy, classify.clone(), handle())?,
            concurrency_per_key: parts::concurrency_per_key(&policy, classify.clone())?,
            breaker_per_key: parts::breaker_per_key(name, &policy, classify.clone())?,
            throttle,
            concurrency: concurrency.map(|limit| limit.breaker(handle())),
            breaker,
            timeout,
            sent: SentLayer::new(),
            policy,
            classify,
            name: name.into(),
            expected,
        })
    }

    /// Adds a sink that hears every event of all layers here, for every call, besides the receivers of the call.
    ///
    /// The sink hears the limits and breakers of all keys, and the changes of the downstream's breaker that are
    /// made by hand. Call this method before a clone or a service exists: these do
    /// not have the sink, except for the [events of breakers](tower_fanout_layers::event#circuit-breakers), which all
    /// clones share. The limit of a key that was first used through one does not report either. Each call of this method adds a sink. See the [module docs of the
    /// events](tower_fanout_layers::event).
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use tower_fanout::{Downstream, Policy, layers::{ClassifyResult, Event, breaker::State}};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, changes) = mpsc::channel();
    /// let users = Downstream::new("users", Policy::new(), ClassifyResult)?.events(move |event: Event| {
    ///     if let Event::BreakerChanged { to, .. } = event {
    ///         sender.send(to).unwrap();
    ///     }
    /// });
    /// let maintenance = users.breaker().force_open();
    /// assert_eq!(changes.try_recv()?, State::ForcedOpen);
    /// # drop(maintenance);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        let sink = &sink.into();
        self.deadline = self.deadline.events(sink.clone());
        self.attempts = match self.attempts {
            Either::Left(retry) => Either::Left(retry.events(sink.clone())),
            Either::Right(hedge) => Either::Right(hedge.events(sink.clone())),
        };
        self.concurrency_per_key = self
            .concurrency_per_key
            .map(|limits| limits.events(sink.clone()));
        self.breaker_per_key = self
            .breaker_per_key
            .map(|breakers| breakers.events(sink.clone()));
        self.throttle = self.throttle.map(|layer| layer.events(sink.clone()));
        self.concurrency = self.concurrency.map(|layer| layer.events(sink.clone()));
        self.breaker = self.breaker.map(|layer| layer.events(sink.clone()));
        self.timeout = self.timeout.map(|layer| layer.events(sink.clone()));
        self.sent = self.sent.events(sink.clone());
        self
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

    /// Returns the concurrency limits of the keys, or `None` if the policy turns them off.
    #[must_use]
    pub const fn concurrency_per_key(
        &self,
    ) -> Option<&PerKeyLayer<Option<CallKey>, ByCall, ConcurrencyLayer<C>>> {
        self.concurrency_per_key.as_ref()
    }

    /// Returns the circuit breakers of the keys, or `None` if the policy turns them off.
    #[must_use]
    pub const fn breaker_per_key(
        &self,
    ) -> Option<&PerKeyLayer<Option<CallKey>, ByCall, BreakerLayer<C>>> {
        self.breaker_per_key.as_ref()
    }
}

//! Methods of tower's `ServiceBuilder` that add the layers of this crate.

#[cfg(feature = "http")]
use std::time::Duration;

use tower::ServiceBuilder;
use tower_layer::Stack;

#[cfg(feature = "chaos")]
use crate::chaos::{ChaosConfig, ChaosLayer, Match};
use crate::{
    breaker::{BreakerConfig, BreakerLayer},
    call_error::CallErrorLayer,
    classify::Failure,
    concurrency::{ConcurrencyConfig, ConcurrencyLayer},
    config::ConfigError,
    event::{Events, EventsLayer},
    fallback::FallbackLayer,
    hedge::{HedgeConfig, HedgeLayer},
    layer_error::LayerErrorLayer,
    per_key::{PerKeyConfig, PerKeyLayer},
    retry::{RetryConfig, RetryLayer},
    throttle::{ThrottleConfig, ThrottleLayer},
    timeout::{DeadlineConfig, DeadlineLayer, TimeoutConfig, TimeoutLayer},
};
#[cfg(feature = "http")]
use crate::{timeout::BodyTimeoutLayer, upload::UploadLayer};

/// The builder with one more layer, or the first error of the layer's configuration.
type Added<T, L> = Result<ServiceBuilder<Stack<T, L>>, ConfigError>;

/// The function of [`CallErrorLayer::new`].
type OtherFailure<E> = fn(&E) -> Failure;

/// The function of [`ChaosLayer::new`].
#[cfg(feature = "chaos")]
type NoCondition<Req> = fn(&Match, &Req) -> bool;

/// Methods of tower's [`ServiceBuilder`] that add the layers of this crate (feature `tower`).
///
/// Each method adds a new layer below those that the builder has. A method with a configuration returns the
/// first error of the configuration.
///
/// The methods in the recommended order, outermost first. The [front page](crate#a-complete-stack) has the
/// reasons:
///
/// | method | layer | effect |
/// |---|---|---|
/// | [`events`](Self::events) | [`EventsLayer`] | sends the events of all layers below to a sink |
/// | [`fallback`](Self::fallback) | [`FallbackLayer`] | responds from another source if the call failed |
/// | [`deadline`](Self::deadline) | [`DeadlineLayer`] | limits the time of all attempts together |
/// | `upload` (feature `http`) | `UploadLayer` | makes a request body repeatable, for the retry |
/// | [`retry_failures`](Self::retry_failures) | [`RetryLayer`] | retries failures |
/// | [`hedge`](Self::hedge) | [`HedgeLayer`] | sends further attempts while the response is late; instead of the retry |
/// | [`throttle`](Self::throttle) | [`ThrottleLayer`] | rejects a share of the calls to a service that rejects most of them |
/// | [`concurrency`](Self::concurrency) | [`ConcurrencyLayer`] | limits the number of concurrent calls |
/// | [`circuit_breaker`](Self::circuit_breaker) | [`BreakerLayer`] | rejects calls to a service that keeps failing |
/// | [`per_key`](Self::per_key) | [`PerKeyLayer`] | gives each key of the requests a limit or breaker; at the position of its template |
/// | [`attempt_timeout`](Self::attempt_timeout) | [`TimeoutLayer`] | limits the time of one attempt |
/// | `body_timeout` (feature `http`) | `BodyTimeoutLayer` | limits the pauses of a response body |
/// | `chaos` (feature `chaos`) | `ChaosLayer` | injects faults |
/// | [`layer_error`](Self::layer_error) | [`LayerErrorLayer`] | changes the error of the service to a [`LayerError`](crate::LayerError) |
/// | [`call_error`](Self::call_error) | [`CallErrorLayer`] | changes the error of the service to a [`CallError`](crate::CallError) |
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     BreakerConfig, ClassifyResult, LayerError, RetryConfig, ServiceBuilderExt, WithCall,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let users = ServiceBuilder::new()
///     .deadline(Duration::from_secs(2))?
///     .retry_failures(RetryConfig::new(), ClassifyResult)?
///     .circuit_breaker("users", BreakerConfig::new(), ClassifyResult)?
///     .attempt_timeout(Duration::from_millis(500))?
///     .service(service_fn(|id: WithCall<u32>| async move { Ok::<_, LayerError>(id.into_inner()) }));
/// assert_eq!(users.oneshot(WithCall::new(7)).await?, 7);
/// # Ok(())
/// # }
/// ```
///
/// No method has the name of a method of tower: [`retry_failures`](Self::retry_failures) is not tower's
/// `retry`, and [`attempt_timeout`](Self::attempt_timeout) is not tower's `timeout`.
///
/// A layer whose state is read later, that takes the handle of a breaker, or that has a sink of its own is
/// created with `new` and added with [`ServiceBuilder::layer`].
///
/// # The type of a stack
///
/// The type of a stack lists all its layers, and the type of a closure cannot be written. For a variable, the
/// result of a function, or a handler of axum that is a closure and keeps the stack, `impl Service<…> + Clone` is
/// enough. A field of a struct and the `State` of axum need a type that can be written, such as tower's
/// [`BoxCloneSyncService`]. It costs one allocation per call:
///
/// ```
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
/// use tower_fanout_layers::{
///     BreakerConfig, ClassifyResult, ConfigError, LayerError, ServiceBuilderExt, WithCall,
/// };
///
/// /// The request, the response and the error of the stack.
/// type Users = BoxCloneSyncService<WithCall<u64>, String, LayerError>;
///
/// /// Builds the stack around a client.
/// fn users<S>(client: S) -> Result<Users, ConfigError>
/// where
///     S: Service<WithCall<u64>, Response = String, Error = LayerError, Future: Send>,
///     S: Clone + Send + Sync + 'static,
/// {
///     let stack = ServiceBuilder::new()
///         .circuit_breaker("users", BreakerConfig::new(), ClassifyResult)?
///         .service(client);
///     Ok(BoxCloneSyncService::new(stack))
/// }
///
/// /// The state of an application: in axum, `Router::with_state(App { … })`. All clones share the breaker.
/// #[derive(Clone)]
/// struct App {
///     users: Users,
/// }
///
/// /// A handler: in axum, the argument is `State(app): State<App>`.
/// async fn name(app: App) -> Result<String, LayerError> {
///     app.users.oneshot(WithCall::new(7)).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = service_fn(|id: WithCall<u64>| async move { Ok(format!("user {}", id.get())) });
/// let app = App { users: users(client)? };
/// assert_eq!(tokio::spawn(name(app)).await??, "user 7");
/// # Ok(())
/// # }
/// ```
///
/// [`BoxCloneSyncService`]: https://docs.rs/tower/0.5/tower/util/struct.BoxCloneSyncService.html
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Adds a [`DeadlineLayer`]: a limit on the time of the whole call. `config` is a [`Duration`] or a
    /// [`DeadlineConfig`].
    ///
    /// [`Duration`]: std::time::Duration
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn deadline(self, config: impl Into<DeadlineConfig>) -> Added<DeadlineLayer, L> {
        Ok(self.add(DeadlineLayer::new(config)?))
    }

    /// Adds a [`TimeoutLayer`]: a limit on the time of one attempt. `config` is a [`Duration`] or a
    /// [`TimeoutConfig`].
    ///
    /// [`Duration`]: std::time::Duration
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn attempt_timeout(self, config: impl Into<TimeoutConfig>) -> Added<TimeoutLayer, L> {
        Ok(self.add(TimeoutLayer::new(config)?))
    }

    /// Adds a [`ConcurrencyLayer`]: a limit on the number of concurrent calls, with a bounded queue.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn concurrency(self, config: ConcurrencyConfig) -> Added<ConcurrencyLayer, L> {
        Ok(self.add(ConcurrencyLayer::new(config)?))
    }

    /// Adds a [`RetryLayer`]: further attempts after failures.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn retry_failures<C>(self, config: RetryConfig, classify: C) -> Added<RetryLayer<C>, L> {
        Ok(self.add(RetryLayer::new(config, classify)?))
    }

    /// Adds a [`HedgeLayer`]: further attempts while the response is late.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn hedge<C>(self, config: HedgeConfig, classify: C) -> Added<HedgeLayer<C>, L> {
        Ok(self.add(HedgeLayer::new(config, classify)?))
    }

    /// Adds a [`BreakerLayer`]: a circuit breaker called `name`.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn circuit_breaker<C>(
        self,
        name: &str,
        config: BreakerConfig,
        classify: C,
    ) -> Added<BreakerLayer<C>, L> {
        Ok(self.add(BreakerLayer::new(name, config, classify)?))
    }

    /// Adds a [`ThrottleLayer`]: rejection of a share of the calls while the service rejects most of them.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn throttle<C>(self, config: ThrottleConfig, classify: C) -> Added<ThrottleLayer<C>, L> {
        Ok(self.add(ThrottleLayer::new(config, classify)?))
    }

    /// Adds a [`PerKeyLayer`]: a breaker or limit of its own for each key of the requests. `template` is a
    /// [`BreakerLayer`] or a [`ConcurrencyLayer`].
    ///
    /// # Errors
    /// Returns the first error of `config`.
    fn per_key<K, F, T, Req>(
        self,
        config: PerKeyConfig,
        template: T,
        key: F,
    ) -> Added<PerKeyLayer<K, F, T>, L>
    where
        F: Fn(&Req) -> K,
    {
        Ok(self.add(PerKeyLayer::new(config, template, key)?))
    }

    /// Adds a [`FallbackLayer`]: other sources of the response if the call failed. `steps` adds them to an
    /// empty chain, such as `|chain| chain.response("a guest")`.
    fn fallback<C, Req, Res, E>(
        self,
        classify: C,
        steps: impl FnOnce(FallbackLayer<C, Req, Res, E>) -> FallbackLayer<C, Req, Res, E>,
    ) -> ServiceBuilder<Stack<FallbackLayer<C, Req, Res, E>, L>> {
        self.add(steps(FallbackLayer::new(classify)))
    }

    /// Adds an [`EventsLayer`]: a sink for the events of all layers below.
    fn events(self, sink: impl Into<Events>) -> ServiceBuilder<Stack<EventsLayer, L>> {
        self.add(EventsLayer::new(sink))
    }

    /// Adds a [`LayerErrorLayer`], which changes the error of the service to [`LayerError`](crate::LayerError).
    /// For the error of a client, add [`LayerErrorLayer::with`] a function that finds its kind of failure.
    fn layer_error(self) -> ServiceBuilder<Stack<LayerErrorLayer, L>> {
        self.add(LayerErrorLayer::new())
    }

    /// Adds a [`CallErrorLayer`], which changes the error `E` of the service to
    /// [`CallError<E>`](crate::CallError). Every error is a [`Failure::Other`]. For the error of a client,
    /// add [`CallErrorLayer::with`] a function that finds its kind of failure.
    fn call_error<E>(self) -> ServiceBuilder<Stack<CallErrorLayer<OtherFailure<E>>, L>> {
        self.add(CallErrorLayer::new())
    }

    /// Adds a [`ChaosLayer`]: injected faults (feature `chaos`). `inject` creates them.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    #[cfg(feature = "chaos")]
    fn chaos<I, Req>(
        self,
        config: ChaosConfig,
        inject: I,
    ) -> Added<ChaosLayer<I, NoCondition<Req>>, L> {
        Ok(self.add(ChaosLayer::new(config, inject)?))
    }

    /// Adds a [`BodyTimeoutLayer`]: a limit on the pauses of a response body (feature `http`).
    ///
    /// # Errors
    /// Returns an error if `idle` is zero.
    #[cfg(feature = "http")]
    fn body_timeout(self, idle: Duration) -> Added<BodyTimeoutLayer, L> {
        Ok(self.add(BodyTimeoutLayer::new(idle)?))
    }

    /// Adds an [`UploadLayer`], which makes request bodies of up to `max_body` bytes repeatable (feature `http`).
    #[cfg(feature = "http")]
    fn upload(self, max_body: u64) -> ServiceBuilder<Stack<UploadLayer, L>> {
        self.add(UploadLayer::new(max_body))
    }
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {}

mod sealed {
    use super::{ServiceBuilder, Stack};

    pub trait Sealed<L> {
        fn add<T>(self, layer: T) -> ServiceBuilder<Stack<T, L>>;
    }

    impl<L> Sealed<L> for ServiceBuilder<L> {
        fn add<T>(self, layer: T) -> ServiceBuilder<Stack<T, L>> {
            self.layer(layer)
        }
    }
}

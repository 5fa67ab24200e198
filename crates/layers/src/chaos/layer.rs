//! [`ChaosLayer`], its service, and the handle that controls the faults at run time.

use std::{
    fmt,
    sync::Arc,
    task::{self, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::ChaosConfig, draw::Shared, future::ResponseFuture, inject::Injected, matching::Match,
};
use crate::{
    call::CallContext,
    clone::CloneService,
    config::{ConfigError, Validate},
    event::{Events, Sinks},
    oneshot::Oneshot,
};

/// A layer that injects faults; see the [module docs](super).
///
/// `I` creates the errors, the responses and the broken responses. `P` returns `true` if a request meets
/// the conditions of a [`Match`].
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     AsRejection, Failure, LayerError,
///     chaos::{ChaosConfig, ChaosLayer, Injected, Injection, Match, Rule},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let paying = Match { tier: Some("pro".into()), ..Match::default() };
/// let config = ChaosConfig::new().enabled(true).rules(vec![
///     Rule::new(1.0, Injection::Truncate(3)),
///     Rule::new(1.0, Injection::Error(Failure::ConnectionReset)).matching(paying),
/// ]);
/// let layer = ChaosLayer::new(config, |injected: Injected<String>| match injected {
///     Injected::Truncate(text, bytes) => Ok(text.chars().take(bytes as usize).collect()),
///     Injected::Error(failure) => Err(LayerError::from(failure)),
///     _ => Err("never injected here".into()),
/// });
/// let layer = layer.unwrap().matching(|wanted: &Match, tier: &&str| wanted.tier.as_deref() == Some(*tier));
///
/// let service = layer.layer(service_fn(|_: &str| async { Ok(String::from("fine")) }));
/// assert_eq!(service.clone().oneshot("free").await.unwrap(), "fin");
/// assert_eq!(service.oneshot("pro").await.unwrap_err().failure(), Failure::ConnectionReset);
/// # }
/// ```
#[derive(Clone)]
pub struct ChaosLayer<I, P> {
    pub(super) shared: Arc<Shared>,
    pub(super) inject: I,
    pub(super) matcher: P,
    pub(super) events: Sinks,
}

impl<I, Req> ChaosLayer<I, fn(&Match, &Req) -> bool> {
    /// Creates a layer. `inject`, a `Fn(Injected<Response>) -> Result<Response, E>`, creates the faults.
    ///
    /// `inject` may return a response without a body unchanged where the body should break off. For HTTP, use
    /// `inject_http` (feature `http`). Rules whose [`Match`] has a condition do not apply without
    /// [`matching`](Self::matching).
    ///
    /// # Errors
    /// Returns the first error of `config`: a status outside 200 to 599, a latency whose `max` is below its
    /// `min`, a [`Failure::Status`](crate::Failure::Status) as an error, or a header condition without a
    /// name. A rate outside 0 to 1 is not an error.
    pub fn new(config: ChaosConfig, inject: I) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            shared: Arc::new(Shared::new(&config)),
            inject,
            matcher: |_, _| false,
            events: Sinks::default(),
        })
    }

    /// Sets the function that returns `true` if a request meets the conditions of a rule.
    ///
    /// The function is called after the draw, and only for a [`Match`] with a condition.
    #[must_use]
    pub fn matching<Q>(self, matcher: Q) -> ChaosLayer<I, Q>
    where
        Q: Fn(&Match, &Req) -> bool,
    {
        ChaosLayer {
            shared: self.shared,
            inject: self.inject,
            matcher,
            events: self.events,
        }
    }
}

impl<I, P> ChaosLayer<I, P> {
    /// Adds a sink that hears every event of this layer, for every call, besides the receivers of the call.
    ///
    /// Each call of this method adds a sink. Clones of the layer that were made before do not have it. See
    /// the [module docs of the events](crate::event).
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        self.events.add(sink.into());
        self
    }

    /// Returns a handle that controls the faults at run time.
    #[must_use]
    pub fn handle(&self) -> ChaosHandle {
        ChaosHandle(Arc::clone(&self.shared))
    }
}

/// A handle that controls the faults of a [`ChaosLayer`] at run time.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{Failure, LayerError, chaos::{ChaosConfig, ChaosLayer, Injected, Injection, Rule}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let reset = Rule::new(1.0, Injection::Error(Failure::ConnectionReset));
/// let config = ChaosConfig::new().rules(vec![reset]);
/// let make = |_: Injected<&'static str>| Err(LayerError::from("chaos"));
/// let layer = ChaosLayer::new(config, make).unwrap();
/// let chaos = layer.handle();
/// let service = layer.layer(service_fn(|()| async { Ok("fine") }));
///
/// assert!(service.clone().oneshot(()).await.is_ok());
/// chaos.enable(true);
/// assert!(service.clone().oneshot(()).await.is_err());
/// chaos.set_rate(0, 0.0);
/// assert!(service.oneshot(()).await.is_ok());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ChaosHandle(Arc<Shared>);

impl ChaosHandle {
    /// Turns the injection on or off, for calls that start from now on.
    pub fn enable(&self, enabled: bool) {
        self.0.enable(enabled);
    }

    /// Sets the rate of the rule at `index` in the configuration. The rate is clamped to 0 to 1, and NaN
    /// counts as 0. Has no effect if the rule does not exist.
    pub fn set_rate(&self, index: usize, rate: f64) {
        self.0.set_rate(index, rate);
    }
}

impl<S, I: Clone, P: Clone> Layer<S> for ChaosLayer<I, P> {
    type Service = Chaos<S, I, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Chaos {
            layer: self.clone(),
            inner,
        }
    }
}

impl<I, P> fmt::Debug for ChaosLayer<I, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosLayer")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// A [`Service`] with injected faults, created by [`ChaosLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct Chaos<S, I, P> {
    layer: ChaosLayer<I, P>,
    inner: S,
}

impl<S, I, P, Req> Service<Req> for Chaos<S, I, P>
where
    S: Service<Req> + CloneService,
    I: Fn(Injected<S::Response>) -> Result<S::Response, S::Error> + Clone,
    P: Fn(&Match, &Req) -> bool + Clone,
    Req: CallContext,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, I, P, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if self.layer.shared.is_enabled() {
            ResponseFuture::enabled(self.layer.clone(), self.inner.clone(), request)
        } else {
            ResponseFuture::disabled(Oneshot::start(&mut self.inner, request))
        }
    }
}

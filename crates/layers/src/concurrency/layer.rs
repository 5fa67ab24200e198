//! [`ConcurrencyLayer`], the layer of the concurrency limit, and its service, which acquires a permit in
//! `call`.

use std::{
    marker::PhantomData,
    task::{self, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    ConcurrencyConfig,
    future::ResponseFuture,
    limiter::{Limiter, Permit},
};
#[cfg(feature = "http")]
use crate::permit_scope::UntilBodyEnd;
use crate::{
    breaker,
    call::CallContext,
    classify::{Classify, ClassifyResult},
    clone::CloneService,
    config::{ConfigError, Validate},
    event::{Events, Sinks},
    permit_scope::{PermitScope, UntilResponse},
    rejection::{AsRejection, Rejection},
    sync::Arc,
};

/// A layer that limits the number of concurrent calls. See the [module docs](super).
///
/// One layer is one limit: all services that the layer makes, and all their clones, share it. `C`
/// classifies results for an [adaptive](super::adaptive) limit. `U` is the scope of a permit:
/// [`UntilResponse`], or `UntilBodyEnd` after `until_body_end` (feature `http`).
///
/// ```
/// use std::time::Duration;
/// use tokio::time::sleep;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, ConcurrencyConfig, ConcurrencyLayer, LayerError, Rejection};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = ConcurrencyLayer::new(ConcurrencyConfig::new().max(1).queue(1)).unwrap();
/// let service = layer.layer(service_fn(|()| async {
///     sleep(Duration::from_millis(50)).await;
///     Ok::<_, LayerError>("done")
/// }));
/// // One call runs and one waits. The third is rejected.
/// let call = || service.clone().oneshot(());
/// let (first, second, third) = tokio::join!(call(), call(), call());
/// assert_eq!((first.unwrap(), second.unwrap()), ("done", "done"));
/// assert_eq!(third.unwrap_err().as_rejection(), Some(Rejection::AtCapacity));
/// assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer<C = ClassifyResult, U = UntilResponse> {
    pub(super) limiter: Arc<Limiter>,
    /// The configuration of a limit for another key.
    pub(super) config: Arc<ConcurrencyConfig>,
    pub(super) classify: C,
    pub(super) events: Sinks,
    until: PhantomData<fn() -> U>,
}

impl ConcurrencyLayer {
    /// Creates a limit. See [`ConcurrencyConfig`] for the defaults.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: ConcurrencyConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            limiter: Arc::new(Limiter::new(&config)),
            config: Arc::new(config),
            classify: ClassifyResult,
            events: Sinks::default(),
            until: PhantomData,
        })
    }
}

impl<C, U> ConcurrencyLayer<C, U> {
    /// Checks `breaker`, which must be below the limit, before a call runs or queues. While the
    /// circuit is open, the call is rejected at once.
    ///
    /// The breaker is checked again after a wait, and the call is rejected if the circuit has
    /// opened meanwhile. A limit has one breaker: further calls of this method have no effect.
    ///
    /// The [module docs](super#with-a-circuit-breaker) explain why the breaker must be below.
    #[must_use]
    pub fn breaker(self, breaker: impl Into<Option<breaker::Handle>>) -> Self {
        let _ = breaker
            .into()
            .map(|breaker| self.limiter.breaker.set(breaker));
        self
    }

    /// Sets the classifier whose classes an adaptive limit uses. Defaults to [`ClassifyResult`]. A
    /// fixed limit uses the classes only to leave rejected calls out of the average duration.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> ConcurrencyLayer<D, U> {
        ConcurrencyLayer {
            limiter: self.limiter,
            config: self.config,
            classify,
            events: self.events,
            until: PhantomData,
        }
    }

    /// Adds a sink that hears every event of this layer, for every call, besides the receivers of the call.
    ///
    /// Each call of this method adds a sink. Clones of the layer that were made before do not have it. See
    /// the [module docs of the events](crate::event).
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        self.events.add(sink.into());
        self
    }

    /// Holds the permit until the response body has ended, failed, or was dropped (feature `http`).
    ///
    /// A retry above keeps a response, and with it the permit, until the next attempt has ended. To free the
    /// permit before the pause, use
    /// [`RetryLayer::release_responses`](crate::RetryLayer::release_responses).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{ConcurrencyConfig, ConcurrencyLayer, LayerError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap().until_body_end();
    /// let service = layer.layer(service_fn(|_: Request<()>| async {
    ///     Ok::<_, LayerError>(Response::new(Full::new(Bytes::from("all of it"))))
    /// }));
    /// let response = service.oneshot(Request::new(())).await.unwrap();
    /// assert_eq!(layer.in_flight(), 1);
    /// assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "all of it");
    /// assert_eq!(layer.in_flight(), 0);
    /// # }
    /// ```
    #[cfg(feature = "http")]
    #[must_use]
    pub fn until_body_end(self) -> ConcurrencyLayer<C, UntilBodyEnd> {
        ConcurrencyLayer {
            limiter: self.limiter,
            config: self.config,
            classify: self.classify,
            events: self.events,
            until: PhantomData,
        }
    }

    /// Sets the limit to `max` concurrent calls. Zero counts as 1.
    ///
    /// Running calls are neither cancelled nor waited for. After a decrease, no permit is granted
    /// until fewer than `max` calls run. After an increase, waiting calls get permits.
    ///
    /// For an [adaptive](super::adaptive) limit, the value is temporary. It applies until the end of the
    /// current window, even if it is outside `min` to `max`. Then the limit continues from the value that
    /// it had computed before.
    pub fn set_limit(&self, max: u32) {
        self.limiter.set_max(max);
    }

    /// Returns the number of running calls.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.limiter.in_flight()
    }

    /// Returns the number of waiting calls.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.limiter.queued()
    }

    /// Returns the current limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limiter.max()
    }
}

impl<C: Clone, U> ConcurrencyLayer<C, U> {
    /// Creates a layer with a limit of its own, and with the configuration of this layer.
    pub(super) fn fresh(&self) -> Self {
        let fresh = Self {
            limiter: Arc::new(Limiter::new(&self.config)),
            config: Arc::clone(&self.config),
            classify: self.classify.clone(),
            events: self.events.clone(),
            until: PhantomData,
        };
        fresh.breaker(self.limiter.breaker.get().cloned())
    }
}

impl<S, C: Clone, U: Clone> Layer<S> for ConcurrencyLayer<C, U> {
    type Service = Concurrency<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        Concurrency {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`ConcurrencyLayer`]. It runs, queues or rejects calls.
#[derive(Clone, Debug)]
pub struct Concurrency<S, C = ClassifyResult, U = UntilResponse> {
    layer: ConcurrencyLayer<C, U>,
    inner: S,
}

impl<S, C, U, Req> Service<Req> for Concurrency<S, C, U>
where
    S: Service<Req> + CloneService,
    S::Error: AsRejection + From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    U: PermitScope<S::Response>,
    Req: CallContext,
{
    type Response = U::Response<Permit>;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, U, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        // Always ready, because a permit must not be reserved for a call that is never made.
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(&self.layer, &mut self.inner, request)
    }
}

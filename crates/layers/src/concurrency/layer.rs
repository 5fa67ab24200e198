//! The layer, and the look from outside on its state.

use std::{fmt, marker::PhantomData};

use tower_layer::Layer;

use super::{ConcurrencyConfig, limiter::Limiter, service::Concurrency};
#[cfg(feature = "http")]
use crate::permit_scope::UntilBodyEnd;
use crate::{
    breaker,
    classify::ClassifyResult,
    config::{ConfigError, Validate},
    permit_scope::UntilResponse,
    sync::Arc,
};

/// Limits how many calls run at once; see the [module docs](super).
///
/// One layer is one limit: all services that it makes, and all their clones, share it. `C` tells an
/// [adaptive](super::adaptive) limit what results mean, and `U` how long a call keeps its permit.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::sleep;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, BoxError, ConcurrencyConfig, ConcurrencyLayer, Rejection};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = ConcurrencyLayer::new(ConcurrencyConfig::new().max(1).queue(1)).unwrap();
/// let service = layer.layer(service_fn(|()| async {
///     sleep(Duration::from_millis(50)).await;
///     Ok::<_, BoxError>("done")
/// }));
/// // One runs, one waits, and for the third there is no room.
/// let call = || service.clone().oneshot(());
/// let (first, second, third) = tokio::join!(call(), call(), call());
/// assert_eq!((first.unwrap(), second.unwrap()), ("done", "done"));
/// assert_eq!(third.unwrap_err().as_rejection(), Some(&Rejection::AtCapacity));
/// assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
/// # }
/// ```
pub struct ConcurrencyLayer<C = ClassifyResult, U = UntilResponse> {
    pub(super) limiter: Arc<Limiter>,
    pub(super) classify: C,
    until: PhantomData<fn() -> U>,
}

impl ConcurrencyLayer {
    /// Creates a limit.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: ConcurrencyConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            limiter: Arc::new(Limiter::new(&config)),
            classify: ClassifyResult,
            until: PhantomData,
        })
    }
}

impl<C, U> ConcurrencyLayer<C, U> {
    /// Asks `breaker`, which is below the limit, before a call begins or queues: while the circuit is
    /// open the call is rejected at once. It is asked again after the wait: a call in whose wait the
    /// circuit has opened is rejected, not sent. One limit has one breaker, the first that it is given.
    ///
    /// The [module docs](super#with-a-circuit-breaker) say why the breaker must be below.
    #[must_use]
    pub fn breaker(self, breaker: breaker::Handle) -> Self {
        let _ = self.limiter.breaker.set(breaker);
        self
    }

    /// Tells an adaptive limit by `classify` what results mean.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> ConcurrencyLayer<D, U> {
        ConcurrencyLayer {
            limiter: self.limiter,
            classify,
            until: PhantomData,
        }
    }

    /// Keeps the permit until the body of the answer has ended, failed, or was dropped.
    ///
    /// A retry above drops an answer before it pauses, so a call that pauses holds no permit; except
    /// where it [asks a breaker again](crate::RetryLayer::breaker) after the pause, since the call may
    /// then end with that answer.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{BoxError, ConcurrencyConfig, ConcurrencyLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap().until_body_end();
    /// let service = layer.layer(service_fn(|_: Request<()>| async {
    ///     Ok::<_, BoxError>(Response::new(Full::new(Bytes::from("all of it"))))
    /// }));
    /// let answer = service.oneshot(Request::new(())).await.unwrap();
    /// assert_eq!(layer.in_flight(), 1);
    /// assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "all of it");
    /// assert_eq!(layer.in_flight(), 0);
    /// # }
    /// ```
    #[cfg(feature = "http")]
    #[must_use]
    pub fn until_body_end(self) -> ConcurrencyLayer<C, UntilBodyEnd> {
        ConcurrencyLayer {
            limiter: self.limiter,
            classify: self.classify,
            until: PhantomData,
        }
    }

    /// From now on `max` calls may run at once, 1 at least. It neither stops nor waits for calls that
    /// run: there is no further turn until fewer run. An adaptive limit moves on from where it was.
    pub fn set_limit(&self, max: u32) {
        self.limiter.set_max(max);
    }

    /// Calls that run now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.limiter.in_flight()
    }

    /// Calls that wait now.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.limiter.queued()
    }

    /// Returns the limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limiter.max()
    }
}

impl<C: Clone, U> Clone for ConcurrencyLayer<C, U> {
    fn clone(&self) -> Self {
        Self {
            limiter: Arc::clone(&self.limiter),
            classify: self.classify.clone(),
            until: PhantomData,
        }
    }
}

impl<C, U> fmt::Debug for ConcurrencyLayer<C, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLayer")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone, U> Layer<S> for ConcurrencyLayer<C, U> {
    type Service = Concurrency<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        Concurrency {
            layer: self.clone(),
            inner,
        }
    }
}

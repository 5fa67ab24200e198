//! The layer, and the look from outside on its state.

use std::{fmt, marker::PhantomData};

use tower_layer::Layer;

use super::{ConcurrencyPolicy, adaptive::Adapt, limiter::Limiter, service::Concurrency};
#[cfg(feature = "http")]
use crate::until::BodyEnd;
use crate::{breaker, classify::ClassifyResult, sync::Arc, until::Answered};

/// Limits how many calls run at once; see the [module docs](super).
///
/// One layer is one limit: all services that it makes, and all their clones, share it. `C` tells an
/// [adaptive](super::adaptive) limit what results mean, and `U` how long a call keeps its permit.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::sleep;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsReject, BoxError, ConcurrencyLayer, ConcurrencyPolicy, Reject};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let policy = ConcurrencyPolicy::build(|limit| (limit.max, limit.queue) = (1, 1));
/// let layer = ConcurrencyLayer::new(policy.unwrap());
/// let service = layer.layer(service_fn(|()| async {
///     sleep(Duration::from_millis(50)).await;
///     Ok::<_, BoxError>("done")
/// }));
/// // One runs, one waits, and for the third there is no room.
/// let call = || service.clone().oneshot(());
/// let (first, second, third) = tokio::join!(call(), call(), call());
/// assert_eq!((first.unwrap(), second.unwrap()), ("done", "done"));
/// assert_eq!(third.unwrap_err().as_reject(), Some(&Reject::AtCapacity));
/// assert_eq!((layer.in_flight(), layer.queued()), (0, 0));
/// # }
/// ```
pub struct ConcurrencyLayer<C = ClassifyResult, U = Answered> {
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) classify: C,
    until: PhantomData<fn() -> U>,
}

impl ConcurrencyLayer {
    /// A limit by `policy`.
    #[must_use]
    pub fn new(policy: ConcurrencyPolicy) -> Self {
        Self {
            limiter: Some(Arc::new(Limiter::new(&policy))),
            classify: ClassifyResult,
            until: PhantomData,
        }
    }

    /// A limit by `policy` that `algorithm` moves, instead of the one that it names.
    #[must_use]
    pub fn adapting(policy: ConcurrencyPolicy, algorithm: impl Adapt + 'static) -> Self {
        let mut limiter = Limiter::new(&policy);
        limiter.adapt(&policy, Box::new(algorithm));
        Self {
            limiter: Some(Arc::new(limiter)),
            ..Self::new(policy)
        }
    }

    /// No limit.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            limiter: None,
            classify: ClassifyResult,
            until: PhantomData,
        }
    }
}

impl<C, U> ConcurrencyLayer<C, U> {
    /// Ties the limit to the breaker above it. A call whose turn comes after the circuit has opened
    /// is refused, not sent; and the breaker knows of the time for which a call waited, so that it
    /// does not take that for the service's. One limit has one breaker, the first that it is told.
    #[must_use]
    pub fn recheck(self, breaker: breaker::Handle) -> Self {
        if let Some(limiter) = &self.limiter {
            let _ = limiter.breaker.set(breaker);
        }
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
    /// where it [asks a breaker again](crate::RetryLayer::recheck) after the pause, since the call may
    /// then end with that answer.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{BoxError, ConcurrencyLayer, ConcurrencyPolicy};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = ConcurrencyLayer::new(ConcurrencyPolicy::default()).until_body_end();
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
    pub fn until_body_end(self) -> ConcurrencyLayer<C, BodyEnd> {
        ConcurrencyLayer {
            limiter: self.limiter,
            classify: self.classify,
            until: PhantomData,
        }
    }

    /// From now on `max` calls may run at once, 1 at least. It neither stops nor waits for calls that
    /// run: there is no further turn until fewer run. An adaptive limit moves on from where it was.
    pub fn set_limit(&self, max: u32) {
        if let Some(limiter) = &self.limiter {
            limiter.set_max(max);
        }
    }

    /// Calls that run now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.limiter
            .as_ref()
            .map_or(0, |limiter| limiter.in_flight())
    }

    /// Calls that wait now.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.limiter.as_ref().map_or(0, |limiter| limiter.queued())
    }

    /// The limit, if there is one.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.limiter.as_ref().map(|limiter| limiter.max())
    }
}

impl<C: Clone, U> Clone for ConcurrencyLayer<C, U> {
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
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

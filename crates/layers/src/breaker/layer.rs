//! [`BreakerLayer`], the layer of the circuit breaker.

use std::{fmt, marker::PhantomData};

use tower_layer::Layer;

use super::{config::BreakerConfig, handle::Handle, service::Breaker};
#[cfg(feature = "http")]
use crate::permit_scope::UntilBodyEnd;
use crate::{
    config::{ConfigError, Validate},
    permit_scope::UntilResponse,
};

/// A layer that stops calls to a service that keeps failing. See the [module docs](super).
///
/// One layer is one breaker: all services that the layer makes, and all their clones, share it.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, BoxError, BreakerConfig, BreakerLayer, ClassifyResult, breaker::State};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let config = BreakerConfig::new().consecutive_failures(2);
/// let layer = BreakerLayer::new("prices", config, ClassifyResult).unwrap();
/// let service = layer.layer(service_fn(|()| async { Err::<(), BoxError>("down".into()) }));
///
/// service.clone().oneshot(()).await.unwrap_err();
/// service.clone().oneshot(()).await.unwrap_err();
/// assert_eq!(layer.handle().state(), State::Open);
/// assert!(service.oneshot(()).await.unwrap_err().as_rejection().is_some());
/// # }
/// ```
///
/// `U` is the scope of the measurement: [`UntilResponse`], or `UntilBodyEnd` after `until_body_end`
/// (feature `http`).
pub struct BreakerLayer<C, U = UntilResponse> {
    pub(super) handle: Handle,
    pub(super) classify: C,
    until: PhantomData<fn() -> U>,
}

impl<C> BreakerLayer<C> {
    /// Creates a breaker for the service called `name`. `classify` decides which results are
    /// failures.
    ///
    /// The name is for your own code: [`Handle::name`] returns it, and the `Debug` text of a handle has
    /// it. Neither events nor rejections contain the name, and two breakers may have the same name.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(name: &str, config: BreakerConfig, classify: C) -> Result<Self, ConfigError> {
        let handle = Handle::new(name, config.validated()?);
        Ok(Self::shared(handle, classify))
    }

    /// Creates a layer that shares the breaker of another layer through its [handle](Self::handle).
    #[must_use]
    pub const fn shared(handle: Handle, classify: C) -> Self {
        Self {
            handle,
            classify,
            until: PhantomData,
        }
    }
}

impl<C, U> BreakerLayer<C, U> {
    /// Classifies a call at the end of its response body, so that an error in the body is a
    /// failure.
    ///
    /// If the caller drops the body early, the response's status decides. The duration of the call
    /// is the time to the response headers in either case, because the caller determines how fast
    /// the body is read.
    ///
    /// A retry above drops a response before its pause, so the response is recorded then. A
    /// `RetryLayer` with [`.breaker(..)`](crate::RetryLayer::breaker) drops the response after the
    /// pause, and the breaker records it only then.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use futures_util::stream;
    /// use http::{Request, Response};
    /// use http_body::Frame;
    /// use http_body_util::{BodyExt, StreamBody};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{BoxError, BreakerConfig, BreakerLayer, ClassifyHttp};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = BreakerLayer::new("files", BreakerConfig::new(), ClassifyHttp::new()).unwrap();
    /// let layer = layer.until_body_end();
    /// let service = layer.layer(service_fn(|_: Request<()>| async {
    ///     let frames = [Ok(Frame::data(Bytes::from("half"))), Err(BoxError::from("connection reset"))];
    ///     Ok::<_, BoxError>(Response::new(StreamBody::new(stream::iter(frames))))
    /// }));
    /// let response = service.oneshot(Request::new(())).await.unwrap();
    /// let snapshot = || layer.handle().snapshot();
    /// assert_eq!((snapshot().calls, snapshot().failed), (0, 0));
    /// response.into_body().collect().await.unwrap_err();
    /// assert_eq!((snapshot().calls, snapshot().failed), (1, 1));
    /// # }
    /// ```
    #[cfg(feature = "http")]
    #[must_use]
    pub fn until_body_end(self) -> BreakerLayer<C, UntilBodyEnd> {
        BreakerLayer {
            handle: self.handle,
            classify: self.classify,
            until: PhantomData,
        }
    }

    /// Returns the handle of the breaker.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl<C: Clone, U> Clone for BreakerLayer<C, U> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            classify: self.classify.clone(),
            until: PhantomData,
        }
    }
}

impl<C, U> fmt::Debug for BreakerLayer<C, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone, U> Layer<S> for BreakerLayer<C, U> {
    type Service = Breaker<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker {
            layer: self.clone(),
            inner,
        }
    }
}

//! [`BreakerLayer`], the layer of the circuit breaker, and its service, which checks the breaker in
//! `call`.

use std::{
    marker::PhantomData,
    task::{self, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{config::BreakerConfig, future::ResponseFuture, handle::Handle, permit::Permit};
#[cfg(feature = "http")]
use crate::permit_scope::UntilBodyEnd;
use crate::{
    call::CallContext,
    classify::Classify,
    clone::CloneService,
    config::{ConfigError, Validate},
    event::{Event, Events},
    oneshot::Oneshot,
    permit_scope::{PermitScope, UntilResponse, report_panic},
    rejection::{AsRejection, Rejection},
};

/// A layer that stops calls to a service that keeps failing. See the [module docs](super).
///
/// One layer is one breaker: all services that the layer makes, and all their clones, share it.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     AsRejection, BreakerConfig, BreakerLayer, ClassifyResult, LayerError, breaker::State,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let config = BreakerConfig::new().consecutive_failures(2);
/// let layer = BreakerLayer::new("prices", config, ClassifyResult).unwrap();
/// let service = layer.layer(service_fn(|()| async { Err::<(), LayerError>("down".into()) }));
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
#[derive(Clone, Debug)]
pub struct BreakerLayer<C, U = UntilResponse> {
    handle: Handle,
    classify: C,
    until: PhantomData<fn() -> U>,
}

impl<C> BreakerLayer<C> {
    /// Creates a breaker for the service called `name`. `classify` decides which results are
    /// failures.
    ///
    /// The name is for your own code: [`Handle::name`] returns it, and the `Debug` text of a handle has
    /// it. Neither events nor rejections contain the name, and two breakers may have the same name. Give
    /// the name to the [sinks](Self::events) of the breaker too.
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
    /// Classifies a call at the end of its response body, so that an error in the body is a failure
    /// (feature `http`).
    ///
    /// If the caller drops the body early, the response's status decides. The duration of the call
    /// is the time to the response headers in either case, because the caller determines how fast
    /// the body is read.
    ///
    /// A retry above keeps a response until the next attempt has ended, and the breaker records the
    /// response only then. To record it before the pause, use
    /// [`RetryLayer::release_responses`](crate::RetryLayer::release_responses).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use futures_util::stream;
    /// use http::{Request, Response};
    /// use http_body::Frame;
    /// use http_body_util::{BodyExt, StreamBody};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyHttp, LayerError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = BreakerLayer::new("files", BreakerConfig::new(), ClassifyHttp::new()).unwrap();
    /// let layer = layer.until_body_end();
    /// let service = layer.layer(service_fn(|_: Request<()>| async {
    ///     let frames = [Ok(Frame::data(Bytes::from("half"))), Err(LayerError::from("connection reset"))];
    ///     Ok::<_, LayerError>(Response::new(StreamBody::new(stream::iter(frames))))
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

    /// Adds a sink that hears every event of the breaker, for every call, besides the receivers of the call.
    ///
    /// The sink belongs to the breaker: it hears the calls of all layers that share the breaker, those of
    /// earlier clones included, and the changes that are made by hand through a [`Handle`]. It cannot be
    /// removed. Each call of this method adds a sink. See the [module docs of the
    /// events](crate::event#circuit-breakers).
    #[must_use]
    pub fn events(self, sink: impl Into<Events>) -> Self {
        self.handle.shared().events.add(sink.into());
        self
    }

    /// Returns the handle of the breaker.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl<C: Clone, U> BreakerLayer<C, U> {
    /// Calls `inner` if the breaker admits the call.
    #[inline(always)]
    pub(super) fn call<S, Req>(&self, inner: &mut S, request: Req) -> ResponseFuture<S, C, U, Req>
    where
        S: Service<Req, Error: From<Rejection>> + Clone,
        Req: CallContext,
    {
        let events = &request.call().events;
        match self.handle.admit(events) {
            Ok(permit) => {
                // `start` calls a ready service at once, and otherwise waits in the future.
                let mut permit = Some(permit);
                let call = report_panic(&mut permit, |_| Oneshot::start(inner, request));
                ResponseFuture::new(call, permit, self.classify.clone())
            }
            Err(rejection) => {
                let rejected = Event::Rejected(rejection);
                self.handle.shared().events.emit(events, rejected);
                let call = Oneshot::failed(rejection.into());
                ResponseFuture::new(call, None, self.classify.clone())
            }
        }
    }

    /// Creates a layer with a breaker of its own, and with the configuration of this layer.
    pub(super) fn fresh(&self) -> Self {
        Self {
            handle: self.handle.fresh(),
            classify: self.classify.clone(),
            until: PhantomData,
        }
    }
}

impl<S, C: Clone, U: Clone> Layer<S> for BreakerLayer<C, U> {
    type Service = Breaker<S, C, U>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`BreakerLayer`]. It rejects calls while the breaker is open.
#[derive(Clone, Debug)]
pub struct Breaker<S, C, U = UntilResponse> {
    layer: BreakerLayer<C, U>,
    inner: S,
}

impl<S, C, U, Req> Service<Req> for Breaker<S, C, U>
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
        // Always ready, because a rejection must not wait for the inner service. `Oneshot` waits
        // for its readiness after the admission.
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        self.layer.call(&mut self.inner, request)
    }
}

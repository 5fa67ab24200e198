//! A layer that gives a service an error type that can carry a [`Rejection`](crate::Rejection).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{classify::Failure, rejection::CallError};

/// Maps a service's error `E` to [`CallError<E>`].
///
/// Put this layer innermost, around a service with an error type that cannot carry a rejection, such as
/// the `Infallible` of an axum handler, or a client whose error is not `From<Rejection>`. The error keeps its
/// type, and nothing is allocated. Take [`LayerErrorLayer`](crate::LayerErrorLayer) instead if the error is a
/// [`BoxError`](crate::BoxError), or if several stacks need one error type.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use tokio::time::sleep;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{CallError, CallErrorLayer, Rejection, TimeoutLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
///     .layer(CallErrorLayer::new())
///     .service(service_fn(|seconds| async move {
///         sleep(Duration::from_secs(seconds)).await;
///         Ok::<_, Infallible>("done")
///     }));
/// assert_eq!(service.clone().oneshot(0).await, Ok("done"));
/// assert_eq!(service.oneshot(5).await, Err(CallError::Rejected(Rejection::AttemptTimeout)));
/// # }
/// ```
///
/// By default, every error is classified as [`Failure::Other`], which does not say whether the request
/// was sent. So only idempotent requests are retried, and a `Problem` of the crate `tower-fanout-http` is a 500.
/// Use [`with`](Self::with) to map each error to a [`Failure`]: for reqwest and other clients on hyper,
/// `CallErrorLayer::with(tower_fanout_http::client::failure)`.
#[derive(Clone, Copy, Debug)]
pub struct CallErrorLayer<F> {
    failure: F,
}

impl<E> CallErrorLayer<fn(&E) -> Failure> {
    /// Creates a layer that classifies every error as [`Failure::Other`].
    #[must_use]
    pub const fn new() -> Self {
        Self::with(|_| Failure::Other)
    }
}

impl<E> Default for CallErrorLayer<fn(&E) -> Failure> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> CallErrorLayer<F> {
    /// Creates a layer that classifies each error with `failure`, a `Fn(&Error) -> Failure`.
    ///
    /// ```
    /// use std::io;
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_fanout_layers::{ClassifyResult, Failure, CallErrorLayer, RetryConfig, RetryLayer};
    ///
    /// let service = ServiceBuilder::new()
    ///     .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
    ///     .layer(CallErrorLayer::with(|error: &io::Error| match error.kind() {
    ///         io::ErrorKind::ConnectionRefused => Failure::Connect, // never sent, so a retry is safe
    ///         _ => Failure::Other,
    ///     }))
    ///     .service(service_fn(|request: u32| async move { Ok::<_, io::Error>(request) }));
    /// ```
    #[must_use]
    pub const fn with(failure: F) -> Self {
        Self { failure }
    }
}

impl<S, F: Clone> Layer<S> for CallErrorLayer<F> {
    type Service = MapToCallError<S, F>;

    fn layer(&self, inner: S) -> MapToCallError<S, F> {
        MapToCallError {
            inner,
            failure: self.failure.clone(),
        }
    }
}

fn to_call_error<E>(error: E, failure: &impl Fn(&E) -> Failure) -> CallError<E> {
    let failure = failure(&error);
    CallError::Inner { error, failure }
}

/// A [`Service`] that maps its error to [`CallError`], created by [`CallErrorLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Copy, Debug)]
pub struct MapToCallError<S, F> {
    inner: S,
    failure: F,
}

impl<S, F, Req> Service<Req> for MapToCallError<S, F>
where
    S: Service<Req>,
    F: Fn(&S::Error) -> Failure + Clone,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = ResponseFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let ready = self.inner.poll_ready(cx);
        ready.map_err(|error| to_call_error(error, &self.failure))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture {
            inner: self.inner.call(request),
            failure: self.failure.clone(),
        }
    }
}

pin_project! {
    /// The response future of [`MapToCallError`].
    #[derive(Debug)]
    pub struct ResponseFuture<Fut, F> {
        #[pin]
        inner: Fut,
        failure: F,
    }
}

impl<Fut, F, T, E> Future for ResponseFuture<Fut, F>
where
    Fut: Future<Output = Result<T, E>>,
    F: Fn(&E) -> Failure,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        Poll::Ready(result.map_err(|error| to_call_error(error, this.failure)))
    }
}

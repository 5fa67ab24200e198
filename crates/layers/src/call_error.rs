//! Give a service an error type that can carry a [`Rejection`](crate::Rejection).

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
/// It goes innermost, over a service whose error cannot say that a layer refused the call: the
/// `Infallible` of an axum handler, say.
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
/// Every error is a [`Failure::Other`] then, which says nothing of whether the request was sent. Where
/// it matters what failed, to a retry of a request that may not be sent twice above all, say
/// [`with`](Self::with) what the errors mean.
#[derive(Clone, Copy, Debug)]
pub struct CallErrorLayer<F> {
    failure: F,
}

impl<E> CallErrorLayer<fn(&E) -> Failure> {
    /// The layer for a service whose errors all mean the same.
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
    /// The layer for a service whose errors mean what `failure` says, for which any
    /// `Fn(&Error) -> Failure` does.
    ///
    /// ```
    /// use std::io;
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_fanout_layers::{ClassifyResult, Failure, CallErrorLayer, RetryConfig, RetryLayer};
    ///
    /// let service = ServiceBuilder::new()
    ///     .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
    ///     .layer(CallErrorLayer::with(|error: &io::Error| match error.kind() {
    ///         io::ErrorKind::ConnectionRefused => Failure::Connect, // may be tried again
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

/// The service of [`CallErrorLayer`].
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
    /// The future of [`MapToCallError`].
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

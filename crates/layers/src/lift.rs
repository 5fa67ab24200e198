//! Gives a service an error type that can carry a [`Reject`](crate::Reject).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::reject::CallError;

/// Maps a service's error `E` to [`CallError<E>`].
///
/// It goes innermost, over a service whose error cannot say that a layer refused the call: the
/// `Infallible` of an axum handler, say.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use tokio::time::sleep;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{CallError, LiftLayer, Reject, TimeoutLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(1)))
///     .layer(LiftLayer::new())
///     .service(service_fn(|seconds| async move {
///         sleep(Duration::from_secs(seconds)).await;
///         Ok::<_, Infallible>("done")
///     }));
/// assert_eq!(service.clone().oneshot(0).await, Ok("done"));
/// assert_eq!(service.oneshot(5).await, Err(CallError::Reject(Reject::AttemptTimeout)));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LiftLayer(());

impl LiftLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for LiftLayer {
    type Service = Lift<S>;

    fn layer(&self, inner: S) -> Lift<S> {
        Lift { inner }
    }
}

/// The service of [`LiftLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Lift<S> {
    inner: S,
}

impl<S, Req> Service<Req> for Lift<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = CallError<S::Error>;
    type Future = LiftFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(CallError::Inner)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        LiftFuture {
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The future of [`Lift`].
    #[derive(Debug)]
    pub struct LiftFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, T, E> Future for LiftFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().inner.poll(cx)).map_err(CallError::Inner))
    }
}

//! The layer that converts errors and panics of a service into problems.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_fanout_layers::{AsRejection, oneshot::Oneshot, panic};

use super::{Code, Problem};
use crate::correlation::CorrelationId;

/// Converts errors into problems, by the [`From`](Problem#impl-From<E>-for-Problem) of [`Problem`], and panics
/// into a 500 without internal details.
///
/// The layer logs neither errors nor panics: the process's panic hook reports a panic with its message and
/// place. The layer does not convert errors and panics of a response body.
///
/// Place the layer outside every layer that returns errors, and inside the layers that assign ids and
/// create the log span. The service then has the error type [`Infallible`], and each problem contains
/// the [`CorrelationId`] of its request.
///
/// The response body must implement `From<Bytes>`, as axum's `Body` and `Full<Bytes>` do.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemLayer(());

impl ProblemLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for ProblemLayer {
    type Service = ProblemService<S>;

    fn layer(&self, inner: S) -> ProblemService<S> {
        ProblemService { inner }
    }
}

/// The service of [`ProblemLayer`].
#[derive(Clone, Copy, Debug)]
pub struct ProblemService<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ProblemService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: AsRejection,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = ResponseFuture<Oneshot<S, Request<ReqBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Errors of the inner `poll_ready` become problems too, as `Oneshot` calls it.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        ResponseFuture {
            id: request.extensions().get().cloned(),
            // A clone, because a service that has panicked must not be called again.
            inner: panic::catch(|| Oneshot::start(&mut self.inner.clone(), request)).ok(),
        }
    }
}

pin_project! {
    /// The future of [`ProblemService`].
    pub struct ResponseFuture<F> {
        // `None` if the call has panicked.
        #[pin]
        inner: Option<F>,
        id: Option<CorrelationId>,
    }
}

impl<F, ResBody, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    E: AsRejection,
    ResBody: From<Bytes>,
{
    type Output = Result<Response<ResBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The inner future is not polled again after a panic, so no broken state becomes visible.
        let inner = this.inner.as_pin_mut();
        let problem = match inner.map(|inner| panic::catch(|| inner.poll(cx))) {
            Some(Ok(Poll::Pending)) => return Poll::Pending,
            Some(Ok(Poll::Ready(Ok(response)))) => return Poll::Ready(Ok(response)),
            Some(Ok(Poll::Ready(Err(error)))) => error.into(),
            Some(Err(_)) | None => Problem::new(Code::Internal),
        };
        Poll::Ready(Ok(problem.into_response(this.id.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tower::{ServiceBuilder, ServiceExt, service_fn};
    use tower_fanout_layers::Rejection;

    use super::*;

    async fn status(
        response: fn() -> Result<Response<Full<Bytes>>, Rejection>,
    ) -> http::StatusCode {
        let service = ServiceBuilder::new()
            .layer(ProblemLayer::new())
            .service(service_fn(move |_: Request<()>| async move { response() }));
        let response = service.oneshot(Request::new(())).await.unwrap();
        response.status()
    }

    #[tokio::test]
    async fn errors_and_panics_become_problems() {
        assert_eq!(status(|| Ok(Response::default())).await, 200);
        assert_eq!(status(|| Err(Rejection::AtCapacity)).await, 503);
        assert_eq!(status(|| Err(Rejection::Deadline)).await, 504);
    }

    #[tokio::test]
    async fn fault_k7_converts_a_panic_into_a_500() {
        assert_eq!(status(|| panic!("the inside")).await, 500);
    }

    #[tokio::test]
    async fn fault_k7_converts_a_panic_before_the_future_into_a_500() {
        type Response = std::future::Ready<Result<http::Response<Full<Bytes>>, Rejection>>;
        let service = service_fn(|_: Request<()>| -> Response { panic!("the inside") });
        let service = ProblemLayer::new().layer(service);
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), 500);
    }
}

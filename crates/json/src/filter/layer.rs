//! What of an answer is wanted, within the attempt.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tower_fanout_http::client::ClientError;
use tower_layer::Layer;
use tower_service::Service;

use super::Shape;
use crate::Json;

/// Takes what is wanted out of answers: an answer that lacks it is a failure of the service, for which
/// a fallback may stand in. A fixed answer of a fallback is taken as it is.
///
/// Only answers are shaped: those with a 2xx status, and those with an error's status that is accepted.
/// An accepted error that lacks what is wanted is `null`.
#[derive(Clone, Debug, Default)]
pub struct ShapeLayer {
    /// What is wanted, and the statuses of errors that are answers; none if answers stay as they are.
    wanted: Option<Arc<(Shape, Box<[u16]>)>>,
}

impl ShapeLayer {
    /// Takes out `shape`; `accept` are the statuses of errors that are answers all the same.
    #[must_use]
    pub fn new(shape: Shape, accept: impl Into<Box<[u16]>>) -> Self {
        let changes = shape != Shape::default();
        Self {
            wanted: changes.then(|| Arc::new((shape, accept.into()))),
        }
    }
}

impl<S> Layer<S> for ShapeLayer {
    type Service = Shaped<S>;

    fn layer(&self, inner: S) -> Shaped<S> {
        Shaped {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`ShapeLayer`].
#[derive(Clone, Debug)]
pub struct Shaped<S> {
    layer: ShapeLayer,
    inner: S,
}

impl<S, R> Service<R> for Shaped<S>
where
    S: Service<R, Response = Response<Json>, Error = ClientError>,
{
    type Response = Response<Json>;
    type Error = ClientError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        ResponseFuture {
            inner: self.inner.call(request),
            layer: self.layer.clone(),
        }
    }
}

pin_project! {
    /// The response future of [`Shaped`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        layer: ShapeLayer,
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Json>, ClientError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        Poll::Ready(this.layer.apply(response))
    }
}

impl ShapeLayer {
    fn apply(&self, response: Response<Json>) -> Result<Response<Json>, ClientError> {
        let Some((shape, accept)) = self.wanted.as_deref() else {
            return Ok(response);
        };
        let (parts, answer) = response.into_parts();
        let accepted = accept.contains(&parts.status.as_u16());
        let answer = match parts.status.is_success() || accepted {
            false => answer,
            true => match shape.apply(answer) {
                Ok(answer) => answer,
                Err(_) if accepted => Json::NULL,
                Err(_) => return Err(ClientError::BadJson),
            },
        };
        Ok(Response::from_parts(parts, answer))
    }
}

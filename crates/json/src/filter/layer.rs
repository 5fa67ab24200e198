//! Field filtering of responses within the attempt.

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

use super::FieldFilter;
use crate::Json;

/// A layer that applies a [`FieldFilter`] to JSON responses.
///
/// Place the layer within the attempt, so that a response without the target value counts as a
/// failure of the service ([`ClientError::BadJson`]), which a fallback can replace. The static
/// response of a fallback is not filtered.
///
/// The filter applies to responses with a 2xx status and to those with an accepted error status. The
/// accepted statuses must be those that [`AcceptLayer`](crate::response::AcceptLayer) gets: a response
/// that only `AcceptLayer` accepts would reach the plan unfiltered.
///
/// An accepted error response without the target value becomes `null`. All other responses pass
/// unchanged.
#[derive(Clone, Debug, Default)]
pub struct FieldFilterLayer {
    /// The filter and the accepted error statuses, or `None` if the filter changes nothing.
    wanted: Option<Arc<(FieldFilter, Box<[u16]>)>>,
}

impl FieldFilterLayer {
    /// Creates a layer that applies `shape` to 2xx responses and to responses with a status in
    /// `accept`, which must be the statuses given to
    /// [`AcceptLayer::new`](crate::response::AcceptLayer::new).
    #[must_use]
    pub fn new(shape: FieldFilter, accept: impl Into<Box<[u16]>>) -> Self {
        let changes = shape != FieldFilter::default();
        Self {
            wanted: changes.then(|| Arc::new((shape, accept.into()))),
        }
    }
}

impl<S> Layer<S> for FieldFilterLayer {
    type Service = FieldFilterService<S>;

    fn layer(&self, inner: S) -> FieldFilterService<S> {
        FieldFilterService {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`FieldFilterLayer`].
#[derive(Clone, Debug)]
pub struct FieldFilterService<S> {
    layer: FieldFilterLayer,
    inner: S,
}

impl<S, R> Service<R> for FieldFilterService<S>
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
    /// The response future of [`FieldFilterService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        layer: FieldFilterLayer,
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

impl FieldFilterLayer {
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

//! Services that several layers of this crate share.
//!
//! [`EditRequest`] changes a request and passes it on. [`CheckRequest`] may answer it instead. You get
//! these services from [`Layer::layer`](tower::Layer::layer); the traits that the layers implement are
//! private.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use tower::Service;
use tower_fanout_layers::oneshot::Oneshot;

/// A layer that edits requests.
pub(crate) trait RequestEdit<R> {
    /// Edits a request before the inner service gets it.
    fn edit(&self, request: &mut R);
}

/// The service of a layer that edits each request and passes it on.
#[derive(Clone, Copy, Debug)]
pub struct EditRequest<L, S> {
    pub(crate) layer: L,
    pub(crate) inner: S,
}

impl<L, S, R> Service<R> for EditRequest<L, S>
where
    L: RequestEdit<R>,
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: R) -> S::Future {
        self.layer.edit(&mut request);
        self.inner.call(request)
    }
}

/// A layer that responds to some requests itself.
pub(crate) trait RequestCheck<B> {
    /// Returns the response to a request that must not reach the inner service, and `None` for any
    /// other request, which the layer may have edited.
    fn check<R: From<Bytes>>(&self, request: &mut Request<B>) -> Option<Response<R>>;
}

/// The service of a layer that responds to some requests itself and passes the others on.
///
/// The service is always ready, because a request that the layer responds to needs no inner service.
/// Other requests wait for the inner service in the future of their call.
#[derive(Clone, Copy, Debug)]
pub struct CheckRequest<L, S> {
    pub(crate) layer: L,
    pub(crate) inner: S,
}

/// The future of [`CheckRequest`]: the response of the layer, or the call of the inner service.
pub type CheckFuture<S, B> = Either<
    Ready<Result<<S as Service<Request<B>>>::Response, <S as Service<Request<B>>>::Error>>,
    Oneshot<S, Request<B>>,
>;

/// Returns `response` if it is there, and else calls `inner`, or a clone of it that becomes ready later.
pub(crate) fn respond_or_call<S, B>(
    response: Option<S::Response>,
    inner: &mut S,
    request: Request<B>,
) -> CheckFuture<S, B>
where
    S: Service<Request<B>> + Clone,
{
    match response {
        Some(response) => Either::Left(ready(Ok(response))),
        None => Either::Right(Oneshot::start(inner, request)),
    }
}

impl<L, S, ReqBody, ResBody> Service<Request<ReqBody>> for CheckRequest<L, S>
where
    L: RequestCheck<ReqBody>,
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = CheckFuture<S, ReqBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let response = self.layer.check(&mut request);
        respond_or_call(response, &mut self.inner, request)
    }
}

//! The service that asks the breaker in `call`.

use std::task::{self, Poll};

use tower_service::Service;

use super::{future::ResponseFuture, layer::BreakerLayer};
use crate::{
    classify::Classify,
    context::Context,
    oneshot::Oneshot,
    reject::{AsReject, Reject},
};

/// The service of [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct Breaker<S, C> {
    pub(super) layer: BreakerLayer<C>,
    pub(super) inner: S,
}

impl<S, C, Req> Service<Req> for Breaker<S, C>
where
    S: Service<Req> + Clone,
    S::Error: From<Reject> + AsReject,
    C: Classify<S::Response, S::Error> + Clone,
    Req: Context,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let BreakerLayer { handle, classify } = &self.layer;
        let observer = &request.call().observer;
        match handle
            .as_ref()
            .map(|handle| handle.admit(observer))
            .transpose()
        {
            Ok(permit) => {
                let call = Oneshot::new(self.inner.clone(), request);
                ResponseFuture::running(call, permit, classify.clone())
            }
            Err(reject) => ResponseFuture::refused(observer.reject(reject)),
        }
    }
}

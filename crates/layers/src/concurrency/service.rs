//! The service that asks for a permit in `call`.

use std::task::{self, Poll};

use tower_service::Service;

use super::{future::ResponseFuture, layer::ConcurrencyLayer};
use crate::{
    context::Context,
    reject::{AsReject, Reject},
};

/// The service of [`ConcurrencyLayer`].
#[derive(Clone, Debug)]
pub struct Concurrency<S> {
    pub(super) layer: ConcurrencyLayer,
    pub(super) inner: S,
}

impl<S, Req> Service<Req> for Concurrency<S>
where
    S: Service<Req> + Clone,
    S::Error: From<Reject> + AsReject,
    Req: Context,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self, request)
    }
}

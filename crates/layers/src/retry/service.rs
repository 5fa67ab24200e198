//! The service that makes the first attempt in `call`.

use std::{
    mem,
    task::{self, Poll},
};

use tower_service::Service;

use super::{future::ResponseFuture, layer::RetryLayer};
use crate::{
    classify::Classify,
    context::Context,
    reject::{AsReject, Reject},
};

/// The service of [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S, C> {
    pub(super) layer: RetryLayer<C>,
    pub(super) inner: S,
}

impl<S, C, Req> Service<Req> for Retry<S, C>
where
    S: Service<Req> + Clone,
    S::Error: From<Reject> + AsReject,
    C: Classify<S::Response, S::Error> + Clone,
    Req: Context + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let fresh = self.inner.clone();
        let ready = mem::replace(&mut self.inner, fresh);
        ResponseFuture::new(&self.layer, ready, request)
    }
}

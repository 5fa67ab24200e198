//! [`Concurrency`], the service that acquires a permit in `call`.

use std::{
    fmt,
    task::{self, Poll},
};

use tower_service::Service;

use super::{future::ResponseFuture, layer::ConcurrencyLayer, limiter::Permit};
use crate::{
    call::CallContext,
    classify::{Classify, ClassifyResult},
    permit_scope::{PermitScope, UntilResponse},
    rejection::{AsRejection, Rejection},
};

/// The service of [`ConcurrencyLayer`]. It runs, queues or rejects calls.
pub struct Concurrency<S, C = ClassifyResult, U = UntilResponse> {
    pub(super) layer: ConcurrencyLayer<C, U>,
    pub(super) inner: S,
}

impl<S: Clone, C: Clone, U> Clone for Concurrency<S, C, U> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S: fmt::Debug, C, U> fmt::Debug for Concurrency<S, C, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Concurrency")
            .field("layer", &self.layer)
            .field("inner", &self.inner)
            .finish()
    }
}

impl<S, C, U, Req> Service<Req> for Concurrency<S, C, U>
where
    S: Service<Req> + Clone,
    S::Error: From<Rejection> + AsRejection,
    C: Classify<S::Response, S::Error> + Clone,
    U: PermitScope<S::Response>,
    Req: CallContext,
{
    type Response = U::Response<Permit>;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, U, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        // Always ready, because a permit must not be reserved for a call that is never made.
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self, request)
    }
}

//! [`Breaker`], the service that checks the breaker in `call`.

use std::{
    fmt,
    task::{self, Poll},
};

use tower_service::Service;

use super::{future::ResponseFuture, layer::BreakerLayer, permit::Permit};
use crate::{
    call::CallContext,
    classify::Classify,
    oneshot::Oneshot,
    permit_scope::{PermitScope, UntilResponse},
    rejection::{AsRejection, Rejection},
};

/// The service of [`BreakerLayer`]. It rejects calls while the breaker is open.
pub struct Breaker<S, C, U = UntilResponse> {
    pub(super) layer: BreakerLayer<C, U>,
    pub(super) inner: S,
}

impl<S: Clone, C: Clone, U> Clone for Breaker<S, C, U> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S: fmt::Debug, C, U> fmt::Debug for Breaker<S, C, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("layer", &self.layer)
            .field("inner", &self.inner)
            .finish()
    }
}

impl<S, C, U, Req> Service<Req> for Breaker<S, C, U>
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
        // Always ready, because a rejection must not wait for the inner service. `Oneshot` waits
        // for its readiness after the admission.
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let BreakerLayer {
            handle, classify, ..
        } = &self.layer;
        let events = &request.call().events;
        match handle.admit(events) {
            Ok(permit) => {
                // `start` calls a ready service at once, and otherwise waits in the future.
                let call = Oneshot::start(&mut self.inner, request);
                ResponseFuture::running(call, permit, classify.clone())
            }
            Err(rejection) => ResponseFuture::rejected(events.reject(rejection)),
        }
    }
}

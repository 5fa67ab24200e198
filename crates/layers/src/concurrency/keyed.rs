//! The concurrency limit as a layer with one instance per key.

use tower_service::Service;

use super::{future::ResponseFuture, layer::ConcurrencyLayer, limiter::Permit};
use crate::{
    call::CallContext,
    classify::Classify,
    event::Events,
    per_key::{Keyed, KeyedLayer, Retention},
    permit_scope::PermitScope,
    rejection::{AsRejection, Rejection},
    sync::Arc,
};

impl<C: Clone, U> Keyed for ConcurrencyLayer<C, U> {
    fn fresh(&self) -> Self {
        Self::fresh(self)
    }

    fn events(self, sink: Events) -> Self {
        Self::events(self, sink)
    }

    fn retention(&self) -> Retention {
        let is_fixed = self.config.adaptive.is_none();
        // Each permit, each waiter and each clone of the layer has a reference to the limiter.
        let is_in_use = Arc::strong_count(&self.limiter) > 1;
        let is_set_by_hand = is_fixed && self.limit() != self.config.max;
        if is_in_use || is_set_by_hand {
            Retention::Held
        } else if is_fixed && self.config.queue == 0 {
            Retention::Lossless
        } else {
            // The adapted limit, or the average duration from which waits are estimated.
            Retention::Counts
        }
    }
}

impl<S, C, U, Req> KeyedLayer<S, Req> for ConcurrencyLayer<C, U>
where
    S: Service<Req> + Clone,
    S::Error: AsRejection + From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    U: PermitScope<S::Response> + Clone,
    Req: CallContext,
{
    type Response = U::Response<Permit>;
    type Future = ResponseFuture<S, C, U, Req>;

    #[inline(always)]
    fn call(&self, inner: &mut S, request: Req) -> ResponseFuture<S, C, U, Req> {
        ResponseFuture::new(self, inner, request)
    }
}

//! Gives the whole call one deadline.

use std::{
    task::{self, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    MIN_USEFUL,
    future::{Bound, ResponseFuture},
};
use crate::{
    context::Context,
    deadline::Deadline,
    reject::{AsReject, Reject},
};
use tokio::time::Instant;

/// Gives the whole call one absolute deadline.
///
/// The deadline is the nearer of the call's own and the total timeout. The layers below find it in
/// the request; what they have not done by then ends with [`Reject::Deadline`].
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    total: Option<Duration>,
    min_useful: Duration,
}

impl DeadlineLayer {
    /// Calls may take `total`; with none only their own deadline ends them.
    #[must_use]
    pub fn new(total: impl Into<Option<Duration>>) -> Self {
        Self {
            total: total.into(),
            min_useful: MIN_USEFUL,
        }
    }

    /// Sets the least time with which a call is still sent.
    #[must_use]
    pub const fn min_useful(mut self, min_useful: Duration) -> Self {
        self.min_useful = min_useful;
        self
    }

    fn deadline(&self, call: Option<Deadline>) -> Option<Deadline> {
        let own = self
            .total
            .and_then(|total| Deadline::after(Instant::now(), total));
        match (own, call) {
            (Some(own), Some(call)) => Some(own.min(call)),
            (own, call) => own.or(call),
        }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline {
            layer: *self,
            inner,
        }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Copy, Debug)]
pub struct WithDeadline<S> {
    layer: DeadlineLayer,
    inner: S,
}

impl<S, Req> Service<Req> for WithDeadline<S>
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

    fn call(&mut self, mut request: Req) -> Self::Future {
        let deadline = self.layer.deadline(request.call().deadline);
        if let (Some(_), Some(call)) = (deadline, request.call_mut()) {
            call.deadline = deadline;
        }
        let bound = deadline.map_or(Bound::None, |deadline| {
            Bound::At(deadline.instant(), Reject::Deadline)
        });
        ResponseFuture::new(&mut self.inner, request, bound, self.layer.min_useful)
    }
}

//! [`Hedge`], which sends the first attempt in `call`.

use std::task::{self, Poll};

use tower_service::Service;

use super::{
    future::ResponseFuture,
    layer::{HedgeLayer, Shared},
};
use crate::{
    call::CallContext,
    classify::Classify,
    rejection::{AsRejection, Rejection},
    shared_service::SharedService,
    sync::Arc,
};

/// A [`Service`] that hedges slow calls, created by [`HedgeLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct Hedge<S, C> {
    pub(super) core: Arc<SharedService<Shared, S>>,
    pub(super) classify: C,
    pub(super) inner: S,
}

impl<S: Clone, C> Hedge<S, C> {
    pub(super) fn new(layer: HedgeLayer<C>, inner: S) -> Self {
        Self {
            core: SharedService::new(layer.shared, &inner),
            classify: layer.classify,
            inner,
        }
    }
}

impl<S, C, Req> Service<Req> for Hedge<S, C>
where
    S: Service<Req> + Clone,
    S::Error: From<Rejection> + AsRejection,
    C: Classify<S::Response, S::Error> + Clone,
    Req: CallContext + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self, request)
    }
}

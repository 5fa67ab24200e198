//! The response future of the throttle, which records the result of the call.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::CallHistory;
use crate::{classify::Classify, clock::Stopwatch, oneshot::Oneshot, sync::Arc};

pin_project! {
    /// The response future of [`Throttle`](super::Throttle).
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        call: Oneshot<S, Req>,
        stopwatch: Stopwatch,
        // `None` if the call was rejected, which records nothing more.
        history: Option<Arc<CallHistory>>,
        classify: C,
    }
}

impl<S: Service<Req>, C, Req> ResponseFuture<S, C, Req> {
    #[inline(always)]
    pub(super) fn new(
        call: Oneshot<S, Req>,
        history: Option<Arc<CallHistory>>,
        classify: C,
    ) -> Self {
        Self {
            call,
            stopwatch: Stopwatch::default(),
            history,
            classify,
        }
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.stopwatch.watch(|| this.call.poll(cx)));
        if let Some(history) = this.history {
            let elapsed = this.stopwatch.elapsed();
            history.record(this.classify.classify(result.as_ref(), elapsed));
        }
        Poll::Ready(result)
    }
}

//! The response future of the breaker, which records the result of the call.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::permit::Permit;
use crate::{
    classify::Classify,
    oneshot::Oneshot,
    permit_scope::{PermitScope, report_panic},
};

pin_project! {
    /// The response future of [`Breaker`](super::Breaker).
    ///
    /// Dropping the future before it completes frees its probe slot. The call counts as a failure
    /// if it had run for [`unanswered`](field@super::BreakerConfig::unanswered), and is not counted
    /// otherwise.
    pub struct ResponseFuture<S, C, U, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        call: Oneshot<S, Req>,
        // `None` if the call was rejected, once the permit is in the body of the response, or after a
        // panic.
        permit: Option<Permit>,
        classify: C,
        until: PhantomData<fn() -> U>,
    }
}

impl<S: Service<Req>, C, U, Req> ResponseFuture<S, C, U, Req> {
    #[inline(always)]
    pub(super) fn new(call: Oneshot<S, Req>, permit: Option<Permit>, classify: C) -> Self {
        Self {
            call,
            permit,
            classify,
            until: PhantomData,
        }
    }
}

impl<S, C, U, Req> Future for ResponseFuture<S, C, U, Req>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    U: PermitScope<S::Response>,
{
    type Output = Result<U::Response<Permit>, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut call, permit) = (this.call, this.permit);
        let result = ready!(report_panic(permit, |permit| {
            let Some(permit) = permit else {
                return call.poll(cx);
            };
            // The time of the call starts when the service is ready.
            if call.is_waiting() {
                ready!(call.as_mut().poll_ready(cx));
            }
            permit.poll(|| call.poll(cx))
        }));
        if let Some(permit) = permit {
            permit.ended(|elapsed| this.classify.classify(result.as_ref(), elapsed));
        }
        // With `UntilBodyEnd`, the permit moves into the body and is recorded there.
        let result = result.map(|response| U::hold(permit, response));
        if let Some(permit) = permit {
            permit.record();
        }
        Poll::Ready(result)
    }
}

//! Runs the call and tells the breaker how it ended.

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
    permit_scope::{DropOnPanic, PermitScope},
};

pin_project! {
    /// The future of [`Breaker`](super::Breaker).
    ///
    /// Dropping it gives its probe's slot back, or counts as a slow failure if it had run long.
    pub struct ResponseFuture<S, C, U, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, C, Req>,
        until: PhantomData<fn() -> U>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, C, Req>
    where
        S: Service<Req>,
    {
        Refused { error: Option<S::Error> },
        Running {
            #[pin]
            call: Oneshot<S, Req>,
            permit: Option<Permit>,
            classify: C,
        },
    }
}

impl<S: Service<Req>, C, U, Req> ResponseFuture<S, C, U, Req> {
    pub(super) fn refused(error: S::Error) -> Self {
        Self {
            state: State::Refused { error: Some(error) },
            until: PhantomData,
        }
    }

    #[inline(always)]
    pub(super) fn running(call: Oneshot<S, Req>, permit: Option<Permit>, classify: C) -> Self {
        Self {
            state: State::Running {
                call,
                permit,
                classify,
            },
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
        match self.project().state.project() {
            Projected::Refused { error } => {
                // A caller never polls a future again after it was ready: the contract of `Future`.
                Poll::Ready(Err(error.take().expect("polled after completion")))
            }
            Projected::Running {
                call,
                permit,
                classify,
            } => {
                let result = {
                    let guard = DropOnPanic(&mut *permit);
                    ready!(match guard.0 {
                        Some(permit) => permit.poll(|| call.poll(cx)),
                        None => call.poll(cx),
                    })
                };
                if let Some(permit) = permit {
                    permit.ended(|elapsed| classify.classify(result.as_ref(), elapsed));
                }
                let result = result.map(|response| U::hold(permit, response));
                if let Some(permit) = permit {
                    permit.record();
                }
                Poll::Ready(result)
            }
        }
    }
}

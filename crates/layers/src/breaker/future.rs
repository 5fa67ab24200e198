//! Runs the call and tells the breaker how it ended.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::handle::Permit;
use crate::{classify::Classify, oneshot::Oneshot};

pin_project! {
    /// The future of [`Breaker`](super::Breaker).
    ///
    /// Dropping it gives its probe's slot back, or counts as a slow failure if it had run long.
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, C, Req>,
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

impl<S: Service<Req>, C, Req> ResponseFuture<S, C, Req> {
    pub(super) fn refused(error: S::Error) -> Self {
        Self {
            state: State::Refused { error: Some(error) },
        }
    }

    pub(super) fn running(call: Oneshot<S, Req>, permit: Option<Permit>, classify: C) -> Self {
        Self {
            state: State::Running {
                call,
                permit,
                classify,
            },
        }
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Refused { error } => {
                Poll::Ready(Err(error.take().expect("polled after completion")))
            }
            Projected::Running {
                call,
                permit,
                classify,
            } => {
                let result = {
                    let _guard = DropOnPanic(&mut *permit);
                    ready!(call.poll(cx))
                };
                if let Some(permit) = permit.take() {
                    let elapsed = permit.elapsed();
                    permit.record(classify.classify(result.as_ref(), elapsed), elapsed);
                }
                Poll::Ready(result)
            }
        }
    }
}

/// Drops the permit while a panic of the service passes, so that it is seen as one even if
/// somebody catches it further out and only then drops the future.
struct DropOnPanic<'p>(&'p mut Option<Permit>);

impl Drop for DropOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.take();
        }
    }
}

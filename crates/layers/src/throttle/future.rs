//! The response future of the throttle, which records the result of the call.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::CallHistory;
use crate::{classify::Classify, oneshot::Oneshot, poll_clock::Stopwatch, sync::Arc};

pin_project! {
    /// The response future of [`Throttle`](super::Throttle).
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
        Rejected { error: Option<S::Error> },
        Running {
            #[pin]
            call: Oneshot<S, Req>,
            stopwatch: Stopwatch,
            history: Arc<CallHistory>,
            classify: C,
        },
    }
}

impl<S: Service<Req>, C, Req> ResponseFuture<S, C, Req> {
    pub(super) fn rejected(error: S::Error) -> Self {
        Self {
            state: State::Rejected { error: Some(error) },
        }
    }

    #[inline(always)]
    pub(super) fn running(call: Oneshot<S, Req>, history: Arc<CallHistory>, classify: C) -> Self {
        Self {
            state: State::Running {
                call,
                stopwatch: Stopwatch::default(),
                history,
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

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Rejected { error } => {
                // By the contract of `Future`, a caller does not poll again after completion.
                Poll::Ready(Err(error.take().expect("polled after completion")))
            }
            Projected::Running {
                call,
                stopwatch,
                history,
                classify,
            } => {
                let result = ready!(stopwatch.watch(|| call.poll(cx)));
                history.record(classify.classify(result.as_ref(), stopwatch.elapsed()));
                Poll::Ready(result)
            }
        }
    }
}

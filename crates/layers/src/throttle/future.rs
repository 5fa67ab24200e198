//! Runs the call and remembers how it ended.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Memory;
use crate::{classify::Classify, oneshot::Oneshot, poll_clock::Stopwatch, sync::Arc};

pin_project! {
    /// The future of [`Throttle`](super::Throttle).
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
            watch: Stopwatch,
            memory: Arc<Memory>,
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

    #[inline(always)]
    pub(super) fn running(call: Oneshot<S, Req>, memory: Arc<Memory>, classify: C) -> Self {
        Self {
            state: State::Running {
                call,
                watch: Stopwatch::default(),
                memory,
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
            Projected::Refused { error } => {
                // A caller never polls a future again after it was ready: the contract of `Future`.
                Poll::Ready(Err(error.take().expect("polled after completion")))
            }
            Projected::Running {
                call,
                watch,
                memory,
                classify,
            } => {
                let result = ready!(watch.watch(|| call.poll(cx)));
                memory.record(classify.classify(result.as_ref(), watch.elapsed()));
                Poll::Ready(result)
            }
        }
    }
}

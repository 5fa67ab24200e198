//! Makes a service ready and calls it, as one future without an allocation.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// A layer that may skip its inner service must not hold that service's readiness, so it asks
    /// for it here, after it has decided to call.
    #[project = Projected]
    pub(crate) enum Oneshot<S, Req>
    where
        S: Service<Req>,
    {
        Waiting { service: S, request: Option<Req> },
        Called { #[pin] future: S::Future },
        Failed { error: Option<S::Error> },
    }
}

impl<S: Service<Req>, Req> Oneshot<S, Req> {
    /// Calls `service` once it is ready.
    pub(crate) fn new(service: S, request: Req) -> Self {
        Self::Waiting {
            service,
            request: Some(request),
        }
    }

    /// Calls `service` at once if it is ready, which saves its clone. If it is not, the instance that
    /// was asked goes on waiting, since it may stand in a queue, and `service` becomes a fresh one.
    #[inline(always)]
    pub(crate) fn start(service: &mut S, request: Req) -> Self
    where
        S: Clone,
    {
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Called {
                future: service.call(request),
            },
            Poll::Ready(Err(error)) => Self::Failed { error: Some(error) },
            Poll::Pending => {
                let fresh = service.clone();
                Self::new(mem::replace(service, fresh), request)
            }
        }
    }
}

impl<S: Service<Req>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                Projected::Waiting { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    // Taken here only, and this state is left below.
                    let request = request.take().expect("a request is sent once");
                    let future = service.call(request);
                    self.set(Self::Called { future });
                }
                Projected::Called { future } => return future.poll(cx),
                Projected::Failed { error } => {
                    // A caller never polls a future again after it was ready: the contract of `Future`.
                    return Poll::Ready(Err(error.take().expect("polled after completion")));
                }
            }
        }
    }
}

//! A future that waits until a service is ready and then calls it, without an allocation.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Waits until a service is ready, then calls it.
    ///
    /// A layer that may skip its inner service must not reserve that service's readiness in `poll_ready`.
    /// Such a layer polls for readiness here, after the decision to call.
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
    /// Creates a future that calls `service` once it is ready.
    pub(crate) fn new(service: S, request: Req) -> Self {
        Self::Waiting {
            service,
            request: Some(request),
        }
    }

    /// Creates a future that ends with `error`.
    pub(crate) fn failed(error: S::Error) -> Self {
        Self::Failed { error: Some(error) }
    }

    /// Calls `service` at once if it is ready, which saves a clone.
    ///
    /// If `service` is not ready, the polled instance moves into the future, since it may have a place in a
    /// queue. A fresh clone replaces it.
    #[inline(always)]
    pub(crate) fn start(service: &mut S, request: Req) -> Self
    where
        S: Clone,
    {
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Called {
                future: service.call(request),
            },
            Poll::Ready(Err(error)) => Self::failed(error),
            Poll::Pending => {
                let fresh = service.clone();
                Self::new(mem::replace(service, fresh), request)
            }
        }
    }
}

impl<S: Service<Req>, Req> Oneshot<S, Req> {
    /// Returns `true` while the service is not called yet.
    #[inline(always)]
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    /// Waits until the service is ready, or has failed to become ready. Does not call the service.
    pub(crate) fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Projected::Waiting { service, .. } = self.as_mut().project() {
            if let Err(error) = ready!(service.poll_ready(cx)) {
                self.set(Self::failed(error));
            }
        }
        Poll::Ready(())
    }

    /// Calls the service, which is ready. Has no effect on a service that was called or has failed.
    fn call(mut self: Pin<&mut Self>) {
        if let Projected::Waiting { service, request } = self.as_mut().project() {
            // The state changes below, so the request is taken only once.
            let request = request.take().expect("request already sent");
            let future = service.call(request);
            self.set(Self::Called { future });
        }
    }
}

impl<S: Service<Req>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                Projected::Waiting { .. } => {
                    ready!(self.as_mut().poll_ready(cx));
                    self.as_mut().call();
                }
                Projected::Called { future } => return future.poll(cx),
                Projected::Failed { error } => {
                    // Polling a future after completion violates the contract of `Future`.
                    return Poll::Ready(Err(error.take().expect("polled after completion")));
                }
            }
        }
    }
}

//! [`Oneshot`], a future that calls a service once it is ready, without an allocation.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// The future of one call of a service, which first waits until the service is ready.
    ///
    /// A layer that may skip its inner service must not reserve that service's readiness in `poll_ready`.
    /// Such a layer polls for readiness here, after the decision to call. The `Oneshot` of tower moves service and
    /// request into the future; [`start`](Self::start) calls a service that is ready, as most are, at once.
    ///
    /// ```
    /// use tower::service_fn;
    /// use tower_fanout_layers::oneshot::Oneshot;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut double = service_fn(|number: u32| async move { Ok::<_, ()>(2 * number) });
    /// assert_eq!(Oneshot::start(&mut double, 21).await, Ok(42));
    /// # }
    /// ```
    pub struct Oneshot<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, Req>
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
        let request = Some(request);
        Self {
            state: State::Waiting { service, request },
        }
    }

    /// Creates a future that ends with `error`.
    pub(crate) fn failed(error: S::Error) -> Self {
        Self {
            state: State::Failed { error: Some(error) },
        }
    }

    /// Calls `service` at once if it is ready, which saves a clone.
    ///
    /// If `service` is not ready, the polled instance moves into the future, since it may have a place in a
    /// queue. A fresh clone replaces it. The future ends with the error of a service that fails to become ready. A
    /// panic of the service may reach the caller of this method.
    #[inline(always)]
    pub fn start(service: &mut S, request: Req) -> Self
    where
        S: Clone,
    {
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self {
                state: State::Called {
                    future: service.call(request),
                },
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
        matches!(self.state, State::Waiting { .. })
    }

    /// Waits until the service is ready, or has failed to become ready. Does not call the service.
    pub(crate) fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.project().state;
        if let Projected::Waiting { service, .. } = state.as_mut().project() {
            if let Err(error) = ready!(service.poll_ready(cx)) {
                state.set(State::Failed { error: Some(error) });
            }
        }
        Poll::Ready(())
    }

    /// Calls the service, which is ready. Has no effect on a service that was called or has failed.
    fn call(self: Pin<&mut Self>) {
        let mut state = self.project().state;
        if let Projected::Waiting { service, request } = state.as_mut().project() {
            // The state changes below, so the request is taken only once.
            let request = request.take().expect("request already sent");
            let future = service.call(request);
            state.set(State::Called { future });
        }
    }
}

impl<S: Service<Req>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project().state.project() {
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

impl<S: Service<Req>, Req> fmt::Debug for Oneshot<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oneshot").finish_non_exhaustive()
    }
}

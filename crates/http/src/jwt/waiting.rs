//! The future of a call whose token may need a key that is being fetched.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Service, util::Oneshot};

use super::{keys::Flight, layer::JwtLayer};
use crate::problem::OrRefused;

/// The inner call, or the refusal.
pub(super) type Decided<S, B, R> = OrRefused<Oneshot<S, Request<B>>, R>;

pin_project! {
    /// The future of [`Jwt`](super::Jwt). It waits for a fetch of keys if the token's key is unknown,
    /// and then resolves to the inner response or to the refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct JwtFuture<S, B, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, R>
    where
        S: Service<Request<B>>,
    {
        Decided { #[pin] call: Decided<S, B, R> },
        // Boxed, because the variant is large and few calls wait.
        Waiting { waiting: Option<Box<Waiting<S, B>>> },
    }
}

/// A call that waits for a fetch of keys.
pub(super) struct Waiting<S, B> {
    /// Completes at the end of the fetch or at the call's deadline.
    pub(super) end: Flight,
    pub(super) layer: JwtLayer,
    pub(super) service: S,
    pub(super) request: Request<B>,
}

impl<S, B, R> JwtFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    pub(super) const fn decided(call: Decided<S, B, R>) -> Self {
        Self {
            state: State::Decided { call },
        }
    }

    pub(super) fn waiting(waiting: Waiting<S, B>) -> Self {
        Self {
            state: State::Waiting {
                waiting: Some(Box::new(waiting)),
            },
        }
    }
}

impl<S, B, R> Future for JwtFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: From<Bytes>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let waiting = match state.as_mut().project() {
                StateProjection::Decided { call } => return call.poll(cx),
                StateProjection::Waiting { waiting } => waiting,
            };
            if let Some(waiting) = waiting {
                ready!(waiting.end.as_mut().poll(cx));
            }
            // `None` here means that `decide` panicked in an earlier poll.
            let waited = waiting.take().expect("`JwtFuture` polled after a panic");
            let call = waited.layer.decide(waited.service, waited.request);
            state.set(State::Decided { call });
        }
    }
}

impl<S, B, R> fmt::Debug for JwtFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtFuture").finish_non_exhaustive()
    }
}

//! The future of a layer that may respond without calling its service.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;

pin_project! {
    /// The future of an inner call, or a response of the layer itself, usually a refusal.
    ///
    /// The response is ready at the first poll.
    ///
    /// # Panics
    /// Panics if it is polled again after it has returned a response of the layer.
    #[derive(Debug)]
    pub struct OrRefused<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F, B> {
        Called { #[pin] call: F },
        Refused { response: Option<Response<B>> },
    }
}

impl<F, B> OrRefused<F, B> {
    pub(crate) const fn called(call: F) -> Self {
        Self {
            state: State::Called { call },
        }
    }

    pub(crate) const fn refused(response: Response<B>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<F, B, E> Future for OrRefused<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { call } => call.poll(cx),
            StateProjection::Refused { response } => {
                // The response is taken by the first poll, which completes the future.
                Poll::Ready(Ok(response
                    .take()
                    .expect("`OrRefused` polled after completion")))
            }
        }
    }
}

//! The future that draws the faults at its first poll and then applies them.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{config::Injection, inject::Injected, layer::ChaosLayer, matching::Match};
use crate::{call::CallContext, deadline::later, event::Event, oneshot::Oneshot, timer::Timer};

pin_project! {
    /// The response future of [`Chaos`](super::Chaos).
    pub struct ResponseFuture<S, I, P, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, I, P, Req>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<S, I, P, Req>
    where
        S: Service<Req>,
    {
        Undrawn { attempt: Option<Attempt<S, I, P, Req>> },
        Waiting {
            wait: Option<Timer>,
            attempt: Option<Attempt<S, I, P, Req>>,
            outcome: Option<Injection>,
        },
        Hanging,
        Calling {
            #[pin]
            call: Oneshot<S, Req>,
            // The fault of the response, and the function that injects it.
            damage: Option<(I, Injection)>,
        },
    }
}

/// An attempt that has not called the service yet.
struct Attempt<S, I, P, Req> {
    layer: ChaosLayer<I, P>,
    service: S,
    request: Req,
}

impl<S: Service<Req>, I, P, Req> ResponseFuture<S, I, P, Req> {
    /// Creates the future of a call without faults.
    pub(super) fn disabled(call: Oneshot<S, Req>) -> Self {
        let damage = None;
        Self {
            state: State::Calling { call, damage },
        }
    }

    pub(super) fn enabled(layer: ChaosLayer<I, P>, service: S, request: Req) -> Self {
        let attempt = Some(Attempt {
            layer,
            service,
            request,
        });
        Self {
            state: State::Undrawn { attempt },
        }
    }
}

impl<S: Service<Req>, I, P, Req> Attempt<S, I, P, Req> {
    fn draw(self) -> State<S, I, P, Req>
    where
        P: Fn(&Match, &Req) -> bool,
        Req: CallContext,
    {
        let ChaosLayer {
            shared,
            matcher,
            events,
            ..
        } = &self.layer;
        // Drawn at the first poll, so that a call that is dropped before draws nothing.
        let drawn = shared.draw(|matching| matcher(matching, &self.request));
        if !drawn.is_nothing() {
            events.emit(&self.request.call().events, Event::Chaos);
        }
        State::Waiting {
            wait: (!drawn.latency.is_zero())
                .then(|| Timer::at(later(Instant::now(), drawn.latency))),
            attempt: Some(self),
            outcome: drawn.outcome,
        }
    }

    fn call(self, damage: Option<Injection>) -> State<S, I, P, Req> {
        State::Calling {
            call: Oneshot::new(self.service, self.request),
            damage: damage.map(|damage| (self.layer.inject, damage)),
        }
    }

    fn inject(self, injected: Injected<S::Response>) -> Result<S::Response, S::Error>
    where
        I: Fn(Injected<S::Response>) -> Result<S::Response, S::Error>,
    {
        (self.layer.inject)(injected)
    }
}

fn take<T>(attempt: &mut Option<T>) -> T {
    // Polling a future after completion violates the contract of `Future`.
    attempt.take().expect("polled after completion")
}

impl<S, I, P, Req> Future for ResponseFuture<S, I, P, Req>
where
    S: Service<Req>,
    I: Fn(Injected<S::Response>) -> Result<S::Response, S::Error>,
    P: Fn(&Match, &Req) -> bool,
    Req: CallContext,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                Projected::Undrawn { attempt } => take(attempt).draw(),
                Projected::Waiting {
                    wait,
                    attempt,
                    outcome,
                } => {
                    if let Some(wait) = wait {
                        ready!(wait.poll(cx));
                    }
                    let attempt = take(attempt);
                    match *outcome {
                        Some(Injection::Hang) => State::Hanging,
                        Some(Injection::Error(failure)) => {
                            return Poll::Ready(attempt.inject(Injected::Error(failure)));
                        }
                        Some(Injection::Status(status)) => {
                            return Poll::Ready(attempt.inject(Injected::Status(status)));
                        }
                        damage => attempt.call(damage),
                    }
                }
                // No waker is registered: only a timeout or a drop above ends the attempt.
                Projected::Hanging => return Poll::Pending,
                Projected::Calling { call, damage } => {
                    let result = ready!(call.poll(cx));
                    return Poll::Ready(match damage {
                        Some((inject, Injection::Truncate(bytes))) => {
                            result.and_then(|response| inject(Injected::Truncate(response, *bytes)))
                        }
                        Some((inject, Injection::ResetBody)) => {
                            result.and_then(|response| inject(Injected::ResetBody(response)))
                        }
                        _ => result,
                    });
                }
            };
            state.set(next);
        }
    }
}

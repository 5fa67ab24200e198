//! Draws at the first poll, and does what was drawn.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::{layer::ChaosLayer, settings::Injection};
use crate::{
    context::Context,
    observe::{Event, Observer},
    oneshot::Oneshot,
};

pin_project! {
    /// The future of [`Chaos`](super::Chaos).
    pub struct ResponseFuture<S, M, Req>
    where
        S: Service<Req>,
    {
        layer: ChaosLayer<M>,
        observer: Observer,
        call: Option<(S, Req)>,
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
        Undrawn,
        Waiting {
            #[pin]
            wait: Sleep,
            instead: Option<Injection>,
        },
        Deciding { instead: Option<Injection> },
        Calling {
            #[pin]
            call: Oneshot<S, Req>,
        },
    }
}

impl<S: Service<Req>, M, Req: Context> ResponseFuture<S, M, Req> {
    pub(super) fn new(layer: ChaosLayer<M>, service: S, request: Req) -> Self {
        Self {
            layer,
            observer: request.call().observer.clone(),
            call: Some((service, request)),
            state: State::Undrawn,
        }
    }
}

impl<S, M, Req> Future for ResponseFuture<S, M, Req>
where
    S: Service<Req>,
    M: Fn(Injection) -> Result<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                Projected::Calling { call } => return call.poll(cx),
                Projected::Undrawn if this.layer.shared.is_enabled() => {
                    let drawn = this.layer.shared.draw();
                    let instead = drawn.instead;
                    if drawn.latency.is_zero() {
                        State::Deciding { instead }
                    } else {
                        this.observer.emit(Event::Chaos);
                        let wait = sleep(drawn.latency);
                        State::Waiting { wait, instead }
                    }
                }
                Projected::Undrawn => State::Deciding { instead: None },
                Projected::Waiting { wait, instead } => {
                    let instead = *instead;
                    ready!(wait.poll(cx));
                    State::Deciding { instead }
                }
                Projected::Deciding { instead: None } => {
                    let (service, request) = this.call.take().expect("polled after completion");
                    let call = Oneshot::new(service, request);
                    State::Calling { call }
                }
                Projected::Deciding {
                    instead: Some(Injection::Hang),
                } => {
                    if this.call.take().is_some() {
                        this.observer.emit(Event::Chaos);
                    }
                    return Poll::Pending;
                }
                Projected::Deciding {
                    instead: Some(inject),
                } => {
                    this.call.take().expect("polled after completion");
                    this.observer.emit(Event::Chaos);
                    return Poll::Ready((this.layer.make)(*inject));
                }
            };
            this.state.set(next);
        }
    }
}

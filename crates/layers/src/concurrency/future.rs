//! Waits for a permit, then runs the call while holding it.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::{
    limiter::{Permit, Turn, Waiter},
    service::Concurrency,
};
use crate::{
    breaker,
    context::Context,
    deadline::later,
    observe::{Event, Observer},
    oneshot::Oneshot,
    reject::Reject,
};

pin_project! {
    /// The future of [`Concurrency`].
    ///
    /// It holds the permit, or the place in the queue; either is given back when it is dropped.
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
        breaker: Option<breaker::Handle>,
        observer: Observer,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        Refused { reject: Reject },
        Queued {
            service: S,
            request: Req,
            waiter: Waiter,
            since: Instant,
            #[pin]
            timer: Sleep,
        },
        // The call comes before its permit, so that it is dropped before the permit is free.
        Running {
            #[pin]
            call: Oneshot<S, Req>,
            permit: Option<Permit>,
        },
        Gone,
    }
}

impl<S: Service<Req> + Clone, Req: Context> ResponseFuture<S, Req> {
    pub(super) fn new(service: &Concurrency<S>, request: Req) -> Self {
        let observer = request.call().observer.clone();
        let layer = &service.layer;
        let permit = layer.limiter.as_ref().map(|limiter| limiter.try_acquire());
        let state = match permit {
            None | Some(Some(_)) => {
                observer.emit(Event::Admitted {
                    waited: Duration::ZERO,
                });
                State::Running {
                    call: Oneshot::new(service.inner.clone(), request),
                    permit: permit.flatten(),
                }
            }
            Some(None) => Self::queue(service, request),
        };
        Self {
            state,
            breaker: layer.breaker.clone(),
            observer,
        }
    }

    /// Joins the queue, with the first poll's waker to follow.
    fn queue(service: &Concurrency<S>, request: Req) -> State<S, Req> {
        let Concurrency { layer, inner } = service;
        let turn = (layer.limiter.as_ref())
            .and_then(|limiter| limiter.acquire(request.call().priority, task::Waker::noop()));
        let now = Instant::now();
        match turn {
            None => State::Refused {
                reject: Reject::AtCapacity,
            },
            Some(Turn::Now(permit)) => State::Running {
                call: Oneshot::new(inner.clone(), request),
                permit: Some(permit),
            },
            Some(Turn::Later(waiter)) => {
                let patience = later(now, layer.max_wait);
                let deadline = request.call().deadline.map(crate::Deadline::instant);
                let end = deadline.map_or(patience, |deadline| deadline.min(patience));
                State::Queued {
                    service: inner.clone(),
                    request,
                    waiter,
                    since: now,
                    timer: sleep_until(end),
                }
            }
        }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: From<Reject>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let permit = match this.state.as_mut().project() {
                Projected::Running { call, .. } => {
                    let result = ready!(call.poll(cx));
                    this.state.set(State::Gone);
                    return Poll::Ready(result);
                }
                Projected::Refused { reject } => {
                    return Poll::Ready(Err(this.observer.reject(*reject)));
                }
                Projected::Gone => panic!("polled after completion"),
                Projected::Queued {
                    waiter,
                    timer,
                    since,
                    ..
                } => match waiter.poll(cx.waker()) {
                    Poll::Ready(permit) => {
                        this.observer.emit(Event::Admitted {
                            waited: since.elapsed(),
                        });
                        permit
                    }
                    Poll::Pending => {
                        ready!(timer.poll(cx));
                        this.state.set(State::Refused {
                            reject: Reject::QueueTimeout,
                        });
                        continue;
                    }
                },
            };
            let Replaced::Queued {
                service, request, ..
            } = this.state.as_mut().project_replace(State::Gone)
            else {
                unreachable!("only a queued call is granted its turn");
            };
            let open = this.breaker.as_ref().and_then(breaker::Handle::refusal);
            this.state.set(match open {
                Some(reject) => State::Refused { reject },
                None => State::Running {
                    call: Oneshot::new(service, request),
                    permit: Some(permit),
                },
            });
        }
    }
}

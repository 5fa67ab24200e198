//! A service for both libraries, and our layers around it.

use std::{
    future::{Pending, Ready, pending, ready},
    task::{Context, Poll},
};

use futures_util::future::Either;
use tower::{Layer, Service};
use tower_fanout_layers::{
    AsRejection, BreakerConfig, BreakerLayer, CallError, CallErrorLayer, ClassifyResult, Failure,
    Rejection, WithCall,
};

use Ask::{Fail, Hang, Work};

/// The error of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Down;

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("down")
    }
}

impl std::error::Error for Down {}

/// A request, which says what the service does.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    Work,
    Fail,
    Hang,
}

pub(crate) trait AsAsk {
    fn ask(&self) -> Ask;
}

impl AsAsk for Ask {
    fn ask(&self) -> Ask {
        *self
    }
}

impl AsAsk for WithCall<Ask> {
    fn ask(&self) -> Ask {
        *self.get()
    }
}

#[derive(Clone)]
pub(crate) struct Users;

impl<R: AsAsk> Service<R> for Users {
    type Response = u32;
    type Error = Down;
    type Future = Either<Ready<Result<u32, Down>>, Pending<Result<u32, Down>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Down>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        match request.ask() {
            Work => Either::Left(ready(Ok(7))),
            Fail => Either::Left(ready(Err(Down))),
            Hang => Either::Right(pending()),
        }
    }
}

pub(crate) fn breaker(config: BreakerConfig) -> BreakerLayer<ClassifyResult> {
    BreakerLayer::new("users", config, ClassifyResult).unwrap()
}

/// Our layers around a service.
pub(crate) fn ours<L>(layer: L) -> L::Service
where
    L: Layer<WithErrors>,
{
    layer.layer(CallErrorLayer::new().layer(Users))
}

pub(crate) type WithErrors = <CallErrorLayer<fn(&Down) -> Failure> as Layer<Users>>::Service;

pub(crate) fn is_open(result: Result<u32, CallError<Down>>) -> bool {
    let rejection = result.as_ref().err().and_then(AsRejection::as_rejection);
    matches!(rejection, Some(Rejection::CircuitOpen { .. }))
}
